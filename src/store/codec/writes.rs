//! What a batch writes, as it is stored and as followers get it.

use super::{encode_key, encode_tombstone, encode_workspace};
use crate::{
    domain::{
        id::{Revision, WorkspaceId},
        key::KeyRecord,
    },
    store::{RecordId, Stored, WorkspaceRecord, Write},
};

/// The workspace one of whose keys is written or deleted.
pub(in crate::store) fn key_workspace(write: &Write) -> Option<&WorkspaceId> {
    match write {
        Write::Key(key, _) => Some(&key.workspace),
        Write::DeleteKey(name) => Some(&name.workspace),
        Write::Workspace(_) | Write::DeleteWorkspace(_) => None,
    }
}

/// The workspace that is itself written or deleted.
pub(in crate::store) fn written_workspace(write: &Write) -> Option<&WorkspaceId> {
    match write {
        Write::Key(..) | Write::DeleteKey(_) => None,
        Write::Workspace(workspace) => Some(&workspace.id),
        Write::DeleteWorkspace(id) => Some(id),
    }
}

/// A written record as followers get it, and as it is stored; `None`: not any more.
pub(in crate::store) fn encode_write(
    write: Write,
    revision: Revision,
) -> (RecordId, Stored, Option<Vec<u8>>) {
    match write {
        Write::Key(key, secrets) => {
            let record = KeyRecord {
                key: *key,
                secrets,
                revision,
            };
            let bytes = encode_key(&record);
            (
                RecordId::Key(record.key.id),
                Stored::Key(Box::new(record)),
                Some(bytes),
            )
        }
        Write::Workspace(workspace) => {
            let record = WorkspaceRecord {
                workspace,
                revision,
            };
            let bytes = encode_workspace(&record);
            (
                RecordId::Workspace(record.workspace.id.clone()),
                Stored::Workspace(record),
                Some(bytes),
            )
        }
        Write::DeleteKey(name) => (RecordId::Key(name.id), Stored::Gone, None),
        Write::DeleteWorkspace(id) => (
            RecordId::Workspace(id),
            Stored::Retired(revision),
            Some(encode_tombstone(revision)),
        ),
    }
}
