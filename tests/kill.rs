//! `kill -9` under load, over and over on one directory: what was acknowledged is there, and nothing is half there.

mod support;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use portcullis::proto::v1::{
    CreateKeyRequest, DeleteKeyRequest, DisableKeyRequest, EnableKeyRequest, GetKeyRequest, Key,
    ListKeysRequest, ResetSecretRequest, check_response::Reason, key::State,
};
use support::{Clients, Random, Setup, check, key, key_named, update};
use tonic::{Code, Status};

const ROUNDS: u64 = 50;
const WORKERS: usize = 8;

/// What is known of one key: every way in which it may be, given what was acknowledged.
#[derive(Clone, Debug)]
struct Known {
    name: String,
    /// The last token that was shown.
    token: String,
    /// One after an acknowledgement; two after a call that was cut off.
    possible: Vec<Shape>,
}

/// How a key may be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    Gone,
    There {
        disabled: bool,
        display_name: String,
        /// Whether the last token shown still holds the secret.
        token_good: bool,
    },
}

/// A call on a key.
#[derive(Clone, Copy, Debug)]
enum Call {
    Disable,
    Enable,
    Reset,
    Rename,
    Delete,
}

impl Shape {
    fn after(&self, call: Call, display_name: &str) -> Self {
        let Self::There {
            disabled,
            display_name: old,
            token_good,
        } = self.clone()
        else {
            return Self::Gone;
        };
        match call {
            Call::Disable => Self::There {
                disabled: true,
                display_name: old,
                token_good,
            },
            Call::Enable => Self::There {
                disabled: false,
                display_name: old,
                token_good,
            },
            // Cut off, the new token was never seen, and the old one is dead.
            Call::Reset => Self::There {
                disabled,
                display_name: old,
                token_good: false,
            },
            Call::Rename => Self::There {
                disabled,
                display_name: display_name.to_owned(),
                token_good,
            },
            Call::Delete => Self::Gone,
        }
    }
}

/// One worker: it owns its keys, so that each key's calls come one after another.
struct Worker {
    admin: Clients,
    random: Random,
    keys: Vec<Known>,
    acknowledged: Arc<AtomicU64>,
}

impl Worker {
    /// Calls until the server is gone.
    async fn run(mut self) -> Vec<Known> {
        loop {
            let grow = self.keys.len() < 4 || self.random.below(4) == 0;
            let going = if grow {
                self.create().await
            } else {
                self.change().await
            };
            if !going {
                return self.keys;
            }
        }
    }

    async fn create(&mut self) -> bool {
        let display_name = format!("made {}", self.random.next());
        let create = CreateKeyRequest {
            parent: "workspaces/default".into(),
            key: Some(key_named(&display_name, &["a"])),
            ..CreateKeyRequest::default()
        };
        // A cut-off create left, if anything, a key whose name nobody knows; the listing judges it.
        let Some(issued) = answered(self.admin.keys.create_key(create).await) else {
            return false;
        };
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        let made = Shape::There {
            disabled: false,
            display_name,
            token_good: true,
        };
        let name = issued.key.expect("a key").name;
        self.keys.push(Known {
            name,
            token: issued.token,
            possible: vec![made],
        });
        true
    }

    async fn change(&mut self) -> bool {
        let at = usize::try_from(self.random.below(self.keys.len() as u64)).expect("an index");
        // Certain, since only the last call before the kill is cut off. A deleted key is kept for the next `verify`.
        let [Shape::There { .. }] = self.keys[at].possible.as_slice() else {
            return self.create().await;
        };
        let call = [
            Call::Disable,
            Call::Enable,
            Call::Reset,
            Call::Rename,
            Call::Delete,
        ][usize::try_from(self.random.below(5)).expect("an index")];
        let display_name = format!("renamed {}", self.random.next());
        let (name, etag) = (self.keys[at].name.clone(), String::new());
        let keys = &mut self.admin.keys;
        let mut token = None;
        let acknowledged = match call {
            Call::Disable => answered(
                keys.disable_key(DisableKeyRequest {
                    name,
                    etag,
                    ..DisableKeyRequest::default()
                })
                .await,
            )
            .is_some(),
            Call::Enable => answered(
                keys.enable_key(EnableKeyRequest {
                    name,
                    etag,
                    ..EnableKeyRequest::default()
                })
                .await,
            )
            .is_some(),
            Call::Reset => {
                token = answered(
                    keys.reset_secret(ResetSecretRequest {
                        name,
                        etag,
                        ..ResetSecretRequest::default()
                    })
                    .await,
                )
                .map(|key| key.token);
                token.is_some()
            }
            Call::Rename => {
                let change = update(
                    Key {
                        name,
                        display_name: display_name.clone(),
                        ..key()
                    },
                    &["display_name"],
                );
                answered(keys.update_key(change).await).is_some()
            }
            Call::Delete => answered(
                keys.delete_key(DeleteKeyRequest {
                    name,
                    force: true,
                    etag,
                    ..DeleteKeyRequest::default()
                })
                .await,
            )
            .is_some(),
        };
        let known = &mut self.keys[at];
        let mut after = known.possible[0].after(call, &display_name);
        if !acknowledged {
            known.possible.push(after);
            return false;
        }
        if let (Some(token), Shape::There { token_good, .. }) = (token, &mut after) {
            known.token = token;
            *token_good = true;
        }
        known.possible = vec![after];
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        true
    }
}

