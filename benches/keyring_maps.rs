//! Which map the keyring stands on: papaya against dashmap, with a `HashMap` that nobody writes as the control.
//!
//! `cargo bench --bench keyring_maps`. The decision is `docs/decisions/0001-papaya-for-the-keyring.md`.

use std::{
    collections::HashMap,
    env,
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
    hint::black_box,
    process::{self, Command},
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use support::{Plan, Series, compare, process::resident};

#[expect(dead_code, reason = "no keys are needed here")]
mod support;

// The server's own, since it decides much of the cost of a write and of the memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As large and as scattered as a cached key.
#[derive(Clone)]
struct Record {
    workspace: Arc<str>,
    owner: Arc<str>,
    permissions: Box<[Box<str>]>,
    verifier: Box<str>,
    labels: Option<Box<[Box<str>]>>,
    ip_allowlist: Option<Box<[u128]>>,
    memo: [u8; 32],
    screen: [u64; 2],
    times: [i64; 2],
    revision: u64,
    disabled: bool,
}

const _: () = assert!(size_of::<Record>() >= 160 && size_of::<Record>() <= 192);

impl Record {
    fn new(workspace: &Arc<str>, revision: u64) -> Self {
        Self {
            workspace: Arc::clone(workspace),
            owner: Arc::clone(workspace),
            permissions: Box::new(["sms.send".into()]),
            verifier: "$argon2id$v=19$m=256,t=1,p=1$MTIzNDU2Nzg5MDEyMzQ1Ng$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI"
                .into(),
            labels: None,
            ip_allowlist: None,
            memo: [7; 32],
            screen: [revision; 2],
            times: [0; 2],
            revision,
            disabled: false,
        }
    }

    /// What a Check looks at first.
    fn look(&self) -> u64 {
        u64::from(self.disabled) + u64::from(self.memo[0]) + self.revision + self.screen[0]
    }

    /// Everything else, so that none of it is dead code.
    fn rest(&self) -> usize {
        self.workspace.len()
            + self.owner.len()
            + self.permissions.len()
            + self.verifier.len()
            + self.labels.as_ref().map_or(0, |labels| labels.len())
            + self.ip_allowlist.as_ref().map_or(0, |list| list.len())
            + self.times.len()
    }
}

/// Key ids are 128 random bits, drawn by the server: folding them is hash enough.
#[derive(Default)]
struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only key ids are hashed")
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the halves are what is wanted"
    )]
    fn write_u128(&mut self, bits: u128) {
        self.0 = (bits >> 64) as u64 ^ bits as u64;
    }
}

type Folded = BuildHasherDefault<Fold>;

trait Map: Sync {
    fn fill(&mut self, key: u128, record: Record);
    /// Looks a key up as a request would: with a guard of its own.
    fn look(&self, key: u128) -> u64;
}

trait SharedMap: Map {
    fn replace(&self, key: u128, record: Record);
}

impl Map for HashMap<u128, Record, Folded> {
    fn fill(&mut self, key: u128, record: Record) {
        self.insert(key, record);
    }

    fn look(&self, key: u128) -> u64 {
        self.get(&key).expect("every key is there").look()
    }
}

impl<S: BuildHasher + Sync + Send> Map for papaya::HashMap<u128, Record, S> {
    fn fill(&mut self, key: u128, record: Record) {
        self.replace(key, record);
    }

    fn look(&self, key: u128) -> u64 {
        self.pin().get(&key).expect("every key is there").look()
    }
}

impl<S: BuildHasher + Sync + Send> SharedMap for papaya::HashMap<u128, Record, S> {
    fn replace(&self, key: u128, record: Record) {
        self.pin().insert(key, record);
    }
}

impl Map for dashmap::DashMap<u128, Record, Folded> {
    fn fill(&mut self, key: u128, record: Record) {
        self.insert(key, record);
    }

    fn look(&self, key: u128) -> u64 {
        self.get(&key).expect("every key is there").look()
    }
}

impl SharedMap for dashmap::DashMap<u128, Record, Folded> {
    fn replace(&self, key: u128, record: Record) {
        self.insert(key, record);
    }
}

/// With the record behind a pointer, as papaya has it: a half-empty table then costs little memory.
impl Map for dashmap::DashMap<u128, Box<Record>, Folded> {
    fn fill(&mut self, key: u128, record: Record) {
        self.insert(key, Box::new(record));
    }

    fn look(&self, key: u128) -> u64 {
        self.get(&key).expect("every key is there").look()
    }
}

impl SharedMap for dashmap::DashMap<u128, Box<Record>, Folded> {
    fn replace(&self, key: u128, record: Record) {
        self.insert(key, Box::new(record));
    }
}

