//! Searches against a plain model of the same keys.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use proptest::prelude::*;

use super::*;
use crate::{
    domain::{
        filter::TextTest,
        id::{KeyId, Revision, TokenPrefix},
        key::{Key, State},
        permission::PermissionSet,
        secret::Secret,
        source::IpAllowlist,
        text::TextMap,
        time::Timestamp,
    },
    gate::{
        keyring::{KeyringWriter, directory::Letters},
        testing::issue,
    },
    store::{RecordId, Stored},
};

const NOW: u64 = 1_000;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_nanos(seconds * 1_000_000_000)
}

fn now() -> Timestamp {
    at(NOW)
}

fn workspace() -> WorkspaceId {
    WorkspaceId::default_workspace()
}

fn key(id: u128) -> Key {
    Key {
        id: KeyId::from_bits(id),
        workspace: workspace(),
        display_name: "".into(),
        description: "".into(),
        owner: "local:0".into(),
        token_prefix: TokenPrefix::default(),
        disabled: false,
        permissions: PermissionSet::none(),
        ip_allowlist: IpAllowlist::default(),
        labels: TextMap::default(),
        settings: TextMap::default(),
        create_time: at(1),
        update_time: at(1),
        expire_time: None,
        archive_time: None,
    }
}

/// A secret to have; what proves it is of no account here.
fn secret(id: u32, create_time: Timestamp) -> Secret {
    static SEALED: LazyLock<Secret> = LazyLock::new(|| issue(&key(0)).1);
    Secret {
        id,
        create_time,
        ..SEALED.clone()
    }
}

/// A keyring, and what is in it.
struct Twin {
    writer: KeyringWriter,
    keyring: Keyring,
    model: BTreeMap<KeyId, (Key, Vec<Secret>)>,
}

impl Twin {
    fn new() -> Self {
        let writer = KeyringWriter::new();
        let keyring = writer.reader();
        Self {
            writer,
            keyring,
            model: BTreeMap::new(),
        }
    }

    fn put(&mut self, key: Key, secrets: Vec<Secret>) {
        let record = KeyRecord {
            key: key.clone(),
            secrets: secrets.clone(),
            revision: Revision::default(),
        };
        let id = RecordId::Key(key.id);
        self.writer.place(id, Stored::Key(Box::new(record)));
        self.model.insert(key.id, (key, secrets));
    }

    fn remove(&mut self, id: KeyId) {
        self.writer.place(RecordId::Key(id), Stored::Gone);
        self.model.remove(&id);
    }

    fn announce(&mut self) {
        self.writer.announce(Revision::default());
    }

    /// All pages of a search, one after the other, through the bytes that tokens carry.
    fn pages(&self, search: &Search, limit: usize) -> Vec<KeyId> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = self
                .keyring
                .search(&workspace(), search, after.as_ref(), limit);
            assert!(page.keys.len() <= limit);
            found.extend(page.keys.iter().map(|record| record.key.id));
            let Some(next) = page.next else { return found };
            assert_eq!(page.keys.len(), limit, "only the last page is short");
            assert_eq!(Cursor::from_bytes(&next.to_bytes()), Some(next.clone()));
            after = Some(next);
        }
    }
}

fn search(filter: &str) -> Search {
    Search {
        filter: KeyFilter::parse(filter, now()).expect(filter),
        query: None,
        order: None,
        show_archived: true,
        owner: None,
    }
}

fn query(text: &str) -> Search {
    Search {
        query: KeyQuery::parse(text).expect(text),
        ..search("")
    }
}

fn ordered(order_by: &str) -> Search {
    Search {
        order: OrderBy::parse(order_by, KeyOrder::FIELDS).expect(order_by),
        ..search("")
    }
}

/// What a filter is to say, told without the filter language.
type Says = fn(&Key, &[Secret]) -> bool;

