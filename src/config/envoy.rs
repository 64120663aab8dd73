//! How Envoy's requests are read: `[envoy]` and `[[envoy.route]]` in the file.

use super::{
    Origin,
    layers::{Layers, Noted},
    table::{Located, Table},
};
use crate::domain::{
    id::WorkspaceId,
    route::{Method, Policy, Route, RouteTable, Template},
    setting::{KEY_HEADER, is_taken_header},
};

/// How Envoy's requests are read.
#[derive(Debug, Clone)]
pub struct EnvoySettings {
    /// The header that a key may come in, beside `authorization`, in lower case. Default `x-api-key`.
    pub header: Option<Box<str>>,
    /// The query parameter that a key may come in. Default: none.
    pub query_parameter: Option<Box<str>>,
    /// The source is this entry of `x-forwarded-for`, counted from the right, 1 to 10; 0: the peer that Envoy reports.
    pub trusted_hops: usize,
    /// What calls ask for whose route says nothing.
    pub routes: RouteTable,
}

const TABLE: &str = "envoy";
const MAX_HOPS: usize = 10;
const MAX_NAME: usize = 64;

/// Headers in which no key may come, beside those that no setting may have either: they say something else.
const ALSO_TAKEN: [&str; 5] = [
    "accept",
    "cache-control",
    "pragma",
    "traceparent",
    "tracestate",
];
const ALSO_TAKEN_STARTS: [&str; 2] = ["accept-", "access-control-"];

impl Default for EnvoySettings {
    fn default() -> Self {
        Self {
            header: Some(KEY_HEADER.into()),
            query_parameter: None,
            trusted_hops: 0,
            routes: RouteTable::default(),
        }
    }
}

/// What the table says, with its places.
#[derive(Default)]
struct Said {
    header: Option<Located<Option<Box<str>>>>,
    query_parameter: Option<Located<Option<Box<str>>>>,
    trusted_hops: Option<Located<usize>>,
    routes: Vec<(Route, Origin)>,
}

/// Reads the table, and notes a row for each of its fields and each route.
pub(super) fn read(layers: &mut Layers<'_>) -> Option<EnvoySettings> {
    let said = layers.table(TABLE, read_table).ok()?.unwrap_or_default();
    let defaults = EnvoySettings::default();
    let show = |name: &Option<Box<str>>| name.as_deref().unwrap_or("none").to_owned();
    let header = or(said.header, defaults.header);
    layers.row("envoy.header", show(&header.value), header.origin);
    let parameter = or(said.query_parameter, defaults.query_parameter);
    layers.row(
        "envoy.query-parameter",
        show(&parameter.value),
        parameter.origin,
    );
    let hops = or(said.trusted_hops, defaults.trusted_hops);
    layers.row("envoy.trusted-hops", hops.value.to_string(), hops.origin);
    let first = said.routes.first();
    let origin = first.map_or(Origin::Default, |(_, origin)| origin.clone());
    layers.row("envoy.routes", said.routes.len().to_string(), origin);
    let (routes, origins): (Vec<_>, Vec<_>) = said.routes.into_iter().unzip();
    for (route, origin) in routes.iter().zip(&origins) {
        let value = format!("{route} asks {}", route.policy);
        layers.row("envoy.route", value, origin.clone());
    }
    match RouteTable::new(routes) {
        Ok(routes) => Some(EnvoySettings {
            header: header.value,
            query_parameter: parameter.value,
            trusted_hops: hops.value,
            routes,
        }),
        Err(faults) => {
            for (index, fault) in faults {
                // There is a place for each route.
                let origin = origins.get(index).unwrap_or(&Origin::Default);
                layers.fault(&format!("envoy.route, from {origin}: {fault}"));
            }
            None
        }
    }
}

fn or<T>(said: Option<Located<T>>, default: T) -> Located<T> {
    said.unwrap_or(Located {
        value: default,
        origin: Origin::Default,
    })
}

fn read_table(table: &mut Table, layers: &mut Layers<'_>) -> Result<Said, Noted> {
    // Neither is quoted: who takes the one for the other writes a key there.
    let header = read_text(table, "header", layers, |text| optional(text, check_header));
    let query_parameter = read_text(table, "query-parameter", layers, |text| {
        optional(text, check_parameter)
    });
    let trusted_hops = read_hops(table, layers);
    let routes = table.tables("route", layers, |table, layers| {
        Ok((read_route(table, layers)?, table.origin().clone()))
    });
    Ok(Said {
        header: header?,
        query_parameter: query_parameter?,
        trusted_hops: trusted_hops?,
        routes: routes?.unwrap_or_default(),
    })
}

