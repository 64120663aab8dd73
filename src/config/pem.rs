//! Settings that name a PEM file.

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::ReadFile;

/// A file, and what it held when its setting was read.
pub(super) struct PemFile {
    pub(super) path: PathBuf,
    pub(super) content: Zeroizing<String>,
}

/// Reads the name of a file that holds, somewhere, a PEM section called `holds`.
///
/// A file's content in its name's place may be a private key, so neither is quoted until the file was read.
pub(super) fn parse(text: &str, holds: &str, read_file: ReadFile<'_>) -> Result<PemFile, String> {
    if text.is_empty() || text.contains("-----") || text.chars().any(char::is_control) {
        return Err("is no file's name; name a PEM file".into());
    }
    let path = PathBuf::from(text);
    let content = read_file(&path).map(Zeroizing::new).map_err(|error| {
        format!(
            "{} cannot be read: {error}; name a PEM file that is there",
            path.display()
        )
    })?;
    if content.contains(&format!("{holds}-----")) {
        Ok(PemFile { path, content })
    } else {
        Err(format!(
            "{} holds no {}; name a PEM file that does",
            path.display(),
            holds.to_ascii_lowercase()
        ))
    }
}
