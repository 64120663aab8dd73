use tonic::{Request, Response, Status};

use super::Fake;
use crate::proto::v1::{
    CreateWorkspaceRequest, DeleteWorkspaceRequest, GetWorkspaceRequest, ListWorkspacesRequest,
    ListWorkspacesResponse, UpdateWorkspaceRequest, Workspace,
    workspace_service_server::WorkspaceService,
};

#[tonic::async_trait]
impl WorkspaceService for Fake {
    async fn create_workspace(
        &self,
        request: Request<CreateWorkspaceRequest>,
    ) -> Result<Response<Workspace>, Status> {
        self.note(&request)?;
        let CreateWorkspaceRequest {
            workspace_id,
            workspace,
            ..
        } = request.into_inner();
        Ok(Response::new(Workspace {
            name: format!("workspaces/{workspace_id}"),
            ..workspace.unwrap_or_default()
        }))
    }

    async fn get_workspace(
        &self,
        request: Request<GetWorkspaceRequest>,
    ) -> Result<Response<Workspace>, Status> {
        self.note(&request)?;
        Ok(Response::new(self.lock().workspace.clone()))
    }

    async fn list_workspaces(
        &self,
        request: Request<ListWorkspacesRequest>,
    ) -> Result<Response<ListWorkspacesResponse>, Status> {
        self.note(&request)?;
        Ok(Response::new(ListWorkspacesResponse {
            workspaces: vec![self.lock().workspace.clone()],
            next_page_token: String::new(),
        }))
    }

    async fn update_workspace(
        &self,
        request: Request<UpdateWorkspaceRequest>,
    ) -> Result<Response<Workspace>, Status> {
        self.note(&request)?;
        Ok(Response::new(self.lock().workspace.clone()))
    }

    async fn delete_workspace(
        &self,
        request: Request<DeleteWorkspaceRequest>,
    ) -> Result<Response<()>, Status> {
        self.note(&request)?;
        Ok(Response::new(()))
    }
}
