//! Who may do what: every role at every call on every workspace, in one table.
//!
//! The table is written out and not worked out, so that a change of what a role may do shows as a change of the table.

mod support;

use futures_util::future::join_all;
use portcullis::proto::v1::{
    ArchiveKeyRequest, AwaitRevisionRequest, CreateKeyRequest, CreateWorkspaceRequest,
    DeleteKeyRequest, DeleteWorkspaceRequest, DisableKeyRequest, EnableKeyRequest,
    EndOverlapRequest, ErrorReason, ExportEventsRequest, GetKeyRequest, GetWorkspaceRequest, Key,
    ListEventsRequest, ListKeysRequest, ListReplicasRequest, ListWorkspacesRequest,
    ResetSecretRequest, UpdateWorkspaceRequest, VerifyEventsRequest, Workspace,
};
use prost_types::{Duration, FieldMask};
use support::{Clients, Server, Token, check, clients, key_named, reason_of, update};
use tonic::Status;

/// The columns: a role with what it holds. The first five are of every workspace, the next five of `acme` alone.
const ROLES: [(&str, &[&str]); 12] = [
    ("root", &["*"]),
    (
        "admin",
        &[
            "*:keys.read",
            "*:keys.write",
            "*:audit.read",
            "*:workspaces.write",
            "*:check",
            "*:fleet.read",
        ],
    ),
    (
        "operator",
        &[
            "*:keys.read",
            "*:keys.write",
            "*:audit.read",
            "*:fleet.read",
        ],
    ),
    ("developer", &["*:keys.own"]),
    ("auditor", &["*:keys.read", "*:audit.read", "*:fleet.read"]),
    ("checker", &["*:check"]),
    (
        "admin of acme",
        &[
            "acme:keys.read",
            "acme:keys.write",
            "acme:audit.read",
            "acme:workspaces.write",
            "acme:check",
        ],
    ),
    (
        "operator of acme",
        &["acme:keys.read", "acme:keys.write", "acme:audit.read"],
    ),
    ("developer of acme", &["acme:keys.own"]),
    ("auditor of acme", &["acme:keys.read", "acme:audit.read"]),
    ("checker of acme", &["acme:check"]),
    ("nothing", &[]),
];

/// Whose key a call is about.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Of {
    /// It is about no key.
    None,
    /// The caller's own: it created it. A key of `system` holds nothing.
    Own,
    /// Another's. A key of `system` holds nothing.
    Another,
    /// A root.
    Root,
    /// Nobody's: there is no such key.
    Missing,
}
use Of::{Another, Missing, Own, Root};

