//! Settings: what a workspace declares, what its keys and requests give values for, and which value counts.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    fmt,
};

use super::{
    Invalid,
    text::{self, TextMap, is_dotted_name},
};

/// The most settings a workspace declares, and a request gives values for.
pub const MAX_SETTINGS: usize = 50;
/// The longest name, in characters.
pub const MAX_NAME: usize = 63;
/// The longest value, in characters.
pub const MAX_VALUE: usize = 1_024;
/// The most values that a type lists.
pub const MAX_LISTED: usize = 100;
const MAX_LISTED_NAME: usize = 64;
const MAX_HEADER: usize = 64;

/// Headers that neither a setting nor a key may be sent under: they carry identity, a credential, framing or routing, or
/// belong to one connection only.
const TAKEN_HEADERS: [&str; 26] = [
    "accept-encoding",
    "authorization",
    "connection",
    "cookie",
    "cookie2",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "origin",
    "range",
    "referer",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "www-authenticate",
    "x-http-method-override",
    "x-real-ip",
    "x-request-id",
];
/// Where a key comes in, unless the operator says otherwise.
pub const KEY_HEADER: &str = "x-api-key";
const TAKEN_HEADER_STARTS: [&str; 8] = [
    "content-",
    "grpc-",
    "if-",
    "proxy-",
    "sec-",
    "x-envoy-",
    "x-forwarded-",
    "x-portcullis-",
];

/// Which values a setting takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A text of at most `max_length` characters; one of `allowed`, unless that is empty.
    Text {
        /// 1 to [`MAX_VALUE`].
        max_length: usize,
        /// The only values that are taken; empty: any.
        allowed: Box<[Box<str>]>,
    },
    /// One of these names.
    Enum(Box<[Box<str>]>),
    /// An absolute URL.
    Url {
        /// Takes `http` beside `https`.
        allow_http: bool,
    },
    /// `true` or `false`.
    Bool,
    /// A whole number, ends included.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
}

impl Kind {
    /// Checks a value. An empty one is never valid: a setting without a value is simply not there.
    ///
    /// # Errors
    /// If the type does not take it.
    pub fn check(&self, value: &str) -> Result<(), Invalid> {
        if value.is_empty() {
            return Err(Invalid::new("must not be empty"));
        }
        let one_of = |values: &[Box<str>]| {
            if values.iter().any(|known| **known == *value) {
                Ok(())
            } else {
                Err(Invalid::owned(format!("must be {}", list(values))))
            }
        };
        match self {
            Self::Text {
                max_length,
                allowed,
            } if allowed.is_empty() => text::check_line(value, *max_length),
            Self::Text { allowed, .. } => one_of(allowed),
            Self::Enum(values) => one_of(values),
            Self::Url { allow_http } => check_url(value, *allow_http),
            Self::Bool if matches!(value, "true" | "false") => Ok(()),
            Self::Bool => Err(Invalid::new("must be true or false")),
            Self::Integer { min, max } => {
                // One spelling a number: `+1` and `01` parse, but are not taken.
                let number = value
                    .parse::<i64>()
                    .ok()
                    .filter(|number| number.to_string() == value);
                match number {
                    Some(number) if (*min..=*max).contains(&number) => Ok(()),
                    _ => Err(Invalid::owned(format!(
                        "must be a whole number from {min} to {max}"
                    ))),
                }
            }
        }
    }

    fn check_itself(&self) -> Result<(), Invalid> {
        match self {
            Self::Text {
                max_length,
                allowed,
            } => {
                if !(1..=MAX_VALUE).contains(max_length) {
                    return Err(Invalid::new("max_length must be 1 to 1,024"));
                }
                check_listed(allowed, |value| text::check_line(value, *max_length))
            }
            Self::Enum(values) if values.is_empty() => {
                Err(Invalid::new("an enum must have a value"))
            }
            Self::Enum(values) => check_listed(values, |value| {
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
                if value.len() <= MAX_LISTED_NAME && value.chars().all(plain) {
                    Ok(())
                } else {
                    Err(Invalid::new(
                        "an enum's value must have at most 64 letters, digits, '-', '_' and '.'",
                    ))
                }
            }),
            Self::Integer { min, max } if min > max => {
                Err(Invalid::new("min must not lie above max"))
            }
            Self::Url { .. } | Self::Bool | Self::Integer { .. } => Ok(()),
        }
    }
}

