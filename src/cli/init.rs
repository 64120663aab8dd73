//! `portcullis init`.

use std::fs;

use super::{
    Outcome,
    console::{Console, clean},
    failure::Failure,
    fleet_store::{FOUND_WITHIN, is_begun, serve_command, silence},
};
use crate::{
    admin::bootstrap::{self, BootstrapError, DataDirectory},
    config::{
        DEFAULT_LEASE, InitFlags, RedisSettings, RootToken, ServeFlags, Settings, shown_span,
    },
    fleet::Fleet,
    gate::clock::{Clock as _, SystemClock},
    store::{
        redis::{RedisStartError, RedisStore},
        shared::{SharedError, SharedStore as _, Standing},
    },
};

pub(super) const HELP: &str = "\
Run it once for a fleet; then start each replica with `serve` and the same --redis. The token of the root credential is
written to root.token in the data directory, or is taken from PORTCULLIS_ROOT_TOKEN. The store of a single process needs no
`init`: `serve` makes it.

A store that is there already is left as it is.

Example:
  portcullis init --redis redis://127.0.0.1:6379 --data-dir ./data --lease 15s";

pub(super) async fn run(flags: InitFlags, console: &mut Console<'_>) -> Result<Outcome, Failure> {
    // The token and its directory are nobody else's.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let flags = ServeFlags::from(flags);
    let settings = Settings::resolve(&flags, console.env, &|path| fs::read_to_string(path))?;
    let Some(redis) = &settings.redis else {
        return Err(Failure::Usage(
            "init makes the store of a fleet; name its Redis, as --redis redis://127.0.0.1:6379. The store of a single \
             process needs no init: `serve` makes it"
                .into(),
        ));
    };
    let directory = DataDirectory::open(&settings.data_dir).map_err(failed)?;
    let begun = tokio::time::timeout(FOUND_WITHIN, begin(&settings, redis, &directory)).await;
    let (store, standing) = begun.map_err(|_| Failure::Failed(silence(&redis.address)))??;
    let made = if is_begun(&standing) {
        Made::Before
    } else {
        complete(&settings, &store, standing.clone(), &directory).await?
    };
    tell(&made, &settings, redis, &standing, &directory, console)?;
    Ok(Outcome::Done)
}

/// Whose work the store is.
enum Made {
    Now,
    Before,
    /// By another `init`, at the same time.
    Meanwhile,
}

/// Opens the store, and makes it if there is none and the data directory is free for it.
async fn begin(
    settings: &Settings,
    redis: &RedisSettings,
    directory: &DataDirectory,
) -> Result<(RedisStore, Standing), Failure> {
    let is_known = directory.fleet_mark_file().exists();
    let token_in_the_way = settings.root_token.is_none() && directory.root_token_file().exists();
    let store = if is_known || token_in_the_way {
        match RedisStore::connect(redis, &settings.name).await {
            Err(RedisStartError::NotMade { .. }) if is_known => {
                return Err(Failure::Failed(format!(
                    "the data directory {} is of a replica of another store than the one to be made (it holds {}); choose \
                     another --data-dir",
                    shown(directory),
                    bootstrap::FLEET_MARK_FILE
                )));
            }
            Err(RedisStartError::NotMade { .. }) => return Err(in_the_way(directory)),
            opened => opened.map_err(failed)?,
        }
    } else {
        let lease = settings.lease.unwrap_or(DEFAULT_LEASE);
        let made = RedisStore::make(redis, &settings.name, lease).await;
        made.map_err(failed)?.0
    };
    let standing = store.standing().await.map_err(failed)?;
    if is_known {
        claim(directory, &standing).await?;
    } else if token_in_the_way && !is_begun(&standing) {
        return Err(in_the_way(directory));
    }
    Ok((store, standing))
}

/// Gives a store that has none its first records.
async fn complete(
    settings: &Settings,
    store: &RedisStore,
    mut standing: Standing,
    directory: &DataDirectory,
) -> Result<Made, Failure> {
    // From here on the token in the directory is known to be this store's, whenever this ends.
    claim(directory, &standing).await?;
    let clock = SystemClock::new();
    if standing.server != standing.history.server {
        // An earlier `init` ended half-way, and Redis was restarted since.
        match store.open_epoch(&standing, clock.now().wall).await {
            Ok(()) | Err(SharedError::OtherHistory(_)) => {}
            Err(error) => return Err(failed(error)),
        }
        standing = store.standing().await.map_err(failed)?;
    }
    store.adopt(standing.history);
    let chosen_root = settings.root_token.as_ref().map(RootToken::native);
    let written = bootstrap::write_first(store, directory, chosen_root, clock.now().wall).await;
    match written {
        Ok(true) => Ok(Made::Now),
        Ok(false) => Ok(Made::Meanwhile),
        Err(error @ BootstrapError::Commit(_)) => Err(Failure::Failed(format!(
            "{error}\nhint: run it again; a store that is there by then is left as it is"
        ))),
        Err(error) => Err(failed(error)),
    }
}

async fn claim(directory: &DataDirectory, standing: &Standing) -> Result<(), Failure> {
    let claimed = Fleet::claim(directory.fleet_mark_file(), &standing.history.store).await;
    claimed.map_err(|error| {
        Failure::Failed(format!(
            "the data directory {} is of a replica of another store: {error}",
            shown(directory)
        ))
    })
}

fn tell(
    made: &Made,
    settings: &Settings,
    redis: &RedisSettings,
    standing: &Standing,
    directory: &DataDirectory,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let store = format!(
        "{} (redis, namespace {}, lease {})",
        redis.url(),
        redis.namespace,
        shown_span(standing.lease)
    );
    match made {
        Made::Now => writeln!(console.out, "made the store {store}")?,
        Made::Before => writeln!(
            console.out,
            "the store is there already, and nothing was changed: {store}"
        )?,
        Made::Meanwhile => writeln!(
            console.out,
            "another `init` made the store just now, and its root credential counts: {store}"
        )?,
    }
    if let Some(wanted) = settings.lease
        && wanted != standing.lease
    {
        console.out.flush()?;
        console.notice(&format!(
            "note: the store's lease is {} and stays so: it is chosen once, when the store is made",
            shown_span(standing.lease)
        ));
    }
    let root = if matches!(made, Made::Now) && settings.root_token.is_some() {
        "the one in PORTCULLIS_ROOT_TOKEN".to_owned()
    } else if directory.root_token_file().exists() {
        clean(&directory.root_token_file().display().to_string())
    } else {
        "not kept on this machine".to_owned()
    };
    writeln!(console.out, "root token: {root}")?;
    let command = serve_command(console.command_name, redis, &settings.data_dir);
    writeln!(
        console.out,
        "next, for each replica: {}\neach needs a --data-dir of its own, and a --gate, --admin and --ops where they share a \
         machine",
        clean(&command)
    )?;
    Ok(())
}

fn in_the_way(directory: &DataDirectory) -> Failure {
    let whose = if directory.store_file().exists() {
        "the embedded store there"
    } else {
        "another store"
    };
    Failure::Failed(format!(
        "{} holds the root token of {whose}, and is not overwritten; choose another --data-dir",
        clean(&directory.root_token_file().display().to_string())
    ))
}

fn shown(directory: &DataDirectory) -> String {
    clean(&directory.path().display().to_string())
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(error.to_string())
}
