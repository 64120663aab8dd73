use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::PathBuf,
};

use clap::Args;

use super::Setting;

/// The flags of `serve`.
///
/// They are kept as text: a bad value is then reported with all the others. Their variables are looked up by
/// [`Settings::resolve`](super::Settings::resolve), not by clap, so that a fault can name its source.
#[expect(
    clippy::doc_markdown,
    reason = "clap prints the docs of the fields as they stand"
)]
#[derive(Debug, Clone, Default, Args)]
pub struct ServeFlags {
    /// Where callers of Check connect: host:port (port 0 takes a free one) or unix:/path
    /// [default: 127.0.0.1:7700] [env: PORTCULLIS_GATE]
    #[arg(long, value_name = "ADDR")]
    pub gate: Option<OsString>,
    /// Lets the gate listen beyond this machine although it asks no caller who it is
    /// [default: false] [env: PORTCULLIS_GATE_INSECURE]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub gate_insecure: Option<OsString>,
    /// The PEM file of the gate's certificate and those that lead from it to its authority; then it speaks TLS. Read again
    /// when it changes [env: PORTCULLIS_GATE_CERT]
    #[arg(long, value_name = "FILE")]
    pub gate_cert: Option<OsString>,
    /// The PEM file of its private key
    /// [env: PORTCULLIS_GATE_KEY]
    #[arg(long, value_name = "FILE")]
    pub gate_key: Option<OsString>,
    /// A PEM file with the authorities of callers: every caller must show a certificate by one, and have the permission
    /// `check`, by a [[caller]] of the file or by a credential [env: PORTCULLIS_GATE_CLIENT_CA]
    #[arg(long, value_name = "FILE")]
    pub gate_client_ca: Option<OsString>,
    /// Makes the gate ask every caller for a credential with the permission `check`, or a certificate that stands for one
    /// [default: false] [env: PORTCULLIS_GATE_REQUIRE_CREDENTIAL]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub gate_require_credential: Option<OsString>,
    /// The mode of the gate's Unix socket: who can write to it can ask
    /// [default: 0600] [env: PORTCULLIS_GATE_MODE]
    #[arg(long, value_name = "OCTAL")]
    pub gate_mode: Option<OsString>,
    /// The group of the gate's Unix socket, by name or number
    /// [default: that of the process] [env: PORTCULLIS_GATE_GROUP]
    #[arg(long, value_name = "GROUP")]
    pub gate_group: Option<OsString>,
    /// Where management connects, as --gate
    /// [default: 127.0.0.1:7701] [env: PORTCULLIS_ADMIN]
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<OsString>,
    /// Lets the admin listener be reached from beyond this machine although credentials travel unencrypted
    /// [default: false] [env: PORTCULLIS_ADMIN_INSECURE]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub admin_insecure: Option<OsString>,
    /// The PEM file of the admin listener's certificate, as --gate-cert
    /// [env: PORTCULLIS_ADMIN_CERT]
    #[arg(long, value_name = "FILE")]
    pub admin_cert: Option<OsString>,
    /// The PEM file of its private key
    /// [env: PORTCULLIS_ADMIN_KEY]
    #[arg(long, value_name = "FILE")]
    pub admin_key: Option<OsString>,
    /// A PEM file with the authorities of administrators: every caller must show a certificate by one, besides a credential,
    /// or instead of it if a [[caller]] of the file names it [env: PORTCULLIS_ADMIN_CLIENT_CA]
    #[arg(long, value_name = "FILE")]
    pub admin_client_ca: Option<OsString>,
    /// Where /livez, /readyz and /metrics are served, as --gate
    /// [default: 127.0.0.1:7702] [env: PORTCULLIS_OPS]
    #[arg(long, value_name = "ADDR")]
    pub ops: Option<OsString>,
    /// The directory of the store, the admin socket and the root token
    /// [default: ./data] [env: PORTCULLIS_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<OsString>,
    /// What this replica calls itself
    /// [default: the host's name] [env: PORTCULLIS_NAME]
    #[arg(long)]
    pub name: Option<OsString>,
    /// How log lines look: text or json
    /// [default: text] [env: PORTCULLIS_LOG_FORMAT]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<OsString>,
    /// Which log lines are written: a level (off, error, warn, info, debug, trace), or target=level pairs
    /// [default: info] [env: PORTCULLIS_LOG]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<OsString>,
    /// A TOML file with the same settings, such as gate = "127.0.0.1:7700"; flags and variables beat it
    /// [env: PORTCULLIS_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The fleet's Redis.
    #[command(flatten)]
    pub redis: RedisFlags,
}