/// Filters, and the same as functions.
const FILTERS: &[(&str, Says)] = &[
    ("", |_, _| true),
    ("state = ACTIVE", |key, _| key.state(now()) == State::Active),
    ("state = DISABLED OR state = EXPIRED", |key, _| {
        matches!(key.state(now()), State::Disabled | State::Expired)
    }),
    ("state = ARCHIVED", |key, _| {
        key.state(now()) == State::Archived
    }),
    ("NOT state = ARCHIVED AND expire_time:*", |key, _| {
        key.archive_time.is_none() && key.expire_time.is_some()
    }),
    ("owner = owner-1", |key, _| *key.owner == *"owner-1"),
    ("owner = *2 OR owner:ER-3", |key, _| {
        key.owner.ends_with('2') || key.owner.contains("er-3")
    }),
    ("permission = sms.send", |key, _| {
        key.permissions.iter().any(|held| held == "sms.send")
    }),
    ("permission:\"*\"", |key, _| {
        key.permissions.iter().any(|held| held == "*")
    }),
    ("permission != otp.*", |key, _| {
        !key.permissions.iter().any(|held| held.starts_with("otp."))
    }),
    ("labels:team", |key, _| key.labels.get("team").is_some()),
    ("labels.team = b", |key, _| {
        key.labels.get("team") == Some("b")
    }),
    ("labels.team != b", |key, _| {
        key.labels.get("team") != Some("b")
    }),
    ("NOT labels:*", |key, _| key.labels.is_empty()),
    ("create_time > -990s AND create_time <= -985s", |key, _| {
        key.create_time > at(10) && key.create_time <= at(15)
    }),
    ("update_time >= -995s", |key, _| key.update_time >= at(5)),
    ("expire_time < +2s", |key, _| {
        key.expire_time.is_some_and(|end| end < at(NOW + 2))
    }),
    ("NOT expire_time < +2s", |key, _| {
        key.expire_time.is_none_or(|end| end >= at(NOW + 2))
    }),
    ("secret_create_time < -995s", |_, secrets| {
        secrets
            .iter()
            .max_by_key(|secret| secret.id)
            .is_some_and(|newest| newest.create_time < at(5))
    }),
    ("secret_create_time:*", |_, secrets| !secrets.is_empty()),
    ("display_name = alpha", |key, _| {
        *key.display_name == *"alpha"
    }),
    ("display_name:ALPH OR description = *eta*", |key, _| {
        key.display_name.to_lowercase().contains("alph") || key.description.contains("eta")
    }),
    ("description:*", |key, _| !key.description.is_empty()),
    ("key_id = 000*", |key, _| {
        key.id.to_string().starts_with("000")
    }),
    ("key_id = *a", |key, _| key.id.to_string().ends_with('a')),
    ("key_id = 0000000000000000000007", |key, _| {
        key.id == KeyId::from_bits(7)
    }),
    ("key_id = 7", |_, _| false),
];

const ORDERS: [&str; 9] = [
    "",
    "create_time",
    "create_time desc",
    "update_time",
    "update_time desc",
    "expire_time",
    "expire_time desc",
    "display_name",
    "display_name desc",
];

/// The same order, told plainly: by the field, then those that never expire, then by age and id.
fn sorted(mut keys: Vec<&Key>, order_by: &str) -> Vec<KeyId> {
    keys.sort_by_key(|key| (key.create_time, key.id));
    let (field, descending) = match order_by.split_once(' ') {
        Some((field, _)) => (field, true),
        None => (order_by, false),
    };
    keys.sort_by(|a, b| {
        let never = |key: &Key| field == "expire_time" && key.expire_time.is_none();
        let order = match field {
            "create_time" => a.create_time.cmp(&b.create_time),
            "update_time" => a.update_time.cmp(&b.update_time),
            "expire_time" => a.expire_time.cmp(&b.expire_time),
            "display_name" => a.display_name.cmp(&b.display_name),
            _ => std::cmp::Ordering::Equal,
        };
        let order = if descending { order.reverse() } else { order };
        if never(a) || never(b) {
            return never(a).cmp(&never(b));
        }
        order
    });
    keys.into_iter().map(|key| key.id).collect()
}