/// A call, its workspace, whose key, and what each role gets:
///
/// `+` done, `p` `CALLER_NOT_PERMITTED`, `g` `GRANT_EXCEEDS_CALLER`, `n` `RESOURCE_NOT_FOUND`, `e` `RESOURCE_EXISTS`,
/// `r` `WORKSPACE_RESERVED`, `f` `WORKSPACE_NOT_EMPTY`; `.` there is nothing to try: the role owns no key there.
///
/// The workspace `nowhere` is not there; `new` and `empty` are others for each role, one to be made and one without keys.
#[rustfmt::skip]
const TABLE: &[(&str, &str, Of, &str)] = &[
    //                                               a o d a c: admin, operator, developer, auditor, checker
    //                                           root  of all | of acme | nothing
    ("CreateKey",             "acme",    Of::None, "+ +++pp +++pp p"),
    ("CreateKey",             "other",   Of::None, "+ +++pp ppppp p"),
    ("CreateKey",             "system",  Of::None, "+ +++pp ppppp p"),
    ("CreateKey",             "nowhere", Of::None, "n nnnpp ppppp p"),
    ("CreateKey of a root",   "system",  Of::None, "+ gggpp ppppp p"),
    ("CreateKey of a writer", "system",  Of::None, "+ ++gpp ppppp p"),
    ("CreateKey of an owner", "system",  Of::None, "+ +++pp ppppp p"),
    ("CreateKey of an asker", "system",  Of::None, "+ +ggpp ppppp p"),

    ("ListKeys",              "acme",    Of::None, "+ ++++p ++++p p"),
    ("ListKeys",              "other",   Of::None, "+ ++++p ppppp p"),
    ("ListKeys",              "system",  Of::None, "+ ++++p ppppp p"),
    ("ListKeys",              "nowhere", Of::None, "n nnnnp ppppp p"),

    ("GetKey",                "acme",    Own,      "+ +++.. +++.. ."),
    ("GetKey",                "acme",    Another,  "+ ++p+p ++p+p p"),
    ("GetKey",                "acme",    Missing,  "n nnpnp nnpnp p"),
    ("GetKey",                "other",   Own,      "+ +++.. ..... ."),
    ("GetKey",                "other",   Another,  "+ ++p+p ppppp p"),
    ("GetKey",                "other",   Missing,  "n nnpnp ppppp p"),
    ("GetKey",                "system",  Own,      "+ +++.. ..... ."),
    ("GetKey",                "system",  Another,  "+ ++p+p ppppp p"),
    ("GetKey",                "system",  Root,     "+ ++p+p ppppp p"),
    ("GetKey",                "system",  Missing,  "n nnpnp ppppp p"),

    ("UpdateKey",             "acme",    Own,      "+ +++.. +++.. ."),
    ("UpdateKey",             "acme",    Another,  "+ ++ppp ++ppp p"),
    ("UpdateKey",             "acme",    Missing,  "n nnppp nnppp p"),
    ("UpdateKey",             "other",   Own,      "+ +++.. ..... ."),
    ("UpdateKey",             "other",   Another,  "+ ++ppp ppppp p"),
    ("UpdateKey",             "other",   Missing,  "n nnppp ppppp p"),
    ("UpdateKey",             "system",  Own,      "+ +++.. ..... ."),
    ("UpdateKey",             "system",  Another,  "+ ++ppp ppppp p"),
    ("UpdateKey",             "system",  Root,     "+ ggppp ppppp p"),
    ("UpdateKey",             "system",  Missing,  "n nnppp ppppp p"),
    ("UpdateKey to a root",    "system",  Own,      "+ ggg.. ..... ."),
    ("UpdateKey to a root",    "system",  Another,  "+ ggppp ppppp p"),

    ("EnableKey",             "acme",    Own,      "+ +++.. +++.. ."),
    ("EnableKey",             "acme",    Another,  "+ ++ppp ++ppp p"),
    ("EnableKey",             "acme",    Missing,  "n nnppp nnppp p"),
    ("EnableKey",             "other",   Own,      "+ +++.. ..... ."),
    ("EnableKey",             "other",   Another,  "+ ++ppp ppppp p"),
    ("EnableKey",             "other",   Missing,  "n nnppp ppppp p"),
    ("EnableKey",             "system",  Own,      "+ +++.. ..... ."),
    ("EnableKey",             "system",  Another,  "+ ++ppp ppppp p"),
    ("EnableKey",             "system",  Root,     "+ ggppp ppppp p"),
    ("EnableKey",             "system",  Missing,  "n nnppp ppppp p"),

    ("DisableKey",            "acme",    Own,      "+ +++.. +++.. ."),
    ("DisableKey",            "acme",    Another,  "+ ++ppp ++ppp p"),
    ("DisableKey",            "acme",    Missing,  "n nnppp nnppp p"),
    ("DisableKey",            "other",   Own,      "+ +++.. ..... ."),
    ("DisableKey",            "other",   Another,  "+ ++ppp ppppp p"),
    ("DisableKey",            "other",   Missing,  "n nnppp ppppp p"),
    ("DisableKey",            "system",  Own,      "+ +++.. ..... ."),
    ("DisableKey",            "system",  Another,  "+ ++ppp ppppp p"),
    ("DisableKey",            "system",  Root,     "+ ggppp ppppp p"),
    ("DisableKey",            "system",  Missing,  "n nnppp ppppp p"),

    ("ResetSecret",           "acme",    Own,      "+ +++.. +++.. ."),
    ("ResetSecret",           "acme",    Another,  "+ ++ppp ++ppp p"),
    ("ResetSecret",           "acme",    Missing,  "n nnppp nnppp p"),
    ("ResetSecret",           "other",   Own,      "+ +++.. ..... ."),
    ("ResetSecret",           "other",   Another,  "+ ++ppp ppppp p"),
    ("ResetSecret",           "other",   Missing,  "n nnppp ppppp p"),
    ("ResetSecret",           "system",  Own,      "+ +++.. ..... ."),
    ("ResetSecret",           "system",  Another,  "+ ++ppp ppppp p"),
    ("ResetSecret",           "system",  Root,     "+ ggppp ppppp p"),
    ("ResetSecret",           "system",  Missing,  "n nnppp ppppp p"),

    ("EndOverlap",            "acme",    Own,      "+ +++.. +++.. ."),
    ("EndOverlap",            "acme",    Another,  "+ ++ppp ++ppp p"),
    ("EndOverlap",            "acme",    Missing,  "n nnppp nnppp p"),
    ("EndOverlap",            "other",   Own,      "+ +++.. ..... ."),
    ("EndOverlap",            "other",   Another,  "+ ++ppp ppppp p"),
    ("EndOverlap",            "other",   Missing,  "n nnppp ppppp p"),
    ("EndOverlap",            "system",  Own,      "+ +++.. ..... ."),
    ("EndOverlap",            "system",  Another,  "+ ++ppp ppppp p"),
    ("EndOverlap",            "system",  Root,     "+ ggppp ppppp p"),
    ("EndOverlap",            "system",  Missing,  "n nnppp ppppp p"),

    ("ArchiveKey",            "acme",    Own,      "+ +++.. +++.. ."),
    ("ArchiveKey",            "acme",    Another,  "+ ++ppp ++ppp p"),
    ("ArchiveKey",            "acme",    Missing,  "n nnppp nnppp p"),
    ("ArchiveKey",            "other",   Own,      "+ +++.. ..... ."),
    ("ArchiveKey",            "other",   Another,  "+ ++ppp ppppp p"),
    ("ArchiveKey",            "other",   Missing,  "n nnppp ppppp p"),
    ("ArchiveKey",            "system",  Own,      "+ +++.. ..... ."),
    ("ArchiveKey",            "system",  Another,  "+ ++ppp ppppp p"),
    ("ArchiveKey",            "system",  Root,     "+ ggppp ppppp p"),
    ("ArchiveKey",            "system",  Missing,  "n nnppp ppppp p"),

    ("DeleteKey",             "acme",    Own,      "+ +++.. +++.. ."),
    ("DeleteKey",             "acme",    Another,  "+ ++ppp ++ppp p"),
    ("DeleteKey",             "acme",    Missing,  "n nnppp nnppp p"),
    ("DeleteKey",             "other",   Own,      "+ +++.. ..... ."),
    ("DeleteKey",             "other",   Another,  "+ ++ppp ppppp p"),
    ("DeleteKey",             "other",   Missing,  "n nnppp ppppp p"),
    ("DeleteKey",             "system",  Own,      "+ +++.. ..... ."),
    ("DeleteKey",             "system",  Another,  "+ ++ppp ppppp p"),
    ("DeleteKey",             "system",  Root,     "+ ggppp ppppp p"),
    ("DeleteKey",             "system",  Missing,  "n nnppp ppppp p"),

    ("CreateWorkspace",       "new",     Of::None, "+ +pppp ppppp p"),
    ("CreateWorkspace",       "acme",    Of::None, "e epppp epppp p"),
    ("CreateWorkspace",       "other",   Of::None, "e epppp ppppp p"),
    ("CreateWorkspace",       "system",  Of::None, "e epppp ppppp p"),
    ("ListWorkspaces",        "acme",    Of::None, "+ +++++ +++++ +"),
    ("GetWorkspace",          "acme",    Of::None, "+ +++++ +++++ p"),
    ("GetWorkspace",          "other",   Of::None, "+ +++++ ppppp p"),
    ("GetWorkspace",          "system",  Of::None, "+ +++++ ppppp p"),
    ("GetWorkspace",          "nowhere", Of::None, "n nnnnn ppppp p"),
    ("UpdateWorkspace",       "acme",    Of::None, "+ +pppp +pppp p"),
    ("UpdateWorkspace",       "other",   Of::None, "+ +pppp ppppp p"),
    ("UpdateWorkspace",       "system",  Of::None, "r rpppp ppppp p"),
    ("UpdateWorkspace",       "nowhere", Of::None, "n npppp ppppp p"),
    ("DeleteWorkspace",       "empty",   Of::None, "+ +pppp ppppp p"),
    ("DeleteWorkspace",       "acme",    Of::None, "f fpppp fpppp p"),
    ("DeleteWorkspace",       "other",   Of::None, "f fpppp ppppp p"),
    ("DeleteWorkspace",       "default", Of::None, "r rpppp ppppp p"),
    ("DeleteWorkspace",       "system",  Of::None, "r rpppp ppppp p"),
    ("DeleteWorkspace",       "nowhere", Of::None, "n npppp ppppp p"),

    ("ListEvents",            "acme",    Of::None, "+ ++++p ++++p p"),
    ("ListEvents",            "other",   Of::None, "+ ++++p ppppp p"),
    ("ListEvents",            "system",  Of::None, "+ ++++p ppppp p"),
    ("ListEvents",            "nowhere", Of::None, "+ ++++p ppppp p"),
    ("ListEvents of all",     "-",       Of::None, "+ ++++p ++++p p"),
    ("ExportEvents",          "acme",    Of::None, "+ ++++p ++++p p"),
    ("ExportEvents",          "other",   Of::None, "+ ++++p ppppp p"),
    ("ExportEvents of all",   "-",       Of::None, "+ ++++p ++++p p"),
    ("VerifyEvents",          "-",       Of::None, "+ ++p+p ppppp p"),

    ("ListReplicas",          "",        Of::None, "+ ++p+p ppppp p"),
    ("AwaitRevision",         "",        Of::None, "+ ++p+p ppppp p"),

    ("Check",                 "acme",    Of::None, "+ +ppp+ +ppp+ p"),
    ("Check",                 "other",   Of::None, "+ +ppp+ ppppp p"),
    ("Check",                 "system",  Of::None, "+ +ppp+ ppppp p"),
    ("Check",                 "nowhere", Of::None, "+ +ppp+ ppppp p"),
];

