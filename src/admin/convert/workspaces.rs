//! Workspaces and their declared settings, in and out.

use prost_types::FieldMask;

use super::{Violations, check_mask, show_time};
use crate::{
    admin::{Failure, workspaces::WorkspaceEdit},
    domain::{
        Invalid,
        id::TokenPrefix,
        name::of_workspace,
        permission::{self, PermissionSet},
        setting::{Declaration, Declarations, Kind, MAX_VALUE},
        text,
        workspace::{ArchiveLimit, Workspace, check_declared_permission},
    },
    proto::v1::{
        self, SettingDeclaration,
        setting_declaration::{BoolType, EnumType, IntegerType, StringType, Type, UrlType},
    },
    store::WorkspaceRecord,
};

/// The fields of a workspace that a caller may set.
const SETTABLE: [&str; 5] = [
    "display_name",
    "token_prefix",
    "permissions",
    "settings",
    "archive_limit",
];
/// The fields that only the server sets.
const OUTPUT_ONLY: [&str; 5] = ["name", "create_time", "update_time", "etag", "revision"];

/// Reads the workspace of a `CreateWorkspace` request.
pub(in crate::admin) fn read_new_workspace(
    workspace: v1::Workspace,
) -> Result<WorkspaceEdit, Failure> {
    read_fields(workspace, |_| true)
}

/// Reads the change that an `UpdateWorkspace` request asks for.
pub(in crate::admin) fn read_workspace_edit(
    workspace: v1::Workspace,
    mask: Option<FieldMask>,
) -> Result<WorkspaceEdit, Failure> {
    let paths = mask.map(|mask| mask.paths).unwrap_or_default();
    if paths.is_empty() {
        // No mask: what is populated, as for keys.
        let populated = [
            !workspace.display_name.is_empty(),
            !workspace.token_prefix.is_empty(),
            !workspace.permissions.is_empty(),
            !workspace.settings.is_empty(),
            workspace.archive_limit != 0,
        ];
        return read_fields(workspace, |place| populated[place]);
    }
    if paths == ["*"] {
        if workspace.etag.is_empty() {
            return Err(Failure::invalid(
                "workspace.etag",
                "is required with the mask '*'",
            ));
        }
        return read_fields(workspace, |_| true);
    }
    check_mask(&paths, &SETTABLE, &OUTPUT_ONLY, "workspace")?;
    read_fields(workspace, |place| {
        paths.iter().any(|path| path == SETTABLE[place])
    })
}

/// Reads the settable fields at the places that are `wanted`.
fn read_fields(
    workspace: v1::Workspace,
    wanted: impl Fn(usize) -> bool,
) -> Result<WorkspaceEdit, Failure> {
    // Destructured, so that a new field does not compile before somebody reads it.
    let v1::Workspace {
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
    } = workspace;
    let mut violations = Violations::default();
    let mut edit = WorkspaceEdit::default();
    if wanted(0) {
        let checked = text::check_display_name(&display_name).map(|()| display_name);
        edit.display_name = Some(violations.take("workspace.display_name", checked));
    }
    if wanted(1) {
        let read = TokenPrefix::parse(&token_prefix);
        edit.token_prefix = Some(violations.take("workspace.token_prefix", read));
    }
    if wanted(2) {
        edit.permissions = Some(read_permissions(permissions, &mut violations));
    }
    if wanted(3) {
        edit.settings = Some(read_declarations(settings, &mut violations));
    }
    if wanted(4) {
        let read = ArchiveLimit::new(archive_limit.into());
        edit.archive_limit = Some(violations.take("workspace.archive_limit", read));
    }
    violations.finish(edit)
}

fn read_permissions(names: Vec<String>, violations: &mut Violations) -> PermissionSet {
    if names.len() > permission::MAX_PERMISSIONS {
        violations.add("workspace.permissions", "must have at most 100 names");
        return PermissionSet::none();
    }
    for (index, name) in names.iter().enumerate() {
        if let Err(why) = check_declared_permission(name) {
            violations.add(format!("workspace.permissions[{index}]"), why);
        }
    }
    PermissionSet::new(names)
}