/// The answer, or nothing when the server was killed meanwhile; any other failure is a defect.
fn answered<T>(result: Result<tonic::Response<T>, Status>) -> Option<T> {
    match result {
        Ok(answer) => Some(answer.into_inner()),
        Err(status) => {
            let cut_off = matches!(
                status.code(),
                Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal
            ) && status.details().is_empty();
            assert!(cut_off, "not what a kill looks like: {status:?}");
            None
        }
    }
}

/// Looks each key up, and asserts that it is one of what it may be; from then on it is known.
async fn verify(admin: &Clients, gate: &Clients, known: &mut Vec<Known>) {
    for one in known.iter_mut() {
        let found = admin
            .keys
            .clone()
            .get_key(GetKeyRequest {
                name: one.name.clone(),
            })
            .await;
        let decision = gate.ask(check(&one.token)).await;
        let shape = match found {
            Err(status) => {
                assert_eq!(status.code(), Code::NotFound, "{one:?}: {status:?}");
                Shape::Gone
            }
            Ok(key) => {
                let key = key.into_inner();
                assert!(
                    matches!(key.state(), State::Active | State::Disabled),
                    "{key:?}"
                );
                assert_eq!(
                    (key.secrets.len(), key.permissions.len()),
                    (1, 1),
                    "half there: {key:?}"
                );
                Shape::There {
                    disabled: key.state() == State::Disabled,
                    display_name: key.display_name,
                    token_good: decision.reason() != Reason::InvalidCredential,
                }
            }
        };
        assert!(
            one.possible.contains(&shape),
            "acknowledged was {:?}, found is {shape:?}",
            one.possible
        );
        let due = match &shape {
            Shape::Gone
            | Shape::There {
                token_good: false, ..
            } => Reason::InvalidCredential,
            Shape::There { disabled: true, .. } => Reason::KeyDisabled,
            Shape::There { .. } => Reason::Ok,
        };
        assert_eq!(decision.reason(), due, "{shape:?} and the gate disagree");
        one.possible = vec![shape];
    }
    known.retain(|one| one.possible != [Shape::Gone]);
}

/// Lists every key: each is whole.
async fn list(admin: &Clients) -> HashMap<String, Key> {
    let mut keys = HashMap::new();
    let mut page_token = String::new();
    loop {
        let request = ListKeysRequest {
            parent: "workspaces/default".into(),
            page_size: 1000,
            page_token,
            ..ListKeysRequest::default()
        };
        let page = admin
            .keys
            .clone()
            .list_keys(request)
            .await
            .expect("a page")
            .into_inner();
        for key in page.keys {
            assert!(
                key.create_time.is_some() && key.secrets.len() == 1 && !key.owner.is_empty(),
                "half there: {key:?}"
            );
            keys.insert(key.name.clone(), key);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return keys;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_kill_9() {
    let (mut random, seed) = Random::seeded();
    eprintln!("PORTCULLIS_TEST_SEED={seed}");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut known: Vec<Vec<Known>> = vec![Vec::new(); WORKERS];
    let mut total = 0;
    for round in 0..=ROUNDS {
        let server = Setup::new().data_dir(dir.path().join("data")).start();
        let (admin, gate) = support::clients(&server);
        for keys in &mut known {
            verify(&admin, &gate, keys).await;
        }
        let there = list(&admin).await;
        let missing: Vec<_> = known
            .iter()
            .flatten()
            .filter(|known| !there.contains_key(&known.name))
            .collect();
        assert!(missing.is_empty(), "round {round}: not listed: {missing:?}");
        assert_eq!(
            server
                .metric("portcullis_unreadable_records", "")
                .unwrap_or(0.0)
                .to_bits(),
            0.0_f64.to_bits()
        );
        if round == ROUNDS {
            break;
        }

        let acknowledged = Arc::new(AtomicU64::new(0));
        let workers: Vec<_> = known
            .drain(..)
            .map(|mut keys| {
                // Few enough that a round stays quick, chosen anew each time; a key let go was verified just now.
                while keys.len() > 6 {
                    let at = usize::try_from(random.below(keys.len() as u64)).expect("an index");
                    keys.swap_remove(at);
                }
                // A connection each, so that they are independent of each other.
                let (admin, acknowledged) = (Clients::root(&server), Arc::clone(&acknowledged));
                tokio::spawn(
                    Worker {
                        admin,
                        random: random.fork(),
                        keys,
                        acknowledged,
                    }
                    .run(),
                )
            })
            .collect();
        // At a random moment: after some acknowledgements, and a little into the next one.
        let enough = 1 + random.below(60);
        let deadline = tokio::time::Instant::now() + support::PATIENCE;
        while acknowledged.load(Ordering::Relaxed) < enough {
            assert!(
                tokio::time::Instant::now() < deadline,
                "round {round}: no progress"
            );
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        tokio::time::sleep(Duration::from_micros(random.below(3000))).await;
        server.kill();
        for worker in workers {
            known.push(worker.await.expect("a worker"));
        }
        total += acknowledged.load(Ordering::Relaxed);
    }
    eprintln!("{ROUNDS} kills, {total} changes acknowledged, none lost");
}
