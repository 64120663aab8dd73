//! The checker against a naive model: what a person would write who had all night for each Check.

mod drawn;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::atomic::Ordering,
};

use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::{Config, TestRunner},
};

use super::{combine, question};
use crate::{
    domain::{
        decision::Reason,
        id::{KeyId, Revision, TokenPrefix, WorkspaceId},
        permission::PermissionSet,
        setting::{Declaration, Declarations, Kind},
        source::{IpAllowlist, parse_source},
        workspace::Workspace,
    },
    gate::{
        checker::{Question, Undecided},
        testing::{Gate, at, issue, key, token},
    },
    store::{RecordId, Stored},
};
/// Names and values of settings.
type Values = Vec<(&'static str, &'static str)>;

#[derive(Debug, Clone)]
struct ModelKey {
    workspace: &'static str,
    disabled: bool,
    archived: bool,
    deleted: bool,
    permissions: Vec<&'static str>,
    allowlist: Vec<&'static str>,
    expires: Option<u64>,
    /// It was reset once. How long its old secret stays good; `None`: it died with the reset.
    overlap: Option<u64>,
    settings: Values,
}

#[derive(Debug, Clone)]
enum ModelWorkspace {
    /// What it declares, with the defaults.
    Present(Vec<(&'static str, Option<&'static str>)>),
    Gone,
    Unreadable,
}

#[derive(Debug, Clone)]
struct ModelRequest {
    key: usize,
    secret_of: usize,
    /// The secret from before the reset.
    old_secret: bool,
    workspace: &'static str,
    permissions: Vec<&'static str>,
    source: Option<&'static str>,
    settings: Values,
    now: u64,
}

#[derive(Debug, Clone)]
struct World {
    keys: Vec<ModelKey>,
    /// Of each of [`WORKSPACES`], before and after the change in the midst of the requests.
    workspaces: Vec<[ModelWorkspace; 2]>,
}

impl World {
    fn workspace(&self, id: &str, changed: bool) -> &ModelWorkspace {
        let place = WORKSPACES.iter().position(|known| *known == id).unwrap();
        &self.workspaces[place][usize::from(changed)]
    }
}

/// The ways in which the model can be told to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    ExpiryIsInclusive,
    PermissionBeforeSource,
    ExpiredBeforeDisabled,
    UnknownSourcePassesAList,
    ArchivedIsDisabled,
    ArchivedOpens,
    ArchivedIsVerified,
    OverlapEndIsInclusive,
    OverlapNeverEnds,
    OverlapKeepsNothing,
    EndedOverlapIsVerified,
    SettingsBeforePermissions,
    UndeclaredSettingPasses,
    InvalidSettingFallsBack,
    KeyBeforeRequest,
    DefaultBeforeKey,
    UndeclaredKeySettingCounts,
    SettingsWithADenial,
    GoneWorkspaceOpens,
    UnreadableWorkspaceIsGone,
    UnreadableWorkspaceOpens,
    WorkspaceChangeComesLate,
}

const FLAWS: &[Flaw] = &[
    Flaw::ExpiryIsInclusive,
    Flaw::PermissionBeforeSource,
    Flaw::ExpiredBeforeDisabled,
    Flaw::UnknownSourcePassesAList,
    Flaw::ArchivedIsDisabled,
    Flaw::ArchivedOpens,
    Flaw::ArchivedIsVerified,
    Flaw::OverlapEndIsInclusive,
    Flaw::OverlapNeverEnds,
    Flaw::OverlapKeepsNothing,
    Flaw::EndedOverlapIsVerified,
    Flaw::SettingsBeforePermissions,
    Flaw::UndeclaredSettingPasses,
    Flaw::InvalidSettingFallsBack,
    Flaw::KeyBeforeRequest,
    Flaw::DefaultBeforeKey,
    Flaw::UndeclaredKeySettingCounts,
    Flaw::SettingsWithADenial,
    Flaw::GoneWorkspaceOpens,
    Flaw::UnreadableWorkspaceIsGone,
    Flaw::UnreadableWorkspaceOpens,
    Flaw::WorkspaceChangeComesLate,
];

type Outcome = Result<(Reason, Vec<(String, String)>), Undecided>;

