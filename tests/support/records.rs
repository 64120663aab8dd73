//! Records and batches, for the suites that drive a store itself.

use std::collections::BTreeMap;

use portcullis::{
    domain::{
        event::{Action, Entity, Event, FieldChange},
        id::{KeyId, Revision, TokenPrefix, WorkspaceId},
        key::Key,
        name::KeyName,
        permission::PermissionSet,
        secret::{GeneratedSecret, Secret},
        source::IpAllowlist,
        text::TextMap,
        time::Timestamp,
        workspace::Workspace,
    },
    store::{
        Batch, Direction, EventRecord, FoundEvent, Mutation, MutationId, Portion, RecordId, Store,
        Stored, Write,
    },
};

#[must_use]
pub fn at(nanos: u64) -> Timestamp {
    Timestamp::from_unix_nanos(nanos)
}

#[must_use]
pub fn key_id(number: u64) -> KeyId {
    KeyId::from_bits(number.into())
}

/// The record id of the key with this number.
#[must_use]
pub fn id(number: u64) -> RecordId {
    RecordId::Key(key_id(number))
}

/// A key of the default workspace with little to it.
#[must_use]
pub fn key(number: u64, display_name: &str) -> Key {
    Key {
        id: key_id(number),
        workspace: WorkspaceId::default_workspace(),
        display_name: display_name.into(),
        description: "".into(),
        owner: "local:0".into(),
        token_prefix: TokenPrefix::default(),
        disabled: false,
        permissions: PermissionSet::any(),
        ip_allowlist: IpAllowlist::default(),
        labels: TextMap::default(),
        settings: TextMap::default(),
        create_time: at(1),
        update_time: at(1),
        expire_time: None,
        archive_time: None,
    }
}

/// Writes such a key.
#[must_use]
pub fn put(number: u64, display_name: &str) -> Write {
    Write::Key(Box::new(key(number, display_name)), Vec::new())
}

/// Deletes such a key.
#[must_use]
pub fn delete(number: u64) -> Write {
    Write::DeleteKey(KeyName {
        workspace: WorkspaceId::default_workspace(),
        id: key_id(number),
    })
}

/// The mutation with this number, asked for in this way.
#[must_use]
pub fn mutation(number: u64, fingerprint: u8) -> Mutation {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Mutation {
        id: MutationId(id),
        fingerprint: [fingerprint; 32],
    }
}

/// A secret for a key, and what is kept of it.
#[must_use]
pub fn issue(key: &Key, slot: u32) -> (GeneratedSecret, Secret) {
    let random = &mut |buffer: &mut [u8]| getrandom::fill(buffer).expect("randomness");
    let secret = GeneratedSecret::from_random(key.id, random);
    let sealed = Secret::seal(slot, &secret, at(2), random);
    (secret, sealed)
}

#[must_use]
pub fn workspace(id: &str, display_name: &str) -> Workspace {
    Workspace {
        display_name: display_name.into(),
        ..Workspace::new(
            WorkspaceId::parse(id).expect("a workspace's id"),
            TokenPrefix::default(),
            at(1),
        )
    }
}

/// An event on a resource.
#[must_use]
pub fn event(resource: &str) -> Event {
    Event {
        time: at(1_700_000_000_000_000_001),
        actor: "local:0".into(),
        team: "platform".into(),
        action: Action::Update,
        method: "UpdateKey".into(),
        entity: Entity::Key,
        resource: resource.into(),
        changes: vec![FieldChange {
            field: "display_name".into(),
            before: String::new(),
            after: "new".into(),
        }],
        source_address: "192.0.2.7".into(),
        request_id: "call 1".into(),
    }
}

#[must_use]
pub fn batch(
    reads: Vec<(RecordId, Option<Revision>)>,
    writes: Vec<Write>,
    resource: &str,
) -> Batch {
    Batch {
        reads,
        quiet: None,
        mutation: None,
        writes,
        event: event(resource),
    }
}

