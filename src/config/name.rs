//! What a replica calls itself.

use std::path::Path;

use super::{Environment, ReadFile};
use crate::domain::text;

pub(super) fn parse(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("is empty; give the replica a name, or leave it to be the host's".into());
    }
    match text::check_display_name(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(error) => Err(format!("is no name: it {error}; give the replica another")),
    }
}

/// The host's name, or `portcullis` where it cannot be found out.
pub(super) fn of_host(env: Environment<'_>, read_file: ReadFile<'_>) -> String {
    let kernel = read_file(Path::new("/proc/sys/kernel/hostname")).ok();
    let variable = || env("HOSTNAME").and_then(|name| name.into_string().ok());
    kernel
        .or_else(variable)
        .and_then(|name| parse(name.trim()).ok())
        .unwrap_or_else(|| "portcullis".to_owned())
}
