//! What lies behind the listeners: a store of its own, or the one that a fleet shares.

use std::{fs, io, sync::Arc, time::Duration};

use super::ServeError;
use crate::{
    admin::{
        bootstrap::{self, BootstrapError, DataDirectory},
        mutation::Management,
    },
    cli::fleet_store::{self, FOUND_WITHIN, is_begun},
    config::{RedisSettings, RootToken, Settings, shown_span},
    fleet::{Fleet, JoinError},
    gate::{
        checker::{Checker, Credential, Parts},
        clock::{Clock as _, SystemClock},
        keyring::{Keyring, KeyringWriter},
        lease::Lease,
        metrics::CheckMetrics,
        verify::VerifyPool,
    },
    store::{
        Store, StoreError,
        embedded::EmbeddedStore,
        redis::{RedisStartError, RedisStore},
        shared::SharedStore,
    },
};

/// Why this process could not become a replica of a fleet.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Redis cannot be used.
    #[error(transparent)]
    Redis(RedisStartError),
    /// Redis does not answer.
    #[error("{0}")]
    Silent(String),
    /// There is no store in it, or only the beginning of one.
    #[error(
        "{address} holds no store of Portcullis in the namespace {namespace}; make it once, for the whole fleet: {command}"
    )]
    NotMade {
        /// Its address.
        address: String,
        /// The namespace.
        namespace: String,
        /// What makes one.
        command: String,
    },
    /// The configuration says otherwise.
    #[error("lease: the store at {address} was made with {}, and {} is configured; take the setting out, or write {}", shown_span(*.found), shown_span(*.configured), shown_span(*.found))]
    Lease {
        /// Its address.
        address: String,
        /// What stands in the store.
        found: Duration,
        /// What the settings say.
        configured: Duration,
    },
    /// It could not be told where it stands.
    #[error("{address}: {source}")]
    Store {
        /// Its address.
        address: String,
        /// Why.
        source: StoreError,
    },
    /// What is in it cannot be served.
    #[error("the fleet's store at {address}: {source}")]
    Join {
        /// Its address.
        address: String,
        /// Why.
        source: JoinError,
    },
}

/// What lies behind the listeners.
pub(super) struct Core {
    pub(super) parts: Arc<Parts>,
    pub(super) checks: CheckMetrics,
    pub(super) checker: Checker,
    pub(super) fleet: Arc<Fleet>,
    pub(super) management: Arc<Management>,
    /// The file of the root token is there, but what it holds is no credential any more.
    pub(super) root_token_is_dead: bool,
}

/// A store, and what follows it.
struct Opened {
    store: Arc<dyn Store>,
    keyring: Keyring,
    lease: Arc<Lease>,
    fleet: Fleet,
    /// It was made just now.
    is_new: bool,
}

/// The store, as the ready line names it.
pub(super) fn store_line(settings: &Settings) -> String {
    match &settings.redis {
        None => format!("{} (embedded)", settings.data_dir.display()),
        Some(redis) => format!("{} (redis, namespace {})", redis.address, redis.namespace),
    }
}

/// Opens the store and reads it. `command` is how this program was called.
pub(super) async fn start(
    settings: &Settings,
    directory: &DataDirectory,
    command: &str,
) -> Result<Core, ServeError> {
    let clock = Arc::new(SystemClock::new());
    let opened = match &settings.redis {
        None => open_embedded(settings, directory, &clock).await?,
        Some(redis) => open_shared(redis, settings, directory, &clock, command).await?,
    };
    let Opened {
        store,
        keyring,
        lease,
        fleet,
        is_new,
    } = opened;
    let fleet = Arc::new(fleet);
    let verify = Arc::new(VerifyPool::new(tokio::runtime::Handle::current())?);
    let parts = Arc::new(Parts {
        keyring: keyring.clone(),
        lease,
        clock: clock.clone(),
        verify,
        catch_up: fleet.clone(),
    });
    let checks = CheckMetrics::default();
    let checker = Checker::new(parts.clone(), checks.recorder());
    let management = Arc::new(Management::new(store, keyring, fleet.clone(), clock));
    let root_token_is_dead = judge_roots(settings, directory, is_new, &checker).await;
    Ok(Core {
        parts,
        checks,
        checker,
        fleet,
        management,
        root_token_is_dead,
    })
}

