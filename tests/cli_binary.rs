//! The program as it is called: exit statuses, streams, and what reaches them.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// The program in a directory of its own, with no setting from outside and no terminal.
fn portcullis(dir: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command
        .args(arguments)
        .current_dir(dir.path())
        .env_clear()
        .stdin(Stdio::null());
    command
}

#[track_caller]
fn ended(mut command: Command, status: i32) -> (String, String) {
    let output = command.output().expect("the program runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert_eq!(
        output.status.code(),
        Some(status),
        "stdout: {out}\nstderr: {err}"
    );
    (out, err)
}

#[test]
fn config_check_shows_each_setting_with_its_source() {
    let dir = TempDir::new().unwrap();
    fs::write(
        dir.path().join("p.toml"),
        "log-format = \"json\"\nname = \"file\"\n",
    )
    .unwrap();
    let mut command = portcullis(
        &dir,
        &[
            "config",
            "check",
            "--config",
            "p.toml",
            "--gate=unix:gate.sock",
        ],
    );
    command.env("PORTCULLIS_NAME", "variable");
    let (out, err) = ended(command, 0);
    let rows: Vec<Vec<&str>> = out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    for row in [
        ["gate", "unix:gate.sock", "--gate"],
        ["name", "variable", "PORTCULLIS_NAME"],
        ["log-format", "json", "p.toml:1"],
        ["admin", "127.0.0.1:7701", "default"],
    ] {
        assert!(rows.contains(&row.to_vec()), "{row:?} is not in\n{out}");
    }
    assert!(err.is_empty(), "{err}");
}

/// The shipped file sets every setting that a file may set, to what it would be without the file; those of a fleet, of TLS, of
/// a Unix socket and of Envoy stand in it as comments, because they say nothing without a Redis, certificates, a socket or
/// an Envoy.
#[test]
fn the_shipped_settings_are_the_defaults() {
    fn stands_alone(name: &str) -> bool {
        let of_tls = ["-cert", "-key", "-client-ca"]
            .iter()
            .any(|end| name.ends_with(end));
        let of_a_fleet = name.starts_with("redis") || matches!(name, "namespace" | "lease");
        let of_envoy = name.starts_with("envoy.");
        !(of_tls || of_a_fleet || of_envoy || matches!(name, "gate-mode" | "gate-group"))
    }

    let dir = TempDir::new().unwrap();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/portcullis.toml");
    let (all, _) = ended(portcullis(&dir, &["config", "check"]), 0);
    let text = fs::read_to_string(file).unwrap();
    for row in all.lines().skip(1) {
        let name = row.split_whitespace().next().unwrap_or_default();
        let of_table = name.starts_with("envoy.");
        if !stands_alone(name) && !of_table && name != "redis-password" {
            assert!(
                text.contains(&format!("\n# {name} = \"")),
                "{name} is not in the file"
            );
        }
        if let Some(field) = name
            .strip_prefix("envoy.")
            .filter(|field| *field != "routes")
        {
            assert!(
                text.contains(&format!("\n# {field} = ")),
                "{name} is not in the file"
            );
        }
    }
    let values = |arguments: &[&str]| -> Vec<(String, String, bool)> {
        let (shown, _) = ended(portcullis(&dir, arguments), 0);
        let rows = shown.lines().skip(1).map(|line| {
            let mut columns = line.split_whitespace().map(str::to_owned);
            let mut column = || columns.next().unwrap_or_default();
            let (name, value, from) = (column(), column(), column());
            (name, value, from.starts_with(file))
        });
        let apart = ["name", "root-token", "redis-password"];
        rows.filter(|(name, ..)| !apart.contains(&name.as_str()) && stands_alone(name))
            .collect()
    };
    let shipped = values(&["config", "check", "--config", file]);
    let defaults = values(&["config", "check"]);
    assert_eq!(shipped.len(), defaults.len());
    for (shipped, default) in shipped.into_iter().zip(defaults) {
        assert_eq!((&shipped.0, &shipped.1), (&default.0, &default.1));
        assert!(shipped.2, "{} is not in the file", shipped.0);
    }
}