/// What the model says, and whether argon2 runs for it if the secret was never seen before.
#[derive(Debug, PartialEq)]
struct Expected {
    outcome: Outcome,
    proves: bool,
}

fn expected(world: &World, request: &ModelRequest, changed: bool, flaw: Flaw) -> Expected {
    let key = &world.keys[request.key];
    let refused = |proves| Expected {
        outcome: Ok((Reason::InvalidCredential, Vec::new())),
        proves,
    };
    if key.deleted || key.workspace != request.workspace || request.workspace == "system" {
        return refused(false);
    }
    let right = request.secret_of == request.key;
    match flaw {
        Flaw::ArchivedOpens | Flaw::ArchivedIsDisabled => {}
        _ if key.archived => return refused(right && flaw == Flaw::ArchivedIsVerified),
        _ => {}
    }
    let changed = changed && flaw != Flaw::WorkspaceChangeComesLate;
    let nothing = Vec::new();
    let declared = match world.workspace(key.workspace, changed) {
        ModelWorkspace::Present(declared) => declared,
        ModelWorkspace::Gone if flaw == Flaw::GoneWorkspaceOpens => &nothing,
        ModelWorkspace::Gone => return refused(false),
        ModelWorkspace::Unreadable => match flaw {
            Flaw::UnreadableWorkspaceIsGone => return refused(false),
            Flaw::UnreadableWorkspaceOpens => &nothing,
            _ => {
                return Expected {
                    outcome: Err(Undecided::Unreadable),
                    proves: false,
                };
            }
        },
    };
    if !right {
        return refused(false);
    }
    if request.old_secret {
        match (key.overlap, flaw) {
            (None, _) | (_, Flaw::OverlapKeepsNothing) => return refused(false),
            (Some(_), Flaw::OverlapNeverEnds) => {}
            (Some(end), Flaw::OverlapEndIsInclusive) if request.now == end => {}
            (Some(end), _) if request.now >= end => {
                return refused(flaw == Flaw::EndedOverlapIsVerified);
            }
            (Some(_), _) => {}
        }
    }
    let (reason, settings) = judged(key, declared, request, flaw);
    let shown = reason == Reason::Ok || flaw == Flaw::SettingsWithADenial;
    Expected {
        outcome: Ok((reason, if shown { settings } else { Vec::new() })),
        proves: true,
    }
}

/// What comes of a proved key, and the effective settings.
fn judged(
    key: &ModelKey,
    declared: &[(&'static str, Option<&'static str>)],
    request: &ModelRequest,
    flaw: Flaw,
) -> (Reason, Vec<(String, String)>) {
    let expired = key.expires.is_some_and(|end| {
        request.now > end || (request.now == end && flaw != Flaw::ExpiryIsInclusive)
    });
    let admitted = |source: &str| {
        let source: IpAddr = source.parse().unwrap();
        key.allowlist.iter().any(|entry| {
            let net: ipnet::IpNet = entry.parse().unwrap();
            net.contains(&source.to_canonical())
        })
    };
    let unknown_passes = flaw == Flaw::UnknownSourcePassesAList;
    let from_outside =
        !key.allowlist.is_empty() && !request.source.map_or(unknown_passes, admitted);
    let held = |asked: &&str| key.permissions.contains(&"*") || key.permissions.contains(asked);
    let unheld = !request.permissions.iter().all(held);
    let is_declared = |name: &str| declared.iter().any(|(known, _)| *known == name);
    let refused_setting = request.settings.iter().any(|(name, value)| {
        let unknown = !is_declared(name) && flaw != Flaw::UndeclaredSettingPasses;
        let invalid = is_declared(name) && !is_good(name, value);
        unknown || (invalid && flaw != Flaw::InvalidSettingFallsBack)
    });

    let mut order = vec![
        (
            key.archived && flaw == Flaw::ArchivedIsDisabled,
            Reason::KeyDisabled,
        ),
        (key.disabled, Reason::KeyDisabled),
        (expired, Reason::KeyExpired),
        (from_outside, Reason::SourceDenied),
        (unheld, Reason::PermissionDenied),
        (refused_setting, Reason::InvalidSetting),
    ];
    match flaw {
        Flaw::ExpiredBeforeDisabled => order.swap(1, 2),
        Flaw::PermissionBeforeSource => order.swap(3, 4),
        Flaw::SettingsBeforePermissions => order.swap(4, 5),
        _ => {}
    }
    let denied = order.into_iter().find(|(applies, _)| *applies);
    let reason = denied.map_or(Reason::Ok, |(_, reason)| reason);

    let value = |values: &Values, name: &str| {
        let found = values.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| *value)
    };
    let mut effective = BTreeMap::new();
    for (name, default) in declared {
        let asked = value(&request.settings, name).filter(|asked| is_good(name, asked));
        let own = value(&key.settings, name);
        let counts = match flaw {
            Flaw::KeyBeforeRequest => own.or(asked).or(*default),
            Flaw::DefaultBeforeKey => asked.or(*default).or(own),
            _ => asked.or(own).or(*default),
        };
        if let Some(counts) = counts {
            effective.insert((*name).to_owned(), counts.to_owned());
        }
    }
    if flaw == Flaw::UndeclaredKeySettingCounts {
        for (name, own) in &key.settings {
            effective
                .entry((*name).to_owned())
                .or_insert_with(|| (*own).to_owned());
        }
    }
    (reason, effective.into_iter().collect())
}

