//! TLS, the callers that certificates stand for, and who may connect to a Unix socket.

use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::{
    domain::{grant::Act, id::WorkspaceId},
    tls::TlsFiles,
};

/// Files of two certificates, and what is none.
fn with_files(mut given: Given) -> Given {
    for (cert, key) in [("a.pem", "a.key"), ("b.pem", "b.key")] {
        let secret = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let whole = params.self_signed(&secret).unwrap().pem();
        given.others.insert(cert, whole);
        given.others.insert(key, secret.serialize_pem());
    }
    let half = given.others["a.pem"][..100].to_owned() + "\n-----END CERTIFICATE-----\n";
    given.others.insert("half.pem", half);
    given.others.insert("/etc/group", GROUPS.to_owned());
    given
}

const GROUPS: &str = "root:x:0:\nenvoy:x:1001:a,b\nbroken:x\nenvoy2:x:1002:\n";

fn env(pairs: &[(&'static str, &str)]) -> Given {
    with_files(Given::env(pairs))
}

const GATE: [(&str, &str); 2] = [
    ("PORTCULLIS_GATE_CERT", "a.pem"),
    ("PORTCULLIS_GATE_KEY", "a.key"),
];
const ADMIN: [(&str, &str); 2] = [
    ("PORTCULLIS_ADMIN_CERT", "a.pem"),
    ("PORTCULLIS_ADMIN_KEY", "a.key"),
];

fn and(some: &[(&'static str, &'static str)], more: &[(&'static str, &'static str)]) -> Given {
    env(&[some, more].concat())
}

#[test]
fn tls_is_off_unless_a_certificate_is_named() {
    let listen = Given::default().settings().listen;
    assert_eq!((&listen.gate_tls, &listen.admin_tls), (&None, &None));
    assert!(!listen.gate_asks_callers());
    assert_eq!(listen.gate_socket, SocketAccess::default());

    let ca = [("PORTCULLIS_GATE_CLIENT_CA", "b.pem")];
    let listen = and(&GATE, &ca).settings().listen;
    let files = TlsFiles {
        cert: "a.pem".into(),
        key: "a.key".into(),
        client_ca: Some("b.pem".into()),
    };
    assert_eq!(listen.gate_tls, Some(files));
    assert_eq!(listen.admin_tls, None);
    assert!(listen.gate_asks_callers());
    let listen = env(&GATE).settings().listen;
    assert!(listen.gate_tls.is_some() && !listen.gate_asks_callers());
    let listen = env(&ADMIN).settings().listen;
    assert!(listen.admin_tls.is_some() && listen.gate_tls.is_none());
    let required = [("PORTCULLIS_GATE_REQUIRE_CREDENTIAL", "true")];
    assert!(env(&required).settings().listen.gate_asks_callers());
}

#[test]
fn everything_about_tls_can_be_given_in_the_file() {
    let settings = with_files(Given::file(
        r#"gate-cert = "a.pem"
           gate-key = "a.key"
           gate-client-ca = "b.pem"
           gate-require-credential = true
           admin-cert = "b.pem"
           admin-key = "b.key"
           admin-client-ca = "a.pem"
           [[caller]]
           spiffe = "spiffe://example.org/ns/edge/sa/gateway"
           permissions = ["default:check", "acme:check"]
           [[caller]]
           dns = "Operator.example.org"
           permissions = ["*"]"#,
    ))
    .settings();
    assert!(settings.listen.gate_tls.is_some() && settings.listen.admin_tls.is_some());
    assert!(settings.listen.gate_require_credential);
    let [gateway, operator] = &settings.callers[..] else {
        panic!("two callers: {:?}", settings.callers)
    };
    let id = "spiffe://example.org/ns/edge/sa/gateway";
    assert_eq!(gateway.name.to_string(), id);
    let may = |workspace: &str| {
        let workspace = WorkspaceId::parse(workspace).unwrap();
        gateway.grants.allow(Act::Check, &workspace)
    };
    assert!(may("default") && may("acme") && !may("other"));
    assert_eq!(operator.name.to_string(), "dns:operator.example.org");
    assert!(operator.grants.allow_everywhere(Act::WorkspacesWrite));
}

#[test]
fn a_certificate_has_its_key_and_authorities_have_a_certificate() {
    for (pairs, says) in [
        (
            &GATE[..1],
            "gate-cert, from PORTCULLIS_GATE_CERT: is of no use without gate-key",
        ),
        (
            &GATE[1..],
            "gate-key, from PORTCULLIS_GATE_KEY: is of no use without gate-cert",
        ),
        (&ADMIN[..1], "is of no use without admin-key"),
        (&ADMIN[1..], "is of no use without admin-cert"),
        (
            &[("PORTCULLIS_GATE_CLIENT_CA", "b.pem")],
            "gate-client-ca, from PORTCULLIS_GATE_CLIENT_CA: is of no use without gate-cert",
        ),
        (
            &[("PORTCULLIS_ADMIN_CLIENT_CA", "b.pem")],
            "without admin-cert",
        ),
    ] {
        env(pairs).refused(&[says]);
    }
}

#[test]
fn files_that_make_no_tls_are_told_with_what_is_wrong() {
    let files = |cert: &'static str, key: &'static str| {
        env(&[("PORTCULLIS_GATE_CERT", cert), ("PORTCULLIS_GATE_KEY", key)])
    };
    files("gone.pem", "a.key").refused(&[
        "gate-cert, from PORTCULLIS_GATE_CERT",
        "gone.pem cannot be read",
    ]);
    files("a.pem", "gone.key").refused(&["gate-key", "gone.key cannot be read"]);
    files("a.key", "a.key").refused(&["gate-cert", "a.key holds no certificate"]);
    files("a.pem", "b.pem").refused(&["gate-key", "b.pem holds no private key"]);
    files("a.pem", "b.key").refused(&["gate-key", "b.key is not the key of the certificate"]);
    files("half.pem", "a.key").refused(&["gate-cert", "half.pem"]);
    let ca = [("PORTCULLIS_GATE_CLIENT_CA", "half.pem")];
    and(&GATE, &ca).refused(&["gate-client-ca, from PORTCULLIS_GATE_CLIENT_CA", "half.pem"]);

    // A key in the place of its file is not printed.
    let key = env(&[]).others["a.key"].clone();
    let given = env(&[
        ("PORTCULLIS_GATE_CERT", "a.pem"),
        ("PORTCULLIS_GATE_KEY", &key),
    ]);
    let faults = given.faults().join("\n");
    let secret = key.lines().nth(1).unwrap();
    assert!(
        faults.contains("name a PEM file") && !faults.contains(secret),
        "{faults}"
    );
}

#[test]
fn beyond_loopback_callers_are_asked_or_the_operator_says_otherwise() {
    let gate = ("PORTCULLIS_GATE", "0.0.0.0:7700");
    let ca = ("PORTCULLIS_GATE_CLIENT_CA", "b.pem");
    // Encryption alone asks nobody who they are.
    and(&GATE, &[gate]).refused(&[
        "gate-client-ca",
        "gate-require-credential",
        "--gate-insecure",
    ]);
    and(&GATE, &[gate, ca]).settings();
    env(&[gate, ("PORTCULLIS_GATE_REQUIRE_CREDENTIAL", "true")]).settings();
    env(&[gate, ("PORTCULLIS_GATE_REQUIRE_CREDENTIAL", "false")]).refused(&["--gate-insecure"]);

    let admin = ("PORTCULLIS_ADMIN", "0.0.0.0:7701");
    env(&[admin]).refused(&["admin-cert", "--admin-insecure"]);
    and(&ADMIN, &[admin]).settings();
    // The protection of one is none of the other.
    and(&ADMIN, &[gate]).refused(&["--gate-insecure"]);
    and(&GATE, &[admin]).refused(&["--admin-insecure"]);
    // What is meant to protect and is faulty is one fault.
    let gone = ("PORTCULLIS_ADMIN_CERT", "gone.pem");
    and(&[admin, ADMIN[1]], &[gone]).refused(&["gone.pem cannot be read"]);
}

#[test]
fn a_unix_socket_has_no_tls_and_tcp_no_mode() {
    let unix = ("PORTCULLIS_GATE", "unix:/run/gate.sock");
    let faults = and(&GATE, &[unix]).faults();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(
        faults
            .iter()
            .all(|fault| fault.contains("is a Unix socket")),
        "{faults:?}"
    );
    for (variable, value) in [
        ("PORTCULLIS_GATE_MODE", "0660"),
        ("PORTCULLIS_GATE_GROUP", "envoy"),
    ] {
        env(&[(variable, value)]).refused(&[variable, "is for a Unix socket"]);
    }
    let given = [
        unix,
        ("PORTCULLIS_GATE_MODE", "660"),
        ("PORTCULLIS_GATE_GROUP", "envoy"),
    ];
    let settings = env(&given).settings();
    let access = SocketAccess {
        mode: 0o660,
        group: Some(1001),
    };
    assert_eq!(settings.listen.gate_socket, access);
    let by_number = env(&[unix, ("PORTCULLIS_GATE_GROUP", "77")]).settings();
    assert_eq!(by_number.listen.gate_socket.group, Some(77));
    // A Unix gate may ask its callers, too.
    env(&[unix, ("PORTCULLIS_GATE_REQUIRE_CREDENTIAL", "true")]).settings();

    for mode in [
        "", "66", "0o660", "1777", "0668", "+660", "00660", "0060", "rw",
    ] {
        let mut given = with_files(Given::file("gate = \"unix:/run/gate.sock\""));
        given.flags.gate_mode = Some(mode.into());
        given.refused(&["gate-mode, from --gate-mode", "0660"]);
    }
    for group in ["", "broken", "nobody-here", "4294967295", "99999999999"] {
        let mut given = with_files(Given::file("gate = \"unix:/run/gate.sock\""));
        given.flags.gate_group = Some(group.into());
        given.refused(&["gate-group, from --gate-group"]);
    }
}

/// Below what asks for client certificates.
fn callers(text: &str) -> Given {
    let before = "gate-cert = \"a.pem\"\ngate-key = \"a.key\"\ngate-client-ca = \"b.pem\"\n";
    with_files(Given::file(format!("{before}{text}").leak()))
}

#[test]
fn a_caller_has_one_name_and_some_permissions() {
    for (text, says) in [
        (
            "permissions = [\"*:check\"]",
            "p.toml:4: must have either spiffe or dns",
        ),
        (
            "spiffe = \"spiffe://a/b\"\ndns = \"a.b\"\npermissions = [\"*:check\"]",
            "must have either spiffe or dns",
        ),
        ("dns = \"a.b\"", "has no permissions"),
        ("dns = \"a.b\"\npermissions = []", "has no permissions"),
        (
            "dns = \"*.b\"\npermissions = [\"*:check\"]",
            "caller.dns, from p.toml:5: \"*.b\" is no DNS name",
        ),
        (
            "spiffe = \"a/b\"\npermissions = [\"*:check\"]",
            "caller.spiffe, from p.toml:5: \"a/b\" is no SPIFFE ID",
        ),
        (
            "dns = \"a.b\"\npermissions = [\"*:check\", \"sms.send\"]",
            "p.toml:6: \"sms.send\" must be",
        ),
        (
            "dns = \"a.b\"\npermissions = [\"*\", \"*:check\"]",
            "must stand alone",
        ),
        (
            "dns = \"a.b\"\npermissions = [\"*:check\"]\nname = \"x\"",
            "name",
        ),
    ] {
        callers(&format!("[[caller]]\n{text}\n")).refused(&[says]);
    }
    let twice = "[[caller]]\ndns = \"a.b\"\npermissions = [\"*:check\"]\n\
                 [[caller]]\ndns = \"A.b\"\npermissions = [\"*:keys.read\"]\n";
    callers(twice).refused(&["caller, from p.toml:7: names the same caller as p.toml:4"]);
}

#[test]
fn callers_without_anybody_who_asks_for_certificates_are_a_slip() {
    let text = "[[caller]]\ndns = \"a.b\"\npermissions = [\"*:check\"]\n";
    with_files(Given::file(text)).refused(&["caller, from p.toml:1", "gate-client-ca"]);
    assert_eq!(callers(text).settings().callers.len(), 1);
}

/// Who reviews a configuration sees who may do what.
#[test]
fn each_caller_is_shown_with_its_name_its_permissions_and_its_place() {
    let text = "[[caller]]\n\
                spiffe = \"spiffe://example.org/ns/edge/sa/gateway\"\n\
                permissions = [\"default:check\", \"acme:check\"]\n\
                [[caller]]\n\
                permissions = [\"*\"]\n\
                dns = \"Operator.example.org\"\n";
    let shown = |given: Given| -> Vec<_> {
        let rows = given.explain().unwrap_or_else(|faults| panic!("{faults}"));
        rows.rows
            .into_iter()
            .filter(|row| row.name.starts_with("caller"))
            .map(|row| (row.name, row.value, row.origin.to_string()))
            .collect()
    };
    let row = |value: &str, place: &str| ("caller", value.to_owned(), place.to_owned());
    assert_eq!(
        shown(callers(text)),
        [
            row(
                "spiffe://example.org/ns/edge/sa/gateway may default:check,acme:check",
                "p.toml:4"
            ),
            row("dns:operator.example.org may *", "p.toml:7"),
        ]
    );
    assert_eq!(shown(callers("")), []);
}
