//! Opening a store on Redis, and making one; what the server must promise for it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    RedisStore,
    core::{Core, Own, random},
    layout::Layout,
    link::{Dialer, Failure, LONG, Link},
    scripts::INIT,
    standing::{nonsense, parts, text},
};
use crate::{
    config::{RedisDurability, RedisSettings},
    store::{StoreError, shared::SharedStore as _},
};

/// Buckets of a new store: few enough to read each at once, enough that none is a large part of a million keys.
const BUCKETS: u32 = 256;
/// The oldest Redis that will do: scripts have flags since then.
const OLDEST: (u32, u32) = (7, 0);

/// Why a store on Redis cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisStartError {
    /// It cannot be reached, or does not let this user in.
    #[error("{address} cannot be used: {why}")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// What happened.
        why: String,
    },
    /// It is too old.
    #[error("{address} is Redis {found}; Portcullis needs {}.{} or later", OLDEST.0, OLDEST.1)]
    TooOld {
        /// Where it is.
        address: String,
        /// Its version.
        found: String,
    },
    /// It may lose what it acknowledged.
    #[error(
        "{address} may lose what it acknowledged, so a revoked key could come back: {why}. If it keeps acknowledged writes in another way, pass --redis-durability assume"
    )]
    NotDurable {
        /// Where it is.
        address: String,
        /// Which setting, and what to set it to.
        why: String,
    },
    /// Whether it keeps what it acknowledged cannot be found out.
    #[error(
        "whether {address} keeps acknowledged writes cannot be found out: {why}. Give the user the right to ask with `ACL SETUSER {user} +{command}`, or pass --redis-durability assume"
    )]
    NotToldDurable {
        /// Where it is.
        address: String,
        /// The ACL user.
        user: String,
        /// What it may not use.
        command: &'static str,
        /// What it said.
        why: String,
    },
    /// It throws keys away when its memory is full.
    #[error(
        "{address} throws keys away when its memory is full (maxmemory-policy {policy}); set maxmemory-policy to noeviction"
    )]
    Evicts {
        /// Where it is.
        address: String,
        /// What it does.
        policy: String,
    },
    /// There is no store.
    #[error(
        "there is no store on {address} under the namespace {namespace}; `portcullis init` makes one"
    )]
    NotMade {
        /// Where it is.
        address: String,
        /// Where one should be.
        namespace: String,
    },
    /// A store was there before, and not all of it is gone.
    #[error(
        "what is left of another store stands on {address} under the namespace {namespace} ({key}); delete it, or choose another namespace"
    )]
    Remains {
        /// Where it is.
        address: String,
        /// Where it stands.
        namespace: String,
        /// One of the keys.
        key: String,
    },
    /// What stands there is no store of this version's.
    #[error("the store on {address} cannot be used: {source}")]
    Store {
        /// Where it is.
        address: String,
        /// Why.
        source: StoreErrorText,
    },
}

/// What a [`StoreError`] says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreErrorText(String);

impl RedisStore {
    /// Opens the store in a namespace, as a process of this name. It has adopted no history yet.
    ///
    /// # Errors
    /// If there is none, or the server does not promise what a store needs.
    pub async fn connect(settings: &RedisSettings, name: &str) -> Result<Self, RedisStartError> {
        let (opening, store) = open(settings, name).await?;
        match store.is_made().await {
            Ok(true) => Ok(store),
            Ok(false) => Err(RedisStartError::NotMade {
                address: opening.address,
                namespace: settings.namespace.clone(),
            }),
            Err(error) => Err(opening.unusable(&error)),
        }
    }

