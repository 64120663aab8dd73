//! Who changed what, over gRPC: one event for each change, told to whom it concerns, exported and verified.

#[path = "audit/exports.rs"]
mod exports;
#[path = "audit/large.rs"]
mod large;
#[path = "audit/lists.rs"]
mod lists;
mod support;
#[path = "audit/tampering.rs"]
mod tampering;

use portcullis::proto::v1::{
    ArchiveKeyRequest, CreateKeyRequest, CreateWorkspaceRequest, DeleteKeyRequest,
    DeleteWorkspaceRequest, DisableKeyRequest, EnableKeyRequest, EndOverlapRequest, ErrorReason,
    Event, ExportEventsRequest, GetKeyRequest, Key, ListEventsRequest, ListEventsResponse,
    ListWorkspacesRequest, ResetSecretRequest, UpdateWorkspaceRequest, VerifyEventsRequest,
    VerifyEventsResponse, Workspace,
    event::{Action, Entity},
    export_events_request::Format,
};
use prost_types::FieldMask;
use support::{Clients, Server, Token, key, key_named, reason_of, update};
use tonic::{Response, Status};

const ALL: &str = "workspaces/-";
const DEFAULT: &str = "workspaces/default";

/// Everything of a workspace, or of all.
fn all(parent: &str) -> ListEventsRequest {
    ListEventsRequest {
        parent: parent.into(),
        page_size: 1_000,
        ..ListEventsRequest::default()
    }
}

async fn list(
    caller: &Clients,
    request: ListEventsRequest,
) -> Result<Response<ListEventsResponse>, Status> {
    caller.audit.clone().list_events(request).await
}

/// All events that the request asks for, page by page.
async fn events(caller: &Clients, mut request: ListEventsRequest) -> Result<Vec<Event>, Status> {
    let mut events = Vec::new();
    loop {
        let page = list(caller, request.clone()).await?.into_inner();
        events.extend(page.events);
        if page.next_page_token.is_empty() {
            return Ok(events);
        }
        request.page_token = page.next_page_token;
    }
}

/// The bytes of an export, to the end.
async fn export(caller: &Clients, request: ExportEventsRequest) -> Result<Vec<u8>, Status> {
    let mut stream = caller
        .audit
        .clone()
        .export_events(request)
        .await?
        .into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = stream.message().await? {
        assert!(piece.data.ends_with(b"\n"), "pieces end with a line");
        bytes.extend(piece.data);
    }
    Ok(bytes)
}

fn json_lines(parent: &str) -> ExportEventsRequest {
    ExportEventsRequest {
        parent: parent.into(),
        format: Format::JsonLines.into(),
        ..ExportEventsRequest::default()
    }
}

async fn verify(caller: &Clients, anchor: &str) -> Result<VerifyEventsResponse, Status> {
    let request = VerifyEventsRequest {
        anchor: anchor.into(),
    };
    let verified = caller.audit.clone().verify_events(request).await?;
    Ok(verified.into_inner())
}

/// Creates a workspace.
async fn create_workspace(root: &Clients, id: &str) -> Workspace {
    let request = CreateWorkspaceRequest {
        workspace_id: id.into(),
        ..CreateWorkspaceRequest::default()
    };
    let created = root.workspaces.clone().create_workspace(request).await;
    created.expect("a workspace").into_inner()
}

/// Creates a key, and answers its name.
async fn create_key(caller: &Clients, parent: &str, key: Key) -> Result<(String, String), Status> {
    let request = CreateKeyRequest {
        parent: parent.into(),
        key: Some(key),
        ..CreateKeyRequest::default()
    };
    let issued = caller.keys.clone().create_key(request).await?.into_inner();
    Ok((issued.key.expect("a key").name, issued.token))
}

/// A caller of the team whose credential holds `permissions`, and the name of its key.
async fn caller(
    server: &Server,
    root: &Clients,
    team: &str,
    permissions: &[&str],
) -> (Clients, String) {
    let labels = [("team".to_owned(), team.to_owned())];
    let key = Key {
        labels: labels.into_iter().filter(|_| !team.is_empty()).collect(),
        ..key_named("", permissions)
    };
    let (name, token) = create_key(root, "workspaces/system", key)
        .await
        .expect("root may");
    let caller = Clients::of(server.admin(), &Token::bearer(&token));
    // Once it was proved, its calls never wait for argon2, which may be too busy on a loaded machine.
    let list = ListWorkspacesRequest::default();
    while let Err(status) = caller
        .workspaces
        .clone()
        .list_workspaces(list.clone())
        .await
    {
        assert_eq!(reason_of(&status), ErrorReason::Overloaded, "{status:?}");
    }
    (caller, name)
}