/// A well-mixed number for each number: keys without a table of them in the way.
fn mix(number: u64) -> u64 {
    let a = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let b = (a ^ (a >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let c = (b ^ (b >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    c ^ (c >> 31)
}

fn key(number: u64) -> u128 {
    u128::from(mix(number)) << 64 | u128::from(mix(!number))
}

/// Walks over the keys in no order that a cache could learn.
struct Walk {
    step: u64,
    keys: u64,
}

impl Walk {
    fn next(&mut self) -> u128 {
        self.step += 1;
        key(mix(self.step) % self.keys)
    }
}

fn filled<M: Map + Default>(keys: u64) -> M {
    let workspace: Arc<str> = "default".into();
    let mut map = M::default();
    for number in 0..keys {
        map.fill(key(number), Record::new(&workspace, number));
    }
    map
}

fn hot<'a>(name: &str, map: &'a impl Map) -> Series<'a> {
    Series::of(name, || {
        black_box(map.look(black_box(key(77))));
    })
}

fn random<'a>(name: &str, map: &'a impl Map, keys: u64) -> Series<'a> {
    let mut walk = Walk { step: 0, keys };
    Series::of(name, move || {
        black_box(map.look(walk.next()));
    })
}

/// Random gets, each of which needs the answer of the one before. Independent ones overlap in the processor, which
/// the work between two lookups of a server does not let them.
fn chained<'a>(name: &str, map: &'a impl Map, keys: u64) -> Series<'a> {
    let mut walk = Walk { step: 0, keys };
    Series::of(name, move || {
        let seen = map.look(walk.next());
        // Adds nothing, but only the answer can tell.
        walk.step += black_box(seen) >> 63;
    })
}

/// Two threads, each reading the same key that many times; the time of the slower one.
fn two_threads<'a>(name: &str, map: &'a impl Map) -> Series<'a> {
    Series::timed(name, |times| {
        let together = Barrier::new(2);
        let read = || {
            together.wait();
            let start = Instant::now();
            for _ in 0..times {
                black_box(map.look(black_box(key(77))));
            }
            start.elapsed()
        };
        thread::scope(|scope| {
            let other = scope.spawn(read);
            read().max(other.join().expect("the reader ends"))
        })
    })
}

/// How fast keys are replaced while others are read.
#[derive(Clone, Copy)]
enum Writes {
    TenThousandASecond,
    AsFastAsPossible,
}

/// Random gets while another thread replaces records; adds to `done` how many it replaced and in what time.
fn under_writes<'a>(
    name: &str,
    map: &'a impl SharedMap,
    keys: u64,
    writes: Writes,
    done: &'a Mutex<(u64, Duration)>,
) -> Series<'a> {
    let pause = match writes {
        Writes::TenThousandASecond => Duration::from_micros(100),
        Writes::AsFastAsPossible => Duration::ZERO,
    };
    let mut walk = Walk { step: 0, keys };
    let mut written = Walk {
        step: 1 << 40,
        keys,
    };
    Series::timed(name, move |times| {
        let (together, over) = (Barrier::new(2), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                let workspace: Arc<str> = "default".into();
                let (mut replaced, mut due) = (0, Duration::ZERO);
                together.wait();
                let start = Instant::now();
                while !over.load(Relaxed) {
                    // A sleep takes longer than asked for, so what fell due in it is made up for.
                    if start.elapsed() < due {
                        thread::sleep(5 * pause);
                        continue;
                    }
                    map.replace(written.next(), Record::new(&workspace, 1));
                    replaced += 1;
                    due += pause;
                }
                let mut done = done.lock().expect("no writer panics");
                *done = (done.0 + replaced, done.1 + start.elapsed());
            });
            together.wait();
            let start = Instant::now();
            for _ in 0..times {
                black_box(map.look(walk.next()));
            }
            let took = start.elapsed();
            over.store(true, Relaxed);
            took
        })
    })
}

/// In a process of its own: bytes per entry once filled, and once every record was replaced twice.
fn print_memory<M: Map + Default>(keys: u64, replace: impl Fn(&mut M, u128, Record)) {
    let before = resident(process::id());
    let mut map = filled::<M>(keys);
    let full = resident(process::id()) - before;
    let workspace: Arc<str> = "default".into();
    let mut walk = Walk { step: 0, keys };
    for _ in 0..2 * keys {
        let key = walk.next();
        replace(&mut map, key, Record::new(&workspace, 1));
    }
    black_box(map.look(key(1)));
    println!(
        "{} | {}",
        full / keys,
        (resident(process::id()) - before) / keys
    );
}

