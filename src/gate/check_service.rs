//! `CheckService` over the [`Checker`]. An adapter: messages in, questions out, and back.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use tonic::{Code, Request, Response, Status};
use zeroize::Zeroizing;

use super::{
    callers::{Guard, Peer, Refused},
    checker::{Answer, Checker, Credential, ProvedKey, Question, Undecided},
    clock::{Clock, SystemClock},
};
use crate::{
    domain::{
        decision::Reason,
        id::{DEFAULT_WORKSPACE, Revision, WorkspaceId},
        permission, setting, source,
    },
    proto::v1::{
        self, BatchCheckRequest, BatchCheckResponse, CheckRequest, CheckResponse, ErrorReason,
        check_response::Reason as ReasonCode, check_service_server::CheckService,
    },
    status::{internal_error, invalid_fields, status},
};

/// The most checks in a batch.
const MAX_BATCH: usize = 1_000;
/// The most labels to answer with.
const MAX_LABELS: usize = 100;

/// Answers Check.
pub struct CheckApi<C: Clock = SystemClock> {
    checker: Checker<C>,
    workspace: WorkspaceChoice,
    guard: Option<Guard<C>>,
}

/// What an empty workspace in a request stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkspaceChoice {
    /// The `default` workspace.
    Default,
    /// Nothing: the request must name one. For gates that strangers can reach.
    Required,
}

impl<C: Clock> CheckApi<C> {
    /// Answers with `checker`.
    #[must_use]
    pub const fn new(checker: Checker<C>, workspace: WorkspaceChoice) -> Self {
        Self {
            checker,
            workspace,
            guard: None,
        }
    }

    /// The same for those only whom the guard lets through; `None`: for everybody.
    #[must_use]
    pub fn guarded_by(self, guard: Option<Guard<C>>) -> Self {
        Self { guard, ..self }
    }

    /// Goes on only if the caller may ask all of this. A workspace that is none has no keys, and is answered.
    async fn admit<T>(&self, request: &Request<T>, checks: &[CheckRequest]) -> Result<(), Refused> {
        let Some(guard) = &self.guard else {
            return Ok(());
        };
        let stranger = Arc::default();
        let peer: &Arc<Peer> = request.extensions().get().unwrap_or(&stranger);
        let workspaces = checks
            .iter()
            .filter_map(|check| self.workspace_of(&check.workspace));
        let headers = request.metadata().as_ref();
        guard.admit(headers, peer, workspaces).await
    }

    /// The workspace that a request means; `None`: none.
    fn workspace_of<'a>(&self, named: &'a str) -> Option<&'a str> {
        match (named, self.workspace) {
            ("", WorkspaceChoice::Required) => None,
            ("", WorkspaceChoice::Default) => Some(DEFAULT_WORKSPACE),
            (named, _) => Some(named).filter(|named| WorkspaceId::is_valid(named)),
        }
    }

    /// Decides one request, unless it asks for a revision at or past `missed`, which was just waited for in vain. Whatever goes
    /// wrong, also a defect in here, ends in an error and never in an allow.
    async fn decide(
        &self,
        mut request: CheckRequest,
        missed: Option<(Revision, Undecided)>,
    ) -> Result<CheckResponse, NoAnswer> {
        let credential = Zeroizing::new(std::mem::take(&mut request.credential));
        let decided = async {
            match self.read(&credential, &request) {
                Some(question) => {
                    let wanting = self.checker.wanting(question.min_revision);
                    match missed.filter(|(missed, _)| wanting >= Some(*missed)) {
                        Some((_, why)) => self.checker.give_up(why),
                        None => self.checker.check(&question).await,
                    }
                }
                None => Ok(self.checker.refuse_malformed()),
            }
        };
        match AssertUnwindSafe(decided).catch_unwind().await {
            Ok(Ok(answer)) => Ok(answer.into()),
            Ok(Err(undecided)) => Err(NoAnswer::Undecided(undecided)),
            Err(_panic) => Err(NoAnswer::Defect),
        }
    }

    /// Reads the fields; `None`: one is malformed. The credential was taken out of the request.
    fn read<'a>(&self, credential: &'a str, request: &'a CheckRequest) -> Option<Question<'a>> {
        let CheckRequest {
            credential: _,
            permissions,
            source_address,
            workspace,
            settings,
            min_revision,
            labels,
        } = request;
        let workspace = self.workspace_of(workspace)?;
        let source = match source_address.as_str() {
            "" => None,
            address => Some(source::parse_source(address)?),
        };
        let min_revision = match min_revision.as_str() {
            "" => None,
            revision => Some(Revision::parse(revision)?),
        };
        let well_formed = permissions.len() <= permission::MAX_PERMISSIONS
            && labels.len() <= MAX_LABELS
            && settings.len() <= setting::MAX_SETTINGS
            && permissions
                .iter()
                .all(|name| permission::is_permission(name));
        well_formed.then_some(Question {
            credential: Credential(credential),
            workspace,
            permissions,
            source,
            settings,
            labels,
            min_revision,
        })
    }
}

