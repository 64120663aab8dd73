//! What the calls of the audit do not take.

use portcullis::proto::v1::{
    CreateWorkspaceRequest, ErrorReason, ExportEventsRequest, ListEventsRequest, ListEventsResponse,
};
use tonic::{Code, Response, Status};

use crate::support::{Clients, Server, Token, assert_refused, clients, key};

const DEFAULT: &str = "workspaces/default";

/// A page of two events of the `default` workspace.
fn asked() -> ListEventsRequest {
    ListEventsRequest {
        parent: DEFAULT.into(),
        page_size: 2,
        ..ListEventsRequest::default()
    }
}

async fn list(
    caller: &Clients,
    request: &ListEventsRequest,
) -> Result<Response<ListEventsResponse>, Status> {
    caller.audit.clone().list_events(request.clone()).await
}

/// Begins an export of the same.
async fn export(caller: &Clients, request: &ListEventsRequest) -> Result<Response<()>, Status> {
    let ListEventsRequest {
        parent,
        filter,
        query,
        ..
    } = request.clone();
    let request = ExportEventsRequest {
        parent,
        filter,
        query,
        ..ExportEventsRequest::default()
    };
    let begun = caller.audit.clone().export_events(request).await;
    begun.map(|_| Response::new(()))
}

#[track_caller]
fn malformed<T: std::fmt::Debug>(what: &str, result: Result<Response<T>, Status>, field: &str) {
    let (code, reason) = (Code::InvalidArgument, ErrorReason::InvalidField);
    assert_refused(what, result, code, reason, &[field]);
}

async fn workspace(admin: &Clients, id: &str) {
    let request = CreateWorkspaceRequest {
        workspace_id: id.into(),
        ..CreateWorkspaceRequest::default()
    };
    let created = admin.workspaces.clone().create_workspace(request).await;
    created.expect("a workspace");
}

#[tokio::test]
async fn a_page_token_of_events_is_good_for_its_own_list_only() {
    let server = Server::start();
    let (admin, _) = clients(&server);
    for _ in 0..5 {
        admin.create("b0:c", &[]).await;
    }
    workspace(&admin, "other").await;
    let with = |token: &str| ListEventsRequest {
        page_token: token.into(),
        ..asked()
    };
    let page = list(&admin, &asked()).await.expect("a page").into_inner();
    let token = page.next_page_token;
    for at in 0..token.len() {
        let mut flipped = token.clone().into_bytes();
        flipped[at] ^= 1;
        let flipped = String::from_utf8(flipped).expect("a bit of ASCII is ASCII");
        let what = format!("row 80: of events, flipped at {at}: {flipped}");
        malformed(&what, list(&admin, &with(&flipped)).await, "page_token");
    }
    for (what, changed) in [
        (
            "row 81: of events, another workspace's",
            ListEventsRequest {
                parent: "workspaces/other".into(),
                ..with(&token)
            },
        ),
        (
            "row 81: of events, all workspaces'",
            ListEventsRequest {
                parent: "workspaces/-".into(),
                ..with(&token)
            },
        ),
        (
            "row 82: of events, another filter",
            ListEventsRequest {
                filter: "action = CREATE".into(),
                ..with(&token)
            },
        ),
        (
            "row 82: of events, another query",
            ListEventsRequest {
                query: "key".into(),
                ..with(&token)
            },
        ),
        (
            "row 82: of events, another order",
            ListEventsRequest {
                order_by: "time".into(),
                ..with(&token)
            },
        ),
    ] {
        malformed(what, list(&admin, &changed).await, "page_token");
    }
    // What one argument ends with must not pass for what the next begins with.
    let split = |filter: &str, query: &str| ListEventsRequest {
        filter: filter.into(),
        query: query.into(),
        ..asked()
    };
    for (from, to) in [
        (split("action = CREATE", ""), split("", "action = CREATE")),
        (split("NOT team = a", "b0:c"), split("NOT team = a0:b", "c")),
    ] {
        let page = list(&admin, &from).await.expect("a page").into_inner();
        assert_ne!(page.next_page_token, "", "there are more");
        let moved = ListEventsRequest {
            page_token: page.next_page_token,
            ..to
        };
        let what = format!("row 82: of events, from {from:?}");
        malformed(&what, list(&admin, &moved).await, "page_token");
    }
    let larger = ListEventsRequest {
        page_size: 3,
        ..with(&token)
    };
    let page = list(&admin, &larger).await;
    assert!(page.is_ok(), "another page size is no other list");
}

