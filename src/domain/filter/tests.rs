use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Name,
    Tags,
    Labels,
    Time,
    State,
}

impl Field for Of {
    const ALL: &'static [Self] = &[
        Self::Name,
        Self::Tags,
        Self::Labels,
        Self::Time,
        Self::State,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Tags => "tag",
            Self::Labels => "labels",
            Self::Time => "time",
            Self::State => "state",
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Name => Kind::Text,
            Self::Tags => Kind::Set,
            Self::Labels => Kind::Map,
            Self::Time => Kind::Time,
            Self::State => Kind::Choice(&["ON", "OFF"]),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Thing {
    name: &'static str,
    tags: &'static [&'static str],
    labels: &'static [(&'static str, &'static str)],
    time: Option<i64>,
    state: usize,
}

const THING: Thing = Thing {
    name: "Billing Worker",
    tags: &["sms.send", "otp.send"],
    labels: &[("team", "payments"), ("a.b", ""), ("odd name", "x")],
    time: Some(1_000),
    state: 0,
};
const BARE: Thing = Thing {
    name: "",
    tags: &[],
    labels: &[],
    time: None,
    state: 1,
};
const NOW: i64 = 1_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::new(seconds, 0).unwrap()
}

fn parse(text: &str) -> Result<Filter<Condition<Of>>, Invalid> {
    Filter::parse(text, at(NOW))
}

fn passes(filter: &Filter<Condition<Of>>, thing: &Thing) -> bool {
    filter.passes(|condition| match &condition.test {
        Test::Text(test) => test.passes(thing.name),
        Test::Element(test) => thing.tags.iter().any(|tag| test.passes(tag)),
        Test::Entry(name, test) => thing
            .labels
            .iter()
            .any(|(known, value)| *known == &**name && test.passes(value)),
        Test::AnyEntry => !thing.labels.is_empty(),
        Test::Time(test) => test.passes(thing.time.map(at)),
        Test::Choice(place) => *place == thing.state,
    })
}

#[track_caller]
fn judge(text: &str, thing: &Thing) -> bool {
    let filter = parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
    passes(&filter, thing)
}

#[track_caller]
fn refusal(text: &str) -> String {
    match parse(text) {
        Err(why) => why.to_string(),
        Ok(filter) => panic!("{text} was taken as {filter:?}"),
    }
}

