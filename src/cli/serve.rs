//! `portcullis serve`: puts the parts together, runs them, and takes them down in order.

mod behind;
mod health;
mod listeners;

use std::{
    future::Future,
    io::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};
use tonic_health::ServingStatus;

use self::{
    health::Health,
    listeners::{GateSetup, Running},
};
use super::bind::{BindError, Bound, UnixSocket};
use crate::{
    admin::{
        bootstrap::{BootstrapError, DataDirectory},
        ops::{Ops, Sources},
        server::{AdminServices, MOST_CONNECTIONS, SHARE_OF_FILES},
    },
    config::{ADMIN_SOCKET, DEFAULT_DATA_DIR, ListenSettings, Settings},
    gate::{
        callers::{CallerMap, Guard, Refusals},
        check_service::WorkspaceChoice,
        checker::Parts,
        clock::Clock as _,
        listener::Entry,
        wire::{Wire, raise_file_limit},
    },
    store::StoreError,
    telemetry,
    tls::{Tls, TlsFiles},
};

/// How long closing the store may take. One that is not closed is repaired at the next start.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// How often the clock's steps and the lease's end are looked for.
const TICK: Duration = Duration::from_millis(100);

/// Why the server ended otherwise than by a signal.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A socket could not be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The data directory or the store could not be made ready.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The files of a listener's TLS cannot be used.
    #[error("{listener}: {why}")]
    Tls {
        /// Which listener.
        listener: &'static str,
        /// Why.
        why: String,
    },
    /// The log filter could not be parsed.
    #[error("log filter: {0}")]
    Log(#[from] tracing_subscriber::filter::ParseError),
    /// The system refused something else.
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
    /// The system has no randomness.
    #[error("the system gave no randomness: {0}")]
    Randomness(#[from] getrandom::Error),
    /// A listener failed while serving.
    #[error("a listener failed: {0}")]
    Listener(String),
    /// The fleet's store cannot be used.
    #[error(transparent)]
    Fleet(#[from] behind::FleetError),
    /// Calls were still open when the time to answer them was over.
    #[error("calls were still open after {} s and were cut off", listeners::DRAIN_LIMIT.as_secs())]
    Cut,
}

/// Serves until SIGTERM, SIGINT or SIGHUP. `command` is how this program was called, for the hint on what to do next.
///
/// # Errors
/// If it cannot start, or does not end cleanly.
pub fn serve(settings: &Settings, command: &str) -> Result<(), ServeError> {
    // Sockets, store and token are nobody else's.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    telemetry::start(&settings.log)?;
    raise_file_limit();
    let runtime = Runtime::new()?;
    let ended = runtime.block_on(async {
        let stop = stop_signal()?;
        run(settings, command, stop).await
    });
    // Connections that are still there hold the store. They are dropped here, so that it is closed and the next start has
    // nothing to repair.
    runtime.shutdown_timeout(CLOSE_LIMIT);
    ended
}

fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // The terminal that it was started from was closed.
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}

/// All sockets, opened before anything else so that a taken port is told at once.
struct Sockets {
    gate: Bound,
    admin: Bound,
    admin_socket: UnixSocket,
    ops: Bound,
}

async fn run(
    settings: &Settings,
    command: &str,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let directory = DataDirectory::open(&settings.data_dir)?;
    let gate_tls = open_tls("gate", settings.listen.gate_tls.as_ref())?;
    let admin_tls = open_tls("admin", settings.listen.admin_tls.as_ref())?;
    let sockets = Sockets {
        gate: Bound::open_for("gate", &settings.listen.gate, settings.listen.gate_socket)?,
        admin: Bound::open("admin", &settings.listen.admin)?,
        admin_socket: UnixSocket::open("admin", &directory.path().join(ADMIN_SOCKET))?,
        ops: Bound::open("ops", &settings.listen.ops)?,
    };
    let ready_line = format!(
        "portcullis ready: check {}  admin {}  ops {}  store {}",
        sockets.gate,
        sockets.admin,
        sockets.ops,
        behind::store_line(settings),
    );

    warn_of_strangers(&settings.listen);
    let mut running = Running::default();
    let ops = Ops::default();
    running.serve_ops(sockets.ops, &ops)?;

    let core = behind::start(settings, &directory, command).await?;
    let fleet = core.fleet.clone();
    let served = async {
        let (health, others) = Health::new();
        let callers = CallerMap::new(&settings.callers);
        let refusals = Arc::new(Refusals::default());
        let guard = Guard::new(core.checker.clone(), refusals.clone());
        let gate = GateSetup {
            checker: core.checker.clone(),
            checks: core.checks.clone(),
            // Strangers can reach a gate that is not local, so they must say whose keys they mean.
            workspace: if settings.listen.gate.is_local() {
                WorkspaceChoice::Default
            } else {
                WorkspaceChoice::Required
            },
            envoy: Arc::new(settings.envoy.clone()),
            others: others.gate,
            entry: Entry {
                tls: gate_tls.clone(),
                guard: settings.listen.gate_asks_callers().then_some(guard),
                callers: callers.clone(),
            },
        };
        running.serve_gate(sockets.gate, gate);
        let admin = AdminServices {
            management: core.management.clone(),
            fleet: core.fleet.clone(),
            keyring: core.parts.keyring.clone(),
            checker: core.checker.clone(),
            others: others.admin,
            calls: running.calls(),
            wire: Wire::new(MOST_CONNECTIONS, SHARE_OF_FILES),
        };
        let wires = [("gate", running.gate()), ("admin", admin.wire.clone())];
        running.serve_admin(Bound::Unix(sockets.admin_socket), &admin)?;
        match admin_tls.clone() {
            Some(tls) => running.serve_admin_tls(sockets.admin, &admin, tls, callers)?,
            None => running.serve_admin(sockets.admin, &admin)?,
        }
        let tls: Vec<_> = gate_tls.into_iter().chain(admin_tls).collect();
        for tls in &tls {
            tokio::spawn(tls.clone().follow());
        }

        health.set(ServingStatus::Serving).await;
        ops.set_ready(Sources {
            checks: core.checks,
            parts: core.parts.clone(),
            management: core.management,
            wires,
            tls,
            refusals,
        });
        let watch_lease = tokio::spawn(watch_clock_and_lease(core.parts, health.clone()));
        print_ready(
            &ready_line,
            settings,
            &directory,
            core.root_token_is_dead,
            command,
        );

        let early = tokio::select! {
            () = stop => Ok(()),
            ended = running.first_to_end() => ended,
        };
        watch_lease.abort();
        health.set(ServingStatus::NotServing).await;
        tracing::info!("draining: calls that were begun are answered");
        let drained = running.drain(health).await;
        early.and(drained)
    };
    let served = served.await;
    // However it ended, nobody has to wait for this replica any more.
    fleet.leave().await;
    tracing::info!("stopped");
    served
}

fn open_tls(
    listener: &'static str,
    files: Option<&TlsFiles>,
) -> Result<Option<Arc<Tls>>, ServeError> {
    let opened = files.map(|files| Tls::open(listener, files.clone()));
    opened
        .transpose()
        .map_err(|why| ServeError::Tls { listener, why })
}

/// An operator who opened a listener on purpose is reminded of it at each start.
fn warn_of_strangers(listen: &ListenSettings) {
    let gate = &listen.gate;
    if !gate.is_local() && !listen.gate_asks_callers() {
        tracing::warn!(address = %gate, "the gate can be reached from beyond this machine and asks nobody who they are");
    }
    if !gate.is_local() && listen.gate_tls.is_none() {
        tracing::warn!(address = %gate, "credentials travel unencrypted to the gate");
    }
    if !listen.admin.is_local() && listen.admin_tls.is_none() {
        tracing::warn!(address = %listen.admin, "admin credentials travel unencrypted to the admin listener");
    }
}

/// Follows the wall clock's steps, and tells health clients when the lease has run out.
async fn watch_clock_and_lease(parts: Arc<Parts>, health: Health) {
    let mut ticks = tokio::time::interval(TICK);
    let mut fenced = false;
    loop {
        ticks.tick().await;
        parts.clock.follow_steps();
        let fenced_now = parts.lease.deadline() <= parts.clock.now().boottime;
        if fenced_now != fenced {
            fenced = fenced_now;
            let status = if fenced {
                tracing::error!("the lease ran out; this replica answers UNAVAILABLE");
                ServingStatus::NotServing
            } else {
                tracing::info!("the lease runs again; this replica answers");
                ServingStatus::Serving
            };
            health.set(status).await;
        }
    }
}

/// One plain line, whatever the log format, and one on what to do next.
fn print_ready(
    ready_line: &str,
    settings: &Settings,
    directory: &DataDirectory,
    root_token_is_dead: bool,
    command: &str,
) {
    let token_file = directory.root_token_file();
    let root = if token_file.exists() {
        let dead = if root_token_is_dead {
            " (no longer valid)"
        } else {
            ""
        };
        format!("{}{dead}", token_file.display())
    } else if settings.redis.is_some() {
        "not kept on this machine".to_owned()
    } else {
        "not kept in a file".to_owned()
    };
    let elsewhere = match settings.data_dir.to_str() {
        Some(DEFAULT_DATA_DIR) => String::new(),
        _ => format!(" --data-dir {}", settings.data_dir.display()),
    };
    let mut out = io::stdout().lock();
    // A closed standard output is no reason not to serve.
    let _ = writeln!(
        out,
        "{ready_line}\nroot token: {root}      next: {command} key create --name first{elsewhere}     (or grpcurl, see README)"
    );
    let _ = out.flush();
}
