//! The clients in `examples/`, run as programs against a real server, one that is stopped, one that never answers, and one
//! that answers whatever it is told to. Each must tell its service what to do in every case, and none may ever fail open.
//!
//! The same cases are then put to clients that were broken on purpose, and must find each of them out.

mod support;

use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use portcullis::proto::v1::{
    BatchCheckRequest, BatchCheckResponse, CheckRequest, CheckResponse, DisableKeyRequest,
    check_response::Reason,
    check_service_server::{CheckService, CheckServiceServer},
};
use support::{Clients, Missing, PATIENCE, Server, Setup, check, clients, key_named};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status};

/// Long enough for a loaded machine, and used up by nobody.
const AMPLE: &str = "20000";
/// For those who never answer: the whole of it is waited.
const SHORT: &str = "1200";

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A way to run one of the clients.
struct Client {
    program: PathBuf,
    args: Vec<PathBuf>,
    /// Where it was built, if not in the repository.
    _dir: Option<TempDir>,
}

impl Client {
    /// As `cargo test` and `cargo build --example check` leave it.
    fn rust() -> Self {
        // Beside the binary under test, which tells the profile as well.
        let target = Path::new(env!("CARGO_BIN_EXE_portcullis")).parent();
        let program = target.expect("a directory").join("examples/check");
        let written = |path: &Path| fs::metadata(path).and_then(|it| it.modified()).ok();
        assert!(
            written(&program) >= written(&repository("examples/rust/check.rs")),
            "{} is not there or is old; build it: cargo build --example check",
            program.display()
        );
        Self {
            program,
            args: Vec::new(),
            _dir: None,
        }
    }

    /// With a change to `check/check.go`, if there is one to be made.
    fn go(change: Option<(&str, &str)>) -> Result<Self, Missing> {
        let go = support::go()?;
        let dir = tempfile::tempdir().expect("a directory");
        let program = dir.path().join("check-key");
        let source = repository("examples/go/check/check.go");
        let mut build = Command::new(go);
        build.args(["build", "-mod=readonly", "-buildvcs=false", "-o"]);
        build.arg(&program);
        if let Some(change) = change {
            let (broken, overlay) = (dir.path().join("check.go"), dir.path().join("overlay"));
            fs::write(&broken, changed(&source, change)).expect("a file");
            let replace =
                serde_json::json!({ "Replace": { source.to_str().expect("UTF-8"): broken } });
            fs::write(&overlay, replace.to_string()).expect("a file");
            build.arg("-overlay").arg(overlay);
        }
        done(build.arg(".").current_dir(repository("examples/go")));
        Ok(Self {
            program,
            args: Vec::new(),
            _dir: Some(dir),
        })
    }

    /// With its stubs generated as its README says, and with a change to `check.py`, if there is one to be made.
    fn python(change: Option<(&str, &str)>) -> Result<Self, Missing> {
        let python = support::python()?;
        let dir = tempfile::tempdir().expect("a directory");
        let here = dir.path().join("examples/python");
        fs::create_dir_all(&here).expect("a directory");
        std::os::unix::fs::symlink(repository("proto"), dir.path().join("proto")).expect("a link");
        let generate = readme_line("python3 -m grpc_tools.protoc ");
        let generate = generate.split_whitespace().skip(1);
        done(Command::new(&python).args(generate).current_dir(&here));
        let source = repository("examples/python/check.py");
        let text = change.map_or_else(
            || fs::read_to_string(&source).expect("it can be read"),
            |change| changed(&source, change),
        );
        let script = here.join("check.py");
        fs::write(&script, text).expect("a file");
        Ok(Self {
            program: python,
            args: vec![script],
            _dir: Some(dir),
        })
    }

