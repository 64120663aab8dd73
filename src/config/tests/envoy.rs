//! `[envoy]` and `[[envoy.route]]`.

use super::*;

/// What `config check` shows of it.
fn rows(text: &'static str) -> Vec<(&'static str, String, String)> {
    let explained = Given::file(text)
        .explain()
        .unwrap_or_else(|faults| panic!("{faults}"));
    let rows = explained.rows.into_iter();
    rows.filter(|row| row.name.starts_with("envoy"))
        .map(|row| (row.name, row.value, row.origin.to_string()))
        .collect()
}

fn asked(settings: &Settings, method: &str, path: &str) -> Option<String> {
    let found = settings.envoy.routes.find(method, path);
    found.expect("a plain path").map(ToString::to_string)
}

/// Asserts that a file has these faults and no other, each said with all its words.
#[track_caller]
fn refused(text: &'static str, due: &[&[&str]]) {
    let faults = Given::file(text).faults();
    assert_eq!(faults.len(), due.len(), "{faults:#?}");
    for words in due {
        let said = |fault: &&String| words.iter().all(|word| fault.contains(word));
        assert!(
            faults.iter().any(|fault| said(&fault)),
            "{words:?} are not in one of {faults:#?}"
        );
    }
}

#[test]
fn the_defaults_of_envoy_are_as_documented() {
    let envoy = Given::default().settings().envoy;
    assert_eq!(envoy.header.as_deref(), Some("x-api-key"));
    assert_eq!(envoy.query_parameter, None);
    assert_eq!(envoy.trusted_hops, 0);
    assert!(envoy.routes.routes().is_empty());
    let shown = rows("[envoy]").into_iter().map(|(name, value, from)| {
        assert_eq!(from, "default");
        (name, value)
    });
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [
            ("envoy.header", "x-api-key".to_owned()),
            ("envoy.query-parameter", "none".into()),
            ("envoy.trusted-hops", "0".into()),
            ("envoy.routes", "0".into()),
        ]
    );
}

const FULL: &str = r#"log = "warn"
[envoy]
header = "apikey"
query-parameter = "api_key"
trusted-hops = 10

[[envoy.route]]
methods = ["POST", "PUT"]
path = "/v1/messages/{id}"
workspace = "acme"
permission = "sms.send,sms.read"

[[envoy.route]]
path = "/{*all}"
workspace = "default"
permission = "none"
"#;

#[test]
fn everything_about_envoy_is_given_in_the_file() {
    let settings = Given::file(FULL).settings();
    assert_eq!(settings.envoy.header.as_deref(), Some("apikey"));
    assert_eq!(settings.envoy.query_parameter.as_deref(), Some("api_key"));
    assert_eq!(settings.envoy.trusted_hops, 10);
    let both = Some("acme: sms.send,sms.read".to_owned());
    assert_eq!(asked(&settings, "POST", "/v1/messages/7"), both);
    assert_eq!(asked(&settings, "PUT", "/v1/messages/7"), both);
    assert_eq!(asked(&settings, "GET", "/v1/messages/7"), None);
    assert_eq!(
        asked(&settings, "GET", "/x"),
        Some("default: none".to_owned())
    );
    assert_eq!(settings.log.filter, "warn");
    let row = |name, value: &str, from: &str| (name, value.to_owned(), from.to_owned());
    assert_eq!(
        rows(FULL),
        [
            row("envoy.header", "apikey", "p.toml:3"),
            row("envoy.query-parameter", "api_key", "p.toml:4"),
            row("envoy.trusted-hops", "10", "p.toml:5"),
            row("envoy.routes", "2", "p.toml:7"),
            row(
                "envoy.route",
                "POST,PUT /v1/messages/{id} asks acme: sms.send,sms.read",
                "p.toml:7"
            ),
            row(
                "envoy.route",
                "any method /{*all} asks default: none",
                "p.toml:13"
            ),
        ]
    );
    let none = Given::file("envoy.header = \"\"\nenvoy.query-parameter = \"\"").settings();
    assert_eq!(none.envoy.header, None);
    assert_eq!(none.envoy.query_parameter, None);
}

