use std::{fmt, path::PathBuf};

/// A setting that flag, variable and file can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// Where Check is served.
    Gate,
    /// Lets the gate listen off loopback.
    GateInsecure,
    /// The certificate of the gate.
    GateCert,
    /// The key of that certificate.
    GateKey,
    /// Who signs the certificates of the gate's callers.
    GateClientCa,
    /// Makes the gate ask every caller who it is.
    GateRequireCredential,
    /// The mode of the gate's Unix socket.
    GateMode,
    /// The group of the gate's Unix socket.
    GateGroup,
    /// Where management is served.
    Admin,
    /// Lets the admin listener be off loopback.
    AdminInsecure,
    /// The certificate of the admin listener.
    AdminCert,
    /// The key of that certificate.
    AdminKey,
    /// Who signs the certificates of administrators.
    AdminClientCa,
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
    pub const ALL: [Self; 26] = [
        Self::Gate,
        Self::GateInsecure,
        Self::GateCert,
        Self::GateKey,
        Self::GateClientCa,
        Self::GateRequireCredential,
        Self::GateMode,
        Self::GateGroup,
        Self::Admin,
        Self::AdminInsecure,
        Self::AdminCert,
        Self::AdminKey,
        Self::AdminClientCa,
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
            Self::GateCert => "gate-cert",
            Self::GateKey => "gate-key",
            Self::GateClientCa => "gate-client-ca",
            Self::GateRequireCredential => "gate-require-credential",
            Self::GateMode => "gate-mode",
            Self::GateGroup => "gate-group",
            Self::Admin => "admin",
            Self::AdminInsecure => "admin-insecure",
            Self::AdminCert => "admin-cert",
            Self::AdminKey => "admin-key",
            Self::AdminClientCa => "admin-client-ca",
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

    /// True if it is either true or false.
    #[must_use]
    pub const fn is_switch(self) -> bool {
        matches!(
            self,
            Self::GateInsecure | Self::GateRequireCredential | Self::AdminInsecure
        )
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
