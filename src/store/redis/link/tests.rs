//! What errors say, and what they say nothing of.

use super::*;

#[test]
fn no_message_holds_the_password() {
    let password = Password::new("correct-horse".to_owned());
    let text = "AUTH failed for correct-horse at redis://u:correct-horse@host".to_owned();
    let said = without(Some(&password), text.clone());
    assert_eq!(said, "AUTH failed for *** at redis://u:***@host");
    assert_eq!(without(None, text.clone()), text);
    assert_eq!(
        without(Some(&Password::new(String::new())), text.clone()),
        text
    );
}

/// An error that a script raised half-way must not be taken for one that came before it.
#[test]
fn only_what_comes_before_a_script_is_taken_for_nothing_written() {
    let refused = |code: &str, why: &str| Failure::Refused {
        code: code.to_owned(),
        why: why.to_owned(),
    };
    for before in [
        Failure::NotSent(String::new()),
        refused("OOM", "OOM: allow-oom flag is not set on the script"),
        refused(
            "NOPERM",
            "NOPERM: this user has no permissions to run the 'evalsha' command",
        ),
        refused(
            "READONLY",
            "READONLY: Can not run script with write flag on readonly replica.",
        ),
    ] {
        assert!(before.is_before_anything(), "{before:?}");
    }
    for unknown in [
        Failure::Lost(String::new()),
        refused("ERR", "ERR: unknown"),
        refused("WRONGTYPE", "WRONGTYPE: wrong kind of value"),
        refused(
            "NOPERM",
            "NOPERM: no permissions script: 1f, on @user_script:12.",
        ),
        refused("", ""),
    ] {
        assert!(!unknown.is_before_anything(), "{unknown:?}");
    }
}
