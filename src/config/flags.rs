use std::{ffi::OsString, path::PathBuf};

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
    /// Lets the gate listen beyond this machine although nothing there asks its callers who they are
    /// [default: false] [env: PORTCULLIS_GATE_INSECURE]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub gate_insecure: Option<OsString>,
    /// Where management connects, as --gate
    /// [default: 127.0.0.1:7701] [env: PORTCULLIS_ADMIN]
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<OsString>,
    /// Lets the admin listener be reached from beyond this machine although credentials travel unencrypted
    /// [default: false] [env: PORTCULLIS_ADMIN_INSECURE]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub admin_insecure: Option<OsString>,
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
}

impl ServeFlags {
    pub(super) fn get(&self, setting: Setting) -> Option<&OsString> {
        match setting {
            Setting::Gate => &self.gate,
            Setting::GateInsecure => &self.gate_insecure,
            Setting::Admin => &self.admin,
            Setting::AdminInsecure => &self.admin_insecure,
            Setting::Ops => &self.ops,
            Setting::DataDir => &self.data_dir,
            Setting::Name => &self.name,
            Setting::LogFormat => &self.log_format,
            Setting::Log => &self.log,
        }
        .as_ref()
    }
}