    fn ask(&self, case: &Case) -> Output {
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .args(case.replicas.iter().flat_map(|at| ["--replica", at]))
            .args(&case.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the client can be run");
        let mut stdin = child.stdin.take().expect("piped");
        stdin
            .write_all(case.credential.as_bytes())
            .expect("the client reads");
        drop(stdin);
        child.wait_with_output().expect("the client ends")
    }
}

/// The text of a file with one line of it replaced.
#[track_caller]
fn changed(source: &Path, (from, to): (&str, &str)) -> String {
    let text = fs::read_to_string(source).expect("it can be read");
    assert_eq!(text.matches(from).count(), 1, "{from:?} stands there once");
    text.replace(from, to)
}

#[track_caller]
fn readme_line(start: &str) -> String {
    let readme = fs::read_to_string(repository("examples/README.md")).expect("it can be read");
    let line = readme.lines().find(|line| line.starts_with(start));
    line.unwrap_or_else(|| panic!("the README says: {start}"))
        .to_owned()
}

#[track_caller]
fn done(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("it can run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// Answers what the credential says: `reason NUMBER ALLOWED`, `code NUMBER` or `never`. Counts how often it was asked each.
#[derive(Clone, Debug, Default)]
struct Puppet {
    asked: Arc<Mutex<HashMap<String, usize>>>,
}

impl Puppet {
    fn start(&self, runtime: &Runtime) -> SocketAddr {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
            let listener = listener.expect("a port");
            let address = listener.local_addr().expect("an address");
            let service = CheckServiceServer::new(self.clone());
            tokio::spawn(
                tonic::transport::Server::builder()
                    .add_service(service)
                    .serve_with_incoming(TcpListenerStream::new(listener)),
            );
            address
        })
    }
}

#[tonic::async_trait]
impl CheckService for Puppet {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        let credential = request.into_inner().credential;
        *self
            .asked
            .lock()
            .expect("no holder panics")
            .entry(credential.clone())
            .or_default() += 1;
        let words: Vec<_> = credential.split(' ').collect();
        match words[..] {
            ["reason", reason, allowed] => Ok(Response::new(CheckResponse {
                allowed: allowed.parse().expect("true or false"),
                reason: reason.parse().expect("a number"),
                ..CheckResponse::default()
            })),
            ["code", code] => Err(Status::new(
                Code::from_i32(code.parse().expect("a number")),
                "as told",
            )),
            _ => std::future::pending().await,
        }
    }

    async fn batch_check(
        &self,
        _: Request<BatchCheckRequest>,
    ) -> Result<Response<BatchCheckResponse>, Status> {
        Err(Status::unimplemented("no example batches"))
    }
}

/// One question and the one right reaction.
#[derive(Debug)]
struct Case {
    replicas: Vec<String>,
    credential: String,
    args: Vec<String>,
    /// Of the printed line, with the names of gRPC codes as in this file's table: libraries spell them in several ways.
    due: String,
    /// How often the puppet must have been asked, where that matters.
    asked: Option<usize>,
}

impl Case {
    fn asks(mut self, times: usize) -> Self {
        self.asked = Some(times);
        self
    }
}

fn case(replicas: &[&dyn ToString], credential: &str, args: &[&str], due: &str) -> Case {
    let timeout = if args.contains(&"--timeout-ms") {
        vec![]
    } else {
        vec!["--timeout-ms", AMPLE]
    };
    Case {
        replicas: replicas.iter().map(|it| it.to_string()).collect(),
        credential: credential.to_owned(),
        args: args
            .iter()
            .chain(&timeout)
            .map(ToString::to_string)
            .collect(),
        due: due.to_owned(),
        asked: None,
    }
}

/// Everything that a client may meet.
struct Scene {
    runtime: Runtime,
    server: Server,
    on_socket: Server,
    _sockets: TempDir,
    stopped: String,
    /// Takes connections, and never says a word.
    silent: TcpListener,
    puppet: Puppet,
}

