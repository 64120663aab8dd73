//! Remembers that argon2 accepted a secret, so that it runs once a secret and process.
//!
//! A match is remembered, never a decision. What is kept is a keyed hash under a random key of this process, and it
//! belongs to the verifier that argon2 accepted: it goes when that goes.

use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::domain::credential::SecretRef;

/// The key under which this process remembers secrets.
pub(super) struct MemoKey {
    /// SHA-256 that has taken in one block of random key, so that hashing a secret costs one block more. With a secret
    /// key in front and messages of one fixed length, this is a keyed hash that cannot be extended.
    keyed: Sha256,
}

/// The keyed hash of a presented secret.
#[derive(Clone, Copy)]
pub(super) struct SecretHash([u8; 16]);

impl MemoKey {
    /// A key from the system's generator.
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        let mut block = Zeroizing::new([0u8; 64]);
        getrandom::fill(&mut *block)?;
        Ok(Self {
            keyed: Sha256::new_with_prefix(block.as_slice()),
        })
    }

    /// Hashes a presented secret.
    pub(super) fn hash(&self, secret: SecretRef<'_>) -> SecretHash {
        let digest: [u8; 32] = self
            .keyed
            .clone()
            .chain_update(secret.expose())
            .finalize()
            .into();
        SecretHash(
            *digest
                .first_chunk()
                .expect("a digest is longer than 16 bytes"),
        )
    }
}

/// What is remembered of one secret.
#[derive(Default)]
pub(super) struct Memo(OnceLock<[u8; 16]>);

impl Memo {
    /// Whether the secret is the remembered one; `None` if none is.
    pub(super) fn recall(&self, presented: SecretHash) -> Option<bool> {
        self.0.get().map(|known| known.ct_eq(&presented.0).into())
    }

    /// Remembers a secret that argon2 accepted.
    pub(super) fn remember(&self, proved: SecretHash) {
        // One verifier accepts one secret, so a second one says the same.
        let _ = self.0.set(proved.0);
    }
}