/// The flags about the Redis that a fleet shares.
#[expect(
    clippy::doc_markdown,
    reason = "clap prints the docs of the fields as they stand"
)]
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Fleet")]
pub struct RedisFlags {
    /// The Redis that the fleet shares: redis://[USER[:PASSWORD]@]HOST[:PORT][/DB], rediss:// for TLS, or
    /// redis+unix:///PATH[?db=N]. Other users of this machine can see a password on the command line: set
    /// PORTCULLIS_REDIS_PASSWORD [default: none, a store in the data directory] [env: PORTCULLIS_REDIS]
    #[arg(long, value_name = "URL")]
    pub redis: Option<Hidden>,
    /// The ACL user; its password is the variable PORTCULLIS_REDIS_PASSWORD
    /// [default: the server's default user] [env: PORTCULLIS_REDIS_USER]
    #[arg(long, value_name = "USER")]
    pub redis_user: Option<OsString>,
    /// A PEM file with the certificates that sign the server's, for rediss://
    /// [default: the public authorities] [env: PORTCULLIS_REDIS_CA]
    #[arg(long, value_name = "FILE")]
    pub redis_ca: Option<OsString>,
    /// A PEM file with this process's own certificate, for a rediss:// server that asks for one
    /// [env: PORTCULLIS_REDIS_CERT]
    #[arg(long, value_name = "FILE")]
    pub redis_cert: Option<OsString>,
    /// A PEM file with the key of that certificate
    /// [env: PORTCULLIS_REDIS_KEY]
    #[arg(long, value_name = "FILE")]
    pub redis_key: Option<OsString>,
    /// verify: refuses a Redis that may lose what it acknowledged; assume: you vouch for it
    /// [default: verify] [env: PORTCULLIS_REDIS_DURABILITY]
    #[arg(long, value_name = "HOW")]
    pub redis_durability: Option<OsString>,
    /// What the names of all keys in Redis begin with: 1 to 64 letters, digits, '.', '_' and '-'
    /// [default: portcullis] [env: PORTCULLIS_NAMESPACE]
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<OsString>,
    /// How long a replica may answer without hearing from Redis, 1s to 10m. `init` gives it to the store [default there:
    /// 15s]; `serve` only compares it with the store's [env: PORTCULLIS_LEASE]
    #[arg(long, value_name = "SPAN")]
    pub lease: Option<OsString>,
}

/// The flags of `init`.
#[expect(
    clippy::doc_markdown,
    reason = "clap prints the docs of the fields as they stand"
)]
#[derive(Debug, Clone, Default, Args)]
pub struct InitFlags {
    /// The directory that the root token is written to
    /// [default: ./data] [env: PORTCULLIS_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<OsString>,
    /// The TOML file that `serve` reads; flags and variables beat it
    /// [env: PORTCULLIS_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The fleet's Redis.
    #[command(flatten)]
    pub redis: RedisFlags,
}

/// The flags of a `serve` that would be given the same: what is wrong with its settings shows before there is a store.
impl From<InitFlags> for ServeFlags {
    fn from(flags: InitFlags) -> Self {
        let InitFlags {
            data_dir,
            config,
            redis,
        } = flags;
        Self {
            data_dir,
            config,
            redis,
            ..Self::default()
        }
    }
}

/// A value that may hold a secret. It is not shown.
#[derive(Clone)]
pub struct Hidden(OsString);

impl From<OsString> for Hidden {
    fn from(text: OsString) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

impl ServeFlags {
    pub(super) fn get(&self, setting: Setting) -> Option<&OsStr> {
        let redis = &self.redis;
        match setting {
            Setting::Gate => &self.gate,
            Setting::GateInsecure => &self.gate_insecure,
            Setting::GateCert => &self.gate_cert,
            Setting::GateKey => &self.gate_key,
            Setting::GateClientCa => &self.gate_client_ca,
            Setting::GateRequireCredential => &self.gate_require_credential,
            Setting::GateMode => &self.gate_mode,
            Setting::GateGroup => &self.gate_group,
            Setting::Admin => &self.admin,
            Setting::AdminInsecure => &self.admin_insecure,
            Setting::AdminCert => &self.admin_cert,
            Setting::AdminKey => &self.admin_key,
            Setting::AdminClientCa => &self.admin_client_ca,
            Setting::Ops => &self.ops,
            Setting::DataDir => &self.data_dir,
            Setting::Name => &self.name,
            Setting::LogFormat => &self.log_format,
            Setting::Log => &self.log,
            Setting::Redis => return redis.redis.as_ref().map(|url| url.0.as_os_str()),
            Setting::RedisUser => &redis.redis_user,
            Setting::RedisCa => &redis.redis_ca,
            Setting::RedisCert => &redis.redis_cert,
            Setting::RedisKey => &redis.redis_key,
            Setting::RedisDurability => &redis.redis_durability,
            Setting::Namespace => &redis.namespace,
            Setting::Lease => &redis.lease,
        }
        .as_deref()
    }
}
