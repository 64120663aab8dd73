//! What every call should do, said as plainly as can be: a few lists, no store, no locks, no thought of speed.

mod keys;
mod workspaces;

use std::collections::{BTreeMap, BTreeSet};

use portcullis::domain::{
    decision::Reason,
    event::{Action, Entity},
    id::KeyId,
    name::{KeyName, of_workspace},
};

use crate::{
    authority::{Authority, admits, allows},
    calls::{Call, Minute, Names, Op, Pairs, SYSTEM, Setting, Takes, View, WorkspaceFields, id},
};

const DAY: Minute = 24 * 60;

/// Ways in which a model is wrong, each of which the comparison has to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    ArchivedKeyStaysGood,
    ArchiveLimitForgotten,
    ReplayChangesAgain,
    ReplayShowsTheSecret,
    RequestIdOfAnother,
    RequestIdKnownForEver,
    RequestIdWithAnotherBody,
    OverlapOutlivesAReset,
    OverlapOutlivesTheKey,
    OverlapEndIsInclusive,
    OldSecretStaysGood,
    SupersetOfBeforeOnly,
    SupersetOfAfterOnly,
    SupersetWithoutExpiry,
    SupersetWithoutSources,
    OwnReachesAll,
    LastRootMayGo,
    TwoEvents,
    NoOpIsAChange,
    NoOpIsForgotten,
    AnyEtag,
    ForceNotNeeded,
    ExpiryIsInclusive,
    ArchivedKeyIsEdited,
    KeySettingBeforeRequest,
    DefaultBeforeKeySetting,
    DeclarationsUnchecked,
    NarrowingAsksNobody,
    NarrowingAsksArchivedKeys,
    WorkspaceIdComesBack,
    FullWorkspaceGoes,
}

impl Mutant {
    pub const ALL: [Self; 31] = [
        Self::ArchivedKeyStaysGood,
        Self::ArchiveLimitForgotten,
        Self::ReplayChangesAgain,
        Self::ReplayShowsTheSecret,
        Self::RequestIdOfAnother,
        Self::RequestIdKnownForEver,
        Self::RequestIdWithAnotherBody,
        Self::OverlapOutlivesAReset,
        Self::OverlapOutlivesTheKey,
        Self::OverlapEndIsInclusive,
        Self::OldSecretStaysGood,
        Self::SupersetOfBeforeOnly,
        Self::SupersetOfAfterOnly,
        Self::SupersetWithoutExpiry,
        Self::SupersetWithoutSources,
        Self::OwnReachesAll,
        Self::LastRootMayGo,
        Self::TwoEvents,
        Self::NoOpIsAChange,
        Self::NoOpIsForgotten,
        Self::AnyEtag,
        Self::ForceNotNeeded,
        Self::ExpiryIsInclusive,
        Self::ArchivedKeyIsEdited,
        Self::KeySettingBeforeRequest,
        Self::DefaultBeforeKeySetting,
        Self::DeclarationsUnchecked,
        Self::NarrowingAsksNobody,
        Self::NarrowingAsksArchivedKeys,
        Self::WorkspaceIdComesBack,
        Self::FullWorkspaceGoes,
    ];
}

/// One secret of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Secret {
    pub id: u32,
    pub create: Minute,
    pub end: Option<Minute>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub name: KeyName,
    pub display_name: &'static str,
    pub owner: String,
    pub prefix: &'static str,
    pub disabled: bool,
    pub permissions: Names,
    pub sources: Names,
    pub labels: Pairs,
    pub settings: Pairs,
    pub create: Minute,
    pub update: Minute,
    pub expire: Option<Minute>,
    pub archive: Option<Minute>,
    pub secrets: Vec<Secret>,
    pub revision: u64,
}

impl Key {
    pub fn workspace(&self) -> &str {
        self.name.workspace.as_str()
    }

    pub const fn authority(&self) -> Authority {
        Authority {
            held: self.permissions,
            sources: self.sources,
            expire: self.expire,
        }
    }

