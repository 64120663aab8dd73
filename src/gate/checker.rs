//! Decides whether a key opens a call.
//!
//! The order is fixed: lease, credential, record, secret, state, source, permissions, settings. After any wait it starts
//! again at the lease, so that what is decided on is never older than the decision.

use std::{net::IpAddr, sync::Arc, time::Duration};

use super::{
    catch_up::{CatchUp, NotReached},
    clock::{Boottime, Clock, Now, SystemClock},
    keyring::{CachedKey, Entry, Keyring, Rules, Slot},
    lease::Lease,
    metrics::CheckRecorder,
    verify::{NoVerdict, VerifyPool},
};
use crate::domain::{
    credential::{Presented, Scratch, SecretRef},
    decision::{Reason, judge},
    id::{Revision, SYSTEM_WORKSPACE},
    key::Key,
    name::of_key,
    setting::{Effective, Requested},
    time::Timestamp,
    workspace::Declared,
};

/// A well-formed question.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// A token or an Authorization value, as it was sent.
    pub credential: Credential<'a>,
    /// Whose keys are accepted.
    pub workspace: &'a str,
    /// What must be held.
    pub permissions: &'a [String],
    /// Where the request came from; `None`: unknown.
    pub source: Option<IpAddr>,
    /// The request's own values for settings.
    pub settings: &'a dyn Requested,
    /// Names of the labels to answer with.
    pub labels: &'a [String],
    /// What the decision must take into account; `None`: what is in force here.
    pub min_revision: Option<Revision>,
}

/// A credential as it was sent. Never printed.
#[derive(Clone, Copy)]
pub struct Credential<'a>(pub &'a str);

impl std::fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential")
    }
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Why; only `Ok` allows.
    pub reason: Reason,
    /// The key, once its secret is proved.
    pub key: Option<ProvedKey>,
    /// With `Ok`: the effective settings, by name.
    pub settings: Vec<Effective>,
    /// Everything up to it was taken into account.
    pub revision: Revision,
}

/// What a caller learns of a key whose secret it proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvedKey {
    /// The resource name.
    pub name: String,
    /// The principal that created it.
    pub owner: String,
    /// When it expires.
    pub expire_time: Option<Timestamp>,
    /// The labels asked for that it has.
    pub labels: Vec<(String, String)>,
}

/// Why there is no decision. Nothing may pass on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// The lease ran out.
    #[error("this replica may not answer now: its lease ran out")]
    Fenced,
    /// Too many new secrets at once.
    #[error("too busy verifying new secrets; try again")]
    Overloaded,
    /// The record cannot be read.
    #[error("the key's stored record cannot be read")]
    Unreadable,
    /// This replica is behind the revision asked for.
    #[error(
        "this replica is behind revision {0} and did not catch up in time; try again, or ask another"
    )]
    Behind(Revision),
    /// The revision asked for lies ahead of the store.
    #[error("revision {0} lies ahead of everything this store has recorded")]
    Ahead(Revision),
}

/// Decides. Cheap to clone; every thread counts with a recorder of its own.
pub struct Checker<C: Clock = SystemClock> {
    parts: Arc<Parts<C>>,
    recorder: CheckRecorder,
}

/// What all checkers of a process share.
pub struct Parts<C: Clock = SystemClock> {
    /// The records.
    pub keyring: Keyring,
    /// How long this replica may answer.
    pub lease: Arc<Lease>,
    /// The time.
    pub clock: Arc<C>,
    /// Proves new secrets.
    pub verify: Arc<VerifyPool>,
    /// Gets to a state that was seen elsewhere.
    pub catch_up: Arc<dyn CatchUp>,
}

/// Longer than any sequence of resets that a wait of 50 ms could meet.
const MOST_ROUNDS: usize = 4;

/// What one look at the record came to.
enum Look<R> {
    /// The key's secret is proved, and this is what the asker made of it.
    Proved(R),
    /// Nothing was proved.
    Refused(Revision),
    /// Only argon2 can tell.
    Unproved(Arc<Slot>),
}

impl<C: Clock> Clone for Checker<C> {
    fn clone(&self) -> Self {
        Self {
            parts: self.parts.clone(),
            recorder: self.recorder.clone(),
        }
    }
}

impl<C: Clock> Checker<C> {
    /// A checker that counts with `recorder`.
    #[must_use]
    pub fn new(parts: Arc<Parts<C>>, recorder: CheckRecorder) -> Self {
        Self { parts, recorder }
    }

    /// A checker of the same process that counts with another recorder.
    #[must_use]
    pub fn with_recorder(&self, recorder: CheckRecorder) -> Self {
        Self {
            parts: self.parts.clone(),
            recorder,
        }
    }