fn any_key() -> impl Strategy<Value = (Key, Vec<Secret>)> {
    let of = |texts: &'static [&'static str]| prop::sample::select(texts);
    let texts = (
        of(&["", "alpha", "Alpha", "beta worker", "größe", "zeta"]),
        of(&["", "alphabet", "for beta", "Zwölf"]),
        0..4u8,
        of(&["", "sms.send", "sms.send otp.send", "*"]),
        of(&["", "team=a", "team=b", "team=b stage=x"]),
    );
    let times = (
        0..20u64,
        0..20u64,
        prop::option::of(NOW - 2..NOW + 5),
        prop::option::weighted(0.2, 0..20u64),
        any::<bool>(),
        prop::collection::vec((1..4u32, 0..10u64), 0..3),
    );
    // Few ids, so that many changes meet a key that is there.
    let id = prop_oneof![0..60u128, (0..8u128).prop_map(|n| u128::MAX - n)];
    (id, texts, times).prop_map(|(id, texts, times)| {
        let (name, description, owner, permissions, labels) = texts;
        let (created, updated, expires, archived, disabled, secrets) = times;
        // Positions never change, so an id says when its key was made.
        let created = if id % 3 == 0 {
            7
        } else {
            created.min(6) + u64::try_from(id % 13).unwrap_or(0)
        };
        let made = Key {
            display_name: name.into(),
            description: description.into(),
            owner: format!("owner-{owner}").into(),
            permissions: PermissionSet::new(permissions.split_whitespace()),
            labels: labels
                .split_whitespace()
                .filter_map(|label| label.split_once('='))
                .collect(),
            create_time: at(created),
            update_time: at(updated),
            expire_time: expires.map(at),
            archive_time: archived.map(at),
            disabled,
            ..key(id)
        };
        let secrets = secrets.into_iter().map(|(id, time)| secret(id, at(time)));
        (made, secrets.collect())
    })
}

#[derive(Debug, Clone)]
enum Step {
    Put(Box<(Key, Vec<Secret>)>),
    Remove(prop::sample::Index),
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any_key().prop_map(|key| Step::Put(Box::new(key))),
        1 => any::<prop::sample::Index>().prop_map(Step::Remove),
    ];
    prop::collection::vec(step, 0..most)
}