#[tonic::async_trait]
impl<C: Clock> CheckService for CheckApi<C> {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        self.admit(&request, std::slice::from_ref(request.get_ref()))
            .await?;
        let decided = self.decide(request.into_inner(), None).await;
        Ok(Response::new(decided?))
    }

    async fn batch_check(
        &self,
        request: Request<BatchCheckRequest>,
    ) -> Result<Response<BatchCheckResponse>, Status> {
        self.admit(&request, &request.get_ref().checks).await?;
        let checks = request.into_inner().checks;
        if checks.len() > MAX_BATCH {
            return Err(invalid_fields(vec![(
                "checks".to_owned(),
                "must have at most 1,000 items".to_owned(),
            )]));
        }
        let mut results = Vec::with_capacity(checks.len());
        let mut missed = None;
        // One after the other: a batch of new secrets waits for its own argon2 runs and crowds out nobody else's.
        for check in checks {
            let decided = self.decide(check, missed).await;
            // Else a batch waits as often as it has items for a revision that does not come.
            if let Err(NoAnswer::Undecided(why)) = &decided
                && let Undecided::Behind(revision) | Undecided::Ahead(revision) = why
            {
                missed = Some((*revision, *why));
            }
            results.push(decided.unwrap_or_else(|_| undecided_item()));
        }
        Ok(Response::new(BatchCheckResponse { results }))
    }
}

fn undecided_item() -> CheckResponse {
    CheckResponse {
        allowed: false,
        reason: ReasonCode::Undecided.into(),
        key: None,
        settings: BTreeMap::new(),
        revision: String::new(),
    }
}

/// Why a request got no answer.
enum NoAnswer {
    Undecided(Undecided),
    /// A defect of ours.
    Defect,
}

impl From<NoAnswer> for Status {
    fn from(none: NoAnswer) -> Self {
        match none {
            NoAnswer::Undecided(undecided) => undecided.into(),
            NoAnswer::Defect => internal_error(),
        }
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Missing => status(
                Code::Unauthenticated,
                ErrorReason::CredentialMissing,
                "this gate asks who calls: authorization: Bearer {token of a key in workspaces/system} in the call's \
                 metadata, or a client certificate that its configuration maps",
            ),
            Refused::Invalid => status(
                Code::Unauthenticated,
                ErrorReason::CredentialInvalid,
                "the caller's credential is unknown, wrong, disabled, expired or used from a refused address",
            ),
            Refused::NotPermitted => status(
                Code::PermissionDenied,
                ErrorReason::CallerNotPermitted,
                "the caller lacks the permission check for a workspace that it asks about",
            ),
            Refused::Undecided(undecided) => undecided.into(),
        }
    }
}

impl From<Undecided> for Status {
    fn from(undecided: Undecided) -> Self {
        let (code, reason) = match undecided {
            Undecided::Fenced => (Code::Unavailable, ErrorReason::ReplicaFenced),
            Undecided::Overloaded => (Code::Unavailable, ErrorReason::Overloaded),
            Undecided::Unreadable => (Code::Unavailable, ErrorReason::RecordUnreadable),
            Undecided::Behind(_) => (Code::Unavailable, ErrorReason::ReplicaBehind),
            Undecided::Ahead(_) => (Code::FailedPrecondition, ErrorReason::RevisionAhead),
        };
        status(code, reason, undecided.to_string())
    }
}

impl From<Answer> for CheckResponse {
    fn from(answer: Answer) -> Self {
        let Answer {
            reason,
            key,
            settings,
            revision,
        } = answer;
        let (allowed, code) = match reason {
            Reason::Ok => (true, ReasonCode::Ok),
            Reason::InvalidCredential => (false, ReasonCode::InvalidCredential),
            Reason::KeyDisabled => (false, ReasonCode::KeyDisabled),
            Reason::KeyExpired => (false, ReasonCode::KeyExpired),
            Reason::SourceDenied => (false, ReasonCode::SourceDenied),
            Reason::PermissionDenied => (false, ReasonCode::PermissionDenied),
            Reason::InvalidSetting => (false, ReasonCode::InvalidSetting),
            Reason::InvalidRequest => (false, ReasonCode::InvalidRequest),
        };
        Self {
            allowed,
            reason: code.into(),
            key: key.map(Into::into),
            settings: settings
                .into_iter()
                .map(|setting| (setting.name, setting.value))
                .collect(),
            revision: Revision::to_string(&revision),
        }
    }
}

impl From<ProvedKey> for v1::CheckedKey {
    fn from(key: ProvedKey) -> Self {
        let ProvedKey {
            name,
            owner,
            expire_time,
            labels,
        } = key;
        Self {
            name,
            owner,
            expire_time: expire_time.map(|time| prost_types::Timestamp {
                seconds: time.seconds(),
                nanos: time.nanos().cast_signed(),
            }),
            labels: labels.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests;
