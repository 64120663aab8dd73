//! Declared settings as a workspace's record holds them.

use crate::{
    domain::{
        Invalid,
        setting::{Declaration, Declarations, Kind},
    },
    proto::stored::{
        Setting,
        setting::{BoolType, EnumType, IntegerType, StringType, Type, UrlType},
    },
};

pub(super) fn encode(declaration: &Declaration) -> Setting {
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
            max_length: u32::try_from(*max_length).unwrap_or_default(),
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
            min: *min,
            max: *max,
        }),
    };
    Setting {
        name: name.to_string(),
        description: description.to_string(),
        default_value: default.as_deref().unwrap_or_default().to_owned(),
        header: header.as_deref().unwrap_or_default().to_owned(),
        r#type: Some(kind),
    }
}

pub(super) fn decode(settings: Vec<Setting>) -> Result<Declarations, Invalid> {
    let all = settings
        .into_iter()
        .map(decode_one)
        .collect::<Result<_, _>>()?;
    Declarations::new(all).map_err(|invalid| invalid.reason)
}

fn decode_one(setting: Setting) -> Result<Declaration, Invalid> {
    let Setting {
        name,
        description,
        default_value,
        header,
        r#type,
    } = setting;
    let texts = |values: Vec<String>| values.into_iter().map(Into::into).collect();
    let kind = match r#type.ok_or(Invalid::new("a setting has no type"))? {
        Type::StringType(StringType {
            max_length,
            allowed,
        }) => Kind::Text {
            max_length: usize::try_from(max_length).unwrap_or_default(),
            allowed: texts(allowed),
        },
        Type::EnumType(EnumType { values }) => Kind::Enum(texts(values)),
        Type::UrlType(UrlType { allow_http }) => Kind::Url { allow_http },
        Type::BoolType(BoolType {}) => Kind::Bool,
        Type::IntegerType(IntegerType { min, max }) => Kind::Integer { min, max },
    };
    let set = |text: String| Some(text).filter(|text| !text.is_empty()).map(Into::into);
    Ok(Declaration {
        name: name.into(),
        description: description.into(),
        kind,
        default: set(default_value),
        header: set(header),
    })
}