#[tokio::test]
async fn sizes_filters_and_orders_of_events_are_bounded() {
    let server = Server::start();
    let (admin, _) = clients(&server);
    admin.create("key", &[]).await;
    for size in [-1, i32::MIN] {
        let request = ListEventsRequest {
            page_size: size,
            ..asked()
        };
        malformed(
            "row 83: of events",
            list(&admin, &request).await,
            "page_size",
        );
    }
    let request = ListEventsRequest {
        page_size: 1_000_000_000,
        ..asked()
    };
    let page = list(&admin, &request).await;
    let page = page.expect("row 84: of events, coerced").into_inner();
    assert_eq!(page.events.len(), 1, "row 84: of events");

    for (what, filter) in [
        (
            "row 85: of events",
            format!("{}team = a{}", "(".repeat(10_000), ")".repeat(10_000)),
        ),
        (
            "row 85: of events, NOT",
            format!("{}team = a", "NOT ".repeat(10_000)),
        ),
        (
            "row 86: of events",
            format!("team = \"{}\"", "a".repeat(1 << 20)),
        ),
        ("a field that there is not", "secret = x".to_owned()),
        ("half a filter", "team =".to_owned()),
        ("an action that there is not", "action = ARCHIVE".to_owned()),
    ] {
        let request = ListEventsRequest { filter, ..asked() };
        malformed(what, list(&admin, &request).await, "filter");
        malformed(what, export(&admin, &request).await, "filter");
    }
    for (what, query) in [
        ("a long query", "a".repeat(257)),
        ("row 86: of events, as a query", "a".repeat(1 << 20)),
    ] {
        let request = ListEventsRequest { query, ..asked() };
        malformed(what, list(&admin, &request).await, "query");
        malformed(what, export(&admin, &request).await, "query");
    }
    for order_by in ["revision", "time up", "time,actor", "time DESC"] {
        let request = ListEventsRequest {
            order_by: order_by.into(),
            ..asked()
        };
        malformed(order_by, list(&admin, &request).await, "order_by");
    }
    let request = ExportEventsRequest {
        parent: DEFAULT.into(),
        format: 3,
        ..ExportEventsRequest::default()
    };
    let begun = admin.audit.clone().export_events(request).await;
    malformed("no format", begun.map(|_| Response::new(())), "format");
}

#[tokio::test]
async fn events_of_a_foreign_workspace_are_not_told_whether_it_exists_or_not() {
    let server = Server::start();
    let (admin, _) = clients(&server);
    workspace(&admin, "theirs").await;
    workspace(&admin, "ours").await;
    let request = portcullis::proto::v1::CreateKeyRequest {
        parent: "workspaces/system".into(),
        key: Some(portcullis::proto::v1::Key {
            permissions: vec!["ours:audit.read".into()],
            ..key()
        }),
        ..Default::default()
    };
    let issued = admin.keys.clone().create_key(request).await;
    let token = issued.expect("an admin key").into_inner().token;
    let limited = Clients::of(server.admin(), &Token::bearer(&token));
    for parent in ["theirs", "nowhere", "system", "default"] {
        let what = format!("row 89: events of {parent}");
        let request = ListEventsRequest {
            parent: format!("workspaces/{parent}"),
            // Were it looked at first, it would be the fault.
            filter: "nonsense".into(),
            ..asked()
        };
        let (code, reason) = (Code::PermissionDenied, ErrorReason::CallerNotPermitted);
        assert_refused(&what, list(&limited, &request).await, code, reason, &[]);
        assert_refused(&what, export(&limited, &request).await, code, reason, &[]);
    }
    let request = ListEventsRequest {
        parent: "workspaces/ours".into(),
        ..asked()
    };
    let listed = list(&limited, &request).await.expect("one's own");
    assert_eq!(listed.into_inner().events.len(), 1);
}

#[tokio::test]
async fn events_of_nothing_are_not_asked_for() {
    let server = Server::start();
    let (admin, _) = clients(&server);
    let key = admin.create("key", &[]).await.key.expect("a key").name;
    for parent in [
        "",
        "-",
        "default",
        "workspaces/",
        "workspaces/default/",
        "workspaces/A",
        "workspaces/--",
        "workspaces/-/keys/-",
        &key,
    ] {
        let what = format!("row 90: events of {parent:?}");
        let request = ListEventsRequest {
            parent: parent.into(),
            ..asked()
        };
        malformed(&what, list(&admin, &request).await, "parent");
        malformed(&what, export(&admin, &request).await, "parent");
    }
}
