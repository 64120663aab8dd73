mod envoy;
mod fleet;
mod tables;
mod tls;

use std::collections::HashMap;

use super::*;

/// A well-formed token that opens nothing: key id 0, all digits 0.
fn token() -> String {
    let digits = [b'0'; crate::domain::credential::SECRET_DIGITS];
    let key_id = "0".repeat(22);
    let crc = crate::domain::credential::crc(key_id.as_bytes(), &digits);
    let checksum = crate::domain::base62::encode_u32(crc);
    format!(
        "pc_{key_id}_{}{}",
        "0".repeat(43),
        String::from_utf8_lossy(&checksum)
    )
}

#[derive(Default)]
struct Given {
    flags: ServeFlags,
    env: HashMap<&'static str, String>,
    file: Option<&'static str>,
    /// Files beside the one with settings.
    others: HashMap<&'static str, String>,
}

impl Given {
    fn env(pairs: &[(&'static str, &str)]) -> Self {
        Self {
            env: pairs
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
            ..Self::default()
        }
    }

    fn file(text: &'static str) -> Self {
        let flags = ServeFlags {
            config: Some("p.toml".into()),
            ..ServeFlags::default()
        };
        Self {
            flags,
            file: Some(text),
            ..Self::default()
        }
    }

    fn explain(&self) -> Result<Explained, Faults> {
        Settings::explain(
            &self.flags,
            &|name| self.env.get(name).map(OsString::from),
            &|path| match (path.to_str(), self.file) {
                (Some("p.toml"), Some(text)) => Ok(text.to_owned()),
                (Some("/proc/sys/kernel/hostname"), _) => Ok("gate-7\n".to_owned()),
                (Some(name), _) if self.others.contains_key(name) => Ok(self.others[name].clone()),
                _ => Err(io::ErrorKind::NotFound.into()),
            },
        )
    }

    fn settings(&self) -> Settings {
        self.explain()
            .unwrap_or_else(|faults| panic!("{faults}"))
            .settings
    }

    fn faults(&self) -> Vec<String> {
        self.explain()
            .expect_err("faults")
            .0
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    /// Asserts that there is just one fault, and that it says all of this.
    #[track_caller]
    fn refused(&self, says: &[&str]) {
        let faults = self.faults();
        assert_eq!(faults.len(), 1, "{faults:#?}");
        for part in says {
            assert!(
                faults[0].contains(part),
                "{part:?} is not in {:?}",
                faults[0]
            );
        }
    }
}

#[test]
fn the_defaults_are_as_documented() {
    let settings = Given::default().settings();
    assert_eq!(settings.listen.gate.to_string(), "127.0.0.1:7700");
    assert_eq!(settings.listen.admin.to_string(), "127.0.0.1:7701");
    assert_eq!(settings.listen.ops.to_string(), "127.0.0.1:7702");
    assert!(!settings.listen.gate_insecure && !settings.listen.admin_insecure);
    assert_eq!(settings.data_dir, Path::new("./data"));
    assert_eq!(settings.name, "gate-7");
    assert_eq!(
        settings.log,
        LogSettings {
            format: LogFormat::Text,
            filter: "info".into()
        }
    );
    assert!(settings.root_token.is_none());
    assert!(settings.redis.is_none() && settings.lease.is_none());
}

#[test]
fn every_setting_can_be_given_in_the_file() {
    let settings = Given::file(
        r#"gate = "0.0.0.0:1"
           gate-insecure = true
           admin = "[::]:2"
           admin-insecure = "true"
           ops = "unix:/run/ops.sock"
           data-dir = "/var/lib/portcullis"
           name = "blue"
           log-format = "json"
           log = "warn,portcullis=debug""#,
    )
    .settings();
    assert_eq!(settings.listen.gate.to_string(), "0.0.0.0:1");
    assert_eq!(settings.listen.admin.to_string(), "[::]:2");
    assert_eq!(settings.listen.ops, Listen::Unix("/run/ops.sock".into()));
    assert!(settings.listen.gate_insecure && settings.listen.admin_insecure);
    assert_eq!(settings.data_dir, Path::new("/var/lib/portcullis"));
    assert_eq!(settings.name, "blue");
    assert_eq!(
        settings.log,
        LogSettings {
            format: LogFormat::Json,
            filter: "warn,portcullis=debug".into()
        }
    );
}

#[test]
fn a_flag_beats_a_variable_beats_the_file() {
    let mut given = Given::file("name = \"file\"\n\nlog = \"warn\"\ngate-insecure = true");
    let origin = |given: &Given, name: &str| {
        let rows = given.explain().unwrap().rows;
        let row = rows.into_iter().find(|row| row.name == name).unwrap();
        (row.value, row.origin.to_string())
    };
    assert_eq!(origin(&given, "name"), ("file".into(), "p.toml:1".into()));
    assert_eq!(origin(&given, "log"), ("warn".into(), "p.toml:3".into()));
    assert_eq!(
        origin(&given, "gate"),
        ("127.0.0.1:7700".into(), "default".into())
    );
    given.env.insert("PORTCULLIS_NAME", "variable".into());
    assert_eq!(
        origin(&given, "name"),
        ("variable".into(), "PORTCULLIS_NAME".into())
    );
    given.flags.name = Some("flag".into());
    assert_eq!(origin(&given, "name"), ("flag".into(), "--name".into()));
    given.flags.gate_insecure = Some("false".into());
    assert_eq!(
        origin(&given, "gate-insecure"),
        ("false".into(), "--gate-insecure".into())
    );
}

#[test]
fn rows_cover_every_setting_and_show_no_secret() {
    let token = token();
    let explained = Given::env(&[("PORTCULLIS_ROOT_TOKEN", &token)])
        .explain()
        .unwrap();
    let mut names: Vec<_> = Setting::ALL.into_iter().map(Setting::name).collect();
    names.extend([
        "redis-password",
        "envoy.header",
        "envoy.query-parameter",
        "envoy.trusted-hops",
        "envoy.routes",
        "root-token",
    ]);
    assert_eq!(
        explained
            .rows
            .iter()
            .map(|row| row.name)
            .collect::<Vec<_>>(),
        names
    );
    let last = explained.rows.last().unwrap();
    assert_eq!(
        (last.value.as_str(), last.origin.to_string().as_str()),
        ("set", "PORTCULLIS_ROOT_TOKEN")
    );
    assert_eq!(
        explained
            .settings
            .root_token
            .as_ref()
            .unwrap()
            .native()
            .expose(),
        token
    );
    assert!(!format!("{explained:?}").contains(&token[3..]));
}

#[test]
fn all_faults_are_reported_at_once() {
    let mut given =
        Given::file("gate = 7\nadmin = \"nowhere\"\ncolour = \"red\"\nlog-format = \"xml\"");
    given.env.insert("PORTCULLIS_LOG", "lots".into());
    given.env.insert("PORTCULLIS_ROOT_TOKEN", "hunter2".into());
    given.flags.name = Some("".into());
    given.flags.gate_insecure = Some("yes".into());
    let faults = given.explain().unwrap_err().to_string();
    assert_eq!(faults.lines().count(), 8, "{faults}");
    for part in [
        "gate, from p.toml:1:",
        "admin, from p.toml:2:",
        "\"colour\", from p.toml:3:",
        "log-format, from p.toml:4:",
        "log, from PORTCULLIS_LOG:",
        "root-token, from PORTCULLIS_ROOT_TOKEN:",
        "name, from --name:",
        "gate-insecure, from --gate-insecure:",
    ] {
        assert!(faults.contains(part), "{part} is not in\n{faults}");
    }
    assert!(!faults.contains("hunter2"));
}

#[test]
fn an_unknown_field_is_refused_with_its_line() {
    Given::file("# a comment\ncolour = \"red\"").refused(&["p.toml:2", "colour", "is no setting"]);
    Given::file("data_dir = \"x\"").refused(&["did you mean data-dir"]);
    Given::file("[gate]\naddress = \"x\"").refused(&["p.toml:1", "table", "a text in quotes"]);
    Given::file("[log.json]\nx = 1").refused(&["p.toml:1", "table"]);
}

#[test]
fn a_secret_in_the_file_is_refused_and_not_printed() {
    Given::file("root-token = \"pc_hunter2\"").refused(&["p.toml:1", "PORTCULLIS_ROOT_TOKEN"]);
    for text in [
        "root-token = \"pc_hunter2\"",
        "root_token = \"pc_hunter2",
        "root-token = pc_hunter2",
    ] {
        let faults = Given::file(text).faults().join("\n");
        assert!(!faults.contains("hunter2"), "{faults}");
    }
}

#[test]
fn a_duplicate_field_is_refused_with_its_line() {
    Given::file("name = \"a\"\nlog = \"info\"\nname = \"b\"").refused(&["p.toml:3", "duplicate"]);
}

#[test]
fn a_file_that_is_not_there_is_refused() {
    let mut given = Given::default();
    given.env.insert("PORTCULLIS_CONFIG", "gone.toml".into());
    given.refused(&["PORTCULLIS_CONFIG", "gone.toml", "cannot be read"]);
}

#[test]
fn a_listener_off_loopback_needs_its_insecure_flag() {
    for address in [
        "0.0.0.0:7700",
        "[::]:7700",
        "192.0.2.1:0",
        "[::ffff:192.0.2.1]:7700",
    ] {
        Given::env(&[("PORTCULLIS_GATE", address)])
            .refused(&["gate, from PORTCULLIS_GATE", "--gate-insecure"]);
        Given::env(&[
            ("PORTCULLIS_ADMIN", address),
            ("PORTCULLIS_GATE", "127.0.0.1:1"),
        ])
        .refused(&["admin, from PORTCULLIS_ADMIN", "--admin-insecure"]);
        // One flag does not speak for the other.
        Given::env(&[
            ("PORTCULLIS_GATE", address),
            ("PORTCULLIS_ADMIN_INSECURE", "true"),
        ])
        .refused(&["--gate-insecure"]);
        Given::env(&[
            ("PORTCULLIS_GATE", address),
            ("PORTCULLIS_GATE_INSECURE", "true"),
        ])
        .settings();
        Given::env(&[
            ("PORTCULLIS_OPS", address),
            ("PORTCULLIS_GATE", "127.0.0.1:1"),
        ])
        .settings();
    }
    for address in [
        "127.0.0.1:1",
        "127.9.9.9:1",
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
        "localhost:1",
        "unix:/a",
    ] {
        Given::env(&[("PORTCULLIS_GATE", address)]).settings();
        Given::env(&[("PORTCULLIS_ADMIN", address)]).settings();
    }
}

#[test]
fn two_listeners_never_share_an_address() {
    Given::env(&[("PORTCULLIS_ADMIN", "127.0.0.1:7700")])
        .refused(&["admin, from PORTCULLIS_ADMIN", "taken by gate"]);
    Given::env(&[("PORTCULLIS_OPS", "0.0.0.0:7701")])
        .refused(&["ops, from PORTCULLIS_OPS", "taken by admin"]);
    Given::env(&[("PORTCULLIS_OPS", "[::]:7701")]).refused(&["taken by admin"]);
    Given::env(&[
        ("PORTCULLIS_GATE", "unix:/a"),
        ("PORTCULLIS_OPS", "unix:///a"),
    ])
    .refused(&["taken by gate"]);
    Given::env(&[("PORTCULLIS_GATE", "unix:./data/admin.sock")]).refused(&["gate", "admin socket"]);
    Given::env(&[
        ("PORTCULLIS_GATE", "127.0.0.1:0"),
        ("PORTCULLIS_ADMIN", "127.0.0.1:0"),
        ("PORTCULLIS_OPS", "127.0.0.1:0"),
    ])
    .settings();
    Given::env(&[("PORTCULLIS_ADMIN", "[::1]:7700")]).settings();
}

#[test]
fn what_is_no_address_is_refused() {
    let long = format!("unix:/{}", "a".repeat(107));
    for address in [
        "7700",
        ":7700",
        "127.0.0.1",
        "127.0.0.1:65536",
        "gate.example:7700",
        "::1:7700x",
        "unix:",
        "tcp://[::1]:1",
        &long,
    ] {
        Given::env(&[("PORTCULLIS_GATE", address)]).refused(&["gate, from PORTCULLIS_GATE"]);
    }
}

#[test]
fn an_address_displays_as_it_is_given() {
    for text in [
        "127.0.0.1:7700",
        "[::1]:7700",
        "unix:/run/gate.sock",
        "unix:gate.sock",
    ] {
        assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
    }
    assert_eq!(
        "localhost:1".parse::<Listen>().unwrap().to_string(),
        "127.0.0.1:1"
    );
    assert_eq!(
        "unix:///run/x".parse::<Listen>().unwrap().to_string(),
        "unix:/run/x"
    );
}

#[test]
fn bad_values_are_refused() {
    for (variable, values) in [
        ("PORTCULLIS_GATE_INSECURE", ["0", "1", "TRUE"]),
        ("PORTCULLIS_LOG_FORMAT", [" ", "JSON", "pretty"]),
        ("PORTCULLIS_LOG", [" ", "inof", "portcullis=loud"]),
        ("PORTCULLIS_NAME", [" ", "\t", "a\u{7}b"]),
        (
            "PORTCULLIS_ROOT_TOKEN",
            ["", "pc_hunter2", "Bearer hunter2"],
        ),
    ] {
        for value in values {
            Given::env(&[(variable, value)]).refused(&[variable]);
        }
    }
    Given::file("data-dir = \"\"").refused(&["data-dir", "empty"]);
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let mut given = Given::file("log = \"warn\"");
    for setting in Setting::ALL {
        given.env.insert(setting.variable().leak(), String::new());
    }
    given.env.insert("PORTCULLIS_CONFIG", String::new());
    let settings = given.settings();
    assert_eq!(settings.log.filter, "warn");
    assert_eq!(settings.listen.gate.to_string(), "127.0.0.1:7700");
    given.flags.config = None;
    assert_eq!(given.settings().log.filter, "info");
}

#[test]
fn a_file_that_is_not_toml_causes_no_further_fault() {
    Given::file("colour = \"red\"\ngate = 127.0.0.1:7700\nlog = 7").refused(&["p.toml:2", "TOML"]);
    Given::file("gate = \"127.0.0.1:7700\nlog = \"info\"").refused(&["p.toml:1", "TOML"]);
    // What the file would have allowed is not missed.
    let mut given = Given::file("gate-insecure = true\nlog =");
    given.flags.gate = Some("0.0.0.0:7700".into());
    given.refused(&["p.toml:2", "TOML"]);
}

#[test]
fn a_control_character_in_a_value_is_printed_escaped() {
    let faults = Given::env(&[("PORTCULLIS_GATE", "\u{1b}[2J")]).faults();
    assert!(!faults[0].contains('\u{1b}'), "{faults:?}");
}

#[test]
fn a_near_miss_of_a_root_token_is_refused_without_being_printed() {
    let good = token();
    let last = if good.ends_with('1') { "2" } else { "1" };
    let bad = format!("{}{last}", &good[..good.len() - 1]);
    let faults = Given::env(&[("PORTCULLIS_ROOT_TOKEN", &bad)]).faults();
    assert!(!faults[0].contains(&bad[10..]), "{faults:?}");
}
