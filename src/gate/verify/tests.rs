use std::time::Duration;

use base64::Engine as _;

use super::*;
use crate::{
    domain::secret::{GeneratedSecret, Verifier},
    gate::testing::{issue, key, random},
};

fn slot() -> (GeneratedSecret, Arc<Slot>) {
    let (secret, sealed) = issue(&key());
    (
        secret,
        Arc::new(Slot {
            secret: sealed,
            memo: super::super::memo::Memo::default(),
        }),
    )
}

fn pool() -> Arc<VerifyPool> {
    Arc::new(VerifyPool::new(Handle::current()).unwrap())
}

/// Many first requests with one new key: argon2 runs once, the others wait for it.
#[tokio::test(start_paused = true)]
async fn one_secret_is_verified_once_however_many_ask() {
    let pool = pool();
    let (secret, slot) = slot();
    let asked = (0..64).map(|_| pool.verify(&slot, secret.as_ref()));
    let verdicts = futures_util::future::join_all(asked).await;
    assert!(
        verdicts.iter().all(|verdict| *verdict == Ok(true)),
        "{verdicts:?}"
    );
    assert_eq!((pool.runs(), pool.waiting(), pool.shed()), (1, 0, 0));
}

#[tokio::test]
async fn a_wrong_secret_is_not_remembered() {
    let pool = pool();
    let (secret, slot) = slot();
    let wrong = GeneratedSecret::from_random(key().id, &mut random);
    assert_eq!(pool.verify(&slot, wrong.as_ref()).await, Ok(false));
    assert_eq!(slot.memo.recall(pool.hash(wrong.as_ref())), None);
    assert_eq!(pool.verify(&slot, secret.as_ref()).await, Ok(true));
    assert_eq!(slot.memo.recall(pool.hash(secret.as_ref())), Some(true));
    assert_eq!(slot.memo.recall(pool.hash(wrong.as_ref())), Some(false));
}

/// With all permits taken the wait ends in no verdict, and is counted.
#[tokio::test(start_paused = true)]
async fn a_verify_waits_no_longer_than_its_bound() {
    let pool = pool();
    let (secret, slot) = slot();
    let taken = pool.hold_all_permits();
    let started = Instant::now();
    assert_eq!(pool.verify(&slot, secret.as_ref()).await, Err(NoVerdict));
    assert_eq!(started.elapsed().as_millis(), LONGEST_WAIT.as_millis());
    assert_eq!((pool.runs(), pool.waiting(), pool.shed()), (0, 0, 1));
    drop(taken);
    assert_eq!(pool.verify(&slot, secret.as_ref()).await, Ok(true));
}

/// A secret whose verify takes long enough to leave in the middle of it.
fn slow_slot() -> (GeneratedSecret, Arc<Slot>) {
    const MEMORY_KIB: u32 = 32 << 10;
    let (secret, mut sealed) = issue(&key());
    let params = argon2::Params::new(MEMORY_KIB, 4, 1, Some(32)).unwrap();
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let mut hash = [0; 32];
    argon2
        .hash_password_into(secret.as_ref().expose(), &[7; 16], &mut hash)
        .unwrap();
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes);
    let phc = format!(
        "$argon2id$v=19$m={MEMORY_KIB},t=4,p=1${}${}",
        base64(&[7; 16]),
        base64(&hash)
    );
    sealed.verifier = Verifier::from_phc(&phc).unwrap();
    let memo = super::super::memo::Memo::default();
    (
        secret,
        Arc::new(Slot {
            secret: sealed,
            memo,
        }),
    )
}

/// A caller that goes away in the middle frees nothing that its run still uses.
#[tokio::test]
async fn a_run_keeps_its_permit_when_its_caller_goes_away() {
    let pool = pool();
    let (secret, slot) = slow_slot();
    let permits = pool.permits.available_permits();
    {
        let asked = pool.verify(&slot, secret.as_ref());
        let mut asked = std::pin::pin!(asked);
        assert!(futures_util::poll!(asked.as_mut()).is_pending());
        assert_eq!(pool.runs(), 1);
    }
    assert_eq!(pool.permits.available_permits(), permits - 1);
    // Once the run has ended the permit is back, and the next verify finds what it remembered.
    let all = pool.permits.acquire_many(u32::try_from(permits).unwrap());
    assert!(
        tokio::time::timeout(Duration::from_mins(1), all)
            .await
            .unwrap()
            .is_ok()
    );
    assert_eq!(pool.verify(&slot, secret.as_ref()).await, Ok(true));
    assert_eq!(
        pool.runs(),
        1,
        "a second run would mean that the first one's turn was given away"
    );
}
