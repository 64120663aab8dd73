//! Stored bytes are for ever, and they are not trusted.

use proptest::prelude::*;

use super::*;
use crate::domain::setting::{Declaration, Declarations, Kind};

// The fixtures are bytes as the version of their name wrote them, version 1 if it has none. They are never made anew: what
// reads them today has to read them in ten years.
const KEY: &str = include_str!("fixtures/key.hex");
const SPARSE_KEY: &str = include_str!("fixtures/sparse_key.hex");
const WORKSPACE: &str = include_str!("fixtures/workspace.hex");
const EVENT: &str = include_str!("fixtures/event.hex");
const KEY_2: &str = include_str!("fixtures/key_2.hex");
const SPARSE_KEY_2: &str = include_str!("fixtures/sparse_key_2.hex");
const WORKSPACE_2: &str = include_str!("fixtures/workspace_2.hex");
const TOMBSTONE_2: &str = include_str!("fixtures/tombstone_2.hex");

const KEY_ID: KeyId = KeyId::from_bits(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210);
const LIGHT_PHC: &str = "$argon2id$v=19$m=256,t=1,p=1$AAECAwQFBgcICQoLDA0ODw$\
                         EBESExQVFhcYGRobHB0eHyAhIiMkJSYnKCkqKywtLi8";
const HEAVY_PHC: &str = "$argon2id$v=19$m=19456,t=2,p=1$8PHy8/T19vf4+fr7/P3+/w$\
                         MDEyMzQ1Njc4OTo7PD0+P0BBQkNERUZHSElKS0xNTk8";

pub(super) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

pub(super) fn revision(number: u64) -> Revision {
    Revision { epoch: 1, number }
}

pub(super) fn at(seconds: i64, nanos: i32) -> Timestamp {
    Timestamp::new(seconds, nanos).unwrap()
}

fn workspace_id(text: &str) -> WorkspaceId {
    WorkspaceId::parse(text).unwrap()
}

/// What `key.hex` says: every field is set, and none to its default.
pub(super) fn key() -> KeyRecord {
    KeyRecord {
        key: Key {
            id: KEY_ID,
            workspace: workspace_id("acme-2"),
            display_name: "Zahlungen – Süd".into(),
            description: "two\nlines".into(),
            owner: "workspaces/system/keys/0000000000000000000001".into(),
            token_prefix: TokenPrefix::parse("acme").unwrap(),
            disabled: true,
            permissions: PermissionSet::new(["otp.send", "sms.send"]),
            ip_allowlist: IpAllowlist::parse(&["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"])
                .unwrap(),
            labels: TextMap::from_iter([("env", "live"), ("team", "payments")]),
            settings: TextMap::default(),
            create_time: at(1_700_000_000, 1),
            update_time: at(1_700_000_001, 999_999_999),
            expire_time: Some(at(253_402_300_799, 0)),
            archive_time: None,
        },
        secrets: vec![
            Secret {
                id: 3,
                verifier: Verifier::from_phc(LIGHT_PHC).unwrap(),
                screen: 0xfedc_ba98_7654_3210,
                create_time: at(1_700_000_000, 2),
                expire_time: None,
            },
            Secret {
                id: 4,
                verifier: Verifier::from_phc(HEAVY_PHC).unwrap(),
                screen: 1,
                create_time: at(-62_135_596_800, 0),
                expire_time: None,
            },
        ],
        revision: revision(300),
    }
}

/// What `key_2.hex` says: the same, and what schema 2 brought.
pub(super) fn key_of_schema_2() -> KeyRecord {
    let mut record = key();
    record.key.archive_time = Some(at(1_700_000_002, 3));
    record.key.settings =
        TextMap::from_iter([("auto_replace", "FULL"), ("default_sender", "Acme Süd")]);
    record.secrets[0].expire_time = Some(at(1_700_000_005, 6));
    record
}