    pub fn is_root(&self) -> bool {
        self.workspace() == SYSTEM
            && self.permissions == ["*"]
            && self.sources.is_empty()
            && self.expire.is_none()
            && self.archive.is_none()
            && !self.disabled
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    pub id: &'static str,
    pub display_name: &'static str,
    pub prefix: &'static str,
    pub permissions: Names,
    pub settings: &'static [Setting],
    pub limit: u16,
    pub create: Minute,
    pub update: Minute,
    pub revision: u64,
}

impl Workspace {
    pub fn new(id: &'static str, display_name: &'static str, now: Minute) -> Self {
        Self {
            id,
            display_name,
            prefix: "pc",
            permissions: &[],
            settings: &[],
            limit: 10,
            create: now,
            update: now,
            revision: 0,
        }
    }

    fn with(&self, fields: &WorkspaceFields) -> Self {
        let mut after = self.clone();
        after.display_name = fields.display_name.unwrap_or(after.display_name);
        after.prefix = fields.prefix.unwrap_or(after.prefix);
        after.permissions = fields.permissions.unwrap_or(after.permissions);
        after.settings = fields.settings.unwrap_or(after.settings);
        after.limit = match fields.limit {
            None => after.limit,
            Some(0) => 10,
            Some(limit) => limit,
        };
        after
    }

    fn takes(&self, (name, value): (&str, &str)) -> bool {
        self.settings.iter().any(|setting| {
            setting.name == name
                && match setting.takes {
                    Takes::Text(most) => value.len() <= most,
                    Takes::Allowed(_, values) | Takes::Enum(values) => values.contains(&value),
                }
        })
    }

    /// The field of the key that this workspace does not allow.
    fn refuses(&self, key: &Key) -> Option<&'static str> {
        let declared = |name: &&str| *name == "*" || self.permissions.contains(name);
        if !self.permissions.is_empty() && !key.permissions.iter().all(declared) {
            return Some("key.permissions");
        }
        let taken = key.settings.iter().all(|&pair| self.takes(pair));
        (!taken).then_some("key.settings")
    }

    /// True if a key may do all that there is.
    pub fn gives_all(&self, key: &Key) -> bool {
        let declared = !self.permissions.is_empty();
        let all = self
            .permissions
            .iter()
            .all(|name| key.permissions.contains(name));
        key.permissions.contains(&"*") || (declared && all)
    }
}

/// What a call is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// This key; and, if so, a token of its newest secret.
    Key(Box<Key>, bool),
    Workspace(Workspace),
    Nothing,
}

/// A refusal's name.
pub type Refusal = &'static str;

/// What the audit log says of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub time: Minute,
    pub actor: String,
    pub team: &'static str,
    pub action: Action,
    pub method: &'static str,
    pub entity: Entity,
    pub resource: String,
    pub source: &'static str,
    pub request_id: &'static str,
    /// Archived keys that went to make room, as resource names.
    pub dropped: Vec<String>,
}

/// A call that was made.
#[derive(Debug, Clone)]
struct Done {
    actor: String,
    request_id: &'static str,
    method: &'static str,
    body: String,
    at: Minute,
    reply: Reply,
}

/// A token that was shown.
#[derive(Debug, Clone)]
pub struct Token {
    pub key: KeyName,
    pub secret: u32,
}

/// A question to Check.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    pub workspace: &'static str,
    pub permissions: Names,
    pub source: Option<&'static str>,
    pub settings: Pairs,
}

/// What Check should say: the reason, the settings, and whether the key is named.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    pub reason: Reason,
    pub settings: Vec<(&'static str, &'static str)>,
    pub key: Option<KeyId>,
}

#[derive(Debug, Clone)]
struct Caller {
    name: String,
    team: &'static str,
    authority: Authority,
}

