//! Looking at a fleet, and waiting for it.

use tonic::Code;

use super::*;
use crate::{
    proto::v1::{ErrorReason, Replica},
    status::status_with,
};

fn replica(name: &str) -> Replica {
    Replica {
        name: name.into(),
        incarnation: "0123456789abcdef0123456789abcdef".into(),
        applied_revision: "1.42".into(),
        store_durability: "appendfsync always".into(),
        ..Replica::default()
    }
}

#[tokio::test]
async fn a_fleets_status_is_a_line_a_replica() {
    let world = World::new();
    let left = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    world.fake.lock().replicas = vec![
        replica("alone"),
        Replica {
            lag: 3,
            lease_left: left(14, 260_000_000),
            ..replica("blue\u{1b}")
        },
        Replica {
            lease_left: left(0, 0),
            ..replica("fenced")
        },
    ];
    let ran = world.run(&["fleet", "status"]).await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert_eq!(
        ran.out,
        "\
NAME    INCARNATION  APPLIED  LAG  LEASE LEFT  DURABILITY
alone   01234567     1.42     0    no end      appendfsync always
blue\u{fffd}   01234567     1.42     3    14.2s       appendfsync always
fenced  01234567     1.42     0    none        appendfsync always
"
    );
    let ran = world.run(&["fleet", "status", "-o", "json"]).await;
    let answer: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(answer["replicas"][1]["lag"], "3");
    assert_eq!(answer["replicas"][1]["leaseLeft"], "14.260s");
    assert_eq!(answer["replicas"][0].get("leaseLeft"), None);
    assert_eq!(
        answer["replicas"][0]["incarnation"], "0123456789abcdef0123456789abcdef",
        "scripts get all of it"
    );
}

#[tokio::test]
async fn a_revision_is_waited_for_as_long_as_is_said() {
    let world = World::new();
    for (arguments, timeout) in [
        (&["fleet", "await", "1.42"][..], "30"),
        (&["fleet", "await", "1.42", "--timeout", "5"], "5"),
        (&["fleet", "await", "1.42", "--timeout=45s"], "45"),
    ] {
        let ran = world.run(arguments).await;
        assert_eq!(ran.status, 0, "{}", ran.err);
        assert_eq!(ran.out, "revision 1.42 is in force on every replica\n");
        let sent = world.fake.lock().timeouts.pop().unwrap();
        let digits = sent.trim_end_matches(|c: char| !c.is_ascii_digit());
        assert!(digits.starts_with(timeout), "{sent}");
    }
    for bad in ["42", "1.", "latest", ""] {
        assert_eq!(world.run(&["fleet", "await", bad]).await.status, 2, "{bad}");
    }
}

#[tokio::test]
async fn a_fleet_that_is_not_there_yet_is_an_error_that_says_what_to_do() {
    let world = World::new();
    let metadata = [
        ("revision", "1.42".to_owned()),
        ("waiting_for", "blue".to_owned()),
    ];
    let late = status_with(
        Code::Unavailable,
        ErrorReason::CommittedNotFleetWide,
        "committed as 1.42, but not in force on every replica; waiting for blue",
        metadata,
    );
    world.fake.lock().refuse = Some(late);
    for command in [
        &["fleet", "await", "1.42"][..],
        &["key", "disable", KEY_ID, "--yes"],
    ] {
        let ran = world.run(command).await;
        assert_eq!(ran.status, 1, "{}", ran.err);
        for part in ["waiting for blue", "`fleet await 1.42`", "`fleet status`"] {
            assert!(ran.err.contains(part), "{part} is not in {}", ran.err);
        }
    }
}

#[test]
fn a_redis_password_in_the_wrong_place_is_not_repeated() {
    for arguments in [
        &["redis://app:hunter2@h"][..],
        &["serve", "redis://app:hunter2@h"],
        &["serve", "rediss://:hunter2", "--redis", "redis://h"],
        &["--redis=redis://app:hunter2@h"],
        &["--redis", "redis://app:hunter2@h"],
        &["serve", "--redis-pasword", "hunter2"],
        &["serve", "--redis-password=hunter2"],
        &["serve", "--reds", "redis://:hunter2@h"],
        &[
            "serve",
            "--redis",
            "redis://:hunter2@h",
            "--redis",
            "redis://:hunter2@h",
        ],
        &["config", "redis+unix://hunter2"],
        &["key", "get", "--redis", "redis://:hunter2@h"],
    ] {
        let typed = ["portcullis"].iter().chain(arguments);
        let typed: Vec<OsString> = typed.map(OsString::from).collect();
        let error = parse(&typed).unwrap_err().to_string();
        let said = key_ref::without_secrets(&error);
        assert!(!said.contains("hunter2"), "{arguments:?}: {said}");
    }
}
