use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Endpoint, Server};
use tonic_types::StatusExt as _;

use super::*;
use crate::{
    domain::{
        id::TokenPrefix,
        key::{Key, KeyRecord},
        setting::{Declaration, Declarations, Kind},
        time::Timestamp,
        workspace::Workspace,
    },
    gate::{
        catch_up::{CatchUp, NotReached},
        checker::Parts,
        clock::{Boottime, Now},
        keyring::KeyringWriter,
        lease::Lease,
        metrics::CheckMetrics,
        testing::{Gate, StaysBehind, at, key},
        verify::VerifyPool,
    },
    proto::v1::{
        check_service_client::CheckServiceClient, check_service_server::CheckServiceServer,
    },
    store::{Change, RecordId, Stored},
};

/// A clock with a defect that a test can switch on.
struct BrokenClock {
    clock: SystemClock,
    broken: Arc<AtomicBool>,
}

impl Clock for BrokenClock {
    fn now(&self) -> Now {
        assert!(!self.broken.load(Ordering::SeqCst), "the clock is broken");
        self.clock.now()
    }

    fn follow(&self, wall: Timestamp, at: Boottime) {
        self.clock.follow(wall, at);
    }
}

/// Over a connection, because that is what a panic that nobody catches ends.
#[tokio::test]
async fn a_panic_in_a_decision_is_one_internal_error_and_nothing_else() {
    let broken = Arc::new(AtomicBool::new(false));
    let parts = Parts {
        keyring: KeyringWriter::new().reader(),
        lease: Arc::new(Lease::unlimited()),
        clock: Arc::new(BrokenClock {
            clock: SystemClock::new(),
            broken: broken.clone(),
        }),
        verify: Arc::new(VerifyPool::new(tokio::runtime::Handle::current()).unwrap()),
        catch_up: Arc::new(StaysBehind),
    };
    let checker = Checker::new(Arc::new(parts), CheckMetrics::default().recorder());
    let api = CheckApi::new(checker, WorkspaceChoice::Default);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // One connection and no second: a client that has to connect again is not answered.
    let only_one = tokio_stream::StreamExt::take(TcpListenerStream::new(listener), 1);
    tokio::spawn(
        Server::builder()
            .add_service(CheckServiceServer::new(api))
            .serve_with_incoming(only_one),
    );
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .timeout(Duration::from_secs(30))
        .connect()
        .await
        .unwrap();
    let mut client = CheckServiceClient::new(channel);
    let request = || CheckRequest {
        credential: "garbage".into(),
        ..CheckRequest::default()
    };
    let batch = || BatchCheckRequest {
        checks: vec![request(), request()],
    };

    for _ in 0..2 {
        broken.store(true, Ordering::SeqCst);
        let failed = client.check(request()).await.unwrap_err();
        assert_eq!(failed.code(), Code::Internal, "{failed:?}");
        let info = failed.get_details_error_info().expect("an ErrorInfo");
        assert_eq!(info.reason, "INTERNAL_ERROR");
        assert!(
            !failed.message().contains("clock"),
            "what went wrong stands in the log: {failed:?}"
        );
        let items = client.batch_check(batch()).await.unwrap().into_inner();
        assert_eq!(items.results, vec![undecided_item(); 2]);

        broken.store(false, Ordering::SeqCst);
        let answer = client.check(request()).await.unwrap().into_inner();
        assert_eq!(answer.reason(), ReasonCode::InvalidCredential);
    }
}

#[tokio::test]
async fn only_a_gate_for_strangers_insists_on_a_workspace() {
    let mut gate = Gate::new();
    let token = gate.put_new(key());
    let asked = |workspace: &str| {
        Request::new(CheckRequest {
            credential: token.clone(),
            workspace: workspace.into(),
            ..CheckRequest::default()
        })
    };
    for (choice, workspace, reason) in [
        (WorkspaceChoice::Default, "", ReasonCode::Ok),
        (WorkspaceChoice::Default, "default", ReasonCode::Ok),
        (WorkspaceChoice::Required, "default", ReasonCode::Ok),
        (WorkspaceChoice::Required, "", ReasonCode::InvalidRequest),
    ] {
        let api = CheckApi::new(gate.checker.clone(), choice);
        let answer = api.check(asked(workspace)).await.unwrap().into_inner();
        assert_eq!(answer.reason(), reason, "{choice:?} {workspace:?}");
        assert_eq!(answer.allowed, reason == ReasonCode::Ok);
    }
}

/// The numbers stand for the API: clients of other versions know them.
#[test]
fn every_reason_has_its_number_and_only_ok_allows() {
    for (reason, number) in [
        (Reason::Ok, 1),
        (Reason::InvalidCredential, 2),
        (Reason::KeyDisabled, 3),
        (Reason::KeyExpired, 4),
        (Reason::SourceDenied, 5),
        (Reason::PermissionDenied, 6),
        (Reason::InvalidSetting, 7),
        (Reason::InvalidRequest, 8),
    ] {
        let answer = Answer {
            reason,
            key: None,
            settings: Vec::new(),
            revision: Revision::default(),
        };
        let response = CheckResponse::from(answer);
        assert_eq!(response.reason, number, "{reason:?}");
        assert_eq!(response.allowed, reason == Reason::Ok, "{reason:?}");
        assert_eq!(response.reason().as_str_name(), reason.name());
    }
}

