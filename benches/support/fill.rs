//! A store with many keys.

use std::sync::Arc;

use portcullis::{
    domain::{
        event::{Action, Entity, Event},
        id::{TokenPrefix, WorkspaceId},
        key::Key,
        permission::PermissionSet,
        secret::{GeneratedSecret, Secret},
        source::IpAllowlist,
        text::TextMap,
        time::Timestamp,
    },
    store::{Batch, Store, Write},
};

use super::gate::{fill_random, random_id, seal};

/// Secrets that all keys share: to seal one takes argon2, and what reads a record does not care whose it was.
const SEALED: u64 = 16;

/// Writes keys with random ids, a name of their own, one owner, one permission of four, and no list or label: `batch` of them
/// a commit.
///
/// # Panics
/// If the store does not take them.
pub async fn fill(store: &dyn Store, keys: u64, batch: u64) {
    let sealed: Vec<Secret> = (0..SEALED).map(|_| sealed_secret()).collect();
    let owner: Arc<str> = "workspaces/system/keys/0123456789abcdefghijkl".into();
    let permissions =
        ["sms.send", "sms.read", "otp.send", "otp.verify"].map(|name| PermissionSet::new([name]));
    let pick = |number: u64, among: usize| usize::try_from(number).expect("it fits") % among;
    let key = |number: u64| Key {
        id: random_id(),
        workspace: WorkspaceId::default_workspace(),
        display_name: format!("key {number}").into(),
        description: "".into(),
        owner: owner.clone(),
        token_prefix: TokenPrefix::default(),
        disabled: false,
        permissions: permissions[pick(number, permissions.len())].clone(),
        ip_allowlist: IpAllowlist::default(),
        labels: TextMap::default(),
        settings: TextMap::default(),
        create_time: at(number),
        update_time: at(number),
        expire_time: None,
        archive_time: None,
    };
    for first in (0..keys).step_by(usize::try_from(batch).expect("it fits")) {
        let writes = (first..keys.min(first + batch))
            .map(|number| {
                let secret = sealed[pick(number, sealed.len())].clone();
                Write::Key(Box::new(key(number)), vec![secret])
            })
            .collect();
        let batch = Batch {
            reads: Vec::new(),
            quiet: None,
            mutation: None,
            writes,
            event: event(),
        };
        store.commit(batch).await.expect("the store takes it");
    }
}

/// A millisecond after another, from some day in 2026.
fn at(number: u64) -> Timestamp {
    Timestamp::from_unix_nanos(1_780_000_000_000_000_000 + number * 1_000_000)
}

fn sealed_secret() -> Secret {
    seal(&GeneratedSecret::from_random(random_id(), &mut fill_random))
}

fn event() -> Event {
    Event {
        time: at(0),
        actor: "local:0".to_owned(),
        team: String::new(),
        action: Action::Create,
        method: "Fill".into(),
        entity: Entity::Store,
        resource: "store".to_owned(),
        changes: Vec::new(),
        source_address: String::new(),
        request_id: String::new(),
    }
}
