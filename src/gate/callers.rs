//! Who may ask Check at all: the guard of a gate that others than this machine can reach.
//!
//! A caller shows a key of the `system` workspace in the metadata of each call, or a client certificate that the
//! configuration maps to permissions. The key is judged on every call, by the code that answers Check, so that to revoke it
//! ends it at once.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderMap, header::AUTHORIZATION};

use super::{
    checker::{Checker, Credential, Undecided},
    clock::{Clock, SystemClock},
};
use crate::{
    config::MappedCaller,
    domain::{
        grant::{Act, Grants},
        id::WorkspaceId,
    },
    telemetry::Seldom,
    tls::PeerIdentity,
};

/// What the certificates of callers stand for.
#[derive(Debug, Clone, Default)]
pub struct CallerMap(Arc<[Arc<MappedCaller>]>);

impl CallerMap {
    /// In the order of the configuration: of several names in one certificate, the first that is mapped counts.
    #[must_use]
    pub fn new(callers: &[MappedCaller]) -> Self {
        Self(callers.iter().cloned().map(Arc::new).collect())
    }

    fn find(&self, identity: &PeerIdentity) -> Option<Arc<MappedCaller>> {
        let found = self.0.iter().find(|caller| identity.has(&caller.name));
        found.cloned()
    }
}

/// The other end of a connection.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// Where it calls from; `None`: a Unix socket.
    pub source: Option<IpAddr>,
    /// What its certificate is mapped to.
    pub mapped: Option<Arc<MappedCaller>>,
    identity: Option<PeerIdentity>,
}

impl Peer {
    /// A peer that showed no certificate.
    #[must_use]
    pub fn at(source: Option<IpAddr>) -> Self {
        Self {
            source: source.map(|address| address.to_canonical()),
            ..Self::default()
        }
    }

    /// The same with what its certificate says, whose chain was verified.
    #[must_use]
    pub fn with_identity(self, identity: Option<PeerIdentity>, callers: &CallerMap) -> Self {
        Self {
            mapped: identity
                .as_ref()
                .and_then(|identity| callers.find(identity)),
            identity,
            ..self
        }
    }
}

/// For a log.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Some(source) => write!(f, "{source}")?,
            None => f.write_str("a Unix socket")?,
        }
        match &self.identity {
            Some(identity) => write!(f, " ({identity})"),
            None => Ok(()),
        }
    }
}

/// Why a caller is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It shows neither a credential nor a certificate that is mapped.
    Missing,
    /// Its credential is not in force, whatever its certificate says.
    Invalid,
    /// It may not check keys of the workspace.
    NotPermitted,
    /// Its credential could not be judged.
    Undecided(Undecided),
}

impl Refused {
    const COUNTED: [&str; 4] = ["MISSING", "INVALID", "NOT_PERMITTED", "UNDECIDED"];

    const fn place(self) -> usize {
        match self {
            Self::Missing => 0,
            Self::Invalid => 1,
            Self::NotPermitted => 2,
            Self::Undecided(_) => 3,
        }
    }
}

/// What a caller may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights(Grants);

impl Rights {
    /// True if the caller may check keys of the workspace. What is no workspace's id nobody may check.
    #[must_use]
    pub fn may_check(&self, workspace: &str) -> bool {
        WorkspaceId::parse(workspace).is_ok_and(|workspace| self.0.allow(Act::Check, &workspace))
    }
}

/// Callers that were refused.
#[derive(Debug, Default)]
pub struct Refusals {
    counts: [AtomicU64; Refused::COUNTED.len()],
    told: Seldom,
}

impl Refusals {
    /// How many, by why.
    pub fn totals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.counts.iter();
        let counts = counts.map(|count| count.load(Ordering::Relaxed));
        Refused::COUNTED.into_iter().zip(counts)
    }

    fn note(&self, refused: Refused, peer: &Peer) {
        self.counts[refused.place()].fetch_add(1, Ordering::Relaxed);
        if let Some(more) = self.told.due() {
            let why = Refused::COUNTED[refused.place()];
            tracing::warn!(caller = %peer, reason = why, since_last_told = more, "a caller of the gate was refused");
        }
    }
}

/// Lets callers of the gate through, or not.
pub struct Guard<C: Clock = SystemClock> {
    checker: Checker<C>,
    refusals: Arc<Refusals>,
}

impl<C: Clock> Clone for Guard<C> {
    fn clone(&self) -> Self {
        Self {
            checker: self.checker.clone(),
            refusals: self.refusals.clone(),
        }
    }
}

impl<C: Clock> Guard<C> {
    /// A guard that judges credentials with `checker`.
    #[must_use]
    pub const fn new(checker: Checker<C>, refusals: Arc<Refusals>) -> Self {
        Self { checker, refusals }
    }

    /// Goes on only if the caller may check keys of every one of these workspaces; of none, only if it is known. What is
    /// refused is counted, and now and then told.
    ///
    /// # Errors
    /// Why the caller is not answered.
    pub async fn admit<'a>(
        &self,
        headers: &HeaderMap,
        peer: &Peer,
        workspaces: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), Refused> {
        let admitted = match self.rights(headers, peer).await {
            Ok(rights) => workspaces
                .into_iter()
                .all(|workspace| rights.may_check(workspace))
                .then_some(())
                .ok_or(Refused::NotPermitted),
            Err(refused) => Err(refused),
        };
        admitted.inspect_err(|&refused| self.refusals.note(refused, peer))
    }

    /// What a caller may do, by its credential, or else by its certificate.
    ///
    /// # Errors
    /// If it shows neither, or a credential that is not in force: one that was revoked must not fall back on what its
    /// owner's certificate still opens.
    pub async fn rights(&self, headers: &HeaderMap, peer: &Peer) -> Result<Rights, Refused> {
        let Some(credential) = credential(headers).map_err(|Malformed| Refused::Invalid)? else {
            let mapped = peer.mapped.as_ref().ok_or(Refused::Missing)?;
            return Ok(Rights(mapped.grants.clone()));
        };
        let proved = self
            .checker
            .authenticate(Credential(credential), peer.source);
        match proved.await.map_err(Refused::Undecided)? {
            Some((key, _)) => Grants::parse(&key.permissions)
                .map(Rights)
                .map_err(|_| Refused::Invalid),
            None => Err(Refused::Invalid),
        }
    }
}

/// More than one credential, or one that is not text.
#[derive(Debug)]
pub struct Malformed;

/// The credential in a call's metadata.
///
/// # Errors
/// If there is more than one, or one that is not text: that is none that we accept.
pub fn credential(headers: &HeaderMap) -> Result<Option<&str>, Malformed> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Malformed),
        (Some(_), Some(_)) => Err(Malformed),
    }
}
