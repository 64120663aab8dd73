use super::*;

fn texts(values: &[&str]) -> Box<[Box<str>]> {
    values.iter().map(|&value| value.into()).collect()
}

fn declaration(name: &str, kind: Kind) -> Declaration {
    Declaration {
        name: name.into(),
        description: "".into(),
        kind,
        default: None,
        header: None,
    }
}

fn any_text(max_length: usize) -> Kind {
    Kind::Text {
        max_length,
        allowed: texts(&[]),
    }
}

#[track_caller]
fn takes(kind: &Kind, good: &[&str], bad: &[&str]) {
    for value in good {
        assert_eq!(kind.check(value), Ok(()), "{value:?}");
    }
    for value in bad {
        assert!(kind.check(value).is_err(), "{value:?}");
    }
}

#[test]
fn a_type_takes_its_values_and_no_others() {
    takes(
        &any_text(5),
        &["a", "äöüß€", "a b"],
        &["", "123456", "a\r\nb", "a\u{202E}", "\u{1b}[0m", "a\0"],
    );
    let senders = Kind::Text {
        max_length: 11,
        allowed: texts(&["Acme", "Acme Bank"]),
    };
    takes(&senders, &["Acme", "Acme Bank"], &["", "acme", "Acme "]);
    let modes = Kind::Enum(texts(&["OFF", "ON", "FULL"]));
    takes(&modes, &["OFF", "FULL"], &["", "off", "O", "OFFON"]);
    takes(
        &Kind::Bool,
        &["true", "false"],
        &["", "True", "1", "yes", " true"],
    );
    let small = Kind::Integer { min: -5, max: 10 };
    takes(
        &small,
        &["-5", "0", "10"],
        &[
            "",
            "-6",
            "11",
            "+1",
            "01",
            "-0",
            "1.0",
            "1e1",
            " 1",
            "99999999999999999999",
        ],
    );
}

#[test]
fn a_url_is_one_to_every_reader() {
    let secure = Kind::Url { allow_http: false };
    takes(
        &secure,
        &[
            "https://example.com",
            "https://example.com:8443/a?b=c#d",
            "https://[::1]/x",
            "https://Example.COM?q",
        ],
        &[
            "",
            "http://example.com",
            "example.com",
            "https:example.com",
            "https:/example.com",
            "https://",
            "https:///path",
            "HTTPS://example.com",
            "https://user@example.com",
            "https://u:p@example.com",
            "https://example.com\\@evil",
            "https://exa mple.com",
            "https://example.com/\r\nx: y",
            "https://example.com/\t",
            "https://ex\u{e4}mple.com",
            "javascript:alert(1)",
            "file:///etc/passwd",
            "ftp://example.com",
            "https://example.com:99999",
            "https://%00/",
            "https://0x7f.1/",
            "https://1.2.3/",
            "https://?host",
        ],
    );
    assert!(
        secure
            .check(&format!("https://example.com/{}", "a".repeat(1_100)))
            .is_err()
    );
    takes(
        &Kind::Url { allow_http: true },
        &["http://example.com/cb", "https://example.com"],
        &["ws://example.com"],
    );
}

#[test]
fn a_declaration_must_make_sense() {
    let good = Declaration {
        default: Some("ON".into()),
        header: Some("x-auto-replace".into()),
        ..declaration("auto_replace", Kind::Enum(texts(&["OFF", "ON"])))
    };
    assert!(Declarations::new(vec![good.clone()]).is_ok());
    let with_header = |header: &str| Declaration {
        header: Some(header.into()),
        ..good.clone()
    };
    let headers = [
        "authorization",
        "cookie",
        "host",
        "content-length",
        "x-forwarded-for",
        "x-envoy-peer",
        "x-portcullis-key",
        "connection",
        "te",
        "transfer-encoding",
        "x-api-key",
        ":path",
        "x_y",
        "X-Upper",
        "a b",
        "",
        "a\r\nb",
        &"a".repeat(65),
    ];
    for header in headers {
        assert!(
            Declarations::new(vec![with_header(header)]).is_err(),
            "{header:?}"
        );
    }
    let broken = [
        declaration("Upper", Kind::Bool),
        declaration("", Kind::Bool),
        declaration("a b", Kind::Bool),
        declaration(&"a".repeat(64), Kind::Bool),
        declaration("a", any_text(0)),
        declaration("a", any_text(1_025)),
        declaration("a", Kind::Enum(texts(&[]))),
        declaration("a", Kind::Enum(texts(&["A", "A"]))),
        declaration("a", Kind::Enum(texts(&["A B"]))),
        declaration("a", Kind::Enum(texts(&[""]))),
        declaration(
            "a",
            Kind::Text {
                max_length: 2,
                allowed: texts(&["abc"]),
            },
        ),
        declaration(
            "a",
            Kind::Text {
                max_length: 9,
                allowed: texts(&["a\r\n"]),
            },
        ),
        declaration("a", Kind::Integer { min: 1, max: 0 }),
        Declaration {
            default: Some("MAYBE".into()),
            ..good.clone()
        },
        Declaration {
            default: Some("".into()),
            ..good.clone()
        },
        Declaration {
            description: "\u{202E}".into(),
            ..good.clone()
        },
    ];
    for one in broken {
        let refused =
            Declarations::new(vec![declaration("first", Kind::Bool), one.clone()]).unwrap_err();
        assert_eq!(refused.index, Some(1), "{one:?}");
    }
    let other = Declaration {
        name: "other".into(),
        ..good.clone()
    };
    assert!(
        Declarations::new(vec![good.clone(), other]).is_err(),
        "one header twice"
    );
    assert!(
        Declarations::new(vec![good.clone(), declaration("auto_replace", Kind::Bool)]).is_err()
    );
    let many = (0..51)
        .map(|n| declaration(&format!("a{n}"), Kind::Bool))
        .collect();
    assert_eq!(Declarations::new(many).unwrap_err().index, None);
}

#[test]
fn the_request_goes_before_the_key_and_the_key_before_the_default() {
    let all = Declarations::new(vec![
        Declaration {
            default: Some("1".into()),
            ..declaration("a", any_text(9))
        },
        Declaration {
            default: Some("1".into()),
            ..declaration("b", any_text(9))
        },
        Declaration {
            default: Some("1".into()),
            ..declaration("c", any_text(9))
        },
        declaration("d", any_text(9)),
    ])
    .unwrap();
    let key: TextMap = [("a", "2"), ("b", "2")].into_iter().collect();
    let request = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    };
    let resolved = all.resolve(&key, &request(&[("a", "3")])).unwrap();
    let resolved = resolved.iter().map(|one| (&*one.name, &*one.value));
    assert!(resolved.eq([("a", "3"), ("b", "2"), ("c", "1")]));
    for bad in [
        &[("e", "1")][..],
        &[("a", "0123456789")],
        &[("a", "")],
        &[("a", "3"), ("A", "3")],
    ] {
        assert_eq!(all.resolve(&key, &request(bad)), None, "{bad:?}");
    }
}
