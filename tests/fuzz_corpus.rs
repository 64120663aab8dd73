//! Holds what is fuzzed to the messages of the corpus, and to made-up ones. The numbers are those of the project's list of bad
//! inputs.

#[path = "fuzz_corpus/made_up.rs"]
mod made_up;
#[path = "fuzz_corpus/named.rs"]
mod named;
#[path = "../fuzz/properties/ext_authz.rs"]
mod property;

use std::{fs, path::PathBuf};

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/ext_authz")
}

#[test]
fn all_that_is_promised_holds_of_the_corpus() {
    let mut count = 0;
    for entry in fs::read_dir(corpus()).expect("the corpus is there") {
        let path = entry.expect("an entry").path();
        let data = fs::read(&path).expect("a message");
        // A failure names the message.
        println!("{}", path.display());
        property::check(&data);
        count += 1;
    }
    assert!(count >= named::messages().len(), "{count} messages");
}

#[test]
fn the_named_messages_are_in_the_corpus_and_get_what_is_due() {
    for (name, status, message) in named::messages() {
        assert_eq!(property::status(&message), status, "{name}");
        let found = fs::read(corpus().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found, message, "{name} is not as it is in the corpus");
    }
}

/// As Envoy 1.40 sent them to a route with `workspace: default` and `permission: sms.send`, with a body, and with
/// `encode_raw_headers`.
#[test]
fn what_envoy_itself_sent_is_in_the_corpus_and_passes() {
    for name in ["envoy-1.40-headers", "envoy-1.40-raw-headers"] {
        let message =
            fs::read(corpus().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(property::status(&message), 200, "{name}");
    }
}

#[test]
#[ignore = "writes the named messages of the corpus anew"]
fn write_the_named_messages() {
    for (name, _, message) in named::messages() {
        fs::write(corpus().join(name), message).expect("it can be written");
    }
}
