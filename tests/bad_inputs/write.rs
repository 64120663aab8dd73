//! What may not be written: addresses, times, strings.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use portcullis::proto::v1::{
    CheckRequest, CreateKeyRequest, CreateWorkspaceRequest, ErrorReason, GetKeyRequest, Key,
    UpdateKeyRequest, Workspace, check_response::Reason,
};
use prost_types::{FieldMask, Timestamp};
use tonic::Code;

use crate::{
    support::{Clients, Server, assert_refused, check, clients, key, key_named, reason_of, update},
    unchanged,
};

/// A server with one good key, to write bad things to.
struct Scene {
    admin: Clients,
    gate: Clients,
    key: Key,
    _server: Server,
}

impl Scene {
    async fn new() -> Self {
        let server = Server::start();
        let (admin, gate) = clients(&server);
        let key = admin
            .create("first", &["sms.send"])
            .await
            .key
            .expect("a key");
        Self {
            admin,
            gate,
            key,
            _server: server,
        }
    }

    /// Asserts that no key can be created like this, and none changed to it.
    async fn refuses(&self, what: &str, key: Key, mask: &str, field: &str) {
        let before = self.gate.revision().await;
        let create = CreateKeyRequest {
            parent: "workspaces/default".into(),
            key: Some(key.clone()),
            ..CreateKeyRequest::default()
        };
        let created = self.admin.keys.clone().create_key(create).await;
        assert_refused(
            what,
            created,
            Code::InvalidArgument,
            ErrorReason::InvalidField,
            &[field],
        );

        let change = update(
            Key {
                name: self.key.name.clone(),
                ..key
            },
            &[mask],
        );
        let updated = self.admin.keys.clone().update_key(change).await;
        assert_refused(
            what,
            updated,
            Code::InvalidArgument,
            ErrorReason::InvalidField,
            &[field],
        );
        let get = GetKeyRequest {
            name: self.key.name.clone(),
        };
        let key = self
            .admin
            .keys
            .clone()
            .get_key(get)
            .await
            .expect("the key is there")
            .into_inner();
        assert_eq!(key, self.key, "{what}: a refused change changes nothing");
        unchanged(what, &self.gate, &before).await;
    }

    /// The list as stored, after Create and after Update.
    async fn accepts(&self, what: &str, list: &[&str], stored: &[&str]) -> String {
        let wanted = || Key {
            ip_allowlist: list.iter().map(ToString::to_string).collect(),
            ..key()
        };
        let issued = self.admin.create_key(wanted()).await;
        let created = issued.key.expect("a key");
        assert_eq!(plain(&created.ip_allowlist), stored, "{what}: created");
        let bare = self.admin.create("bare", &[]).await.key.expect("a key");
        let change = update(
            Key {
                name: bare.name,
                ..wanted()
            },
            &["ip_allowlist"],
        );
        let updated = self
            .admin
            .keys
            .clone()
            .update_key(change)
            .await
            .expect(what)
            .into_inner();
        assert_eq!(
            updated.ip_allowlist, created.ip_allowlist,
            "{what}: updated"
        );
        issued.token
    }
}

/// A single address may be shown with or without its full prefix length.
fn plain(list: &[String]) -> Vec<&str> {
    list.iter()
        .map(|entry| {
            let full = if entry.contains(':') { "/128" } else { "/32" };
            entry.strip_suffix(full).unwrap_or(entry)
        })
        .collect()
}

