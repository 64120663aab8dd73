//! A record's id ⇄ the row that it stands under.

use crate::{
    domain::id::{KeyId, WorkspaceId},
    store::RecordId,
};

const KIND_KEY: u8 = b'k';
const KIND_WORKSPACE: u8 = b'w';

/// The row that a record stands in.
pub(in crate::store) fn encode_row(id: &RecordId) -> Vec<u8> {
    match id {
        RecordId::Key(id) => [&[KIND_KEY], &id.bits().to_be_bytes()[..]].concat(),
        RecordId::Workspace(id) => [&[KIND_WORKSPACE], id.as_str().as_bytes()].concat(),
        RecordId::Unknown(row) => row.to_vec(),
    }
}

/// The record that stands in a row.
pub(in crate::store) fn decode_row(row: &[u8]) -> RecordId {
    known_row(row).unwrap_or_else(|| RecordId::Unknown(row.into()))
}

fn known_row(row: &[u8]) -> Option<RecordId> {
    match row.split_first()? {
        (&KIND_KEY, bits) => Some(RecordId::Key(KeyId::from_bits(u128::from_be_bytes(
            bits.try_into().ok()?,
        )))),
        (&KIND_WORKSPACE, id) => Some(RecordId::Workspace(
            WorkspaceId::parse(std::str::from_utf8(id).ok()?).ok()?,
        )),
        _ => None,
    }
}
