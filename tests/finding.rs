//! Finding keys over the wire: filters, queries and orders, whose keys are found, and what is refused.

mod support;

use portcullis::proto::v1::{
    ArchiveKeyRequest, CreateKeyRequest, DisableKeyRequest, ErrorReason, Key, ListKeysRequest,
    ListKeysResponse,
};
use support::{Clients, Server, Token, assert_refused, key_named};
use tonic::{Code, Status};

fn list() -> ListKeysRequest {
    ListKeysRequest {
        parent: "workspaces/default".into(),
        ..ListKeysRequest::default()
    }
}

async fn page(admin: &Clients, request: ListKeysRequest) -> Result<ListKeysResponse, Status> {
    let listed = admin.keys.clone().list_keys(request).await;
    listed.map(tonic::Response::into_inner)
}

/// The display names on all pages of two keys each.
async fn names(admin: &Clients, request: ListKeysRequest) -> Vec<String> {
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListKeysRequest {
            page_size: 2,
            page_token,
            ..request.clone()
        };
        let page = page(admin, request).await.expect("a page");
        names.extend(page.keys.into_iter().map(|key| key.display_name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return names;
        }
    }
}

fn labelled(name: &str, permissions: &[&str], team: &str) -> Key {
    Key {
        labels: [("team".to_owned(), team.to_owned())].into(),
        description: format!("made for {team}"),
        ..key_named(name, permissions)
    }
}

#[tokio::test]
async fn keys_are_found_by_filter_query_and_order_page_by_page() {
    let server = Server::start();
    let admin = Clients::root(&server);
    let mut made = Vec::new();
    for (name, permissions, team) in [
        ("billing worker", &["sms.send"][..], "payments"),
        ("mailer", &["otp.send"], "growth"),
        ("billing mailer", &["sms.send", "otp.send"], "growth"),
        ("everything", &["*"], "payments"),
    ] {
        let issued = admin.create_key(labelled(name, permissions, team)).await;
        made.push(issued.key.expect("a key").name);
    }
    let disable = DisableKeyRequest {
        name: made[1].clone(),
        ..DisableKeyRequest::default()
    };
    admin
        .keys
        .clone()
        .disable_key(disable)
        .await
        .expect("disabled");

    let with = |filter: &str, query: &str, order_by: &str| ListKeysRequest {
        filter: filter.into(),
        query: query.into(),
        order_by: order_by.into(),
        ..list()
    };
    for (filter, query, order_by, due) in [
        ("state = DISABLED", "", "", &["mailer"][..]),
        (
            "permission = \"sms.send\"",
            "",
            "",
            &["billing worker", "billing mailer"],
        ),
        ("permission = \"*\"", "", "", &["everything"]),
        (
            "labels.team = payments",
            "",
            "create_time desc",
            &["everything", "billing worker"],
        ),
        ("create_time > -1h AND expire_time:*", "", "", &[]),
        ("", "billing", "", &["billing worker", "billing mailer"]),
        ("", "mailer bill", "", &["billing mailer"]),
        (
            "labels:team",
            "growth",
            "display_name desc",
            &["mailer", "billing mailer"],
        ),
        (
            "",
            "",
            "display_name",
            &["billing mailer", "billing worker", "everything", "mailer"],
        ),
        ("", &made[0][made[0].len() - 22..], "", &["billing worker"]),
    ] {
        let found = names(&admin, with(filter, query, order_by)).await;
        assert_eq!(
            found, due,
            "filter {filter:?}, query {query:?}, order {order_by:?}"
        );
    }

    let archive = ArchiveKeyRequest {
        name: made[0].clone(),
        ..ArchiveKeyRequest::default()
    };
    admin
        .keys
        .clone()
        .archive_key(archive)
        .await
        .expect("archived");
    for (filter, query) in [
        ("", "worker"),
        ("state = ARCHIVED", ""),
        ("display_name = *worker", ""),
    ] {
        let hidden = with(filter, query, "");
        let shown = ListKeysRequest {
            show_archived: true,
            ..hidden.clone()
        };
        assert_eq!(
            names(&admin, hidden).await,
            [""; 0],
            "archived keys are hidden"
        );
        assert_eq!(names(&admin, shown).await, ["billing worker"]);
    }
}

