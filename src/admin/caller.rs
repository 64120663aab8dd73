//! Who calls, and what they may do.
//!
//! Callers are authorized by Portcullis itself: an admin credential is a key of the `system` workspace, judged by the same
//! code that answers Check. Over TLS a client certificate does as well, if the configuration maps it. The admin socket is
//! authorized by the file system.

use std::{net::IpAddr, sync::Arc};

use tonic::{
    Request,
    transport::server::{TcpConnectInfo, UdsConnectInfo},
};

use super::Failure;
use crate::{
    config::MappedCaller,
    domain::{
        grant::{Act, Authority},
        id::{Revision, WorkspaceId},
        key::Key,
        name::KeyName,
    },
    gate::{
        callers::{self, Malformed, Peer},
        checker::{Checker, Credential},
        clock::Clock,
    },
    store::RecordId,
};

/// The one that makes a call.
#[derive(Debug, Clone)]
pub struct Caller {
    /// A `system` key's name, the SPIFFE ID or `dns:{name}` of a certificate, or `local:{uid}`.
    pub principal: String,
    /// The label `team` of its key.
    pub team: String,
    /// Where it calls from; empty for the admin socket.
    pub source_address: String,
    /// What its authority rests on, which must not have changed when its change is committed.
    pub(super) read: Option<(RecordId, Revision)>,
    authority: Authority,
}

/// Which keys of a workspace a caller may see or change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Every one.
    All,
    /// Those that it created itself.
    Own(String),
}

impl Reach {
    /// True if the key is within reach.
    #[must_use]
    pub fn covers(&self, key: &Key) -> bool {
        match self {
            Self::All => true,
            Self::Own(principal) => *key.owner == **principal,
        }
    }
}

impl Caller {
    /// Finds out who makes a call.
    ///
    /// # Errors
    /// If there is no credential where one is needed, or it is not in force.
    pub async fn of<T, C: Clock>(
        request: &Request<T>,
        checker: &Checker<C>,
    ) -> Result<Self, Failure> {
        let socket = request.extensions().get::<UdsConnectInfo>();
        let plain = request.extensions().get::<TcpConnectInfo>();
        // Of a connection over TLS this stands there, and no other.
        let tls = request.extensions().get::<Arc<Peer>>();
        let source = match (tls, plain.and_then(TcpConnectInfo::remote_addr)) {
            (Some(peer), _) => peer.source,
            (None, Some(address)) => Some(address.ip().to_canonical()),
            (None, None) => None,
        };
        let credential = callers::credential(request.metadata().as_ref())
            .map_err(|Malformed| Failure::CredentialInvalid)?;
        let mapped = tls.and_then(|peer| peer.mapped.as_deref());
        match (credential, socket, mapped) {
            // Whoever shows a credential is judged by it alone, so that one that was revoked opens nothing.
            (Some(credential), ..) => Self::with_credential(credential, source, checker).await,
            (None, Some(socket), _) => Ok(Self::local(socket)),
            (None, None, Some(mapped)) => Ok(Self::mapped(mapped, source)),
            (None, None, None) => Err(Failure::CredentialMissing),
        }
    }

    async fn with_credential<C: Clock>(
        credential: &str,
        source: Option<IpAddr>,
        checker: &Checker<C>,
    ) -> Result<Self, Failure> {
        let proved = checker.authenticate(Credential(credential), source).await?;
        let Some((key, revision)) = proved else {
            tracing::warn!(source = ?source, "an admin credential was refused");
            return Err(Failure::CredentialInvalid);
        };
        // What is no grant was refused when it was written; should one stand there all the same, it gives nothing.
        let authority = Authority::of(&key).map_err(|_| Failure::CredentialInvalid)?;
        Ok(Self {
            principal: key.name().to_string(),
            team: key.labels.get("team").unwrap_or_default().to_owned(),
            source_address: shown(source),
            read: Some((RecordId::Key(key.id), revision)),
            authority,
        })
    }