type Std = HashMap<u128, Record, Folded>;
type Papaya = papaya::HashMap<u128, Record, Folded>;
type PapayaSip = papaya::HashMap<u128, Record, RandomState>;
type Dash = dashmap::DashMap<u128, Record, Folded>;
type DashBox = dashmap::DashMap<u128, Box<Record>, Folded>;

fn memory_of(name: &str, keys: u64) {
    match name {
        "HashMap" => print_memory::<Std>(keys, Map::fill),
        "papaya" => print_memory::<Papaya>(keys, |map, key, record| {
            SharedMap::replace(map, key, record);
        }),
        "dashmap" => print_memory::<Dash>(keys, |map, key, record| {
            SharedMap::replace(map, key, record);
        }),
        "dashmap, boxed" => print_memory::<DashBox>(keys, |map, key, record| {
            SharedMap::replace(map, key, record);
        }),
        _ => unreachable!("no map is called {name}"),
    }
}

fn main() {
    let plan = Plan::from_args();
    let keys: u64 = if plan.is_real { 1_000_000 } else { 1_000 };
    let arguments: Vec<String> = env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--memory") {
        memory_of(
            &arguments[at + 1],
            arguments[at + 2].parse().expect("a number of keys"),
        );
        return;
    }

    let std = filled::<Std>(keys);
    let papaya = filled::<Papaya>(keys);
    let papaya_sip = filled::<PapayaSip>(keys);
    let dash = filled::<Dash>(keys);
    let dash_box = filled::<DashBox>(keys);
    let record = std.get(&key(0)).expect("it was filled in");
    println!(
        "{keys} keys; a record has {} bytes and {} beyond them",
        size_of::<Record>(),
        black_box(record.rest())
    );

    compare(
        &plan,
        "get, one hot key",
        1,
        vec![
            hot("HashMap", &std),
            hot("papaya", &papaya),
            hot("papaya, SipHash", &papaya_sip),
            hot("dashmap", &dash),
            hot("dashmap, boxed", &dash_box),
        ],
    );
    compare(
        &plan,
        "get, random of all",
        1,
        vec![
            random("HashMap", &std, keys),
            random("papaya", &papaya, keys),
            random("papaya, SipHash", &papaya_sip, keys),
            random("dashmap", &dash, keys),
            random("dashmap, boxed", &dash_box, keys),
        ],
    );
    compare(
        &plan,
        "get, random of all, one after the other",
        1,
        vec![
            chained("HashMap", &std, keys),
            chained("papaya", &papaya, keys),
            chained("papaya, SipHash", &papaya_sip, keys),
            chained("dashmap", &dash, keys),
            chained("dashmap, boxed", &dash_box, keys),
        ],
    );
    compare(
        &plan,
        "get, two threads on one hot key",
        1,
        vec![
            two_threads("HashMap", &std),
            two_threads("papaya", &papaya),
            two_threads("dashmap", &dash),
            two_threads("dashmap, boxed", &dash_box),
        ],
    );
    for (writes, title) in [
        (
            Writes::TenThousandASecond,
            "get, random of all, under 10,000 updates/s",
        ),
        (
            Writes::AsFastAsPossible,
            "get, random of all, under updates without pause",
        ),
    ] {
        let done: [Mutex<(u64, Duration)>; 3] = Default::default();
        compare(
            &plan,
            title,
            1,
            vec![
                random("HashMap, not written", &std, keys),
                random("papaya, not written", &papaya, keys),
                random("dashmap, not written", &dash, keys),
                random("dashmap, boxed, not written", &dash_box, keys),
                under_writes("papaya", &papaya, keys, writes, &done[0]),
                under_writes("dashmap", &dash, keys, writes, &done[1]),
                under_writes("dashmap, boxed", &dash_box, keys, writes, &done[2]),
            ],
        );
        println!();
        for (name, done) in ["papaya", "dashmap", "dashmap, boxed"].iter().zip(done) {
            let (updates, took) = done.into_inner().expect("no writer panicked");
            let rate = u128::from(updates) * 1_000_000_000 / took.as_nanos().max(1);
            println!("{name}: {rate} updates/s");
        }
    }

    println!("\n| memory | bytes per entry | after replacing each twice |\n|---|---|---|");
    for name in ["HashMap", "papaya", "dashmap", "dashmap, boxed"] {
        let program = env::current_exe().expect("this program has a path");
        let output = Command::new(program)
            .args(["--memory", name, &keys.to_string()])
            .output()
            .expect("it runs again");
        println!(
            "| {name} | {} |",
            String::from_utf8_lossy(&output.stdout).trim()
        );
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