fn run(twin: &mut Twin, steps: Vec<Step>, spared: &BTreeSet<KeyId>) {
    for step in steps {
        match step {
            Step::Put(key) if spared.contains(&key.0.id) => {}
            Step::Put(key) => twin.put(key.0, key.1),
            Step::Remove(index) => {
                let ids: Vec<KeyId> = twin.model.keys().copied().collect();
                if ids.is_empty() {
                    continue;
                }
                let id = *index.get(&ids);
                if !spared.contains(&id) {
                    twin.remove(id);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_search_finds_what_a_plain_look_at_each_key_finds(
        before in steps(150),
        after in steps(40),
        limit in 1..30usize,
    ) {
        let mut twin = Twin::new();
        run(&mut twin, before, &BTreeSet::new());
        twin.announce();
        run(&mut twin, after, &BTreeSet::new());
        for (filter, says) in FILTERS {
            for show_archived in [false, true] {
                let due: Vec<&Key> = twin.model.values()
                    .filter(|(key, secrets)| says(key, secrets))
                    .filter(|(key, _)| show_archived || key.archive_time.is_none())
                    .map(|(key, _)| key)
                    .collect();
                for order_by in ORDERS {
                    let search = Search { show_archived, order: ordered(order_by).order, ..search(filter) };
                    let found = twin.pages(&search, limit);
                    prop_assert_eq!(found, sorted(due.clone(), order_by), "{} by {}", filter, order_by);
                }
            }
        }
        // The same as one at a time, and nothing else.
        for (key, secrets) in twin.model.values() {
            let Found::Record(record) = twin.keyring.record(key.id) else {
                return Err(TestCaseError::fail("a key is lost"));
            };
            prop_assert_eq!(&record.key, key);
            prop_assert_eq!(&record.secrets, secrets);
        }
        let mut archived: Vec<_> = twin.model.values()
            .filter_map(|(key, _)| Some((key.archive_time?, key.id)))
            .collect();
        archived.sort_unstable();
        let archived: Vec<KeyId> = archived.into_iter().map(|(_, id)| id).collect();
        prop_assert_eq!(twin.keyring.archived(&workspace()), archived);
        prop_assert_eq!(twin.keyring.has_keys(&workspace()), !twin.model.is_empty());
        let owned = Search { owner: Some("owner-1".to_owned()), ..search("") };
        let due = twin.model.values().map(|(key, _)| key).filter(|key| *key.owner == *"owner-1").collect();
        prop_assert_eq!(twin.pages(&owned, limit), sorted(due, ""));
    }

    #[test]
    fn a_key_that_stays_as_it_is_is_on_one_page_while_others_change(
        before in steps(120),
        between in prop::collection::vec(steps(12), 40),
        stay in prop::collection::vec(any::<prop::sample::Index>(), 1..20),
        limit in 1..8usize,
        order in prop::sample::select(ORDERS.to_vec()),
        words in prop::sample::select(vec!["", "a", "be", "ta", "Zwölf"]),
    ) {
        let mut twin = Twin::new();
        run(&mut twin, before, &BTreeSet::new());
        twin.announce();
        let ids: Vec<KeyId> = twin.model.keys().copied().collect();
        prop_assume!(!ids.is_empty());
        let stay: BTreeSet<KeyId> = stay.iter().map(|index| *index.get(&ids)).collect();
        let search = Search {
            query: query(words).query,
            order: ordered(order).order,
            ..search("state != EXPIRED")
        };
        let due: BTreeSet<KeyId> = twin.pages(&search, 1_000).into_iter().filter(|id| stay.contains(id)).collect();
        let mut found = Vec::new();
        let mut cursor = None;
        let mut between = between.into_iter();
        loop {
            let page = twin.keyring.search(&workspace(), &search, cursor.as_ref(), limit);
            found.extend(page.keys.iter().map(|record| record.key.id).filter(|id| stay.contains(id)));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
            run(&mut twin, between.next().unwrap_or_default(), &stay);
        }
        prop_assert_eq!(found.len(), due.len(), "{:?}", found);
        prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), due);
    }

    #[test]
    fn no_bytes_of_a_cursor_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), kind in 0..5u8) {
        let mut twin = Twin::new();
        for id in 0..10 {
            twin.put(key(id), Vec::new());
        }
        twin.announce();
        let mut bytes = bytes;
        if let Some(byte) = bytes.get_mut(28) {
            *byte = kind;
        }
        if let Some(cursor) = Cursor::from_bytes(&bytes) {
            prop_assert_eq!(cursor.to_bytes(), bytes);
            for order in ORDERS {
                let page = twin.keyring.search(&workspace(), &ordered(order), Some(&cursor), 3);
                prop_assert!(page.keys.len() <= 3);
            }
        }
    }

    #[test]
    fn letters_never_hide_what_is_there(text in "\\PC{0,24}|[a-zA-ZÀ-žK-Å]{0,24}", chosen: u32, upper: bool) {
        let word: String = text.chars().enumerate()
            .filter(|(place, _)| chosen >> place & 1 == 1)
            .map(|(_, c)| c)
            .collect();
        let word = if upper { word.to_uppercase() } else { word };
        let has = Letters::of(&text);
        let asked = Letters::asked(&word.to_lowercase());
        prop_assert!(asked.are_among(has) || !fits(&word, &text), "{:?} in {:?}", word, text);
        // What is there as it is, and in any case, as filters have it.
        let contains = TextTest::ContainsAnyCase(word.to_lowercase().into()).passes(&text);
        prop_assert!(asked.are_among(has) || !contains, "{:?} in {:?}", word, text);
        prop_assert!(Letters::asked(&word).are_among(has) || !text.contains(&word));
    }
}

/// Whether a word is in a text, by the matcher alone.
fn fits(word: &str, text: &str) -> bool {
    use nucleo_matcher::{Config, Matcher, Utf32Str};
    let word = word.to_lowercase();
    let mut matcher = Matcher::new(Config::DEFAULT);
    let (mut text_buffer, mut word_buffer) = (Vec::new(), Vec::new());
    [true, false].into_iter().any(|normalize| {
        matcher.config.normalize = normalize;
        let text = Utf32Str::new(text, &mut text_buffer);
        matcher
            .fuzzy_match(text, Utf32Str::new(&word, &mut word_buffer))
            .is_some()
    })
}

/// Keys by number, with a name and a description.
fn named(texts: &[(&str, &str)]) -> Twin {
    let mut twin = Twin::new();
    for (number, (name, description)) in (0..).zip(texts) {
        let named = Key {
            display_name: (*name).into(),
            description: (*description).into(),
            // Later ones are older.
            create_time: at(100 - number),
            ..key(u128::from(number) << 100)
        };
        twin.put(named, Vec::new());
    }
    twin.announce();
    twin
}

