use proptest::prelude::*;

use super::*;

fn record(event: Event) -> EventRecord {
    let revision = Revision {
        epoch: 1,
        number: 42,
    };
    EventRecord {
        schema: 2,
        revision,
        digest: event_digest(2, revision, &event),
        event,
    }
}

fn event() -> Event {
    Event {
        time: Timestamp::new(1_700_000_000, 5).expect("a time"),
        actor: "local:0".into(),
        team: String::new(),
        action: Action::Update,
        method: "UpdateKey".into(),
        entity: Entity::Key,
        resource: "workspaces/default/keys/4fZ0123456789abcdefghi".into(),
        changes: vec![
            FieldChange {
                field: "display_name".into(),
                before: String::new(),
                after: "a \"new\", name".into(),
            },
            FieldChange {
                field: "labels.team".into(),
                before: "a".into(),
                after: "b".into(),
            },
        ],
        source_address: "192.0.2.7".into(),
        request_id: "call-1".into(),
    }
}

fn head(number: u64) -> ChainHead {
    ChainHead {
        revision: Revision { epoch: 1, number },
        hash: [0xab; 32],
    }
}

fn json(record: &EventRecord, chain: Option<ChainHead>) -> String {
    let mut out = Vec::new();
    write_json(&mut out, record, chain);
    let line = String::from_utf8(out).expect("text");
    line.strip_suffix('\n').expect("a whole line").to_owned()
}

fn csv(record: &EventRecord, chain: Option<ChainHead>) -> Vec<String> {
    let mut out = Vec::new();
    write_csv(&mut out, record, chain);
    let mut lines = parse_csv(std::str::from_utf8(&out).expect("text"));
    assert_eq!(lines.len(), 1, "one line");
    lines.remove(0)
}

/// RFC 4180, told by nothing but these lines.
fn parse_csv(text: &str) -> Vec<Vec<String>> {
    let (mut lines, mut line, mut cell) = (Vec::new(), Vec::new(), String::new());
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => line.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {
                assert_eq!(chars.next(), Some('\n'), "CR stands before LF");
                line.push(std::mem::take(&mut cell));
                lines.push(std::mem::take(&mut line));
            }
            '\n' if !quoted => panic!("a line feed of its own"),
            c => cell.push(c),
        }
    }
    assert!(
        !quoted && cell.is_empty() && line.is_empty(),
        "whole lines only"
    );
    lines
}

#[test]
fn a_line_has_the_fields_of_the_documentation() {
    let record = record(event());
    let digest = hex(&record.digest);
    let line = json(&record, Some(head(42)));
    let chain = "ab".repeat(32);
    assert_eq!(
        line,
        format!(
            r#"{{"revision":"1.42","time":"2023-11-14T22:13:20.000000005Z","actor":"local:0","team":"","action":"UPDATE","method":"UpdateKey","entity":"KEY","resource":"workspaces/default/keys/4fZ0123456789abcdefghi","changes":[{{"field":"display_name","before":"","after":"a \"new\", name"}},{{"field":"labels.team","before":"a","after":"b"}}],"sourceAddress":"192.0.2.7","requestId":"call-1","digest":"{digest}","schema":2,"chain":"1.42:{chain}"}}"#
        )
    );
    let cells = csv(&record, None);
    let mut header = Vec::new();
    write_csv_header(&mut header);
    let header = parse_csv(std::str::from_utf8(&header).expect("text"));
    assert_eq!(header, [FIELDS.map(str::to_owned).to_vec()]);
    assert_eq!(cells.len(), FIELDS.len());
    assert_eq!(
        cells[8],
        r#"[{"field":"display_name","before":"","after":"a \"new\", name"},{"field":"labels.team","before":"a","after":"b"}]"#
    );
    assert_eq!((&*cells[0], &*cells[12], &*cells[13]), ("1.42", "2", ""));
}

#[test]
fn no_cell_begins_a_formula() {
    for (text, cell) in [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\n=1", "'\n=1"),
        ("=\"a\",b", "'=\"a\",b"),
        ("a=1", "a=1"),
        ("'=1", "'=1"),
        ("", ""),
        ("a\r\nb", "a\r\nb"),
    ] {
        let record = record(Event {
            team: text.to_owned(),
            ..event()
        });
        assert_eq!(csv(&record, None)[3], cell, "{text:?}");
    }
}

