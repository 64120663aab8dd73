//! The admin listener over TLS, and administrators who are known by their certificates.

use portcullis::proto::v1::{
    CreateKeyRequest, ErrorReason, ListEventsRequest, ListKeysRequest, ListReplicasRequest,
};
use tonic::Code;

use crate::{
    pki::{EDGE, OPERATOR, Scene, assert_no_connection, disable, issue},
    support::{Token, assert_refused, check, key_named},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mapped_administrator_does_what_its_permissions_say_under_its_own_name() {
    let scene = Scene::new();
    let server = scene.mutual().start();
    let port = server.admin().tcp().port();
    let leaf = scene.clients.leaf(&[OPERATOR, "second.example.org"]);
    let operator = scene.clients(port, Some(&leaf), &Token::none());
    let made = operator.create("by certificate", &[]).await;
    let owner = made.key.expect("a key").owner;
    assert_eq!(owner, format!("dns:{OPERATOR}"));

    let events = ListEventsRequest {
        parent: "workspaces/default".into(),
        ..ListEventsRequest::default()
    };
    let events = operator.audit.clone().list_events(events).await;
    let events = events.expect("it may").into_inner().events;
    let event = &events[0];
    assert_eq!(event.actor, format!("dns:{OPERATOR}"), "{event:?}");
    assert_eq!(event.source_address, "127.0.0.1", "{event:?}");

    let denied = Code::PermissionDenied;
    let reason = ErrorReason::CallerNotPermitted;
    let mut fleet = operator.fleet.clone();
    let replicas = fleet.list_replicas(ListReplicasRequest {}).await;
    assert_refused("the fleet", replicas, denied, reason, &[]);
    // Who may write keys of `system` gives no more away than they have.
    let root = CreateKeyRequest {
        parent: "workspaces/system".into(),
        key: Some(key_named("", &["*"])),
        ..CreateKeyRequest::default()
    };
    let root = operator.keys.clone().create_key(root).await;
    let reason = ErrorReason::GrantExceedsCaller;
    assert_refused("a root", root, denied, reason, &[]);

    // Check is guarded here as on the gate.
    let edge = scene.clients(port, Some(&scene.clients.leaf(&[EDGE])), &Token::none());
    assert!(edge.ask(check(&made.token)).await.allowed);
    let answer = operator.check.clone().check(check(&made.token)).await;
    let reason = ErrorReason::CallerNotPermitted;
    assert_refused("check", answer, denied, reason, &[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_not_mapped_opens_nothing_by_itself() {
    let scene = Scene::new();
    let server = scene.mutual().start();
    let port = server.admin().tcp().port();
    let list = || ListKeysRequest {
        parent: "workspaces/default".into(),
        ..ListKeysRequest::default()
    };
    let stranger = scene.clients.leaf(&["stranger.example.org"]);
    let caller = scene.clients(port, Some(&stranger), &Token::none());
    let result = caller.keys.clone().list_keys(list()).await;
    let (code, reason) = (Code::Unauthenticated, ErrorReason::CredentialMissing);
    assert_refused("unmapped", result, code, reason, &[]);

    // With a credential it is the credential's.
    let root = scene.root(&server);
    let issued = issue(&root, &["default:keys.read"]).await;
    let caller = scene.clients(port, Some(&stranger), &Token::bearer(&issued.token));
    caller.keys.clone().list_keys(list()).await.expect("it may");

    // And one that is bad is not made good by a certificate that is.
    let name = issued.key.expect("a key").name;
    disable(&root, &name).await;
    let operator = scene.clients.leaf(&[OPERATOR]);
    for bad in [issued.token.as_str(), "garbage"] {
        let caller = scene.clients(port, Some(&operator), &Token::bearer(bad));
        let result = caller.keys.clone().list_keys(list()).await;
        let (code, reason) = (Code::Unauthenticated, ErrorReason::CredentialInvalid);
        assert_refused(bad, result, code, reason, &[]);
    }

    // No certificate at all: not even a root gets to ask.
    let bare = scene.clients(port, None, &Token::bearer(&server.root_token()));
    assert_no_connection("none", bare.keys.clone().list_keys(list()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_listener_over_tls_takes_credentials_from_their_addresses() {
    let scene = Scene::new();
    let server = scene.server_tls("admin").start();
    let port = server.admin().tcp().port();
    let root = scene.clients(port, None, &Token::bearer(&server.root_token()));
    root.create("over TLS", &[]).await;
    let list = ListKeysRequest {
        parent: "workspaces/default".into(),
        ..ListKeysRequest::default()
    };
    for (address, may) in [("127.0.0.1", true), ("192.0.2.1", false)] {
        let limited = portcullis::proto::v1::Key {
            ip_allowlist: vec![address.into()],
            ..key_named("", &["*:keys.read"])
        };
        let token = crate::pki::issue_key(&root, limited).await.token;
        let caller = scene.clients(port, None, &Token::bearer(&token));
        let listed = caller.keys.clone().list_keys(list.clone()).await;
        assert_eq!(listed.is_ok(), may, "{address}: {listed:?}");
    }
    // The admin socket stays as it was.
    let socket = crate::support::Clients::of(&server.admin_socket(), &Token::none());
    socket.create("over the socket", &[]).await;
}
