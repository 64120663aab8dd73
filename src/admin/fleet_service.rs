//! `FleetService` over [`Fleet`]. An adapter.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status};

use super::{Failure, call::answer_by, caller::Caller};
use crate::{
    domain::{grant::Act, id::Revision},
    fleet::Fleet,
    gate::{
        catch_up::{CatchUp as _, NotReached},
        checker::Checker,
        keyring::Keyring,
    },
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
            lag: replica.lag,
            lease_left: replica.lease_left.map(to_proto),
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
        let by = answer_by(request.metadata());
        Caller::of(&request, &self.checker)
            .await?
            .require_everywhere(Act::FleetRead)?;
        let revision = Revision::parse(&request.into_inner().revision).ok_or_else(|| {
            Failure::invalid("revision", "is not a revision that Portcullis answered")
        })?;
        let until = self.reach(revision, by).await?;
        let settled = self
            .fleet
            .settle(revision, until)
            .await
            .map_err(Failure::from)?;
        Ok(Response::new(AwaitRevisionResponse {
            revision: settled.revision.to_string(),
        }))
    }
}

impl FleetApi {
    /// Brings this replica to the revision, and answers until when the others may be waited for.
    ///
    /// The fleet's own wait comes to an end when every lease must have, which is right only for what is committed. A revision
    /// that has not arrived here may be none, so until it arrives it is not waited for in that way.
    async fn reach(
        &self,
        revision: Revision,
        by: Option<Instant>,
    ) -> Result<Option<Instant>, Failure> {
        const LONGEST: Duration = Duration::from_secs(30);
        const STEP: Duration = Duration::from_millis(200);
        let give_up = by.unwrap_or_else(|| Instant::now() + LONGEST);
        let mut applied = self.keyring.watch();
        loop {
            match self.fleet.reach(revision).await {
                Ok(()) => return Ok(by),
                Err(NotReached::Ahead) => return Err(Failure::RevisionAhead(revision)),
                Err(NotReached::Behind) => {}
            }
            let now = Instant::now();
            if now >= give_up {
                // It answers at once, with the names of those that are behind.
                return Ok(Some(now));
            }
            let step = give_up.min(now + STEP);
            // Whether it came is asked above.
            let _ = timeout_at(step, applied.wait_for(|&applied| applied >= revision)).await;
        }
    }
}

fn to_proto(span: Duration) -> prost_types::Duration {
    prost_types::Duration {
        // A lease lasts for minutes.
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(span.subsec_nanos()).unwrap_or_default(),
    }
}