#[tokio::test]
async fn an_entry_that_is_no_address_is_named() {
    let scene = Scene::new().await;
    for (what, entry) in [
        ("row 58: octal", "010.0.0.1"),
        ("row 59: three parts", "1.2.3"),
        ("row 60: hexadecimal", "0x7f.1"),
        ("row 61: /33", "10.0.0.0/33"),
        ("row 61: /129", "2001:db8::/129"),
        ("row 62: /-1", "10.0.0.0/-1"),
        ("row 62: /+8", "10.0.0.0/+8"),
        ("row 62: a slash alone", "10.0.0.0/"),
        ("row 63: a zone", "fe80::1%eth0"),
        ("row 64: a port", "1.2.3.4:80"),
        ("row 64: brackets", "[2001:db8::1]"),
        ("row 65: nothing", ""),
        ("row 65: blank", "  "),
    ] {
        // In fourth place behind good ones, so that the index is told and not guessed.
        let list = ["10.0.0.1", "10.1.0.0/16", "2001:db8::/32", entry]
            .map(str::to_owned)
            .to_vec();
        let bad = Key {
            ip_allowlist: list,
            ..key()
        };
        scene
            .refuses(what, bad, "ip_allowlist", "key.ip_allowlist[3]")
            .await;
    }
    let many: Vec<String> = (0..1001)
        .map(|n| format!("10.0.{}.{}", n / 256, n % 256))
        .collect();
    let bad = Key {
        ip_allowlist: many.clone(),
        ..key()
    };
    scene
        .refuses(
            "row 66: 1,001 entries",
            bad,
            "ip_allowlist",
            "key.ip_allowlist*",
        )
        .await;
    let most = Key {
        ip_allowlist: many[..1000].to_vec(),
        ..key()
    };
    let key = scene.admin.create_key(most).await.key.expect("a key");
    assert_eq!(
        key.ip_allowlist.len(),
        1000,
        "row 66: 1,000 are not too many"
    );
}

#[tokio::test]
async fn a_list_is_stored_as_it_is_meant() {
    let scene = Scene::new().await;
    scene
        .accepts(
            "row 67: duplicates",
            &["10.0.0.1", "10.0.0.1", "10.0.0.1/32"],
            &["10.0.0.1"],
        )
        .await;
    let token = scene
        .accepts(
            "row 68: host bits",
            &["123.123.123.1/24"],
            &["123.123.123.0/24"],
        )
        .await;
    from(
        &scene,
        "row 68: inside",
        &token,
        "123.123.123.255",
        Reason::Ok,
    )
    .await;
    from(
        &scene,
        "row 68: outside",
        &token,
        "123.123.124.1",
        Reason::SourceDenied,
    )
    .await;
    from(&scene, "row 68: unknown", &token, "", Reason::SourceDenied).await;
    scene
        .accepts(
            "row 68: host bits of IPv6",
            &["2001:db8::1/32"],
            &["2001:db8::/32"],
        )
        .await;
    for (what, list) in [
        ("row 68a: IPv4's all", &["0.0.0.0/0"][..]),
        ("row 68a: both", &["0.0.0.0/0", "::/0"]),
        ("row 68a: with host bits", &["1.2.3.4/0"]),
    ] {
        let token = scene.accepts(what, list, &[]).await;
        from(&scene, what, &token, "", Reason::Ok).await;
        from(&scene, what, &token, "2001:db8::1", Reason::Ok).await;
    }

    let token = scene
        .accepts(
            "row 69: IPv4 in IPv6 is IPv4",
            &["::ffff:10.0.0.1"],
            &["10.0.0.1"],
        )
        .await;
    let plain = scene
        .accepts("row 69: IPv4", &["10.0.0.1"], &["10.0.0.1"])
        .await;
    for token in [token, plain] {
        for address in ["10.0.0.1", "::ffff:10.0.0.1", "::ffff:a00:1"] {
            from(&scene, "row 69: on both sides", &token, address, Reason::Ok).await;
        }
        from(
            &scene,
            "row 69: another",
            &token,
            "::ffff:10.0.0.2",
            Reason::SourceDenied,
        )
        .await;
    }
}

async fn from(scene: &Scene, what: &str, token: &str, address: &str, reason: Reason) {
    let request = CheckRequest {
        source_address: address.into(),
        ..check(token)
    };
    assert_eq!(
        scene.gate.ask(request).await.reason(),
        reason,
        "{what}: from {address:?}"
    );
}

#[tokio::test]
async fn a_time_that_is_none_or_is_over_is_refused() {
    let scene = Scene::new().await;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
        .cast_signed();
    for (what, seconds, nanos) in [
        ("row 70: year 10000", 253_402_300_800, 0),
        ("row 70: the end of the number", i64::MAX, 0),
        ("row 71: nanos -1", now + 3600, -1),
        ("row 72: nanos 10^9", now + 3600, 1_000_000_000),
        ("row 73: the past", now - 60, 0),
        ("row 73: 1970", 0, 0),
        ("row 73: before year 1", -62_135_596_801, 0),
        ("row 73: the start of the number", i64::MIN, 0),
    ] {
        let bad = Key {
            expire_time: Some(Timestamp { seconds, nanos }),
            ..key()
        };
        scene
            .refuses(what, bad, "expire_time", "key.expire_time")
            .await;
    }
    // The last second of the year 9999 is a time.
    let last = Timestamp {
        seconds: 253_402_300_799,
        nanos: 999_999_999,
    };
    let made = scene
        .admin
        .create_key(Key {
            expire_time: Some(last),
            ..key()
        })
        .await
        .key
        .expect("a key");
    assert_eq!(made.expire_time, Some(last), "row 70: year 9999");
}