    /// Decides one request. Keys of the `system` workspace never pass.
    ///
    /// # Errors
    /// [`Undecided`]: there is no decision, so the caller must not let the request pass.
    pub async fn check(&self, question: &Question<'_>) -> Result<Answer, Undecided> {
        let started = self.hold_lease();
        let answer = match (started, self.wanting(question.min_revision)) {
            (Ok(now), None) => self.decide(question, now).await,
            // Boxed, so that the checks that wait for nothing do not carry the room for it around.
            (Ok(_), Some(wanting)) => match Box::pin(self.reach(wanting)).await {
                Ok(now) => self.decide(question, now).await,
                Err(undecided) => Err(undecided),
            },
            (Err(fenced), _) => Err(fenced),
        };
        let took = started.map_or(Duration::ZERO, |now| self.since(now.boottime));
        let reason = answer.as_ref().ok().map(|answer| answer.reason);
        self.recorder.record(reason, took);
        answer
    }

    /// Counts a request that is denied before it is a question.
    pub fn refuse(&self, reason: Reason) {
        self.recorder.record(Some(reason), Duration::ZERO);
    }

    /// Counts a request that nobody decided.
    pub fn count_undecided(&self) {
        self.recorder.record(None, Duration::ZERO);
    }

    /// Counts a request that was too malformed to be a question, and answers it.
    #[must_use]
    pub fn refuse_malformed(&self) -> Answer {
        self.refuse(Reason::InvalidRequest);
        Answer {
            reason: Reason::InvalidRequest,
            key: None,
            settings: Vec::new(),
            revision: self.parts.keyring.applied(),
        }
    }

    /// The revision asked for, if this replica is behind it.
    #[must_use]
    pub fn wanting(&self, min_revision: Option<Revision>) -> Option<Revision> {
        // Read before any record is looked up, so the record is at least that new.
        min_revision.filter(|&wanted| wanted > self.parts.keyring.applied())
    }

    /// Answers a request that asks for a revision which was just not reached, without trying once more.
    ///
    /// # Errors
    /// Always: there is no decision.
    pub fn give_up(&self, missed: Undecided) -> Result<Answer, Undecided> {
        self.count_undecided();
        Err(missed)
    }

    /// Catches up with a revision, and reads lease and clock anew: they may be others by now.
    async fn reach(&self, wanted: Revision) -> Result<Now, Undecided> {
        match self.parts.catch_up.reach(wanted).await {
            // Nothing rests on its word.
            Ok(()) if self.wanting(Some(wanted)).is_none() => self.hold_lease(),
            Ok(()) | Err(NotReached::Behind) => Err(Undecided::Behind(wanted)),
            Err(NotReached::Ahead) => Err(Undecided::Ahead(wanted)),
        }
    }

    async fn decide(&self, question: &Question<'_>, now: Now) -> Result<Answer, Undecided> {
        if question.workspace == SYSTEM_WORKSPACE {
            return Ok(refused(self.parts.keyring.applied()));
        }
        let answer = |cached: &CachedKey, declared: &Declared, now: Now, revision| {
            let judged = match judge(&cached.key, question.permissions, question.source, now.wall) {
                Reason::Ok if !declared.knows_all(question.permissions) => Reason::PermissionDenied,
                judged => judged,
            };
            let settings = &declared.settings;
            let (reason, settings) = match judged {
                Reason::Ok => match settings.resolve(&cached.key.settings, question.settings) {
                    Some(effective) => (Reason::Ok, effective),
                    None => (Reason::InvalidSetting, Vec::new()),
                },
                denied => (denied, Vec::new()),
            };
            Answer {
                reason,
                key: Some(ProvedKey::of(&cached.key, question.labels)),
                settings,
                revision,
            }
        };
        let proved = self
            .prove(question.credential, question.workspace, now, answer)
            .await?;
        Ok(proved.unwrap_or_else(refused))
    }

    /// Proves an admin credential: the `system` key it belongs to, if that is in force for calls from `source`.
    ///
    /// # Errors
    /// [`Undecided`], as for [`check`](Self::check).
    pub async fn authenticate(
        &self,
        credential: Credential<'_>,
        source: Option<IpAddr>,
    ) -> Result<Option<(Key, Revision)>, Undecided> {
        let nothing_asked: &[String] = &[];
        let answer = |cached: &CachedKey, _: &Declared, now: Now, _| {
            let in_force = judge(&cached.key, nothing_asked, source, now.wall) == Reason::Ok;
            in_force.then(|| (cached.key.clone(), cached.revision))
        };
        let now = self.hold_lease()?;
        let proved = self
            .prove(credential, SYSTEM_WORKSPACE, now, answer)
            .await?;
        Ok(proved.unwrap_or(None))
    }

