//! Identifiers: keys, workspaces, token prefixes, revisions.

use std::{fmt, sync::Arc};

use super::{Invalid, base62, secret::Random};

/// The public half of a key: 128 bits, written as 22 base62 digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u128);

impl KeyId {
    /// The id with these bits, which must be random.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// A new id.
    #[must_use]
    pub fn from_random(random: Random<'_>) -> Self {
        let mut bits = [0; 16];
        random(&mut bits);
        Self(u128::from_be_bytes(bits))
    }

    /// Its bits.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// Reads the 22 digits; `None` if the text is anything else.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        base62::decode_u128(text.try_into().ok()?).map(Self)
    }

    /// The 22 digits.
    #[must_use]
    pub fn to_text(self) -> [u8; base62::WIDTH_U128] {
        base62::encode_u128(self.0)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_text();
        // Base62 digits are ASCII, so this cannot fail; an empty name would still be no secret.
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// A workspace's id: `[a-z][a-z0-9-]{0,62}`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkspaceId(Arc<str>);

/// The workspace that is there from the start.
pub const DEFAULT_WORKSPACE: &str = "default";
/// The workspace of admin credentials. Reserved; its keys never open the gate.
pub const SYSTEM_WORKSPACE: &str = "system";

impl WorkspaceId {
    /// Reads an id.
    ///
    /// # Errors
    /// If the text is not of the form `[a-z][a-z0-9-]{0,62}`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if !Self::is_valid(text) {
            return Err(Invalid::new(
                "must be a lower-case letter, then up to 62 lower-case letters, digits and '-'",
            ));
        }
        Ok(Self(text.into()))
    }

    /// True if the text is of an id's form.
    #[must_use]
    pub fn is_valid(text: &str) -> bool {
        let bytes = text.as_bytes();
        matches!(bytes, [b'a'..=b'z', ..])
            && bytes.len() <= 63
            && bytes
                .iter()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    }

    /// The `default` workspace.
    #[must_use]
    pub fn default_workspace() -> Self {
        Self(DEFAULT_WORKSPACE.into())
    }

    /// The `system` workspace.
    #[must_use]
    pub fn system() -> Self {
        Self(SYSTEM_WORKSPACE.into())
    }

    /// True for the `system` workspace.
    #[must_use]
    pub fn is_system(&self) -> bool {
        &*self.0 == SYSTEM_WORKSPACE
    }

    /// The id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a workspace's tokens begin with: `[a-z][a-z0-9]{0,15}`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenPrefix(Arc<str>);

impl TokenPrefix {
    /// Reads a prefix; an empty text is the default, `pc`.
    ///
    /// # Errors
    /// If the text is not of the form `[a-z][a-z0-9]{0,15}`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        match text {
            "" => Ok(Self::default()),
            _ if Self::is_valid(text.as_bytes()) => Ok(Self(text.into())),
            _ => Err(Invalid::new(
                "must be a lower-case letter, then up to 15 lower-case letters and digits",
            )),
        }
    }

    /// True if the text is of a prefix's form.
    #[must_use]
    pub fn is_valid(text: &[u8]) -> bool {
        matches!(text, [b'a'..=b'z', ..])
            && text.len() <= 16
            && text.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9'))
    }

    /// The prefix's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TokenPrefix {
    fn default() -> Self {
        Self("pc".into())
    }
}

/// The position of a change. Outside an opaque string, inside an epoch and a number that is dense within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision {
    /// Which history the number belongs to.
    pub epoch: u32,
    /// The position within it, from 1.
    pub number: u64,
}

impl Revision {
    /// True if the epoch fits 16 bits and the number 48, with room for more. Every revision of ours does; a store that claims
    /// another is not believed.
    #[must_use]
    pub const fn is_plausible(self) -> bool {
        self.epoch <= 0xffff && self.number < 1 << 47
    }

    /// The revision after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self {
            epoch: self.epoch,
            number: self.number + 1,
        }
    }

    /// Reads `{epoch}.{number}`, as [`Display`](fmt::Display) writes it; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, number) = text.split_once('.')?;
        let revision = Self {
            epoch: epoch.parse().ok()?,
            number: number.parse().ok()?,
        };
        // `+1.2` and `01.2` parse as numbers but were never written by us.
        (revision.to_string() == text).then_some(revision)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_id_has_one_form() {
        for good in ["a", "default", "a-1", &"a".repeat(63)] {
            assert!(WorkspaceId::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "A",
            "1a",
            "-a",
            "a_b",
            "a.b",
            "ä",
            "a b",
            &"a".repeat(64),
        ] {
            assert!(WorkspaceId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_revision_has_one_spelling() {
        assert_eq!(
            Revision::parse("1.42"),
            Some(Revision {
                epoch: 1,
                number: 42
            })
        );
        for bad in [
            "",
            "1",
            "1.",
            ".1",
            "01.2",
            "1.02",
            "+1.2",
            "1.2.3",
            "1.-2",
            "1.99999999999999999999",
        ] {
            assert_eq!(Revision::parse(bad), None, "{bad}");
        }
    }
}