/// What `workspace_2.hex` says: the same as `workspace.hex`, and what schema 2 brought.
fn workspace_of_schema_2() -> WorkspaceRecord {
    let texts = |values: &[&str]| values.iter().map(|&value| value.into()).collect();
    let declaration = |name: &str, kind| Declaration {
        name: name.into(),
        description: "what for".into(),
        kind,
        default: None,
        header: None,
    };
    let declarations = vec![
        Declaration {
            default: Some("ON".into()),
            header: Some("x-auto-replace".into()),
            ..declaration("auto_replace", Kind::Enum(texts(&["OFF", "ON", "FULL"])))
        },
        declaration(
            "default_sender",
            Kind::Text {
                max_length: 11,
                allowed: texts(&["Acme", "Acme Süd"]),
            },
        ),
        declaration("dlr_url", Kind::Url { allow_http: true }),
        declaration("flash", Kind::Bool),
        declaration(
            "parts",
            Kind::Integer {
                min: i64::MIN,
                max: 9,
            },
        ),
    ];
    let mut record = workspace();
    record.workspace.permissions = PermissionSet::new(["otp.send", "sms.send"]);
    record.workspace.settings = Declarations::new(declarations).unwrap();
    record.workspace.archive_limit = ArchiveLimit::new(1_000).unwrap();
    record
}

/// What `sparse_key.hex` says: whatever may be left out is.
fn sparse_key() -> KeyRecord {
    KeyRecord {
        key: Key {
            id: KeyId::from_bits(0),
            workspace: workspace_id("a"),
            display_name: "".into(),
            description: "".into(),
            owner: "".into(),
            token_prefix: TokenPrefix::default(),
            disabled: false,
            permissions: PermissionSet::none(),
            ip_allowlist: IpAllowlist::default(),
            labels: TextMap::default(),
            settings: TextMap::default(),
            create_time: at(0, 0),
            update_time: at(0, 0),
            expire_time: None,
            archive_time: None,
        },
        secrets: Vec::new(),
        revision: revision(1),
    }
}

fn workspace() -> WorkspaceRecord {
    WorkspaceRecord {
        workspace: Workspace {
            display_name: "Acme".into(),
            update_time: at(1_700_000_000, 5),
            ..Workspace::new(
                workspace_id("acme-2"),
                TokenPrefix::parse("acme").unwrap(),
                at(1_700_000_000, 0),
            )
        },
        revision: revision(2),
    }
}

fn decoded(id: &RecordId, bytes: &[u8]) -> Stored {
    decode(id, bytes, revision(300))
}

#[test]
fn records_of_every_schema_are_read_and_those_of_the_latest_written_as_ever() {
    let keys = [
        (KEY, key()),
        (KEY_2, key_of_schema_2()),
        (SPARSE_KEY, sparse_key()),
        (SPARSE_KEY_2, sparse_key()),
    ];
    for (fixture, record) in keys {
        let id = RecordId::Key(record.key.id);
        if !std::ptr::eq(fixture, KEY) && !std::ptr::eq(fixture, SPARSE_KEY) {
            assert_eq!(encode_key(&record), bytes(fixture));
        }
        assert_eq!(decoded(&id, &bytes(fixture)), Stored::Key(Box::new(record)));
    }
    let id = RecordId::Workspace(workspace().workspace.id);
    for (fixture, record) in [
        (WORKSPACE, workspace()),
        (WORKSPACE_2, workspace_of_schema_2()),
    ] {
        assert_eq!(decoded(&id, &bytes(fixture)), Stored::Workspace(record));
    }
    assert_eq!(
        encode_workspace(&workspace_of_schema_2()),
        bytes(WORKSPACE_2)
    );
    assert_eq!(encode_tombstone(revision(300)), bytes(TOMBSTONE_2));
    let retired = Stored::Retired(revision(300));
    assert_eq!(decoded(&id, &bytes(TOMBSTONE_2)), retired);
}

/// Asserts that bytes under an id are refused, for a reason that has `why` in it and tells nothing of a secret.
#[track_caller]
fn refused(id: &RecordId, bytes: &[u8], why: &str) {
    match decoded(id, bytes) {
        Stored::Unreadable(said) => {
            assert!(said.contains(why), "{said:?}, where {why:?} was due");
            assert!(!said.contains('$'), "{said:?} tells of a secret");
        }
        other => panic!("read as {other:?}, where {why:?} was due"),
    }
}

/// A value that would be a header of its own to whoever passes it on is never read back.
#[test]
fn a_stored_setting_cannot_break_a_line() {
    let id = RecordId::Key(KEY_ID);
    let with = |name: &str, value: &str| {
        of_key(|key| {
            key.settings = vec![stored::Label {
                name: name.to_owned(),
                value: value.to_owned(),
            }];
        })
    };
    assert!(matches!(
        decoded(&id, &with("dlr_url", "https://a")),
        Stored::Key(_)
    ));
    refused(&id, &with("dlr_url", "a\r\nx: y"), "setting");
    refused(&id, &with("dlr_url", "a\0"), "setting");
    refused(&id, &with("dlr_url", &"a".repeat(1_025)), "setting");
    refused(&id, &with("x\r\ny", "a"), "setting");

    let workspace_id = RecordId::Workspace(workspace().workspace.id);
    let mut record = stored::Record::decode(&*bytes(WORKSPACE_2)).unwrap();
    match &mut record.kind {
        Some(stored::record::Kind::Workspace(workspace)) => {
            workspace.settings[0].header = "x-a\r\nx-b".to_owned();
        }
        _ => panic!("the fixture is a workspace"),
    }
    refused(&workspace_id, &record.encode_to_vec(), "header");
}

