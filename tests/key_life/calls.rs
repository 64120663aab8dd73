//! What is called: calls as data, and where sequences of them come from.
//!
//! A step is a number. What it stands for is drawn from that number and from what is there when its turn comes, so a
//! sequence can be run again with any of its steps left out.

use portcullis::domain::{id::KeyId, name::KeyName};

use crate::support::Random;

/// Minutes since the scene's first moment. Coarse, so that ends are met exactly.
pub type Minute = u64;
/// A set of names, sorted.
pub type Names = &'static [&'static str];
/// Names with values, sorted by name.
pub type Pairs = &'static [(&'static str, &'static str)];

pub const SYSTEM: &str = "system";
/// Those that calls are about. `other` and `third` are not there at first.
pub const WORKSPACES: [&str; 5] = ["acme", "default", "other", SYSTEM, "third"];
/// Where calls and requests come from.
pub const SOURCES: [Option<&str>; 5] = [
    None,
    Some("10.1.2.3"),
    Some("10.9.9.9"),
    Some("192.0.2.1"),
    Some("198.51.100.7"),
];

/// Fields of a key; `None`: not given.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fields {
    pub display_name: Option<&'static str>,
    pub permissions: Option<Names>,
    pub sources: Option<Names>,
    pub labels: Option<Pairs>,
    pub settings: Option<Pairs>,
    pub expire: Option<End>,
}

/// When a key stops working.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Never,
    At(Minute),
}

impl End {
    pub const fn minute(self) -> Option<Minute> {
        match self {
            Self::Never => None,
            Self::At(minute) => Some(minute),
        }
    }
}

impl From<Option<Minute>> for End {
    fn from(minute: Option<Minute>) -> Self {
        minute.map_or(Self::Never, Self::At)
    }
}

/// Which values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// A text of so many characters.
    Text(usize),
    /// A text of so many characters that is one of these.
    Allowed(usize, Names),
    /// A name that is one of these.
    Enum(Names),
}

/// A setting that a workspace declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    pub name: &'static str,
    pub takes: Takes,
    pub default: Option<&'static str>,
    pub header: Option<&'static str>,
}

/// Fields of a workspace; `None`: not given.
#[derive(Debug, Clone, Copy, Default)]
pub struct WorkspaceFields {
    pub display_name: Option<&'static str>,
    pub prefix: Option<&'static str>,
    pub permissions: Option<Names>,
    pub settings: Option<&'static [Setting]>,
    pub limit: Option<u16>,
}

