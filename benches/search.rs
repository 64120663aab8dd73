//! What it costs to find keys among a million in one workspace, and whether a Check beside it feels that.
//!
//! `cargo bench --bench search`, or with `-- --keys N`.

use std::{
    env,
    hint::black_box,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use portcullis::{
    domain::{
        id::{Revision, TokenPrefix, WorkspaceId},
        key::{Key, KeyRecord},
        order::OrderBy,
        permission::PermissionSet,
        source::IpAllowlist,
        text::TextMap,
        time::Timestamp,
    },
    gate::keyring::{Cursor, KeyFilter, KeyOrder, KeyQuery, Keyring, KeyringWriter, Page, Search},
    store::{RecordId, Stored},
};
use support::{
    Plan,
    gate::{Gate, Issued, question, random_id},
    median, nanoseconds,
    process::resident,
};

#[expect(dead_code, reason = "not all of it is about searches")]
mod support;

// The server's own, since it decides much of the memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keys a page.
const PAGE: usize = 50;
const SECONDS: i64 = 1_780_000_000;

fn main() {
    let plan = Plan::from_args();
    let arguments: Vec<String> = env::args().collect();
    let at = arguments.iter().position(|argument| argument == "--keys");
    let keys = at.map_or(if plan.is_real { 1_000_000 } else { 1_000 }, |at| {
        let number = arguments.get(at + 1).map(|number| number.parse());
        number.expect("a number").expect("a number of keys")
    });
    let mut gate = Gate::new();
    fill(&mut gate.writer, keys);
    searches(&plan, &gate.writer.reader());
    beside(&plan, &mut gate);
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
fn fill(writer: &mut KeyringWriter, keys: u64) {
    let issued = Issued::new();
    let sets =
        ["sms.send", "sms.read", "otp.send", "otp.verify"].map(|name| PermissionSet::new([name]));
    let teams = ["payments", "growth", "search", "core"];
    let places = ["eu-west", "eu-east", "us-west", "ap-south"];
    let works = [
        "billing", "mailer", "import", "campaign", "report", "webhook", "login",
    ];
    let pick = |number: u64, among: usize| usize::try_from(number).expect("it fits") % among;
    let before = resident(process::id());
    let started = Instant::now();
    for number in 0..keys {
        // In no order, as a store hands them out.
        let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let create =
            Timestamp::new(SECONDS + (scattered % 10_000_000).cast_signed(), 0).expect("a time");
        let key = Key {
            id: random_id(),
            workspace: WorkspaceId::default_workspace(),
            display_name: format!(
                "{} worker {number}, {}",
                works[pick(scattered, works.len())],
                places[pick(scattered / 7, places.len())]
            )
            .into(),
            description: if number % 4 == 0 {
                "sends what the nightly job collects".into()
            } else {
                "".into()
            },
            owner: format!(
                "workspaces/system/keys/00000000000000000000{:02}",
                number % 50
            )
            .into(),
            token_prefix: TokenPrefix::default(),
            disabled: number % 20 == 0,
            permissions: sets[pick(number, sets.len())].clone(),
            ip_allowlist: IpAllowlist::default(),
            labels: [("team", teams[pick(scattered, teams.len())])]
                .into_iter()
                .collect::<TextMap>(),
            settings: TextMap::default(),
            create_time: create,
            update_time: create,
            expire_time: (number % 3 == 0).then(|| {
                Timestamp::new(
                    SECONDS + 20_000_000 + (scattered % 5_000_000).cast_signed(),
                    0,
                )
                .expect("a time")
            }),
            archive_time: None,
        };
        let record = KeyRecord {
            secrets: vec![issued.sealed.clone()],
            revision: Revision {
                epoch: 1,
                number: 1,
            },
            key,
        };
        writer.place(RecordId::Key(record.key.id), Stored::Key(Box::new(record)));
    }
    writer.announce(Revision {
        epoch: 1,
        number: 1,
    });
    let took = started.elapsed().as_secs_f64();
    let grown = resident(process::id()).saturating_sub(before);
    println!(
        "{keys} keys placed in {took:.2} s; {} bytes of memory a key",
        grown as f64 / keys as f64
    );
}

fn search(filter: &str, query: &str, order_by: &str) -> Search {
    let now = Timestamp::new(SECONDS + 20_000_000, 0).expect("a time");
    Search {
        filter: KeyFilter::parse(filter, now).expect(filter),
        query: KeyQuery::parse(query).expect(query),
        order: OrderBy::parse(order_by, KeyOrder::FIELDS).expect(order_by),
        show_archived: false,
        owner: None,
    }
}

fn page(keyring: &Keyring, search: &Search, after: Option<&Cursor>) -> Page {
    keyring.search(&WorkspaceId::default_workspace(), search, after, PAGE)
}

/// Each kind of page, in milliseconds.
fn searches(plan: &Plan, keyring: &Keyring) {
    let kinds = [
        ("", "", ""),
        ("state = DISABLED", "", ""),
        (
            "labels.team = payments AND permission = sms.send AND expire_time < +7d",
            "",
            "",
        ),
        ("labels.team = nobody", "", ""),
        ("state = EXPIRED AND secret_create_time > +1d", "", ""),
        ("display_name = *999999*", "", ""),
        ("description:nowhere", "", ""),
        ("key_id = *zzzz*", "", ""),
        ("", "", "create_time desc"),
        ("", "", "expire_time"),
        ("labels.team = payments", "", "expire_time desc"),
        ("state = ACTIVE", "", "display_name"),
        ("", "", "display_name desc"),
        ("", "bill", ""),
        ("", "billing eu-west", ""),
        ("", "nightly", ""),
        ("", "wrk", ""),
        ("", "qqqq", ""),
        ("", "e", ""),
        ("labels.team = payments", "mailer", "expire_time"),
    ];
    let searches = kinds.map(|(filter, query, order)| search(filter, query, order));
    let mut took = vec![Vec::new(); kinds.len()];
    let mut second = vec![Vec::new(); kinds.len()];
    let mut found = vec![0; kinds.len()];
    for round in 0..plan.rounds {
        for turn in 0..kinds.len() {
            let at = (round + turn) % kinds.len();
            let started = Instant::now();
            let first = page(keyring, &searches[at], None);
            took[at].push(nanoseconds(started.elapsed()) / 1e6);
            found[at] = first.keys.len();
            if let Some(next) = first.next {
                let started = Instant::now();
                black_box(page(keyring, &searches[at], Some(&next)));
                second[at].push(nanoseconds(started.elapsed()) / 1e6);
            }
        }
    }
    println!(
        "\n| filter | query | order_by | found | ms (least – most) | second page, ms |\n|---|---|---|---|---|---|"
    );
    for (at, (filter, query, order)) in kinds.iter().enumerate() {
        let (least, most) = took[at]
            .iter()
            .fold((f64::MAX, 0.0_f64), |(least, most), &ms| {
                (least.min(ms), most.max(ms))
            });
        let next = if second[at].is_empty() {
            "–".to_owned()
        } else {
            format!("{:.1}", median(second[at].clone()))
        };
        println!(
            "| {filter} | {query} | {order} | {} | {:.1} ({least:.1} – {most:.1}) | {next} |",
            found[at],
            median(took[at].clone())
        );
    }
}

/// A warm Check by itself and beside a search that begins anew whenever it ends, in turns.
fn beside(plan: &Plan, gate: &mut Gate) {
    let issued = Issued::new();
    gate.put(&issued);
    let held = vec!["sms.send".to_owned()];
    let token = issued.token();
    let asked = question(token.expose(), &held);
    gate.check(&asked);
    let keyring = gate.writer.reader();
    let searching = Arc::new(AtomicBool::new(false));
    let ended = Arc::new(AtomicBool::new(false));
    let searcher = thread::spawn({
        let (searching, ended) = (searching.clone(), ended.clone());
        move || {
            let kinds = [
                search("labels.team = nobody", "", "expire_time"),
                search("", "bill", ""),
            ];
            let mut pages = 0_u64;
            while !ended.load(Ordering::Relaxed) {
                if searching.load(Ordering::Relaxed) {
                    for kind in &kinds {
                        black_box(page(&keyring, kind, None));
                        pages += 1;
                    }
                } else {
                    thread::park_timeout(Duration::from_millis(1));
                }
            }
            pages
        }
    });
    let measure = |gate: &Gate| {
        let started = Instant::now();
        let mut checks = 0_u32;
        while started.elapsed() < plan.slice {
            for _ in 0..64 {
                black_box(gate.check(&asked));
            }
            checks += 64;
        }
        nanoseconds(started.elapsed()) / f64::from(checks)
    };
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds * 2 {
        alone.push(measure(gate));
        searching.store(true, Ordering::Relaxed);
        // The search is under way before it counts.
        measure(gate);
        beside.push(measure(gate));
        searching.store(false, Ordering::Relaxed);
        measure(gate);
    }
    ended.store(true, Ordering::Relaxed);
    let pages = searcher.join().expect("the searches end");
    let ratios = beside
        .iter()
        .zip(&alone)
        .map(|(beside, alone)| beside / alone);
    println!("\n| warm Check | ns | ÷ alone |\n|---|---|---|");
    println!("| alone | {:.1} | 1.00 |", median(alone.clone()));
    println!(
        "| beside searches ({pages} pages) | {:.1} | {:.2} |",
        median(beside.clone()),
        median(ratios.collect())
    );
}