#[tokio::test]
async fn text_that_deceives_its_reader_is_refused() {
    let scene = Scene::new().await;
    for (what, text) in [
        ("row 91: a name of 1 MiB", "n".repeat(1 << 20)),
        ("row 91: a name of 129 characters", "n".repeat(129)),
        ("row 92: U+202E", "safe\u{202e}gpj.exe".into()),
        ("row 92: U+2066", "safe\u{2066}gpj.exe".into()),
        ("row 93: ANSI escape", "\u{1b}[31mred".into()),
        ("row 93: C1 control", "\u{9b}31mred".into()),
        ("row 93: line feed", "one\ntwo".into()),
        ("row 94: NUL", "nul\0".into()),
    ] {
        let bad = Key {
            display_name: text.clone(),
            ..key()
        };
        scene
            .refuses(what, bad, "display_name", "key.display_name")
            .await;
        if what != "row 91: a name of 129 characters" {
            let bad = Key {
                labels: BTreeMap::from([("team".into(), text.clone())]),
                ..key()
            };
            scene.refuses(what, bad, "labels", "key.labels*").await;
        }
        if !what.ends_with("characters") && !what.ends_with("line feed") {
            let bad = Key {
                description: text.clone(),
                ..key()
            };
            scene
                .refuses(what, bad, "description", "key.description")
                .await;
        }
        let workspace = Workspace {
            display_name: text,
            ..Workspace::default()
        };
        let create = CreateWorkspaceRequest {
            workspace_id: "mine".into(),
            workspace: Some(workspace),
            ..CreateWorkspaceRequest::default()
        };
        let created = scene
            .admin
            .workspaces
            .clone()
            .create_workspace(create)
            .await;
        let field = "workspace.display_name";
        assert_refused(
            what,
            created,
            Code::InvalidArgument,
            ErrorReason::InvalidField,
            &[field],
        );
    }

    let most = Key {
        display_name: "ü".repeat(128),
        description: "a\n\tb".into(),
        ..key()
    };
    let made = scene
        .admin
        .create_key(most.clone())
        .await
        .key
        .expect("a key");
    assert_eq!(
        made.display_name, most.display_name,
        "row 91: characters are counted, not bytes"
    );
    assert_eq!(
        made.description, most.description,
        "line feeds and tabs may stand in a description"
    );
}

#[tokio::test]
async fn labels_are_bounded_and_named_by_rule() {
    let scene = Scene::new().await;
    let labels = |count: usize| {
        (0..count)
            .map(|n| (format!("l{n}"), "v".to_owned()))
            .collect()
    };
    let bad = Key {
        labels: labels(100_000),
        ..key()
    };
    scene
        .refuses("row 95: 100,000 labels", bad, "labels", "key.labels*")
        .await;
    let bad = Key {
        labels: labels(65),
        ..key()
    };
    scene
        .refuses("row 95: 65 labels", bad, "labels", "key.labels*")
        .await;
    let made = scene
        .admin
        .create_key(Key {
            labels: labels(64),
            ..key()
        })
        .await
        .key
        .expect("a key");
    assert_eq!(made.labels.len(), 64, "row 95: 64 are not too many");
    for name in ["", "Team", "1st", "a b", "a/b", &"n".repeat(64)] {
        let bad = Key {
            labels: BTreeMap::from([(name.to_owned(), "v".to_owned())]),
            ..key()
        };
        scene
            .refuses("a label's name", bad, "labels", "key.labels*")
            .await;
    }
    for name in [
        "",
        "SMS",
        "sms send",
        "*.send",
        ".",
        "1.x",
        &"p".repeat(129),
    ] {
        let bad = key_named("", &["sms.send", name]);
        scene
            .refuses(
                "a permission's name",
                bad,
                "permissions",
                "key.permissions*",
            )
            .await;
    }
    let many: Vec<String> = (0..101).map(|n| format!("p{n}")).collect();
    let bad = Key {
        permissions: many,
        ..key()
    };
    scene
        .refuses("101 permissions", bad, "permissions", "key.permissions*")
        .await;
}

