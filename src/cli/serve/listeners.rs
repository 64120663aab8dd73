//! Runs the listeners, and takes them down.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
    task::{JoinError, JoinSet},
};
use tonic::service::Routes;

use super::{
    super::bind::{Bound, SocketFile, UnixSocket},
    ServeError,
    health::Health,
};
use crate::{
    admin::{ops::Ops, server::AdminServices},
    config::EnvoySettings,
    gate::{
        callers::CallerMap,
        calls::Calls,
        check_service::{CheckApi, WorkspaceChoice},
        checker::Checker,
        envoy::EnvoyApi,
        listener::{self, Entry, GateListener, GateServices, MOST_CONNECTIONS, SHARE_OF_FILES},
        metrics::CheckMetrics,
        wire::Wire,
    },
    tls::Tls,
};

/// Calls that are not answered by then are cut off.
pub(super) const DRAIN_LIMIT: Duration = Duration::from_secs(30);
/// Once no call has been open for this long, connections that are still there belong to peers that do not answer.
const SILENCE: Duration = Duration::from_secs(2);

/// What each gate thread is given.
pub(super) struct GateSetup {
    pub(super) checker: Checker,
    pub(super) checks: CheckMetrics,
    pub(super) workspace: WorkspaceChoice,
    pub(super) envoy: Arc<EnvoySettings>,
    pub(super) others: Routes,
    pub(super) entry: Entry,
}

/// The listeners that run.
pub(super) struct Running {
    tasks: JoinSet<Result<(), ServeError>>,
    shutdown: watch::Sender<bool>,
    calls: Calls,
    gate: Wire,
    files: Vec<SocketFile>,
}

impl Default for Running {
    fn default() -> Self {
        Self {
            tasks: JoinSet::new(),
            shutdown: watch::Sender::new(false),
            calls: Calls::default(),
            gate: Wire::new(MOST_CONNECTIONS, SHARE_OF_FILES),
            files: Vec::new(),
        }
    }
}

impl Running {
    /// The calls that are open.
    pub(super) fn calls(&self) -> Calls {
        self.calls.clone()
    }

    /// The connections of the gate.
    pub(super) fn gate(&self) -> Wire {
        self.gate.clone()
    }

    /// Starts the gate.
    pub(super) fn serve_gate(&mut self, bound: Bound, setup: GateSetup) {
        let listener = match bound {
            Bound::Tcp(listener) => GateListener::Tcp(listener),
            Bound::Unix(socket) => GateListener::Unix(self.keep_file(socket)),
        };
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let calls = self.calls.clone();
        let services = move || GateServices {
            check: CheckApi::new(
                setup.checker.with_recorder(setup.checks.recorder()),
                setup.workspace,
            ),
            envoy: EnvoyApi::new(
                setup.checker.with_recorder(setup.checks.recorder()),
                setup.envoy.clone(),
            ),
            others: setup.others.clone(),
            calls: calls.lane(),
            entry: setup.entry.clone(),
        };
        let (wire, shutdown) = (self.gate.clone(), self.shutdown.subscribe());
        self.tasks.spawn(async move {
            listener::run(listener, threads, services, wire, shutdown).await?;
            Ok(())
        });
    }

    /// Starts an admin listener.
    pub(super) fn serve_admin(&mut self, bound: Bound, services: &AdminServices) -> io::Result<()> {
        let services = services.clone();
        let shutdown = self.shutdown.subscribe();
        match bound {
            Bound::Tcp(listener) => {
                let listener = TcpListener::from_std(listener)?;
                let served = services.run_tcp(listener, shutdown);
                self.tasks
                    .spawn(async move { served.await.map_err(listener_failed) });
            }
            Bound::Unix(socket) => {
                let listener = UnixListener::from_std(self.keep_file(socket))?;
                let served = services.run_unix(listener, shutdown);
                self.tasks
                    .spawn(async move { served.await.map_err(listener_failed) });
            }
        }
        Ok(())
    }

    /// Starts an admin listener over TLS. A Unix socket has none.
    pub(super) fn serve_admin_tls(
        &mut self,
        bound: Bound,
        services: &AdminServices,
        tls: Arc<Tls>,
        callers: CallerMap,
    ) -> io::Result<()> {
        let listener = match bound {
            Bound::Tcp(listener) => TcpListener::from_std(listener)?,
            unix @ Bound::Unix(_) => return self.serve_admin(unix, services),
        };
        let shutdown = self.shutdown.subscribe();
        let served = services.clone().run_tls(listener, tls, callers, shutdown);
        self.tasks
            .spawn(async move { served.await.map_err(listener_failed) });
        Ok(())
    }

    /// Starts the ops listener.
    pub(super) fn serve_ops(&mut self, bound: Bound, ops: &Ops) -> io::Result<()> {
        let routes = ops.routes();
        let mut shutdown = self.shutdown.subscribe();
        let stop = async move {
            // A sender that is gone means the same.
            let _ = shutdown.wait_for(|&stop| stop).await;
        };
        match bound {
            Bound::Tcp(listener) => {
                let listener = TcpListener::from_std(listener)?;
                let served = axum::serve(listener, routes).with_graceful_shutdown(stop);
                self.tasks.spawn(async move { Ok(served.await?) });
            }
            Bound::Unix(socket) => {
                let listener = UnixListener::from_std(self.keep_file(socket))?;
                let served = axum::serve(listener, routes).with_graceful_shutdown(stop);
                self.tasks.spawn(async move { Ok(served.await?) });
            }
        }
        Ok(())
    }

    fn keep_file(
        &mut self,
        UnixSocket { listener, guard }: UnixSocket,
    ) -> std::os::unix::net::UnixListener {
        self.files.push(guard);
        listener
    }

    /// Returns when a listener has ended, which none does before the drain unless it fails.
    pub(super) async fn first_to_end(&mut self) -> Result<(), ServeError> {
        match self.tasks.join_next().await {
            Some(ended) => flatten(ended),
            None => Ok(()),
        }
    }

    /// Accepts no more, and returns once the calls that were begun are answered.
    pub(super) async fn drain(mut self, health: Health) -> Result<(), ServeError> {
        // Receivers are gone only if their tasks are, which is what is waited for.
        let _ = self.shutdown.send(true);
        health.end_watches().await;
        let calls = self.calls.clone();
        let ended = async {
            let mut result = Ok(());
            while let Some(ended) = self.tasks.join_next().await {
                result = result.and(flatten(ended));
            }
            result
        };
        // The files of the sockets go after this, with the rest of `self`.
        tokio::select! {
            result = ended => result,
            // A peer that never said a word, or says none any more, does not hold up the end.
            () = calls.silent_for(SILENCE) => Ok(()),
            () = tokio::time::sleep(DRAIN_LIMIT) => Err(ServeError::Cut),
        }
    }
}

fn listener_failed(error: impl std::error::Error) -> ServeError {
    ServeError::Listener(error.to_string())
}

fn flatten(ended: Result<Result<(), ServeError>, JoinError>) -> Result<(), ServeError> {
    ended.unwrap_or_else(|error| Err(listener_failed(error)))
}