fn reason(cell: char) -> Option<ErrorReason> {
    match cell {
        '+' => None,
        'p' => Some(ErrorReason::CallerNotPermitted),
        'g' => Some(ErrorReason::GrantExceedsCaller),
        'n' => Some(ErrorReason::ResourceNotFound),
        'e' => Some(ErrorReason::ResourceExists),
        'r' => Some(ErrorReason::WorkspaceReserved),
        'f' => Some(ErrorReason::WorkspaceNotEmpty),
        other => panic!("{other} stands for nothing"),
    }
}

/// What a call is made on.
struct On {
    workspace: String,
    key: String,
    revision: String,
}

async fn create(by: &Clients, workspace: &str, permissions: &[&str]) -> Result<Key, Status> {
    let request = CreateKeyRequest {
        parent: format!("workspaces/{workspace}"),
        key: Some(key_named("made", permissions)),
        ..CreateKeyRequest::default()
    };
    let issued = by.keys.clone().create_key(request).await?.into_inner();
    Ok(issued.key.expect("a key"))
}

async fn create_workspace(by: &Clients, id: &str) -> Result<(), Status> {
    let request = CreateWorkspaceRequest {
        workspace_id: id.into(),
        ..CreateWorkspaceRequest::default()
    };
    by.workspaces.clone().create_workspace(request).await?;
    Ok(())
}

