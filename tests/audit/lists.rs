//! Who sees which events, and how they are found.

use std::collections::BTreeSet;

use portcullis::proto::v1::ErrorReason;
use tonic::Code;

use super::{
    ALL, Clients, DEFAULT, Event, ListEventsRequest, Server, all, archive, caller, create_key,
    create_workspace, delete, delete_workspace, events, export, json_lines, key, key_named, list,
    support::assert_refused, verify,
};

/// What there is to see, in kinds that some callers see and others do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// `system`, its keys, and the store.
    System,
    /// The workspace `acme` itself.
    Acme,
    /// Keys of `acme` that somebody else created.
    Foreign,
    /// A key of `acme` that the developer created, and another one, which is archived.
    Own,
    /// A key of `acme` that the developer created, and that is gone.
    OwnGone,
    /// The workspace `other` and its keys, one of them the developer's.
    Other,
    /// The workspace `gone`, which is deleted.
    Gone,
}

use Kind::{Acme, Foreign, Gone, Other, Own, OwnGone, System};

const EVERYTHING: &[Kind] = &[System, Acme, Foreign, Own, OwnGone, Other, Gone];

/// Whose events a caller asks for, and what it sees; `None`: it is refused.
type Sees = &'static [(&'static str, Option<&'static [Kind]>)];

const ROLES: &[(&[&str], Sees)] = &[
    (
        &["*"],
        &[
            (ALL, Some(EVERYTHING)),
            ("workspaces/system", Some(&[System])),
            ("workspaces/acme", Some(&[Acme, Foreign, Own, OwnGone])),
            ("workspaces/other", Some(&[Other])),
            ("workspaces/gone", Some(&[Gone])),
            ("workspaces/never", Some(&[])),
        ],
    ),
    (
        &["*:audit.read"],
        &[
            (ALL, Some(EVERYTHING)),
            ("workspaces/acme", Some(&[Acme, Foreign, Own, OwnGone])),
            ("workspaces/gone", Some(&[Gone])),
            ("workspaces/never", Some(&[])),
        ],
    ),
    (
        &["acme:audit.read"],
        &[
            (ALL, Some(&[Acme, Foreign, Own, OwnGone])),
            ("workspaces/acme", Some(&[Acme, Foreign, Own, OwnGone])),
            ("workspaces/system", None),
            ("workspaces/other", None),
            ("workspaces/never", None),
        ],
    ),
    (
        &["gone:audit.read"],
        &[
            (ALL, Some(&[Gone])),
            ("workspaces/gone", Some(&[Gone])),
            ("workspaces/acme", None),
        ],
    ),
    (
        &["system:audit.read"],
        &[(ALL, Some(&[System])), ("workspaces/acme", None)],
    ),
    // The developer, who made keys in both workspaces, and may see those of the one only.
    (
        &["acme:keys.own"],
        &[
            (ALL, Some(&[Own])),
            ("workspaces/acme", Some(&[Own])),
            ("workspaces/other", None),
            ("workspaces/system", None),
            ("workspaces/gone", None),
        ],
    ),
    // Whoever may read and change every key there may do so with their own.
    (
        &["acme:keys.read", "acme:keys.write"],
        &[
            (ALL, Some(&[])),
            ("workspaces/acme", Some(&[])),
            ("workspaces/other", None),
        ],
    ),
    (
        &["*:keys.own", "other:audit.read"],
        &[
            (ALL, Some(&[Other])),
            ("workspaces/acme", Some(&[])),
            ("workspaces/other", Some(&[Other])),
        ],
    ),
    (
        &[
            "*:keys.read",
            "*:check",
            "*:workspaces.write",
            "*:fleet.read",
        ],
        &[
            (ALL, None),
            ("workspaces/acme", None),
            ("workspaces/never", None),
        ],
    ),
    (&["*:keys.write"], &[(ALL, None), ("workspaces/acme", None)]),
    (&[], &[(ALL, None), ("workspaces/acme", None)]),
];

