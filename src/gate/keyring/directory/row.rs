//! One key in the directory.

use std::sync::Arc;

use nucleo_matcher::chars;

use super::{Interner, Token};
use crate::domain::{
    id::KeyId, key::Key, permission::PermissionSet, text::TextMap, time::Timestamp,
};

/// What filters, orders and queries ask of a key.
pub(in crate::gate::keyring) struct Row {
    pub(in crate::gate::keyring) position: ListPosition,
    pub(in crate::gate::keyring) update_time: Moment,
    pub(in crate::gate::keyring) expire_time: Moment,
    /// Of the newest secret.
    pub(in crate::gate::keyring) secret_create_time: Moment,
    pub(in crate::gate::keyring) owner: Token,
    pub(in crate::gate::keyring) permissions: Token,
    pub(in crate::gate::keyring) labels: Token,
    /// The bytes of the display name.
    name_length: u16,
    pub(in crate::gate::keyring) disabled: bool,
    pub(in crate::gate::keyring) archived: bool,
    pub(in crate::gate::keyring) letters: Letters,
    /// The display name, then the description.
    texts: Box<str>,
}

/// A row that is not listed yet: made before the directory is taken, so that it is held the shorter.
pub(in crate::gate::keyring) struct NewRow {
    position: ListPosition,
    update_time: Moment,
    expire_time: Moment,
    secret_create_time: Moment,
    owner: Arc<str>,
    permissions: PermissionSet,
    labels: Arc<TextMap>,
    disabled: bool,
    pub(super) archive_time: Option<Timestamp>,
    name_length: u16,
    letters: Letters,
    texts: Box<str>,
}

impl NewRow {
    pub(in crate::gate::keyring) fn of(key: &Key, secret_create_time: Option<Timestamp>) -> Self {
        let texts = [&*key.display_name, &*key.description].concat();
        Self {
            position: ListPosition::new(key.create_time, key.id),
            update_time: key.update_time.into(),
            expire_time: key.expire_time.into(),
            secret_create_time: secret_create_time.into(),
            owner: key.owner.clone(),
            permissions: key.permissions.clone(),
            labels: Arc::new(key.labels.clone()),
            disabled: key.disabled,
            archive_time: key.archive_time,
            // A display name has at most 128 characters. A longer one, which some store may hold, counts as description.
            name_length: u16::try_from(key.display_name.len()).unwrap_or_default(),
            letters: Letters::of(&texts),
            texts: texts.into(),
        }
    }

    pub(in crate::gate::keyring) const fn position(&self) -> ListPosition {
        self.position
    }

    pub(super) fn into_row(
        self,
        owners: &mut Interner<Arc<str>>,
        permissions: &mut Interner<PermissionSet>,
        labels: &mut Interner<Arc<TextMap>>,
    ) -> Row {
        Row {
            position: self.position,
            update_time: self.update_time,
            expire_time: self.expire_time,
            secret_create_time: self.secret_create_time,
            owner: owners.take(self.owner),
            permissions: permissions.take(self.permissions),
            labels: labels.take(self.labels),
            name_length: self.name_length,
            disabled: self.disabled,
            archived: self.archive_time.is_some(),
            letters: self.letters,
            texts: self.texts,
        }
    }
}

impl Row {
    pub(in crate::gate::keyring) fn display_name(&self) -> &str {
        self.texts.split_at(self.name_length.into()).0
    }

    pub(in crate::gate::keyring) fn description(&self) -> &str {
        self.texts.split_at(self.name_length.into()).1
    }
}

/// A point in time, or none, in 12 bytes. In order of time; none is last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::gate::keyring) struct Moment([u32; 3]);

impl Moment {
    pub(in crate::gate::keyring) const NONE: Self = Self([u32::MAX; 3]);

    /// In the same order, in the lower 96 bits.
    pub(in crate::gate::keyring) fn bits(self) -> u128 {
        let [high, low, nanos] = self.0.map(u128::from);
        high << 64 | low << 32 | nanos
    }
}

impl From<Timestamp> for Moment {
    #[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
    fn from(time: Timestamp) -> Self {
        // Unsigned, in the same order.
        let seconds = time.seconds().cast_unsigned() ^ (1 << 63);
        Self([(seconds >> 32) as u32, seconds as u32, time.nanos()])
    }
}

impl From<Option<Timestamp>> for Moment {
    fn from(time: Option<Timestamp>) -> Self {
        time.map_or(Self::NONE, Self::from)
    }
}

/// Where a key stands in the list of its workspace: oldest first, and by id within the same instant. It never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListPosition {
    pub(in crate::gate::keyring) create_time: Moment,
    id: [u32; 4],
}

impl ListPosition {
    /// The position of a key.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "all four are taken")]
    pub fn new(create_time: Timestamp, id: KeyId) -> Self {
        let bits = id.bits();
        Self {
            create_time: create_time.into(),
            id: [96, 64, 32, 0].map(|shift| (bits >> shift) as u32),
        }
    }

    pub(in crate::gate::keyring) fn id(self) -> KeyId {
        let bits = self
            .id
            .iter()
            .fold(0, |bits, &word| bits << 32 | u128::from(word));
        KeyId::from_bits(bits)
    }

    pub(in crate::gate::keyring) fn to_bytes(self) -> [u8; 28] {
        let mut bytes = [0; 28];
        let words = self.create_time.0.iter().chain(&self.id);
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// Any bytes are a position, if perhaps one where no key can stand.
    pub(in crate::gate::keyring) fn from_bytes(bytes: [u8; 28]) -> Self {
        let mut words = [0; 7];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = bytes
                .iter()
                .fold(0, |word, &byte| word << 8 | u32::from(byte));
        }
        let [high, low, nanos, id @ ..] = words;
        Self {
            create_time: Moment([high, low, nanos]),
            id,
        }
    }
}

/// Which ASCII characters are somewhere in a text, roughly: one bit may stand for several. Case makes no difference, and a
/// character beyond ASCII counts as each that it may be taken for.
///
/// What is sought can only be where all its letters are, and most rows are passed over on that alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gate::keyring) struct Letters(u64);

impl Letters {
    /// Those of a text to be searched.
    pub(in crate::gate::keyring) fn of(text: &str) -> Self {
        Self(text.chars().fold(0, |letters, c| letters | bits(c)))
    }

    /// Those that a text must have for this to be in it. Nothing is asked for beyond ASCII, where there is more than one notion
    /// of the same letter.
    pub(in crate::gate::keyring) fn asked(text: &str) -> Self {
        let ascii = text.chars().filter(char::is_ascii);
        Self(ascii.fold(0, |letters, c| letters | bits(c)))
    }

    /// False: none of the texts that ask for these letters is part of one that has those.
    pub(in crate::gate::keyring) const fn are_among(self, those: Self) -> bool {
        self.0 & those.0 == self.0
    }
}

fn bits(c: char) -> u64 {
    if c.is_ascii() {
        return ascii_bit(c);
    }
    let (lower, plain) = (chars::to_lower_case(c), chars::normalize(c));
    [lower, chars::normalize(lower), chars::to_lower_case(plain)]
        .into_iter()
        .filter(char::is_ascii)
        .fold(0, |bits, c| bits | ascii_bit(c))
}

fn ascii_bit(c: char) -> u64 {
    1 << match c.to_ascii_lowercase() {
        c @ 'a'..='z' => u32::from(c) - u32::from('a'),
        c @ '0'..='9' => 26 + u32::from(c) - u32::from('0'),
        ' ' => 36,
        '-' => 37,
        '_' => 38,
        '.' => 39,
        other => 40 + u32::from(other) % 24,
    }
}