/// Makes the call.
async fn make(by: &Clients, call: &str, on: &On) -> Result<(), Status> {
    let Clients {
        mut keys,
        mut workspaces,
        mut fleet,
        mut audit,
        check: mut checks,
        ..
    } = by.clone();
    let name = on.key.clone();
    let parent = format!("workspaces/{}", on.workspace);
    match call {
        "CreateKey" => drop(create(by, &on.workspace, &[]).await?),
        "CreateKey of a root" => drop(create(by, &on.workspace, &["*"]).await?),
        "CreateKey of a writer" => drop(create(by, &on.workspace, &["other:keys.write"]).await?),
        "CreateKey of an owner" => drop(create(by, &on.workspace, &["other:keys.own"]).await?),
        "CreateKey of an asker" => drop(create(by, &on.workspace, &["other:check"]).await?),
        "ListKeys" => {
            let request = ListKeysRequest {
                parent,
                ..ListKeysRequest::default()
            };
            keys.list_keys(request).await?;
        }
        "GetKey" => drop(keys.get_key(GetKeyRequest { name }).await?),
        "UpdateKey" => {
            let changed = Key {
                name,
                ..key_named("changed", &[])
            };
            keys.update_key(update(changed, &["display_name"])).await?;
        }
        "UpdateKey to a root" => {
            let changed = Key {
                name,
                ..key_named("", &["*"])
            };
            keys.update_key(update(changed, &["permissions"])).await?;
        }
        "EnableKey" => {
            let request = EnableKeyRequest {
                name,
                ..EnableKeyRequest::default()
            };
            keys.enable_key(request).await?;
        }
        "DisableKey" => {
            let request = DisableKeyRequest {
                name,
                ..DisableKeyRequest::default()
            };
            keys.disable_key(request).await?;
        }
        "ResetSecret" => {
            let request = ResetSecretRequest {
                name,
                overlap: Some(Duration {
                    seconds: 60,
                    nanos: 0,
                }),
                ..ResetSecretRequest::default()
            };
            keys.reset_secret(request).await?;
        }
        "EndOverlap" => {
            let request = EndOverlapRequest {
                name,
                ..EndOverlapRequest::default()
            };
            keys.end_overlap(request).await?;
        }
        "ArchiveKey" => {
            let request = ArchiveKeyRequest {
                name,
                ..ArchiveKeyRequest::default()
            };
            keys.archive_key(request).await?;
        }
        "DeleteKey" => {
            let request = DeleteKeyRequest {
                name,
                force: true,
                ..DeleteKeyRequest::default()
            };
            keys.delete_key(request).await?;
        }
        "CreateWorkspace" => create_workspace(by, &on.workspace).await?,
        "ListWorkspaces" => {
            let request = ListWorkspacesRequest::default();
            workspaces.list_workspaces(request).await?;
        }
        "GetWorkspace" => {
            let request = GetWorkspaceRequest { name: parent };
            workspaces.get_workspace(request).await?;
        }
        "UpdateWorkspace" => {
            let request = UpdateWorkspaceRequest {
                workspace: Some(Workspace {
                    name: parent,
                    display_name: "changed".into(),
                    ..Workspace::default()
                }),
                update_mask: Some(FieldMask {
                    paths: vec!["display_name".into()],
                }),
                ..UpdateWorkspaceRequest::default()
            };
            workspaces.update_workspace(request).await?;
        }
        "DeleteWorkspace" => {
            let request = DeleteWorkspaceRequest {
                name: parent,
                ..DeleteWorkspaceRequest::default()
            };
            workspaces.delete_workspace(request).await?;
        }
        "ListEvents" | "ListEvents of all" => {
            let request = ListEventsRequest {
                parent,
                ..ListEventsRequest::default()
            };
            audit.list_events(request).await?;
        }
        "ExportEvents" | "ExportEvents of all" => {
            let request = ExportEventsRequest {
                parent,
                ..ExportEventsRequest::default()
            };
            let mut pieces = audit.export_events(request).await?.into_inner();
            while pieces.message().await?.is_some() {}
        }
        "VerifyEvents" => drop(audit.verify_events(VerifyEventsRequest::default()).await?),
        "ListReplicas" => drop(fleet.list_replicas(ListReplicasRequest {}).await?),
        "AwaitRevision" => {
            let revision = on.revision.clone();
            let request = AwaitRevisionRequest { revision };
            fleet.await_revision(request).await?;
        }
        "Check" => {
            let mut request = check("no credential");
            request.workspace.clone_from(&on.workspace);
            checks.check(request).await?;
        }
        other => unreachable!("{other} is no call"),
    }
    Ok(())
}