#[test]
fn each_kind_of_field_compares_as_documented() {
    for (text, thing, bare) in [
        ("", true, true),
        ("  \n", true, true),
        ("name = \"Billing Worker\"", true, false),
        ("name = 'Billing Worker'", true, false),
        ("name != 'Billing Worker'", false, true),
        ("name = \"billing worker\"", false, false),
        ("name = Billing*", true, false),
        ("name = *Worker", true, false),
        ("name = \"*ng Wo*\"", true, false),
        ("name = *billing*", false, false),
        ("name = Worker*", false, false),
        ("name = *Billing", false, false),
        ("name:WORK", true, false),
        ("name:'wörk'", false, false),
        ("name:*", true, false),
        ("name = *", true, false),
        ("name != *", false, true),
        ("name = \"\"", false, true),
        (r#"name = "\*""#, false, false),
        (r#"name = "Billing\*""#, false, false),
        ("tag = sms.send", true, false),
        ("tag:sms.send", true, false),
        ("tag:sms", false, false),
        ("tag != sms.send", false, true),
        ("tag = sms.*", true, false),
        ("tag = *.send", true, false),
        ("tag = *", false, false),
        ("tag:\"*\"", false, false),
        ("labels:team", true, false),
        ("labels:teams", false, false),
        ("labels:*", true, false),
        ("labels.team = payments", true, false),
        ("labels.team != payments", false, true),
        ("labels.team:PAY", true, false),
        ("labels.team = pay*", true, false),
        ("labels.a.b:*", true, false),
        ("labels.a.b = *", true, false),
        ("labels.a.b = \"\"", true, false),
        ("labels.\"odd name\" = x", true, false),
        ("labels.\"a.b\":*", true, false),
        ("time:*", true, false),
        ("time = 1970-01-01T00:16:40Z", true, false),
        ("time != 1970-01-01T00:16:40Z", false, true),
        ("time < 1970-01-01T00:16:40Z", false, false),
        ("time <= 1970-01-01T00:16:40Z", true, false),
        ("time > 1970-01-01T00:16:40Z", false, false),
        ("time >= 1970-01-01T01:16:40+01:00", true, false),
        ("time > 1970-01-01T00:16:39.999999999Z", true, false),
        ("time > 1970-01-01", true, false),
        ("time < \"1970-01-02\"", true, false),
        ("time > 1969-12-31T23:59:59.5Z", true, false),
        ("time < +7d", true, false),
        ("NOT time < +7d", false, true),
        ("time = -999000s", true, false),
        ("time > -1w", false, false),
        ("time > -2w", true, false),
        ("time < -11d AND time > -12d", true, false),
        ("time > -16651m AND time < -277h", true, false),
        ("state = ON", true, false),
        ("state != ON", false, true),
    ] {
        assert_eq!(judge(text, &THING), thing, "{text}");
        assert_eq!(judge(text, &BARE), bare, "{text}, of the bare one");
    }
}

#[test]
fn a_set_with_a_star_has_the_star_and_nothing_else() {
    let all = Thing {
        tags: &["*"],
        ..BARE
    };
    for (text, has) in [
        ("tag = *", true),
        ("tag:*", true),
        (r#"tag = "\*""#, true),
        ("tag = sms.send", false),
        ("tag = sms.*", false),
    ] {
        assert_eq!(judge(text, &all), has, "{text}");
    }
}

#[test]
fn letters_beyond_ascii_are_found_in_any_case() {
    let thing = Thing {
        name: "Größe ÄÖÜ",
        ..BARE
    };
    for (text, found) in [
        ("name:\"GRÖ\"", true),
        ("name:\"äöü\"", true),
        ("name:\"öße ä\"", true),
        ("name:e", true),
        ("name:\"üö\"", false),
    ] {
        assert_eq!(judge(text, &thing), found, "{text}");
    }
}

/// As AIP-160 has it, and unlike most languages.
#[test]
fn or_binds_tighter_than_and() {
    let (yes, no) = ("state = ON", "state = OFF");
    for (text, due) in [
        (format!("{no} AND {no} OR {yes}"), false),
        (format!("{yes} OR {no} AND {no}"), false),
        (format!("({no} AND {no}) OR {yes}"), true),
        (format!("{yes} AND {no} OR {yes}"), true),
        (format!("{yes} AND {yes} AND {no}"), false),
        (format!("{no} OR {no} OR {yes}"), true),
        (format!("NOT {yes} OR {yes}"), true),
        (format!("NOT {no} AND NOT ({yes} AND {no})"), true),
        (format!("-{no}"), true),
        (format!("-({yes})"), false),
        (format!("NOT(({no}))"), true),
        (format!("NOT {yes} AND {no}"), false),
        ("NOT state != ON".to_owned(), true),
        ("-(state!=ON)AND(state=ON)".to_owned(), true),
    ] {
        assert_eq!(judge(&text, &THING), due, "{text}");
    }
}

#[test]
fn a_refusal_says_where_and_what_was_expected() {
    for (text, position, says) in [
        (
            "foo = 1",
            1,
            "there is no field 'foo'; the fields are name, tag, labels, time, state",
        ),
        ("state = ON AND foo = 1", 16, "no field 'foo'"),
        ("name", 5, "expected one of = != < <= > >= :, not the end"),
        ("name billing", 6, "expected one of"),
        ("name =", 7, "expected a value"),
        (
            "name = ä",
            8,
            "expected a value: a word, or a text in quotes, not 'ä'",
        ),
        ("name = \"ä\" ö", 12, "expected AND, OR or the end, not 'ö'"),
        (
            "name = a name = b",
            10,
            "expected AND, OR or the end, not 'n'",
        ),
        ("name = a and name = b", 10, "expected AND, OR"),
        ("name = a ANDname = b", 10, "expected AND, OR"),
        ("name = AND", 8, "expected a value"),
        ("AND name = a", 1, "expected the name of a field"),
        (
            "name = a AND",
            13,
            "expected the name of a field, not the end",
        ),
        (
            "name = a OR OR name = b",
            13,
            "expected the name of a field",
        ),
        ("NOT NOT name = a", 5, "expected the name of a field"),
        ("--name = a", 2, "expected the name of a field"),
        ("(name = a", 10, "expected AND, OR or ')', not the end"),
        ("name = a)", 9, "expected AND, OR or the end"),
        ("()", 2, "expected the name of a field"),
        ("= a", 1, "expected the name of a field"),
        ("\"name\" = a", 1, "expected the name of a field"),
        ("name = \"a", 8, "the quote is not closed"),
        ("name = 'a\"", 8, "the quote is not closed"),
        (r#"name = "\n""#, 10, "after the backslash"),
        ("name.first = a", 1, "name has no parts"),
        ("labels. = a", 8, "a name after the dot"),
        ("labels.\"\" = a", 10, "a name after the dot"),
        ("labels = team", 1, "labels does not take '=', only :"),
        (
            "labels.team < a",
            1,
            "labels does not take '<', only = != :",
        ),
        ("name < a", 1, "name does not take '<', only = != :"),
        ("tag >= a", 1, "tag does not take '>='"),
        ("state:ON", 1, "state does not take ':', only = !="),
        ("state = on", 1, "state is never 'on', only ON, OFF"),
        ("time = tomorrow", 1, "a time is written"),
        ("time:2026-12-31", 1, "after a time's ':'"),
        ("time = *", 1, "a time is written"),
        ("name = a\u{0}", 9, "not '\\0'"),
    ] {
        let refusal = refusal(text);
        assert!(
            refusal.starts_with(&format!("at character {position}: ")) && refusal.contains(says),
            "{text}: {refusal}"
        );
    }
}

#[test]
fn times_are_read_strictly_and_never_overflow() {
    for bad in [
        "2026-13-01",
        "2026-02-30",
        "2026-1-1",
        "20261231",
        "2026-12-31T25:00:00Z",
        "2026-12-31T09:00:00",
        "2026-12-31 09:00:00Z",
        "0000-12-31",
        "-000001-12-31T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "+7",
        "+d",
        "7d",
        "+7y",
        "+7D",
        "+7dd",
        "+7d7",
        "+-7d",
        "+7 d",
        "+7.5d",
        "++7d",
        "+99999999999999999999d",
        "+9223372036854775807s",
        "+9223372036854775807w",
        "-9223372036854775807s",
        "+3000000d",
        "-800000d",
        "",
    ] {
        let refused = refusal(&format!("time < \"{bad}\""));
        assert!(refused.starts_with("at character 1: "), "{bad}: {refused}");
    }
    for good in ["0001-01-01", "9999-12-30", "+0s", "-0d", "+2900000d"] {
        assert!(parse(&format!("time < \"{good}\"")).is_ok(), "{good}");
    }
}

#[test]
fn length_depth_and_number_are_bounded() {
    let longest = format!("name = \"{}\"", "x".repeat(MAX_BYTES - 9));
    assert_eq!(longest.len(), MAX_BYTES);
    assert!(parse(&longest).is_ok());
    assert!(parse(&format!("{longest} ")).is_err());
    assert!(refusal(&"x".repeat(1 << 20)).contains("at most 4096 bytes"));

    let nested = |depth| format!("{}state = ON{}", "(".repeat(depth), ")".repeat(depth));
    assert!(judge(&nested(MAX_DEPTH), &THING));
    assert!(refusal(&nested(MAX_DEPTH + 1)).contains("more than 32 parentheses"));
    assert!(refusal(&"(".repeat(MAX_BYTES)).contains("more than 32 parentheses"));
    assert!(refusal(&"NOT(".repeat(1_000)).contains("more than 32 parentheses"));
    assert!(refusal(&"-(".repeat(2_000)).contains("more than 32 parentheses"));
    assert!(refusal(&"(".repeat(10_000)).contains("at most 4096 bytes"));

    let joined = |number: usize, by: &str| vec!["state = ON"; number].join(by);
    for by in [" AND ", " OR "] {
        assert!(judge(&joined(MAX_COMPARISONS, by), &THING));
        assert!(refusal(&joined(MAX_COMPARISONS + 1, by)).contains("more than 100 comparisons"));
    }
}

#[test]
fn a_refusal_is_short_and_has_no_control_characters() {
    for text in [
        format!("{} = 1", "x".repeat(4_000)),
        format!("state = \"{}\"", "\u{202e}\u{1b}[31m".repeat(300)),
    ] {
        let refusal = refusal(&text);
        assert!(refusal.len() < 1_000, "{refusal}");
        assert!(!refusal.contains(['\u{1b}', '\u{202e}']), "{refusal}");
    }
}

/// Texts that are nearly filters.
fn nearly() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "name",
        "tag",
        "labels",
        "labels.team",
        ".",
        "time",
        "state",
        "=",
        "!=",
        "<",
        "<=",
        ">",
        ">=",
        ":",
        "AND",
        "OR",
        "NOT",
        "-",
        "(",
        ")",
        "ON",
        "OFF",
        "\"",
        "'",
        "\\",
        "*",
        "+7d",
        "2026-12-31",
        " ",
        "ä",
        "\u{0}",
        "payments",
        "\"a b\"",
        "+9223372036854775807w",
    ]);
    prop::collection::vec((token, prop::sample::select(vec!["", " "])), 0..40)
        .prop_map(|tokens| tokens.into_iter().flat_map(|(a, b)| [a, b]).collect())
}

/// A filter in the language, and what it says of [`THING`].
fn known() -> impl Strategy<Value = (String, bool)> {
    let leaf = prop::sample::select(vec![
        ("state = ON", true),
        ("state = OFF", false),
        ("tag = 'sms.send'", true),
        ("time > +1d", false),
        ("labels.team != payments", false),
    ])
    .prop_map(|(text, value)| (text.to_owned(), value));
    leaf.prop_recursive(6, 60, 4, |inner| {
        let inner = inner.prop_map(|(text, value)| (format!("({text})"), value));
        let several = prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            inner.prop_map(|(text, value)| (format!("NOT {text}"), !value)),
            several
                .clone()
                .prop_map(|all| (join(&all, " AND "), all.iter().all(|(_, value)| *value))),
            several.prop_map(|any| (join(&any, " OR "), any.iter().any(|(_, value)| *value))),
        ]
    })
}

fn join(parts: &[(String, bool)], by: &str) -> String {
    let texts: Vec<_> = parts.iter().map(|(text, _)| text.as_str()).collect();
    texts.join(by)
}

proptest! {
    #[test]
    fn no_text_panics(text in prop_oneof![nearly(), any::<String>()]) {
        if let Ok(filter) = parse(&text) {
            passes(&filter, &THING);
            passes(&filter, &BARE);
        }
    }

    #[test]
    fn a_filter_says_what_its_parts_say((text, value) in known()) {
        // Too large ones are refused, which another test is about.
        if let Ok(filter) = parse(&text) {
            prop_assert_eq!(passes(&filter, &THING), value, "{}", text);
            let mapped = filter.map(Clone::clone);
            prop_assert_eq!(mapped, filter);
        } else {
            // Each comparison has one of them.
            let comparisons = text.matches(['=', '>']).count();
            prop_assert!(text.len() > MAX_BYTES || comparisons > MAX_COMPARISONS);
        }
    }
}