#[tokio::test]
async fn a_workspace_has_an_id_that_can_be_written_down() {
    let scene = Scene::new().await;
    for (what, id) in [
        ("row 96: empty", ""),
        ("row 96: blank", " "),
        ("row 96: a capital", "Mine"),
        ("row 96: a digit first", "1st"),
        ("row 96: a slash", "a/b"),
        ("row 96: a wildcard", "-"),
        ("row 96: 64 characters", &"w".repeat(64)),
    ] {
        let create = CreateWorkspaceRequest {
            workspace_id: id.into(),
            workspace: None,
            ..CreateWorkspaceRequest::default()
        };
        let created = scene
            .admin
            .workspaces
            .clone()
            .create_workspace(create)
            .await;
        assert_refused(
            what,
            created,
            Code::InvalidArgument,
            ErrorReason::InvalidField,
            &["workspace_id"],
        );
    }
    for prefix in ["PC", "1pc", "p_c", &"p".repeat(17)] {
        let workspace = Workspace {
            token_prefix: prefix.into(),
            ..Workspace::default()
        };
        let create = CreateWorkspaceRequest {
            workspace_id: "mine".into(),
            workspace: Some(workspace),
            ..CreateWorkspaceRequest::default()
        };
        let created = scene
            .admin
            .workspaces
            .clone()
            .create_workspace(create)
            .await;
        let field = "workspace.token_prefix";
        assert_refused(
            prefix,
            created,
            Code::InvalidArgument,
            ErrorReason::InvalidField,
            &[field],
        );
    }
    for taken in ["default", "system"] {
        let create = CreateWorkspaceRequest {
            workspace_id: taken.into(),
            workspace: None,
            ..CreateWorkspaceRequest::default()
        };
        let created = scene
            .admin
            .workspaces
            .clone()
            .create_workspace(create)
            .await;
        assert_refused(
            taken,
            created,
            Code::AlreadyExists,
            ErrorReason::ResourceExists,
            &[],
        );
    }
}

#[tokio::test]
async fn display_names_may_repeat() {
    let scene = Scene::new().await;
    let (one, two) = (
        scene.admin.create("same", &[]).await,
        scene.admin.create("same", &[]).await,
    );
    assert_ne!(
        one.key.expect("a key").name,
        two.key.expect("a key").name,
        "row 97: two keys of one name"
    );
    // What lies a minute ahead is no past: nothing is rounded down.
    let soon = SystemTime::now() + Duration::from_mins(1);
    let expire_time = Some(Timestamp::from(soon));
    assert!(
        scene
            .admin
            .create_key(Key {
                expire_time,
                ..key_named("same", &[])
            })
            .await
            .key
            .is_some()
    );
}

/// Clients drop answers whose metadata grows past some KiB, and with it the reason.
#[tokio::test]
async fn a_refusal_stays_small_however_much_is_wrong() {
    let server = Server::start();
    let admin = Clients::root(&server);
    let labels = (0..64).map(|n| (format!("Bad {n} {}", "x".repeat(500)), String::new()));
    let many_labels = Key {
        labels: labels.collect(),
        ..key()
    };
    let many_permissions = key_named("", &["BAD"; 100]);
    for key in [many_labels, many_permissions] {
        let parent = "workspaces/default".to_owned();
        let request = CreateKeyRequest {
            parent,
            key: Some(key),
            ..CreateKeyRequest::default()
        };
        let status = admin
            .keys
            .clone()
            .create_key(request)
            .await
            .expect_err("refused");
        assert_eq!(reason_of(&status), ErrorReason::InvalidField);
        assert!(
            status.message().len() + status.details().len() < 6_000,
            "{status:?}"
        );
    }
    let name = admin.create("first", &[]).await.key.expect("a key").name;
    let request = UpdateKeyRequest {
        key: Some(Key { name, ..key() }),
        update_mask: Some(FieldMask {
            paths: vec!["y".repeat(20_000); 100],
        }),
        ..UpdateKeyRequest::default()
    };
    let status = admin
        .keys
        .clone()
        .update_key(request)
        .await
        .expect_err("refused");
    assert_eq!(reason_of(&status), ErrorReason::InvalidField);
    assert!(
        status.message().len() + status.details().len() < 6_000,
        "{status:?}"
    );
}
