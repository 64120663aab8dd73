//! `CheckService` for the admin listener: as on the gate, but for callers with the permission `check`.

use tonic::{Request, Response, Status};

use super::{Failure, caller::Caller};
use crate::{
    domain::{
        grant::Act,
        id::{DEFAULT_WORKSPACE, WorkspaceId},
    },
    gate::{
        check_service::{CheckApi, WorkspaceChoice},
        checker::Checker,
    },
    proto::v1::{
        BatchCheckRequest, BatchCheckResponse, CheckRequest, CheckResponse,
        check_service_server::CheckService,
    },
};

/// Answers `CheckService` to those who may ask.
pub struct GuardedCheckApi {
    check: CheckApi,
    checker: Checker,
}

impl GuardedCheckApi {
    /// Answers with `checker`, which knows the callers, too.
    #[must_use]
    pub fn new(checker: Checker) -> Self {
        let check = CheckApi::new(checker.clone(), WorkspaceChoice::Default);
        Self { check, checker }
    }
}

/// Goes on only if the caller may check keys of the workspace. A workspace that is none has no keys, and is answered.
fn require(caller: &Caller, request: &CheckRequest) -> Result<(), Failure> {
    let id = if request.workspace.is_empty() {
        DEFAULT_WORKSPACE
    } else {
        &request.workspace
    };
    match WorkspaceId::parse(id) {
        Ok(workspace) => caller.require(Act::Check, &workspace),
        Err(_) => Ok(()),
    }
}

#[tonic::async_trait]
impl CheckService for GuardedCheckApi {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        let caller = Caller::of(&request, &self.checker).await?;
        require(&caller, request.get_ref())?;
        self.check.check(request).await
    }

    async fn batch_check(
        &self,
        request: Request<BatchCheckRequest>,
    ) -> Result<Response<BatchCheckResponse>, Status> {
        let caller = Caller::of(&request, &self.checker).await?;
        request
            .get_ref()
            .checks
            .iter()
            .try_for_each(|check| require(&caller, check))?;
        self.check.batch_check(request).await
    }
}