/// `keys.own` lists what its holder created, whatever it asks for.
#[tokio::test]
async fn whoever_has_keys_of_its_own_finds_no_others() {
    let server = Server::start();
    let admin = Clients::root(&server);
    let create = CreateKeyRequest {
        parent: "workspaces/system".into(),
        key: Some(key_named("owner", &["default:keys.own"])),
        ..CreateKeyRequest::default()
    };
    let owner = admin
        .keys
        .clone()
        .create_key(create)
        .await
        .expect("a caller")
        .into_inner();
    let owner = Clients::of(server.admin(), &Token::bearer(&owner.token));
    for number in 0..3 {
        admin.create(&format!("theirs {number}"), &[]).await;
        owner.create(&format!("mine {number}"), &[]).await;
    }
    let mine = ["mine 0", "mine 1", "mine 2"];
    assert_eq!(names(&owner, list()).await, mine);
    for (filter, query, order_by) in [
        ("owner:* OR NOT owner:*", "", ""),
        ("", "i", "display_name"),
        ("display_name = *", "", "update_time"),
    ] {
        let request = ListKeysRequest {
            filter: filter.into(),
            query: query.into(),
            order_by: order_by.into(),
            show_archived: true,
            ..list()
        };
        assert_eq!(names(&owner, request.clone()).await, mine, "{filter}");
        let theirs = ListKeysRequest {
            query: "theirs".into(),
            ..request
        };
        assert_eq!(names(&owner, theirs).await, [""; 0]);
    }
}

#[tokio::test]
async fn what_is_no_filter_query_or_order_is_refused() {
    let server = Server::start();
    let admin = Clients::root(&server);
    let refuse = async |what: &str, request: ListKeysRequest, field: &str| {
        let answer = page(&admin, request).await;
        let reason = ErrorReason::InvalidField;
        assert_refused(
            what,
            answer.map(tonic::Response::new),
            Code::InvalidArgument,
            reason,
            &[field],
        );
    };
    let deep = |depth: usize| format!("{}state = ACTIVE{}", "(".repeat(depth), ")".repeat(depth));
    for (what, filter) in [
        (
            "row 74: a span that overflows",
            "expire_time < +9223372036854775807w".to_owned(),
        ),
        ("row 85: 10,000 deep", deep(10_000)),
        ("row 85: 33 deep", deep(33)),
        ("row 85: as deep as the length allows", "(".repeat(4_096)),
        ("row 86: 1 MiB", "x".repeat(1 << 20)),
        (
            "row 86: 1 MiB of a filter",
            format!("owner = \"{}\"", "x".repeat(1 << 20)),
        ),
        ("101 comparisons", vec!["state = ACTIVE"; 101].join(" AND ")),
        ("no field", "secret = x".to_owned()),
        ("no state", "state = GONE".to_owned()),
        ("no operator", "state".to_owned()),
    ] {
        refuse(what, ListKeysRequest { filter, ..list() }, "filter").await;
    }
    for order_by in ["owner", "create_time, owner", "create_time down"] {
        let request = ListKeysRequest {
            order_by: order_by.into(),
            ..list()
        };
        refuse(order_by, request, "order_by").await;
    }
    for query in ["x".repeat(257), "x".repeat(1 << 20)] {
        refuse("a long query", ListKeysRequest { query, ..list() }, "query").await;
    }
}

#[tokio::test]
async fn a_page_token_is_good_for_the_same_search_only() {
    let server = Server::start();
    let admin = Clients::root(&server);
    for number in 0..4 {
        admin
            .create_key(Key {
                description: "x".into(),
                ..key_named(&format!("{number}"), &[])
            })
            .await;
    }
    let asked = ListKeysRequest {
        page_size: 1,
        filter: "state = ACTIVE".into(),
        query: "x".into(),
        order_by: "display_name".into(),
        show_archived: true,
        ..list()
    };
    let token = page(&admin, asked.clone())
        .await
        .expect("a page")
        .next_page_token;
    let next = ListKeysRequest {
        page_token: token,
        ..asked
    };
    for (what, other) in [
        (
            "row 82: another filter",
            ListKeysRequest {
                filter: "state = ACTIVE ".into(),
                ..next.clone()
            },
        ),
        (
            "row 82: no filter",
            ListKeysRequest {
                filter: String::new(),
                ..next.clone()
            },
        ),
        (
            "row 82: another query",
            ListKeysRequest {
                query: String::new(),
                ..next.clone()
            },
        ),
        (
            "row 82: another order",
            ListKeysRequest {
                order_by: "display_name desc".into(),
                ..next.clone()
            },
        ),
        (
            "row 82: without archived keys",
            ListKeysRequest {
                show_archived: false,
                ..next.clone()
            },
        ),
        (
            "row 82: moved from one field to another",
            ListKeysRequest {
                filter: "state = ACTIVE\", \"x".into(),
                query: String::new(),
                ..next.clone()
            },
        ),
    ] {
        let answer = page(&admin, other).await;
        let field = if what.contains("moved") {
            "filter"
        } else {
            "page_token"
        };
        assert_refused(
            what,
            answer.map(tonic::Response::new),
            Code::InvalidArgument,
            ErrorReason::InvalidField,
            &[field],
        );
    }
    let second = page(&admin, next).await.expect("the same search goes on");
    assert_eq!(second.keys[0].display_name, "1");
}
