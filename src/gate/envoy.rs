//! Envoy's external authorization (`envoy.service.auth.v3.Authorization`) over the [`Checker`].
//!
//! [`service`] takes the call off the wire, [`request`] reads what Envoy says, [`credential`] and [`source`] find in it who
//! asks and from where, and [`answer`] says what Envoy is to do. Whatever goes wrong on the way ends in a denial that Envoy
//! takes for an answer. An error would be the operator's `failure_mode_allow` to judge, and that may let the call pass.

mod answer;
mod credential;
mod request;
pub mod service;
mod source;

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use http::HeaderMap;
use prost::Message as _;

use self::{
    answer::{Allowed, Denied},
    credential::Found,
    request::{Asked, OwnSettings},
};
use super::{
    callers::{Guard, Peer, Refused},
    checker::{Answer, Checker, Credential, Question, Undecided},
    clock::{Clock, SystemClock},
};
use crate::{
    config::EnvoySettings,
    domain::{decision::Reason, route::Policy},
    proto::{envoy::service::auth::v3::CheckResponse, extauthz},
};

/// Answers Envoy.
pub struct EnvoyApi<C: Clock = SystemClock> {
    checker: Checker<C>,
    settings: Arc<EnvoySettings>,
    guard: Option<Guard<C>>,
}

/// Who asks: Envoy, or who passes for it.
struct Gateway<'a> {
    metadata: &'a HeaderMap,
    peer: &'a Peer,
}

impl<C: Clock> EnvoyApi<C> {
    /// Answers with `checker`.
    #[must_use]
    pub const fn new(checker: Checker<C>, settings: Arc<EnvoySettings>) -> Self {
        Self {
            checker,
            settings,
            guard: None,
        }
    }

    /// The same for those only whom the guard lets through; `None`: for everybody.
    #[must_use]
    pub fn guarded_by(self, guard: Option<Guard<C>>) -> Self {
        Self { guard, ..self }
    }

    /// Answers an encoded `envoy.service.auth.v3.CheckRequest` of somebody of whom nothing is known.
    pub async fn answer(&self, message: Bytes) -> CheckResponse {
        self.answer_to(message, &HeaderMap::new(), &Peer::default())
            .await
    }

    /// Answers one that came with this metadata from this peer.
    pub async fn answer_to(
        &self,
        message: Bytes,
        metadata: &HeaderMap,
        peer: &Peer,
    ) -> CheckResponse {
        let Ok(message) = extauthz::CheckRequest::decode(message) else {
            return self.refuse_malformed().into();
        };
        let Some(asked) = Asked::read(&message) else {
            return self.refuse_malformed().into();
        };
        match self.judge(&asked, Gateway { metadata, peer }).await {
            Ok(allowed) => allowed.into(),
            Err(denied) => denied.for_caller_of(&asked).into(),
        }
    }

    /// Decides. What the request asks for is settled first, then who asks.
    async fn judge<'a>(
        &'a self,
        asked: &'a Asked<'a>,
        gateway: Gateway<'_>,
    ) -> Result<Allowed<'a>, Denied> {
        let policy = self.policy(asked)?;
        self.admit(gateway, policy.workspace.as_str()).await?;
        let (credential, carrier) = match credential::find(asked, &self.settings) {
            Found::One(credential, carrier) => (credential, Some(carrier)),
            // Judged like any other that opens nothing.
            Found::None => ("", None),
            // Whoever reads only one of them may read another one than we do.
            Found::Several => return Err(self.refuse_malformed()),
        };
        let own_settings = OwnSettings::new(asked, self.settings.header.as_deref());
        let question = Question {
            credential: Credential(credential),
            workspace: policy.workspace.as_str(),
            permissions: &policy.permissions,
            source: source::of(asked, self.settings.trusted_hops),
            settings: &own_settings,
            labels: &[],
            min_revision: None,
        };
        let answer = self.checker.check(&question).await?;
        let Answer {
            reason,
            key,
            settings,
            revision: _,
        } = answer;
        match (reason, key, carrier) {
            (Reason::Ok, Some(key), Some(carrier)) => Allowed {
                asked,
                carrier,
                key,
                settings,
                look_alikes: own_settings.into_look_alikes(),
            }
            .checked(&self.settings)
            .ok_or(Denied::Undecided(Undecided::Unreadable)),
            // A key that opens the call was named and came from somewhere.
            (Reason::Ok, ..) => Err(Denied::Defect),
            (denied, key, _) => Err(Denied::Decided(denied, key)),
        }
    }

    /// What the call asks of a key. What its route says in Envoy comes before our own table; one that says half of it says
    /// nothing, so that a slip of the pen closes the route.
    fn policy(&self, asked: &Asked<'_>) -> Result<Cow<'_, Policy>, Denied> {
        let found = match (asked.extension("workspace"), asked.extension("permission")) {
            (Ok(None), Ok(None)) => {
                let routes = &self.settings.routes;
                match routes.find(asked.method, asked.path) {
                    Ok(found) => found.map(Cow::Borrowed),
                    Err(_ambiguous) => return Err(self.refuse_malformed()),
                }
            }
            (Ok(Some(workspace)), Ok(Some(permission))) => {
                Policy::new(workspace, permission).map(Cow::Owned)
            }
            _ => None,
        };
        found.ok_or_else(|| {
            self.checker.refuse(Reason::PermissionDenied);
            Denied::NoPolicy
        })
    }

    /// Goes on only if whoever asks may check keys of the workspace.
    async fn admit(&self, gateway: Gateway<'_>, workspace: &str) -> Result<(), Denied> {
        let Some(guard) = &self.guard else {
            return Ok(());
        };
        let admitted = guard
            .admit(gateway.metadata, gateway.peer, [workspace])
            .await;
        admitted.map_err(|refused| match refused {
            Refused::Undecided(undecided) => {
                self.checker.count_undecided();
                Denied::Undecided(undecided)
            }
            Refused::Missing | Refused::Invalid | Refused::NotPermitted => {
                self.checker.refuse(Reason::PermissionDenied);
                Denied::Stranger
            }
        })
    }

    fn refuse_malformed(&self) -> Denied {
        self.checker.refuse(Reason::InvalidRequest);
        Denied::Decided(Reason::InvalidRequest, None)
    }
}

#[cfg(test)]
mod tests;