#[test]
fn serve_and_config_check_name_every_fault_and_print_no_secret() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("p.toml"), "colour = \"red\"\n").unwrap();
    for arguments in [
        &["serve", "--gate", "0.0.0.0:7700"][..],
        &["config", "check", "--gate", "0.0.0.0:7700"],
    ] {
        let mut command = portcullis(&dir, arguments);
        command
            .env("PORTCULLIS_CONFIG", "p.toml")
            .env("PORTCULLIS_ROOT_TOKEN", "pc_hunter2");
        let (out, err) = ended(command, 1);
        for part in [
            "colour",
            "p.toml:1",
            "--gate-insecure",
            "PORTCULLIS_ROOT_TOKEN",
        ] {
            assert!(err.contains(part), "{part} is not in\n{err}");
        }
        assert!(!err.contains("hunter2") && out.is_empty(), "{out}{err}");
    }
    assert!(
        !dir.path().join("data").exists(),
        "a refused start leaves nothing behind"
    );
}

#[test]
fn a_wrong_command_line_exits_2() {
    let dir = TempDir::new().unwrap();
    for arguments in [
        &["open"][..],
        &["key", "get"],
        &["key", "get", "first"],
        &["key", "list", "--timeout", "0"],
    ] {
        let (out, err) = ended(portcullis(&dir, arguments), 2);
        assert!(out.is_empty() && err.starts_with("error: "), "{out}{err}");
    }
}

#[test]
fn a_flag_of_serve_without_serve_gets_a_tip() {
    let dir = TempDir::new().unwrap();
    for argument in ["--gate", "--gate=127.0.0.1:0"] {
        let (_, err) = ended(portcullis(&dir, &[argument, "127.0.0.1:0"]), 2);
        assert!(err.contains("`serve --gate …`"), "{err}");
    }
    let (_, err) = ended(portcullis(&dir, &["--colour"]), 2);
    assert!(!err.contains("`serve"), "{err}");
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let dir = TempDir::new().unwrap();
    let mut command = portcullis(&dir, &["config", "check"]);
    command.env("PORTCULLIS_GATE", "").env("PORTCULLIS_LOG", "");
    let (out, _) = ended(command, 0);
    assert!(!out.contains("PORTCULLIS_"), "{out}");
    let mut command = portcullis(&dir, &["key", "list"]);
    command.env("PORTCULLIS_DATA_DIR", "");
    let (_, err) = ended(command, 1);
    assert!(err.contains("./data/admin.sock"), "{err}");
}

#[test]
fn a_token_in_the_wrong_place_is_not_repeated_whole() {
    let dir = TempDir::new().unwrap();
    let (key_id, secret) = ("A".repeat(22), "b".repeat(49));
    let token = format!("pc_{key_id}_{secret}");
    for arguments in [
        &[token.as_str()][..],
        &["key", "get", &key_id, &token],
        &["key", &token],
    ] {
        let (out, err) = ended(portcullis(&dir, arguments), 2);
        assert!(
            !out.contains(&secret) && !err.contains(&secret),
            "{out}{err}"
        );
    }
}

/// The local root token is for the server of this directory, not for whoever listens on its port while it is down.
#[test]
fn without_a_server_the_root_token_goes_nowhere() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("data")).unwrap();
    fs::write(dir.path().join("data/root.token"), "pc_token\n").unwrap();
    let (_, err) = ended(portcullis(&dir, &["key", "list"]), 1);
    assert!(
        err.contains("data/admin.sock") && !err.contains("7701"),
        "{err}"
    );
}

#[test]
fn without_a_terminal_nothing_is_asked_and_nothing_done() {
    let dir = TempDir::new().unwrap();
    let (_, err) = ended(
        portcullis(&dir, &["key", "delete", "0123456789abcdefghijkl"]),
        2,
    );
    assert!(err.contains("--yes"), "{err}");
}