async fn open_embedded(
    settings: &Settings,
    directory: &DataDirectory,
    clock: &SystemClock,
) -> Result<Opened, ServeError> {
    // A fleet's replica that lost its settings would be a fleet of its own, and take the root token's place.
    if directory.fleet_mark_file().exists() {
        return Err(BootstrapError::OfFleet(directory.path().to_owned()).into());
    }
    let path = directory.path().to_owned();
    let opened = tokio::task::spawn_blocking(move || EmbeddedStore::open(&path));
    let store: Arc<dyn Store> = Arc::new(opened.await.map_err(io::Error::other)??);
    let chosen_root = settings.root_token.as_ref().map(RootToken::native);
    let now = clock.now().wall;
    let is_new = bootstrap::initialise(&*store, directory, chosen_root, now).await?;
    let writer = KeyringWriter::new();
    let keyring = writer.reader();
    let lease = Arc::new(Lease::unlimited());
    let fleet = Fleet::alone(&*store, settings.name.clone(), writer, lease.clone()).await?;
    Ok(Opened {
        store,
        keyring,
        lease,
        fleet,
        is_new,
    })
}

/// Becomes a replica of a fleet. Nothing is made here: a fleet's store that is missing was lost, or was never there, and in
/// neither case is an empty one the answer.
async fn open_shared(
    redis: &RedisSettings,
    settings: &Settings,
    directory: &DataDirectory,
    clock: &Arc<SystemClock>,
    command: &str,
) -> Result<Opened, FleetError> {
    let address = || redis.address.to_string();
    let not_made = || FleetError::NotMade {
        address: address(),
        namespace: redis.namespace.clone(),
        command: fleet_store::init_command(command, redis, &settings.data_dir),
    };
    if directory.store_file().exists() {
        tracing::warn!(
            "the store in {} is not served: {} is",
            directory.path().display(),
            address()
        );
    }
    let found = async {
        let store = match RedisStore::connect(redis, &settings.name).await {
            Ok(store) => store,
            Err(RedisStartError::NotMade { .. }) => return Err(not_made()),
            Err(error) => return Err(FleetError::Redis(error)),
        };
        let standing = store.standing().await.map_err(|source| {
            let address = address();
            FleetError::Store { address, source }
        })?;
        Ok((store, standing))
    };
    let found = tokio::time::timeout(FOUND_WITHIN, found).await;
    let (store, standing) =
        found.map_err(|_| FleetError::Silent(fleet_store::silence(&redis.address)))??;
    if !is_begun(&standing) {
        return Err(not_made());
    }
    if let Some(configured) = settings.lease
        && configured != standing.lease
    {
        return Err(FleetError::Lease {
            address: address(),
            found: standing.lease,
            configured,
        });
    }
    let store = Arc::new(store);
    let writer = KeyringWriter::new();
    let keyring = writer.reader();
    let lease = Arc::new(Lease::none());
    let mark = directory.fleet_mark_file();
    let fleet = Fleet::among(store.clone(), writer, lease.clone(), clock.clone(), mark);
    let fleet = fleet.await.map_err(|source| {
        let address = address();
        FleetError::Join { address, source }
    })?;
    Ok(Opened {
        store,
        keyring,
        lease,
        fleet,
        is_new: false,
    })
}

/// Warns of a root token that is given and opens nothing. True if that is the one in the data directory.
async fn judge_roots(
    settings: &Settings,
    directory: &DataDirectory,
    is_new: bool,
    checker: &Checker,
) -> bool {
    let chosen_root = settings.root_token.as_ref().map(RootToken::native);
    if let Some(chosen) = chosen_root.filter(|_| !is_new) {
        let proved = checker
            .authenticate(Credential(chosen.expose()), None)
            .await;
        if !matches!(proved, Ok(Some(_))) {
            tracing::warn!(
                "PORTCULLIS_ROOT_TOKEN is no credential of this store; it counts only when a store is made"
            );
        }
    }
    let token_file = directory.root_token_file();
    let made_now = is_new && chosen_root.is_none();
    if made_now {
        return false;
    }
    let Ok(kept) = fs::read_to_string(&token_file) else {
        return false;
    };
    let proved = checker.authenticate(Credential(kept.trim()), None).await;
    let is_dead = matches!(proved, Ok(None));
    if is_dead {
        tracing::warn!(
            "{} opens nothing: its key is gone, disabled, reset, expired or limited to some addresses",
            token_file.display()
        );
    }
    is_dead
}