#[tokio::test]
async fn settings_go_in_and_come_out() {
    let mut gate = Gate::new();
    let declaration = |number: usize| Declaration {
        name: format!("s{number}").into(),
        description: "".into(),
        kind: Kind::Integer { min: 0, max: 9 },
        default: (number == 0).then(|| "7".into()),
        header: None,
    };
    let settings = Declarations::new((0..setting::MAX_SETTINGS).map(declaration).collect());
    gate.put_workspace(Workspace {
        settings: settings.unwrap(),
        ..Workspace::new(
            WorkspaceId::default_workspace(),
            TokenPrefix::default(),
            at(1),
        )
    });
    let token = gate.put_new(key());
    let api = CheckApi::new(gate.checker.clone(), WorkspaceChoice::Default);
    let ask = async |asked: &[(String, String)]| {
        let request = CheckRequest {
            credential: token.clone(),
            settings: asked.iter().cloned().collect(),
            ..CheckRequest::default()
        };
        let one = api.check(Request::new(request.clone())).await.unwrap();
        let batch = BatchCheckRequest {
            checks: vec![request],
        };
        let batch = api.batch_check(Request::new(batch)).await.unwrap();
        let one = one.into_inner();
        assert_eq!(batch.into_inner().results, vec![one.clone()]);
        one
    };
    let pairs = |count: usize, value: &str| -> Vec<(String, String)> {
        (0..count)
            .map(|number| (format!("s{number}"), value.to_owned()))
            .collect()
    };
    let shown = |answer: &CheckResponse| answer.settings.clone().into_iter().collect::<Vec<_>>();

    let answer = ask(&[]).await;
    assert_eq!(shown(&answer), pairs(1, "7"));
    let answer = ask(&pairs(1, "3")).await;
    assert_eq!((answer.allowed, shown(&answer)), (true, pairs(1, "3")));

    let answer = ask(&pairs(2, "10")).await;
    assert_eq!(answer.reason(), ReasonCode::InvalidSetting);
    assert_eq!((answer.allowed, answer.settings.len()), (false, 0));
    assert!(answer.key.is_some(), "its secret was proved");

    let most = setting::MAX_SETTINGS;
    let answer = ask(&pairs(most, "1")).await;
    assert_eq!((answer.allowed, answer.settings.len()), (true, most));
    // One more is no question at all, whatever the credential is.
    let answer = ask(&pairs(most + 1, "1")).await;
    assert_eq!(answer.reason(), ReasonCode::InvalidRequest);
    assert_eq!((answer.allowed, answer.key), (false, None));
}

/// Gets further along as the test says.
#[derive(Clone)]
struct Scripted {
    asked: Arc<Mutex<Vec<Revision>>>,
    /// What happens when it is asked.
    reach: Arc<Mutex<Reach>>,
}

type Reach = Box<dyn FnMut() -> Result<(), NotReached> + Send>;

#[tonic::async_trait]
impl CatchUp for Scripted {
    async fn reach(&self, revision: Revision) -> Result<(), NotReached> {
        tokio::task::yield_now().await;
        self.asked.lock().unwrap().push(revision);
        (self.reach.lock().unwrap())()
    }
}

impl Scripted {
    fn new(reach: impl FnMut() -> Result<(), NotReached> + Send + 'static) -> Self {
        Self {
            asked: Arc::default(),
            reach: Arc::new(Mutex::new(Box::new(reach))),
        }
    }

    fn then(&self, reach: impl FnMut() -> Result<(), NotReached> + Send + 'static) {
        *self.reach.lock().unwrap() = Box::new(reach);
    }

    fn asked(&self) -> usize {
        std::mem::take(&mut *self.asked.lock().unwrap()).len()
    }
}

fn at_least(token: &str, min_revision: impl ToString) -> CheckRequest {
    CheckRequest {
        credential: token.into(),
        min_revision: min_revision.to_string(),
        ..CheckRequest::default()
    }
}

#[track_caller]
fn refused_with(status: &Status, code: Code, reason: &str) {
    let info = status.get_details_error_info().expect("an ErrorInfo");
    assert_eq!((status.code(), &*info.reason), (code, reason), "{status:?}");
}

