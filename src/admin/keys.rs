//! What can be done with keys.

use super::{
    Failure,
    caller::Caller,
    mutation::{Management, Outcome, Proposal, TRIES, with_random},
};
use crate::{
    domain::{
        event::{Action, Entity, key_changes},
        grant::{Act, Grants},
        id::{KeyId, WorkspaceId},
        key::{Key, KeyRecord, Labels},
        name::{KeyName, of_workspace},
        permission::PermissionSet,
        secret::{GeneratedSecret, Secret},
        source::IpAllowlist,
        time::Timestamp,
    },
    gate::keyring::{Found, ListPosition},
    store::{RecordId, Write},
};

/// A key to create.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// For people.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// `None`: what a key gets that chooses none.
    pub permissions: Option<PermissionSet>,
    /// Where it may be used from.
    pub ip_allowlist: IpAllowlist,
    /// The operator's own.
    pub labels: Labels,
    /// When it stops working.
    pub expire_time: Option<Timestamp>,
}

/// A key with its new secret, which is shown once.
pub struct Issued {
    /// The key.
    pub record: KeyRecord,
    /// Its secret.
    pub secret: GeneratedSecret,
}

impl Management {
    /// Creates a key of `workspace`. `new` is asked what to create once the caller is known to be allowed to.
    ///
    /// # Errors
    /// If the caller may not, the key is malformed, or there is no such workspace.
    pub async fn create_key(
        &self,
        caller: &Caller,
        workspace: &WorkspaceId,
        new: impl FnOnce() -> Result<NewKey, Failure>,
    ) -> Result<Issued, Failure> {
        caller.require(Act::KeysWrite, workspace)?;
        let new = new()?;
        let now = self.now();
        check_expiry(new.expire_time, None, now)?;
        let permissions = new
            .permissions
            .unwrap_or_else(|| default_permissions(workspace));
        require_superset(caller, workspace, &permissions)?;

        for _ in 0..TRIES {
            let found = self
                .keyring
                .workspace(workspace)
                .ok_or_else(|| Failure::NotFound(of_workspace(workspace)))?;
            let (id, secret, sealed) = issue(None, 1, now)?;
            let key = Key {
                id,
                workspace: workspace.clone(),
                display_name: new.display_name.clone().into(),
                description: new.description.clone().into(),
                owner: caller.principal.clone().into(),
                token_prefix: found.workspace.token_prefix.clone(),
                disabled: false,
                permissions: permissions.clone(),
                ip_allowlist: new.ip_allowlist.clone(),
                labels: new.labels.clone(),
                create_time: now,
                update_time: now,
                expire_time: new.expire_time,
            };
            let secrets = vec![sealed];
            let proposal = Proposal {
                method: "CreateKey",
                action: Action::Create,
                entity: Entity::Key,
                resource: key.name().to_string(),
                changes: key_changes(None, Some(&key)),
                reads: vec![
                    (RecordId::Key(id), None),
                    (RecordId::Workspace(workspace.clone()), Some(found.revision)),
                ],
                writes: vec![Write::Key(Box::new(key.clone()), secrets.clone())],
                time: now,
            };
            if let Outcome::Done(revision) = self.commit(caller, proposal).await? {
                return Ok(Issued {
                    record: KeyRecord {
                        key,
                        secrets,
                        revision,
                    },
                    secret,
                });
            }
        }
        Err(Failure::Conflict)
    }

    /// Reads a key.
    ///
    /// # Errors
    /// If the caller may not, or there is no such key.
    pub fn get_key(&self, caller: &Caller, name: &KeyName) -> Result<KeyRecord, Failure> {
        caller.require(Act::KeysRead, &name.workspace)?;
        self.find_key(name)
    }

    /// Lists up to `limit` keys of a workspace after a position, oldest first. `page` is asked for both once the caller is
    /// known to be allowed to see them.
    ///
    /// # Errors
    /// If the caller may not, the page is malformed, or there is no such workspace.
    pub fn list_keys(
        &self,
        caller: &Caller,
        workspace: &WorkspaceId,
        page: impl FnOnce() -> Result<(Option<ListPosition>, usize), Failure>,
    ) -> Result<(Vec<KeyRecord>, Option<ListPosition>), Failure> {
        caller.require(Act::KeysRead, workspace)?;
        let (after, limit) = page()?;
        if self.keyring.workspace(workspace).is_none() {
            return Err(Failure::NotFound(of_workspace(workspace)));
        }
        Ok(self.keyring.list_keys(workspace, after, limit))
    }

    pub(super) fn find_key(&self, name: &KeyName) -> Result<KeyRecord, Failure> {
        match self.keyring.record(name.id) {
            Found::Record(record) if record.key.workspace == name.workspace => Ok(*record),
            Found::Unreadable => Err(Failure::Unreadable(name.to_string())),
            Found::Record(_) | Found::Nothing => Err(Failure::NotFound(name.to_string())),
        }
    }
}

/// A new secret for a key, or for a new key if there is none yet, with what is kept of it.
pub(super) fn issue(
    key: Option<KeyId>,
    id: u32,
    now: Timestamp,
) -> Result<(KeyId, GeneratedSecret, Secret), Failure> {
    with_random(|random| {
        let key_id = key.unwrap_or_else(|| KeyId::from_random(random));
        let secret = GeneratedSecret::from_random(key_id, random);
        let sealed = Secret::seal(id, &secret, now, random);
        (key_id, secret, sealed)
    })
    .map_err(|_| Failure::Internal("the system gave no randomness"))
}

/// What a key gets that chooses none. An admin credential must not become powerful by an omission.
fn default_permissions(workspace: &WorkspaceId) -> PermissionSet {
    if workspace.is_system() {
        PermissionSet::none()
    } else {
        PermissionSet::any()
    }
}

/// Within `system`, only who holds all of it gives a set of permissions, or touches a key that has it.
pub(super) fn require_superset(
    caller: &Caller,
    workspace: &WorkspaceId,
    permissions: &PermissionSet,
) -> Result<(), Failure> {
    if !workspace.is_system() {
        return Ok(());
    }
    let grants =
        Grants::parse(permissions).map_err(|why| Failure::invalid("key.permissions", why))?;
    caller.require_superset_of(&grants)
}

/// An end in the past is refused, unless it is the one that stands there.
pub(super) fn check_expiry(
    end: Option<Timestamp>,
    before: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), Failure> {
    match end {
        Some(end) if end <= now && before != Some(end) => Err(Failure::invalid(
            "key.expire_time",
            format!("must lie in the future; it is {now} now"),
        )),
        _ => Ok(()),
    }
}