/// A caller with these permissions, whose credential was proved: the next calls never wait for argon2, which may be too
/// busy on a loaded machine.
async fn caller(server: &Server, root: &Clients, permissions: &[&str]) -> Clients {
    let request = CreateKeyRequest {
        parent: "workspaces/system".into(),
        key: Some(key_named("", permissions)),
        ..CreateKeyRequest::default()
    };
    let issued = root.keys.clone().create_key(request).await;
    let issued = issued.expect("root may").into_inner();
    let caller = Clients::of(server.admin(), &Token::bearer(&issued.token));
    let list = ListWorkspacesRequest::default;
    while let Err(status) = caller.workspaces.clone().list_workspaces(list()).await {
        assert_eq!(reason_of(&status), ErrorReason::Overloaded, "{status:?}");
    }
    caller
}

/// Makes what a row's call is to be made on, for one role.
async fn prepare(
    root: &Clients,
    by: &Clients,
    (call, workspace, of): (&str, &str, Of),
    column: usize,
) -> On {
    let mut on = On {
        workspace: match workspace {
            "new" | "empty" => format!("{workspace}-{column}"),
            there => there.to_owned(),
        },
        key: String::new(),
        revision: String::new(),
    };
    if workspace == "empty" {
        create_workspace(root, &on.workspace)
            .await
            .expect("root may");
    }
    let made = match of {
        Of::None => None,
        Own => Some(create(by, workspace, &[]).await.expect("it may")),
        Another => Some(create(root, workspace, &[]).await.expect("root may")),
        Root => Some(create(root, workspace, &["*"]).await.expect("root may")),
        Missing => {
            on.key = format!("workspaces/{workspace}/keys/{}1", "0".repeat(21));
            None
        }
    };
    if let Some(key) = made {
        on.key = key.name;
        // So that there is something to enable, and to end.
        let before = match call {
            "EnableKey" => Some("DisableKey"),
            "EndOverlap" => Some("ResetSecret"),
            _ => None,
        };
        if let Some(before) = before {
            make(root, before, &on).await.expect("root may");
        }
    }
    if call == "AwaitRevision" {
        let made = create(root, "acme", &[]).await.expect("root may");
        on.revision = made.revision;
    }
    on
}