fn check_listed(
    values: &[Box<str>],
    check: impl Fn(&str) -> Result<(), Invalid>,
) -> Result<(), Invalid> {
    if values.len() > MAX_LISTED {
        return Err(Invalid::new("must list at most 100 values"));
    }
    let mut seen = HashSet::new();
    for value in values {
        if value.is_empty() {
            return Err(Invalid::new("a listed value must not be empty"));
        }
        check(value)?;
        if !seen.insert(value) {
            return Err(Invalid::owned(format!("lists {value:?} twice")));
        }
    }
    Ok(())
}

fn list(values: &[Box<str>]) -> String {
    /// More would make an error unreadable.
    const SHOWN: usize = 10;
    let mut text = values
        .iter()
        .take(SHOWN)
        .map(|value| &**value)
        .collect::<Vec<_>>()
        .join(", ");
    if values.len() > SHOWN {
        text.push_str(", …");
    }
    format!("one of {text}")
}

fn check_url(value: &str, allow_http: bool) -> Result<(), Invalid> {
    let refused = || {
        Invalid::owned(format!(
            "must be an absolute {} URL with a host, without user info, at most 1,024 printable ASCII characters",
            if allow_http { "http or https" } else { "https" }
        ))
    };
    // Parsers of URLs repair much: they drop line ends, take `\` for `/`, pass over a third slash and rewrite addresses. What
    // needs repair is refused, since the next reader may repair it in another way.
    let plain = value.len() <= MAX_VALUE
        && value.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
        && (value.starts_with("https://") || (allow_http && value.starts_with("http://")));
    let parsed = Some(value)
        .filter(|_| plain)
        .and_then(|value| url::Url::parse(value).ok())
        .filter(|url| url.username().is_empty() && url.password().is_none())
        .filter(|url| {
            let after_scheme = value.split_once("://").map_or("", |(_, rest)| rest);
            url.host_str()
                .filter(|host| !host.is_empty())
                .and_then(|host| after_scheme.get(..host.len()).zip(Some(host)))
                .is_some_and(|(written, read)| written.eq_ignore_ascii_case(read))
        });
    parsed.map(drop).ok_or_else(refused)
}

/// A setting that a workspace declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// Its name.
    pub name: Box<str>,
    /// For people.
    pub description: Box<str>,
    /// Which values it takes.
    pub kind: Kind,
    /// The value where neither request nor key has one.
    pub default: Option<Box<str>>,
    /// The header that a gateway may pass it under, in lower case.
    pub header: Option<Box<str>>,
}

impl Declaration {
    fn check(&self) -> Result<(), Invalid> {
        if !is_dotted_name(&self.name, MAX_NAME) {
            return Err(Invalid::new(
                "the name must be a lower-case letter, then up to 62 of a-z, 0-9, '-', '_' and '.'",
            ));
        }
        text::check_description(&self.description)?;
        self.kind.check_itself()?;
        if let Some(default) = &self.default {
            self.kind
                .check(default)
                .map_err(|Invalid(why)| Invalid::owned(format!("the default {why}")))?;
        }
        self.header.as_deref().map_or(Ok(()), check_header)
    }
}

/// One line for the audit log.
impl fmt::Display for Declaration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Text {
                max_length,
                allowed,
            } if allowed.is_empty() => write!(f, "string of at most {max_length}")?,
            // Quoted, since a text may hold whatever would part it from the next.
            Kind::Text {
                max_length,
                allowed,
            } => write!(f, "string of at most {max_length}, one of {allowed:?}")?,
            Kind::Enum(values) => write!(f, "enum, {}", values.join("|"))?,
            Kind::Url { allow_http: false } => f.write_str("url")?,
            Kind::Url { allow_http: true } => f.write_str("url, http allowed")?,
            Kind::Bool => f.write_str("bool")?,
            Kind::Integer { min, max } => write!(f, "integer, {min} to {max}")?,
        }
        for (what, value) in [
            ("default", &self.default),
            ("header", &self.header),
            ("description", &Some(self.description.clone())),
        ] {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                write!(f, "; {what} {value}")?;
            }
        }
        Ok(())
    }
}

/// True if the header, in lower case, has a meaning of its own: what proxies, browsers or servers act upon.
#[must_use]
pub fn is_taken_header(name: &str) -> bool {
    let mut starts = TAKEN_HEADER_STARTS.iter();
    TAKEN_HEADERS.contains(&name) || starts.any(|start| name.starts_with(start))
}