async fn archive(caller: &Clients, name: &str) -> Result<Response<Key>, Status> {
    let request = ArchiveKeyRequest {
        name: name.into(),
        ..ArchiveKeyRequest::default()
    };
    caller.keys.clone().archive_key(request).await
}

async fn delete(caller: &Clients, name: &str) -> Result<Response<()>, Status> {
    let request = DeleteKeyRequest {
        name: name.into(),
        force: true,
        ..DeleteKeyRequest::default()
    };
    caller.keys.clone().delete_key(request).await
}

async fn delete_workspace(caller: &Clients, name: &str) -> Result<Response<()>, Status> {
    let request = DeleteWorkspaceRequest {
        name: name.into(),
        ..DeleteWorkspaceRequest::default()
    };
    caller.workspaces.clone().delete_workspace(request).await
}

/// A history that grows by one event with each change, and by none otherwise.
struct History<'s> {
    root: &'s Clients,
    actor: String,
    seen: usize,
}

impl History<'_> {
    async fn grew(&mut self) -> Vec<Event> {
        let mut events = events(self.root, all(ALL)).await.expect("root may");
        let new = events.len() - self.seen;
        self.seen = events.len();
        events.truncate(new);
        events
    }

    /// One event was added, and says this.
    async fn changed(
        &mut self,
        method: &str,
        action: Action,
        entity: Entity,
        resource: &str,
        fields: &[&str],
    ) {
        let new = self.grew().await;
        let [event] = new.as_slice() else {
            panic!("{method}: one event is due: {new:?}");
        };
        assert_eq!(event.method, method);
        assert_eq!(event.action(), action, "{method}");
        assert_eq!(event.entity(), entity, "{method}");
        assert_eq!(event.resource, resource, "{method}");
        assert_eq!(event.actor, self.actor, "{method}");
        assert_eq!(event.team, "platform", "{method}");
        assert_eq!(event.source_address, "127.0.0.1", "{method}");
        let named: Vec<_> = event
            .changes
            .iter()
            .map(|change| change.field.as_str())
            .collect();
        for field in fields {
            assert!(named.contains(field), "{method}: {field} in {named:?}");
        }
        let verified = verify(self.root, "").await.expect("root may");
        assert!(verified.intact, "the chain holds after {method}");
        assert!(
            verified.head.starts_with(&format!("{}:", event.revision)),
            "the head is at {method}"
        );
    }

    async fn unchanged(&mut self, what: &str) {
        let new = self.grew().await;
        assert!(new.is_empty(), "{what}: no event is due: {new:?}");
    }
}