#[track_caller]
fn finds(twin: &Twin, text: &str, due: &[u64]) {
    let found: Vec<u128> = twin
        .pages(&query(text), 2)
        .into_iter()
        .map(|id| id.bits() >> 100)
        .collect();
    let due: Vec<u128> = due.iter().map(|&number| number.into()).collect();
    assert_eq!(found, due, "{text}");
}

#[test]
fn a_query_finds_words_in_names_and_descriptions_best_first() {
    let twin = named(&[
        ("billing worker, eu-west", "sends invoices"),
        ("invoice mailer", ""),
        ("other", "billing of others"),
        ("b-i-l-l", ""),
        ("Größe", "Zwölf Boxkämpfer"),
        ("", ""),
    ]);
    finds(&twin, "billing", &[0, 2]);
    finds(&twin, "BILLING", &[0, 2]);
    finds(&twin, "bill", &[0, 3, 2]);
    finds(&twin, "blng", &[0, 2]);
    finds(&twin, "worker billing", &[0]);
    finds(&twin, "billing worker absent", &[]);
    finds(&twin, "invoice", &[1, 0]);
    finds(&twin, "grosse", &[]);
    finds(&twin, "grö", &[4]);
    finds(&twin, "gro", &[4]);
    finds(&twin, "ZWOLF", &[4]);
    finds(&twin, "gnillib", &[]);
    // Nothing is sought: all, oldest first.
    finds(&twin, " \t ", &[5, 4, 3, 2, 1, 0]);
}

#[test]
fn equally_good_finds_come_oldest_first() {
    let twin = named(&[("alpha", ""); 7]);
    finds(&twin, "alpha", &[6, 5, 4, 3, 2, 1, 0]);
}

#[test]
fn a_query_finds_an_id_by_its_beginning_first_and_by_a_part_last() {
    let mut twin = Twin::new();
    let ids = [
        "0aBcDeFgH0000000000000",
        "000000000aBcDeFgH00000",
        "0zzzz00000000000000000",
    ];
    for (id, name) in ids.iter().zip(["", "", "0aBcDe"]) {
        let id = KeyId::parse(id.as_bytes()).expect("an id");
        let made = Key {
            display_name: name.into(),
            ..key(id.bits())
        };
        twin.put(made, Vec::new());
    }
    twin.announce();
    let places = |text: &str| -> Vec<usize> {
        let found = twin.pages(&query(text), 10);
        let place = |id: &KeyId| ids.iter().position(|known| *known == id.to_string());
        found.iter().map(|id| place(id).expect("known")).collect()
    };
    assert_eq!(places("0aBcDe"), [0, 2, 1]);
    assert_eq!(places("aBcDeFg"), [1, 0]);
    assert_eq!(places("0aB"), [0, 2]);
    // Ids are written as they are written, and without gaps.
    assert_eq!(places("0abcdefg"), [0usize; 0]);
    assert_eq!(places("aBDeF"), [0usize; 0]);
    // Too short for a part; in a name it is found all the same.
    assert_eq!(places("aBc"), [2]);
    assert_eq!(places(ids[1]), [1]);
    assert_eq!(places(&format!("{}0", ids[1])), [0usize; 0]);
}

#[test]
fn a_query_a_filter_and_an_order_combine() {
    let twin = named(&[
        ("alpha one", "x"),
        ("beta", "alpha"),
        ("alpha two", ""),
        ("gamma", ""),
    ]);
    let combined = Search {
        order: ordered("display_name desc").order,
        filter: search("description:* OR display_name = *two").filter,
        ..query("alpha")
    };
    let found: Vec<u128> = twin
        .pages(&combined, 1)
        .iter()
        .map(|id| id.bits() >> 100)
        .collect();
    assert_eq!(found, [1, 2, 0]);
}

#[test]
fn a_query_has_at_most_256_characters() {
    assert!(KeyQuery::parse(&"ä".repeat(256)).is_ok());
    assert!(KeyQuery::parse(&"a".repeat(257)).is_err());
    assert!(KeyQuery::parse(&"a".repeat(1 << 20)).is_err());
}