#[derive(Debug, Clone)]
pub struct Model {
    pub now: Minute,
    /// The number of the last change.
    pub head: u64,
    pub keys: BTreeMap<KeyId, Key>,
    /// All keys that ever were, in the order of their creation.
    pub names: Vec<KeyName>,
    pub workspaces: BTreeMap<&'static str, Workspace>,
    retired: BTreeSet<&'static str>,
    pub tokens: Vec<Token>,
    pub events: Vec<Event>,
    done: Vec<Done>,
    mutant: Option<Mutant>,
}

impl Model {
    /// A store with these keys and workspaces.
    pub fn new(keys: &[Key], workspaces: &[Workspace], mutant: Option<Mutant>) -> Self {
        let token = |key: &Key| Token {
            key: key.name.clone(),
            secret: 1,
        };
        Self {
            now: 0,
            head: 1,
            names: keys.iter().map(|key| key.name.clone()).collect(),
            tokens: keys.iter().map(token).collect(),
            keys: keys.iter().map(|key| (key.name.id, key.clone())).collect(),
            workspaces: workspaces
                .iter()
                .map(|found| (found.id, found.clone()))
                .collect(),
            retired: BTreeSet::new(),
            events: Vec::new(),
            done: Vec::new(),
            mutant,
        }
    }

    const fn is(&self, mutant: Mutant) -> bool {
        matches!(self.mutant, Some(is) if is as u8 == mutant as u8)
    }

