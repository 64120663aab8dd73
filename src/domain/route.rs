//! Which calls ask for which permissions of which workspace's keys.
//!
//! A route names a template of paths and, if it likes, methods. `/v1/messages/{id}` is the path `/v1/messages/7` and no longer
//! or shorter one; `/files/{*rest}` is every path below `/files`, but not `/files` itself. Letters of another case make
//! another path, as in RFC 3986: for an upstream that takes `/Admin` for `/admin`, no template of one must be open to more
//! keys than the other.
//!
//! Of all templates that a path is of, the most specific one decides. Templates are compared segment by segment from the left,
//! and at the first difference a literal is more specific than `{name}`, and that more than `{*rest}`. A method that no route of
//! that template lists has no policy, whatever a less specific template says of it: `GET /admin/{*rest}` beside
//! `/{*any}` opens no `DELETE /admin/users`. `HEAD` is a method like any other.

mod path;
mod template;

use std::{collections::HashMap, fmt};

pub use path::{AmbiguousPath, MAX_PATH};
pub use template::{MAX_PARAMETERS, MAX_TEMPLATE, Template};

use super::{
    Invalid,
    id::WorkspaceId,
    permission::{ANY, MAX_PERMISSIONS, is_permission},
};

/// The most routes of a table.
pub const MAX_ROUTES: usize = 1_000;
/// The longest method, in characters.
pub const MAX_METHOD: usize = 64;
/// What stands for no permission at all.
const NONE: &str = "none";

/// What a call asks of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whose keys are accepted.
    pub workspace: WorkspaceId,
    /// What must be held; none: any valid key will do.
    pub permissions: Box<[String]>,
}

/// A method of RFC 9110, in upper case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Method(Box<str>);

/// Calls of one kind, and what they ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Of which methods; `None`: of any.
    pub methods: Option<Box<[Method]>>,
    /// Of which paths.
    pub template: Template,
    /// What they ask for.
    pub policy: Policy,
}

/// The policies of all routes.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    routes: Box<[Route]>,
    /// By template, the routes that have it, as places in `routes`. Their methods do not overlap.
    by_template: matchit::Router<Box<[usize]>>,
}

impl Policy {
    /// Reads a policy: a workspace, and names of permissions with commas between them, or `none` alone.
    #[must_use]
    pub fn new(workspace: &str, permission: &str) -> Option<Self> {
        Some(Self {
            workspace: WorkspaceId::parse(workspace).ok()?,
            permissions: Self::permissions(permission).ok()?,
        })
    }

    /// Reads names of permissions with commas between them, or `none` alone.
    ///
    /// # Errors
    /// If the text is of another form, or has more than 100 names.
    pub fn permissions(text: &str) -> Result<Box<[String]>, Invalid> {
        let invalid = || {
            Invalid::new(
                "must be names of permissions with nothing but commas between them, at most 100, or none alone; \
                 '*' is what a key holds, not what a call asks for",
            )
        };
        if text == NONE {
            return Ok([].into());
        }
        let names: Box<[String]> = text
            .split(',')
            // One more than there may be is enough to see that there are too many.
            .take(MAX_PERMISSIONS + 1)
            .map(str::to_owned)
            .collect();
        let is_name = |name: &String| name != ANY && name != NONE && is_permission(name);
        if names.len() <= MAX_PERMISSIONS && names.iter().all(is_name) {
            Ok(names)
        } else {
            Err(invalid())
        }
    }
}

impl Method {
    /// Reads a method.
    ///
    /// # Errors
    /// If the text is not a token of RFC 9110 in upper case.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if !is_method(text) {
            return Err(Invalid::new("must be a method, such as POST"));
        }
        // They are told apart by case, so that `post` would be another method, which nobody sends.
        if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Err(Invalid::new("must be in upper case, such as POST"));
        }
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_method(text: &str) -> bool {
    text.len() <= MAX_METHOD && is_token(text)
}

/// True for a token of RFC 9110, section 5.6.2, which a method is.
#[must_use]
pub fn is_token(text: &str) -> bool {
    let symbol = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || symbol(b))
}

impl Route {
    fn is_of(&self, method: &str) -> bool {
        match &self.methods {
            None => true,
            Some(methods) => methods.iter().any(|known| *known.0 == *method),
        }
    }

