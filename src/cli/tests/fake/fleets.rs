use tonic::{Request, Response, Status};

use super::Fake;
use crate::proto::v1::{
    AwaitRevisionRequest, AwaitRevisionResponse, ListReplicasRequest, ListReplicasResponse,
    fleet_service_server::FleetService,
};

#[tonic::async_trait]
impl FleetService for Fake {
    async fn list_replicas(
        &self,
        request: Request<ListReplicasRequest>,
    ) -> Result<Response<ListReplicasResponse>, Status> {
        self.note(&request)?;
        let replicas = self.lock().replicas.clone();
        Ok(Response::new(ListReplicasResponse { replicas }))
    }

    async fn await_revision(
        &self,
        request: Request<AwaitRevisionRequest>,
    ) -> Result<Response<AwaitRevisionResponse>, Status> {
        let timeout = request.metadata().get("grpc-timeout");
        let timeout = timeout.map_or("-", |value| value.to_str().unwrap());
        self.lock().timeouts.push(timeout.to_owned());
        self.note(&request)?;
        let revision = request.into_inner().revision;
        Ok(Response::new(AwaitRevisionResponse { revision }))
    }
}