#[test]
fn the_shipped_lines_about_envoy_are_the_defaults_once_they_are_uncommented() {
    const SHIPPED: &str = include_str!("../../../deploy/portcullis.toml");
    let from = SHIPPED.find("# [envoy]").expect("it is in the file");
    let is_toml = |line: &&str| {
        line.starts_with('[')
            || line.split_once(" = ").is_some_and(|(name, _)| {
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
            })
    };
    // What follows is not about Envoy.
    let to = SHIPPED.find("# [[caller]]").expect("it is in the file");
    let lines = SHIPPED[from..to]
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(is_toml);
    let text = lines.collect::<Vec<_>>().join("\n");
    let settings = Given::file(text.leak()).settings();
    let defaults = EnvoySettings::default();
    assert_eq!(settings.envoy.header, defaults.header);
    assert_eq!(settings.envoy.query_parameter, defaults.query_parameter);
    assert_eq!(settings.envoy.trusted_hops, defaults.trusted_hops);
    assert_eq!(
        asked(&settings, "POST", "/v1/messages/7"),
        Some("default: sms.send".to_owned())
    );
}

#[test]
fn every_fault_about_envoy_is_told_at_once_and_how_to_put_it_right() {
    refused(
        r#"gate = "nowhere"
[envoy]
header = "X-Api-Key"
query_parameter = "key"
query-parameter = "a b"
trusted-hops = 11
colour = "red"

[[envoy.route]]
method = ["POST"]
methods = ["post", "", "GET"]
path = "v1"
workspace = "Acme"
permission = "*"

[[envoy.route]]
methods = []

[[envoy.route]]
path = "/a/../b"
workspace = "system"
permission = "a, b"
"#,
        &[
            &["gate, from p.toml:1"],
            &[
                "envoy.header, from p.toml:3",
                "lower case",
                "a-z, 0-9 and '-'",
            ],
            &[
                "\"query_parameter\", from p.toml:4",
                "did you mean query-parameter?",
            ],
            &[
                "envoy.query-parameter, from p.toml:5",
                "'-', '.', '_' and '~'",
            ],
            &["envoy.trusted-hops, from p.toml:6", "is 11", "1 to 10"],
            &[
                "\"colour\", from p.toml:7",
                "no field of envoy",
                "header, query-parameter, trusted-hops, route",
            ],
            &[
                "\"method\", from p.toml:10",
                "methods, path, workspace, permission",
            ],
            &[
                "envoy.route.methods, from p.toml:11",
                "\"post\" must be in upper case",
            ],
            &[
                "envoy.route.methods, from p.toml:11",
                "\"\" must be a method",
            ],
            &[
                "envoy.route.path, from p.toml:12",
                "\"v1\" must begin with '/'",
            ],
            &["envoy.route.workspace, from p.toml:13", "\"Acme\" must"],
            &[
                "envoy.route.permission, from p.toml:14",
                "\"*\" must be names",
                "none alone",
            ],
            &["envoy.route.methods, from p.toml:17", "leave methods out"],
            &[
                "envoy.route, from p.toml:16",
                "has no path",
                "/v1/messages/{id}",
            ],
            &["envoy.route, from p.toml:16", "has no workspace"],
            &[
                "envoy.route, from p.toml:16",
                "has no permission",
                "\"none\"",
            ],
            &["envoy.route.path, from p.toml:20", "no segment . or .."],
            &["envoy.route.workspace, from p.toml:21", "system"],
            &[
                "envoy.route.permission, from p.toml:22",
                "\"a, b\" must be names",
            ],
        ],
    );
}

#[test]
fn values_of_another_type_are_refused() {
    refused(
        "envoy = \"x\"",
        &[&["envoy, from p.toml:1", "type string", "[envoy]"]],
    );
    refused(
        "[[envoy]]\nheader = \"x\"",
        &[&["envoy, from p.toml:1", "type array", "[envoy]"]],
    );
    refused(
        "[envoy]\nheader = true\nquery-parameter = [\"a\"]\ntrusted-hops = \"1\"\nroute = 7",
        &[
            &["envoy.header, from p.toml:2", "boolean", "a text in quotes"],
            &[
                "envoy.query-parameter, from p.toml:3",
                "array",
                "a text in quotes",
            ],
            &[
                "envoy.trusted-hops, from p.toml:4",
                "string",
                "a whole number",
            ],
            &["envoy.route, from p.toml:5", "integer", "[[envoy.route]]"],
        ],
    );
    refused(
        "[envoy.route]\npath = \"/\"",
        &[&["envoy.route, from p.toml:1", "[[envoy.route]]"]],
    );
    refused(
        "[[envoy.route]]\nmethods = \"GET\"\npath = 1\nworkspace = 2\npermission = [\"a\"]",
        &[
            &["envoy.route.methods, from p.toml:2", "a list of texts"],
            &["envoy.route.path, from p.toml:3", "integer"],
            &["envoy.route.workspace, from p.toml:4", "integer"],
            &["envoy.route.permission, from p.toml:5", "array"],
        ],
    );
    refused(
        "[envoy]\ntrusted-hops = -1",
        &[&["envoy.trusted-hops, from p.toml:2", "is -1"]],
    );
    refused(
        "[envoy]\ntrusted-hops = 1.0",
        &[&["float", "a whole number"]],
    );
}

