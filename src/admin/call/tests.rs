use super::*;

fn timeout(text: &'static str) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    metadata.insert("grpc-timeout", text.parse().unwrap());
    metadata
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_due_a_margin_before_the_deadline() {
    let now = Instant::now();
    for (text, millis) in [
        ("1H", 3_599_500),
        ("2M", 119_500),
        ("10S", 9_500),
        ("5S", 4_500),
        ("1S", 900),
        ("1000m", 900),
        ("1000000u", 900),
        ("99999999n", 79),
        ("200m", 180),
        ("100m", 80),
        ("30m", 10),
        ("20m", 0),
        ("1n", 0),
        ("0S", 0),
    ] {
        let due = answer_by(&timeout(text)).expect(text);
        assert_eq!((due - now).as_millis(), millis, "{text}");
    }
    let ages = answer_by(&timeout("99999999H")).expect("eleven thousand years");
    assert!(ages - now > Duration::from_hours(99_999_998));
}

#[test]
fn a_malformed_timeout_is_none() {
    for text in [
        "",
        "S",
        "1",
        "1s",
        "1h",
        "-1S",
        "+1S",
        "1.5S",
        " 1S",
        "1 S",
        "1S ",
        "123456789S",
        "1SS",
        "0x1S",
        "S1",
        "1\u{b5}",
    ] {
        if let Ok(value) = text.parse() {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", value);
            assert_eq!(answer_by(&metadata), None, "{text:?}");
        }
        assert_eq!(parse_timeout(text.as_bytes()), None, "{text:?}");
    }
    assert_eq!(answer_by(&MetadataMap::new()), None);
}

#[tokio::test(start_paused = true)]
async fn there_is_one_try_at_least_and_none_after_the_deadline() {
    let long = Tries {
        left: TRIES,
        until: Instant::now() + Duration::from_secs(1),
    };
    assert_eq!(long.count(), TRIES);
    let mut late = Tries {
        left: TRIES,
        until: Instant::now(),
    };
    assert_eq!(late.next(), Some(()));
    assert_eq!(late.next(), None);
}