    /// Whom a certificate names may do what the configuration says, for as long as this process runs with it.
    fn mapped(mapped: &MappedCaller, source: Option<IpAddr>) -> Self {
        Self {
            principal: mapped.name.to_string(),
            team: String::new(),
            source_address: shown(source),
            read: None,
            authority: Authority::granted(mapped.grants.clone()),
        }
    }

    /// Whoever may open the admin socket may do everything.
    fn local(socket: &UdsConnectInfo) -> Self {
        let uid = socket
            .peer_cred
            .map_or_else(|| "unknown".to_owned(), |peer| peer.uid().to_string());
        Self {
            principal: format!("local:{uid}"),
            team: String::new(),
            source_address: String::new(),
            read: None,
            authority: Authority::root(),
        }
    }

    /// Goes on only if the caller may do this in this workspace. Asked before anything is validated or looked up, so that
    /// a refusal hides what exists.
    ///
    /// # Errors
    /// [`Failure::NotPermitted`].
    pub fn require(&self, act: Act, workspace: &WorkspaceId) -> Result<(), Failure> {
        if self.may(act, workspace) {
            return Ok(());
        }
        Err(Failure::NotPermitted(act, Some(workspace.clone())))
    }

    /// Which keys of the workspace the caller may do this with: see them, or change them.
    ///
    /// # Errors
    /// [`Failure::NotPermitted`] if with none.
    pub fn reach(&self, act: Act, workspace: &WorkspaceId) -> Result<Reach, Failure> {
        if self.may(act, workspace) {
            Ok(Reach::All)
        } else if self.may(Act::KeysOwn, workspace) {
            Ok(Reach::Own(self.principal.clone()))
        } else {
            Err(Failure::NotPermitted(act, Some(workspace.clone())))
        }
    }

    /// True if the caller may do this in this workspace.
    #[must_use]
    pub fn may(&self, act: Act, workspace: &WorkspaceId) -> bool {
        self.authority.grants().allow(act, workspace)
    }

    /// True if the caller may do this in some workspace at least.
    #[must_use]
    pub fn may_somewhere(&self, act: Act) -> bool {
        self.authority.grants().allow_somewhere(act)
    }

    /// Goes on only if the caller may do this everywhere.
    ///
    /// # Errors
    /// [`Failure::NotPermitted`].
    pub fn require_everywhere(&self, act: Act) -> Result<(), Failure> {
        if self.may_everywhere(act) {
            Ok(())
        } else {
            Err(Failure::NotPermitted(act, None))
        }
    }

    /// True if the caller may do this in every workspace, present or future.
    #[must_use]
    pub fn may_everywhere(&self, act: Act) -> bool {
        self.authority.grants().allow_everywhere(act)
    }

    /// True if the caller may know that the workspace exists.
    #[must_use]
    pub fn sees(&self, workspace: &WorkspaceId) -> bool {
        self.authority.grants().see(workspace)
    }

    /// Goes on if the key is none of the `system` workspace, or the caller's authority covers all of its: nobody gives away,
    /// or lays hands on, more than they have.
    ///
    /// # Errors
    /// [`Failure::GrantExceedsCaller`]; or the key's permissions are no grants.
    pub fn require_cover(&self, key: &Key) -> Result<(), Failure> {
        if !key.workspace.is_system() {
            return Ok(());
        }
        let asked = Authority::of(key).map_err(|why| Failure::invalid("key.permissions", why))?;
        if self.authority.covers(&asked) {
            Ok(())
        } else {
            Err(Failure::GrantExceedsCaller)
        }
    }
}

/// What a caller that reaches its own keys only is told of every other, whether it exists or not.
pub(super) fn out_of_reach(act: Act, name: &KeyName) -> Failure {
    Failure::NotPermitted(act, Some(name.workspace.clone()))
}

fn shown(source: Option<IpAddr>) -> String {
    source
        .map(|address| address.to_string())
        .unwrap_or_default()
}
