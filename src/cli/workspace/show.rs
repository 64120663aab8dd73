//! How a workspace looks to people.

use crate::{
    cli::{
        console::Console,
        failure::Failure,
        key_ref::bare_workspace,
        output::{Format, few, json, rows, time},
    },
    proto::v1::{
        SettingDeclaration, Workspace,
        setting_declaration::{EnumType, IntegerType, StringType, Type, UrlType},
    },
};

/// Writes a workspace.
pub(super) fn workspace(
    workspace: &Workspace,
    format: Format,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    if format == Format::Json {
        return json(console.out, "Workspace", workspace);
    }
    let zone = console.zone();
    let permissions = match workspace.permissions.as_slice() {
        [] => "any name (none is declared)".to_owned(),
        declared => declared.join("\n"),
    };
    let settings: Vec<_> = workspace.settings.iter().map(setting).collect();
    let settings = match settings.as_slice() {
        [] => "none".to_owned(),
        declared => declared.join("\n"),
    };
    let table = [
        ("name", workspace.name.clone()),
        ("display name", or(&workspace.display_name, "-")),
        ("token prefix", or(&workspace.token_prefix, "pc")),
        ("permissions", permissions),
        ("settings", settings),
        ("archive limit", archive_limit(workspace)),
        ("created", time(workspace.create_time.as_ref(), zone, "-")),
        ("changed", time(workspace.update_time.as_ref(), zone, "-")),
        ("etag", workspace.etag.clone()),
    ]
    .map(|(name, value)| [name.to_owned(), value]);
    rows(console.out, &table)
}

/// What a person should know before it is deleted.
pub(super) fn summary(workspace: &Workspace, console: &mut Console<'_>) -> Result<(), Failure> {
    let table = [
        ("  workspace", bare_workspace(&workspace.name).to_owned()),
        ("  display name", or(&workspace.display_name, "-")),
        ("  permissions", few(&workspace.permissions, "any")),
        ("  settings", setting_names(workspace)),
    ]
    .map(|(name, value)| [name.to_owned(), value]);
    rows(console.err, &table)
}

/// The names of its settings, as [`few`] shows them.
pub(super) fn setting_names(workspace: &Workspace) -> String {
    let names = workspace.settings.iter();
    let names: Vec<_> = names.map(|setting| setting.name.clone()).collect();
    few(&names, "none")
}

fn archive_limit(workspace: &Workspace) -> String {
    match workspace.archive_limit {
        0 => "10 archived keys".to_owned(),
        1 => "1 archived key".to_owned(),
        limit => format!("{limit} archived keys"),
    }
}

/// A declaration on one line.
fn setting(declaration: &SettingDeclaration) -> String {
    let SettingDeclaration {
        name,
        description,
        default_value,
        header,
        r#type,
    } = declaration;
    let mut parts = vec![format!("{name}: {}", kind(r#type.as_ref()))];
    if !default_value.is_empty() {
        parts.push(format!("default {default_value:?}"));
    }
    if !header.is_empty() {
        parts.push(format!("header {header}"));
    }
    let mut line = parts.join("; ");
    if !description.is_empty() {
        line.push_str(" (");
        line.push_str(description);
        line.push(')');
    }
    // Each is on a line of its own.
    line.replace('\n', " ")
}

fn kind(kind: Option<&Type>) -> String {
    match kind {
        None => "of a type that this program does not know".to_owned(),
        Some(Type::StringType(StringType {
            max_length,
            allowed,
        })) => {
            let longest = match max_length {
                0 => String::new(),
                longest => format!(", at most {longest} characters"),
            };
            let allowed = match allowed.as_slice() {
                [] => String::new(),
                allowed => format!(", one of {}", allowed.join(", ")),
            };
            format!("text{longest}{allowed}")
        }
        Some(Type::EnumType(EnumType { values })) => format!("one of {}", values.join(", ")),
        Some(Type::UrlType(UrlType { allow_http: true })) => "URL, https or http".to_owned(),
        Some(Type::UrlType(UrlType { allow_http: false })) => "URL, https".to_owned(),
        Some(Type::BoolType(_)) => "true or false".to_owned(),
        Some(Type::IntegerType(IntegerType { min, max })) => match (min, max) {
            (None, None) => "whole number".to_owned(),
            (Some(min), None) => format!("whole number, {min} or more"),
            (None, Some(max)) => format!("whole number, {max} or less"),
            (Some(min), Some(max)) => format!("whole number, {min} to {max}"),
        },
    }
}

fn or(text: &str, otherwise: &str) -> String {
    if text.is_empty() { otherwise } else { text }.to_owned()
}
