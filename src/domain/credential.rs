//! What callers present: tokens and Authorization values.
//!
//! A token is `{prefix}_{key_id}_{secret}`. Its secret half is 43 random base62 digits and 6 of CRC32, so that
//! scanners can tell a token from noise and a typo costs nothing to refuse.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{
    base62,
    id::{KeyId, TokenPrefix, WorkspaceId},
};

/// The longest credential that is looked at, in bytes.
pub const MAX_CREDENTIAL: usize = 512;
/// The random digits of a secret.
pub const SECRET_DIGITS: usize = 43;
/// The random digits and the checksum.
pub const SECRET_LENGTH: usize = SECRET_DIGITS + base62::WIDTH_U32;

/// The random digits of a presented secret. Borrowed, never printed.
#[derive(Clone, Copy)]
pub struct SecretRef<'a>(&'a [u8; SECRET_DIGITS]);

impl<'a> SecretRef<'a> {
    /// Wraps the random digits.
    #[must_use]
    pub const fn new(digits: &'a [u8; SECRET_DIGITS]) -> Self {
        Self(digits)
    }

    /// The digits, for hashing.
    #[must_use]
    pub const fn expose(self) -> &'a [u8; SECRET_DIGITS] {
        self.0
    }
}

impl fmt::Debug for SecretRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretRef")
    }
}

/// A well-formed credential: whose it claims to be, and the secret that is to prove it.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// The key it claims to be.
    pub key_id: KeyId,
    /// What is to prove it.
    pub secret: SecretRef<'a>,
    /// The workspace that `Basic {workspace}:{token}` names.
    pub workspace: Option<&'a str>,
}

/// Where a Basic credential is decoded to; wiped when dropped.
#[derive(Default)]
pub struct Scratch(Zeroizing<Vec<u8>>);

impl<'a> Presented<'a> {
    /// Reads a credential: a token, or an Authorization value of scheme Bearer or Basic. A space tells which. `None` for
    /// anything else, whatever is wrong with it.
    #[must_use]
    pub fn parse(credential: &'a str, scratch: &'a mut Scratch) -> Option<Self> {
        if credential.len() > MAX_CREDENTIAL {
            return None;
        }
        let Some((scheme, value)) = credential.split_once(' ') else {
            return Self::parse_token(credential.as_bytes());
        };
        // RFC 9110: the scheme's case does not matter.
        if scheme.eq_ignore_ascii_case("bearer") {
            return Self::parse_token(value.as_bytes());
        }
        if scheme.eq_ignore_ascii_case("basic") {
            // Room first: growing in the decoder would leave unwiped copies behind.
            scratch.0.reserve_exact(value.len());
            STANDARD.decode_vec(value, &mut scratch.0).ok()?;
            return Self::parse_basic(&scratch.0);
        }
        None
    }

    /// Reads `{prefix}_{key_id}_{secret}`.
    #[must_use]
    pub fn parse_token(token: &'a [u8]) -> Option<Self> {
        let prefix_length = token
            .len()
            .checked_sub(2 + base62::WIDTH_U128 + SECRET_LENGTH)?;
        let (prefix, rest) = token.split_at(prefix_length);
        let (key_id, secret) = rest.strip_prefix(b"_")?.split_at(base62::WIDTH_U128);
        if !TokenPrefix::is_valid(prefix) {
            return None;
        }
        Self::from_halves(key_id, secret.strip_prefix(b"_")?, None)
    }

    /// Reads `{key_id}:{secret}` or `{workspace}:{token}`: only a token has underscores.
    fn parse_basic(pair: &'a [u8]) -> Option<Self> {
        let colon = pair.iter().position(|&b| b == b':')?;
        let (user, password) = (&pair[..colon], &pair[colon + 1..]);
        if !password.contains(&b'_') {
            return Self::from_halves(user, password, None);
        }
        let workspace = std::str::from_utf8(user)
            .ok()
            .filter(|user| WorkspaceId::is_valid(user))?;
        Some(Self {
            workspace: Some(workspace),
            ..Self::parse_token(password)?
        })
    }

    fn from_halves(key_id: &[u8], secret: &'a [u8], workspace: Option<&'a str>) -> Option<Self> {
        let (digits, checksum) = secret.split_first_chunk::<SECRET_DIGITS>()?;
        if !base62::is_base62(digits) || checksum != base62::encode_u32(crc(key_id, digits)) {
            return None;
        }
        Some(Self {
            key_id: KeyId::parse(key_id)?,
            secret: SecretRef(digits),
            workspace,
        })
    }
}

/// The checksum that closes a secret: CRC-32 (IEEE 802.3) over the digits of key id and secret.
#[must_use]
pub fn crc(key_id: &[u8], secret_digits: &[u8; SECRET_DIGITS]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key_id);
    hasher.update(secret_digits);
    hasher.finalize()
}

/// A token that is known to be well-formed. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct NativeToken(Zeroizing<String>);