    /// Makes a store in a namespace if there is none, and opens it in the history that it is in. True if it was made now.
    ///
    /// # Errors
    /// If the server does not promise what a store needs, or something else stands there.
    pub async fn make(
        settings: &RedisSettings,
        name: &str,
        lease: Duration,
    ) -> Result<(Self, bool), RedisStartError> {
        let (opening, store) = open(settings, name).await?;
        let layout = &store.core.layout;
        let mut keys = vec![
            layout.ctl(),
            layout.log(),
            layout.audit(),
            layout.quiet(),
            layout.members(),
        ];
        keys.extend((0..BUCKETS).map(|bucket| layout.bucket(bucket)));
        let unusable = |error: StoreError| opening.unusable(&error);
        let id = u128::from_be_bytes(random().map_err(unusable)?);
        let args = [
            format!("{id:032x}").into_bytes(),
            lease.as_millis().to_string().into_bytes(),
            BUCKETS.to_string().into_bytes(),
        ];
        let answer = store.core.commands.script(INIT, &keys, &args, LONG).await;
        let answer = answer.map_err(|failure| opening.unreachable(failure))?;
        let (word, rest) = parts(answer).map_err(unusable)?;
        let first = rest.into_iter().next().ok_or(nonsense("an answer"));
        let first = first.map_err(unusable)?;
        let is_new = match &*word {
            "made" => true,
            "found" => false,
            "remains" => {
                return Err(RedisStartError::Remains {
                    key: text(first).map_err(unusable)?,
                    namespace: settings.namespace.clone(),
                    address: opening.address,
                });
            }
            _ => return Err(unusable(nonsense("an answer"))),
        };
        let standing = store.core.note(first).map_err(unusable)?;
        store.adopt(standing.history);
        Ok((store, is_new))
    }

    /// True if a store stands there, and makes sense.
    async fn is_made(&self) -> Result<bool, StoreError> {
        let mut look = redis::cmd("HGET");
        look.arg(self.core.layout.ctl()).arg("store");
        let store: Option<String> = self.core.commands.command(&look, LONG).await?;
        if store.is_none() {
            return Ok(false);
        }
        self.core.standing().await?;
        Ok(true)
    }
}

/// What a server must go on to promise, also once it was restarted.
pub(super) struct Promise {
    opening: Opening,
    durability: RedisDurability,
}

impl Promise {
    /// Asks the server again.
    pub(super) async fn check(&self, dialer: &Arc<Dialer>) -> Result<(), StoreError> {
        let checked = check_server(&self.opening, dialer, self.durability).await;
        checked
            .map(drop)
            .map_err(|error| StoreError::Failed(error.to_string()))
    }
}

/// What messages say of the server.
#[derive(Clone)]
struct Opening {
    address: String,
    user: String,
}

impl Opening {
    fn unreachable(&self, failure: Failure) -> RedisStartError {
        let why = match failure {
            Failure::NotSent(why) | Failure::Lost(why) | Failure::Refused { why, .. } => why,
        };
        RedisStartError::Unreachable {
            address: self.address.clone(),
            why,
        }
    }

    fn unusable(&self, error: &StoreError) -> RedisStartError {
        RedisStartError::Store {
            address: self.address.clone(),
            source: StoreErrorText(error.to_string()),
        }
    }

    /// The server did not say what this command asks for.
    fn untold(&self, failure: Failure, command: &'static str) -> RedisStartError {
        match failure {
            Failure::Refused { why, .. } => RedisStartError::NotToldDurable {
                address: self.address.clone(),
                user: self.user.clone(),
                command,
                why,
            },
            failure => self.unreachable(failure),
        }
    }

    fn not_durable(&self, why: &str) -> RedisStartError {
        RedisStartError::NotDurable {
            address: self.address.clone(),
            why: why.to_owned(),
        }
    }
}

/// Checks the server, and makes a store of it that knows nothing of what stands there.
async fn open(
    settings: &RedisSettings,
    name: &str,
) -> Result<(Opening, RedisStore), RedisStartError> {
    let opening = Opening {
        address: settings.address.to_string(),
        user: settings
            .user
            .clone()
            .unwrap_or_else(|| "default".to_owned()),
    };
    let dialer = Dialer::new(settings).map_err(|why| opening.unreachable(Failure::NotSent(why)))?;
    let dialer = Arc::new(dialer);
    let durability = check_server(&opening, &dialer, settings.durability).await?;
    let incarnation = random().map_err(|error| opening.unusable(&error))?;
    let own = Own {
        name: name.to_owned(),
        incarnation: format!("{:032x}", u128::from_be_bytes(incarnation)),
        durability,
    };
    let core = Arc::new(Core::new(Layout::new(&settings.namespace), dialer, own));
    let connected = core.commands.ensure(LONG).await;
    connected.map_err(|failure| opening.unreachable(failure))?;
    let (open, watched) = watch::channel(());
    tokio::spawn(core.clone().keep_connected(watched));
    let store = RedisStore {
        core,
        promise: Promise {
            opening: opening.clone(),
            durability: settings.durability,
        },
        open,
    };
    Ok((opening, store))
}

