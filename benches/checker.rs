//! What a decision costs inside the gate: `Checker::check` on a warm key, where its time goes, and what strangers' guesses
//! and first uses cost.
//!
//! `cargo bench --bench checker`. Ends with an error if a guess at a generated secret ever reached argon2.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    hint::black_box,
    pin::pin,
    process::ExitCode,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use portcullis::{
    domain::{
        credential::{Presented, Scratch},
        decision::{Reason, judge},
        source::IpAllowlist,
        time::Timestamp,
    },
    gate::{
        checker::{Answer, Credential, Question, Undecided},
        clock::{Clock as _, SystemClock},
        lease::Lease,
        metrics::CheckMetrics,
    },
};
use sha2::{Digest as _, Sha256};
use support::{
    Plan, Series, compare,
    gate::{Gate, Issued, fill_random, question, random_id, seal},
};

#[expect(
    dead_code,
    reason = "what is measured in processes of its own is not for this one"
)]
mod support;

// The server's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keys that are there beside the one asked for.
const OTHERS: usize = 5_000;

fn main() -> ExitCode {
    let plan = Plan::from_args();
    let mut gate = Gate::new();
    for _ in 0..OTHERS {
        gate.put(&Issued::new());
    }
    checks(&plan, &mut gate);
    breakdown(&plan);
    first_uses(&plan, &mut gate);
    guesses(if plan.is_real { 100_000 } else { 100 }, &mut gate)
}

/// An async call that does nothing, to be polled as a check is.
#[expect(clippy::unused_async, reason = "it is to be polled")]
#[inline(never)]
async fn nothing(question: &Question<'_>) -> Result<Answer, Undecided> {
    black_box(question);
    Err(Undecided::Fenced)
}

/// Polls a future that has nothing to wait for.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("there is nothing to wait for"),
    }
}

fn checks(plan: &Plan, gate: &mut Gate) {
    let held = vec!["sms.send".to_owned()];
    let not_held = vec!["sms.delete".to_owned()];
    let (warm, cold) = (Issued::new(), Issued::new());
    let mut listed = Issued::new();
    let entries: Vec<String> = (0..100).map(|n| format!("10.0.{n}.0/24")).collect();
    listed.key.ip_allowlist = IpAllowlist::parse(&entries).expect("these are blocks");
    for issued in [&warm, &cold, &listed] {
        gate.put(issued);
    }
    let token = warm.token();
    let pair = format!("{}:{}", warm.key.id, warm.secret.expose());
    let basic = format!("Basic {}", STANDARD.encode(pair));
    let bearer = format!("Bearer {}", token.expose());
    let listed_token = listed.token();
    for proved in [token.expose(), listed_token.expose()] {
        assert_eq!(gate.check(&question(proved, &held)).reason, Reason::Ok);
    }
    let wrong = warm.wrong_token();
    let guess = cold.wrong_token();
    let unknown = Issued::new().token();

    let mut std_map: HashMap<u128, u64> = (0..OTHERS as u64)
        .map(|number| (random_id().bits(), number))
        .collect();
    let there = warm.key.id.bits();
    std_map.insert(there, 7);
    let checker = &gate.checker;
    let check = |name: &'static str, credential, permissions, reason| {
        let question = question(credential, permissions);
        let answer = now(checker.check(&question)).expect("there is a decision");
        assert_eq!(answer.reason, reason, "{name}");
        Series::of(name, move || {
            drop(black_box(now(checker.check(black_box(&question)))));
        })
    };
    let denied = Reason::InvalidCredential;
    compare(
        plan,
        "Checker::check",
        2,
        vec![
            Series::of("an empty call", || {
                drop(black_box(now(nothing(&question(token.expose(), &held)))));
            }),
            Series::of("HashMap get", || {
                black_box(std_map.get(black_box(&there)));
            }),
            check("warm key: OK", token.expose(), &held, Reason::Ok),
            check("… as Bearer", &bearer, &held, Reason::Ok),
            check("… as Basic", &basic, &held, Reason::Ok),
            check(
                "… with a list of 100 blocks",
                listed_token.expose(),
                &held,
                Reason::Ok,
            ),
            check(
                "… without the permission",
                token.expose(),
                &not_held,
                Reason::PermissionDenied,
            ),
            check("wrong secret, proved key", wrong.expose(), &held, denied),
            check("wrong secret, cold key", guess.expose(), &held, denied),
            check("unknown key", unknown.expose(), &held, denied),
            check("no credential", "", &held, denied),
        ],
    );
    assert_eq!(gate.verify.runs(), 2, "argon2 ran for the two proofs only");
}