#[test]
fn a_line_that_was_changed_anywhere_is_refused() {
    let line = json(&record(event()), Some(head(42)));
    assert!(read_json(&line).is_ok());
    let end = line.find(r#""chain""#).expect("the last field");
    for place in 0..end {
        for other in [b'0', b'"', b' ', b'A'] {
            let mut changed = line.clone().into_bytes();
            if changed[place] == other {
                continue;
            }
            changed[place] = other;
            let changed = String::from_utf8(changed).expect("ASCII");
            assert!(read_json(&changed).is_err(), "{changed}");
        }
    }
}

/// Otherwise a line could say more than the digest covers, or different things to different readers.
#[test]
fn a_line_has_one_spelling() {
    let line = json(&record(event()), None);
    for (what, changed) in [
        (
            "one more field",
            line.replacen('{', r#"{"note":"approved","#, 1),
        ),
        (
            "the same field twice",
            line.replacen('{', r#"{"actor":"local:1","#, 1),
        ),
        ("a space", line.replacen(',', ", ", 1)),
        (
            "another spelling of a letter",
            line.replacen("local", "\\u006cocal", 1),
        ),
        (
            "another spelling of the time",
            line.replacen("20.000000005Z", "20.0000000050Z", 1),
        ),
        (
            "the time in another zone",
            line.replacen("22:13:20.000000005Z", "23:13:20.000000005+01:00", 1),
        ),
        (
            "capital digits",
            line.replacen(
                &hex(&record(event()).digest),
                &hex(&record(event()).digest).to_uppercase(),
                1,
            ),
        ),
        (
            "another field in a change",
            line.replacen(r#"{"field""#, r#"{"by":"me","field""#, 1),
        ),
        (
            "a field less",
            line.replacen(r#","requestId":"call-1""#, "", 1),
        ),
        ("something behind", format!("{line} ")),
        ("a schema to come", {
            line.replacen(r#""schema":2"#, r#""schema":3"#, 1)
        }),
        ("an array", "[]".to_owned()),
        ("nothing", String::new()),
    ] {
        assert_ne!(changed, line, "{what}");
        assert!(read_json(&changed).is_err(), "{what}: {changed}");
    }
}

prop_compose! {
    fn texts()(text in "\\PC{0,12}|[\"\\\\\\x00-\\x1f,'=+@-]{0,6}") -> String { text }
}

proptest! {
    #[test]
    fn any_event_comes_back_from_its_line(
        seconds in -62_135_596_800_i64..=253_402_300_799,
        nanos in 0..1_000_000_000_i32,
        texts in proptest::array::uniform6(texts()),
        changes in proptest::collection::vec((texts(), texts(), texts()), 0..4),
        kinds in (0..3_usize, 0..3_usize),
        schema in 1..=2_u32,
        epoch in 0..u32::MAX,
        number in 0..u64::MAX,
        chain in any::<Option<[u8; 32]>>(),
    ) {
        let [actor, team, method, resource, source_address, request_id] = texts;
        let event = Event {
            time: Timestamp::new(seconds, nanos).expect("in range"),
            actor,
            team,
            action: Action::ALL[kinds.0],
            method: method.into(),
            entity: Entity::ALL[kinds.1],
            resource,
            changes: changes
                .into_iter()
                .map(|(field, before, after)| FieldChange { field, before, after })
                .collect(),
            source_address,
            request_id,
        };
        let revision = Revision { epoch, number };
        let record = EventRecord {
            schema,
            revision,
            digest: event_digest(schema, revision, &event),
            event,
        };
        let chain = chain.map(|hash| ChainHead { revision, hash });
        let read = read_json(&json(&record, chain));
        prop_assert_eq!(read, Ok(Line { record: record.clone(), chain }));

        let cells = csv(&record, chain);
        let unguarded = |cell: &str, text: &str| cell == text || cell.strip_prefix('\'') == Some(text);
        prop_assert!(unguarded(&cells[2], &record.event.actor));
        prop_assert!(unguarded(&cells[7], &record.event.resource));
        prop_assert_eq!(cells.len(), FIELDS.len());
    }
}
