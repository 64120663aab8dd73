//! `portcullis serve`: puts the parts together, runs them, and takes them down in order.

use std::{
    future::Future,
    io::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, UnixListener},
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};
use tonic::service::Routes;
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::HealthReporter,
};

use super::bind::{BindError, Bound, UnixSocket};
use crate::{
    admin::{
        bootstrap::{self, BootstrapError, DataDirectory},
        mutation::Management,
        ops::{Ops, Sources},
        server::AdminServices,
    },
    config::{ADMIN_SOCKET, DEFAULT_DATA_DIR, RootToken, Settings},
    fleet::Fleet,
    gate::{
        check_service::{CheckApi, WorkspaceChoice},
        checker::{Checker, Credential, Parts},
        clock::{Clock as _, SystemClock},
        keyring::KeyringWriter,
        lease::Lease,
        listener::{self, GateListener, GateServices},
        metrics::CheckMetrics,
        verify::VerifyPool,
    },
    proto,
    store::{Store, StoreError, embedded::EmbeddedStore},
    telemetry,
};

/// What is not answered by then is cut off.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);
/// How often the clock's steps and the lease's end are looked for.
const TICK: Duration = Duration::from_millis(100);

/// What the gate serves, and the admin listeners too.
const GATE_SERVICES: [&str; 1] = [proto::v1::check_service_server::SERVICE_NAME];
/// What only the admin listeners serve.
const ADMIN_SERVICES: [&str; 3] = [
    proto::v1::key_service_server::SERVICE_NAME,
    proto::v1::workspace_service_server::SERVICE_NAME,
    proto::v1::fleet_service_server::SERVICE_NAME,
];

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
    /// Calls were still open when the time to answer them was over.
    #[error("calls were still open after {} s and were cut off", DRAIN_LIMIT.as_secs())]
    Cut,
}

/// Serves until SIGTERM or SIGINT. `command` is how this program was called, for the hint on what to do next.
///
/// # Errors
/// If it cannot start, or does not end cleanly.
pub fn serve(settings: &Settings, command: &str) -> Result<(), ServeError> {
    // Sockets, store and token are nobody else's.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    telemetry::start(&settings.log)?;
    let runtime = Runtime::new()?;
    let ended = runtime.block_on(async {
        let stop = stop_signal()?;
        run(settings, command, stop).await
    });
    // Whatever a blocking thread still does, it does for nobody.
    runtime.shutdown_background();
    ended
}

fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
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
    let sockets = Sockets {
        gate: Bound::open("gate", &settings.listen.gate)?,
        admin: Bound::open("admin", &settings.listen.admin)?,
        admin_socket: UnixSocket::open("admin", &directory.path().join(ADMIN_SOCKET))?,
        ops: Bound::open("ops", &settings.listen.ops)?,
    };
    let ready_line = format!(
        "portcullis ready: check {}  admin {}  ops {}  store {} (embedded)",
        sockets.gate,
        sockets.admin,
        sockets.ops,
        settings.data_dir.display(),
    );

    let (begin_drain, shutdown) = watch::channel(false);
    let mut serving: JoinSet<Result<(), ServeError>> = JoinSet::new();
    let mut socket_files = Vec::new();

    let ops = Ops::default();
    serve_ops(
        sockets.ops,
        &ops,
        &shutdown,
        &mut serving,
        &mut socket_files,
    )?;

    let core = start_core(settings, &directory).await?;
    let (health, health_server) = tonic_health::server::health_reporter();
    let gate = GateSetup {
        checker: core.checker.clone(),
        checks: core.checks.clone(),
        // Strangers can reach a gate that is not local, so they must say whose keys they mean.
        workspace: if settings.listen.gate.is_local() {
            WorkspaceChoice::Default
        } else {
            WorkspaceChoice::Required
        },
        others: health_and_reflection(&health_server, &GATE_SERVICES),
    };
    serve_gate(
        sockets.gate,
        gate,
        &shutdown,
        &mut serving,
        &mut socket_files,
    );
    let admin = AdminServices {
        management: core.management.clone(),
        fleet: core.fleet.clone(),
        keyring: core.parts.keyring.clone(),
        checker: core.checker.clone(),
        others: health_and_reflection(
            &health_server,
            &[&GATE_SERVICES[..], &ADMIN_SERVICES].concat(),
        ),
    };
    serve_admin(
        sockets.admin,
        sockets.admin_socket,
        &admin,
        &shutdown,
        &mut serving,
        &mut socket_files,
    )?;

    set_health(&health, ServingStatus::Serving).await;
    ops.set_ready(Sources {
        checks: core.checks,
        parts: core.parts.clone(),
        management: core.management,
    });
    let watch_lease = tokio::spawn(watch_clock_and_lease(core.parts.clone(), health.clone()));
    print_ready(&ready_line, settings, &directory, command);

    let early = tokio::select! {
        () = stop => Ok(()),
        // None of them ends by itself unless it fails.
        Some(ended) = serving.join_next() => flatten(ended),
    };
    watch_lease.abort();
    set_health(&health, ServingStatus::NotServing).await;
    tracing::info!("draining: calls that were begun are answered");
    // Receivers are gone only if their tasks are, which is what is waited for.
    let _ = begin_drain.send(true);
    end_watches(health).await;
    let drained = tokio::time::timeout(DRAIN_LIMIT, async {
        let mut result = early;
        while let Some(ended) = serving.join_next().await {
            result = result.and(flatten(ended));
        }
        result
    });
    let result = drained.await.unwrap_or(Err(ServeError::Cut));
    drop(socket_files);
    tracing::info!("stopped");
    result
}

