//! The fleet: a Redis, a store made by `portcullis init`, and replicas that are processes of the built binary.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use portcullis::proto::v1::{
    CheckRequest, ListReplicasRequest, VerifyEventsRequest, check_response::Reason,
};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::time::Instant;
use tonic::Code;

use crate::{
    race::{Probe, Seen},
    support::{Clients, Missing, Mutation, PATIENCE, RedisServer, Server, Setup, Token, reason_of},
};

/// Long enough that no test can mistake the lease's end for an acknowledgement: reaching it would take longer than anything
/// here may.
pub const LONG: &str = "15s";
/// For tests that wait the lease out.
pub const SHORT: &str = "2s";
/// The same as a duration.
pub const SHORT_LEASE: Duration = Duration::from_secs(2);

/// What the shipped access rules ask of Portcullis, filled in as their README says.
pub const PASSWORD: &str = "a-password-of-the-tests";
/// What stands in the shipped rules for a password that nobody has.
const PLACEHOLDER: &str = "#0000000000000000000000000000000000000000000000000000000000000000";
/// Who breaks things from outside.
pub const ADMIN: (&str, &str) = ("admin", "another-password-of-the-tests");

/// A store on a Redis of its own.
pub struct Fleet {
    pub redis: RedisServer,
    dir: TempDir,
    database: u32,
    root_token: String,
}

/// One replica: its process, and clients of its two listeners.
pub struct Replica {
    pub name: String,
    pub server: Server,
    /// Its admin listener, as the root.
    pub root: Clients,
    /// Its gate.
    pub gate: Clients,
}

/// How changes came to be in force everywhere, counted over some replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Barriers {
    pub by_acknowledgements: u64,
    pub by_lease_end: u64,
    /// Not known in time.
    pub none: u64,
}

impl Fleet {
    /// A Redis with a new store, whose lease is as long as that.
    ///
    /// # Errors
    ///
    /// When there is no Redis to start.
    pub fn made(lease: &str) -> Result<Self, Missing> {
        Self::made_under(lease, &users_acl())
    }

    /// The same under other access rules.
    pub fn made_under(lease: &str, rules: &str) -> Result<Self, Missing> {
        let mut fleet = Self::unmade(rules)?;
        fleet.enter_database(0, lease);
        Ok(fleet)
    }

    /// Makes a store in another database of the same Redis; what is started from now on is of that one.
    pub fn enter_database(&mut self, database: u32, lease: &str) {
        self.database = database;
        let dir = format!("init-{database}");
        let output = self.init_in(&dir, lease);
        assert!(output.status.success(), "init: {output:?}");
        let file = self.dir.path().join(dir).join("root.token");
        let token = fs::read_to_string(file).expect("init writes the root's token");
        token.trim_end().clone_into(&mut self.root_token);
    }

