//! Every call that changes something, so that what holds for all of them is asked of all of them.

use portcullis::proto::v1::{
    ArchiveKeyRequest, CreateKeyRequest, CreateWorkspaceRequest, DeleteKeyRequest,
    DeleteWorkspaceRequest, DisableKeyRequest, EnableKeyRequest, EndOverlapRequest, IssuedKey, Key,
    ResetSecretRequest, UpdateKeyRequest, UpdateWorkspaceRequest, Workspace,
};
use prost_types::{Duration, FieldMask};
use tonic::{Response, Status};

use super::client::Clients;

/// A call.
#[derive(Clone, Debug)]
pub enum Mutation {
    CreateKey(CreateKeyRequest),
    UpdateKey(UpdateKeyRequest),
    EnableKey(EnableKeyRequest),
    DisableKey(DisableKeyRequest),
    ResetSecret(ResetSecretRequest),
    EndOverlap(EndOverlapRequest),
    ArchiveKey(ArchiveKeyRequest),
    DeleteKey(DeleteKeyRequest),
    CreateWorkspace(CreateWorkspaceRequest),
    UpdateWorkspace(UpdateWorkspaceRequest),
    DeleteWorkspace(DeleteWorkspaceRequest),
}

/// What a call answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Issued(IssuedKey),
    Key(Key),
    Workspace(Workspace),
    Nothing,
}

impl Answer {
    /// The key in it.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[track_caller]
    #[must_use]
    pub fn key(self) -> Key {
        match self {
            Self::Issued(issued) => issued.key.expect("an issued key is shown"),
            Self::Key(key) => key,
            other => panic!("no key: {other:?}"),
        }
    }
}

impl Mutation {
    /// A new key in a workspace.
    #[must_use]
    pub fn create(parent: &str, key: Key) -> Self {
        Self::CreateKey(CreateKeyRequest {
            parent: parent.into(),
            key: Some(key),
            ..CreateKeyRequest::default()
        })
    }

    /// Another display name for a key.
    #[must_use]
    pub fn rename(name: &str, display_name: &str) -> Self {
        let key = Key {
            name: name.into(),
            display_name: display_name.into(),
            ..Key::default()
        };
        Self::UpdateKey(super::update(key, &["display_name"]))
    }

    #[must_use]
    pub fn enable(name: &str) -> Self {
        Self::EnableKey(EnableKeyRequest {
            name: name.into(),
            ..EnableKeyRequest::default()
        })
    }

    #[must_use]
    pub fn disable(name: &str) -> Self {
        Self::DisableKey(DisableKeyRequest {
            name: name.into(),
            ..DisableKeyRequest::default()
        })
    }

    /// A new secret, the old one good for so many seconds more.
    #[must_use]
    pub fn reset(name: &str, overlap: i64) -> Self {
        let overlap = Duration {
            seconds: overlap,
            nanos: 0,
        };
        Self::ResetSecret(ResetSecretRequest {
            name: name.into(),
            overlap: Some(overlap).filter(|overlap| overlap.seconds != 0),
            ..ResetSecretRequest::default()
        })
    }

    #[must_use]
    pub fn end_overlap(name: &str) -> Self {
        Self::EndOverlap(EndOverlapRequest {
            name: name.into(),
            ..EndOverlapRequest::default()
        })
    }

    #[must_use]
    pub fn archive(name: &str) -> Self {
        Self::ArchiveKey(ArchiveKeyRequest {
            name: name.into(),
            ..ArchiveKeyRequest::default()
        })
    }

    /// Deletes a key by force.
    #[must_use]
    pub fn delete(name: &str) -> Self {
        Self::DeleteKey(DeleteKeyRequest {
            name: name.into(),
            force: true,
            ..DeleteKeyRequest::default()
        })
    }

    #[must_use]
    pub fn create_workspace(id: &str, workspace: Workspace) -> Self {
        Self::CreateWorkspace(CreateWorkspaceRequest {
            workspace_id: id.into(),
            workspace: Some(workspace),
            ..CreateWorkspaceRequest::default()
        })
    }