#[tokio::test]
async fn a_revision_that_is_in_force_here_is_not_asked_for() {
    let catch_up = Scripted::new(|| Err(NotReached::Behind));
    let mut gate = Gate::with_catch_up(Arc::new(catch_up.clone()));
    let token = gate.put_new(key());
    let api = CheckApi::new(gate.checker.clone(), WorkspaceChoice::Default);
    let ask = async |revision: &str| {
        let asked = api.check(Request::new(at_least(&token, revision))).await;
        asked.unwrap().into_inner()
    };
    let answer = ask("").await;
    assert!(answer.allowed);
    for revision in ["0.9", "1.0", "1.1", &answer.revision] {
        assert!(ask(revision).await.allowed, "{revision}");
    }
    for malformed in [
        "x",
        "1",
        "1.",
        ".1",
        "1.2.3",
        " 1.1",
        "1.1 ",
        "-1.1",
        "+1.1",
        "1.-1",
        "1,1",
        "99999999999999999999.1",
    ] {
        let answer = ask(malformed).await;
        assert_eq!(answer.reason(), ReasonCode::InvalidRequest, "{malformed}");
        assert!(!answer.allowed, "{malformed}");
    }
    assert_eq!(catch_up.asked(), 0);
}

#[tokio::test]
async fn what_is_decided_takes_the_revision_into_account_or_nothing_is() {
    let catch_up = Scripted::new(|| Err(NotReached::Behind));
    let mut gate = Gate::with_catch_up(Arc::new(catch_up.clone()));
    let key = key();
    let token = gate.put_new(key.clone());
    let next = gate.next_revision();
    let api = CheckApi::new(gate.checker.clone(), WorkspaceChoice::Default);
    let ask = async || api.check(Request::new(at_least(&token, next))).await;

    let behind = ask().await.unwrap_err();
    refused_with(&behind, Code::Unavailable, "REPLICA_BEHIND");
    catch_up.then(|| Err(NotReached::Ahead));
    let ahead = ask().await.unwrap_err();
    refused_with(&ahead, Code::FailedPrecondition, "REVISION_AHEAD");
    // Its word alone is not taken.
    catch_up.then(|| Ok(()));
    let lied = ask().await.unwrap_err();
    refused_with(&lied, Code::Unavailable, "REPLICA_BEHIND");
    assert_eq!(catch_up.asked(), 3);

    // The lease is the first question, and it is asked again.
    gate.lease.fence();
    let fenced = ask().await.unwrap_err();
    refused_with(&fenced, Code::Unavailable, "REPLICA_FENCED");
    assert_eq!(catch_up.asked(), 0);
    gate.lease.extend(Boottime(u64::MAX));

    // The change that it waits for disables the key, and one after it ends the lease.
    let (lease, mut writer) = (gate.lease.clone(), gate.keyring);
    let record = KeyRecord {
        key: Key {
            disabled: true,
            ..key
        },
        secrets: Vec::new(),
        revision: next,
    };
    let mut change = Some(Change {
        after: next,
        revision: next,
        records: vec![(RecordId::Key(record.key.id), Stored::Key(Box::new(record)))],
    });
    let mut fence = true;
    catch_up.then(move || {
        if std::mem::take(&mut fence) {
            lease.fence();
        }
        change
            .take()
            .into_iter()
            .for_each(|change| writer.apply(change));
        Ok(())
    });
    let fenced = ask().await.unwrap_err();
    refused_with(&fenced, Code::Unavailable, "REPLICA_FENCED");
    gate.lease.extend(Boottime(u64::MAX));
    let answer = ask().await.unwrap().into_inner();
    assert_eq!(
        answer.reason(),
        ReasonCode::InvalidCredential,
        "its secret is gone"
    );
    assert_eq!(answer.revision, next.to_string());
    assert_eq!(catch_up.asked(), 1);
}

#[tokio::test]
async fn a_batch_waits_once_for_a_revision_that_does_not_come() {
    let catch_up = Scripted::new(|| Err(NotReached::Behind));
    let mut gate = Gate::with_catch_up(Arc::new(catch_up.clone()));
    let token = gate.put_new(key());
    let next = gate.next_revision();
    let api = CheckApi::new(gate.checker.clone(), WorkspaceChoice::Default);
    for reached in [NotReached::Behind, NotReached::Ahead] {
        catch_up.then(move || Err(reached));
        let checks = vec![
            at_least(&token, next),
            at_least(&token, ""),
            at_least(&token, next),
            at_least(&token, next.next()),
            at_least(&token, "1.1"),
            at_least(&token, "x"),
        ];
        let batch = Request::new(BatchCheckRequest { checks });
        let results = api.batch_check(batch).await.unwrap().into_inner().results;
        let reasons: Vec<_> = results.iter().map(CheckResponse::reason).collect();
        assert_eq!(
            reasons,
            [
                ReasonCode::Undecided,
                ReasonCode::Ok,
                ReasonCode::Undecided,
                ReasonCode::Undecided,
                ReasonCode::Ok,
                ReasonCode::InvalidRequest,
            ]
        );
        assert_eq!(results[2], undecided_item());
        assert_eq!(catch_up.asked(), 1, "{reached:?}");
    }
}
