//! What Portcullis refuses to start with, against the real binary: every fault at once, no secret printed, and nothing
//! taken away from a process that is already there. The numbers are those of the project's list of bad inputs.

mod support;

use std::{
    fs,
    net::TcpListener,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::Path,
};

use portcullis::proto::v1::{CheckRequest, ListReplicasRequest, check_response::Reason};
use support::{Address, Clients, Exit, Server, Setup, Token, check, clients, wait_until};
use tempfile::TempDir;

fn scratch() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Asserts that it does not start, and says all of `words` on standard error.
#[track_caller]
fn refuses(what: &str, setup: Setup, words: &[&str]) -> Exit {
    let Err(exit) = setup.try_start() else {
        panic!("{what}: it started")
    };
    let code = exit
        .status
        .code()
        .unwrap_or_else(|| panic!("{what}: ended by a signal: {exit}"));
    assert_ne!(code, 0, "{what}: {exit}");
    assert_ne!(code, 101, "{what}: a panic is no answer: {exit}");
    for word in words {
        assert!(
            exit.stderr.contains(word),
            "{what}: {word:?} is not said: {exit}"
        );
    }
    assert!(!exit.stdout.contains("portcullis ready"), "{what}: {exit}");
    exit
}

/// A configuration file.
fn config(dir: &TempDir, text: &str) -> std::path::PathBuf {
    let file = dir.path().join("portcullis.toml");
    fs::write(&file, text).expect("a file can be written");
    file
}

fn with_config(dir: &TempDir, text: &str) -> Setup {
    Setup::new().arg("--config").arg(config(dir, text))
}

#[test]
fn an_unknown_field_is_named() {
    let dir = scratch();
    refuses(
        "row 125",
        with_config(&dir, "name = \"a\"\ngaet = \"127.0.0.1:0\"\n"),
        &["gaet", "portcullis.toml"],
    );
    let dir = scratch();
    refuses(
        "row 125: a table",
        with_config(&dir, "[gate]\nlisten = \"127.0.0.1:0\"\n"),
        &["gate"],
    );
    let dir = scratch();
    refuses(
        "row 125: another type",
        with_config(&dir, "name = 7\n"),
        &["name"],
    );
    let missing = Setup::new()
        .arg("--config")
        .arg(scratch().path().join("none.toml"));
    refuses("a file that is not there", missing, &["none.toml"]);
}

#[test]
fn a_field_given_twice_is_named() {
    let dir = scratch();
    refuses(
        "row 126",
        with_config(&dir, "name = \"a\"\nname = \"b\"\n"),
        &["portcullis.toml:2", "duplicate key"],
    );
}

#[test]
fn every_fault_of_a_table_is_named_with_its_line() {
    let dir = scratch();
    refuses(
        "rows 125 and 126: tables",
        with_config(
            &dir,
            "[envoy]\nheader = \"Cookie\"\nquery-parameter = \"a=b\"\ntrusted-hops = 11\ncolour = \"red\"\ncolour = \"blue\"\n\
             [[envoy.route]]\npath = \"/a/../b\"\nworkspace = \"default\"\npermission = \"*\"\nmethods = [\"get\"]\n\
             [[envoy.route]]\n[[envoy.routes]]\n",
        ),
        &[
            "envoy.header, from",
            "portcullis.toml:2",
            "envoy.query-parameter, from",
            "envoy.trusted-hops, from",
            "\"colour\", from",
            "portcullis.toml:6: is not TOML: duplicate key",
            "envoy.route.path, from",
            "envoy.route.permission, from",
            "envoy.route.methods, from",
            "portcullis.toml:12: has no path",
            "portcullis.toml:12: has no workspace",
            "portcullis.toml:12: has no permission",
            "\"routes\", from",
        ],
    );
    let route = |path: &str| {
        format!(
            "[[envoy.route]]\npath = \"{path}\"\nworkspace = \"default\"\npermission = \"none\"\n"
        )
    };
    let twice = route("/a/{x}") + &route("/a/{y}") + &route("/a/{*z}");
    refuses(
        "row 126: a route",
        with_config(&scratch(), &twice),
        &[
            "portcullis.toml:5: any method of such paths",
            "portcullis.toml:9: a path would be of it and of /a/{x}",
        ],
    );
    refuses(
        "row 125: a table",
        with_config(&scratch(), "[envoi]\nheader = \"x-api-key\"\n"),
        &["envoi", "portcullis.toml:1", "[envoy]"],
    );
}