impl Scene {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let stopped = Server::start();
        let address = stopped.gate().to_string();
        stopped.terminate();
        let exit = stopped.wait(PATIENCE);
        assert!(exit.status.success(), "{exit}");
        let sockets = tempfile::tempdir().expect("a directory");
        let socket = sockets.path().join("gate.sock");
        Self {
            runtime,
            server: Server::start(),
            on_socket: Setup::new()
                .gate(format!("unix:{}", socket.display()))
                .start(),
            _sockets: sockets,
            stopped: address,
            silent: TcpListener::bind("127.0.0.1:0").expect("a port"),
            puppet: Puppet::default(),
        }
    }

    fn cases(&self) -> Vec<Case> {
        let mut cases = self.decisions();
        let puppet = self.puppet.start(&self.runtime);
        // Answers that today's server never gives, but for UNDECIDED in a batch.
        for (reason, allowed, due) in [
            (10, false, "503 UNDECIDED"),
            (0, false, "403 REASON_UNSPECIFIED"),
            (77, false, "403 77"),
            (1, false, "403 OK"),
            (0, true, "403 REASON_UNSPECIFIED"),
            (2, true, "401 INVALID_CREDENTIAL"),
            (3, true, "403 KEY_DISABLED"),
            (77, true, "403 77"),
        ] {
            let told = format!("reason {reason} {allowed}");
            cases.push(case(&[&puppet, &puppet], &told, &[], due).asks(1));
        }
        for (code, due, asked) in [
            (Code::Unavailable, "503 UNAVAILABLE", 2),
            (Code::InvalidArgument, "400 INVALIDARGUMENT", 1),
            (Code::OutOfRange, "400 OUTOFRANGE", 1),
            (Code::Unauthenticated, "503 UNAUTHENTICATED", 1),
            (Code::PermissionDenied, "503 PERMISSIONDENIED", 1),
            (Code::Internal, "503 INTERNAL", 1),
            (Code::Unimplemented, "503 UNIMPLEMENTED", 1),
            (Code::ResourceExhausted, "503 RESOURCEEXHAUSTED", 1),
            (Code::Unknown, "503 UNKNOWN", 1),
        ] {
            let told = format!("code {}", i32::from(code));
            cases.push(case(&[&puppet, &puppet], &told, &[], due).asks(asked));
        }
        let short = ["--timeout-ms", SHORT];
        cases.push(case(&[&puppet], "never", &short, "503 DEADLINEEXCEEDED").asks(1));
        cases
    }

    /// What real servers decide, and what it is like without one.
    fn decisions(&self) -> Vec<Case> {
        let _entered = self.runtime.enter();
        let (admin, gate) = clients(&self.server);
        let keys = self.runtime.block_on(Keys::make(&admin, &gate));
        let good = self
            .runtime
            .block_on(Clients::root(&self.on_socket).create("good", &["sms.send"]));
        let on_socket = (good.key.expect("a key").name, good.token);
        let (gate, silent) = (
            self.server.gate(),
            self.silent.local_addr().expect("an address"),
        );
        let stopped = &self.stopped;
        let allowed = format!("200 OK {}", keys.good.0);
        let good = keys.good.1.as_str();
        let short = ["--timeout-ms", SHORT];
        let send = ["--permission", "sms.send"];
        let mut wrong = good.to_owned();
        wrong.replace_range(
            wrong.len() - 1..,
            if good.ends_with('0') { "1" } else { "0" },
        );
        let inside = ["--source", "192.0.2.7"];
        vec![
            case(&[&gate], good, &send, &allowed),
            case(&[&gate], &format!("Bearer {good}"), &send, &allowed),
            case(
                &[self.on_socket.gate()],
                &on_socket.1,
                &send,
                &format!("200 OK {}", on_socket.0),
            ),
            case(&[&gate], "", &send, "401 INVALID_CREDENTIAL"),
            case(&[&gate], &wrong, &send, "401 INVALID_CREDENTIAL"),
            case(
                &[&gate],
                good,
                &["--workspace", "other"],
                "401 INVALID_CREDENTIAL",
            ),
            case(&[&gate], &keys.disabled, &send, "403 KEY_DISABLED"),
            case(&[&gate], &keys.expired, &send, "403 KEY_EXPIRED"),
            case(&[&gate], &keys.limited, &[], "403 SOURCE_DENIED"),
            case(
                &[&gate],
                &keys.limited,
                &["--source", "198.51.100.1"],
                "403 SOURCE_DENIED",
            ),
            case(
                &[&gate],
                good,
                &["--permission", "sms.send", "--permission", "sms.read"],
                "403 PERMISSION_DENIED",
            ),
            case(
                &[&gate],
                good,
                &["--setting", "colour=red"],
                "400 INVALID_SETTING",
            ),
            case(
                &[&gate],
                good,
                &["--source", "nowhere"],
                "400 INVALID_REQUEST",
            ),
            case(&[&gate], good, &inside, &allowed),
            // Without an answer.
            case(&[stopped], good, &send, "503 UNAVAILABLE"),
            case(&[stopped, stopped], good, &send, "503 UNAVAILABLE"),
            case(&[stopped, &gate], good, &send, &allowed),
            case(&[stopped, stopped, &gate], good, &send, "503 UNAVAILABLE"),
            case(&[stopped, &gate], &keys.disabled, &send, "403 KEY_DISABLED"),
            case(&[&silent], good, &short, "503 DEADLINEEXCEEDED"),
            case(&[&silent, &silent], good, &short, "503 DEADLINEEXCEEDED"),
            case(&[&silent, &gate], good, &["--timeout-ms", "4000"], &allowed),
        ]
    }

    /// What a client did wrong, case by case.
    fn faults(&self, client: &Client) -> Vec<String> {
        let cases = self.cases();
        cases
            .iter()
            .filter_map(|case| self.fault(client, case))
            .collect()
    }

    fn fault(&self, client: &Client, case: &Case) -> Option<String> {
        self.puppet.asked.lock().expect("no holder panics").clear();
        let output = client.ask(case);
        let printed = String::from_utf8_lossy(&output.stdout);
        let mut printed = printed.trim().to_owned();
        let grpc_code =
            ["400 ", "503 "].iter().any(|it| printed.starts_with(it)) && !case.due.contains('_');
        if grpc_code {
            printed = printed.to_uppercase().replace('_', "");
            // What hangs is given up by whoever looks at the clock first, and some call that cancelling.
            if matches!(&*printed, "503 CANCELLED" | "503 CANCELED") {
                "503 DEADLINEEXCEEDED".clone_into(&mut printed);
            }
        }
        let code = i32::from(!case.due.starts_with("200 "));
        let asked = *self
            .puppet
            .asked
            .lock()
            .expect("no holder panics")
            .get(&case.credential)
            .unwrap_or(&0);
        let right = printed == case.due
            && output.status.code() == Some(code)
            && case.asked.is_none_or(|due| due == asked);
        (!right).then(|| {
                let said = String::from_utf8_lossy(&output.stderr);
                let status = output.status;
                format!(
                    "{} of {:?} {:?}: printed {printed:?}, {status}, asked {asked} times (due {:?}); {said}",
                    case.due, case.replicas, case.args, case.asked
)
})
    }
}

