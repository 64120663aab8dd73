//! Exports, read back by nothing but their documentation.

use std::{fs, process::Command};

use portcullis::{
    admin::audit::offline::{FileVerdict, verify_file},
    domain::{chain::ChainHead, id::Revision},
};
use prost::Message as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    ALL, Clients, DEFAULT, ExportEventsRequest, Format, Server, all, archive, caller, create_key,
    create_workspace, events, export, json_lines, key_named,
    support::{
        python,
        records::{StoredChange, StoredEvent, StoredTime},
    },
    verify,
};

/// A few changes, with texts that need quotes.
async fn changed(server: &Server) -> Clients {
    let root = Clients::root(server);
    create_workspace(&root, "acme").await;
    for name in ["=HYPERLINK(\"x\")", "a, \"b\"", "größe", "plain"] {
        let made = key_named(name, &["sms.send"]);
        let (name, _) = create_key(&root, DEFAULT, made).await.expect("root may");
        archive(&root, &name).await.expect("root may");
    }
    create_key(&root, "workspaces/acme", key_named("", &[]))
        .await
        .expect("root may");
    root
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    let text = value[name].as_str();
    text.unwrap_or_else(|| panic!("{name} is a text in {value}"))
}

/// The digest as the documentation tells it, from a line alone.
fn digest(line: &Value) -> [u8; 32] {
    let (epoch, number) = text(line, "revision").split_once('.').expect("a revision");
    let time: jiff::Timestamp = text(line, "time").parse().expect("a time");
    let owned = |name| text(line, name).to_owned();
    let change = |change: &Value| StoredChange {
        field: text(change, "field").to_owned(),
        before: text(change, "before").to_owned(),
        after: text(change, "after").to_owned(),
    };
    let event = StoredEvent {
        schema: u32::try_from(line["schema"].as_u64().expect("a number")).expect("small"),
        epoch: epoch.parse().expect("a number"),
        number: number.parse().expect("a number"),
        time: Some(StoredTime {
            seconds: time.as_second(),
            nanos: u32::try_from(time.subsec_nanosecond()).expect("after 1970"),
        }),
        actor: owned("actor"),
        team: owned("team"),
        action: owned("action"),
        method: owned("method"),
        entity: owned("entity"),
        resource: owned("resource"),
        changes: line["changes"]
            .as_array()
            .expect("a list")
            .iter()
            .map(change)
            .collect(),
        source_address: owned("sourceAddress"),
        digest: Vec::new(),
        request_id: owned("requestId"),
    };
    Sha256::digest(event.encode_to_vec()).into()
}