#[tokio::test]
async fn a_caller_sees_what_its_grants_show_and_nothing_else() {
    let server = Server::start();
    let root = Clients::root(&server);
    for id in ["acme", "other", "gone"] {
        create_workspace(&root, id).await;
    }
    let both = ["acme:keys.own", "other:keys.own"];
    let (developer, developer_key) = caller(&server, &root, "", &both).await;
    let create = async |caller: &Clients, parent: &str| {
        let made = create_key(caller, parent, key_named("made", &[])).await;
        made.expect("may").0
    };
    let foreign = create(&root, "workspaces/acme").await;
    let own = create(&developer, "workspaces/acme").await;
    let archived = create(&developer, "workspaces/acme").await;
    archive(&developer, &archived).await.expect("one's own");
    let gone = create(&developer, "workspaces/acme").await;
    delete(&developer, &gone).await.expect("one's own");
    create(&developer, "workspaces/other").await;
    create(&root, "workspaces/other").await;
    delete_workspace(&root, "workspaces/gone")
        .await
        .expect("empty");
    // Somebody else's change of one's own key is told, too.
    let disable = portcullis::proto::v1::DisableKeyRequest {
        name: own.clone(),
        ..Default::default()
    };
    root.keys
        .clone()
        .disable_key(disable)
        .await
        .expect("root may");

    let kind = |event: &Event| match event.resource.as_str() {
        name if name == own || name == archived => Own,
        name if name == gone => OwnGone,
        name if name == foreign => Foreign,
        "workspaces/acme" => Acme,
        "workspaces/gone" => Gone,
        name if name.starts_with("workspaces/other") => Other,
        name if name.starts_with("workspaces/system") => System,
        name => panic!("what is {name}?"),
    };
    for (permissions, sees) in ROLES {
        let who = if *permissions == ["acme:keys.own"] {
            // It is the developer itself, with less than it had.
            let mut less = key_named("", permissions);
            less.name.clone_from(&developer_key);
            let narrow = super::update(less, &["permissions"]);
            root.keys
                .clone()
                .update_key(narrow)
                .await
                .expect("root may");
            developer.clone()
        } else {
            caller(&server, &root, "", permissions).await.0
        };
        // What the callers themselves add is of `system`.
        let everything = events(&root, all(ALL)).await.expect("root may");
        for (parent, due) in *sees {
            let what = format!("{permissions:?} of {parent}");
            let Some(due) = due else {
                let mut bad = all(parent);
                bad.filter = "nonsense".into();
                bad.page_size = -1;
                for refused in [list(&who, all(parent)).await, list(&who, bad).await] {
                    let (code, reason) = (Code::PermissionDenied, ErrorReason::CallerNotPermitted);
                    assert_refused(&what, refused, code, reason, &[]);
                }
                let exported = export(&who, json_lines(parent)).await;
                let refused = exported.expect_err(&what);
                assert_eq!(refused.code(), Code::PermissionDenied, "{what}");
                continue;
            };
            let seen = events(&who, all(parent)).await.expect(&what);
            let due: Vec<_> = everything
                .iter()
                .filter(|event| due.contains(&kind(event)))
                .cloned()
                .collect();
            assert_eq!(seen, due, "{what}");
            let kinds: BTreeSet<Kind> = seen.iter().map(kind).collect();
            assert_eq!(kinds.is_empty(), seen.is_empty(), "{what}: {kinds:?}");

            // An export tells the same, the other way round.
            let bytes = export(&who, json_lines(parent)).await.expect(&what);
            let mut exported = revisions(&bytes);
            exported.reverse();
            let seen: Vec<_> = seen.into_iter().map(|event| event.revision).collect();
            assert_eq!(exported, seen, "{what}, exported");
        }
        let may_verify = matches!(permissions, [one] if ["*", "*:audit.read"].contains(one));
        let verified = verify(&who, "nonsense").await.expect_err("no anchor");
        let due = if may_verify {
            Code::InvalidArgument
        } else {
            Code::PermissionDenied
        };
        assert_eq!(verified.code(), due, "{permissions:?} verifies");
    }
    let rows = ROLES.iter().flat_map(|(_, sees)| *sees);
    let seen: BTreeSet<Kind> = rows
        .filter_map(|(_, kinds)| *kinds)
        .flatten()
        .copied()
        .collect();
    assert_eq!(
        seen.len(),
        EVERYTHING.len(),
        "each kind is seen by somebody"
    );
}

/// The revisions of an export, in its order.
fn revisions(bytes: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(bytes).expect("text");
    let revision = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
        value["revision"].as_str().expect("a text").to_owned()
    };
    text.lines().map(revision).collect()
}

fn asked(filter: &str, query: &str) -> ListEventsRequest {
    ListEventsRequest {
        filter: filter.into(),
        query: query.into(),
        ..all(DEFAULT)
    }
}

