//! What the scripts answer, read. Nothing that stands in Redis is trusted.

use std::{collections::BTreeMap, time::Duration};

use redis::Value;

use super::Answered;
use crate::{
    domain::{id::Revision, time::Timestamp},
    store::{
        StoreError,
        codec::change::is_incarnation,
        shared::{History, Member, Roll, Standing},
    },
};

/// What stands in `ctl`, beside what everybody is told.
pub(super) struct Found {
    pub(super) standing: Standing,
    /// In how many buckets the records are.
    pub(super) buckets: u32,
}

/// Most buckets that a store is believed to have.
const MOST_BUCKETS: u32 = 65_536;

/// An answer's parts: its first word, and the rest.
pub(super) fn parts(answer: Value) -> Result<(String, Vec<Value>), StoreError> {
    let Value::Array(parts) = answer else {
        return Err(nonsense("an answer"));
    };
    let mut parts = parts.into_iter();
    let word = parts.next().ok_or(nonsense("an answer"))?;
    Ok((text(word)?, parts.collect()))
}

/// What cannot be made sense of.
pub(super) fn nonsense(what: &str) -> StoreError {
    StoreError::Failed(format!("{what} from Redis makes no sense"))
}

/// Nobody has made a store there.
pub(super) fn absent() -> StoreError {
    StoreError::Failed(
        "there is no store in this namespace of Redis; `portcullis init` makes one".to_owned(),
    )
}

pub(super) fn bytes(value: Value) -> Result<Vec<u8>, StoreError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        Value::Okay => Ok(b"OK".to_vec()),
        Value::Int(number) => Ok(number.to_string().into_bytes()),
        _ => Err(nonsense("a value")),
    }
}

pub(super) fn text(value: Value) -> Result<String, StoreError> {
    String::from_utf8(bytes(value)?).map_err(|_| nonsense("a text"))
}

/// A revision that this store may have reached.
pub(super) fn revision(text: &str) -> Result<Revision, StoreError> {
    Revision::parse(text)
        .filter(|revision| revision.is_plausible())
        .ok_or(nonsense("a revision"))
}

/// Field and value in turns, as hashes come from scripts.
fn pairs(value: Value) -> Answered<Vec<(Vec<u8>, Vec<u8>)>> {
    match value {
        Value::Array(all) => {
            let mut all = all.into_iter();
            let mut pairs = Vec::with_capacity(all.len() / 2);
            while let (Some(field), Some(value)) = (all.next(), all.next()) {
                pairs.push((bytes(field)?, bytes(value)?));
            }
            Ok(pairs)
        }
        Value::Map(all) => all
            .into_iter()
            .map(|(field, value)| Ok((bytes(field)?, bytes(value)?)))
            .collect(),
        _ => Err(nonsense("a hash")),
    }
}

/// `{ctl, server, seconds, microseconds}`
pub(super) fn found(value: Value) -> Answered<Found> {
    let Value::Array(parts) = value else {
        return Err(nonsense("a standing"));
    };
    let [ctl, server, seconds, micros] =
        <[Value; 4]>::try_from(parts).map_err(|_| nonsense("a standing"))?;
    let ctl: BTreeMap<String, String> = pairs(ctl)?
        .into_iter()
        .map(|(field, value)| Ok((as_text(field)?, as_text(value)?)))
        .collect::<Answered<_>>()?;
    let field = |name: &str| {
        ctl.get(name)
            .map(String::as_str)
            .ok_or_else(|| nonsense(&format!("the store's {name}")))
    };
    let number = |name: &str| -> Answered<u64> {
        field(name)?
            .parse()
            .map_err(|_| nonsense(&format!("the store's {name}")))
    };
    let epoch = u32::try_from(number("epoch")?).map_err(|_| nonsense("the store's epoch"))?;
    let buckets = u32::try_from(number("buckets")?)
        .ok()
        .filter(|buckets| (1..=MOST_BUCKETS).contains(buckets))
        .ok_or(nonsense("the store's number of buckets"))?;
    let store = field("store")?.to_owned();
    if !is_incarnation(&store) {
        return Err(nonsense("the store's id"));
    }
    let mut opened_after = BTreeMap::new();
    for (name, value) in &ctl {
        if let Some(epoch) = name.strip_prefix("opened_after:") {
            let epoch = epoch.parse().map_err(|_| nonsense("an epoch"))?;
            opened_after.insert(epoch, revision(value)?);
        }
    }
    let head = revision(field("head")?)?;
    if head.epoch != epoch {
        return Err(nonsense("the store's head"));
    }
    let seconds = text(seconds)?.parse().map_err(|_| nonsense("a time"))?;
    let micros: i32 = text(micros)?.parse().map_err(|_| nonsense("a time"))?;
    let standing = Standing {
        history: History {
            store,
            epoch,
            server: field("server")?.to_owned(),
        },
        server: text(server)?,
        head,
        floor: revision(field("floor")?)?,
        opened_after,
        settled: number("settled")? == u64::from(epoch),
        lease: Duration::from_millis(number("lease_ms")?),
        time: Timestamp::new(seconds, micros.saturating_mul(1_000))
            .map_err(|_| nonsense("a time"))?,
    };
    Ok(Found { standing, buckets })
}

fn as_text(bytes: Vec<u8>) -> Answered<String> {
    String::from_utf8(bytes).map_err(|_| nonsense("a text"))
}

/// The members, as they stand in their hash.
pub(super) fn roll(standing: Standing, members: Value) -> Answered<Roll> {
    let members = pairs(members)?
        .into_iter()
        .map(|(incarnation, entry)| member(&incarnation, &entry))
        .collect();
    Ok(Roll { standing, members })
}

/// A member whose entry cannot be read is still one: it has acknowledged nothing, and is silent.
fn member(incarnation: &[u8], entry: &[u8]) -> Member {
    let incarnation = String::from_utf8_lossy(incarnation).into_owned();
    let entry = String::from_utf8_lossy(entry);
    let read = || {
        let mut words = entry.splitn(4, ' ');
        let applied = revision(words.next()?).ok()?;
        let renewals = words.next()?.parse().ok()?;
        let millis: u64 = words.next()?.parse().ok()?;
        let renewed = Timestamp::from_unix_nanos(millis.checked_mul(1_000_000)?);
        Some((applied, renewals, renewed, words.next()?.to_owned()))
    };
    let (applied, renewals, renewed, name) = read().unwrap_or_else(|| {
        let never = Timestamp::from_unix_nanos(0);
        (Revision::default(), 0, never, "unreadable".to_owned())
    });
    Member {
        name,
        incarnation,
        applied,
        renewals,
        renewed,
    }
}