#[test]
fn a_listener_off_loopback_needs_to_be_asked_for() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        refuses(
            "row 127: gate",
            Setup::new().gate(address),
            &["gate", "--gate-insecure"],
        );
        refuses(
            "row 127: admin",
            Setup::new().admin(address),
            &["admin", "--admin-insecure"],
        );
    }
    // Encryption alone asks no caller of the gate who it is.
    let (dir, cert, key) = certificate();
    let encrypted = |setup: Setup, listener: &str| {
        setup
            .args([&format!("--{listener}-cert"), &cert])
            .args([&format!("--{listener}-key"), &key])
    };
    refuses(
        "row 127: TLS on the gate",
        encrypted(Setup::new().gate("0.0.0.0:0"), "gate"),
        &["gate-client-ca", "gate-require-credential"],
    );
    refuses(
        "row 127: TLS on the other listener",
        encrypted(Setup::new().admin("0.0.0.0:0"), "gate"),
        &["admin-cert", "--admin-insecure"],
    );
    for setup in [
        encrypted(Setup::new().gate("0.0.0.0:0"), "gate").args(["--gate-client-ca", &cert]),
        Setup::new()
            .gate("0.0.0.0:0")
            .arg("--gate-require-credential"),
        encrypted(Setup::new().admin("0.0.0.0:0"), "admin"),
    ] {
        let server = setup.start();
        assert!(
            !server.stderr().contains("asks nobody"),
            "row 127: {}",
            server.stderr()
        );
    }
    drop(dir);
    // Each allowance is for its own listener.
    let crossed = Setup::new().gate("0.0.0.0:0").arg("--admin-insecure");
    refuses("row 127: the other flag", crossed, &["--gate-insecure"]);
}

/// A certificate and its key, in files.
fn certificate() -> (TempDir, String, String) {
    let dir = scratch();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
    let made = made.expect("a certificate");
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("a file can be written");
        path.display().to_string()
    };
    let cert = write("cert.pem", made.cert.pem());
    let key = write("key.pem", made.signing_key.serialize_pem());
    (dir, cert, key)
}

