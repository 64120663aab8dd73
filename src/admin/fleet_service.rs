//! `FleetService` over [`Fleet`]. An adapter.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{Failure, caller::Caller};
use crate::{
    domain::{grant::Act, id::Revision},
    fleet::Fleet,
    gate::{checker::Checker, keyring::Keyring},
    proto::v1::{
        self, AwaitRevisionRequest, AwaitRevisionResponse, ListReplicasRequest,
        ListReplicasResponse, fleet_service_server::FleetService,
    },
};

/// Answers `FleetService`.
pub struct FleetApi {
    fleet: Arc<Fleet>,
    keyring: Keyring,
    checker: Checker,
}

impl FleetApi {
    /// Tells callers that `checker` knows of the fleet.
    #[must_use]
    pub const fn new(fleet: Arc<Fleet>, keyring: Keyring, checker: Checker) -> Self {
        Self {
            fleet,
            keyring,
            checker,
        }
    }
}

#[tonic::async_trait]
impl FleetService for FleetApi {
    async fn list_replicas(
        &self,
        request: Request<ListReplicasRequest>,
    ) -> Result<Response<ListReplicasResponse>, Status> {
        Caller::of(&request, &self.checker)
            .await?
            .require_everywhere(Act::FleetRead)?;
        let replicas = self.fleet.replicas().await.map_err(Failure::NotRead)?;
        let replicas = replicas.into_iter().map(|replica| v1::Replica {
            name: replica.name,
            incarnation: replica.incarnation,
            applied_revision: replica.applied.to_string(),
            store_durability: replica.durability.to_owned(),
        });
        Ok(Response::new(ListReplicasResponse {
            replicas: replicas.collect(),
        }))
    }

    async fn await_revision(
        &self,
        request: Request<AwaitRevisionRequest>,
    ) -> Result<Response<AwaitRevisionResponse>, Status> {
        Caller::of(&request, &self.checker)
            .await?
            .require_everywhere(Act::FleetRead)?;
        let revision = Revision::parse(&request.into_inner().revision).ok_or_else(|| {
            Failure::invalid("revision", "is not a revision that Portcullis answered")
        })?;
        // Nobody but this process commits, and what it acknowledged is applied: what lies ahead was never committed.
        if revision > self.keyring.applied() {
            return Err(Failure::RevisionAhead(revision).into());
        }
        let settled = self
            .fleet
            .settle(revision, None)
            .await
            .map_err(Failure::from)?;
        Ok(Response::new(AwaitRevisionResponse {
            revision: settled.revision.to_string(),
        }))
    }
}