async fn look(root: &Clients, key: &str) -> Option<Key> {
    let request = GetKeyRequest { name: key.into() };
    let found = root.keys.clone().get_key(request).await.ok()?;
    Some(found.into_inner())
}

#[tokio::test]
async fn each_role_does_what_its_row_says_and_no_more() {
    let server = Server::start();
    let (root, _) = clients(&server);
    for workspace in ["acme", "other"] {
        create_workspace(&root, workspace).await.expect("root may");
        create(&root, workspace, &[]).await.expect("root may");
    }
    let nobody = Clients::of(server.admin(), &Token::none());
    // Side by side, since commits that come together share their wait for the disk.
    let columns = ROLES
        .iter()
        .enumerate()
        .map(async |(column, (role, held))| {
            let by = caller(&server, &root, held).await;
            for &(call, workspace, of, cells) in TABLE {
                let mut cells = cells.chars().filter(|cell| *cell != ' ');
                let cell = cells.nth(column).expect("a cell for every role");
                let what = format!("{role}: {call} on {of:?} in {workspace:?}");
                if cell == '.' {
                    let made = create(&by, workspace, &[]).await;
                    assert!(made.is_err(), "{what}: it can own a key there after all");
                    continue;
                }
                let on = prepare(&root, &by, (call, workspace, of), column).await;
                let before = look(&root, &on.key).await;
                let refused = make(&nobody, call, &on).await.expect_err(&what);
                let missing = ErrorReason::CredentialMissing;
                assert_eq!(reason_of(&refused), missing, "nobody: {call}");
                let got = make(&by, call, &on).await.err();
                let got = got.as_ref().map(reason_of);
                assert_eq!(got, reason(cell), "{what}");
                let after = look(&root, &on.key).await;
                let changes = !call.starts_with("Get") && before.is_some() && cell == '+';
                assert_eq!(before != after, changes, "{what}: {before:?}, {after:?}");
            }
        });
    join_all(columns).await;
}

/// Every call of the services is in the table, and every row has a cell for every role.
#[test]
fn the_table_is_whole() {
    for (call, workspace, of, cells) in TABLE {
        let cells = cells.chars().filter(|cell| *cell != ' ').count();
        assert_eq!(cells, ROLES.len(), "{call} on {of:?} in {workspace:?}");
    }
    let services = [
        include_str!("../proto/portcullis/v1/key_service.proto"),
        include_str!("../proto/portcullis/v1/workspace_service.proto"),
        include_str!("../proto/portcullis/v1/fleet_service.proto"),
        include_str!("../proto/portcullis/v1/audit_service.proto"),
    ];
    let calls = services.iter().flat_map(|service| service.lines());
    let calls = calls.filter_map(|line| line.trim().strip_prefix("rpc "));
    for call in calls {
        let (call, _) = call.split_once('(').expect("a call has a request");
        assert!(TABLE.iter().any(|(row, ..)| *row == call), "{call}");
    }
}

/// A list of workspaces holds those that the caller may know of.
#[tokio::test]
async fn a_role_of_one_workspace_sees_that_one() {
    let server = Server::start();
    let (root, _) = clients(&server);
    create_workspace(&root, "acme").await.expect("root may");
    for (role, held) in ROLES {
        let by = caller(&server, &root, held).await;
        let request = ListWorkspacesRequest::default();
        let listed = by.workspaces.clone().list_workspaces(request).await;
        let listed = listed.expect("anyone may").into_inner().workspaces;
        let listed: Vec<_> = listed.iter().map(|found| &*found.name).collect();
        let expected: &[&str] = match role {
            "nothing" => &[],
            of_acme if of_acme.ends_with(" of acme") => &["workspaces/acme"],
            _ => &["workspaces/acme", "workspaces/default", "workspaces/system"],
        };
        assert_eq!(listed, expected, "{role}");
    }
}
