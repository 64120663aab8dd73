//! What a fleet costs: how long a revocation takes, beside one durable write of the same size to the same Redis, and what
//! replicas that have nothing to do ask of it.
//!
//! `cargo bench --bench fleet`, or with `-- --disables N --idle SECONDS --keys N --simulated N --simulated-disables N`; with
//! `--only 3`, `10`, `simulated`, `keys` or `check` that part alone. Replicas, Redis and callers share the machine, and its cores. The
//! two series take turns, so that whatever else the machine does meets both; only their ratio means something elsewhere. Needs a redis-server of 7.0 or later, on the `PATH` or named by `PORTCULLIS_REDIS_SERVER`.

#[path = "fleet/check.rs"]
mod check;
#[path = "../tests/fleet/harness.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod harness;
#[path = "support/mod.rs"]
#[expect(dead_code, reason = "this is not about one process alone")]
mod measuring;
#[path = "../tests/fleet/race.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod race;
#[path = "fleet/simulated.rs"]
mod simulated;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    collections::BTreeMap,
    env,
    time::{Duration, Instant},
};

use harness::{Fleet, LONG, Replica, acknowledged, barriers};
use redis::Connection;
use simulated::Simulated;
use support::Mutation;
use tokio::runtime::Runtime;

// The server's own, for what is measured in this process.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The default of `--disables`.
const DISABLES: usize = 1_000;
/// The default of `--idle`.
const IDLE_SECONDS: u64 = 30;
/// The default of `--keys`.
const KEYS: usize = 2_000;
/// The default of `--simulated`.
const SIMULATED: usize = 300;
/// The default of `--simulated-disables`.
const SIMULATED_DISABLES: usize = 200;
/// What is thrown away before anything is measured.
const WARM_UP: usize = 50;

fn main() {
    let (mut disables, mut idle, mut keys) = (DISABLES, IDLE_SECONDS, KEYS);
    let (mut simulated, mut simulated_disables) = (SIMULATED, SIMULATED_DISABLES);
    let (mut only, mut is_real) = (None, false);
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--only" {
            only = Some(arguments.next().expect("--only takes a part"));
            continue;
        }
        let mut number = || {
            arguments
                .next()
                .and_then(|number| number.parse::<u64>().ok())
                .unwrap_or_else(|| panic!("{argument} takes a number"))
        };
        let size = |number: u64| usize::try_from(number).expect("a size");
        match argument.as_str() {
            "--disables" => disables = size(number()),
            "--idle" => idle = number(),
            "--keys" => keys = size(number()),
            "--simulated" => simulated = size(number()),
            "--simulated-disables" => simulated_disables = size(number()),
            // What cargo adds.
            "--bench" => is_real = true,
            other => panic!("unknown argument {other}"),
        }
    }
    let runtime = Runtime::new().expect("a runtime");
    let is_wanted = |part: &str| only.as_ref().is_none_or(|only| only == part);
    for replicas in [3, 10] {
        if is_wanted(&replicas.to_string()) {
            runtime.block_on(measure(replicas, disables, Duration::from_secs(idle)));
        }
    }
    if is_wanted("simulated") {
        runtime.block_on(measure_simulated(simulated, simulated_disables));
    }
    if is_wanted("keys") {
        runtime.block_on(records(keys));
    }
    if is_wanted("check") {
        check::compare_stores(&runtime, is_real);
    }
}

/// Everything that depends on how many replicas there are.
async fn measure(count: usize, disables: usize, idle: Duration) {
    let Ok(fleet) = Fleet::made(LONG) else {
        panic!("there is no redis-server");
    };
    let replicas = fleet.start_all(count).await;
    println!("{count} replicas, a lease of {LONG}");
    revocations(&fleet, &replicas, count, disables).await;
    idling(&fleet, count, idle).await;
}

/// One replica, and a crowd of members that apply nothing: what a large fleet asks of Redis and of the writer. On this machine
/// the whole crowd has its two cores; in a fleet each member has its own.
async fn measure_simulated(count: usize, disables: usize) {
    let Ok(fleet) = Fleet::made(LONG) else {
        panic!("there is no redis-server");
    };
    let replicas = fleet.start_all(1).await;
    let simulated = Simulated::start(fleet.redis.port(), count).await;
    let mut names: Vec<&str> = simulated.names().collect();
    names.push(&replicas[0].name);
    replicas[0].until_members(&names).await;
    println!("1 replica and {count} simulated members, a lease of {LONG}");
    revocations(&fleet, &replicas, count + 1, disables).await;
    println!(
        "  renewals of a simulated member {:.1} a change",
        simulated.renewals_a_change()
    );
}

async fn new_key(replica: &Replica) -> String {
    let issued = replica.root.create("measured", &["sms.send"]).await;
    issued.key.expect("an issued key is shown").name
}

