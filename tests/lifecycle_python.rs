//! The life of a key by a Python client, over TCP and with the gate on a Unix socket. The story is in `python/lifecycle.py`.

mod support;

use std::process::Command;

use support::{Address, Server, Setup};

#[track_caller]
fn live(server: &Server, gate: &Address, admin: &Address) {
    let Ok(python) = support::python() else {
        return;
    };
    let output = Command::new(python)
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/python/lifecycle.py"
        ))
        .args([
            "--gate",
            &gate.to_string(),
            "--admin",
            &admin.to_string(),
            "--token-file",
        ])
        .arg(server.root_token_file())
        .output()
        .expect("Python can be run");
    assert!(
        output.status.success(),
        "gate {gate}, admin {admin}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_python_client_sees_a_key_live_and_die_over_tcp() {
    let server = Server::start();
    live(&server, server.gate(), server.admin());
}

#[test]
fn a_python_client_sees_a_key_live_and_die_over_a_unix_socket() {
    let sockets = tempfile::tempdir().expect("a temporary directory");
    let path = sockets.path().join("gate.sock");
    let server = Setup::new()
        .gate(format!("unix:{}", path.display()))
        .start();
    assert_eq!(
        server.gate(),
        &Address::Unix(path),
        "the ready line names the socket"
    );
    live(&server, server.gate(), server.admin());
}