#[tokio::test]
async fn filters_and_words_find_events() {
    let server = Server::start();
    let root = Clients::root(&server);
    let mut names = Vec::new();
    for team in ["payments", "otp", "sms"] {
        let (who, key) = caller(&server, &root, team, &["*"]).await;
        let made = key_named(&format!("Made by {team}"), &[]);
        let name = create_key(&who, DEFAULT, made).await.expect("root may").0;
        archive(&who, &name).await.expect("root may");
        names.push((name, key));
    }
    let everything = events(&root, all(DEFAULT)).await.expect("root may");
    assert_eq!(everything.len(), 6);
    let time = |event: &Event| {
        let time = event.time.expect("a time");
        jiff::Timestamp::new(time.seconds, time.nanos).expect("a time")
    };
    let third = time(&everything[3]);
    let (first_name, first_actor) = &names[0];
    let id = first_name.rsplit('/').next().expect("an id");
    // The places in the list, newest first: sms 0 1, otp 2 3, payments 4 5; archived, then created.
    for (filter, query, due) in [
        (String::new(), "", &[0, 1, 2, 3, 4, 5][..]),
        ("team = payments".into(), "", &[4, 5]),
        (
            "team = \"payments\" OR team = \"sms\"".into(),
            "",
            &[0, 1, 4, 5],
        ),
        ("action = CREATE".into(), "", &[1, 3, 5]),
        ("action = DELETE AND team = otp".into(), "", &[2]),
        ("entity = KEY".into(), "", &[0, 1, 2, 3, 4, 5]),
        ("entity = WORKSPACE".into(), "", &[]),
        ("method = ArchiveKey".into(), "", &[0, 2, 4]),
        (format!("resource = {first_name}"), "", &[4, 5]),
        (format!("actor = {first_actor}"), "", &[4, 5]),
        ("source_address = 127.0.0.1".into(), "", &[0, 1, 2, 3, 4, 5]),
        (format!("time >= {third}"), "", &[0, 1, 2, 3]),
        (format!("time < {third}"), "", &[4, 5]),
        (format!("time >= {third} AND time <= {third}"), "", &[3]),
        ("time > +1h".into(), "", &[]),
        ("time > -1h".into(), "", &[0, 1, 2, 3, 4, 5]),
        (String::new(), "PAYMENTS", &[4, 5]),
        (String::new(), "made by otp", &[3]),
        (String::new(), "archived", &[0, 2, 4]),
        (String::new(), "archivekey sms", &[0]),
        (String::new(), "127.0.0.1 nothing", &[]),
        (String::new(), id, &[4, 5]),
        ("action = CREATE".into(), "sms", &[1]),
    ] {
        let found = events(&root, asked(&filter, query)).await;
        let found = found.unwrap_or_else(|status| panic!("{filter} {query}: {status:?}"));
        let due: Vec<_> = due.iter().map(|&place| everything[place].clone()).collect();
        assert_eq!(found, due, "{filter:?}, {query:?}");
    }
}

#[tokio::test]
async fn pages_hold_each_event_once_in_either_order() {
    let server = Server::start();
    let root = Clients::root(&server);
    for _ in 0..7 {
        create_key(&root, DEFAULT, key()).await.expect("root may");
    }
    let newest_first = events(&root, all(ALL)).await.expect("root may");
    assert_eq!(newest_first.len(), 8);
    let mut oldest_first = newest_first.clone();
    oldest_first.reverse();
    for (order, due) in [
        ("", &newest_first),
        ("time desc", &newest_first),
        ("time", &oldest_first),
        ("time asc", &oldest_first),
    ] {
        for size in [1, 3, 8, 1_000] {
            let request = ListEventsRequest {
                page_size: size,
                order_by: order.into(),
                ..all(ALL)
            };
            let listed = events(&root, request).await.expect("root may");
            assert_eq!(listed, *due, "{order:?} in pages of {size}");
        }
    }
    // A page that is taken up later goes on where it ended, whatever came meanwhile.
    let mut request = ListEventsRequest {
        page_size: 3,
        ..all(ALL)
    };
    let page = list(&root, request.clone())
        .await
        .expect("a page")
        .into_inner();
    assert_eq!(page.events, newest_first[..3]);
    create_key(&root, DEFAULT, key()).await.expect("root may");
    request.page_token = page.next_page_token;
    request.page_size = 1_000;
    let rest = list(&root, request).await.expect("a page").into_inner();
    assert_eq!(rest.events, newest_first[3..]);
    assert_eq!(rest.next_page_token, "");
}
