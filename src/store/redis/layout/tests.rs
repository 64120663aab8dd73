//! Names are for ever: what stands in Redis is found under them.

use super::*;

#[test]
fn keys_and_channels_are_called_as_ever_and_share_a_slot() {
    let layout = Layout::new("fleet.1");
    let names = [
        layout.ctl(),
        layout.log(),
        layout.audit(),
        layout.quiet(),
        layout.members(),
        layout.bucket(255),
        layout.hints(),
        layout.look("ab"),
    ];
    let due = [
        "ctl", "log", "audit", "quiet", "members", "rec:255", "hints", "look:ab",
    ];
    assert_eq!(names.map(|name| name.replacen("{fleet.1:0}:", "", 1)), due);
    let done = layout.done(&[0xa5; 32]);
    assert_eq!(done, format!("{{fleet.1:0}}:done:{}", "a5".repeat(32)));
}

#[test]
fn a_row_stands_in_the_bucket_that_it_always_stood_in() {
    for (row, bucket) in [(&b"wdefault"[..], 65), (b"wsystem", 243)] {
        assert_eq!(bucket_of(row, 256), bucket, "{row:?}");
    }
    assert_eq!(bucket_of(b"wsystem", 1), 0);
}

#[test]
fn an_id_is_a_revisions_or_none() {
    let revision = Revision {
        epoch: 2,
        number: 42,
    };
    assert_eq!(stream_id(revision), "2-42");
    assert_eq!(revision_of_id("2-42"), Some(revision));
    for none in ["", "2", "2-", "x-1", "1700000000000-0", "1-999999999999999"] {
        assert_eq!(revision_of_id(none), None, "{none}");
    }
}

#[test]
fn a_value_begins_with_what_scripts_compare() {
    let revision = Revision {
        epoch: 2,
        number: 42,
    };
    let value = with_revision(revision, b"a record");
    assert_eq!(value, b"2.42 a record");
    assert_eq!(split_value(&value), Some(("2.42", &b"a record"[..])));
    assert_eq!(split_value(b"2.42"), None);
    assert_eq!(split_value(b"\xff a"), None);
}
