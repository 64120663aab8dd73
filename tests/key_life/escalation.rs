//! From any credential less than root, root is not reached: not by any sequence of calls, not with what is got hold of on
//! the way, not by what others do meanwhile.
//!
//! The same attacks are run on models that are wrong in one rule of authority, and must succeed there: an attack that
//! never works shows nothing by failing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use portcullis::{
    domain::{
        grant, id::KeyId, key::Key as RealKey, permission::PermissionSet, source::IpAllowlist,
        time::Timestamp,
    },
    gate::{
        keyring::{KeyFilter, Search},
        verify::VerifyPool,
    },
};

use crate::{
    authority::{Authority, allows},
    calls::{
        ALLOWLISTS, Call, Fields, GRANTS, Minute, Names, Op, SYSTEM, Taste, WORKSPACES, chance,
        draw, fields, id, pause, pick,
    },
    model::{Key, Model, Mutant, Reply, Token},
    runtime,
    scene::{BEGINNING, RealReply, Scene, minute, real_key},
    support::Random,
};

const SEQUENCES: u64 = 2_000;
const STEPS: usize = 22;
const THREADS: usize = 4;

/// The attacker's calls: most of them where the power is.
const TASTE: Taste = Taste {
    workspaces: [25, 5, 3, 66, 1],
    on_workspaces: 6,
    again: 15,
};

/// What a start holds that the menu of grants has not: root but for a time, or from one place.
fn start(random: &mut Random, now: Minute) -> Authority {
    loop {
        let start = Authority {
            held: if chance(random, 25) {
                &["*"]
            } else {
                pick(random, &GRANTS)
            },
            sources: if chance(random, 50) {
                &[]
            } else {
                pick(random, &ALLOWLISTS)
            },
            expire: match random.below(10) {
                0..6 => None,
                6..8 => Some(now + 100),
                _ => Some(now + 4_000),
            },
        };
        if !start.covers(&ROOT) {
            return start;
        }
    }
}

const ROOT: Authority = Authority {
    held: &["*"],
    sources: &[],
    expire: None,
};

/// What is attacked.
enum World {
    /// The real thing, followed by the model, so that the same calls can be drawn.
    Real(Box<Scene>, Vec<String>),
    /// Only the model.
    Model,
}

struct Attack {
    world: World,
    /// Says what there is to attack, whichever world it is.
    model: Model,
    start: Authority,
    /// The same, as the domain has it.
    known_start: grant::Authority,
    /// The attacker's tokens.
    own: BTreeSet<usize>,
    past: Vec<Call>,
    made: u64,
    next_id: u128,
    /// The model did not foresee the last call's answer.
    parted: bool,
}

impl Attack {
    async fn begin(verify: Option<Arc<VerifyPool>>, mutant: Option<Mutant>, seed: u64) -> Self {
        let mut random = Random::of(seed);
        let beginning = &*BEGINNING;
        let world = match verify {
            Some(verify) => {
                World::Real(Box::new(Scene::new(verify).await), beginning.tokens.clone())
            }
            None => World::Model,
        };
        let model = Model::new(&beginning.keys, &beginning.workspaces, mutant);
        let start = start(&mut random, model.now);
        let mut attack = Self {
            world,
            known_start: known(&start),
            start,
            model,
            own: BTreeSet::new(),
            past: Vec::new(),
            made: 0,
            next_id: 1 << 64,
            parted: false,
        };
        // What may be attacked beside the first credentials: a few more of every kind, some disabled.
        for _ in 0..random.below(4) {
            let view = attack.model.view(vec![0], &attack.past);
            let fields = fields(&mut random, &view, SYSTEM, false);
            attack.call(&by_root(Op::CreateKey(SYSTEM, fields))).await;
        }
        attack
            .call(&by_root(Op::CreateKey("acme", Fields::default())))
            .await;
        let Authority {
            held,
            sources,
            expire,
        } = attack.start;
        let fields = Fields {
            permissions: Some(held),
            sources: Some(sources),
            expire: Some(expire.into()),
            ..Fields::default()
        };
        let token = attack.call(&by_root(Op::CreateKey(SYSTEM, fields))).await;
        attack.own.extend(token);
        attack
    }