fn hex(hash: &[u8]) -> String {
    use std::fmt::Write as _;

    hash.iter().fold(String::new(), |mut digits, byte| {
        // Writing to a String cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).expect("text");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect()
}

#[tokio::test]
async fn an_export_holds_what_its_digests_and_its_chain_are_made_of() {
    let server = Server::start();
    let root = changed(&server).await;
    let bytes = export(&root, json_lines(ALL)).await.expect("root may");
    let lines = lines(&bytes);
    let mut listed = events(&root, all(ALL)).await.expect("root may");
    listed.reverse();
    assert_eq!(lines.len(), listed.len());

    // Told by the documentation, without the code that made it.
    let mut chain = [0; 32];
    for (line, event) in lines.iter().zip(&listed) {
        assert_eq!(text(line, "revision"), event.revision);
        assert_eq!(text(line, "digest"), event.digest);
        let digest = digest(line);
        assert_eq!(hex(&digest), event.digest, "{line}");
        let (_, number) = event.revision.split_once('.').expect("a revision");
        let number: u64 = number.parse().expect("a number");
        let link = [&chain[..], &number.to_be_bytes(), &digest].concat();
        chain = Sha256::digest(link).into();
        let head = format!("{}:{}", event.revision, hex(&chain));
        assert_eq!(text(line, "chain"), head);
    }
    let verified = verify(&root, "").await.expect("root may");
    assert_eq!(verified.head, text(lines.last().expect("a line"), "chain"));
    assert!(verified.intact && verified.broken_link.is_none());
    assert_eq!(
        usize::try_from(verified.event_count).ok(),
        Some(lines.len())
    );

    // Any head that an export told is an anchor, for the server and for the file.
    for line in &lines {
        let anchor = text(line, "chain");
        let verified = verify(&root, anchor).await.expect("root may");
        assert!(verified.intact, "{anchor}");
        let anchor = ChainHead::parse(anchor).expect("a head");
        let verdict = verify_file(&*bytes, Some(anchor)).expect("readable");
        assert!(
            matches!(verdict, FileVerdict::Whole { events, .. } if events == lines.len() as u64),
            "{verdict:?}"
        );
    }
}

#[tokio::test]
async fn a_part_says_that_it_is_one_and_tells_no_chain_to_who_may_not_see_all() {
    let server = Server::start();
    let root = changed(&server).await;
    let (auditor, _) = caller(&server, &root, "", &["default:audit.read"]).await;
    let filtered = ExportEventsRequest {
        filter: "action = DELETE".into(),
        ..json_lines(ALL)
    };
    let queried = ExportEventsRequest {
        query: "archivekey".into(),
        ..json_lines(DEFAULT)
    };
    for (who, what, request, count, chained) in [
        (&root, "filtered", filtered, 4, true),
        (&root, "queried", queried.clone(), 4, true),
        (&root, "of a workspace", json_lines(DEFAULT), 8, true),
        (&auditor, "of the auditor", json_lines(ALL), 8, false),
        (&auditor, "of the auditor, queried", queried, 4, false),
    ] {
        let bytes = export(who, request).await.expect(what);
        let lines = lines(&bytes);
        assert_eq!(lines.len(), count, "{what}");
        for line in &lines {
            assert_eq!(hex(&digest(line)), text(line, "digest"), "{what}");
            assert_eq!(!text(line, "chain").is_empty(), chained, "{what}: {line}");
        }
        let verdict = verify_file(&*bytes, None).expect("readable");
        let (epoch, number) = (1, 1);
        let part = FileVerdict::Part {
            events: count as u64,
            missing: Revision { epoch, number },
        };
        assert_eq!(verdict, part, "{what}");
    }
}

/// RFC 4180, told by nothing but these lines.
fn cells(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => cell.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {
                assert_eq!(chars.next(), Some('\n'));
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            c => cell.push(c),
        }
    }
    rows
}

#[tokio::test]
async fn a_table_holds_the_same_as_the_lines() {
    let server = Server::start();
    let root = changed(&server).await;
    let (team, _) = caller(&server, &root, "@sum", &["*"]).await;
    create_key(&team, DEFAULT, key_named("last", &[]))
        .await
        .expect("root may");
    let request = ExportEventsRequest {
        format: Format::Csv.into(),
        ..json_lines(ALL)
    };
    let table = export(&root, request).await.expect("root may");
    let lines = lines(&export(&root, json_lines(ALL)).await.expect("root may"));
    let mut rows = cells(std::str::from_utf8(&table).expect("text"));
    let header = rows.remove(0);
    assert_eq!(
        header.join(","),
        "revision,time,actor,team,action,method,entity,resource,changes,sourceAddress,requestId,digest,schema,chain"
    );
    assert_eq!(rows.len(), lines.len());
    for (row, line) in rows.iter().zip(&lines) {
        assert_eq!(row.len(), header.len());
        for (name, cell) in header.iter().zip(row) {
            match &line[name] {
                Value::String(text) if text.starts_with('@') => {
                    assert_eq!(*cell, format!("'{text}"));
                }
                Value::String(text) => assert_eq!(cell, text),
                other => {
                    let cell: Value = serde_json::from_str(cell).expect("JSON in a cell");
                    assert_eq!(cell, *other, "{name}");
                }
            }
            assert!(!cell.starts_with(['=', '+', '-', '@']), "{cell}");
        }
    }
    let last = rows.last().expect("a row");
    assert_eq!(last[3], "'@sum", "what looks like a formula is none");

    // Whoever exports nothing gets a table all the same.
    let request = ExportEventsRequest {
        filter: "team = nobody".into(),
        format: Format::Csv.into(),
        ..json_lines(ALL)
    };
    let empty = export(&root, request).await.expect("root may");
    assert_eq!(cells(std::str::from_utf8(&empty).expect("text")), [header]);
}

/// The program in the documentation, run as it stands there.
#[tokio::test]
async fn the_documented_program_verifies_an_export_and_finds_what_was_changed() {
    let Ok(python) = python() else {
        return;
    };
    let documentation = include_str!("../../docs/audit.md");
    let (_, program) = documentation.split_once("```python\n").expect("a program");
    let (program, _) = program.split_once("```").expect("its end");
    let directory = tempfile::tempdir().expect("a directory");
    let (program_file, file) = (
        directory.path().join("verify.py"),
        directory.path().join("export"),
    );
    fs::write(&program_file, program).expect("writable");
    let run = |bytes: &[u8], anchor: Option<&str>| {
        fs::write(&file, bytes).expect("writable");
        let mut command = Command::new(&python);
        command.arg(&program_file).arg(&file).args(anchor);
        let output = command.output().expect("Python can be run");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text").trim().to_owned();
        if output.status.success() {
            Ok(text(output.stdout))
        } else {
            Err(text(output.stderr))
        }
    };

    let server = Server::start();
    let root = changed(&server).await;
    let bytes = export(&root, json_lines(ALL)).await.expect("root may");
    let head = verify(&root, "").await.expect("root may").head;
    assert_eq!(run(&bytes, None), Ok(head.clone()));
    assert_eq!(run(&bytes, Some(&head)), Ok(head.clone()));
    let early = lines(&bytes)[2]["chain"]
        .as_str()
        .expect("a head")
        .to_owned();
    assert_eq!(run(&bytes, Some(&early)), Ok(head.clone()));
    let (_, hash) = head.split_once(':').expect("a head");
    run(&bytes, Some(&format!("1.3:{hash}"))).expect_err("another hash");

    let whole = std::str::from_utf8(&bytes).expect("text");
    let forged = whole.replacen("größe", "Größe", 1);
    assert_ne!(forged, whole);
    let said = run(forged.as_bytes(), None).expect_err("changed");
    assert!(said.contains("its digest says"), "{said}");
    let without: String = whole
        .split_inclusive('\n')
        .enumerate()
        .filter(|(place, _)| *place != 3)
        .map(|(_, line)| line)
        .collect();
    let said = run(without.as_bytes(), None).expect_err("one is missing");
    assert_eq!(said, "BROKEN at line 4: event 1.5 follows 1.3");
    run(b"", None).expect_err("nothing");
}