    /// A Redis without anything in it.
    pub fn unmade(rules: &str) -> Result<Self, Missing> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let rules_file = dir.path().join("users.acl");
        let (user, password) = ADMIN;
        let admin = format!("user {user} on >{password} ~* &* +@all\n");
        fs::write(&rules_file, format!("{rules}{admin}")).expect("the rules can be written");
        let redis = RedisServer::start_as(&redis_conf(&rules_file), user, password)?;
        Ok(Self {
            redis,
            dir,
            database: 0,
            root_token: String::new(),
        })
    }

    /// `portcullis init` with that directory.
    pub fn init_in(&self, dir: &str, lease: &str) -> Output {
        self.command("init")
            .args(["--lease", lease, "--data-dir"])
            .arg(self.dir.path().join(dir))
            .output()
            .expect("the binary can be run")
    }

    /// A command of the binary, which knows where the Redis is and nothing of the caller's own settings.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("PORTCULLIS_") {
                command.env_remove(variable);
            }
        }
        command
            .args([name, "--redis", &self.url(self.redis.port())])
            .env("PORTCULLIS_REDIS_PASSWORD", PASSWORD)
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// The Redis, or a way to it on another port of this machine, as Portcullis' user.
    fn url(&self, port: u16) -> String {
        let database = match self.database {
            0 => String::new(),
            database => format!("/{database}"),
        };
        format!("redis://portcullis@127.0.0.1:{port}{database}")
    }

    /// How to start the replica of that name; started again, it finds its directory.
    pub fn setup(&self, name: &str) -> Setup {
        self.setup_through(name, self.redis.port())
    }

    /// The same, but it reaches the Redis through another port.
    pub fn setup_through(&self, name: &str, port: u16) -> Setup {
        Setup::new()
            .data_dir(self.dir.path().join(name))
            .args(["--name", name, "--redis", &self.url(port)])
            .env("PORTCULLIS_REDIS_PASSWORD", PASSWORD)
    }

    /// Starts the replica of that name.
    #[track_caller]
    pub fn start(&self, name: &str) -> Replica {
        self.known_as(name, self.setup(name).start())
    }

    /// A replica that was started.
    pub fn known_as(&self, name: &str, server: Server) -> Replica {
        Replica {
            name: name.to_owned(),
            root: Clients::of(server.admin(), &Token::bearer(&self.root_token)),
            gate: Clients::gate(&server),
            server,
        }
    }

    /// Starts r1, r2 and so on, which all know each other when this returns.
    pub async fn start_all(&self, count: usize) -> Vec<Replica> {
        let replicas: Vec<_> = (1..=count)
            .map(|number| self.start(&format!("r{number}")))
            .collect();
        let names: Vec<_> = replicas
            .iter()
            .map(|replica| replica.name.as_str())
            .collect();
        for replica in &replicas {
            replica.until_members(&names).await;
        }
        replicas
    }
}

impl Replica {
    /// Waits until it says that these are the fleet.
    pub async fn until_members(&self, names: &[&str]) {
        let due: BTreeSet<_> = names.iter().map(ToString::to_string).collect();
        let what = format!("{} knows {due:?}", self.name);
        eventually(&what, async || self.members().await.as_ref() == Some(&due)).await;
    }

    /// Who it says is in the fleet, if it can be asked and its store too.
    async fn members(&self) -> Option<BTreeSet<String>> {
        let mut fleet = self.root.fleet.clone();
        let listed = fleet.list_replicas(ListReplicasRequest {}).await.ok()?;
        let replicas = listed.into_inner().replicas;
        Some(replicas.into_iter().map(|replica| replica.name).collect())
    }

    /// Asks its gate.
    pub async fn seen(&self, request: CheckRequest) -> Seen {
        seen(&self.gate, request).await
    }

    /// Asks its gate, over and over.
    pub fn probe(&self, request: CheckRequest) -> Probe {
        let gate = self.gate.clone();
        Probe::new(&self.name, move || {
            let (gate, request) = (gate.clone(), request.clone());
            async move { seen(&gate, request).await }
        })
    }

    /// Waits until its gate answers that.
    pub async fn until(&self, request: &CheckRequest, due: &Seen) {
        eventually(&format!("{} answers {due:?}", self.name), async || {
            self.seen(request.clone()).await == *due
        })
        .await;
    }

    /// The whole chain of events, as this replica reads it: their number.
    pub async fn verified_events(&self) -> u64 {
        let mut audit = self.root.audit.clone();
        let verdict = audit
            .verify_events(VerifyEventsRequest::default())
            .await
            .unwrap_or_else(|status| panic!("{}: {status:?}", self.name))
            .into_inner();
        assert!(verdict.intact, "{}: {verdict:?}", self.name);
        u64::try_from(verdict.event_count).expect("a count")
    }
}

