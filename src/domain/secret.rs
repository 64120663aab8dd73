//! Secrets: made, kept at rest, and proved.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version, password_hash::phc};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

use super::{
    Invalid, base62,
    credential::{NativeToken, SECRET_DIGITS, SECRET_LENGTH, SecretRef, crc},
    id::{KeyId, TokenPrefix},
    time::Timestamp,
};

/// Random bytes, all of them or a panic: fills the buffer from the system's generator.
pub type Random<'a> = &'a mut dyn FnMut(&mut [u8]);

/// A new secret of 256 random bits. It exists from its making to the one answer that shows it.
#[derive(ZeroizeOnDrop)]
pub struct GeneratedSecret {
    #[zeroize(skip)]
    key_id: KeyId,
    text: [u8; SECRET_LENGTH],
}

impl GeneratedSecret {
    /// Makes a secret for a key: 43 digits drawn uniformly from 62, then the checksum.
    #[must_use]
    pub fn from_random(key_id: KeyId, random: Random<'_>) -> Self {
        let mut digits = Zeroizing::new([0u8; SECRET_DIGITS]);
        let mut filled = 0;
        let mut pool = Zeroizing::new([0u8; 64]);
        while filled < SECRET_DIGITS {
            random(&mut *pool);
            // 248 = 4 * 62: what lies above would make the first digits likelier.
            for byte in pool.iter().filter(|&&byte| byte < 248) {
                if filled < SECRET_DIGITS {
                    digits[filled] = base62::digit(byte % 62);
                    filled += 1;
                }
            }
        }
        Self::from_digits(key_id, &digits)
    }

    /// The secret that a token shows: how an operator brings the first root credential.
    #[must_use]
    pub fn from_token(token: &NativeToken) -> Self {
        let presented = token.presented();
        Self::from_digits(presented.key_id, presented.secret.expose())
    }

    fn from_digits(key_id: KeyId, digits: &[u8; SECRET_DIGITS]) -> Self {
        let mut text = [0u8; SECRET_LENGTH];
        text[..SECRET_DIGITS].copy_from_slice(digits);
        text[SECRET_DIGITS..].copy_from_slice(&base62::encode_u32(crc(&key_id.to_text(), digits)));
        Self { key_id, text }
    }

    /// The random digits.
    #[must_use]
    pub fn as_ref(&self) -> SecretRef<'_> {
        // The array is longer than the chunk.
        SecretRef::new(
            self.text
                .first_chunk()
                .expect("a secret begins with its digits"),
        )
    }

    /// The text that callers send as Basic password.
    #[must_use]
    pub fn expose(&self) -> &str {
        // Base62 digits are ASCII.
        std::str::from_utf8(&self.text).expect("base62 is text")
    }

    /// The whole token.
    #[must_use]
    pub fn token(&self, prefix: &TokenPrefix) -> NativeToken {
        NativeToken::from_parts(prefix, self.key_id, self.expose())
    }
}

impl fmt::Debug for GeneratedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GeneratedSecret")
    }
}

/// A secret at rest: what proves it, and what turns guesses away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Identifies it within its key, from 1.
    pub id: u32,
    /// Proves it.
    pub verifier: Verifier,
    /// A 64-bit salted hash of it. Only generated secrets may have one: of a guessable secret it would be an oracle
    /// that answers faster than argon2.
    pub screen: u64,
    /// When it was made.
    pub create_time: Timestamp,
    /// When the overlap ends that keeps it alive beside a newer one; `None`: it has no end of its own.
    pub expire_time: Option<Timestamp>,
}

impl Secret {
    /// Puts a generated secret at rest. Runs argon2 (about 0.1 ms).
    ///
    /// # Panics
    /// If argon2 refuses constants that it documents as valid.
    #[must_use]
    pub fn seal(id: u32, secret: &GeneratedSecret, now: Timestamp, random: Random<'_>) -> Self {
        let mut salt = [0u8; SALT_LENGTH];
        random(&mut salt);
        let mut verifier = Verifier {
            cost: Cost::GENERATED,
            salt,
            hash: [0; HASH_LENGTH],
        };
        verifier.hash = verifier
            .run(secret.as_ref())
            .expect("the built-in cost is valid");
        Self {
            id,
            screen: screen(&salt, secret.as_ref()),
            verifier,
            create_time: now,
            expire_time: None,
        }
    }

