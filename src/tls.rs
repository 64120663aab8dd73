//! TLS of the listeners, and of the command line.
//!
//! A listener's certificate, key and client authorities are files, looked at every few seconds: what replaces them is in
//! force without a restart. Who a peer is, is said by the names in its certificate and by nothing else.

mod client;
mod files;
mod identity;
mod material;
mod validity;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use self::files::{Look, Watch};
use crate::telemetry::Seldom;

pub use client::{ClientFiles, ClientTls, explain};
pub use files::TlsFiles;
pub use identity::{CallerName, PeerIdentity};
pub use material::{Material, Part, Unusable};

/// A peer that has not finished its handshake by then is cut off.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// A connection made before the last change of the files is told to go. Past this it is cut off: a peer whose authority
/// was removed does not stay by not listening.
pub const RETIRE_LIMIT: Duration = Duration::from_secs(30);
/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(2);

/// TLS of one listener, with what is in force of its files.
pub struct Tls {
    listener: &'static str,
    files: TlsFiles,
    loaded: ArcSwap<Loaded>,
    generation: watch::Sender<u64>,
    watch: std::sync::Mutex<Watch>,
    reloaded: AtomicU64,
    refused: AtomicU64,
    broken: AtomicU64,
    told: Seldom,
}

/// What the files held when they were last found good.
struct Loaded {
    config: Arc<ServerConfig>,
    /// How often that had changed before.
    generation: u64,
    not_after: Option<i64>,
}

/// Counters and state of one listener's TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsTotals {
    /// The listener.
    pub listener: &'static str,
    /// Changes of the files that were taken into force.
    pub reloaded: u64,
    /// Changes that were not, because something is wrong with them.
    pub refused: u64,
    /// Handshakes that came to nothing.
    pub broken_handshakes: u64,
    /// When the certificate in force expires, in seconds since 1970.
    pub not_after: Option<i64>,
}

/// A connection past its handshake.
pub struct Accepted<S> {
    /// What was a stream of bytes, encrypted.
    pub stream: TlsStream<S>,
    /// Whom the peer's certificate names; `None`: it showed none.
    pub identity: Option<PeerIdentity>,
    /// Tells when the files have changed since.
    pub retired: Retired,
}

/// Tells when a connection was made under files that are no longer in force.
pub struct Retired {
    made_under: u64,
    generation: watch::Receiver<u64>,
}

impl Retired {
    /// Returns once the files have changed since the connection was made.
    pub async fn wait(&mut self) {
        let made_under = self.made_under;
        let changed = self.generation.wait_for(|&now| now != made_under);
        let is_gone = changed.await.is_err();
        if is_gone {
            // Nobody looks at the files any more, so they do not change.
            std::future::pending::<()>().await;
        }
    }
}

impl Tls {
    /// TLS of the listener called `listener`, from `files`.
    ///
    /// # Errors
    /// If the files cannot be read, or do not make TLS together.
    pub fn open(listener: &'static str, files: TlsFiles) -> Result<Arc<Self>, String> {
        let contents = files.read()?;
        let material = contents
            .material()
            .map_err(|unusable| files.explain(&unusable))?;
        let watch = Watch::new(contents.digest());
        let loaded = Loaded {
            config: material.config,
            generation: 0,
            not_after: material.not_after,
        };
        Ok(Arc::new(Self {
            listener,
            files,
            loaded: ArcSwap::from_pointee(loaded),
            generation: watch::Sender::new(0),
            watch: std::sync::Mutex::new(watch),
            reloaded: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            told: Seldom::default(),
        }))
    }

    /// Shakes hands, within [`HANDSHAKE_LIMIT`]. `None`: it came to nothing, which is counted and now and then told.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> Option<Accepted<S>> {
        // The files may change during the handshake. It is then known to be one under the old ones.
        let loaded = self.loaded.load_full();
        let acceptor = TlsAcceptor::from(loaded.config.clone());
        let why = match timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let leaf = stream.get_ref().1.peer_certificates();
                let leaf = leaf.and_then(<[_]>::first);
                return Some(Accepted {
                    identity: leaf.map(PeerIdentity::of),
                    stream,
                    retired: Retired {
                        made_under: loaded.generation,
                        generation: self.generation.subscribe(),
                    },
                });
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the peer did not finish it in time".to_owned(),
        };
        self.broken.fetch_add(1, Ordering::Relaxed);
        if let Some(more) = self.told.due() {
            let listener = self.listener;
            tracing::warn!(listener, error = %why, since_last_told = more, "a TLS handshake failed");
        }
        None
    }

    /// Tells when the files change from now on.
    #[must_use]
    pub fn changes(&self) -> Retired {
        let generation = self.generation.subscribe();
        let made_under = *generation.borrow();
        Retired {
            made_under,
            generation,
        }
    }

    /// Looks at the files for as long as it is polled, and puts in force what has replaced them.
    pub async fn follow(self: Arc<Self>) {
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let tls = self.clone();
            // A file system may hang, and nothing else must with it. A panic is a look that saw nothing.
            let _ = tokio::task::spawn_blocking(move || tls.look()).await;
        }
    }

    /// Looks at the files once.
    fn look(&self) {
        let found = self.files.read();
        let digest = match &found {
            Ok(contents) => contents.digest(),
            Err(why) => files::digest_of_failure(why),
        };
        let seen = self
            .watch
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .see(digest);
        if seen == Look::Known {
            return;
        }
        let made = found.and_then(|contents| {
            let made = contents.material();
            made.map_err(|unusable| self.files.explain(&unusable))
        });
        let listener = self.listener;
        match made {
            Ok(material) => {
                self.replace(material, digest);
                tracing::info!(
                    listener,
                    "the TLS files have changed and are in force; connections made before are told to go"
                );
            }
            Err(why) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    listener,
                    error = %why,
                    "the TLS files have changed and cannot be used; what was in force stays so"
                );
            }
        }
    }

    fn replace(&self, material: Material, digest: files::Digest) {
        let generation = self.loaded.load().generation + 1;
        self.loaded.store(Arc::new(Loaded {
            config: material.config,
            generation,
            not_after: material.not_after,
        }));
        self.watch
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .in_force(digest);
        self.reloaded.fetch_add(1, Ordering::Relaxed);
        // Last, so that who hears of it and connects again finds the new files in force.
        self.generation.send_replace(generation);
    }

    /// What was counted.
    #[must_use]
    pub fn totals(&self) -> TlsTotals {
        TlsTotals {
            listener: self.listener,
            reloaded: self.reloaded.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            broken_handshakes: self.broken.load(Ordering::Relaxed),
            not_after: self.loaded.load().not_after,
        }
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

/// The one cryptography that is used.
fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// An error that is shown with its file.
fn with_path(path: &std::path::Path, error: &io::Error) -> String {
    format!("{} cannot be read: {error}", path.display())
}

#[cfg(test)]
mod tests;
