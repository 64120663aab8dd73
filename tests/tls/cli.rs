//! The command line, and a foreign client, over TLS.

use std::{
    ffi::OsString,
    process::{Command, Output},
};

use crate::{
    pki::{Ca, EDGE, Leaf, OPERATOR, Scene},
    support::{Server, grpcurl},
};

/// The program with nothing set from outside.
fn portcullis(scene: &Scene, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command
        .args(arguments)
        .env_clear()
        .current_dir(scene.dir.path());
    command
}

/// `--ca`, `--cert` and `--key`.
fn files(scene: &Scene, leaf: &Leaf) -> [OsString; 6] {
    let (cert, key) = scene.client_files(Some(leaf)).identity.expect("both");
    [
        "--ca".into(),
        scene.path("ca.pem").into(),
        "--cert".into(),
        cert.into(),
        "--key".into(),
        key.into(),
    ]
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn succeeds(mut command: Command) -> (String, String) {
    let output = command.output().expect("the program runs");
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{out}{err}");
    (out, err)
}

#[track_caller]
fn fails(mut command: Command, says: &str) {
    let output = command.output().expect("the program runs");
    let (out, err) = texts(&output);
    assert!(!output.status.success(), "{says}: {out}{err}");
    assert!(err.contains(says), "{says:?} is not in {err}");
}

fn admin_url(server: &Server, host: &str) -> String {
    format!("https://{host}:{}", server.admin().tcp().port())
}

#[test]
fn the_command_line_manages_over_mutual_tls_by_its_certificate() {
    let scene = Scene::new();
    let server = scene.mutual().start();
    let operator = scene.clients.leaf(&[OPERATOR]);
    for host in ["127.0.0.1", "localhost"] {
        let url = admin_url(&server, host);
        let mut create = portcullis(&scene, &["key", "create", "--name", "first"]);
        create
            .args(["--server", &url])
            .args(files(&scene, &operator));
        let (_, err) = succeeds(create);
        assert!(!err.contains("unencrypted"), "{err}");
    }
    // The root token that lies about in the server's own directory is not taken instead of it.
    let url = admin_url(&server, "127.0.0.1");
    let mut status = portcullis(&scene, &["fleet", "status", "--server", &url]);
    status.args(files(&scene, &operator));
    status.arg("--data-dir").arg(server.data_dir());
    fails(status, "fleet.read");

    // By the variables, and with a credential that may do what the certificate may not.
    let by_variables = |command: &mut Command| {
        let [_, ca, _, cert, _, key] = files(&scene, &operator);
        command
            .env("PORTCULLIS_SERVER", &url)
            .env("PORTCULLIS_CA", ca)
            .env("PORTCULLIS_CERT", cert)
            .env("PORTCULLIS_KEY", key);
    };
    let mut list = portcullis(&scene, &["key", "list", "--output", "json"]);
    by_variables(&mut list);
    assert_eq!(succeeds(list).0.matches("displayName").count(), 2);
    let mut status = portcullis(&scene, &["fleet", "status"]);
    by_variables(&mut status);
    fails(status, "fleet.read");
    let mut status = portcullis(&scene, &["fleet", "status"]);
    by_variables(&mut status);
    status.env("PORTCULLIS_TOKEN", server.root_token());
    succeeds(status);
    // The variables do not stand in the way of the socket.
    let mut socket = portcullis(&scene, &["key", "list"]);
    by_variables(&mut socket);
    socket.env_remove("PORTCULLIS_SERVER");
    socket.arg("--data-dir").arg(server.data_dir());
    succeeds(socket);
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_in_words() {
    let scene = Scene::new();
    let server = scene.mutual().start();
    let url = admin_url(&server, "127.0.0.1");
    let operator = scene.clients.leaf(&[OPERATOR]);
    let list = |scene: &Scene, url: &str, leaf: Option<&Leaf>| {
        let mut list = portcullis(scene, &["key", "list", "--server", url]);
        match leaf {
            Some(leaf) => list.args(files(scene, leaf)),
            None => list.arg("--ca").arg(scene.path("ca.pem")),
        };
        list
    };
    let mut public = portcullis(&scene, &["key", "list", "--server", &url]);
    public.env("PORTCULLIS_TOKEN", "t");
    fails(public, "signed by nobody that is trusted here");
    fails(list(&scene, &url, None), "asks for a client certificate");
    let other = Ca::new().leaf(&[OPERATOR]);
    fails(
        list(&scene, &url, Some(&other)),
        "does not trust the client certificate",
    );
    let expired = scene.clients.expired(&[OPERATOR]);
    fails(list(&scene, &url, Some(&expired)), "it has expired");
    let edge = scene.clients.leaf(&[EDGE]);
    fails(list(&scene, &url, Some(&edge)), "keys.read");
    let plain = format!("https://{}", server.ops());
    fails(list(&scene, &plain, None), "speaks no TLS");

    let elsewhere = Scene::new();
    elsewhere.server_cert(&elsewhere.ca.leaf(&["other.example.org"]));
    let another = elsewhere.mutual().start();
    let url = admin_url(&another, "127.0.0.1");
    fails(
        list(&elsewhere, &url, Some(&operator)),
        "is for another name",
    );
    elsewhere.server_cert(&elsewhere.ca.expired(&["127.0.0.1"]));
    let late = elsewhere.mutual().start();
    let url = admin_url(&late, "127.0.0.1");
    fails(list(&elsewhere, &url, Some(&operator)), "has expired");
}

#[test]
fn certificates_that_cannot_be_used_stop_the_command() {
    let scene = Scene::new();
    let operator = scene.clients.leaf(&[OPERATOR]);
    let [ca_flag, ca, cert_flag, cert, key_flag, key] = files(&scene, &operator);
    let list = |server: &str, arguments: &[&OsString]| {
        let mut list = portcullis(&scene, &["key", "list", "--server", server]);
        list.args(arguments);
        list
    };
    fails(
        list("https://127.0.0.1:1", &[&cert_flag, &cert]),
        "go together",
    );
    fails(
        list("https://127.0.0.1:1", &[&key_flag, &key]),
        "go together",
    );
    // Whoever names certificates does not want to be sent on without.
    fails(list("127.0.0.1:1", &[&ca_flag, &ca]), "https://");
    fails(list("unix:/nowhere", &[&ca_flag, &ca]), "https://");
    let mut by_variable = list("127.0.0.1:1", &[]);
    by_variable.env("PORTCULLIS_CA", &ca);
    fails(by_variable, "https://");
    let gone = OsString::from("gone.pem");
    fails(
        list("https://127.0.0.1:1", &[&ca_flag, &gone]),
        "gone.pem cannot be read",
    );
    fails(
        list("https://127.0.0.1:1", &[&ca_flag, &key]),
        "holds no certificate",
    );
    let [_, _, _, _, _, other_key] = files(&scene, &scene.clients.leaf(&[OPERATOR]));
    let mismatch = [&cert_flag, &cert, &key_flag, &other_key];
    fails(
        list("https://127.0.0.1:1", &mismatch),
        "do not belong together",
    );
}

#[test]
fn a_foreign_client_checks_and_manages_over_mutual_tls() {
    let Ok(grpcurl) = grpcurl() else { return };
    let scene = Scene::new();
    let server = scene.mutual().start();
    let call = |leaf: Option<&Leaf>, address: String, data: &str, method: &str| {
        let mut command = Command::new(&grpcurl);
        command.arg("-cacert").arg(scene.path("ca.pem"));
        if let Some(leaf) = leaf {
            let (cert, key) = scene.client_files(Some(leaf)).identity.expect("both");
            command.arg("-cert").arg(cert).arg("-key").arg(key);
        }
        command.args(["-d", data, &address, method]);
        command
    };
    let localhost =
        |address: &crate::support::Address| format!("localhost:{}", address.tcp().port());
    let (gate, admin) = (localhost(server.gate()), localhost(server.admin()));
    let operator = scene.clients.leaf(&[OPERATOR]);
    let edge = scene.clients.leaf(&[EDGE]);
    let create = r#"{"parent":"workspaces/default","key":{"display_name":"first"}}"#;
    let method = "portcullis.v1.KeyService/CreateKey";
    let (out, _) = succeeds(call(Some(&operator), admin, create, method));
    let answer: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let token = answer["token"].as_str().expect("a token");

    let ask = format!(r#"{{"credential":"{token}","workspace":"default"}}"#);
    let method = "portcullis.v1.CheckService/Check";
    let (out, _) = succeeds(call(Some(&edge), gate.clone(), &ask, method));
    assert!(out.contains("\"allowed\": true"), "{out}");
    fails(
        call(Some(&operator), gate.clone(), &ask, method),
        "PermissionDenied",
    );
    fails(call(None, gate, &ask, method), "certificate required");
}
