//! Exports of many events.

use std::{fs, path::Path, sync::Arc, time::Duration};

use portcullis::{
    admin::audit::offline::{FileVerdict, verify_file},
    domain::{chain::ChainHead, event::FieldChange},
    proto::v1::{DisableKeyRequest, ErrorReason},
    store::{Batch, Store, Write, embedded::EmbeddedStore},
};
use tonic::Code;

use super::{
    ALL, Clients, ExportEventsRequest, ListEventsRequest, Server, all, caller, json_lines, list,
    support::{Setup, reason_of, records},
    verify,
};

/// A text that makes an event's line about 1.2 KiB long.
const LONG: usize = 350;

/// Writes so many events into the store of a server that is stopped.
async fn fill(data_dir: &Path, events: usize) {
    let store = Arc::new(EmbeddedStore::open(data_dir).expect("a store"));
    let mut left = events;
    while left > 0 {
        // As many as one fsync can take on at once.
        let wave = left.min(2_000);
        let mut commits = tokio::task::JoinSet::new();
        for number in 0..wave {
            let store = store.clone();
            commits.spawn(async move {
                let write = Write::Workspace(records::workspace("filled", ""));
                let mut batch: Batch = records::batch(Vec::new(), vec![write], "");
                batch.event.resource =
                    format!("workspaces/default/keys/{}", records::key_id(number as u64));
                batch.event.changes = vec![FieldChange {
                    field: "description".into(),
                    before: "b".repeat(LONG),
                    after: "a".repeat(LONG),
                }];
                store.commit(batch).await.expect("committed");
            });
        }
        commits.join_all().await;
        left -= wave;
    }
}

/// A server whose store has this many events and one more, that of its making.
async fn server_with(data_dir: &Path, events: usize) -> Server {
    Setup::new().data_dir(data_dir).start().stop();
    fill(data_dir, events).await;
    Setup::new().data_dir(data_dir).start()
}

/// A figure of the server's memory, in KiB.
fn memory(server: &Server, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let line = line.unwrap_or_else(|| panic!("{name} in {status}"));
    let figure = line.trim_start_matches(':').trim().trim_end_matches(" kB");
    figure.parse().expect("a figure")
}

/// The processor time that the server has used, in ticks of 10 ms.
fn ticks(server: &Server) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("a process");
    let (_, fields) = stat.rsplit_once(") ").expect("the fields behind the name");
    let field = |place: usize| -> u64 {
        let field = fields.split(' ').nth(place).expect("a field");
        field.parse().expect("a figure")
    };
    field(11) + field(12)
}

/// Waits until the server has nothing to do.
async fn until_idle(server: &Server) {
    const A_LITTLE: u64 = 2;
    let mut before = ticks(server);
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = ticks(server);
        if now - before <= A_LITTLE {
            return;
        }
        before = now;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_events_are_exported_in_bounded_memory() {
    const EVENTS: usize = 100_000;
    /// Small, since what the server had freed before is used again without showing: one that holds all grows by half of it
    /// only.
    const BOUND_KIB: u64 = 32 << 10;
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().join("data");
    let server = server_with(&data_dir, EVENTS).await;
    let root = Clients::root(&server);
    // The first call proves the credential.
    list(&root, ListEventsRequest::default())
        .await
        .expect_err("no parent");
    // From here on the peak is the export's own.
    fs::write(format!("/proc/{}/clear_refs", server.pid()), "5").expect("our own process");
    let before = memory(&server, "VmRSS");

    let stream = root.audit.clone().export_events(json_lines(ALL)).await;
    let mut stream = stream.expect("root may").into_inner();
    let mut bytes = Vec::new();
    let mut pieces = 0;
    while let Some(piece) = stream.message().await.expect("a piece") {
        assert!(piece.data.len() < 100 << 10, "{} bytes", piece.data.len());
        bytes.extend(piece.data);
        pieces += 1;
        if pieces == 100 {
            // A reader that takes its time: a server that did not mind would go on until it held all the rest.
            until_idle(&server).await;
        }
    }
    let peak = memory(&server, "VmHWM");
    let grown = peak.saturating_sub(before);
    println!(
        "{} MiB in {pieces} pieces; memory {before} KiB before, {peak} KiB at most, {grown} KiB more",
        bytes.len() >> 20
    );
    assert!(
        bytes.len() as u64 > BOUND_KIB << 10,
        "the export is larger than the bound, so it cannot have been held"
    );
    assert!(grown < BOUND_KIB, "{grown} KiB more than {before} KiB");

    let verified = verify(&root, "").await.expect("root may");
    assert_eq!(usize::try_from(verified.event_count).ok(), Some(EVENTS + 1));
    let head = ChainHead::parse(&verified.head).expect("a head");
    let verdict = verify_file(&*bytes, Some(head)).expect("readable");
    let events = EVENTS as u64 + 1;
    assert_eq!(verdict, FileVerdict::Whole { events, head });

    // One page does not look at all of them, and says that there is more.
    let rare = ListEventsRequest {
        filter: "entity = STORE".into(),
        ..all(ALL)
    };
    let page = list(&root, rare.clone())
        .await
        .expect("a page")
        .into_inner();
    assert!(page.events.is_empty() && !page.next_page_token.is_empty());
    let found = super::events(&root, rare).await.expect("pages");
    assert_eq!(found.len(), 1, "it is on the last page");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_ends_when_its_callers_key_is_disabled() {
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().join("data");
    let server = server_with(&data_dir, 20_000).await;
    let root = Clients::root(&server);
    let (auditor, name) = caller(&server, &root, "", &["*:audit.read"]).await;
    let request = ExportEventsRequest {
        parent: ALL.into(),
        ..ExportEventsRequest::default()
    };
    let stream = auditor.audit.clone().export_events(request).await;
    let mut stream = stream.expect("an auditor may").into_inner();
    stream.message().await.expect("a piece").expect("a piece");
    let disable = DisableKeyRequest {
        name,
        ..DisableKeyRequest::default()
    };
    root.keys
        .clone()
        .disable_key(disable)
        .await
        .expect("root may");
    let refused = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the export went on to its end"),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.code(), Code::Aborted, "{refused:?}");
    assert_eq!(reason_of(&refused), ErrorReason::Conflict);
}