fn key_under_own_id(change: impl FnOnce(&mut stored::Record)) -> Vec<u8> {
    let mut record = stored::Record::decode(&*bytes(KEY)).unwrap();
    change(&mut record);
    record.encode_to_vec()
}

fn of_key(change: impl FnOnce(&mut stored::Key)) -> Vec<u8> {
    key_under_own_id(|record| match &mut record.kind {
        Some(stored::record::Kind::Key(key)) => change(key),
        _ => panic!("the fixture is a key"),
    })
}

#[test]
fn what_is_no_record_of_this_id_is_unreadable() {
    let id = RecordId::Key(KEY_ID);
    let good = bytes(KEY);
    assert!(matches!(decoded(&id, &good), Stored::Key(_)));

    refused(&id, b"garbage", "not a record");
    refused(&id, &[0xff; 300], "not a record");
    refused(&id, &good[..good.len() - 1], "not a record");
    refused(&id, &[], "schema 0");
    refused(
        &id,
        &key_under_own_id(|record| record.schema = 0),
        "schema 0",
    );
    refused(
        &id,
        &key_under_own_id(|record| record.schema = 3),
        "schema 3",
    );
    refused(
        &id,
        &key_under_own_id(|record| record.kind = None),
        "another kind",
    );
    refused(&id, &bytes(WORKSPACE), "another kind");
    refused(&id, &bytes(TOMBSTONE_2), "another kind");
    refused(&id, &bytes(SPARSE_KEY), "another key");
    refused(&RecordId::Key(KeyId::from_bits(7)), &good, "another key");
    refused(&id, &of_key(|key| key.key_id.truncate(15)), "another key");

    let own = RecordId::Workspace(workspace_id("acme-2"));
    refused(&own, &good, "another kind");
    let other = RecordId::Workspace(workspace_id("acme-3"));
    refused(&other, &bytes(WORKSPACE), "another workspace");
    refused(&RecordId::Unknown([0xff].into()), &good, "unknown id");
}

#[test]
fn a_revision_that_cannot_be_is_unreadable() {
    let id = RecordId::Key(KEY_ID);
    let of =
        |epoch, number| key_under_own_id(|record| (record.epoch, record.number) = (epoch, number));
    assert!(matches!(decoded(&id, &of(1, 300)), Stored::Key(_)));
    refused(&id, &of(1, 301), "ahead");
    refused(&id, &of(2, 1), "ahead");
    refused(&id, &of(u32::MAX, u64::MAX), "ahead");
    refused(&id, &of(1, 0), "without a revision");
    refused(&id, &of(0, 5), "without a revision");
}

#[test]
fn a_secret_that_is_not_within_bounds_is_unreadable() {
    let id = RecordId::Key(KEY_ID);
    for (from, to, why) in [
        ("m=256", "m=4194304", "above the limit"),
        ("t=1", "t=4294967295", "above the limit"),
        ("p=1", "p=255", "above the limit"),
        ("argon2id", "argon2d", "argon2id"),
        ("argon2id", "scrypt", "argon2id"),
        ("v=19", "v=16", "argon2id"),
        (LIGHT_PHC, "", "argon2id"),
        (LIGHT_PHC, "plain text", "argon2id"),
    ] {
        let phc = LIGHT_PHC.replace(from, to);
        refused(&id, &of_key(|key| key.secrets[0].phc = phc), why);
    }
}