/// What lies behind the listeners.
struct Core {
    parts: Arc<Parts>,
    checks: CheckMetrics,
    checker: Checker,
    fleet: Arc<Fleet>,
    management: Arc<Management>,
}

async fn start_core(settings: &Settings, directory: &DataDirectory) -> Result<Core, ServeError> {
    let path = directory.path().to_owned();
    let opened = tokio::task::spawn_blocking(move || EmbeddedStore::open(&path));
    let store: Arc<dyn Store> = Arc::new(opened.await.map_err(io::Error::other)??);
    let clock = Arc::new(SystemClock::new());
    let chosen_root = settings.root_token.as_ref().map(RootToken::native);
    let is_new = bootstrap::initialise(&*store, directory, chosen_root, clock.now().wall).await?;

    let writer = KeyringWriter::new();
    let lease = Arc::new(Lease::unlimited());
    let keyring = writer.reader();
    let fleet = Arc::new(Fleet::join(&*store, settings.name.clone(), writer, lease.clone()).await?);
    let verify = Arc::new(VerifyPool::new(tokio::runtime::Handle::current())?);
    let parts = Arc::new(Parts {
        keyring: keyring.clone(),
        lease,
        clock: clock.clone(),
        verify,
    });
    let checks = CheckMetrics::default();
    let checker = Checker::new(parts.clone(), checks.recorder());
    let management = Arc::new(Management::new(store, keyring, fleet.clone(), clock));

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
    Ok(Core {
        parts,
        checks,
        checker,
        fleet,
        management,
    })
}

/// What a listener serves beside its own `services`: health, and reflection that tells of just these.
fn health_and_reflection(health: &HealthServer<impl Health>, services: &[&str]) -> Routes {
    // The descriptors are made by build.rs from the protos that these services were generated from.
    const BUILT_IN: &str = "the built-in descriptors are valid";
    let reflection = |own: &str| {
        // The last two are for clients that ask for health or print error details by reflection.
        let described = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .with_service_name(tonic_health::pb::health_server::SERVICE_NAME)
            .with_service_name(own);
        services
            .iter()
            .copied()
            .fold(described, |described, service| {
                described.with_service_name(service)
            })
    };
    let v1 = reflection(tonic_reflection::pb::v1::server_reflection_server::SERVICE_NAME);
    let v1alpha = reflection(tonic_reflection::pb::v1alpha::server_reflection_server::SERVICE_NAME);
    Routes::new(health.clone())
        .add_service(v1.build_v1().expect(BUILT_IN))
        .add_service(v1alpha.build_v1alpha().expect(BUILT_IN))
        .prepare()
}

/// Everything together, and each service.
fn health_names() -> impl Iterator<Item = &'static str> {
    [""].into_iter().chain(GATE_SERVICES).chain(ADMIN_SERVICES)
}

/// The overall status, and that of each service, since clients ask for either.
async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in health_names() {
        health.set_service_status(service, status).await;
    }
}

/// Ends the streams of those who watch health, once they have heard the last status: they are calls
/// that were begun and never end by themselves, so the drain would wait for them in vain.
async fn end_watches(mut health: HealthReporter) {
    for service in health_names() {
        health.clear_service_status(service).await;
    }
}