    /// Makes a call, and answers the number of the token that it shows.
    async fn call(&mut self, call: &Call) -> Option<usize> {
        self.past.push(call.clone());
        let Self { world, model, .. } = self;
        self.next_id += 1;
        let before = model.tokens.len();
        match world {
            World::Model => {
                let shown = model.call(call, KeyId::from_bits(self.next_id));
                self.made += u64::from(shown.is_ok());
                matches!(shown, Ok(Reply::Key(_, true))).then_some(before)
            }
            World::Real(scene, tokens) => {
                let real = scene.call(call, &tokens[call.token]).await;
                self.made += u64::from(real.is_ok());
                let (new, token) = match real {
                    Ok(RealReply::Key(view, token)) => (Some(view.record.key.name()), token),
                    _ => (None, None),
                };
                let id = new.as_ref().map_or(KeyId::from_bits(0), |name| name.id);
                // Whether they agree is the other test's concern. The model has to know of every token, so that the attack
                // can be judged; but it does not go on from there.
                let _ = model.call(call, id);
                self.parted |= model.tokens.len() - before != usize::from(token.is_some());
                model.tokens.truncate(before);
                if token.is_some() {
                    let key = new.expect("a token is one of a key");
                    let secrets = model.keys.get(&key.id).map(|key| &key.secrets);
                    let newest = secrets.into_iter().flatten().map(|secret| secret.id).max();
                    let secret = newest.unwrap_or(1);
                    model.tokens.push(Token { key, secret });
                }
                tokens.extend(token);
                (tokens.len() > before).then_some(before)
            }
        }
    }

    /// Every key that is there, by the world's own account.
    fn keys(&self) -> BTreeMap<KeyId, (RealKey, u64)> {
        match &self.world {
            World::Model => {
                let keys = self.model.keys.values();
                keys.map(|key| (key.name.id, (real_key(key), key.revision)))
                    .collect()
            }
            World::Real(scene, _) => {
                let listed = WORKSPACES.map(|workspace| {
                    let plain = Search {
                        filter: KeyFilter::everything(Timestamp::from_unix_nanos(0)),
                        query: None,
                        order: None,
                        show_archived: true,
                        owner: None,
                    };
                    let page = scene.keyring.search(&id(workspace), &plain, None, 1_000);
                    assert!(page.next.is_none(), "a page holds them all");
                    page.keys
                });
                let records = listed.into_iter().flatten();
                records
                    .map(|record| (record.key.id, (record.key, record.revision.number)))
                    .collect()
            }
        }
    }

    /// The names of the attacker's credentials: who it can be.
    fn principals(&self) -> BTreeSet<String> {
        let tokens = self.own.iter().map(|&token| &self.model.tokens[token].key);
        tokens.map(ToString::to_string).collect()
    }

    /// True if one of these principals may lay hands on a key: by the start's permissions, and never on more than that holds.
    fn is_within_reach(&self, key: &RealKey, principals: &BTreeSet<String>) -> bool {
        let workspace = key.workspace.as_str();
        let start = self.start.held;
        let may = allows(start, "keys.write", workspace)
            || (allows(start, "keys.own", workspace) && principals.contains(&*key.owner));
        may && (workspace != SYSTEM || self.is_covered(key))
    }

    /// True if the start covers all that the key stands for, by trying it out. The domain has to judge the same.
    fn is_covered(&self, key: &RealKey) -> bool {
        let covered = self.start.covers(&tried(key));
        let of_key = grant::Authority::of(key).expect("keys of system hold grants");
        let judged = self.known_start.covers(&of_key);
        assert_eq!(judged, covered, "{:?} covers {key:?}", self.start);
        covered
    }

    /// One call of the attacker's or, now and then, of someone with nothing to do with it.
    async fn step(&mut self, step: u64) -> Result<(), String> {
        let mut random = Random::of(step);
        self.model.now += pause(&mut random);
        if let World::Real(scene, _) = &self.world {
            scene.clock.set(self.model.now);
        }
        let before = self.keys();
        let mine = !chance(&mut random, 12);
        let call = if mine {
            self.by_attacker(&mut random)
        } else if let Some(call) = self.by_another(&mut random) {
            call
        } else {
            return Ok(());
        };
        // What the caller could reach, before it gets hold of more principals by this call.
        let principals = self.principals();
        let reachable: BTreeSet<KeyId> = before
            .values()
            .filter(|(key, _)| self.is_within_reach(key, &principals))
            .map(|(key, _)| key.id)
            .collect();
        let shown = self.call(&call).await;
        let after = self.keys();

        if !after.values().any(|(key, _)| key.is_root_in_force()) {
            return Err(format!("{call:?} leaves no root in force"));
        }
        if !mine {
            return Ok(());
        }
        if let Some(token) = shown {
            let name = &self.model.tokens[token].key;
            let (key, _) = after.get(&name.id).ok_or("a token of no key")?;
            let creates = matches!(call.op, Op::CreateKey(..));
            if !creates && !reachable.contains(&name.id) {
                return Err(format!("{call:?} shows a token of {key:?}, out of reach"));
            }
            self.own.insert(token);
            if !self.is_within_reach(key, &self.principals()) {
                return Err(format!("{call:?} shows a token of {key:?}, out of reach"));
            }
        }
        for (id, (key, revision)) in &before {
            let same = after.get(id).is_some_and(|(_, now)| now == revision);
            // What is archived opens nothing, and makes room for what is archived later, whoever does that.
            if !same && !reachable.contains(id) && key.archive_time.is_none() {
                return Err(format!("{call:?} changes {key:?}, out of reach"));
            }
        }
        for token in &self.own {
            let name = &self.model.tokens[*token].key;
            if let Some((key, _)) = after.get(&name.id)
                && key.workspace.is_system()
                && !self.is_covered(key)
            {
                return Err(format!(
                    "after {call:?} the attacker has a token of {key:?}"
                ));
            }
        }
        self.compare_powers().await?;
        if self.parted {
            return Err(format!(
                "the model did not foresee what {call:?} is answered"
            ));
        }
        Ok(())
    }