/// Checks what the server says of itself; answers what operators are told of its durability.
async fn check_server(
    opening: &Opening,
    dialer: &Arc<Dialer>,
    durability: RedisDurability,
) -> Result<&'static str, RedisStartError> {
    // Without a subscription: an error in that says less.
    let link = Link::new(dialer.clone(), None);
    let info: String = link
        .command(&redis::cmd("INFO"), LONG)
        .await
        .map_err(|failure| opening.unreachable(failure))?;
    let info: BTreeMap<&str, &str> = info
        .lines()
        .filter_map(|line| line.trim().split_once(':'))
        .collect();
    let said = |name: &str| info.get(name).copied().unwrap_or_default();

    let version = said("redis_version");
    let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < OLDEST {
        return Err(RedisStartError::TooOld {
            address: opening.address.clone(),
            found: version.to_owned(),
        });
    }
    // Also without a limit: one may be set later.
    let policy = said("maxmemory_policy");
    if policy != "noeviction" {
        return Err(RedisStartError::Evicts {
            address: opening.address.clone(),
            policy: policy.to_owned(),
        });
    }
    match durability {
        RedisDurability::Assume => Ok("assumed"),
        RedisDurability::Verify => {
            check_durability(opening, &link, &said).await?;
            Ok("appendfsync always")
        }
    }
}

async fn check_durability<'a>(
    opening: &Opening,
    link: &Link,
    said: &(dyn Fn(&str) -> &'a str + Sync),
) -> Result<(), RedisStartError> {
    if said("role") != "master" {
        return Err(opening.not_durable("it is a replica; name its primary"));
    }
    if said("connected_slaves") != "0" {
        return Err(opening.not_durable(
            "it has replicas, and an old primary that lost its place would go on renewing leases; detach them",
        ));
    }
    check_loading(opening, link).await?;
    for (name, due) in [
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("no-appendfsync-on-rewrite", "no"),
    ] {
        let mut get = redis::cmd("CONFIG");
        get.arg("GET").arg(name);
        let found: BTreeMap<String, String> = link
            .command(&get, LONG)
            .await
            .map_err(|failure| opening.untold(failure, "config|get"))?;
        let found = found.get(name).map(String::as_str).unwrap_or_default();
        if found != due {
            return Err(opening.not_durable(&format!("{name} is {found:?}; set it to {due}")));
        }
    }
    Ok(())
}

/// Redis loads its file with the rights of its default user, even where nobody can log in as that, and leaves out what that may
/// not do: with `user default off` and no rights, every change that a script made is gone after a restart.
async fn check_loading(opening: &Opening, link: &Link) -> Result<(), RedisStartError> {
    let mut get = redis::cmd("ACL");
    get.arg("GETUSER").arg("default");
    let facts: BTreeMap<String, redis::Value> = link
        .command(&get, LONG)
        .await
        .map_err(|failure| opening.untold(failure, "acl|getuser"))?;
    let said = |name: &str| {
        let fact = facts.get(name).cloned();
        fact.and_then(|fact| text(fact).ok()).unwrap_or_default()
    };
    let may_all = said("commands").split(' ').fold(false, |may, rule| {
        rule == "+@all" || may && !rule.starts_with('-')
    });
    if may_all && said("keys").split(' ').any(|pattern| pattern == "~*") {
        return Ok(());
    }
    Err(opening.not_durable(
        "it loads its file with the rights of its user `default` and leaves out what that may not do; \
         keep others out with `ACL SETUSER default off resetpass`, but leave it `~* &* +@all`",
    ))
}