impl NativeToken {
    /// Reads a token of the form `{prefix}_{key_id}_{secret}`, with its checksum right.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Presented::parse_token(text.as_bytes())?;
        Some(Self(Zeroizing::new(text.to_owned())))
    }

    pub(super) fn from_parts(prefix: &TokenPrefix, key_id: KeyId, secret: &str) -> Self {
        let mut token = Zeroizing::new(String::with_capacity(90));
        for part in [prefix.as_str(), "_", &key_id.to_string(), "_", secret] {
            token.push_str(part);
        }
        Self(token)
    }

    /// The key that the token claims to be.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.presented().key_id
    }

    /// Its parts.
    #[must_use]
    pub fn presented(&self) -> Presented<'_> {
        // Both constructors hold it: `parse` looked, `from_parts` builds the form.
        Presented::parse_token(self.0.as_bytes()).expect("a native token is well-formed")
    }

    /// What the token begins with.
    #[must_use]
    pub fn prefix(&self) -> TokenPrefix {
        let prefix = self.0.split('_').next().unwrap_or_default();
        TokenPrefix::parse(prefix).unwrap_or_default()
    }

    /// The text, which opens the gate.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for NativeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NativeToken")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::GeneratedSecret;

    fn token() -> (String, KeyId) {
        let id = KeyId::from_bits(0x0123_4567_89ab_cdef);
        let secret = GeneratedSecret::from_random(id, &mut |buffer| {
            for (i, byte) in buffer.iter_mut().enumerate() {
                *byte = u8::try_from(i % 200).unwrap();
            }
        });
        (
            secret.token(&TokenPrefix::default()).expose().to_owned(),
            id,
        )
    }

    fn accepted(credential: &str) -> Option<(KeyId, Option<String>)> {
        let mut scratch = Scratch::default();
        Presented::parse(credential, &mut scratch)
            .map(|p| (p.key_id, p.workspace.map(str::to_owned)))
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn every_documented_form_is_accepted() {
        let (token, id) = token();
        let secret = token.rsplit('_').next().unwrap();
        for credential in [
            token.clone(),
            token.replacen("pc_", "acme16charprefix_", 1),
            format!("Bearer {token}"),
            format!("bEaReR {token}"),
            basic(&format!("{id}:{secret}")),
            basic(&format!("{id}:{secret}")).replacen("Basic", "bAsIc", 1),
        ] {
            assert_eq!(accepted(&credential), Some((id, None)));
        }
        assert_eq!(
            accepted(&basic(&format!("acme:{token}"))),
            Some((id, Some("acme".into())))
        );
    }

    #[test]
    fn any_other_form_is_no_credential() {
        let (token, id) = token();
        let secret = token.rsplit('_').next().unwrap();
        let last = token.len() - 1;
        for (what, credential) in [
            ("missing", String::new()),
            ("blank", " ".into()),
            ("two, comma-joined", format!("{token},{token}")),
            ("bad base64", "Basic !!!".into()),
            ("no colon", basic(&token)),
            ("empty user", basic(&format!(":{token}"))),
            ("empty user, bare secret", basic(&format!(":{secret}"))),
            ("bare scheme", "Bearer".into()),
            ("bare scheme and a space", "Bearer ".into()),
            ("double space", format!("Bearer  {token}")),
            ("leading space", format!(" {token}")),
            ("trailing tab", format!("{token}\t")),
            ("NUL", token.replacen('_', "_\0", 1)),
            ("CRLF", format!("{token}\r\n")),
            ("a stand-in", "!".into()),
            ("8 KiB", "a".repeat(8 << 10)),
            ("full-width prefix", token.replacen('p', "ｐ", 1)),
            ("zero-width joiner", token.replacen('_', "\u{200d}_", 1)),
            ("percent", token.replacen('_', "%5F", 1)),
            ("wrong-case prefix", token.replacen("pc", "PC", 1)),
            ("no prefix", token.trim_start_matches("pc").to_owned()),
            ("prefix of 17", token.replacen("pc", "abcdefghijklmnopq", 1)),
            ("bad checksum", {
                let other = if token.ends_with('0') { "1" } else { "0" };
                format!("{}{other}", &token[..last])
            }),
            ("another scheme", format!("Token {token}")),
            ("cut short", token[..last].to_owned()),
            ("one digit more", format!("{token}0")),
            ("user is no workspace", basic(&format!("Acme:{token}"))),
        ] {
            assert_eq!(accepted(&credential), None, "{what}");
        }
        assert!(
            accepted(&basic(&format!("{id}:{secret}"))).is_some(),
            "the material itself is good"
        );
    }

    #[test]
    fn a_secret_is_never_printed() {
        let (token, _) = token();
        let secret = token.rsplit('_').next().unwrap();
        let native = NativeToken::parse(&token).unwrap();
        for printed in [format!("{native:?}"), format!("{:?}", native.presented())] {
            assert!(!printed.contains(&secret[..8]), "{printed}");
        }
    }
}