    /// Whoever the attacker can be may do no more than its start: asked of the callers themselves.
    async fn compare_powers(&self) -> Result<(), String> {
        const ACTS: [(grant::Act, &str); 6] = [
            (grant::Act::KeysRead, "keys.read"),
            (grant::Act::KeysWrite, "keys.write"),
            (grant::Act::KeysOwn, "keys.own"),
            (grant::Act::AuditRead, "audit.read"),
            (grant::Act::WorkspacesWrite, "workspaces.write"),
            (grant::Act::Check, "check"),
        ];
        let World::Real(scene, tokens) = &self.world else {
            return Ok(());
        };
        // The last one that it got; the others were asked when they were.
        let Some(&token) = self.own.last() else {
            return Ok(());
        };
        for source in [None, Some("10.1.2.3"), Some("198.51.100.7")] {
            let Ok(caller) = scene.caller(&tokens[token], source).await else {
                continue;
            };
            let late = self.start.expire.is_some_and(|end| self.model.now >= end);
            let elsewhere = !crate::authority::admits(self.start.sources, source);
            if late || elsewhere {
                return Err(format!(
                    "a token of {:?} is good from {source:?}",
                    self.start
                ));
            }
            for workspace in WORKSPACES {
                for (act, name) in ACTS {
                    if caller.may(act, &id(workspace)) && !allows(self.start.held, name, workspace)
                    {
                        return Err(format!("{:?} may {name} in {workspace}", self.start));
                    }
                }
            }
            let root = caller
                .require_everywhere(grant::Act::WorkspacesWrite)
                .is_ok()
                && caller.require_everywhere(grant::Act::FleetRead).is_ok();
            let held = self.start.held;
            if root && !(held == ["*"] || held.contains(&"*:workspaces.write")) {
                return Err(format!("{:?} has become root", self.start));
            }
        }
        Ok(())
    }

    /// A call of the attacker's. Mostly one that is likely to be made: what is refused leads nowhere.
    fn by_attacker(&self, random: &mut Random) -> Call {
        let likely = chance(random, 75);
        let mut tries = 6;
        loop {
            let tokens = self.own.iter().copied().collect();
            let call = draw(random, &self.model.view(tokens, &self.past), &TASTE);
            tries -= 1;
            let refused = |call| self.model.clone().call(call, KeyId::from_bits(2)).is_err();
            if !likely || tries == 0 || !refused(&call) {
                return call;
            }
        }
    }

    /// A call of root's about a key that is none of the attacker's: what is given to the attacker is no attack.
    fn by_another(&self, random: &mut Random) -> Option<Call> {
        let view = self.model.view(vec![0], &[]);
        let mine = self.principals();
        let foreign: Vec<_> = view
            .keys
            .iter()
            .filter(|(name, _)| !mine.contains(&name.to_string()))
            .map(|(name, _)| name.clone())
            .collect();
        let name = foreign[usize::try_from(random.below(foreign.len() as u64)).ok()?].clone();
        let workspace = WORKSPACES
            .into_iter()
            .find(|id| *id == name.workspace.as_str())?;
        let etag = String::new();
        let op = match random.below(7) {
            0 => Op::CreateKey(workspace, fields(random, &view, workspace, false)),
            1 => Op::UpdateKey(name, etag, fields(random, &view, workspace, true)),
            2 => Op::DisableKey(name, etag),
            3 => Op::EnableKey(name, etag),
            4 => Op::ResetSecret(name, etag, 60),
            5 => Op::ArchiveKey(name, etag),
            _ => Op::DeleteKey(name, etag, true),
        };
        // With ids that the attacker may guess.
        Some(Call {
            request_id: pick(random, &["", "r1", "r2"]),
            ..by_root(op)
        })
    }
}