async fn disable(replica: &Replica, name: &str) -> Duration {
    let began = Instant::now();
    Mutation::disable(name).done(&replica.root).await;
    began.elapsed()
}

/// Disables keys through these replicas, in a fleet of so many members.
async fn revocations(fleet: &Fleet, replicas: &[Replica], members: usize, disables: usize) {
    let mut redis = fleet.redis.connection();
    let mut sizes = Vec::new();
    for number in 0..WARM_UP {
        let replica = &replicas[number % replicas.len()];
        let name = new_key(replica).await;
        let before = info(&mut redis, "persistence")["aof_current_size"];
        disable(replica, &name).await;
        sizes.push(info(&mut redis, "persistence")["aof_current_size"].saturating_sub(before));
    }
    // Renewals are written, too: at least three with each change, and now and then one more.
    sizes.sort_unstable();
    let size = usize::try_from(sizes[WARM_UP / 2]).expect("a size");
    let payload = vec![b'x'; size];

    let before = barriers(replicas);
    let (mut raw, mut revoked) = (Vec::new(), Vec::new());
    for number in 0..disables {
        let replica = &replicas[number % replicas.len()];
        let name = new_key(replica).await;
        let began = Instant::now();
        redis::cmd("SET")
            .arg("measured")
            .arg(&payload)
            .exec(&mut redis)
            .expect("it is written");
        raw.push(began.elapsed());
        revoked.push(disable(replica, &name).await);
    }
    barriers(replicas).only_acknowledged_since(before, 2 * disables as u64);
    let due = vec![members.to_string(); WARM_UP + disables];
    assert_eq!(
        acknowledged(replicas, "DisableKey"),
        due,
        "every member said so"
    );
    let (raw, revoked) = (Spread::of(raw), Spread::of(revoked));
    println!("  SET of {size} bytes, fsynced   {raw}");
    println!("  DisableKey                     {revoked}");
    println!(
        "  ratio of the medians           {:.1}",
        revoked.p50.as_secs_f64() / raw.p50.as_secs_f64()
    );
}

/// What the replicas ask of Redis while nobody asks anything of them.
async fn idling(fleet: &Fleet, replicas: usize, idle: Duration) {
    let mut redis = fleet.redis.connection();
    let before = info(&mut redis, "stats");
    tokio::time::sleep(idle).await;
    let after = info(&mut redis, "stats");
    let each = |name: &str, own: u64| {
        let total = after[name].saturating_sub(before[name] + own);
        #[expect(clippy::cast_precision_loss, reason = "it is printed")]
        let each = total as f64 / replicas as f64 / idle.as_secs_f64();
        each
    };
    println!(
        "  idle, per replica and second   {:.2} commands (those within scripts too), {:.0} bytes in, {:.0} bytes out",
        each("total_commands_processed", 1),
        each("total_net_input_bytes", 0),
        each("total_net_output_bytes", 0),
    );
}

/// What a key takes in Redis.
async fn records(keys: usize) {
    let Ok(fleet) = Fleet::made(LONG) else {
        panic!("there is no redis-server");
    };
    let replicas = fleet.start_all(1).await;
    let mut redis = fleet.redis.connection();
    let before = sizes(&mut redis);
    for _ in 0..keys {
        new_key(&replicas[0]).await;
    }
    let after = sizes(&mut redis);
    println!("bytes per key, of {keys} that were created and not changed since:");
    for (part, size) in &after {
        let grown = size.saturating_sub(before.get(part).copied().unwrap_or(0));
        println!("  {part:<8} {}", grown / keys as u64);
    }
    println!(
        "  (log: the last 65,536 changes only; done: for a day, and only of calls with a request_id)"
    );
}

/// The memory of the keys, by the word after the hash tag.
fn sizes(redis: &mut Connection) -> BTreeMap<String, u64> {
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("{portcullis:0}:*")
        .query(redis)
        .expect("the keys");
    let mut sizes = BTreeMap::new();
    for key in keys {
        let size: u64 = redis::cmd("MEMORY")
            .arg(&["USAGE", key.as_str(), "SAMPLES", "0"])
            .query(redis)
            .expect("a size");
        let part = key.split(':').nth(2).expect("a part").to_owned();
        *sizes.entry(part).or_default() += size;
    }
    sizes
}

/// The numbers of a section of INFO.
fn info(redis: &mut Connection, section: &str) -> BTreeMap<String, u64> {
    let text: String = redis::cmd("INFO").arg(section).query(redis).expect("text");
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?)))
        .collect()
}

/// A series, in order.
struct Spread {
    p50: Duration,
    p99: Duration,
    slowest: Duration,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self {
            p50: times[times.len() / 2],
            p99: times[times.len() * 99 / 100],
            slowest: times[times.len() - 1],
        }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "p50 {:.2?}  p99 {:.2?}  slowest {:.2?}",
            self.p50, self.p99, self.slowest
        )
    }
}