    /// Other values for the fields named.
    #[must_use]
    pub fn update_workspace(workspace: Workspace, mask: &[&str]) -> Self {
        let paths = mask.iter().map(ToString::to_string).collect();
        Self::UpdateWorkspace(UpdateWorkspaceRequest {
            workspace: Some(workspace),
            update_mask: Some(FieldMask { paths }),
            ..UpdateWorkspaceRequest::default()
        })
    }

    #[must_use]
    pub fn delete_workspace(name: &str) -> Self {
        Self::DeleteWorkspace(DeleteWorkspaceRequest {
            name: name.into(),
            ..DeleteWorkspaceRequest::default()
        })
    }

    /// The call under this request id.
    #[must_use]
    pub fn with_id(mut self, request_id: &str) -> Self {
        let place = match &mut self {
            Self::CreateKey(request) => &mut request.request_id,
            Self::UpdateKey(request) => &mut request.request_id,
            Self::EnableKey(request) => &mut request.request_id,
            Self::DisableKey(request) => &mut request.request_id,
            Self::ResetSecret(request) => &mut request.request_id,
            Self::EndOverlap(request) => &mut request.request_id,
            Self::ArchiveKey(request) => &mut request.request_id,
            Self::DeleteKey(request) => &mut request.request_id,
            Self::CreateWorkspace(request) => &mut request.request_id,
            Self::UpdateWorkspace(request) => &mut request.request_id,
            Self::DeleteWorkspace(request) => &mut request.request_id,
        };
        request_id.clone_into(place);
        self
    }

    /// The call under the condition of this etag, which those that create have none of.
    ///
    /// # Panics
    ///
    /// When it creates.
    #[must_use]
    pub fn with_etag(mut self, etag: &str) -> Self {
        let place = match &mut self {
            Self::CreateKey(_) | Self::CreateWorkspace(_) => {
                panic!("what is created has no etag before")
            }
            Self::UpdateKey(request) => &mut request.key.get_or_insert_default().etag,
            Self::EnableKey(request) => &mut request.etag,
            Self::DisableKey(request) => &mut request.etag,
            Self::ResetSecret(request) => &mut request.etag,
            Self::EndOverlap(request) => &mut request.etag,
            Self::ArchiveKey(request) => &mut request.etag,
            Self::DeleteKey(request) => &mut request.etag,
            Self::UpdateWorkspace(request) => &mut request.workspace.get_or_insert_default().etag,
            Self::DeleteWorkspace(request) => &mut request.etag,
        };
        etag.clone_into(place);
        self
    }

    /// Makes the call.
    ///
    /// # Errors
    ///
    /// What the server says.
    pub async fn send(&self, clients: &Clients) -> Result<Response<Answer>, Status> {
        let (mut keys, mut workspaces) = (clients.keys.clone(), clients.workspaces.clone());
        let answer = match self.clone() {
            Self::CreateKey(request) => keys.create_key(request).await?.map(Answer::Issued),
            Self::UpdateKey(request) => keys.update_key(request).await?.map(Answer::Key),
            Self::EnableKey(request) => keys
                .enable_key(request)
                .await?
                .map(|answer| Answer::Key(answer.key.expect("an enabled key is shown"))),
            Self::DisableKey(request) => keys.disable_key(request).await?.map(Answer::Key),
            Self::ResetSecret(request) => keys.reset_secret(request).await?.map(Answer::Issued),
            Self::EndOverlap(request) => keys.end_overlap(request).await?.map(Answer::Key),
            Self::ArchiveKey(request) => keys.archive_key(request).await?.map(Answer::Key),
            Self::DeleteKey(request) => keys.delete_key(request).await?.map(|()| Answer::Nothing),
            Self::CreateWorkspace(request) => workspaces
                .create_workspace(request)
                .await?
                .map(Answer::Workspace),
            Self::UpdateWorkspace(request) => workspaces
                .update_workspace(request)
                .await?
                .map(Answer::Workspace),
            Self::DeleteWorkspace(request) => workspaces
                .delete_workspace(request)
                .await?
                .map(|()| Answer::Nothing),
        };
        Ok(answer)
    }

    /// Makes the call, which must succeed.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub async fn done(&self, clients: &Clients) -> Answer {
        match self.send(clients).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => panic!("{self:?}: {status:?}"),
        }
    }
}