    /// What there is to call about, for callers with these tokens.
    pub fn view<'a>(&self, tokens: Vec<usize>, past: &'a [Call]) -> View<'a> {
        let etag = |revision: u64| format!("1.{revision}");
        View {
            now: self.now,
            keys: self
                .names
                .iter()
                .map(|name| {
                    let there = self.keys.get(&name.id);
                    (
                        name.clone(),
                        there.map_or(String::new(), |key| etag(key.revision)),
                    )
                })
                .collect(),
            tokens,
            workspaces: self
                .workspaces
                .values()
                .map(|there| (there.id, etag(there.revision)))
                .collect(),
            past,
        }
    }

    /// Makes a call. `new` is the id of the key that it creates, if it does.
    pub fn call(&mut self, call: &Call, new: KeyId) -> Result<Reply, Refusal> {
        let caller = self.authenticate(call).ok_or("CredentialInvalid")?;
        match &call.op {
            Op::CreateKey(workspace, fields) => {
                self.create_key(&caller, call, workspace, fields, new)
            }
            Op::UpdateKey(name, etag, _)
            | Op::EnableKey(name, etag)
            | Op::DisableKey(name, etag)
            | Op::ResetSecret(name, etag, _)
            | Op::EndOverlap(name, etag)
            | Op::ArchiveKey(name, etag)
            | Op::DeleteKey(name, etag, _) => self.change_key(&caller, call, name, etag),
            Op::CreateWorkspace(workspace, fields) => {
                self.create_workspace(&caller, call, workspace, fields)
            }
            Op::UpdateWorkspace(workspace, etag, fields) => {
                self.update_workspace(&caller, call, workspace, etag, fields)
            }
            Op::DeleteWorkspace(workspace, etag) => {
                self.delete_workspace(&caller, call, workspace, etag)
            }
        }
    }

    fn is_over(&self, end: Option<Minute>) -> bool {
        end.is_some_and(|end| {
            if self.is(Mutant::ExpiryIsInclusive) {
                self.now > end
            } else {
                self.now >= end
            }
        })
    }

    /// The key whose secret a token proves now.
    fn proved(&self, token: &Token) -> Option<&Key> {
        let key = self.keys.get(&token.key.id)?;
        let secret = key
            .secrets
            .iter()
            .find(|secret| secret.id == token.secret)?;
        let live = secret.end.is_none_or(|end| {
            self.now < end || (self.is(Mutant::OverlapEndIsInclusive) && self.now == end)
        });
        let archived = key.archive.is_some() && !self.is(Mutant::ArchivedKeyStaysGood);
        (live && !archived).then_some(key)
    }

    fn authenticate(&self, call: &Call) -> Option<Caller> {
        let key = self.proved(&self.tokens[call.token])?;
        let good = key.workspace() == SYSTEM
            && key.archive.is_none()
            && !key.disabled
            && !self.is_over(key.expire)
            && admits(key.sources, call.source);
        good.then(|| Caller {
            name: key.name.to_string(),
            team: label(key, "team").unwrap_or_default(),
            authority: key.authority(),
        })
    }

    /// The key's state, the permissions, then the settings.
    pub fn check(&self, token: usize, ask: &Ask) -> Verdict {
        let verdict = |reason, key: Option<&Key>| Verdict {
            reason,
            settings: Vec::new(),
            key: key.map(|key| key.name.id),
        };
        let found = self.proved(&self.tokens[token]);
        let found = found.filter(|key| key.workspace() == ask.workspace && ask.workspace != SYSTEM);
        let Some(key) = found else {
            return verdict(Reason::InvalidCredential, None);
        };
        let held = |asked: &&str| key.permissions.contains(&"*") || key.permissions.contains(asked);
        let home = &self.workspaces[ask.workspace];
        // Where some are declared, nobody holds any other.
        let known = |asked: &&str| {
            home.permissions.is_empty() || *asked == "*" || home.permissions.contains(asked)
        };
        let reason = if key.disabled {
            Reason::KeyDisabled
        } else if self.is_over(key.expire) {
            Reason::KeyExpired
        } else if !admits(key.sources, ask.source) {
            Reason::SourceDenied
        } else if !ask
            .permissions
            .iter()
            .all(|asked| held(asked) && known(asked))
        {
            Reason::PermissionDenied
        } else if !ask.settings.iter().all(|&pair| home.takes(pair)) {
            Reason::InvalidSetting
        } else {
            Reason::Ok
        };
        let mut answer = verdict(reason, Some(key));
        if reason == Reason::Ok {
            for setting in home.settings {
                let of = |pairs: Pairs| {
                    let found = pairs.iter().find(|(name, _)| *name == setting.name);
                    found.map(|(_, value)| *value)
                };
                let (request, own) = (of(ask.settings), of(key.settings));
                let value = if self.is(Mutant::KeySettingBeforeRequest) {
                    own.or(request).or(setting.default)
                } else if self.is(Mutant::DefaultBeforeKeySetting) {
                    request.or(setting.default).or(own)
                } else {
                    request.or(own).or(setting.default)
                };
                answer
                    .settings
                    .extend(value.map(|value| (setting.name, value)));
            }
            answer.settings.sort_unstable();
        }
        answer
    }

    // -------------------------------------------------------------------------------------------- who may, and again

    fn may(caller: &Caller, act: &str, workspace: &str) -> bool {
        allows(caller.authority.held, act, workspace)
    }

    fn may_write_some(caller: &Caller, workspace: &str) -> Result<(), Refusal> {
        let may = ["keys.write", "keys.own"].map(|act| Self::may(caller, act, workspace));
        if may.contains(&true) {
            Ok(())
        } else {
            Err("NotPermitted")
        }
    }

    /// What the call was answered when it was made before.
    fn repeated(&self, caller: &Caller, call: &Call) -> Result<Option<Reply>, Refusal> {
        match call.request_id {
            "" => return Ok(None),
            malformed if malformed.contains(' ') => return Err("Invalid request_id"),
            _ => {}
        }
        let found = self.done.iter().find(|done| {
            done.request_id == call.request_id
                && (done.actor == caller.name || self.is(Mutant::RequestIdOfAnother))
                && (self.now - done.at <= DAY || self.is(Mutant::RequestIdKnownForEver))
        });
        match found {
            None => Ok(None),
            Some(_) if self.is(Mutant::ReplayChangesAgain) => Ok(None),
            Some(done)
                if (done.method != call.op.method() || done.body != call.body())
                    && !self.is(Mutant::RequestIdWithAnotherBody) =>
            {
                Err("RequestIdReused")
            }
            Some(done) => Ok(Some(match &done.reply {
                Reply::Key(key, shown) => {
                    Reply::Key(key.clone(), *shown && self.is(Mutant::ReplayShowsTheSecret))
                }
                reply => reply.clone(),
            })),
        }
    }

    /// Nobody gives, or touches, more in `system` than they have.
    fn require_cover(&self, caller: &Caller, key: &Key) -> Result<(), Refusal> {
        let (mine, asked) = (caller.authority, key.authority());
        let covers = mine.covers_grants(&asked)
            && (mine.covers_sources(&asked) || self.is(Mutant::SupersetWithoutSources))
            && (mine.outlasts(&asked) || self.is(Mutant::SupersetWithoutExpiry));
        if key.workspace() != SYSTEM || covers {
            Ok(())
        } else {
            Err("GrantExceedsCaller")
        }
    }

    /// Makes it so: one more revision, one event, and the call is known.
    fn commit(&mut self, caller: &Caller, call: &Call, change: Change) -> Reply {
        let Change {
            action,
            entity,
            resource,
            mut reply,
            dropped,
        } = change;
        self.head += 1;
        match &mut reply {
            Reply::Key(key, _) => {
                key.revision = self.head;
                self.keys.insert(key.name.id, (**key).clone());
            }
            Reply::Workspace(workspace) => {
                workspace.revision = self.head;
                self.workspaces.insert(workspace.id, workspace.clone());
            }
            Reply::Nothing => {}
        }
        for name in &dropped {
            self.keys.remove(&name.id);
        }
        let event = Event {
            time: self.now,
            actor: caller.name.clone(),
            team: caller.team,
            action,
            method: call.op.method(),
            entity,
            resource,
            source: call.source.unwrap_or_default(),
            request_id: call.request_id,
            dropped: dropped.iter().map(ToString::to_string).collect(),
        };
        if self.is(Mutant::TwoEvents) {
            self.events.push(event.clone());
        }
        self.events.push(event);
        self.remember(caller, call, &reply);
        reply
    }

    /// Makes a call known by its request id.
    fn remember(&mut self, caller: &Caller, call: &Call, reply: &Reply) {
        if call.request_id.is_empty() {
            return;
        }
        self.done
            .retain(|done| (&*done.actor, done.request_id) != (&caller.name, call.request_id));
        self.done.push(Done {
            actor: caller.name.clone(),
            request_id: call.request_id,
            method: call.op.method(),
            body: call.body(),
            at: self.now,
            reply: reply.clone(),
        });
    }

    /// Answers a call that finds everything as it wants it: no revision, no event, but the call is known.
    fn keep(&mut self, caller: &Caller, call: &Call, reply: Reply) -> Reply {
        if !self.is(Mutant::NoOpIsForgotten) {
            self.remember(caller, call, &reply);
        }
        reply
    }
}

/// What a call changes.
struct Change {
    action: Action,
    entity: Entity,
    resource: String,
    reply: Reply,
    dropped: Vec<KeyName>,
}

impl Change {
    fn of_key(action: Action, key: Key, shown: bool) -> Self {
        Self {
            action,
            entity: Entity::Key,
            resource: key.name.to_string(),
            reply: Reply::Key(Box::new(key), shown),
            dropped: Vec::new(),
        }
    }

    fn of_workspace(action: Action, workspace: &str, reply: Reply) -> Self {
        Self {
            action,
            entity: Entity::Workspace,
            resource: of_workspace(&id(workspace)),
            reply,
            dropped: Vec::new(),
        }
    }
}

/// The value of a key's label.
pub fn label(key: &Key, name: &str) -> Option<&'static str> {
    let found = key.labels.iter().find(|(label, _)| *label == name);
    found.map(|(_, value)| *value)
}