fn known(authority: &Authority) -> grant::Authority {
    let key = Key {
        permissions: authority.held,
        sources: authority.sources,
        expire: authority.expire,
        ..BEGINNING.keys[0].clone()
    };
    grant::Authority::of(&real_key(&key)).expect("grants")
}

/// What a real key stands for, in words of the model.
fn tried(key: &RealKey) -> Authority {
    static HELD: LazyLock<Vec<(Names, PermissionSet)>> = LazyLock::new(|| {
        let first = BEGINNING.keys.iter().map(|key| key.permissions);
        let all = GRANTS.into_iter().chain(first);
        all.map(|names| (names, PermissionSet::new(names.iter().copied())))
            .collect()
    });
    static SOURCES: LazyLock<Vec<(Names, IpAllowlist)>> = LazyLock::new(|| {
        let list = |names: Names| IpAllowlist::parse(names).expect("good entries");
        ALLOWLISTS.map(|names| (names, list(names))).into()
    });
    let held = HELD.iter().find(|(_, set)| *set == key.permissions);
    let sources = SOURCES.iter().find(|(_, list)| *list == key.ip_allowlist);
    Authority {
        held: held.expect("grants of the menu").0,
        sources: sources.expect("a list of the menu").0,
        expire: key.expire_time.map(minute),
    }
}

fn by_root(op: Op) -> Call {
    Call {
        token: 0,
        source: Some("10.1.2.3"),
        request_id: "",
        op,
    }
}

/// Runs an attack; the error says how it succeeded.
async fn attack(
    verify: Option<Arc<VerifyPool>>,
    mutant: Option<Mutant>,
    seed: u64,
) -> Result<u64, String> {
    let mut attack = Attack::begin(verify, mutant, seed).await;
    let prepared = attack.made;
    let mut random = Random::of(!seed);
    for _ in 0..STEPS {
        if let Err(what) = attack.step(random.next()).await {
            let calls = attack.past.iter().map(|call| format!("  {call:?}"));
            let calls: Vec<_> = calls.collect();
            let start = attack.start;
            return Err(format!("{start:?}: {what}\nafter\n{}", calls.join("\n")));
        }
    }
    Ok(attack.made - prepared)
}

#[test]
fn from_less_than_root_root_is_not_reached() {
    let (random, seed) = Random::seeded();
    let random = Mutex::new(random);
    let (left, made) = (AtomicU64::new(SEQUENCES), AtomicU64::new(0));
    let attacked = Mutex::new(BTreeSet::<Names>::new());
    std::thread::scope(|scope| {
        let worker = || {
            let (runtime, verify) = runtime();
            let one_less = |left: u64| left.checked_sub(1);
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
                .is_ok()
            {
                let one = random.lock().unwrap().next();
                match runtime.block_on(attack(Some(verify.clone()), None, one)) {
                    Ok(calls) => drop(made.fetch_add(calls, Ordering::Relaxed)),
                    Err(how) => {
                        left.store(0, Ordering::Relaxed);
                        panic!("PORTCULLIS_TEST_SEED={seed}: {how}");
                    }
                }
                let held = start(&mut Random::of(one), 0).held;
                attacked.lock().unwrap().insert(held);
            }
        };
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    let made = made.into_inner();
    eprintln!("{made} calls were made");
    assert!(
        made > SEQUENCES * 3,
        "only {made} calls were made: this shows little; PORTCULLIS_TEST_SEED={seed}"
    );
    assert_eq!(attacked.into_inner().unwrap().len(), GRANTS.len());
}

#[test]
fn where_a_rule_of_authority_is_missing_root_is_reached() {
    const MOST: u64 = 4_000;
    const RULES: [Mutant; 6] = [
        Mutant::SupersetOfBeforeOnly,
        Mutant::SupersetOfAfterOnly,
        Mutant::SupersetWithoutExpiry,
        Mutant::SupersetWithoutSources,
        Mutant::OwnReachesAll,
        Mutant::LastRootMayGo,
    ];
    let (runtime, _) = runtime();
    // The model itself stands.
    let mut random = Random::of(1);
    for _ in 0..SEQUENCES {
        let seed = random.next();
        if let Err(how) = runtime.block_on(attack(None, None, seed)) {
            panic!("the model, seed {seed}: {how}");
        }
    }
    for rule in RULES {
        let mut random = Random::of(1);
        let broken = (1..=MOST).find_map(|tried| {
            let how = runtime.block_on(attack(None, Some(rule), random.next()));
            Some((tried, how.err()?))
        });
        let (tried, how) = broken.unwrap_or_else(|| panic!("nobody gets through {rule:?}"));
        let how = how.lines().next().unwrap_or_default();
        eprintln!("{rule:?}: broken after {tried} attacks: {how}");
    }
}