#[test]
fn a_field_that_no_version_wrote_makes_the_record_unreadable() {
    let id = RecordId::Key(KEY_ID);
    refused(
        &id,
        &of_key(|key| key.create_time = None),
        "time is missing",
    );
    refused(
        &id,
        &of_key(|key| key.update_time = None),
        "time is missing",
    );
    let secret = of_key(|key| key.secrets[1].create_time = None);
    refused(&id, &secret, "time is missing");
    for (seconds, nanos) in [
        (i64::MAX, 0),
        (i64::MIN, 0),
        (0, 1_000_000_000),
        (0, u32::MAX),
    ] {
        let time = Some(stored::Time { seconds, nanos });
        // An end that cannot be read must not become "never".
        refused(&id, &of_key(|key| key.expire_time = time), "");
    }

    for list in [
        &["0.0.0.0/0"][..],
        &["0.0.0.0/0", "::/0"],
        &["10.0.0.0/0"],
        &["::ffff:0:0/96"],
    ] {
        let list = list.iter().map(ToString::to_string).collect();
        refused(&id, &of_key(|key| key.ip_allowlist = list), "everyone");
    }
    for entry in ["", "10.0.0.0/33", "localhost"] {
        let list = vec![entry.to_owned()];
        refused(&id, &of_key(|key| key.ip_allowlist = list), "CIDR");
    }

    for workspace in ["", "Acme", "a b", "acme/keys", &"a".repeat(64)] {
        let workspace = workspace.to_owned();
        refused(&id, &of_key(|key| key.workspace = workspace), "lower-case");
    }
    let prefix = of_key(|key| key.token_prefix = "PC".into());
    refused(&id, &prefix, "lower-case");
}

/// A field that this version does not know is passed over: were it refused, no version could add one without taking
/// every key away from the older replicas beside it. So it is the writer who must see to it that passing it over is
/// safe, and raise the schema where it is not: a field that an older Check has to obey (an archived state, a rate limit)
/// comes with a schema that older versions refuse. An older version that writes the record anew drops the field.
#[test]
fn a_field_added_within_the_schema_is_passed_over() {
    let id = RecordId::Key(KEY_ID);
    // Field 1,000 as a text, first in the record and then in the key.
    let unknown = [&[0xc2, 0x3e, 3][..], b"new"].concat();
    let at_the_end = [bytes(KEY), unknown.clone()].concat();
    assert_eq!(decoded(&id, &at_the_end), Stored::Key(Box::new(key())));

    let key_message = of_key(|_| ());
    let record = stored::Record::decode(&*key_message).unwrap();
    let Some(stored::record::Kind::Key(inner)) = record.kind.clone() else {
        panic!("the fixture is a key");
    };
    let inner = [inner.encode_to_vec(), unknown].concat();
    let outer = stored::Record {
        kind: None,
        ..record
    };
    let mut within = outer.encode_to_vec();
    prost::encoding::bytes::encode(4, &inner, &mut within);
    assert_eq!(decoded(&id, &within), Stored::Key(Box::new(key())));
}

/// What was read must be of the id it was read under, and good enough to be written again.
fn of_its_id_or_unreadable(id: &RecordId, bytes: &[u8]) -> Result<(), TestCaseError> {
    match (id, decoded(id, bytes)) {
        (_, Stored::Unreadable(_)) => {}
        (RecordId::Key(id), Stored::Key(record)) => {
            prop_assert_eq!(record.key.id, *id);
            prop_assert!(record.revision <= revision(300));
            let again = decoded(&RecordId::Key(*id), &encode_key(&record));
            prop_assert_eq!(again, Stored::Key(record));
        }
        (RecordId::Workspace(id), Stored::Workspace(record)) => {
            prop_assert_eq!(&record.workspace.id, id);
            prop_assert!(record.revision <= revision(300));
        }
        (RecordId::Workspace(_), Stored::Retired(at)) => prop_assert!(at <= revision(300)),
        (id, stored) => prop_assert!(false, "{:?} under {:?}", stored, id),
    }
    Ok(())
}

fn ids() -> impl Strategy<Value = RecordId> {
    prop_oneof![
        Just(RecordId::Key(KEY_ID)),
        Just(RecordId::Key(KeyId::from_bits(0))),
        any::<u128>().prop_map(|bits| RecordId::Key(KeyId::from_bits(bits))),
        Just(RecordId::Workspace(workspace_id("acme-2"))),
        Just(RecordId::Workspace(workspace_id("a"))),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|row| RecordId::Unknown(row.into())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn arbitrary_bytes_are_never_another_ids_record(
        id in ids(), bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        of_its_id_or_unreadable(&id, &bytes)?;
    }

    #[test]
    fn damaged_records_are_never_another_ids_record(
        id in ids(),
        fixture in prop::sample::select(vec![KEY, SPARSE_KEY, WORKSPACE, EVENT, TOMBSTONE_2]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        length in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = bytes(fixture);
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(length) = length {
            bytes.truncate(length.index(bytes.len()));
        }
        of_its_id_or_unreadable(&id, &bytes)?;
    }
}
