//! Connections that are made again when they are lost.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, FromRedisValue,
    IntoConnectionInfo as _, Pipeline, ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo,
    RedisError, TlsCertificates, Value, aio::MultiplexedConnection, io::tcp::socket2::TcpKeepalive,
};
use tokio::time::{Instant, timeout_at};

use super::scripts::Script;
use crate::{
    config::{Password, RedisAddress, RedisSettings},
    store::StoreError,
};

/// How long one command may take that is sent again and again.
pub(super) const SHORT: Duration = Duration::from_secs(1);
/// How long one command may take that reads a part of the log.
pub(super) const PAGE: Duration = Duration::from_secs(3);
/// How long one command may take that reads much.
pub(super) const LONG: Duration = Duration::from_secs(10);

/// Why a command has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was not sent.
    NotSent(String),
    /// It was sent, or may have been, and there is no telling what became of it.
    Lost(String),
    /// The server did not take it.
    Refused {
        /// The first word of what the server says: `NOPERM`, `OOM`, `ERR`.
        code: String,
        /// All that it says.
        why: String,
    },
}

impl Failure {
    /// True if the server cannot have begun: nothing was written.
    pub(super) fn is_before_anything(&self) -> bool {
        match self {
            Self::NotSent(_) => true,
            Self::Lost(_) => false,
            // Redis says these before a script begins; what a script raises half-way may begin alike, but names its line.
            Self::Refused { code, why } => {
                let before = [
                    "NOSCRIPT",
                    "OOM",
                    "NOPERM",
                    "READONLY",
                    "MISCONF",
                    "LOADING",
                    "BUSY",
                    "MASTERDOWN",
                    "NOAUTH",
                    "NOREPLICAS",
                ];
                before.contains(&&**code) && !why.contains("@user_script")
            }
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self::Failed(match failure {
            Failure::NotSent(why) | Failure::Lost(why) => format!("Redis does not answer: {why}"),
            Failure::Refused { why, .. } => format!("Redis refuses: {why}"),
        })
    }
}

/// Makes connections.
pub(super) struct Dialer {
    client: Client,
    password: Option<Password>,
}

impl Dialer {
    /// # Errors
    /// If the files for TLS cannot be read.
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, String> {
        let mut redis = RedisConnectionInfo::default()
            .set_db(settings.database.into())
            .set_protocol(ProtocolVersion::RESP3)
            .set_skip_set_lib_name();
        if let Some(user) = &settings.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &settings.password {
            redis = redis.set_password(password.expose());
        }
        let mut certificates = None;
        let address = match &settings.address {
            RedisAddress::Tcp(host, port) => ConnectionAddr::Tcp(host.clone(), *port),
            RedisAddress::Unix(path) => ConnectionAddr::Unix(path.clone()),
            RedisAddress::Tls {
                host,
                port,
                ca,
                client,
            } => {
                // Another may have been installed already, and does as well.
                let _ = rustls::crypto::ring::default_provider().install_default();
                certificates = Some(TlsCertificates {
                    root_cert: ca.as_deref().map(read).transpose()?,
                    client_tls: client
                        .as_ref()
                        .map(|(chain, key)| {
                            Ok::<_, String>(ClientTlsConfig {
                                client_cert: read(chain)?,
                                client_key: read(key)?,
                            })
                        })
                        .transpose()?,
                });
                ConnectionAddr::TcpTls {
                    host: host.clone(),
                    port: *port,
                    insecure: false,
                    tls_params: None,
                }
            }
        };
        let info = address.into_connection_info().map(|info| {
            // An idle connection is kept open by what lies between.
            let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(15));
            let tcp = info.tcp_settings().clone();
            let tcp = tcp.set_nodelay(true).set_keepalive(keepalive);
            info.set_redis_settings(redis).set_tcp_settings(tcp)
        });
        let client = match certificates {
            Some(certificates) => info.and_then(|info| Client::build_with_tls(info, certificates)),
            None => info.and_then(Client::open),
        };
        let password = settings.password.clone();
        let client = client.map_err(|error| without(password.as_ref(), error.to_string()))?;
        Ok(Self { client, password })
    }

    /// What an error says, without the password, wherever it got it from.
    fn describe(&self, error: &RedisError) -> String {
        without(self.password.as_ref(), error.to_string())
    }