/// A value that no key has any more makes room for another under the same token. A search that is under way then must not
/// take the one for the other.
#[test]
fn a_shared_value_is_asked_anew_once_its_token_means_another() {
    let mut twin = Twin::new();
    let make = |number: u128, owner: &str| Key {
        owner: owner.into(),
        ..key(number)
    };
    for number in 0..5_000 {
        twin.put(
            make(number, if number == 0 { "gone" } else { "stays" }),
            Vec::new(),
        );
    }
    twin.announce();
    let search = search("owner = gone OR owner = new");
    let mut scan = Scan::new(&search, None, 100);
    assert!(scan.step(twin.keyring.directory().listing(&workspace())));
    twin.put(make(0, "stays"), Vec::new());
    twin.put(make(4_998, "other"), Vec::new());
    twin.put(make(4_999, "new"), Vec::new());
    while scan.step(twin.keyring.directory().listing(&workspace())) {}
    let found: Vec<u128> = scan
        .finish()
        .0
        .iter()
        .map(|cursor| cursor.position.id().bits())
        .collect();
    assert_eq!(found, [0, 4_999]);
}

/// A search that may read every key waits for its turn and runs off the runtime. In the order of the rows, too, a query may
/// find nothing.
#[test]
fn only_a_search_that_ends_with_its_page_is_plain() {
    let in_order = || ordered("create_time");
    assert!(search("").is_plain() && in_order().is_plain());
    let query = KeyQuery::parse("absent").expect("short enough");
    for wide in [
        Search {
            query,
            ..in_order()
        },
        Search {
            owner: Some("someone".into()),
            ..in_order()
        },
        ordered("create_time desc"),
        search("state = DISABLED"),
    ] {
        assert!(!wide.is_plain(), "{wide:?}");
    }
}

/// Rows are let go of again and again during a search, so that a change never waits for all of it.
#[test]
fn a_search_lets_go_of_the_directory_again_and_again() {
    let mut twin = Twin::new();
    for number in 0..10_000 {
        twin.put(key(number), Vec::new());
    }
    twin.announce();
    for (search, most) in [
        (search("state = DISABLED"), 10_000 / MOST_ROWS + 2),
        (query("absent"), 10_000 / 128 + 2),
    ] {
        let mut scan = Scan::new(&search, None, 10);
        let mut holds = 1;
        while scan.step(twin.keyring.directory().listing(&workspace())) {
            holds += 1;
        }
        // There may be more on a slow machine, where the time ends a hold.
        assert!(holds >= most - 3, "{holds} holds, {most} expected");
    }
}

/// However long a filter takes for a row, the directory is not held until many rows are read: a change would wait for it.
#[test]
fn rows_that_take_long_are_held_in_small_numbers() {
    let mut twin = Twin::new();
    for number in 0..1_000 {
        let description = "b".repeat(1_000).into();
        twin.put(
            Key {
                description,
                ..key(number)
            },
            Vec::new(),
        );
    }
    twin.announce();
    let slow = format!("description:\"{}é\"", "b".repeat(20));
    let search = search(&vec![slow; 70].join(" OR "));
    let mut scan = Scan::new(&search, None, 10);
    let mut holds = 1;
    while scan.step(twin.keyring.directory().listing(&workspace())) {
        holds += 1;
    }
    // 70 texts of 1,000 characters a row are far more than a millisecond for 32 rows on any machine.
    assert!(holds >= 1_000 / 32, "{holds} holds");
}

/// A search that nobody wants any more ends at its next look, and answers nothing rather than a part.
#[test]
fn a_search_that_is_stopped_answers_nothing() {
    let mut twin = Twin::new();
    for number in 0..1_000 {
        twin.put(key(number), Vec::new());
    }
    twin.announce();
    let search = query("absent");
    let looks = std::cell::Cell::new(0);
    let stop = || {
        looks.set(looks.get() + 1);
        looks.get() == 2
    };
    let found = twin
        .keyring
        .search_until(&workspace(), &search, None, 10, stop);
    assert!(found.is_none());
    assert_eq!(looks.get(), 2, "it ended there");
    let whole = twin
        .keyring
        .search_until(&workspace(), &search, None, 10, || false);
    assert!(whole.is_some_and(|page| page.keys.is_empty()));
}