/// Tokens of keys, one of each kind.
struct Keys {
    /// And its name.
    good: (String, String),
    disabled: String,
    expired: String,
    limited: String,
}

impl Keys {
    async fn make(admin: &Clients, gate: &Clients) -> Self {
        let good = admin.create("good", &["sms.send"]).await;
        let disabled = admin.create("disabled", &["sms.send"]).await;
        let name = disabled.key.expect("a key").name;
        let request = DisableKeyRequest {
            name,
            ..DisableKeyRequest::default()
        };
        admin.keys.clone().disable_key(request).await.expect("OK");
        let mut limited = key_named("limited", &["sms.send"]);
        limited.ip_allowlist = vec!["192.0.2.0/24".into()];
        let mut short_lived = key_named("expired", &["sms.send"]);
        short_lived.expire_time = Some((SystemTime::now() + Duration::from_secs(2)).into());
        let expired = admin.create_key(short_lived).await.token;
        let limited = admin.create_key(limited).await.token;
        let deadline = std::time::Instant::now() + PATIENCE;
        while gate.ask(check(&expired)).await.reason() != Reason::KeyExpired {
            assert!(std::time::Instant::now() < deadline, "the key expires");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self {
            good: (good.key.expect("a key").name, good.token),
            disabled: disabled.token,
            expired,
            limited,
        }
    }
}

#[test]
fn the_rust_client_reacts_rightly_to_everything() {
    let faults = Scene::new().faults(&Client::rust());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_go_client_reacts_rightly_to_everything() {
    let Ok(client) = Client::go(None) else { return };
    let faults = Scene::new().faults(&client);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_python_client_reacts_rightly_to_everything() {
    let Ok(client) = Client::python(None) else {
        return;
    };
    let faults = Scene::new().faults(&client);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Asserts that a client broken like this is found out, and by a case in which it lets somebody in where that is the harm.
#[track_caller]
fn found_out(scene: &Scene, cases: &[Case], client: &Client, change: (&str, &str), by: &str) {
    let found = cases
        .iter()
        .filter_map(|case| scene.fault(client, case))
        .any(|fault| fault.contains(by));
    assert!(found, "{change:?} should be seen by {by:?}");
}

#[test]
fn a_python_client_that_fails_open_is_found_out() {
    let scene = Scene::new();
    let cases = scene.cases();
    for (change, by) in [
        // An error is as good as an answer.
        (
            (
                "    raise refused\n",
                "    return messages.CheckResponse()\n",
            ),
            "printed \"200 OK\"",
        ),
        // One of the two signs of an ALLOW is taken for both.
        (
            (
                "answer.allowed is True and answer.reason == Reason.OK",
                "answer.allowed",
            ),
            "403 KEY_DISABLED of",
        ),
        // Nobody else is asked.
        (
            ("(2, 1) if len(replicas) > 1 else (1,)", "(1,)"),
            "200 OK workspaces",
        ),
    ] {
        let Ok(client) = Client::python(Some(change)) else {
            return;
        };
        found_out(&scene, &cases, &client, change, by);
    }
}

#[test]
fn a_go_client_that_fails_open_is_found_out() {
    let scene = Scene::new();
    let cases = scene.cases();
    for (change, by) in [
        (
            (
                "return nil, refusal\n",
                "_ = refusal\n\treturn &portcullisv1.CheckResponse{}, nil\n",
            ),
            "printed \"200 OK\"",
        ),
        (("if answer.GetAllowed() {", "if true {"), "403 OK of"),
        // Its own lack of a credential is blamed on its caller.
        (
            (
                "return nil, &Refusal{503, code.String()}",
                "return nil, &Refusal{401, code.String()}",
            ),
            "503 UNAUTHENTICATED of",
        ),
    ] {
        let Ok(client) = Client::go(Some(change)) else {
            return;
        };
        found_out(&scene, &cases, &client, change, by);
    }
}

#[test]
fn the_generated_go_code_is_what_the_protos_give() {
    let (Ok(buf), Ok(_)) = (support::buf(), support::go()) else {
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    let generate = readme_line("buf generate ");
    done(
        Command::new(buf)
            .args(generate.split_whitespace().skip(1))
            .arg("-o")
            .arg(dir.path())
            .current_dir(repository("examples/go")),
    );
    for file in ["check_service.pb.go", "check_service_grpc.pb.go"] {
        let file = Path::new("portcullis/v1").join(file);
        let read = |path: PathBuf| fs::read_to_string(path).expect("it can be read");
        let (committed, generated) = (
            read(repository("examples/go").join(&file)),
            read(dir.path().join(&file)),
        );
        let differs = committed
            .lines()
            .zip(generated.lines())
            .find(|(one, two)| one != two);
        assert!(
            committed == generated,
            "{}: {differs:?}; in examples/go: {generate}",
            file.display()
        );
    }
}