#[test]
fn every_fault_about_tls_is_told_at_once_and_no_key() {
    let (_dir, cert, key) = certificate();
    let (_other, _, other_key) = certificate();
    let secret = fs::read_to_string(&key).expect("it is there");
    let secret = secret.lines().nth(1).expect("base64");
    let setup = Setup::new()
        .args(["--gate-cert", &cert, "--gate-key", &other_key])
        .args(["--admin-cert", &key, "--gate-mode", "0660"])
        .arg(format!("--admin-key=-----BEGIN PRIVATE KEY-----\n{secret}"))
        .args(["--admin-client-ca", "gone.pem", "--gate-group", "no-such"]);
    let words = [
        "gate-key, from --gate-key",
        "is not the key of the certificate",
        "admin-cert, from --admin-cert",
        "admin-key, from --admin-key",
        "gone.pem cannot be read",
        "gate-mode, from --gate-mode: is for a Unix socket",
        "no-such",
    ];
    let exit = refuses("row 127 of TLS", setup, &words);
    assert!(!exit.stderr.contains(secret), "a secret is printed: {exit}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_insecure_gate_asks_every_request_for_its_workspace() {
    let server = Setup::new()
        .gate("0.0.0.0:0")
        .admin("0.0.0.0:0")
        .args(["--gate-insecure", "--admin-insecure"])
        .start();
    let local = |address: &Address| {
        Address::Tcp((std::net::Ipv4Addr::LOCALHOST, address.tcp().port()).into())
    };
    let admin = Clients::of(&local(server.admin()), &Token::bearer(&server.root_token()));
    let gate = Clients::of(&local(server.gate()), &Token::none());
    let token = admin.create("first", &[]).await.token;
    let answer = gate.ask(check(&token)).await;
    assert_eq!(
        answer.reason(),
        Reason::InvalidRequest,
        "row 127: no workspace: {answer:?}"
    );
    let within = CheckRequest {
        workspace: "default".into(),
        ..check(&token)
    };
    assert!(
        gate.ask(within).await.allowed,
        "row 127: with its workspace"
    );
}

#[test]
fn a_root_token_must_be_a_native_one_and_is_never_printed() {
    for (what, token) in [
        ("a password", "correct-horse-battery-staple"),
        (
            "almost a token",
            "pc_0123456789abcdefghijkl_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGwrongcrc",
        ),
        ("nothing", ""),
    ] {
        let setup = Setup::new().env("PORTCULLIS_ROOT_TOKEN", token);
        let exit = refuses(
            &format!("row 127d: {what}"),
            setup,
            &["PORTCULLIS_ROOT_TOKEN"],
        );
        if !token.is_empty() {
            assert!(
                !exit.stderr.contains(token) && !exit.stdout.contains(token),
                "row 127d: printed: {exit}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_given_root_token_is_the_root_of_a_new_store() {
    let dir = scratch();
    let first = Server::start();
    let token = first.root_token();
    drop(first);
    let setup = || Setup::new().data_dir(dir.path().join("data"));
    let server = setup().env("PORTCULLIS_ROOT_TOKEN", &token).start();
    let root = Clients::of(server.admin(), &Token::bearer(&token));
    root.create("by the given root", &[]).await;
    assert!(
        !server.stdout().contains(&token) && !server.stderr().contains(&token),
        "it is nowhere printed"
    );
    assert!(server.stop().status.success());

    // On an existing store another one is no fault, but is said; and changes nothing.
    let other = Server::start().root_token();
    let server = setup().env("PORTCULLIS_ROOT_TOKEN", &other).start();
    Clients::of(server.admin(), &Token::bearer(&token))
        .create("by the same root", &[])
        .await;
    let stranger = Clients::of(server.admin(), &Token::bearer(&other));
    assert!(
        stranger
            .fleet
            .clone()
            .list_replicas(ListReplicasRequest {})
            .await
            .is_err()
    );
    wait_until("a warning of the token that differs", || {
        server.stderr().contains("PORTCULLIS_ROOT_TOKEN")
    });
    assert!(!server.stderr().contains(&other), "it is not printed");
}

#[test]
fn every_fault_is_told_at_once() {
    let dir = scratch();
    let secret = "hunter2-hunter2-hunter2";
    let setup = with_config(&dir, "gaet = \"127.0.0.1:0\"\nname = \"a\"\n")
        .gate("0.0.0.0:0")
        .admin("0.0.0.0:0")
        .ops("nowhere")
        .env("PORTCULLIS_ROOT_TOKEN", secret);
    let words = [
        "gaet",
        "--gate-insecure",
        "--admin-insecure",
        "nowhere",
        "PORTCULLIS_ROOT_TOKEN",
    ];
    let exit = refuses("rows 125, 127 and 127d together", setup, &words);
    assert!(!exit.stderr.contains(secret), "a secret is printed: {exit}");
}

#[test]
fn every_fault_about_a_fleet_is_told_at_once_and_no_password() {
    let dir = scratch();
    let secret = "hunter2-hunter2-hunter2";
    let setup = with_config(
        &dir,
        "redis-pasword = \"x\"\nnamespace = \"{x}\"\nlease = \"1h\"\n",
    )
    .args(["--redis-durability", "maybe", "--redis-ca", "gone.pem"])
    .arg(format!("--redis=redis://app:{secret}@127.0.0.1:x"))
    .env(
        "PORTCULLIS_REDIS_KEY",
        format!("-----BEGIN PRIVATE KEY-----\n{secret}"),
    );
    let words = [
        "redis-pasword",
        "namespace",
        "lease",
        "redis-durability",
        "gone.pem",
        "redis, from --redis",
        "redis-key",
    ];
    let exit = refuses("rows 125 and 127 of a fleet", setup, &words);
    assert!(
        !exit.stderr.contains("hunter2"),
        "a secret is printed: {exit}"
    );

    let text =
        format!("redis = \"redis://app:{secret}@127.0.0.1\"\nredis-password = \"{secret}\"\n");
    let exit = refuses(
        "a password in the file",
        with_config(&scratch(), &text).env("PORTCULLIS_REDIS_PASSWORD", secret),
        &[
            "portcullis.toml:1",
            "portcullis.toml:2",
            "PORTCULLIS_REDIS_PASSWORD",
        ],
    );
    assert!(
        !exit.stderr.contains("hunter2"),
        "a secret is printed: {exit}"
    );
    refuses(
        "a fleet without its Redis",
        Setup::new().args(["--namespace", "a", "--lease", "15s"]),
        &["namespace", "lease", "--redis"],
    );
    refuses(
        "row 126 of a fleet",
        with_config(&scratch(), "redis = \"redis://h\"\nredis = \"redis://h\"\n"),
        &["portcullis.toml:2", "duplicate key"],
    );
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() {
    let dir = scratch();
    let file = dir.path().join("file");
    fs::write(&file, "in the way").expect("a file can be written");
    refuses("row 129: a file", Setup::new().data_dir(&file), &["file"]);
    refuses(
        "row 129: below a file",
        Setup::new().data_dir(file.join("data")),
        &["data"],
    );
    refuses(
        "row 129: /proc",
        Setup::new().data_dir("/proc/portcullis"),
        &["/proc/portcullis"],
    );
    // Root may write anywhere, so that mode bits stop nobody there.
    if !rustix::process::geteuid().is_root() {
        let closed = dir.path().join("closed");
        fs::create_dir(&closed).expect("a directory can be made");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o500))
            .expect("its mode can be set");
        refuses(
            "row 129: mode 0500",
            Setup::new().data_dir(&closed),
            &["closed"],
        );
    }
    assert_eq!(
        fs::read_to_string(&file).expect("it is still there"),
        "in the way"
    );
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    for (what, setup) in [
        ("row 130: gate", Setup::new().gate(&address)),
        ("row 130: admin", Setup::new().admin(&address)),
        ("row 130: ops", Setup::new().ops(&address)),
    ] {
        refuses(
            what,
            setup,
            &[&address, what.rsplit(' ').next().expect("a listener")],
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_the_same_directory_is_turned_away() {
    let dir = scratch();
    let data = dir.path().join("data");
    let first = Setup::new().data_dir(&data).start();
    let (admin, gate) = clients(&first);
    let token = admin.create("first", &[]).await.token;

    refuses(
        "row 131",
        Setup::new().data_dir(&data),
        &[&data.display().to_string()],
    );

    assert!(
        gate.ask(check(&token)).await.allowed,
        "row 131: the first one goes on"
    );
    let socket = Clients::of(&first.admin_socket(), &Token::none());
    socket.create("by the socket", &[]).await;
    assert!(first.stop().status.success());
    let again = Setup::new().data_dir(&data).start();
    assert!(
        Clients::gate(&again).ask(check(&token)).await.allowed,
        "row 131: and the next one finds all of it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_left_by_a_kill_hinder_nobody() {
    let dir = scratch();
    let (data, path) = (dir.path().join("data"), dir.path().join("gate.sock"));
    let setup = || {
        Setup::new()
            .data_dir(&data)
            .gate(format!("unix:{}", path.display()))
    };
    let first = setup().start();
    let token = Clients::root(&first).create("first", &[]).await.token;
    let socket = data.join("admin.sock");
    first.kill();
    assert!(
        is_socket(&socket) && is_socket(&path),
        "a kill leaves the sockets behind"
    );

    let second = setup().start();
    assert!(Clients::gate(&second).ask(check(&token)).await.allowed);
    Clients::of(&second.admin_socket(), &Token::none())
        .create("by the socket", &[])
        .await;
    assert!(second.stop().status.success());
    assert!(
        !socket.exists() && !path.exists(),
        "an orderly end takes its sockets away"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_socket_in_use_is_not_stolen() {
    let dir = scratch();
    let path = dir.path().join("gate.sock");
    let gate = format!("unix:{}", path.display());

    // Somebody else's.
    let listener = UnixListener::bind(&path).expect("a socket can be bound");
    refuses(
        "a socket in use",
        Setup::new().gate(&gate),
        &[&path.display().to_string()],
    );
    let _caller = UnixStream::connect(&path).expect("the socket is still there");
    listener.accept().expect("and leads where it led");
    drop(listener);
    fs::remove_file(&path).expect("it is ours");

    // Another Portcullis's, of another directory.
    let first = Setup::new().gate(&gate).start();
    let token = Clients::root(&first).create("first", &[]).await.token;
    refuses(
        "another's gate",
        Setup::new().gate(&gate),
        &[&path.display().to_string()],
    );
    assert!(Clients::gate(&first).ask(check(&token)).await.allowed);

    // And what is no socket at all.
    let file = dir.path().join("precious");
    fs::write(&file, "not a socket").expect("a file can be written");
    refuses(
        "a file",
        Setup::new().gate(format!("unix:{}", file.display())),
        &["precious"],
    );
    assert_eq!(
        fs::read_to_string(&file).expect("it is still there"),
        "not a socket"
    );
}

#[test]
fn what_lies_in_the_data_directory_is_its_owners_alone() {
    let dir = scratch();
    let path = dir.path().join("gate.sock");
    let server = Setup::new()
        .gate(format!("unix:{}", path.display()))
        .start();
    let data = server.data_dir();
    assert_eq!(mode(data), 0o700, "the directory");
    assert_eq!(mode(&server.root_token_file()), 0o600, "the root token");
    for entry in fs::read_dir(data).expect("it can be read") {
        let path = entry.expect("an entry").path();
        assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
    }
    assert_eq!(mode(&path) & 0o077, 0, "the gate's socket");
    let token = server.root_token();
    assert!(
        !server.stdout().contains(&token) && !server.stderr().contains(&token),
        "the root token is not printed"
    );
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .permissions()
        .mode()
        & 0o777
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// Whoever owns the directory could put another store, with a root of its own, in the place of ours.
#[test]
fn a_data_directory_of_another_user_is_refused() {
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        support::not_run(
            "a data directory of another user",
            "only root can give one away",
        );
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::os::unix::fs::chown(dir.path(), Some(NOBODY), None).expect("root may");
    let exit = Setup::new()
        .data_dir(dir.path())
        .try_start()
        .expect_err("refused");
    assert!(exit.stderr.contains("belongs to user id 65534"), "{exit}");
}