#[tokio::test]
async fn there_is_one_event_for_each_change_and_none_for_what_changed_nothing() {
    let server = Server::start();
    let first = Clients::root(&server);
    let (root, actor) = caller(&server, &first, "platform", &["*"]).await;
    let mut history = History {
        root: &root,
        actor,
        seen: 0,
    };
    let begun = history.grew().await;
    let [created, store] = begun.as_slice() else {
        panic!("the store's event, and that of a root: {begun:?}");
    };
    assert_eq!(
        (store.entity(), store.action()),
        (Entity::Store, Action::Create)
    );
    assert_eq!(
        (store.actor.as_str(), store.revision.as_str()),
        ("portcullis", "1.1")
    );
    assert_eq!(created.method, "CreateKey");

    create_workspace(&root, "acme").await;
    let acme = "workspaces/acme";
    let (create, update_action, delete_action) = (Action::Create, Action::Update, Action::Delete);
    history
        .changed(
            "CreateWorkspace",
            create,
            Entity::Workspace,
            acme,
            &["token_prefix"],
        )
        .await;
    let change = |name: &str| UpdateWorkspaceRequest {
        workspace: Some(Workspace {
            name: acme.into(),
            display_name: name.into(),
            ..Workspace::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["display_name".into()],
        }),
        ..UpdateWorkspaceRequest::default()
    };
    let mut workspaces = root.workspaces.clone();
    workspaces
        .update_workspace(change("Acme"))
        .await
        .expect("changed");
    history
        .changed(
            "UpdateWorkspace",
            update_action,
            Entity::Workspace,
            acme,
            &["display_name"],
        )
        .await;
    workspaces
        .update_workspace(change("Acme"))
        .await
        .expect("the same");
    history.unchanged("a workspace that is so already").await;

    let request = CreateKeyRequest {
        parent: acme.into(),
        key: Some(key_named("first", &["sms.send"])),
        request_id: "create-1".into(),
    };
    let mut keys = root.keys.clone();
    let issued = keys
        .create_key(request.clone())
        .await
        .expect("a key")
        .into_inner();
    let made = issued.key.clone().expect("a key");
    let named = &made.name;
    history
        .changed(
            "CreateKey",
            create,
            Entity::Key,
            named,
            &["permissions", "owner"],
        )
        .await;
    let newest = events(&root, all(acme)).await.expect("root may").remove(0);
    assert_eq!(newest.request_id, "create-1");
    let again = keys.create_key(request.clone()).await.expect("repeated");
    assert!(again.into_inner().replayed);
    history.unchanged("a repeated call").await;
    let reused = CreateKeyRequest {
        key: Some(key()),
        ..request
    };
    keys.create_key(reused).await.expect_err("another body");
    history.unchanged("a request id that was used").await;

    let rename = |name: &str| {
        update(
            Key {
                name: named.clone(),
                ..key_named(name, &[])
            },
            &["display_name"],
        )
    };
    keys.update_key(rename("renamed")).await.expect("changed");
    history
        .changed(
            "UpdateKey",
            update_action,
            Entity::Key,
            named,
            &["display_name"],
        )
        .await;
    keys.update_key(rename("renamed")).await.expect("the same");
    history.unchanged("a key that is so already").await;
    keys.update_key(rename(&"x".repeat(1_000)))
        .await
        .expect_err("too long");
    history.unchanged("a malformed change").await;
    let mut stale = rename("stale");
    stale
        .key
        .as_mut()
        .expect("a key")
        .etag
        .clone_from(&made.etag);
    keys.update_key(stale).await.expect_err("an old etag");
    history.unchanged("an old etag").await;

    let name = || named.clone();
    let disable = DisableKeyRequest {
        name: name(),
        ..DisableKeyRequest::default()
    };
    keys.disable_key(disable.clone()).await.expect("disabled");
    history
        .changed("DisableKey", update_action, Entity::Key, named, &["state"])
        .await;
    keys.disable_key(disable).await.expect("is so already");
    history.unchanged("a key that is disabled already").await;
    let enable = EnableKeyRequest {
        name: name(),
        ..EnableKeyRequest::default()
    };
    keys.enable_key(enable.clone()).await.expect("enabled");
    history
        .changed("EnableKey", update_action, Entity::Key, named, &["state"])
        .await;
    keys.enable_key(enable).await.expect("is so already");
    history.unchanged("a key that is enabled already").await;

    let overlap = prost_types::Duration {
        seconds: 60,
        nanos: 0,
    };
    let reset = ResetSecretRequest {
        name: name(),
        overlap: Some(overlap),
        ..ResetSecretRequest::default()
    };
    let reset = keys.reset_secret(reset).await.expect("reset").into_inner();
    history
        .changed(
            "ResetSecret",
            update_action,
            Entity::Key,
            named,
            &["secrets"],
        )
        .await;
    let end = EndOverlapRequest {
        name: name(),
        ..EndOverlapRequest::default()
    };
    keys.end_overlap(end.clone()).await.expect("ended");
    history
        .changed(
            "EndOverlap",
            update_action,
            Entity::Key,
            named,
            &["secrets"],
        )
        .await;
    // Whether there is one left to end or not: nothing changes.
    let _ = keys.end_overlap(end).await;
    history.unchanged("an overlap that has ended").await;

    delete_workspace(&root, acme).await.expect_err("not empty");
    history.unchanged("a workspace that is not empty").await;
    archive(&root, named).await.expect("archived");
    history
        .changed("ArchiveKey", delete_action, Entity::Key, named, &["state"])
        .await;
    keys.update_key(rename("late")).await.expect_err("archived");
    history.unchanged("a key that is archived").await;
    delete(&root, named).await.expect("deleted");
    history
        .changed(
            "DeleteKey",
            delete_action,
            Entity::Key,
            named,
            &["permissions"],
        )
        .await;
    delete(&root, named).await.expect_err("gone");
    history.unchanged("a key that is gone").await;
    delete_workspace(&root, acme).await.expect("empty now");
    history
        .changed(
            "DeleteWorkspace",
            delete_action,
            Entity::Workspace,
            acme,
            &["display_name"],
        )
        .await;

    keys.get_key(GetKeyRequest { name: name() })
        .await
        .expect_err("gone");
    history.unchanged("reading").await;
    let (nobody, _) = caller(&server, &first, "", &[]).await;
    history.grew().await;
    create_key(&nobody, DEFAULT, key())
        .await
        .expect_err("may not");
    history.unchanged("a call that was refused").await;

    let told = events(&root, all(ALL)).await.expect("root may");
    let told = format!("{told:?}");
    for secret in [issued.secret, reset.secret] {
        assert!(
            !secret.is_empty() && !told.contains(&secret),
            "no event holds a secret"
        );
    }
}
