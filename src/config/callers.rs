//! Whom client certificates stand for: `[[caller]]` of the file.

use super::{
    Origin, Setting,
    layers::{Layers, Noted},
    table::{Located, Table},
};
use crate::{
    domain::{grant::Grants, permission::PermissionSet},
    tls::CallerName,
};

/// A caller that is known by the name in its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedCaller {
    /// The name.
    pub name: CallerName,
    /// What it may do.
    pub grants: Grants,
}

/// Reads the callers, and notes a row for each. `None` if a fault was noted instead.
pub(super) fn read(layers: &mut Layers<'_>) -> Option<Vec<MappedCaller>> {
    let mut seen: Vec<(CallerName, Origin)> = Vec::new();
    let read = layers.tables("caller", |table, layers| read_one(table, layers, &mut seen));
    let asks_certificates = [Setting::GateClientCa, Setting::AdminClientCa]
        .into_iter()
        .any(|setting| layers.source(setting) != Origin::Default);
    if let (Some((_, origin)), false) = (seen.first(), asks_certificates) {
        layers.conflict(&format!(
            "caller, from {origin}: is about client certificates, and no listener asks for them; name their authorities with \
             gate-client-ca or admin-client-ca, or take this out"
        ));
    }
    Some(read.ok()?.unwrap_or_default())
}

fn read_one(
    table: &mut Table,
    layers: &mut Layers<'_>,
    seen: &mut Vec<(CallerName, Origin)>,
) -> Result<MappedCaller, Noted> {
    let spiffe = table.text("spiffe", layers);
    let dns = table.text("dns", layers);
    let permissions = table.texts("permissions", layers);
    let name = match (spiffe, dns) {
        (Ok(Some(id)), Ok(None)) => parse_name("spiffe", &id, CallerName::spiffe, table, layers),
        (Ok(None), Ok(Some(name))) => parse_name("dns", &name, CallerName::dns, table, layers),
        (Ok(_), Ok(_)) => Err(table.fault_of_all(
            "must have either spiffe or dns, and not both: name the caller by one of them",
            layers,
        )),
        (Err(noted), _) | (_, Err(noted)) => Err(noted),
    };
    let name = name.and_then(|name| {
        if let Some((_, origin)) = seen.iter().find(|(other, _)| *other == name) {
            let problem = format!("names the same caller as {origin}; take one of them out");
            return Err(table.fault_of_all(&problem, layers));
        }
        seen.push((name.clone(), table.origin().clone()));
        Ok(name)
    });
    let grants = match permissions {
        Ok(Some(permissions)) if !permissions.value.is_empty() => {
            parse_grants(&permissions, table, layers)
        }
        Ok(_) => Err(table.fault_of_all(
            "has no permissions; write those of a system key, such as permissions = [\"default:check\"]",
            layers,
        )),
        Err(noted) => Err(noted),
    };
    let (name, (grants, permissions)) = (name?, grants?);
    let value = format!("{name} may {permissions}");
    layers.row("caller", value, table.origin().clone());
    Ok(MappedCaller { name, grants })
}

fn parse_name(
    field: &'static str,
    text: &Located<String>,
    parse: impl FnOnce(&str) -> Result<CallerName, String>,
    table: &Table,
    layers: &mut Layers<'_>,
) -> Result<CallerName, Noted> {
    parse(&text.value).map_err(|why| {
        let problem = format!("{:?} {why}", text.value);
        table.fault(field, &text.origin, &problem, layers)
    })
}

/// With how they are shown. Each by itself first, so that the one that is wrong is named.
fn parse_grants(
    permissions: &Located<Vec<Located<String>>>,
    table: &Table,
    layers: &mut Layers<'_>,
) -> Result<(Grants, String), Noted> {
    let mut wrong = None;
    for Located { value, origin } in &permissions.value {
        if let Err(why) = Grants::parse(&PermissionSet::new([value.as_str()])) {
            let problem = format!("{value:?} {why}");
            wrong = Some(table.fault("permissions", origin, &problem, layers));
        }
    }
    if let Some(noted) = wrong {
        return Err(noted);
    }
    let names: Vec<_> = permissions
        .value
        .iter()
        .map(|item| item.value.as_str())
        .collect();
    let grants = Grants::parse(&PermissionSet::new(names.iter().copied()))
        .map_err(|why| table.fault("permissions", &permissions.origin, &why.to_string(), layers))?;
    Ok((grants, names.join(",")))
}