/// Follows the wall clock's steps, and tells health clients when the lease has run out.
async fn watch_clock_and_lease(parts: Arc<Parts>, health: HealthReporter) {
    let mut ticks = tokio::time::interval(TICK);
    let mut fenced = false;
    loop {
        ticks.tick().await;
        parts.clock.follow_steps();
        let fenced_now = parts.lease.deadline() <= parts.clock.now().boottime;
        if fenced_now != fenced {
            fenced = fenced_now;
            if fenced {
                tracing::error!("the lease ran out; this replica answers UNAVAILABLE");
            }
            let status = if fenced {
                ServingStatus::NotServing
            } else {
                ServingStatus::Serving
            };
            set_health(&health, status).await;
        }
    }
}

/// What each gate thread is given.
struct GateSetup {
    checker: Checker,
    checks: CheckMetrics,
    workspace: WorkspaceChoice,
    others: Routes,
}

type Serving = JoinSet<Result<(), ServeError>>;
type SocketFiles = Vec<super::bind::SocketFile>;

fn serve_gate(
    bound: Bound,
    setup: GateSetup,
    shutdown: &watch::Receiver<bool>,
    serving: &mut Serving,
    files: &mut SocketFiles,
) {
    let listener = match bound {
        Bound::Tcp(listener) => GateListener::Tcp(listener),
        Bound::Unix(UnixSocket { listener, guard }) => {
            files.push(guard);
            GateListener::Unix(listener)
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let services = move || GateServices {
        check: CheckApi::new(
            setup.checker.with_recorder(setup.checks.recorder()),
            setup.workspace,
        ),
        others: setup.others.clone(),
    };
    let shutdown = shutdown.clone();
    serving.spawn(async move { Ok(listener::run(listener, threads, services, shutdown).await?) });
}

fn serve_admin(
    bound: Bound,
    socket: UnixSocket,
    services: &AdminServices,
    shutdown: &watch::Receiver<bool>,
    serving: &mut Serving,
    files: &mut SocketFiles,
) -> Result<(), ServeError> {
    let mut serve_unix = |UnixSocket { listener, guard }| -> io::Result<()> {
        files.push(guard);
        let (listener, services, shutdown) = (
            UnixListener::from_std(listener)?,
            services.clone(),
            shutdown.clone(),
        );
        serving.spawn(async move {
            services
                .run_unix(listener, shutdown)
                .await
                .map_err(listener_failed)
        });
        Ok(())
    };
    serve_unix(socket)?;
    match bound {
        Bound::Unix(socket) => serve_unix(socket)?,
        Bound::Tcp(listener) => {
            let (listener, services, shutdown) = (
                TcpListener::from_std(listener)?,
                services.clone(),
                shutdown.clone(),
            );
            serving.spawn(async move {
                services
                    .run_tcp(listener, shutdown)
                    .await
                    .map_err(listener_failed)
            });
        }
    }
    Ok(())
}

fn serve_ops(
    bound: Bound,
    ops: &Ops,
    shutdown: &watch::Receiver<bool>,
    serving: &mut Serving,
    files: &mut SocketFiles,
) -> Result<(), ServeError> {
    let routes = ops.routes();
    let mut shutdown = shutdown.clone();
    let stop = async move {
        let _ = shutdown.wait_for(|&stop| stop).await;
    };
    match bound {
        Bound::Tcp(listener) => {
            let listener = TcpListener::from_std(listener)?;
            serving.spawn(async move {
                Ok(axum::serve(listener, routes)
                    .with_graceful_shutdown(stop)
                    .await?)
            });
        }
        Bound::Unix(UnixSocket { listener, guard }) => {
            files.push(guard);
            let listener = UnixListener::from_std(listener)?;
            serving.spawn(async move {
                Ok(axum::serve(listener, routes)
                    .with_graceful_shutdown(stop)
                    .await?)
            });
        }
    }
    Ok(())
}

fn listener_failed(error: impl std::error::Error) -> ServeError {
    ServeError::Listener(error.to_string())
}

fn flatten(
    ended: Result<Result<(), ServeError>, tokio::task::JoinError>,
) -> Result<(), ServeError> {
    ended.unwrap_or_else(|error| Err(listener_failed(error)))
}

/// One plain line, whatever the log format, and one on what to do next.
fn print_ready(ready_line: &str, settings: &Settings, directory: &DataDirectory, command: &str) {
    let token_file = directory.root_token_file();
    let root = if token_file.exists() {
        token_file.display().to_string()
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
