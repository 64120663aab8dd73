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
    gate::{
        checker::Parts,
        clock::Now,
        keyring::KeyringWriter,
        lease::Lease,
        metrics::CheckMetrics,
        testing::{Gate, key},
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