fn read_declarations(
    settings: Vec<SettingDeclaration>,
    violations: &mut Violations,
) -> Declarations {
    let field = |index: usize| format!("workspace.settings[{index}]");
    let mut all = Vec::with_capacity(settings.len());
    for (index, setting) in settings.into_iter().enumerate() {
        match read_declaration(setting) {
            Ok(declaration) => all.push(declaration),
            Err(why) => {
                violations.add(field(index), why);
                return Declarations::default();
            }
        }
    }
    Declarations::new(all).unwrap_or_else(|invalid| {
        let field = invalid
            .index
            .map_or_else(|| "workspace.settings".to_owned(), field);
        violations.add(field, invalid.reason);
        Declarations::default()
    })
}

fn read_declaration(setting: SettingDeclaration) -> Result<Declaration, Invalid> {
    let SettingDeclaration {
        name,
        description,
        default_value,
        header,
        r#type,
    } = setting;
    let texts = |values: Vec<String>| values.into_iter().map(Into::into).collect();
    let kind = match r#type {
        None => {
            return Err(Invalid::new(
                "needs a type: string_type, enum_type, url_type, bool_type or integer_type",
            ));
        }
        Some(Type::StringType(StringType {
            max_length,
            allowed,
        })) => Kind::Text {
            max_length: match usize::try_from(max_length) {
                Ok(0) => MAX_VALUE,
                Ok(length) => length,
                Err(_) => return Err(Invalid::new("max_length must be 1 to 1,024")),
            },
            allowed: texts(allowed),
        },
        Some(Type::EnumType(EnumType { values })) => Kind::Enum(texts(values)),
        Some(Type::UrlType(UrlType { allow_http })) => Kind::Url { allow_http },
        Some(Type::BoolType(BoolType {})) => Kind::Bool,
        Some(Type::IntegerType(IntegerType { min, max })) => Kind::Integer {
            min: min.unwrap_or(i64::MIN),
            max: max.unwrap_or(i64::MAX),
        },
    };
    let set = |text: String| Some(text).filter(|text| !text.is_empty()).map(Into::into);
    Ok(Declaration {
        name: name.into(),
        description: description.into(),
        kind,
        default: set(default_value),
        header: set(header.to_ascii_lowercase()),
    })
}

/// Shows a workspace.
pub(in crate::admin) fn show_workspace(record: &WorkspaceRecord) -> v1::Workspace {
    let WorkspaceRecord {
        workspace,
        revision,
    } = record;
    let Workspace {
        id,
        display_name,
        token_prefix,
        permissions,
        settings,
        archive_limit,
        create_time,
        update_time,
    } = workspace;
    v1::Workspace {
        name: of_workspace(id),
        display_name: display_name.clone(),
        token_prefix: token_prefix.as_str().to_owned(),
        permissions: permissions.iter().map(str::to_owned).collect(),
        settings: settings.iter().map(show_declaration).collect(),
        archive_limit: archive_limit.get().into(),
        create_time: Some(show_time(*create_time)),
        update_time: Some(show_time(*update_time)),
        etag: revision.to_string(),
        revision: revision.to_string(),
    }
}

fn show_declaration(declaration: &Declaration) -> SettingDeclaration {
    let Declaration {
        name,
        description,
        kind,
        default,
        header,
    } = declaration;
    let texts = |values: &[Box<str>]| values.iter().map(ToString::to_string).collect();
    let kind = match kind {
        Kind::Text {
            max_length,
            allowed,
        } => Type::StringType(StringType {
            // At most 1,024.
            max_length: i32::try_from(*max_length).unwrap_or_default(),
            allowed: texts(allowed),
        }),
        Kind::Enum(values) => Type::EnumType(EnumType {
            values: texts(values),
        }),
        Kind::Url { allow_http } => Type::UrlType(UrlType {
            allow_http: *allow_http,
        }),
        Kind::Bool => Type::BoolType(BoolType {}),
        Kind::Integer { min, max } => Type::IntegerType(IntegerType {
            min: Some(*min),
            max: Some(*max),
        }),
    };
    SettingDeclaration {
        name: name.to_string(),
        description: description.to_string(),
        default_value: default.as_deref().unwrap_or_default().to_owned(),
        header: header.as_deref().unwrap_or_default().to_owned(),
        r#type: Some(kind),
    }
}