const PERMISSIONS: &[&str] = &["sms.send", "otp.send", "otp.verify"];
const NETS: &[&str] = &["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32", "2001:db8::/32"];
const SOURCES: &[&str] = &[
    "10.1.2.3",
    "::ffff:10.9.9.9",
    "192.0.2.8",
    "2001:db8::1",
    "::1",
];
const WORKSPACES: &[&str] = &["default", "acme", "system"];
/// Each setting with values that its type takes, and values that it does not.
const SETTINGS: &[(&str, &[&str], &[&str])] = &[
    ("mode", &["OFF", "ON"], &["on", ""]),
    ("retries", &["0", "5"], &["6", "-1", "05"]),
    ("sender", &["Acme", "Bank"], &["Acme Bank", "A\r\nB", ""]),
];

fn kind(name: &str) -> Kind {
    match name {
        "mode" => Kind::Enum(["OFF", "ON"].map(Into::into).into()),
        "retries" => Kind::Integer { min: 0, max: 5 },
        "sender" => Kind::Text {
            max_length: 5,
            allowed: [].into(),
        },
        _ => unreachable!("{name} is no setting here"),
    }
}

fn is_good(name: &str, value: &str) -> bool {
    SETTINGS
        .iter()
        .any(|(known, good, _)| *known == name && good.contains(&value))
}

/// The sets of keys, and the requests to each: 500 x 220 = 110,000 cases of key x request x time.
const SETS: u32 = 500;
const REQUESTS: usize = 220;

/// How often each outcome came.
type Tally = BTreeMap<String, usize>;

/// Compares the checker with the model, answer by answer and argon2 run by argon2 run.
fn compare(flaw: Flaw) -> Result<Tally, String> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    let mut runner = TestRunner::new(Config {
        cases: SETS,
        failure_persistence: None,
        ..Default::default()
    });
    let mut tally = Tally::new();
    let worlds = drawn::world_with_requests(REQUESTS);
    for _ in 0..SETS {
        let (world, requests) = worlds.new_tree(&mut runner).unwrap().current();
        let mut gate = Gate::new();
        put_workspaces(&mut gate, &world, false);
        let tokens: Vec<[(KeyId, String); 2]> = world
            .keys
            .iter()
            .map(|model| put_key(&mut gate, model))
            .collect();
        let mut seen = BTreeSet::new();
        for (number, request) in requests.iter().enumerate() {
            let changed = number >= REQUESTS / 2;
            if number == REQUESTS / 2 {
                put_workspaces(&mut gate, &world, true);
            }
            let wanted = expected(&world, request, changed, flaw);
            if wanted.proves {
                seen.insert((request.key, request.old_secret));
            }
            let found = runtime.block_on(ask(&gate, request, &tokens));
            if found != wanted.outcome || gate.verify.runs() != seen.len() as u64 {
                return Err(format!(
                    "{world:?}\n{request:?}\nfound {found:?}, wanted {wanted:?}; argon2 ran {} times, not {}",
                    gate.verify.runs(),
                    seen.len()
                ));
            }
            let name = found.map_or("UNDECIDED", |(reason, _)| reason.name());
            *tally.entry(name.to_owned()).or_default() += 1;
        }
    }
    Ok(tally)
}