/// Asks a gate.
async fn seen(gate: &Clients, request: CheckRequest) -> Seen {
    match gate.check.clone().check(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            match answer.reason() {
                Reason::Ok => {
                    assert!(answer.allowed, "`allowed` and OK go together: {answer:?}");
                    Seen::Open
                }
                reason => {
                    assert!(!answer.allowed, "`allowed` and OK go together: {answer:?}");
                    Seen::Shut(reason.as_str_name())
                }
            }
        }
        // Only what the server itself says carries a reason.
        Err(status) if status.code() == Code::Unavailable && !status.details().is_empty() => {
            Seen::Undecided(reason_of(&status).as_str_name())
        }
        Err(status) => Seen::Failed(format!("{status:?}")),
    }
}

/// The gate's answer of a replica whose lease ran out.
pub const FENCED: Seen = Seen::Undecided("REPLICA_FENCED");

/// How the changes made through these came to be in force.
pub fn barriers(replicas: &[Replica]) -> Barriers {
    let count = |by: &str| -> u64 {
        replicas
            .iter()
            .map(|replica| {
                let labels = format!("by=\"{by}\"");
                let count = replica.server.metric("portcullis_barriers_total", &labels);
                format!("{:.0}", count.unwrap_or(0.0))
                    .parse::<u64>()
                    .expect("a count")
            })
            .sum()
    };
    Barriers {
        by_acknowledgements: count("acknowledgements"),
        by_lease_end: count("lease_end"),
        none: count("none"),
    }
}

impl Barriers {
    /// Asserts that since then so many changes came to be in force by acknowledgements, and none in another way.
    #[track_caller]
    pub fn only_acknowledged_since(self, before: Self, due: u64) {
        let since = Self {
            by_acknowledgements: self.by_acknowledgements - before.by_acknowledgements,
            by_lease_end: self.by_lease_end - before.by_lease_end,
            none: self.none - before.none,
        };
        let due = Self {
            by_acknowledgements: due,
            ..Self::default()
        };
        assert_eq!(
            since, due,
            "every change was in force by acknowledgements alone"
        );
    }
}

/// Of how many acknowledgements each of these calls was, by the log of those that took them.
pub fn acknowledged(replicas: &[Replica], method: &str) -> Vec<String> {
    let method = format!("method=\"{method}\"");
    let mut counts = Vec::new();
    for replica in replicas {
        for line in replica.server.stderr().lines() {
            if line.contains(" changed ") && line.contains(&method) {
                let count = line
                    .split_whitespace()
                    .find_map(|word| word.strip_prefix("acknowledged="));
                counts.push(count.unwrap_or("none").to_owned());
            }
        }
    }
    counts
}

/// Waits until something holds, for as long as anything may take.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} in vain: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Makes a change as soon as the store takes it, which it does not do right after an outage.
pub async fn done_at_last(change: &Mutation, through: &Replica) {
    eventually(&format!("{change:?}"), async || {
        match change.send(&through.root).await {
            Ok(_) => true,
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                false
            }
        }
    })
    .await;
}

/// A shipped file.
fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy/redis")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The shipped access rules with the tests' password in them.
pub fn users_acl() -> String {
    let rules = shipped("users.acl");
    assert_eq!(
        rules.matches(PLACEHOLDER).count(),
        1,
        "there is one password"
    );
    let mut hash = String::from("#");
    for byte in Sha256::digest(PASSWORD) {
        write!(hash, "{byte:02x}").expect("a string takes it");
    }
    rules.replace(PLACEHOLDER, &hash)
}

/// The shipped configuration at a place of the test's own: every line stands but for those that say where.
fn redis_conf(rules_file: &Path) -> String {
    let mut text = shipped("redis.conf");
    for (name, value) in [
        ("port", "{port}".to_owned()),
        ("dir", "{dir}".to_owned()),
        ("aclfile", rules_file.display().to_string()),
    ] {
        let start = format!("{name} ");
        let lines: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with(&start))
            .map(str::to_owned)
            .collect();
        let [line] = lines.as_slice() else {
            panic!("redis.conf says {name} once, not {lines:?}");
        };
        text = text.replace(&format!("\n{line}\n"), &format!("\n{name} {value}\n"));
    }
    text
}