/// What a call does. An empty etag is none.
#[derive(Debug, Clone)]
pub enum Op {
    CreateKey(&'static str, Fields),
    UpdateKey(KeyName, String, Fields),
    EnableKey(KeyName, String),
    DisableKey(KeyName, String),
    ResetSecret(KeyName, String, Minute),
    EndOverlap(KeyName, String),
    ArchiveKey(KeyName, String),
    DeleteKey(KeyName, String, bool),
    CreateWorkspace(&'static str, WorkspaceFields),
    UpdateWorkspace(&'static str, String, WorkspaceFields),
    DeleteWorkspace(&'static str, String),
}

impl Op {
    pub const fn method(&self) -> &'static str {
        match self {
            Self::CreateKey(..) => "CreateKey",
            Self::UpdateKey(..) => "UpdateKey",
            Self::EnableKey(..) => "EnableKey",
            Self::DisableKey(..) => "DisableKey",
            Self::ResetSecret(..) => "ResetSecret",
            Self::EndOverlap(..) => "EndOverlap",
            Self::ArchiveKey(..) => "ArchiveKey",
            Self::DeleteKey(..) => "DeleteKey",
            Self::CreateWorkspace(..) => "CreateWorkspace",
            Self::UpdateWorkspace(..) => "UpdateWorkspace",
            Self::DeleteWorkspace(..) => "DeleteWorkspace",
        }
    }
}

/// A call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Whose: the token of this number.
    pub token: usize,
    pub source: Option<&'static str>,
    pub request_id: &'static str,
    pub op: Op,
}

impl Call {
    /// What a repeated call has to have in common with the first.
    pub fn body(&self) -> String {
        format!("{:?}", self.op)
    }
}

/// What there is to call about.
pub struct View<'a> {
    pub now: Minute,
    /// Keys that are or were there, each with its etag.
    pub keys: Vec<(KeyName, String)>,
    /// Tokens to call with.
    pub tokens: Vec<usize>,
    /// The etags of workspaces that are there.
    pub workspaces: Vec<(&'static str, String)>,
    /// The calls before.
    pub past: &'a [Call],
}

/// How much of what is called.
pub struct Taste {
    /// The weights of [`WORKSPACES`].
    pub workspaces: [u64; 5],
    /// Of a hundred calls, how many are on workspaces.
    pub on_workspaces: u64,
    /// Of a hundred calls, how many are ones that were made before.
    pub again: u64,
}

const DISPLAY_NAMES: [&str; 3] = ["", "one", "two"];
const PERMISSIONS: [Names; 7] = [
    &[],
    &["*"],
    &["a"],
    &["a", "b"],
    &["b"],
    &["c"],
    &["a", "b", "c"],
];
/// What keys of `system` are given.
pub const GRANTS: [Names; 20] = [
    &[],
    &["*"],
    &["*:check", "*:keys.write"],
    &["*:fleet.read"],
    &["*:keys.own"],
    &["*:keys.read", "*:keys.write"],
    &["*:keys.write"],
    &["acme:keys.own"],
    &["acme:keys.own", "system:keys.own"],
    &["acme:keys.own", "system:keys.write"],
    &["acme:keys.read", "acme:keys.write"],
    &["acme:keys.read", "acme:keys.write", "system:keys.write"],
    &["acme:keys.write"],
    &["acme:workspaces.write"],
    &["other:keys.write", "system:keys.read", "system:keys.write"],
    &["other:workspaces.write"],
    &["system:keys.own"],
    &["system:keys.read", "system:keys.write"],
    &["system:keys.write"],
    &[
        "*:audit.read",
        "*:check",
        "*:fleet.read",
        "*:keys.own",
        "*:keys.read",
        "*:keys.write",
        "*:workspaces.write",
    ],
];
pub const ALLOWLISTS: [Names; 5] = [
    &[],
    &["10.0.0.0/8"],
    &["10.1.0.0/16"],
    &["192.0.2.1/32"],
    &["10.1.0.0/16", "192.0.2.1/32"],
];
const LABELS: [Pairs; 4] = [
    &[],
    &[("team", "red")],
    // A label may be there without saying anything.
    &[("a", "")],
    &[("a", "1"), ("team", "blue")],
];
const SETTINGS: [Pairs; 7] = [
    &[],
    &[],
    &[("mode", "ON")],
    &[("mode", "LOUD")],
    &[("sender", "a")],
    &[("mode", "ON"), ("sender", "b")],
    &[("sender", "a|b")],
];
const MODE: Setting = Setting {
    name: "mode",
    takes: Takes::Enum(&["OFF", "ON"]),
    default: Some("OFF"),
    header: Some("x-mode"),
};
const SENDER: Setting = Setting {
    name: "sender",
    takes: Takes::Text(10),
    default: None,
    header: None,
};
/// What `acme` declares at first.
pub const FIRST_SETTINGS: &[Setting] = &[MODE, SENDER];
const DECLARATIONS: [&[Setting]; 9] = [
    &[],
    FIRST_SETTINGS,
    &[Setting {
        takes: Takes::Enum(&["LOUD", "ON"]),
        default: None,
        ..MODE
    }],
    &[SENDER],
    &[
        MODE,
        Setting {
            takes: Takes::Text(11),
            ..SENDER
        },
    ],
    // Pairs that are easily taken for each other.
    &[Setting {
        takes: Takes::Allowed(10, &["a|b"]),
        ..SENDER
    }],
    &[Setting {
        takes: Takes::Allowed(10, &["a", "b"]),
        ..SENDER
    }],
    &[Setting {
        takes: Takes::Allowed(11, &["a", "b"]),
        default: Some("b"),
        ..SENDER
    }],
    &[Setting {
        takes: Takes::Allowed(12, &["a", "b"]),
        default: Some("b"),
        ..SENDER
    }],
];
const DECLARED: [Names; 5] = [&[], &["a"], &["a", "b"], &["a", "b", "c"], &["b", "c"]];
const REQUEST_IDS: [&str; 5] = ["r1", "r2", "r3", "r4", "r5"];
/// What a request asks for.
pub const ASKED: [Names; 5] = [&[], &["a"], &["a", "b"], &["c"], &["*"]];
/// A request's own settings.
pub const GIVEN: [Pairs; 6] = [
    &[],
    &[],
    &[("mode", "ON")],
    &[("mode", "LOUD")],
    &[("sender", "a")],
    &[("nope", "1")],
];

/// One of these.
pub fn pick<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[index(random, of.len())]
}

/// A number below `bound`.
pub fn index(random: &mut Random, bound: usize) -> usize {
    let bound = u64::try_from(bound).expect("small");
    usize::try_from(random.below(bound)).expect("small")
}

/// True for so many of a hundred.
pub fn chance(random: &mut Random, percent: u64) -> bool {
    random.below(100) < percent
}

/// How long passes before a step.
pub fn pause(random: &mut Random) -> Minute {
    pick(random, &[0, 0, 0, 1, 1, 1, 1, 60, 60, 1_440, 1_441])
}

/// The call that a step stands for.
pub fn draw(random: &mut Random, view: &View<'_>, taste: &Taste) -> Call {
    // Whoever is tried most is heard of most: the first token, and those that came last.
    let token = match random.below(10) {
        0..4 => view.tokens[0],
        4..6 => view.tokens[view.tokens.len() - 1],
        _ => pick(random, &view.tokens),
    };
    let source = match random.below(10) {
        0..4 => None,
        4..7 => Some("10.1.2.3"),
        _ => pick(random, &SOURCES),
    };
    if !view.past.is_empty() && chance(random, taste.again) {
        let mut again = view.past[index(random, view.past.len())].clone();
        // A call of one whom the drawing side cannot speak for is made by one of its own.
        if !view.tokens.contains(&again.token) || chance(random, 30) {
            again.token = token;
        }
        return again;
    }
    let request_id = match random.below(100) {
        0..50 => "",
        50..52 => "not an id",
        _ => pick(random, &REQUEST_IDS),
    };
    let op = if chance(random, taste.on_workspaces) {
        on_workspace(random, view)
    } else {
        on_key(random, view, taste)
    };
    Call {
        token,
        source,
        request_id,
        op,
    }
}

fn on_key(random: &mut Random, view: &View<'_>, taste: &Taste) -> Op {
    let mut draw = random.below(taste.workspaces.iter().sum());
    let weighed = taste.workspaces.iter().position(|&weight| {
        let here = draw < weight;
        draw = draw.saturating_sub(weight);
        here
    });
    let workspace = WORKSPACES[weighed.unwrap_or_default()];
    let there: Vec<_> = view
        .keys
        .iter()
        .filter(|(name, _)| name.workspace.as_str() == workspace)
        .collect();
    if there.is_empty() || chance(random, 22) {
        return Op::CreateKey(workspace, fields(random, view, workspace, false));
    }
    let (mut name, revision) = if chance(random, 50) {
        there[there.len() - 1].clone()
    } else {
        there[index(random, there.len())].clone()
    };
    match random.below(100) {
        0..2 => name.id = KeyId::from_bits(1),
        2..4 => name.workspace = id(pick(random, &WORKSPACES)),
        _ => {}
    }
    let etag = etag(random, revision);
    match random.below(100) {
        0..22 => Op::UpdateKey(name, etag, fields(random, view, workspace, true)),
        22..34 => Op::DisableKey(name, etag),
        34..44 => Op::EnableKey(name, etag),
        44..62 => Op::ResetSecret(name, etag, pick(random, &[0, 1, 60, 2_880])),
        62..68 => Op::EndOverlap(name, etag),
        68..86 => Op::ArchiveKey(name, etag),
        _ => Op::DeleteKey(name, etag, chance(random, 50)),
    }
}

fn etag(random: &mut Random, revision: String) -> String {
    match random.below(100) {
        0..65 => String::new(),
        65..88 => revision,
        _ => "1.1".to_owned(),
    }
}

/// A key's fields, each with a chance to be given.
pub fn fields(random: &mut Random, view: &View<'_>, workspace: &str, edit: bool) -> Fields {
    let system = workspace == SYSTEM;
    let one_of = |random: &mut Random, sets: &[Names]| pick(random, sets);
    let permissions = if system {
        one_of(random, &GRANTS)
    } else {
        one_of(random, &PERMISSIONS)
    };
    let expire = match random.below(10) {
        0..3 => End::Never,
        3 => End::At(view.now.saturating_sub(1)),
        4 => End::At(view.now),
        5..7 => End::At(view.now + 1),
        7 => End::At(view.now + 60),
        8 => End::At(view.now + 1_440),
        _ => End::At(view.now + 4_000),
    };
    Fields {
        display_name: chance(random, 30).then(|| pick(random, &DISPLAY_NAMES)),
        permissions: chance(random, if edit { 40 } else { 80 }).then_some(permissions),
        sources: chance(random, 25).then(|| pick(random, &ALLOWLISTS)),
        labels: chance(random, 25).then(|| pick(random, &LABELS)),
        settings: chance(random, 25).then(|| pick(random, &SETTINGS)),
        expire: chance(random, 25).then_some(expire),
    }
}

fn on_workspace(random: &mut Random, view: &View<'_>) -> Op {
    let workspace = match random.below(10) {
        0..6 => "acme",
        _ => pick(random, &WORKSPACES),
    };
    let there = view.workspaces.iter().find(|(id, _)| *id == workspace);
    let revision = there.map(|(_, revision)| revision.clone());
    let etag = etag(random, revision.unwrap_or_default());
    let fields = WorkspaceFields {
        display_name: chance(random, 20).then(|| pick(random, &DISPLAY_NAMES)),
        prefix: chance(random, 20).then(|| pick(random, &["pc", "live", "test"])),
        permissions: chance(random, 35).then(|| pick(random, &DECLARED)),
        settings: chance(random, 60).then(|| pick(random, &DECLARATIONS)),
        limit: chance(random, 40).then(|| pick(random, &[0, 1, 1, 2, 3])),
    };
    match (random.below(10), there) {
        (0, _) | (1..4, None) => Op::CreateWorkspace(workspace, fields),
        (1, _) => Op::DeleteWorkspace(workspace, etag),
        _ => Op::UpdateWorkspace(workspace, etag, fields),
    }
}

/// A workspace's id.
pub fn id(workspace: &str) -> portcullis::domain::id::WorkspaceId {
    portcullis::domain::id::WorkspaceId::parse(workspace).expect("a good id")
}