async fn ask(gate: &Gate, request: &ModelRequest, tokens: &[[(KeyId, String); 2]]) -> Outcome {
    gate.clock.0.store(request.now, Ordering::SeqCst);
    let which = usize::from(request.old_secret);
    let credential = combine(
        &tokens[request.key][which],
        &tokens[request.secret_of][which],
    );
    let permissions: Vec<String> = request.permissions.iter().map(|&p| p.to_owned()).collect();
    let settings: BTreeMap<String, String> = request
        .settings
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let asked = Question {
        workspace: request.workspace,
        permissions: &permissions,
        source: request.source.map(|s| parse_source(s).unwrap()),
        settings: &settings,
        ..question(&credential)
    };
    let answer = gate.checker.check(&asked).await?;
    let settings = answer.settings.into_iter();
    Ok((
        answer.reason,
        settings.map(|one| (one.name, one.value)).collect(),
    ))
}

/// A key with its tokens: that of its secret, and that of the one before the reset.
fn put_key(gate: &mut Gate, model: &ModelKey) -> [(KeyId, String); 2] {
    let mut key = key();
    key.workspace = WorkspaceId::parse(model.workspace).unwrap();
    key.disabled = model.disabled;
    key.archive_time = model.archived.then(|| at(1));
    key.permissions = PermissionSet::new(model.permissions.iter().copied());
    key.ip_allowlist = IpAllowlist::parse(&model.allowlist).unwrap();
    key.expire_time = model.expires.map(at);
    key.settings = model.settings.iter().copied().collect();
    let id = key.id;
    let (old, mut kept) = issue(&key);
    let (new, mut sealed) = issue(&key);
    sealed.id = 2;
    kept.expire_time = model.overlap.map(at);
    let secrets = match model.overlap {
        Some(_) => vec![kept, sealed],
        None => vec![sealed],
    };
    gate.put(key, secrets);
    if model.deleted {
        gate.apply(RecordId::Key(id), Stored::Gone);
    }
    [(id, token(&new)), (id, token(&old))]
}

fn put_workspaces(gate: &mut Gate, world: &World, changed: bool) {
    for id in WORKSPACES {
        let record = RecordId::Workspace(WorkspaceId::parse(id).unwrap());
        match world.workspace(id, changed) {
            ModelWorkspace::Present(declared) => {
                gate.put_workspace(declaring(id, declared));
            }
            ModelWorkspace::Gone => gate.apply(record, Stored::Retired(Revision::default())),
            ModelWorkspace::Unreadable => gate.apply(record, Stored::Unreadable("garbage".into())),
        }
    }
}

fn declaring(id: &str, declared: &[(&str, Option<&str>)]) -> Workspace {
    let declaration = |(name, default): &(&str, Option<&str>)| Declaration {
        name: (*name).into(),
        description: "".into(),
        kind: kind(name),
        default: default.map(Into::into),
        header: None,
    };
    let id = WorkspaceId::parse(id).unwrap();
    Workspace {
        settings: Declarations::new(declared.iter().map(declaration).collect()).unwrap(),
        ..Workspace::new(id, TokenPrefix::default(), at(1))
    }
}

#[test]
fn the_checker_decides_as_the_naive_model_does() {
    let tally = compare(Flaw::None).unwrap();
    assert!(tally.values().sum::<usize>() >= 100_000, "{tally:?}");
    // A comparison that hardly ever comes to an answer shows nothing about it.
    for reason in Reason::ALL
        .into_iter()
        .map(Reason::name)
        .chain(["UNDECIDED"])
    {
        if reason != Reason::InvalidRequest.name() {
            let count = tally.get(reason).copied().unwrap_or_default();
            assert!(count >= 500, "{reason}: {tally:?}");
        }
    }
}

/// The comparison sees each of these when it is got wrong.
#[test]
fn the_comparison_catches_a_wrong_model() {
    for &flaw in FLAWS {
        assert!(compare(flaw).is_err(), "{flaw:?} went unseen");
    }
}
