//! What wakes, and who is told.

use super::*;
use crate::config::{RedisAddress, RedisDurability, RedisSettings};

const STORE: &str = "00112233445566778899aabbccddeeff";
const OWN: &str = "0123456789abcdef0123456789abcdef";

fn core() -> Core {
    let settings = RedisSettings {
        address: RedisAddress::Tcp("127.0.0.1".to_owned(), 1),
        user: None,
        password: None,
        database: 0,
        namespace: "portcullis".to_owned(),
        durability: RedisDurability::Assume,
    };
    let own = Own {
        name: "own".to_owned(),
        incarnation: OWN.to_owned(),
        durability: "assumed",
    };
    let dialer = Arc::new(Dialer::new(&settings).unwrap());
    Core::new(Layout::new("portcullis"), dialer, own)
}

fn revision(number: u64) -> Revision {
    Revision { epoch: 1, number }
}

#[test]
fn only_a_hint_of_the_adopted_store_wakes() {
    let core = core();
    let mut wakes = core.signals.wake.subscribe();
    let mut acknowledged = core.acknowledgements();
    let mut heard = |channel: &str, message: &[u8]| {
        let message = Heard::Message(channel.as_bytes().to_vec(), message.to_vec());
        core.signals.hear(message);
        let changed = (
            wakes.has_changed().unwrap(),
            acknowledged.has_changed().unwrap(),
        );
        wakes.mark_unchanged();
        acknowledged.mark_unchanged();
        changed
    };
    let hints = "{portcullis:0}:hints";
    let good = format!("{STORE} 1 42");
    assert_eq!(
        heard(hints, good.as_bytes()),
        (false, false),
        "none adopted"
    );
    core.adopt(History {
        store: STORE.to_owned(),
        epoch: 1,
        server: "a:b".to_owned(),
    });
    // Adopting wakes as well.
    heard("", b"");
    assert_eq!(heard(hints, good.as_bytes()), (true, false));
    for other in [
        "",
        "garbage",
        "0123456789abcdef0123456789abcdef 1 42",
        &format!("{STORE} 1"),
        &format!("{STORE} 1 42 "),
        &format!("{STORE} 1 042"),
        &format!("{STORE} 1 x"),
        &format!(" {STORE} 1 42"),
    ] {
        assert_eq!(heard(hints, other.as_bytes()), (false, false), "{other:?}");
    }
    assert_eq!(heard(hints, b"\xff"), (false, false));
    let look = format!("{{portcullis:0}}:look:{OWN}");
    assert_eq!(heard(&look, b"whatever"), (false, true));
}

/// Each writer is told once everything that it waits for may be in force, and until then again.
#[test]
fn writers_are_told_of_what_they_wrote_and_not_before() {
    let core = core();
    let told = |applied| {
        let told = core.told_by(revision(applied));
        core.forget_told(revision(applied));
        told
    };
    for (writer, number) in [("a", 1), ("b", 2), (OWN, 3), ("a", 4)] {
        core.passed_on(writer.to_owned(), revision(number));
    }
    assert_eq!(told(0), [""; 0]);
    assert_eq!(told(1), ["a"]);
    assert_eq!(told(1), [""; 0], "told already");
    assert_eq!(told(3), ["a", "b"], "never itself");
    assert_eq!(told(4), ["a"]);
    assert_eq!(told(9), [""; 0]);
    assert!(lock(&core.waiting).is_empty());
}