fn read_hops(table: &mut Table, layers: &mut Layers<'_>) -> Result<Option<Located<usize>>, Noted> {
    const FIELD: &str = "trusted-hops";
    let Some(Located { value, origin }) = table.number(FIELD, layers)? else {
        return Ok(None);
    };
    match usize::try_from(value) {
        Ok(value) if value <= MAX_HOPS => Ok(Some(Located { value, origin })),
        _ => Err(table.fault(
            FIELD,
            &origin,
            &format!(
                "is {value}; write 0 for the peer that Envoy reports, or 1 to 10 for that entry of x-forwarded-for, \
                 counted from the right"
            ),
            layers,
        )),
    }
}

fn read_route(table: &mut Table, layers: &mut Layers<'_>) -> Result<Route, Noted> {
    let methods = read_methods(table, layers);
    let template = read_text(table, "path", layers, |text| {
        Template::parse(text).map_err(|why| format!("{text:?} {why}"))
    });
    let workspace = read_text(table, "workspace", layers, parse_workspace);
    let permissions = read_text(table, "permission", layers, |text| {
        Policy::permissions(text).map_err(|why| format!("{text:?} {why}"))
    });
    let template = required(
        template,
        "has no path; write one, such as path = \"/v1/messages/{id}\"",
        table,
        layers,
    );
    let workspace = required(
        workspace,
        "has no workspace; name the one whose keys its callers have",
        table,
        layers,
    );
    let permissions = required(
        permissions,
        "has no permission; name what a key must hold, or write permission = \"none\" if any of the workspace's will do",
        table,
        layers,
    );
    Ok(Route {
        methods: methods?,
        template: template?,
        policy: Policy {
            workspace: workspace?,
            permissions: permissions?,
        },
    })
}

fn read_methods(
    table: &mut Table,
    layers: &mut Layers<'_>,
) -> Result<Option<Box<[Method]>>, Noted> {
    const FIELD: &str = "methods";
    let Some(Located { value, origin }) = table.texts(FIELD, layers)? else {
        return Ok(None);
    };
    if value.is_empty() {
        let problem = "lists none; name one, or leave methods out if any will do";
        return Err(table.fault(FIELD, &origin, problem, layers));
    }
    let methods: Vec<_> = value
        .iter()
        .map(|Located { value, origin }| {
            Method::parse(value)
                .map_err(|why| table.fault(FIELD, origin, &format!("{value:?} {why}"), layers))
        })
        // All of them are read before the first fault ends it.
        .collect();
    methods.into_iter().collect::<Result<_, _>>().map(Some)
}

fn parse_workspace(text: &str) -> Result<WorkspaceId, String> {
    let workspace = WorkspaceId::parse(text).map_err(|why| format!("{text:?} {why}"))?;
    if workspace.is_system() {
        return Err("\"system\" has no key that opens a call; name another workspace".into());
    }
    Ok(workspace)
}

fn read_text<T>(
    table: &mut Table,
    field: &'static str,
    layers: &mut Layers<'_>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<Located<T>>, Noted> {
    let Some(Located { value, origin }) = table.text(field, layers)? else {
        return Ok(None);
    };
    match parse(&value) {
        Ok(value) => Ok(Some(Located { value, origin })),
        Err(problem) => Err(table.fault(field, &origin, &problem, layers)),
    }
}

fn required<T>(
    found: Result<Option<Located<T>>, Noted>,
    how: &str,
    table: &Table,
    layers: &mut Layers<'_>,
) -> Result<T, Noted> {
    match found? {
        Some(found) => Ok(found.value),
        None => Err(table.fault_of_all(how, layers)),
    }
}

/// What an empty text says is that there is none.
fn optional(
    text: &str,
    check: impl FnOnce(&str) -> Result<(), String>,
) -> Result<Option<Box<str>>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    check(text)?;
    Ok(Some(text.into()))
}

fn check_header(name: &str) -> Result<(), String> {
    let well_formed = name.len() <= MAX_NAME
        && name
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if !well_formed {
        return Err(
            "is no header's name in lower case; write at most 64 of a-z, 0-9 and '-', or \"\" for no such header"
                .into(),
        );
    }
    let is_taken = is_taken_header(name)
        || ALSO_TAKEN.contains(&name)
        || ALSO_TAKEN_STARTS
            .iter()
            .any(|start| name.starts_with(start));
    if name == "authorization" {
        return Err("names authorization, which is always looked at; leave it out, or write \"\" for no other header".into());
    }
    if is_taken {
        return Err(format!(
            "names {name}, which has a meaning of its own; choose another, such as x-api-key"
        ));
    }
    Ok(())
}

fn check_parameter(name: &str) -> Result<(), String> {
    let well_formed = name.len() <= MAX_NAME
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    if well_formed {
        Ok(())
    } else {
        Err("is no name of a query parameter that is always written the same; write at most 64 letters, digits, '-', '.', '_' and '~'".into())
    }
}