#[test]
fn routes_that_contradict_each_other_are_refused_by_their_lines() {
    refused(
        r#"[[envoy.route]]
methods = ["GET"]
path = "/a/{x}"
workspace = "default"
permission = "a"
[[envoy.route]]
path = "/a/{y}"
workspace = "default"
permission = "b"
[[envoy.route]]
path = "/a/{*rest}"
workspace = "default"
permission = "c"
"#,
        &[
            &[
                "envoy.route, from p.toml:6",
                "GET of such paths",
                "GET /a/{x}",
            ],
            &[
                "envoy.route, from p.toml:10",
                "of it and of /a/{x}",
                "neither is more specific",
            ],
        ],
    );
    refused(
        "[envoy]\nheader = \"a\"\nheader = \"b\"\n[envoy]\n",
        &[
            &["p.toml:3", "duplicate key"],
            &["p.toml:4", "duplicate key"],
        ],
    );
}

#[test]
fn a_header_that_means_something_else_carries_no_key() {
    for taken in [
        "authorization",
        "cookie",
        "host",
        "connection",
        "te",
        "transfer-encoding",
        "upgrade",
        "keep-alive",
        "trailer",
        "content-length",
        "content-type",
        "proxy-authorization",
        "x-portcullis-key",
        "x-portcullis-anything",
        "x-forwarded-for",
        "x-envoy-external-address",
        "x-request-id",
        "grpc-timeout",
        "user-agent",
    ] {
        let text = format!("[envoy]\nheader = \"{taken}\"").leak();
        refused(text, &[&["envoy.header, from p.toml:2", "names", taken]]);
    }
    for no_header in [
        "X-Key",
        "x key",
        "x_key",
        ":path",
        "x-kéy",
        "key:",
        &"a".repeat(65),
    ] {
        let text = format!("[envoy]\nheader = \"{no_header}\"").leak();
        refused(
            text,
            &[&["envoy.header, from p.toml:2", "no header's name"]],
        );
    }
    for good in ["x-api-key", "apikey", "x-auth-token", "0", &"a".repeat(64)] {
        let text = format!("[envoy]\nheader = \"{good}\"").leak();
        assert_eq!(
            Given::file(text).settings().envoy.header.as_deref(),
            Some(good)
        );
    }
}

#[test]
fn a_query_parameter_has_a_name_with_one_spelling() {
    for bad in [
        "a b",
        "a+b",
        "a%20",
        "a&b",
        "a=b",
        "a[]",
        "é",
        "a#",
        "a/b",
        &"a".repeat(65),
    ] {
        let text = format!("[envoy]\nquery-parameter = \"{bad}\"").leak();
        refused(
            text,
            &[&["envoy.query-parameter, from p.toml:2", "no name"]],
        );
    }
    for good in ["key", "api_key", "API-Key.1~", &"a".repeat(64)] {
        let text = format!("[envoy]\nquery-parameter = \"{good}\"").leak();
        let settings = Given::file(text).settings();
        assert_eq!(settings.envoy.query_parameter.as_deref(), Some(good));
    }
}

#[test]
fn a_key_that_was_written_in_place_of_a_name_is_not_printed() {
    let text = "[envoy]\nheader = \"Bearer pc_hunter2\"\nquery-parameter = \"pc/hunter2\"\ntrusted-hops = \"hunter2\"\n\
                token = \"hunter2\"\nroute = [\"hunter2\"]";
    let faults = Given::file(text).faults();
    assert_eq!(faults.len(), 5, "{faults:#?}");
    assert!(!faults.join("\n").contains("hunter2"), "{faults:#?}");
}
