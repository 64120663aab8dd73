//! `admin` and `root`.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::proto::v1::{Key, key::State};

#[tokio::test]
async fn an_admin_credential_holds_its_roles_permissions() {
    let world = World::new();
    for (arguments, permissions) in [
        (
            &["--role", "operator"][..],
            r#"["*:keys.read", "*:keys.write", "*:audit.read", "*:fleet.read"]"#,
        ),
        (
            &["--role", "developer", "--workspace", "acme"],
            r#"["acme:keys.own"]"#,
        ),
        (
            &["--role", "checker", "-w", "workspaces/acme"],
            r#"["acme:check"]"#,
        ),
    ] {
        let ran = world
            .run(&[&["admin", "create", "--name", "night"], arguments].concat())
            .await;
        assert_eq!(ran.status, 0, "{arguments:?}: {}", ran.err);
        assert_eq!(ran.out.matches(&token()).count(), 1);
        let call = world.calls().remove(0);
        for part in [
            r#"parent: "workspaces/system""#,
            r#"display_name: "night""#,
            &format!("permissions: {permissions}"),
        ] {
            assert!(call.contains(part), "{part} is not in {call}");
        }
    }
    let ran = world
        .run(&[
            "admin",
            "create",
            "--name",
            "n",
            "--role",
            "auditor",
            "--ip",
            "192.0.2.1,::1",
            "--label",
            "team=a",
            "--expires",
            "2026-12-31",
            "--request-id",
            "r1",
        ])
        .await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    let call = world.calls().remove(0);
    for part in [
        r#"ip_allowlist: ["192.0.2.1", "::1"]"#,
        r#"labels: {"team": "a"}"#,
        "seconds: 1798757999",
        r#"request_id: "r1""#,
    ] {
        assert!(call.contains(part), "{part} is not in {call}");
    }
}

#[tokio::test]
async fn a_role_is_one_of_those_documented() {
    let world = World::new();
    for arguments in [
        &["create", "--name", "n"][..],
        &["create", "--role", "admin"],
        &["create", "--role", "admin", "--name", ""],
        &["create", "--role", "root", "--name", "n"],
        &["create", "--role", "Admin", "--name", "n"],
        &["create", "--role", "admin", "--name", "n", "-w", "Acme"],
        &["create", "--role", "admin", "--name", "n", "-w", ""],
        &["create", "--role", "admin", "--name", "n", "--ip", "host"],
        &["roles", "-w", "a:b"],
    ] {
        let ran = world.run(&[&["admin"], arguments].concat()).await;
        assert_eq!(ran.status, 2, "{arguments:?}: {}", ran.err);
    }
    let ran = world.run(&["admin", "roles", "-w", "acme"]).await;
    for part in ["admin  ", "auditor", "acme:keys.own", "acme:audit.read"] {
        assert!(ran.out.contains(part), "{part} is not in {}", ran.out);
    }
    let ran = world.run(&["admin", "roles", "-o", "json"]).await;
    let roles: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        roles["roles"][4]["permissions"],
        serde_json::json!(["*:check"])
    );
    assert!(world.calls().is_empty());
}

fn root(id: &str, name: &str) -> Key {
    Key {
        name: format!("workspaces/system/keys/{id}"),
        key_id: id.into(),
        display_name: name.into(),
        state: State::Active.into(),
        permissions: vec!["*".into()],
        etag: "r1".into(),
        ..Key::default()
    }
}

/// Those that are no root in force, each for one reason.
fn near_roots() -> Vec<Key> {
    let id = |n: u8| format!("{n:0>22}");
    vec![
        Key {
            state: State::Disabled.into(),
            ..root(&id(1), "disabled")
        },
        Key {
            permissions: vec!["*:keys.read".into()],
            ..root(&id(2), "lesser")
        },
        Key {
            ip_allowlist: vec!["192.0.2.1/32".into()],
            ..root(&id(3), "limited")
        },
        Key {
            expire_time: Some(prost_types::Timestamp::default()),
            ..root(&id(4), "ending")
        },
        Key {
            state: State::Archived.into(),
            ..root(&id(5), "archived")
        },
    ]
}

fn token_file(world: &World) -> std::path::PathBuf {
    world.data_dir().join("root.token")
}