fn check_header(header: &str) -> Result<(), Invalid> {
    let well_formed = matches!(header.as_bytes(), [b'a'..=b'z' | b'0'..=b'9', ..])
        && header.len() <= MAX_HEADER
        && header
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if !well_formed {
        return Err(Invalid::new(
            "the header must have at most 64 letters, digits and '-'",
        ));
    }
    if header == KEY_HEADER || is_taken_header(header) {
        return Err(Invalid::owned(format!(
            "the header {header} has a meaning of its own; choose another"
        )));
    }
    Ok(())
}

/// All settings that a workspace declares, sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declarations(Box<[Declaration]>);

/// Which declaration was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidDeclaration {
    /// Its index; `None`: the list as a whole.
    pub index: Option<usize>,
    /// Why.
    pub reason: Invalid,
}

impl Declarations {
    /// Collects declarations.
    ///
    /// # Errors
    /// If there are more than 50, one is malformed, or two have one name or one header.
    pub fn new(mut all: Vec<Declaration>) -> Result<Self, InvalidDeclaration> {
        if all.len() > MAX_SETTINGS {
            return Err(InvalidDeclaration {
                index: None,
                reason: Invalid::new("must have at most 50 declarations"),
            });
        }
        let (mut names, mut headers) = (HashSet::new(), HashSet::new());
        for (index, declaration) in all.iter().enumerate() {
            let Declaration { name, header, .. } = declaration;
            let mut unique = || {
                if !names.insert(name) {
                    return Err(Invalid::owned(format!("{name:?} is declared twice")));
                }
                match header {
                    Some(header) if !headers.insert(header) => Err(Invalid::owned(format!(
                        "the header {header} is that of another setting"
                    ))),
                    _ => Ok(()),
                }
            };
            declaration
                .check()
                .and_then(|()| unique())
                .map_err(|reason| InvalidDeclaration {
                    index: Some(index),
                    reason,
                })?;
        }
        all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(Self(all.into()))
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Declaration> {
        self.0.iter()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The declaration of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Declaration> {
        let place = self
            .0
            .binary_search_by(|declaration| (*declaration.name).cmp(name))
            .ok()?;
        Some(&self.0[place])
    }

    /// Checks a value for a setting.
    ///
    /// # Errors
    /// If the setting is not declared, or does not take the value.
    pub fn check(&self, name: &str, value: &str) -> Result<(), Invalid> {
        match self.get(name) {
            Some(declaration) => declaration.kind.check(value),
            None => Err(Invalid::new("is not a setting that the workspace declares")),
        }
    }

    /// The value of each setting that has one: the request's before the key's before the default. `None`: the request has
    /// a value that is not valid, or for no setting.
    #[must_use]
    pub fn resolve(&self, key: &TextMap, request: &dyn Requested) -> Option<Vec<Effective>> {
        if request.has_others_than(self) {
            return None;
        }
        let mut all = Vec::new();
        for declaration in &self.0 {
            let asked = request.value_of(declaration);
            if let Some(value) = &asked
                && declaration.kind.check(value).is_err()
            {
                return None;
            }
            let value = asked
                .as_deref()
                .or_else(|| key.get(&declaration.name))
                .or(declaration.default.as_deref());
            if let Some(value) = value {
                all.push(Effective {
                    name: String::from(&*declaration.name),
                    value: value.to_owned(),
                    header: declaration.header.clone(),
                });
            }
        }
        Some(all)
    }
}

/// A setting in force for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The setting's name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// The header that a gateway may pass it under.
    pub header: Option<Box<str>>,
}

/// A request's own values for settings.
pub trait Requested: fmt::Debug + Sync {
    /// The value for a setting, whether it is valid or not.
    fn value_of(&self, declaration: &Declaration) -> Option<Cow<'_, str>>;

    /// True if there is a value for what is no setting.
    fn has_others_than(&self, declared: &Declarations) -> bool;
}

/// By the settings' names.
impl Requested for BTreeMap<String, String> {
    fn value_of(&self, declaration: &Declaration) -> Option<Cow<'_, str>> {
        self.get(&*declaration.name)
            .map(|value| value.as_str().into())
    }

    fn has_others_than(&self, declared: &Declarations) -> bool {
        self.keys().any(|name| declared.get(name).is_none())
    }
}

#[cfg(test)]
mod tests;