    fn failure(&self, error: RedisError) -> Failure {
        let why = self.describe(&error);
        match error.into_server_errors() {
            Some(errors) => Failure::Refused {
                code: errors
                    .first()
                    .map(|(_, error)| error.code().to_owned())
                    .unwrap_or_default(),
                why,
            },
            None => Failure::Lost(why),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn without(password: Option<&Password>, text: String) -> String {
    match password.map(Password::expose) {
        Some(password) if !password.is_empty() => text.replace(password, "***"),
        _ => text,
    }
}

/// What happens on a link without being asked for.
#[derive(Debug)]
pub(super) enum Heard {
    /// It is connected, and subscribed: what was sent before may have been missed.
    Connected,
    /// Somebody sent this, on this channel.
    Message(Vec<u8>, Vec<u8>),
    /// The connection is gone.
    Disconnected,
}

type Listener = Arc<dyn Fn(Heard) + Send + Sync>;

/// A connection, and whether the other end has closed it.
struct Connection {
    inner: MultiplexedConnection,
    is_closed: Arc<AtomicBool>,
}

/// A connection that is made when it is needed, and made anew after a command that got no answer.
pub(super) struct Link {
    dialer: Arc<Dialer>,
    /// Channels to subscribe to, and who hears of what comes.
    subscription: Option<(Vec<String>, Listener)>,
    /// The connection and its number, by which one that failed is thrown away only once.
    current: tokio::sync::Mutex<(u64, Option<Connection>)>,
    /// The scripts that were loaded, by their hashes.
    hashes: Mutex<BTreeMap<Script, String>>,
}

impl Link {
    pub(super) fn new(dialer: Arc<Dialer>, subscription: Option<(Vec<String>, Listener)>) -> Self {
        Self {
            dialer,
            subscription,
            current: tokio::sync::Mutex::default(),
            hashes: Mutex::default(),
        }
    }

    /// Connects if it is not connected.
    pub(super) async fn ensure(&self, limit: Duration) -> Result<(), Failure> {
        self.connected(Instant::now() + limit).await.map(drop)
    }

    /// Sends one command.
    pub(super) async fn command<T: FromRedisValue>(
        &self,
        command: &Cmd,
        limit: Duration,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + limit;
        let (number, mut connection) = self.connected(deadline).await?;
        let answer = timeout_at(deadline, command.query_async(&mut connection)).await;
        self.judge(number, answer).await
    }

    /// Sends several commands at once.
    pub(super) async fn pipeline<T: FromRedisValue>(
        &self,
        pipeline: &Pipeline,
        limit: Duration,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + limit;
        let (number, mut connection) = self.connected(deadline).await?;
        let answer = timeout_at(deadline, pipeline.query_async(&mut connection)).await;
        self.judge(number, answer).await
    }

    /// Runs a script.
    pub(super) async fn script(
        &self,
        script: Script,
        keys: &[String],
        args: &[Vec<u8>],
        limit: Duration,
    ) -> Result<Value, Failure> {
        let deadline = Instant::now() + limit;
        let mut fresh = false;
        loop {
            let hash = if let Some(hash) = self.hash(script) {
                hash
            } else {
                fresh = true;
                self.load(script, deadline).await?
            };
            let mut call = redis::cmd("EVALSHA");
            call.arg(hash).arg(keys.len()).arg(keys).arg(args);
            let left = deadline.saturating_duration_since(Instant::now());
            match self.command(&call, left).await {
                // The server was restarted, or forgot its scripts. It ran none.
                Err(Failure::Refused { code, .. }) if code == "NOSCRIPT" && !fresh => {
                    self.hashes().remove(&script);
                }
                answer => return answer,
            }
        }
    }

    async fn load(&self, script: Script, deadline: Instant) -> Result<String, Failure> {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(script.text);
        let left = deadline.saturating_duration_since(Instant::now());
        let hash: String = self
            .command(&load, left)
            .await
            .map_err(|failure| match failure {
                // Nothing but a text was sent.
                Failure::Lost(why) => Failure::NotSent(why),
                other => other,
            })?;
        self.hashes().insert(script, hash.clone());
        Ok(hash)
    }

    fn hash(&self, script: Script) -> Option<String> {
        self.hashes().get(&script).cloned()
    }

    fn hashes(&self) -> std::sync::MutexGuard<'_, BTreeMap<Script, String>> {
        self.hashes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connected(&self, deadline: Instant) -> Result<(u64, MultiplexedConnection), Failure> {
        let late = || Failure::NotSent("no connection within the time allowed".to_owned());
        timeout_at(deadline, self.connect())
            .await
            .map_err(|_| late())?
            .map_err(|error| Failure::NotSent(self.dialer.describe(&error)))
    }

    async fn connect(&self) -> Result<(u64, MultiplexedConnection), RedisError> {
        let mut current = self.current.lock().await;
        if let (number, Some(connection)) = &*current
            && !connection.is_closed.load(Ordering::Relaxed)
        {
            return Ok((*number, connection.inner.clone()));
        }
        current.1 = None;
        let is_closed = Arc::new(AtomicBool::new(false));
        let (closed, listener) = (is_closed.clone(), self.listener());
        let on_push = move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                closed.store(true, Ordering::Relaxed);
            }
            hear(listener.as_ref(), push);
            Ok::<_, ()>(())
        };
        // Every command has a limit of its own.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_push_sender(on_push);
        let client = &self.dialer.client;
        let mut inner = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        if let Some((channels, listener)) = &self.subscription {
            inner.subscribe(&channels[..]).await?;
            listener(Heard::Connected);
        }
        current.0 += 1;
        current.1 = Some(Connection {
            inner: inner.clone(),
            is_closed,
        });
        Ok((current.0, inner))
    }

    fn listener(&self) -> Option<Listener> {
        let (_, listener) = self.subscription.as_ref()?;
        Some(listener.clone())
    }

    /// Throws a connection away that got no answer, or a refusal that another may not get.
    async fn judge<T>(
        &self,
        number: u64,
        answer: Result<Result<T, RedisError>, tokio::time::error::Elapsed>,
    ) -> Result<T, Failure> {
        let failure = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => self.dialer.failure(error),
            Err(_) => Failure::Lost("no answer within the time allowed".to_owned()),
        };
        let is_over = match &failure {
            Failure::Refused { code, .. } => {
                matches!(&**code, "READONLY" | "MASTERDOWN" | "LOADING" | "NOAUTH")
            }
            Failure::Lost(_) | Failure::NotSent(_) => true,
        };
        if is_over {
            let mut current = self.current.lock().await;
            if current.0 == number && current.1.take().is_some() {
                drop(current);
                if let Some((_, listener)) = &self.subscription {
                    listener(Heard::Disconnected);
                }
            }
        }
        Err(failure)
    }
}

fn hear(listener: Option<&Listener>, push: PushInfo) {
    let Some(listener) = listener else {
        return;
    };
    match push.kind {
        PushKind::Disconnection => listener(Heard::Disconnected),
        PushKind::Message => {
            let mut data = push.data.into_iter();
            if let (Some(Value::BulkString(channel)), Some(Value::BulkString(message)), None) =
                (data.next(), data.next(), data.next())
            {
                listener(Heard::Message(channel, message));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