#[tokio::test]
async fn the_one_root_gets_a_new_token_in_its_file() {
    let mut world = World::new();
    fs::write(token_file(&world), "pc_old\n").unwrap();
    world.fake.lock().key_pages = vec![near_roots(), vec![], vec![root(KEY_ID, "root")]];
    world.fake.lock().key = root(KEY_ID, "root");
    assert_eq!(world.run(&["root", "reset"]).await.status, 2);
    assert!(world.calls().is_empty());
    world.answers = Some("n\n");
    assert_eq!(world.run(&["root", "reset"]).await.status, 1);
    assert!(
        world
            .calls()
            .iter()
            .all(|call| call.contains("ListKeysRequest"))
    );
    assert_eq!(fs::read_to_string(token_file(&world)).unwrap(), "pc_old\n");
    world.answers = Some("y\n");
    let ran = world.run(&["root", "reset"]).await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    let call = world.calls().pop().unwrap();
    assert!(
        call.contains(&format!(
            r#"ResetSecretRequest {{ name: "workspaces/system/keys/{KEY_ID}""#
        )) && call.contains(r#"etag: "r1""#)
            && call.starts_with("- "),
        "{call}"
    );
    let path = token_file(&world);
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", token()));
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(ran.out.contains(path.to_str().unwrap()), "{}", ran.out);
    let secret = token().rsplit('_').next().unwrap().to_owned();
    assert!(!ran.out.contains(&secret) && !ran.err.contains(&secret));
    let ran = world.run(&["root", "reset", "--yes", "-o", "json"]).await;
    let key: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(key["keyId"], KEY_ID);
    assert!(
        ran.err.contains("root.token") && !ran.out.contains(&secret),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn without_a_root_one_is_created() {
    let mut world = World::new();
    world.fake.lock().key_pages = vec![near_roots()];
    let ran = world.run(&["root", "reset", "--yes"]).await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    let call = world.calls().pop().unwrap();
    for part in [
        r#"CreateKeyRequest { parent: "workspaces/system""#,
        r#"display_name: "root""#,
        r#"permissions: ["*"]"#,
        "ip_allowlist: []",
        "expire_time: None",
    ] {
        assert!(call.contains(part), "{part} is not in {call}");
    }
    assert_eq!(
        fs::read_to_string(token_file(&world)).unwrap(),
        format!("{}\n", token())
    );
    world.answers = Some("no\n");
    assert_eq!(world.run(&["root", "reset"]).await.status, 1);
    assert!(
        world
            .calls()
            .iter()
            .all(|call| call.contains("ListKeysRequest"))
    );
}

#[tokio::test]
async fn of_several_roots_one_has_to_be_named() {
    let world = World::new();
    let other = "2".repeat(22);
    world.fake.lock().key_pages = vec![
        vec![root(KEY_ID, "first\u{1b}"), root(&other, "second")],
        near_roots(),
    ];
    let ran = world.run(&["root", "reset", "--yes"]).await;
    assert_eq!(ran.status, 2);
    for part in ["2 roots", KEY_ID, "first\u{fffd}", &other, "second"] {
        assert!(ran.err.contains(part), "{part} is not in {}", ran.err);
    }
    assert!(!ran.err.contains("disabled"), "{}", ran.err);
    for (named, says) in [
        ("0".repeat(21) + "1", "no root in force"),
        ("3".repeat(22), "no root in force"),
    ] {
        let ran = world.run(&["root", "reset", &named, "--yes"]).await;
        assert_eq!(ran.status, 1);
        assert!(
            ran.err.contains(says) && ran.err.contains(&other),
            "{}",
            ran.err
        );
    }
    assert!(
        world
            .calls()
            .iter()
            .all(|call| call.contains("ListKeysRequest"))
    );
    for named in [other.clone(), format!("workspaces/system/keys/{other}")] {
        let ran = world.run(&["root", "reset", &named, "--yes"]).await;
        assert_eq!(ran.status, 0, "{}", ran.err);
        assert!(world.calls().pop().unwrap().contains(&other));
    }
    let elsewhere = format!("workspaces/default/keys/{KEY_ID}");
    for named in ["root", elsewhere.as_str()] {
        assert_eq!(
            world.run(&["root", "reset", named, "--yes"]).await.status,
            2
        );
    }
}

#[tokio::test]
async fn a_token_that_cannot_be_kept_is_shown() {
    let world = World::new();
    world.fake.lock().key_pages = vec![vec![root(KEY_ID, "root")]];
    world.fake.lock().key = root(KEY_ID, "root");
    fs::create_dir(token_file(&world)).unwrap();
    let ran = world.run(&["root", "reset", "--yes"]).await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert_eq!(ran.out.matches(&token()).count(), 1);
    assert!(
        ran.err.contains("warning") && ran.err.contains("this once"),
        "{}",
        ran.err
    );
    let names = fs::read_dir(world.data_dir()).unwrap();
    assert!(names.into_iter().all(|entry| {
        !entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .contains("partial")
    }));
}

#[tokio::test]
async fn a_root_is_reset_over_the_admin_socket_alone() {
    let mut world = World::new();
    world.fake.lock().key_pages = vec![vec![root(KEY_ID, "root")]];
    let address = world.fake.on_tcp().await.to_string();
    for (arguments, says) in [
        (&["--server", &address][..], "leave out --server"),
        (&["--server", "unix:/tmp/other.sock"], "admin.sock"),
        (&["--token-file", "/tmp/token"], "without a credential"),
    ] {
        let ran = world
            .run(&[&["root", "reset", "--yes"], arguments].concat())
            .await;
        assert_eq!(ran.status, 2, "{arguments:?}: {}", ran.err);
        assert!(
            ran.err.contains("admin socket") && ran.err.contains(says),
            "{}",
            ran.err
        );
    }
    for (name, value) in [
        ("PORTCULLIS_SERVER", address.as_str()),
        ("PORTCULLIS_TOKEN", "pc_variable"),
        ("PORTCULLIS_TOKEN_FILE", "/tmp/token"),
    ] {
        world.env = vec![(name, value.into())];
        let ran = world.run(&["root", "reset", "--yes"]).await;
        assert_eq!(ran.status, 2, "{name}: {}", ran.err);
        assert!(ran.err.contains("admin socket"), "{}", ran.err);
    }
    assert!(world.calls().is_empty());
}

/// Else a root is lost whenever a replica is.
#[tokio::test]
async fn the_token_of_a_root_that_is_not_in_force_everywhere_is_kept() {
    let world = World::new();
    world.fake.lock().key_pages = vec![vec![root(KEY_ID, "root")]];
    world.fake.lock().unsettled = Some(Status::unavailable("not everywhere"));
    let ran = world.run(&["root", "reset", "--yes"]).await;
    assert_eq!(ran.status, 1, "{}", ran.err);
    assert!(ran.err.contains("not everywhere"), "{}", ran.err);
    let kept = std::fs::read_to_string(world.data_dir().join("root.token")).unwrap();
    assert_eq!(kept.trim(), token());
}