/// Key ids are their own hash, as in the keyring.
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

/// The steps of a warm check, each by itself. What has no public function is rebuilt here as the gate does it.
fn breakdown(plan: &Plan) {
    let issued = Issued::new();
    let key = &issued.key;
    let token = issued.token();
    let held = vec!["sms.send".to_owned()];
    let source = question("", &held).source;
    let clock = SystemClock::new();
    let lease = Lease::unlimited();
    let recorder = CheckMetrics::default().recorder();
    let map: papaya::HashMap<u128, u64, BuildHasherDefault<Fold>> = papaya::HashMap::default();
    for number in 0..OTHERS as u64 {
        map.pin().insert(random_id().bits(), number);
    }
    map.pin().insert(key.id.bits(), 7);
    let mut block = [0; 64];
    fill_random(&mut block);
    let keyed = Sha256::new_with_prefix(block);
    compare(
        plan,
        "step of a warm check",
        2,
        vec![
            Series::of("an empty call", || {
                drop(black_box(now(nothing(&question(token.expose(), &held)))));
            }),
            Series::of("reading the clock", || {
                black_box(clock.now());
            }),
            Series::of("loading the lease", || {
                black_box(lease.deadline());
            }),
            Series::of("parsing the token, checksum included", || {
                let mut scratch = Scratch::default();
                black_box(Presented::parse(black_box(token.expose()), &mut scratch));
            }),
            Series::of("papaya get, with its guard", || {
                black_box(map.pin().get(black_box(&key.id.bits())));
            }),
            Series::of("keyed SHA-256 of the secret", || {
                let secret = black_box(issued.secret.as_ref());
                let digest: [u8; 32] = keyed
                    .clone()
                    .chain_update(secret.expose())
                    .finalize()
                    .into();
                black_box(digest);
            }),
            Series::of("judging", || {
                let at = Timestamp::from_unix_nanos(1);
                black_box(judge(black_box(key), &held, source, at));
            }),
            Series::of("writing the key's name", || {
                drop(black_box(black_box(key).name().to_string()));
            }),
            Series::of("copying the owner", || {
                drop(black_box(black_box(key).owner.to_string()));
            }),
            Series::of("counting", || {
                recorder.record(Some(Reason::Ok), black_box(Duration::from_nanos(300)));
            }),
        ],
    );
}

/// The first use of a secret in a process, which argon2 must judge.
fn first_uses(plan: &Plan, gate: &mut Gate) {
    let held = vec!["sms.send".to_owned()];
    let issued = Issued::new();
    let token = issued.token();
    // A secret at rest with another salt is one that was never proved.
    let at_rest = [issued.sealed.clone(), seal(&issued.secret)];
    compare(
        plan,
        "first use of a generated secret",
        1,
        vec![
            Series::of("Verifier::verify", || {
                assert!(
                    issued
                        .sealed
                        .verifier
                        .verify(black_box(issued.secret.as_ref()))
                );
            }),
            Series::timed(
                "Checker::check, from one thread to another and back",
                |times| {
                    let mut took = Duration::ZERO;
                    for _ in 0..times {
                        let runs = gate.verify.runs();
                        let sealed = at_rest[usize::from(runs.is_multiple_of(2))].clone();
                        gate.put_with(&issued, sealed);
                        let start = Instant::now();
                        let answer = gate.check(&question(token.expose(), &held));
                        took += start.elapsed();
                        assert_eq!((answer.reason, gate.verify.runs()), (Reason::Ok, runs + 1));
                    }
                    took
                },
            ),
        ],
    );
}

/// Guesses at the secret of a known key that was never proved, each well-formed.
fn guesses(number: usize, gate: &mut Gate) -> ExitCode {
    let victim = Issued::new();
    gate.put(&victim);
    let guesses: Vec<_> = (0..number).map(|_| victim.wrong_token()).collect();
    let before = gate.verify.runs();
    let start = Instant::now();
    for guess in &guesses {
        let asked = Question {
            credential: Credential(guess.expose()),
            ..question("", &[])
        };
        assert_eq!(gate.check(&asked).reason, Reason::InvalidCredential);
    }
    let took = start.elapsed();
    let runs = gate.verify.runs() - before;
    println!(
        "\n{number} wrong secrets with a valid checksum, one known key that was never proved: {:.1} ms, {runs} runs of \
         argon2",
        took.as_secs_f64() * 1e3
    );
    if runs == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