/// All records of a store, and the revision that they are of.
///
/// # Panics
///
/// When they cannot be had.
pub async fn load(store: &dyn Store) -> (Revision, BTreeMap<RecordId, Stored>) {
    let mut portions = store.load().await.expect("a snapshot");
    let mut records = BTreeMap::new();
    while let Some(portion) = portions.recv().await {
        match portion.expect("a portion") {
            Portion::Records(some) => {
                for (id, stored) in some {
                    // Of one that comes more than once the last counts.
                    match stored {
                        Stored::Gone => drop(records.remove(&id)),
                        stored => drop(records.insert(id, stored)),
                    }
                }
            }
            Portion::Complete(revision) => return (revision, records),
        }
    }
    panic!("the snapshot is not complete")
}

/// What stands in the events' places, past `after`.
///
/// # Panics
///
/// When it cannot be had.
pub async fn found_events(
    store: &dyn Store,
    after: Option<Revision>,
    direction: Direction,
) -> Vec<FoundEvent> {
    let mut portions = store.events(after, direction).await.expect("the events");
    let mut events = Vec::new();
    while let Some(portion) = portions.recv().await {
        events.extend(portion.expect("a portion"));
    }
    events
}

/// All events of a store, which must be whole, in order.
///
/// # Panics
///
/// When one is not.
pub async fn events(store: &dyn Store) -> Vec<EventRecord> {
    let found = found_events(store, None, Direction::OldestFirst).await;
    let whole = |found| match found {
        FoundEvent::Event(event) => *event,
        FoundEvent::Damaged { at, why } => panic!("the event of {at}: {why}"),
    };
    found.into_iter().map(whole).collect()
}

/// An encoded event as the format has it, tag by tag, told by nothing but these lines.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StoredEvent {
    #[prost(uint32, tag = "1")]
    pub schema: u32,
    #[prost(uint32, tag = "2")]
    pub epoch: u32,
    #[prost(uint64, tag = "3")]
    pub number: u64,
    #[prost(message, optional, tag = "4")]
    pub time: Option<StoredTime>,
    #[prost(string, tag = "5")]
    pub actor: String,
    #[prost(string, tag = "6")]
    pub team: String,
    #[prost(string, tag = "7")]
    pub action: String,
    #[prost(string, tag = "8")]
    pub method: String,
    #[prost(string, tag = "9")]
    pub entity: String,
    #[prost(string, tag = "10")]
    pub resource: String,
    #[prost(message, repeated, tag = "11")]
    pub changes: Vec<StoredChange>,
    #[prost(string, tag = "12")]
    pub source_address: String,
    #[prost(bytes = "vec", tag = "13")]
    pub digest: Vec<u8>,
    #[prost(string, tag = "14")]
    pub request_id: String,
}

impl StoredEvent {
    /// An event as it is stored, without its digest.
    #[must_use]
    pub fn of(record: &EventRecord) -> Self {
        let event = &record.event;
        Self {
            schema: record.schema,
            epoch: record.revision.epoch,
            number: record.revision.number,
            time: Some(StoredTime {
                seconds: event.time.seconds(),
                nanos: event.time.nanos(),
            }),
            actor: event.actor.clone(),
            team: event.team.clone(),
            action: format!("{:?}", event.action).to_uppercase(),
            method: event.method.to_string(),
            entity: format!("{:?}", event.entity).to_uppercase(),
            resource: event.resource.clone(),
            changes: event
                .changes
                .iter()
                .map(|change| StoredChange {
                    field: change.field.clone(),
                    before: change.before.clone(),
                    after: change.after.clone(),
                })
                .collect(),
            source_address: event.source_address.clone(),
            digest: Vec::new(),
            request_id: event.request_id.clone(),
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StoredTime {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(uint32, tag = "2")]
    pub nanos: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StoredChange {
    #[prost(string, tag = "1")]
    pub field: String,
    #[prost(string, tag = "2")]
    pub before: String,
    #[prost(string, tag = "3")]
    pub after: String,
}
