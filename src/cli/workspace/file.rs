//! A workspace in a file, as protobuf JSON.

use std::{collections::BTreeSet, fs, io::Read as _, path::Path};

use crate::{
    cli::{
        console::{Console, clean},
        failure::Failure,
        output::Json,
    },
    proto::v1::Workspace,
};

/// The largest file that is looked at. A workspace with all that it may declare is smaller.
const MAX_BYTES: u64 = 16 << 20;

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct WorkspaceFile {
    pub(super) workspace: Workspace,
    /// The fields that it names, as the API's masks name them.
    pub(super) fields: BTreeSet<String>,
}

impl WorkspaceFile {
    /// Reads the file, or stdin for `-`.
    pub(super) fn read(path: &Path, console: &mut Console<'_>) -> Result<Self, Failure> {
        let shown = clean(&path.display().to_string());
        let mut text = String::new();
        let read = if path.as_os_str() == "-" {
            console.stdin.take(MAX_BYTES).read_to_string(&mut text)
        } else {
            fs::File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text))
        };
        read.map_err(|error| Failure::Failed(format!("{shown} cannot be read: {error}")))?;
        Self::parse(&text).map_err(|why| {
            Failure::Usage(format!(
                "{shown} holds no workspace as `workspace get --output json` prints it: {}",
                clean(&why)
            ))
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let format = Json::new().map_err(|failure| failure.to_string())?;
        let (workspace, fields) = format.read::<Workspace>("Workspace", text)?;
        Ok(Self { workspace, fields })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_fields_in_either_spelling() {
        for text in [
            r#"{"displayName": "A", "archiveLimit": 0, "settings": null}"#,
            r#"{"display_name": "A", "archive_limit": 0, "settings": []}"#,
        ] {
            let file = WorkspaceFile::parse(text).unwrap();
            assert_eq!(file.workspace.display_name, "A");
            let fields: Vec<_> = file.fields.iter().map(String::as_str).collect();
            assert_eq!(fields, ["archive_limit", "display_name", "settings"]);
        }
    }

    #[test]
    fn what_is_no_workspace_is_refused() {
        for text in [
            "",
            "[]",
            "null",
            "{",
            "{} {}",
            r#"{"nmae": "a"}"#,
            r#"{"displayName": 1}"#,
            r#"{"displayName": "a", "display_name": "b"}"#,
            r#"{"settings": [{"name": "a", "stringType": {}, "boolType": {}}]}"#,
            r#"{"settings": [{"name": "a", "type": "string"}]}"#,
        ] {
            assert!(WorkspaceFile::parse(text).is_err(), "{text}");
        }
    }
}
