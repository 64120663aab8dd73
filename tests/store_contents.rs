//! Records that something else wrote into the store's file: their keys are not decided on, and all others are.

mod support;

use std::path::Path;

use portcullis::{
    domain::id::KeyId,
    proto::v1::{DisableKeyRequest, check_response::Reason},
};
use prost::Message as _;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use support::{Clients, Server, Setup, check, clients};
use tonic::Code;

const RECORDS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("records");
const META: TableDefinition<&str, (u32, u64)> = TableDefinition::new("meta");

/// The outside of a record, as far as it is tampered with here. The key itself passes through as bytes.
#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(uint32, tag = "1")]
    schema: u32,
    #[prost(uint32, tag = "2")]
    epoch: u32,
    #[prost(uint64, tag = "3")]
    number: u64,
    #[prost(bytes = "vec", tag = "4")]
    key: Vec<u8>,
}

/// What is done to a key's record, whose bytes it gets.
type Tampering = fn(&[u8]) -> Vec<u8>;

fn altered(bytes: &[u8], change: impl FnOnce(&mut Record)) -> Vec<u8> {
    let mut record = Record::decode(bytes).expect("a record");
    change(&mut record);
    record.encode_to_vec()
}

/// Replaces a text in the key by another of the same length, so that the message stays whole.
fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let place = bytes
        .windows(from.len())
        .position(|part| part == from.as_bytes());
    let place = place.unwrap_or_else(|| panic!("there is no {from}"));
    let mut bytes = bytes.to_vec();
    bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
    bytes
}

const TAMPERINGS: &[(&str, Tampering)] = &[
    ("garbage", |_| b"garbage".to_vec()),
    ("nothing", |_| Vec::new()),
    ("all bits flipped", |bytes| {
        bytes.iter().map(|byte| !byte).collect()
    }),
    ("cut short", |bytes| bytes[..bytes.len() - 1].to_vec()),
    ("a newer schema", |bytes| {
        altered(bytes, |record| record.schema = 3)
    }),
    ("a revision ahead of the head", |bytes| {
        altered(bytes, |record| record.number = 1_000)
    }),
    ("another epoch", |bytes| {
        altered(bytes, |record| record.epoch = 2)
    }),
    ("an unknown algorithm", |bytes| {
        replaced(bytes, "$argon2id$", "$argon3id$")
    }),
    // Past the limit within the room that there is.
    ("a verify of ten times the passes", |bytes| {
        replaced(bytes, "m=256,t=1,p=1", "m=16,t=99,p=1")
    }),
    ("a verify without bounds", |bytes| {
        replaced(bytes, "m=256,t=1,p=1$", "m=4194304,t=1$")
    }),
    ("a list that reads as everyone", |bytes| {
        replaced(bytes, "192.0.2.77/32", "192.0.2.77/00")
    }),
];

fn row(key_id: &str) -> Vec<u8> {
    let id = KeyId::parse(key_id.as_bytes()).expect("a key id");
    [b"k", &id.bits().to_be_bytes()[..]].concat()
}

/// Changes records behind the back of a store that no process has open.
fn edit(data_dir: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(data_dir.join("store.redb")).expect("the store's file");
    let transaction = database.begin_write().expect("a transaction");
    change(&transaction);
    transaction.commit().expect("a commit");
}

fn record_of(transaction: &redb::WriteTransaction, key_id: &str) -> Vec<u8> {
    let records = transaction.open_table(RECORDS).expect("the records");
    let found = records.get(&*row(key_id)).expect("a look");
    found.expect("the key's record").value().to_vec()
}

fn put_record(transaction: &redb::WriteTransaction, key_id: &str, bytes: &[u8]) {
    let mut records = transaction.open_table(RECORDS).expect("the records");
    records.insert(&*row(key_id), bytes).expect("an edit");
}

