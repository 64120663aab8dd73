//! `WorkspaceService` over [`Management`]. An adapter.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    Failure,
    caller::Caller,
    convert::{Violations, read_workspace_name, show_workspace},
    mutation::Management,
    page,
    workspaces::NewWorkspace,
};
use crate::{
    domain::{
        id::{TokenPrefix, WorkspaceId},
        text,
    },
    gate::checker::Checker,
    proto::v1::{
        self, CreateWorkspaceRequest, GetWorkspaceRequest, ListWorkspacesRequest,
        ListWorkspacesResponse, workspace_service_server::WorkspaceService,
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
    ) -> Result<Response<v1::Workspace>, Status> {
        let caller = Caller::of(&request, &self.checker).await?;
        let CreateWorkspaceRequest {
            workspace_id,
            workspace,
        } = request.into_inner();
        let id = WorkspaceId::parse(&workspace_id)
            .map_err(|why| Failure::invalid("workspace_id", why))?;
        let new = || read_new_workspace(workspace.unwrap_or_default());
        let record = self.management.create_workspace(&caller, &id, new).await?;
        Ok(Response::new(show_workspace(&record)))
    }

    async fn get_workspace(
        &self,
        request: Request<GetWorkspaceRequest>,
    ) -> Result<Response<v1::Workspace>, Status> {
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
}

fn read_new_workspace(workspace: v1::Workspace) -> Result<NewWorkspace, Failure> {
    let v1::Workspace {
        name: _,
        display_name,
        token_prefix,
        create_time: _,
        update_time: _,
        etag: _,
        revision: _,
    } = workspace;
    let mut violations = Violations::default();
    let display_name = violations.take(
        "workspace.display_name",
        text::check_display_name(&display_name).map(|()| display_name),
    );
    let token_prefix = violations.take("workspace.token_prefix", TokenPrefix::parse(&token_prefix));
    violations.finish(NewWorkspace {
        display_name,
        token_prefix,
    })
}
