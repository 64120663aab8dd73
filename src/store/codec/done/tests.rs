//! What is kept of a mutation is read as it was written, and never believed beyond what it says.

use super::{
    super::tests::{at, bytes, key_of_schema_2, revision},
    *,
};

const DONE_KEY_2: &str = include_str!("../fixtures/done_key_2.hex");
const DONE_TOMBSTONE_2: &str = include_str!("../fixtures/done_tombstone_2.hex");
const DONE_GONE_2: &str = include_str!("../fixtures/done_gone_2.hex");
const KEY_2: &str = include_str!("../fixtures/key_2.hex");
const TOMBSTONE_2: &str = include_str!("../fixtures/tombstone_2.hex");

fn fingerprint() -> [u8; 32] {
    std::array::from_fn(|place| u8::try_from(place).unwrap())
}

fn time() -> Timestamp {
    at(1_700_000_001, 7)
}

fn decoded(bytes: &[u8]) -> Result<Done, Invalid> {
    decode_done(bytes, revision(300)).map(|(done, at)| {
        assert_eq!(at, time());
        done
    })
}

#[test]
fn mutations_of_schema_2_are_read_and_written_as_ever() {
    let key = Stored::Key(Box::new(key_of_schema_2()));
    for (fixture, record, result) in [
        (DONE_KEY_2, Some(bytes(KEY_2)), key),
        (
            DONE_TOMBSTONE_2,
            Some(bytes(TOMBSTONE_2)),
            Stored::Retired(revision(300)),
        ),
        (DONE_GONE_2, None, Stored::Gone),
    ] {
        let encoded = encode_done(fingerprint(), revision(300), time(), record);
        assert_eq!(encoded, bytes(fixture));
        let due = Done {
            fingerprint: fingerprint(),
            revision: revision(300),
            result,
        };
        assert_eq!(decoded(&encoded), Ok(due));
    }
}

fn altered(change: impl FnOnce(&mut stored::Done)) -> Vec<u8> {
    let mut message = stored::Done::decode(&*bytes(DONE_KEY_2)).unwrap();
    change(&mut message);
    message.encode_to_vec()
}

#[test]
fn a_mutation_that_cannot_be_read_is_not_taken_for_none() {
    for (bytes, why) in [
        (b"garbage".to_vec(), "not a mutation"),
        (Vec::new(), "schema 0"),
        (altered(|done| done.schema = 1), "schema 1"),
        (altered(|done| done.schema = 3), "schema 3"),
        (altered(|done| done.epoch = 0), "no revision"),
        (altered(|done| done.number = 0), "no revision"),
        (altered(|done| done.number = 301), "no revision"),
        (altered(|done| done.time = None), "time is missing"),
        (altered(|done| done.fingerprint.truncate(31)), "fingerprint"),
        (altered(|done| done.fingerprint.clear()), "fingerprint"),
    ] {
        let said = decoded(&bytes).unwrap_err().to_string();
        assert!(said.contains(why), "{said:?}, where {why:?} was due");
    }
}

#[test]
fn a_result_that_is_not_the_mutations_own_is_unreadable() {
    let of = |number| {
        let mut record = stored::Record::decode(&*bytes(KEY_2)).unwrap();
        record.number = number;
        Some(record.encode_to_vec())
    };
    let no_kind = {
        let mut record = stored::Record::decode(&*bytes(KEY_2)).unwrap();
        record.kind = None;
        record.encode_to_vec()
    };
    for record in [
        of(299),
        of(301),
        Some(no_kind),
        Some(b"garbage".to_vec()),
        Some(Vec::new()),
    ] {
        let done = decoded(&altered(|done| done.record = record)).unwrap();
        let unreadable = matches!(done.result, Stored::Unreadable(_));
        assert!(unreadable, "{:?}", done.result);
    }
}