async fn undecided(gate: &Clients, token: &str, what: &str) {
    let answer = gate.check.clone().check(check(token)).await;
    let refused = match answer {
        Ok(answer) => panic!("{what}: decided as {:?}", answer.into_inner()),
        Err(refused) => refused,
    };
    assert_eq!(refused.code(), Code::Unavailable, "{what}: {refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_whose_record_was_tampered_with_is_not_decided_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().join("data");
    let start = || Setup::new().data_dir(&data_dir).start();

    let server = start();
    let (admin, gate) = clients(&server);
    let mut tampered = Vec::new();
    for (what, _) in TAMPERINGS {
        let issued = admin
            .create_key(portcullis::proto::v1::Key {
                ip_allowlist: vec!["192.0.2.77".into()],
                ..support::key_named(what, &["sms.send"])
            })
            .await;
        tampered.push(issued);
    }
    let mut whole = Vec::new();
    for name in ["first", "moved over another", "last", "disabled"] {
        whole.push(admin.create(name, &["sms.send"]).await);
    }
    let id_of =
        |issued: &portcullis::proto::v1::IssuedKey| issued.key.clone().expect("a key").key_id;
    let name_of =
        |issued: &portcullis::proto::v1::IssuedKey| issued.key.clone().expect("a key").name;
    let disable = |issued| DisableKeyRequest {
        name: name_of(issued),
        etag: String::new(),
        ..DisableKeyRequest::default()
    };
    let mut keys = admin.keys.clone();
    keys.disable_key(disable(&whole[3]))
        .await
        .expect("disabled");
    assert_eq!(gate.ask(check(&whole[1].token)).await.reason(), Reason::Ok);
    server.stop();

    edit(&data_dir, |transaction| {
        for ((_, tamper), issued) in TAMPERINGS.iter().zip(&tampered) {
            let id = id_of(issued);
            let bytes = tamper(&record_of(transaction, &id));
            put_record(transaction, &id, &bytes);
        }
        // The disabled key would work again with the record of one that works.
        let good = record_of(transaction, &id_of(&whole[0]));
        put_record(transaction, &id_of(&whole[1]), &good);
        put_record(transaction, &id_of(&whole[3]), &good);
        let mut records = transaction.open_table(RECORDS).expect("the records");
        records.insert(&b"k?"[..], &*good).expect("an edit");
    });

    let server = start();
    let (admin, gate) = clients(&server);
    for ((what, _), issued) in TAMPERINGS.iter().zip(&tampered) {
        undecided(&gate, &issued.token, what).await;
        // Nor is it changed: nobody knows what would be changed.
        let refused = admin.keys.clone().disable_key(disable(issued)).await;
        let refused = refused.expect_err("it cannot be read");
        assert_eq!(refused.code(), Code::Unavailable, "{what}: {refused:?}");
    }
    undecided(&gate, &whole[1].token, "another's record").await;
    undecided(
        &gate,
        &whole[3].token,
        "another's record over a disabled key",
    )
    .await;
    for good in [&whole[0], &whole[2]] {
        assert_eq!(gate.ask(check(&good.token)).await.reason(), Reason::Ok);
    }
    let unreadable = server.metric("portcullis_unreadable_records", "");
    let due = u32::try_from(TAMPERINGS.len() + 3).expect("a few");
    assert_eq!(unreadable, Some(f64::from(due)), "each is counted");
    assert!(server.stderr().contains("cannot be read"), "and told of");

    // Everything else goes on.
    let made = admin.create("afterwards", &[]).await;
    assert_eq!(gate.ask(check(&made.token)).await.reason(), Reason::Ok);
    let mut keys = admin.keys.clone();
    keys.disable_key(disable(&whole[2]))
        .await
        .expect("disabled");
    let answer = gate.ask(check(&whole[2].token)).await;
    assert_eq!(answer.reason(), Reason::KeyDisabled);
}

/// A file that was wound back, so that revisions would be given out twice, is not served from at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_wound_back_is_not_served() {
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().join("data");
    let server = Setup::new().data_dir(&data_dir).start();
    Clients::root(&server).create("a key", &[]).await;
    server.stop();

    edit(&data_dir, |transaction| {
        let mut meta = transaction.open_table(META).expect("the state");
        meta.insert("head", (1, 1)).expect("an edit");
    });
    let exit = Setup::new().data_dir(&data_dir).try_start();
    let exit = exit.expect_err("such a store is not served");
    let said = &exit.stderr;
    assert!(said.contains("its last event is of 1.2"), "{exit}");
}

/// The edits above are made where the server reads: the layout that they assume is the real one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_records_are_where_these_tests_edit_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().join("data");
    let server: Server = Setup::new().data_dir(&data_dir).start();
    let issued = Clients::root(&server).create("a key", &[]).await;
    server.stop();

    let database = Database::open(data_dir.join("store.redb")).expect("the store's file");
    let transaction = database.begin_read().expect("a transaction");
    let records = transaction.open_table(RECORDS).expect("the records");
    let id = issued.key.expect("a key").key_id;
    let found = records.get(&*row(&id)).expect("a look");
    let found = found.expect("the key's record").value().to_vec();
    assert_eq!(altered(&found, |_| {}), found, "nothing is lost on the way");
}