    /// True while it proves its key: until the end of its overlap, exclusive.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expire_time.is_none_or(|end| now < end)
    }

    /// False: this is not the secret. True: it nearly certainly is; [`Verifier::verify`] decides.
    #[must_use]
    pub fn passes_screen(&self, secret: SecretRef<'_>) -> bool {
        self.screen
            .ct_eq(&screen(&self.verifier.salt, secret))
            .into()
    }
}

const SALT_LENGTH: usize = 16;
const HASH_LENGTH: usize = 32;

/// The hash is salted like the argon2 hash, but says another thing first, so that neither tells of the other.
fn screen(salt: &[u8; SALT_LENGTH], secret: SecretRef<'_>) -> u64 {
    let digest = Sha256::new()
        .chain_update(b"portcullis screen 1")
        .chain_update(salt)
        .chain_update(secret.expose());
    let digest: [u8; 32] = digest.finalize().into();
    u64::from_be_bytes(
        *digest
            .first_chunk()
            .expect("a digest is longer than 8 bytes"),
    )
}

/// How much work a verify is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Cost {
    /// For generated secrets. Memory-hardness protects secrets that can be guessed; NIST SP 800-63B-4 asks for it below
    /// 112 bits, and these have 256.
    const GENERATED: Self = Self {
        memory_kib: 256,
        passes: 1,
        lanes: 1,
    };
    /// No record may ask for more: what stands in a store must not decide how much memory a Check takes.
    const LIMIT: Self = Self {
        memory_kib: 64 << 10,
        passes: 10,
        lanes: 4,
    };

    const fn is_within_limit(self) -> bool {
        self.memory_kib <= Self::LIMIT.memory_kib
            && self.passes <= Self::LIMIT.passes
            && self.lanes <= Self::LIMIT.lanes
    }
}

/// An argon2id hash of a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    cost: Cost,
    salt: [u8; SALT_LENGTH],
    hash: [u8; HASH_LENGTH],
}

impl Verifier {
    /// Reads a PHC string.
    ///
    /// # Errors
    /// If it is not argon2id version 19 with a salt of 16 bytes and a hash of 32, or asks for more than 64 MiB, 10
    /// passes or 4 lanes.
    pub fn from_phc(text: &str) -> Result<Self, Invalid> {
        let malformed = || Invalid::new("not an argon2id PHC string");
        let parsed = phc::PasswordHash::new(text).map_err(|_| malformed())?;
        if parsed.algorithm != Algorithm::Argon2id.ident()
            || parsed.version != Some(Version::V0x13.into())
        {
            return Err(Invalid::new("not argon2id version 19"));
        }
        let number = |name: &str| parsed.params.get_decimal(name).ok_or_else(malformed);
        let cost = Cost {
            memory_kib: number("m")?,
            passes: number("t")?,
            lanes: number("p")?,
        };
        if parsed.params.iter().count() != 3 {
            return Err(malformed());
        }
        if !cost.is_within_limit() {
            return Err(Invalid::new("an argon2 cost above the limit"));
        }
        let salt = parsed
            .salt
            .as_deref()
            .and_then(|salt| salt.try_into().ok())
            .ok_or_else(malformed)?;
        let hash = parsed
            .hash
            .and_then(|hash| hash.as_bytes().try_into().ok())
            .ok_or_else(malformed)?;
        Ok(Self { cost, salt, hash })
    }

