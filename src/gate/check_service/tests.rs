use std::{
    sync::{
        Arc,
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
        setting::{Declaration, Declarations, Kind},
        time::Timestamp,
        workspace::Workspace,
    },
    gate::{
        checker::Parts,
        clock::{Boottime, Now},
        keyring::KeyringWriter,
        lease::Lease,
        metrics::CheckMetrics,
        testing::{Gate, at, key},
        verify::VerifyPool,
    },
    proto::v1::{
        check_service_client::CheckServiceClient, check_service_server::CheckServiceServer,
    },
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
