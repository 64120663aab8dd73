use std::{fmt, path::PathBuf};

/// A setting that flag, variable and file can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// Where Check is served.
    Gate,
    /// Lets the gate listen off loopback.
    GateInsecure,
    /// Where management is served.
    Admin,
    /// Lets the admin listener be off loopback.
    AdminInsecure,
    /// Where probes and metrics are served.
    Ops,
    /// Where the store lives.
    DataDir,
    /// The replica's name.
    Name,
    /// How log lines look.
    LogFormat,
    /// Which log lines are written.
    Log,
    /// Where the fleet's Redis is.
    Redis,
    /// Whom Redis knows this process as.
    RedisUser,
    /// Who signs the certificate of Redis.
    RedisCa,
    /// The certificate that Redis is shown.
    RedisCert,
    /// The key of that certificate.
    RedisKey,
    /// Whether the durability of Redis is looked into.
    RedisDurability,
    /// What the fleet's keys begin with.
    Namespace,
    /// How long a replica may answer without hearing from Redis.
    Lease,
}

impl Setting {
    /// All of them, in the order in which they are read and shown.
    pub const ALL: [Self; 17] = [
        Self::Gate,
        Self::GateInsecure,
        Self::Admin,
        Self::AdminInsecure,
        Self::Ops,
        Self::DataDir,
        Self::Name,
        Self::LogFormat,
        Self::Log,
        Self::Redis,
        Self::RedisUser,
        Self::RedisCa,
        Self::RedisCert,
        Self::RedisKey,
        Self::RedisDurability,
        Self::Namespace,
        Self::Lease,
    ];

    /// The name in the file; the flag is `--{name}`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::GateInsecure => "gate-insecure",
            Self::Admin => "admin",
            Self::AdminInsecure => "admin-insecure",
            Self::Ops => "ops",
            Self::DataDir => "data-dir",
            Self::Name => "name",
            Self::LogFormat => "log-format",
            Self::Log => "log",
            Self::Redis => "redis",
            Self::RedisUser => "redis-user",
            Self::RedisCa => "redis-ca",
            Self::RedisCert => "redis-cert",
            Self::RedisKey => "redis-key",
            Self::RedisDurability => "redis-durability",
            Self::Namespace => "namespace",
            Self::Lease => "lease",
        }
    }

    /// The environment variable.
    #[must_use]
    pub fn variable(self) -> String {
        format!(
            "PORTCULLIS_{}",
            self.name().to_ascii_uppercase().replace('-', "_")
        )
    }

    /// The setting of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|setting| setting.name() == name)
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The command line, by this flag.
    Flag(String),
    /// This environment variable.
    Variable(String),
    /// A line of the configuration file, from 1.
    File(PathBuf, usize),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Flag(text) | Self::Variable(text) => f.write_str(text),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
        }
    }
}