    /// The PHC string, in its one canonical spelling.
    ///
    /// # Panics
    /// If the PHC format refuses lengths that it documents as valid.
    #[must_use]
    pub fn to_phc(&self) -> String {
        const FITS: &str = "the lengths are within the format's";
        let Cost {
            memory_kib,
            passes,
            lanes,
        } = self.cost;
        let mut params = phc::ParamsString::new();
        for (name, value) in [("m", memory_kib), ("t", passes), ("p", lanes)] {
            params.add_decimal(name, value).expect(FITS);
        }
        phc::PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params,
            salt: Some(phc::Salt::new(&self.salt).expect(FITS)),
            hash: Some(phc::Output::new(&self.hash).expect(FITS)),
        }
        .to_string()
    }

    /// True if this is the secret. Runs argon2: 0.1 ms for a generated secret.
    #[must_use]
    pub fn verify(&self, secret: SecretRef<'_>) -> bool {
        // Parameters that argon2 refuses prove nothing.
        self.run(secret).is_some_and(|mut hash| {
            let equal = self.hash.ct_eq(&hash).into();
            hash.zeroize();
            equal
        })
    }

    fn run(&self, secret: SecretRef<'_>) -> Option<[u8; HASH_LENGTH]> {
        let Cost {
            memory_kib,
            passes,
            lanes,
        } = self.cost;
        let params = Params::new(memory_kib, passes, lanes, Some(HASH_LENGTH)).ok()?;
        let mut hash = [0; HASH_LENGTH];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(secret.expose(), &self.salt, &mut hash)
            .ok()?;
        Some(hash)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("cost", &self.cost)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: u8) -> impl FnMut(&mut [u8]) {
        let mut next = seed;
        move |buffer| {
            for byte in buffer {
                next = next.wrapping_mul(181).wrapping_add(71);
                *byte = next;
            }
        }
    }

    fn secret(seed: u8) -> GeneratedSecret {
        GeneratedSecret::from_random(KeyId::from_bits(9), &mut random(seed))
    }

    fn sealed(secret: &GeneratedSecret) -> Secret {
        Secret::seal(1, secret, Timestamp::from_unix_nanos(0), &mut random(77))
    }

    #[test]
    fn a_secret_proves_itself_and_nothing_else_does() {
        let sealed = sealed(&secret(1));
        assert!(
            sealed.passes_screen(secret(1).as_ref()) && sealed.verifier.verify(secret(1).as_ref())
        );
        assert!(
            !sealed.passes_screen(secret(2).as_ref())
                && !sealed.verifier.verify(secret(2).as_ref())
        );
    }

    #[test]
    fn a_secret_at_rest_is_an_argon2id_phc_string() {
        let sealed = sealed(&secret(1));
        let phc = sealed.verifier.to_phc();
        assert!(phc.starts_with("$argon2id$v=19$m=256,t=1,p=1$"), "{phc}");
        assert_eq!(Verifier::from_phc(&phc).as_ref(), Ok(&sealed.verifier));
        assert!(!format!("{sealed:?}").contains(&phc[30..40]));
    }

    #[test]
    fn a_stored_verifier_is_bounded_before_use() {
        let good = sealed(&secret(1)).verifier.to_phc();
        for (what, bad) in [
            ("4 GiB", good.replace("m=256", "m=4194304")),
            ("passes", good.replace("t=1", "t=11")),
            ("lanes", good.replace("p=1", "p=5")),
            ("algorithm", good.replace("argon2id", "argon2i")),
            ("unknown algorithm", good.replace("argon2id", "scrypt")),
            ("version", good.replace("v=19", "v=16")),
            ("extra parameter", good.replace("p=1", "p=1,data=AAAA")),
            ("no hash", good.rsplit_once('$').unwrap().0.to_owned()),
            ("garbage", "garbage".to_owned()),
            ("empty", String::new()),
        ] {
            assert!(Verifier::from_phc(&bad).is_err(), "{what}: {bad}");
        }
        assert!(Verifier::from_phc(&good).is_ok());
    }

    #[test]
    fn parameters_that_argon2_refuses_prove_nothing() {
        let mut verifier = sealed(&secret(1)).verifier;
        verifier.cost.memory_kib = 1;
        assert!(!verifier.verify(secret(1).as_ref()));
    }

    /// Taking bytes modulo 62 would make the first eight digits a quarter likelier.
    #[test]
    fn digits_are_drawn_uniformly() {
        let mut counts = [0u32; 256];
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..3_000 {
            let secret = GeneratedSecret::from_random(KeyId::from_bits(1), &mut |buffer| {
                for byte in buffer {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    *byte = state.to_be_bytes()[0];
                }
            });
            for &digit in secret.as_ref().expose() {
                counts[usize::from(digit)] += 1;
            }
        }
        let seen: Vec<u32> = counts.into_iter().filter(|&n| n > 0).collect();
        let (least, most) = (seen.iter().min().unwrap(), seen.iter().max().unwrap());
        assert_eq!(seen.len(), 62);
        assert!(most - least < least / 5, "{least} to {most}");
    }
}
