//! `WorkspaceService` over [`Management`]. An adapter.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    Failure,
    call::answer_by,
    caller::Caller,
    convert::{
        call_of, read_new_workspace, read_workspace_edit, read_workspace_name, show_workspace,
    },
    mutation::Management,
    page,
    workspaces::WorkspaceTarget,
};
use crate::{
    domain::id::WorkspaceId,
    gate::checker::Checker,
    proto::v1::{
        CreateWorkspaceRequest, DeleteWorkspaceRequest, GetWorkspaceRequest, ListWorkspacesRequest,
        ListWorkspacesResponse, UpdateWorkspaceRequest, Workspace,
        workspace_service_server::WorkspaceService,
    },
};

/// Answers `WorkspaceService`.
pub struct WorkspaceApi {
    management: Arc<Management>,
    checker: Checker,
}

impl WorkspaceApi {
    /// Management for callers that `checker` knows.
    #[must_use]
    pub const fn new(management: Arc<Management>, checker: Checker) -> Self {
        Self {
            management,
            checker,
        }
    }
}

#[tonic::async_trait]
impl WorkspaceService for WorkspaceApi {
    async fn create_workspace(
        &self,
        request: Request<CreateWorkspaceRequest>,
    ) -> Result<Response<Workspace>, Status> {
        let answer_by = answer_by(request.metadata());
        let caller = Caller::of(&request, &self.checker).await?;
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let call = call_of(caller, "CreateWorkspace", request_id, &request, answer_by);
        let id = WorkspaceId::parse(&request.workspace_id)
            .map_err(|why| Failure::invalid("workspace_id", why))?;
        let new = || read_new_workspace(request.workspace.unwrap_or_default());
        let record = self.management.create_workspace(&call, &id, new).await?;
        Ok(Response::new(show_workspace(&record)))
    }

    async fn get_workspace(
        &self,
        request: Request<GetWorkspaceRequest>,
    ) -> Result<Response<Workspace>, Status> {
        let caller = Caller::of(&request, &self.checker).await?;
        let id = read_workspace_name("name", &request.into_inner().name)?;
        let record = self.management.get_workspace(&caller, &id)?;
        Ok(Response::new(show_workspace(&record)))
    }

    async fn list_workspaces(
        &self,
        request: Request<ListWorkspacesRequest>,
    ) -> Result<Response<ListWorkspacesResponse>, Status> {
        const CALL: &str = "ListWorkspaces";
        let caller = Caller::of(&request, &self.checker).await?;
        let ListWorkspacesRequest {
            page_size,
            page_token,
        } = request.into_inner();
        let limit = page::read_size(page_size)?;
        let cursor = page::read_token(CALL, "", &page_token)?;
        let after = cursor
            .as_deref()
            .and_then(|id| std::str::from_utf8(id).ok())
            .and_then(|id| WorkspaceId::parse(id).ok());
        let (records, next) = self
            .management
            .list_workspaces(&caller, after.as_ref(), limit);
        Ok(Response::new(ListWorkspacesResponse {
            workspaces: records.iter().map(show_workspace).collect(),
            next_page_token: next
                .map(|id| page::write_token(CALL, "", id.as_str().as_bytes()))
                .unwrap_or_default(),
        }))
    }

    async fn update_workspace(
        &self,
        request: Request<UpdateWorkspaceRequest>,
    ) -> Result<Response<Workspace>, Status> {
        let answer_by = answer_by(request.metadata());
        let caller = Caller::of(&request, &self.checker).await?;
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let call = call_of(caller, "UpdateWorkspace", request_id, &request, answer_by);
        let workspace = request.workspace.unwrap_or_default();
        let id = read_workspace_name("workspace.name", &workspace.name)?;
        let etag = workspace.etag.clone();
        let target = WorkspaceTarget {
            id: &id,
            etag: &etag,
        };
        let edit = || read_workspace_edit(workspace, request.update_mask);
        let record = self
            .management
            .update_workspace(&call, target, edit)
            .await?;
        Ok(Response::new(show_workspace(&record)))
    }

    async fn delete_workspace(
        &self,
        request: Request<DeleteWorkspaceRequest>,
    ) -> Result<Response<()>, Status> {
        let answer_by = answer_by(request.metadata());
        let caller = Caller::of(&request, &self.checker).await?;
        let mut request = request.into_inner();
        let request_id = std::mem::take(&mut request.request_id);
        let call = call_of(caller, "DeleteWorkspace", request_id, &request, answer_by);
        let id = read_workspace_name("name", &request.name)?;
        let target = WorkspaceTarget {
            id: &id,
            etag: &request.etag,
        };
        self.management.delete_workspace(&call, target).await?;
        Ok(Response::new(()))
    }
}