    /// A method that both are of, for people.
    fn overlap<'a>(&'a self, other: &'a Self) -> Option<&'a str> {
        match (&self.methods, &other.methods) {
            (None, None) => Some("any method"),
            (None, Some(methods)) | (Some(methods), None) => methods.first().map(Method::as_str),
            (Some(methods), Some(others)) => methods
                .iter()
                .find(|method| others.contains(method))
                .map(Method::as_str),
        }
    }
}

impl RouteTable {
    /// Makes a table.
    ///
    /// # Errors
    /// With everything that is wrong, and with which route: a method of a template that another route has, too; templates of
    /// which none is more specific than the other; more than 1,000 routes.
    pub fn new(routes: Vec<Route>) -> Result<Self, Vec<(usize, Invalid)>> {
        if routes.len() > MAX_ROUTES {
            return Err(vec![(
                MAX_ROUTES,
                Invalid::new("is beyond the 1,000 routes that there may be"),
            )]);
        }
        let mut faults = Vec::new();
        // In the order in which they were written, so that the later route is at fault.
        let mut templates: Vec<Vec<usize>> = Vec::new();
        let mut known: HashMap<String, usize> = HashMap::new();
        for (index, route) in routes.iter().enumerate() {
            let number = *known.entry(route.template.shape()).or_insert_with(|| {
                templates.push(Vec::new());
                templates.len() - 1
            });
            let clash = templates[number].iter().find_map(|earlier| {
                let earlier = &routes[*earlier];
                Some((earlier, route.overlap(earlier)?))
            });
            if let Some((earlier, method)) = clash {
                faults.push((index, doubled(earlier, method)));
            }
            templates[number].push(index);
        }
        let mut by_template = matchit::Router::new();
        for (number, members) in templates.iter().enumerate() {
            // Never empty: it was made for its first.
            let index = members[0];
            let template = &routes[index].template;
            let inserted = by_template.insert(template.shape(), members.clone().into_boxed_slice());
            if let Err(error) = inserted {
                let earlier = templates[..number]
                    .iter()
                    .map(|members| &routes[members[0]].template)
                    .find(|earlier| earlier.rivals(template));
                let other = earlier.map_or_else(|| error.to_string(), ToString::to_string);
                faults.push((index, rivals(&other)));
            }
        }
        if faults.is_empty() {
            Ok(Self {
                routes: routes.into(),
                by_template,
            })
        } else {
            faults.sort_by_key(|(index, _)| *index);
            Err(faults)
        }
    }

    /// The policy of a call; `None`: no route is of it.
    ///
    /// # Errors
    /// If the path is ambiguous.
    pub fn find(
        &self,
        method: &str,
        path_and_query: &str,
    ) -> Result<Option<&Policy>, AmbiguousPath> {
        Ok(self
            .find_route(method, path_and_query)?
            .map(|route| &route.policy))
    }

    fn find_route(
        &self,
        method: &str,
        path_and_query: &str,
    ) -> Result<Option<&Route>, AmbiguousPath> {
        let path = path::unambiguous(path_and_query)?;
        // A route of any method is of none that is no method.
        if !is_method(method) {
            return Ok(None);
        }
        let Ok(found) = self.by_template.at(path) else {
            return Ok(None);
        };
        let mut routes = found.value.iter().map(|place| &self.routes[*place]);
        Ok(routes.find(|route| route.is_of(method)))
    }

    /// All of them, as they were given.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}

fn doubled(earlier: &Route, method: &str) -> Invalid {
    Invalid::owned(format!(
        "{method} of such paths has its policy from {earlier} already; give each method of a path one route"
    ))
}

fn rivals(other: &str) -> Invalid {
    Invalid::owned(format!(
        "a path would be of it and of {other}, and neither is more specific; let both have {{name}} or both {{*rest}} there"
    ))
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Its methods and its template.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.methods {
            None => f.write_str("any method")?,
            Some(methods) => {
                for (index, method) in methods.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{method}")?;
                }
            }
        }
        write!(f, " {}", self.template)
    }
}

/// The workspace, and the permissions as they are written.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let permissions = self.permissions.join(",");
        let permissions = if permissions.is_empty() {
            NONE
        } else {
            &permissions
        };
        write!(f, "{}: {permissions}", self.workspace)
    }
}

#[cfg(test)]
mod tests;
