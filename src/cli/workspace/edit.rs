//! What a workspace is to be: a file, and flags that go before it.

use std::{collections::BTreeSet, path::PathBuf};

use clap::{Args, ValueEnum};
use prost_types::FieldMask;

use super::file::WorkspaceFile;
use crate::{
    cli::{console::Console, failure::Failure, values::parse_item},
    domain::{
        id::{TokenPrefix, WorkspaceId},
        name::of_workspace,
    },
    proto::v1::Workspace,
};

#[derive(Debug, Args)]
pub(super) struct Fields {
    /// A name for people
    #[arg(long)]
    name: Option<String>,
    /// What its tokens begin with: a lower-case letter, then up to 15 lower-case letters and digits [default: pc]
    #[arg(long, value_name = "PREFIX")]
    token_prefix: Option<String>,
    /// All permissions that its keys may hold; may be repeated, and hold several between commas [default: any]
    #[arg(long, short, value_name = "P", value_delimiter = ',', value_parser = parse_item)]
    permission: Vec<String>,
    /// How many archived keys it keeps, 1 to 1000; the ones archived first are deleted past it [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1_000), allow_negative_numbers = true)]
    archive_limit: Option<i32>,
    /// A file that holds the workspace, - for stdin; the flags beside it go before it
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// A field that a person may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Field {
    Name,
    TokenPrefix,
    Permissions,
    Settings,
    ArchiveLimit,
}

impl Field {
    const ALL: [Self; 5] = [
        Self::Name,
        Self::TokenPrefix,
        Self::Permissions,
        Self::Settings,
        Self::ArchiveLimit,
    ];

    /// As the API's masks name it.
    const fn path(self) -> &'static str {
        match self {
            Self::Name => "display_name",
            Self::TokenPrefix => "token_prefix",
            Self::Permissions => "permissions",
            Self::Settings => "settings",
            Self::ArchiveLimit => "archive_limit",
        }
    }
}

/// What was asked for.
#[derive(Debug)]
pub(super) struct Edit {
    workspace: Workspace,
    /// The settable fields that were named, as the API's masks name them.
    paths: BTreeSet<&'static str>,
}

impl Edit {
    /// Reads the flags, and the file if there is one.
    pub(super) fn read(
        fields: Fields,
        clear: &[Field],
        console: &mut Console<'_>,
    ) -> Result<Self, Failure> {
        let Fields {
            name,
            token_prefix,
            permission,
            archive_limit,
            file,
        } = fields;
        for (field, flag, given) in [
            (Field::Name, "--name", name.is_some()),
            (Field::TokenPrefix, "--token-prefix", token_prefix.is_some()),
            (Field::Permissions, "--permission", !permission.is_empty()),
            (
                Field::ArchiveLimit,
                "--archive-limit",
                archive_limit.is_some(),
            ),
        ] {
            if given && clear.contains(&field) {
                return Err(Failure::Usage(format!(
                    "{flag} and --clear contradict each other"
                )));
            }
        }
        if let Some(prefix) = token_prefix.as_deref().filter(|prefix| !prefix.is_empty()) {
            TokenPrefix::parse(prefix)
                .map_err(|why| Failure::Usage(format!("--token-prefix {why}")))?;
        }
        let file = match file {
            Some(path) => WorkspaceFile::read(&path, console)?,
            None => WorkspaceFile::default(),
        };
        let mut edit = Self {
            paths: Field::ALL
                .map(Field::path)
                .into_iter()
                .filter(|&path| file.fields.contains(path))
                .collect(),
            workspace: file.workspace,
        };
        edit.clear(clear);
        edit.set(Field::Name, name, |workspace, name| {
            workspace.display_name = name;
        });
        edit.set(Field::TokenPrefix, token_prefix, |workspace, prefix| {
            workspace.token_prefix = prefix;
        });
        let permissions = (!permission.is_empty()).then_some(permission);
        edit.set(Field::Permissions, permissions, |workspace, permissions| {
            workspace.permissions = permissions;
        });
        edit.set(Field::ArchiveLimit, archive_limit, |workspace, limit| {
            workspace.archive_limit = limit;
        });
        Ok(edit)
    }

    /// The fields that a person may set, and nothing else that the file holds.
    pub(super) fn settable(self) -> Workspace {
        let Workspace {
            name: _,
            display_name,
            token_prefix,
            permissions,
            settings,
            archive_limit,
            create_time: _,
            update_time: _,
            etag: _,
            revision: _,
        } = self.workspace;
        Workspace {
            display_name,
            token_prefix,
            permissions,
            settings,
            archive_limit,
            ..Workspace::default()
        }
    }

    /// The same under the name of the workspace to change, and with the file's etag.
    pub(super) fn for_update(mut self, id: &WorkspaceId) -> Result<Workspace, Failure> {
        let name = of_workspace(id);
        let from = std::mem::take(&mut self.workspace.name);
        if !from.is_empty() && from != name {
            return Err(Failure::Usage(format!(
                "--file holds another workspace than {name}; take its name and etag out to make {name} like it"
            )));
        }
        let etag = std::mem::take(&mut self.workspace.etag);
        Ok(Workspace {
            name,
            etag,
            ..self.settable()
        })
    }

    /// The fields to change.
    pub(super) fn mask(&self) -> Result<FieldMask, Failure> {
        if self.paths.is_empty() {
            return Err(Failure::Usage(
                "nothing to change; name a field, such as --name, or a --file that does".into(),
            ));
        }
        Ok(FieldMask {
            paths: self.paths.iter().map(|&path| path.to_owned()).collect(),
        })
    }

    fn set<T>(&mut self, field: Field, value: Option<T>, put: impl FnOnce(&mut Workspace, T)) {
        if let Some(value) = value {
            put(&mut self.workspace, value);
            self.paths.insert(field.path());
        }
    }

    fn clear(&mut self, fields: &[Field]) {
        let workspace = &mut self.workspace;
        for field in fields {
            match field {
                Field::Name => workspace.display_name.clear(),
                Field::TokenPrefix => workspace.token_prefix.clear(),
                Field::Permissions => workspace.permissions.clear(),
                Field::Settings => workspace.settings.clear(),
                Field::ArchiveLimit => workspace.archive_limit = 0,
            }
            self.paths.insert(field.path());
        }
    }
}