#[test]
fn a_reader_that_goes_away_causes_no_panic() {
    let dir = TempDir::new().unwrap();
    let mut child = portcullis(&dir, &["config", "check"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// A server in the directory, ended when dropped.
struct Server(Child);

impl Server {
    fn start(dir: &TempDir) -> Self {
        let free = "127.0.0.1:0";
        let arguments = ["serve", "--gate", free, "--admin", free, "--ops", free];
        let mut server = portcullis(dir, &arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program runs");
        let mut ready = String::new();
        let out = server.stdout.as_mut().expect("it is piped");
        BufReader::new(out).read_line(&mut ready).expect("UTF-8");
        let server = Self(server);
        assert!(ready.starts_with("portcullis ready"), "{ready}");
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is gone already if it failed, which the test has noticed then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_key_lives_and_dies_through_the_command_line() {
    let dir = TempDir::new().unwrap();
    let _server = Server::start(&dir);
    let done = |arguments: &[&str]| ended(portcullis(&dir, arguments), 0).0;
    let json = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(&done(&[arguments, &["--output", "json"]].concat())).unwrap()
    };

    let issued = json(&[
        "key",
        "create",
        "--name",
        "first",
        "--permission",
        "sms.send",
    ]);
    let token = issued["token"].as_str().unwrap();
    let key_id = issued["key"]["keyId"].as_str().unwrap();
    let check = ["check", token, "--permission", "sms.send"];
    assert!(done(&check).starts_with("ALLOWED"));
    let (out, _) = ended(
        portcullis(&dir, &["check", token, "--permission", "sms.read"]),
        3,
    );
    assert!(out.contains("PERMISSION_DENIED"), "{out}");

    done(&["key", "disable", key_id, "--yes"]);
    let (out, _) = ended(portcullis(&dir, &check), 3);
    assert!(out.contains("KEY_DISABLED"), "{out}");
    done(&["key", "enable", token]);
    assert!(done(&check).starts_with("ALLOWED"));

    json(&[
        "key",
        "update",
        key_id,
        "--label",
        "team=a",
        "--ip",
        "192.0.2.0/24",
    ]);
    let key = json(&[
        "key", "update", token, "--label", "tier=b", "--clear", "ips",
    ]);
    assert_eq!(key["labels"], serde_json::json!({"team": "a", "tier": "b"}));
    assert_eq!(key.get("ipAllowlist"), None);

    let reset = json(&["key", "reset", key_id, "--yes"]);
    ended(portcullis(&dir, &check), 3);
    done(&[
        "check",
        reset["token"].as_str().unwrap(),
        "--permission",
        "sms.send",
    ]);

    let (_, err) = ended(portcullis(&dir, &["key", "delete", key_id, "--yes"]), 1);
    assert!(err.contains("KEY_ACTIVE"), "{err}");
    done(&["key", "delete", key_id, "--yes", "--force"]);
    let (_, err) = ended(portcullis(&dir, &["key", "get", key_id]), 1);
    assert!(err.contains("RESOURCE_NOT_FOUND"), "{err}");
    assert_eq!(json(&["key", "list"])["keys"], serde_json::json!([]));
}

#[test]
fn a_workspace_is_created_read_and_listed() {
    let dir = TempDir::new().unwrap();
    let _server = Server::start(&dir);
    let done = |arguments: &[&str]| ended(portcullis(&dir, arguments), 0).0;
    done(&[
        "workspace",
        "create",
        "acme",
        "--name",
        "Acme",
        "--token-prefix",
        "ac",
    ]);
    assert!(done(&["workspace", "get", "acme"]).contains("Acme"));
    assert_eq!(done(&["workspace", "list"]).lines().count(), 4);
    let (_, err) = ended(portcullis(&dir, &["workspace", "create", "acme"]), 1);
    assert!(err.contains("RESOURCE_EXISTS"), "{err}");
    assert!(done(&["key", "create", "-w", "acme"]).contains("ac_"));
}