    /// Finds the key that a credential proves at `now`, which was read under the lease, and answers what `answer` makes of it; `Err(revision)`: it proves none.
    async fn prove<R>(
        &self,
        credential: Credential<'_>,
        workspace: &str,
        mut now: Now,
        answer: impl Fn(&CachedKey, &Declared, Now, Revision) -> R,
    ) -> Result<Result<R, Revision>, Undecided> {
        let mut scratch = Scratch::default();
        let presented = Presented::parse(credential.0, &mut scratch)
            // The caller chooses the workspace, never the credential.
            .filter(|presented| presented.workspace.is_none_or(|named| named == workspace));
        let Some(presented) = presented else {
            return Ok(Err(self.parts.keyring.applied()));
        };
        for _ in 0..MOST_ROUNDS {
            let slot = match self.look(presented, workspace, now, &answer)? {
                Look::Proved(answer) => return Ok(Ok(answer)),
                Look::Refused(revision) => return Ok(Err(revision)),
                Look::Unproved(slot) => slot,
            };
            // Boxed, so that the checks that need no argon2 do not carry the room for it around.
            match Box::pin(self.parts.verify.verify(&slot, presented.secret)).await {
                Ok(true) => {}
                Ok(false) => return Ok(Err(self.parts.keyring.applied())),
                Err(NoVerdict) => return Err(Undecided::Overloaded),
            }
            // Lease and record may be others by now: start again.
            now = self.hold_lease()?;
        }
        Err(Undecided::Overloaded)
    }

    /// The time, if the lease still holds at it.
    fn hold_lease(&self) -> Result<Now, Undecided> {
        // The lease is read before the clock. The other order lets a pause between the two pass a lease that ended
        // during it.
        let deadline = self.parts.lease.deadline();
        let now = self.parts.clock.now();
        if now.boottime >= deadline {
            Err(Undecided::Fenced)
        } else {
            Ok(now)
        }
    }

    fn look<R>(
        &self,
        presented: Presented<'_>,
        workspace: &str,
        now: Now,
        answer: &impl Fn(&CachedKey, &Declared, Now, Revision) -> R,
    ) -> Result<Look<R>, Undecided> {
        // The revision is read before the record, so the record is at least that new.
        let revision = self.parts.keyring.applied();
        self.parts
            .keyring
            .with(presented.key_id, |entry| match entry {
                None => Ok(Look::Refused(revision)),
                Some(Entry::Unreadable) => Err(Undecided::Unreadable),
                Some(Entry::Key(cached)) if cached.key.workspace.as_str() != workspace => {
                    Ok(Look::Refused(revision))
                }
                // To Check an archived key does not exist, whoever knows its secret.
                Some(Entry::Key(cached)) if cached.key.archive_time.is_some() => {
                    Ok(Look::Refused(revision))
                }
                Some(Entry::Key(cached)) => {
                    let rules = cached.home.rules();
                    let declared = match &**rules {
                        Rules::Present(declared) => declared,
                        Rules::Absent => return Ok(Look::Refused(revision)),
                        Rules::Unreadable => return Err(Undecided::Unreadable),
                    };
                    Ok(match self.match_secret(cached, presented.secret, now) {
                        Match::Proved => Look::Proved(answer(cached, declared, now, revision)),
                        Match::Wrong => Look::Refused(revision),
                        Match::Unproved(slot) => Look::Unproved(slot),
                    })
                }
            })
    }

    fn match_secret(&self, cached: &CachedKey, secret: SecretRef<'_>, now: Now) -> Match {
        let hash = self.parts.verify.hash(secret);
        let mut unproved = None;
        // The end of an overlap is looked at each time: that a secret once matched says nothing about now.
        let live = cached.slots.iter().filter(|live| live.is_live(now.wall));
        for slot in live.map(|live| &live.slot) {
            match slot.memo.recall(hash) {
                Some(true) => return Match::Proved,
                None if slot.secret.passes_screen(secret) => unproved = Some(slot),
                // Not this one's secret: said by the memo, or by the screen.
                Some(false) | None => {}
            }
        }
        unproved.map_or(Match::Wrong, |slot| Match::Unproved(slot.clone()))
    }

    fn since(&self, started: Boottime) -> Duration {
        Duration::from_nanos(self.parts.clock.now().boottime.0.saturating_sub(started.0))
    }
}

/// Whether a presented secret is one of the key's.
enum Match {
    Proved,
    Wrong,
    Unproved(Arc<Slot>),
}

impl ProvedKey {
    /// The key's id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.parts().1
    }

    /// The workspace that it belongs to.
    #[must_use]
    pub fn workspace(&self) -> &str {
        self.parts().0
    }

    fn parts(&self) -> (&str, &str) {
        let rest = self.name.strip_prefix("workspaces/");
        rest.and_then(|rest| rest.split_once("/keys/"))
            .unwrap_or_default()
    }

    fn of(key: &Key, labels: &[String]) -> Self {
        Self {
            name: of_key(&key.workspace, key.id),
            owner: key.owner.to_string(),
            expire_time: key.expire_time,
            labels: labels
                .iter()
                .filter_map(|name| Some((name.clone(), key.labels.get(name)?.to_owned())))
                .collect(),
        }
    }
}

/// The one answer to a credential that proves nothing.
fn refused(revision: Revision) -> Answer {
    Answer {
        reason: Reason::InvalidCredential,
        key: None,
        settings: Vec::new(),
        revision,
    }
}

#[cfg(test)]
mod tests;
