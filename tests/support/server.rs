//! The real binary as a server of its own: own ports, own directory, stopped when dropped.

use std::{
    ffi::OsString,
    fmt, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::PATIENCE;

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Address {
    fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("unix:") {
            Some(path) => Some(Self::Unix(path.into())),
            None => text.parse().ok().map(Self::Tcp),
        }
    }

    /// The socket address of a TCP listener.
    #[track_caller]
    #[must_use]
    pub fn tcp(&self) -> SocketAddr {
        match self {
            Self::Tcp(address) => *address,
            Self::Unix(path) => panic!("{} is a Unix socket", path.display()),
        }
    }

    /// As gRPC libraries take it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        match self {
            Self::Tcp(address) => format!("http://{address}"),
            Self::Unix(path) => format!("unix:{}", path.display()),
        }
    }
}

/// As `--gate` takes it and the ready line prints it.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How to start a server.
#[derive(Debug)]
pub struct Setup {
    gate: String,
    admin: String,
    ops: String,
    data_dir: Option<PathBuf>,
    files: Option<u64>,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
}

impl Default for Setup {
    fn default() -> Self {
        let free = || "127.0.0.1:0".to_owned();
        Self {
            gate: free(),
            admin: free(),
            ops: free(),
            data_dir: None,
            files: None,
            args: Vec::new(),
            envs: Vec::new(),
        }
    }
}

impl Setup {
    /// On free ports, in a new directory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn gate(mut self, address: impl Into<String>) -> Self {
        self.gate = address.into();
        self
    }

    #[must_use]
    pub fn admin(mut self, address: impl Into<String>) -> Self {
        self.admin = address.into();
        self
    }

    #[must_use]
    pub fn ops(mut self, address: impl Into<String>) -> Self {
        self.ops = address.into();
        self
    }

    /// In this directory, which outlives the server.
    #[must_use]
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(dir.into());
        self
    }

    /// With this limit on open files.
    #[must_use]
    pub fn files(mut self, most: u64) -> Self {
        self.files = Some(most);
        self
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<const N: usize>(mut self, args: [&str; N]) -> Self {
        self.args.extend(args.map(OsString::from));
        self
    }

    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.envs.push((name.into(), value.into()));
        self
    }

    /// Starts it and waits for its ready line.
    ///
    /// # Panics
    ///
    /// When it ends instead, or is not ready in time.
    #[track_caller]
    #[must_use]
    pub fn start(self) -> Server {
        match self.try_start() {
            Ok(server) => server,
            Err(exit) => panic!("the server did not start: {exit}"),
        }
    }

    /// Starts it and waits for its ready line, or for its end.
    ///
    /// # Errors
    ///
    /// How it ended, if it did.
    #[track_caller]
    pub fn try_start(self) -> Result<Server, Exit> {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let data_dir = self
            .data_dir
            .clone()
            .unwrap_or_else(|| scratch.path().join("data"));
        let mut command = match self.files {
            None => Command::new(env!("CARGO_BIN_EXE_portcullis")),
            // The shell becomes the server.
            Some(most) => {
                let mut command = Command::new("sh");
                command
                    .args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &most.to_string()])
                    .arg(env!("CARGO_BIN_EXE_portcullis"));
                command
            }
        };
        // Nothing of the caller's own settings may reach it.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PORTCULLIS_") {
                command.env_remove(name);
            }
        }
        command
            .arg("serve")
            .args([
                "--gate",
                &self.gate,
                "--admin",
                &self.admin,
                "--ops",
                &self.ops,
                "--data-dir",
            ])
            .arg(&data_dir)
            .args(&self.args)
            .envs(self.envs)
            .current_dir(scratch.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary can be run");

        let stdout = Output::follow(child.stdout.take().expect("piped"));
        let stderr = Output::follow(child.stderr.take().expect("piped"));
        let deadline = Instant::now() + PATIENCE;
        let ready = loop {
            if let Some(ready) = Ready::find(&stdout.text()) {
                break ready;
            }
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                return Err(Exit {
                    status,
                    stdout: stdout.finish(),
                    stderr: stderr.finish(),
                });
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!(
                    "no ready line within {PATIENCE:?}; stdout:\n{}\nstderr:\n{}",
                    stdout.text(),
                    stderr.text()
                );
            }
            stdout.wait_a_little();
        };
        let pid = Pid::from_child(&child);
        Ok(Server {
            child: Some(child),
            pid,
            ready,
            data_dir,
            stdout,
            stderr,
            _scratch: scratch,
        })
    }
}

/// What the ready line says.
#[derive(Clone, Debug)]
struct Ready {
    gate: Address,
    admin: Address,
    ops: Address,
    store: String,
}

impl Ready {
    /// `portcullis ready: check ADDRESS  admin ADDRESS  ops ADDRESS  store DIR (embedded)`
    fn find(stdout: &str) -> Option<Self> {
        // Only whole lines: the last one may still be on its way.
        let end = stdout.rfind('\n')?;
        let line = stdout[..end]
            .lines()
            .find_map(|line| line.strip_prefix("portcullis ready: "))?;
        let parsed = (|| {
            let (gate, rest) = line.strip_prefix("check ")?.split_once("  admin ")?;
            let (admin, rest) = rest.split_once("  ops ")?;
            let (ops, store) = rest.split_once("  store ")?;
            Some(Self {
                gate: Address::parse(gate)?,
                admin: Address::parse(admin)?,
                ops: Address::parse(ops)?,
                store: store.to_owned(),
            })
        })();
        Some(parsed.unwrap_or_else(|| panic!("not a ready line: {line:?}")))
    }
}

/// How a server ended.
#[derive(Debug)]
pub struct Exit {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; stdout:\n{}\nstderr:\n{}",
            self.status, self.stdout, self.stderr
        )
    }
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    child: Option<Child>,
    pid: Pid,
    ready: Ready,
    data_dir: PathBuf,
    stdout: Output,
    stderr: Output,
    _scratch: TempDir,
}

impl Server {
    /// On free ports, in a new directory.
    #[track_caller]
    #[must_use]
    pub fn start() -> Self {
        Setup::new().start()
    }

    #[must_use]
    pub fn gate(&self) -> &Address {
        &self.ready.gate
    }

    #[must_use]
    pub fn admin(&self) -> &Address {
        &self.ready.admin
    }

    #[must_use]
    pub fn ops(&self) -> &Address {
        &self.ready.ops
    }

    /// What the ready line says of the store.
    #[must_use]
    pub fn store(&self) -> &str {
        &self.ready.store
    }

    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The socket that the file system authorizes.
    #[must_use]
    pub fn admin_socket(&self) -> Address {
        Address::Unix(self.data_dir.join("admin.sock"))
    }

    #[must_use]
    pub fn root_token_file(&self) -> PathBuf {
        self.data_dir.join("root.token")
    }

    /// The first root credential.
    #[track_caller]
    #[must_use]
    pub fn root_token(&self) -> String {
        let file = self.root_token_file();
        let token =
            fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        token.trim_end().to_owned()
    }

    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends SIGTERM and returns.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends a signal and returns.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("the server is there to be told");
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(mut self) {
        let mut child = self.child.take().expect("a running server");
        child.kill().expect("a running server can be killed");
        child.wait().expect("a child can be waited for");
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// When it does not end within `bound`; it is killed then.
    #[track_caller]
    pub fn wait(mut self, bound: Duration) -> Exit {
        let deadline = Instant::now() + bound;
        let mut child = self.child.take().expect("a running server");
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!(
                    "the server did not end within {bound:?}; stderr:\n{}",
                    self.stderr.text()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Exit {
            status,
            stdout: self.stdout.finish(),
            stderr: self.stderr.finish(),
        }
    }

    /// SIGTERM, and waits for the end.
    #[track_caller]
    pub fn stop(self) -> Exit {
        self.terminate();
        self.wait(PATIENCE)
    }

    /// A page of the ops listener: status code and body.
    #[track_caller]
    #[must_use]
    pub fn page(&self, path: &str) -> (u16, String) {
        let mut stream =
            TcpStream::connect(self.ready.ops.tcp()).expect("the ops listener is there");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout can be set");
        // HTTP/1.0, so that the end of the answer is the end of the connection.
        write!(stream, "GET {path} HTTP/1.0\r\nhost: ops\r\n\r\n").expect("a request can be sent");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .expect("an answer in text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .expect("a status code");
        (status, body.to_owned())
    }

    /// The sum of the metric's samples whose labels contain `labels`; absent counts as none.
    #[track_caller]
    #[must_use]
    pub fn metric(&self, name: &str, labels: &str) -> Option<f64> {
        let (status, body) = self.page("/metrics");
        assert_eq!(status, 200, "/metrics");
        let mut sum = None;
        for line in body.lines() {
            let Some(rest) = line.strip_prefix(name) else {
                continue;
            };
            if !(rest.starts_with(' ') || rest.starts_with('{')) || !rest.contains(labels) {
                continue;
            }
            let sample = rest.rsplit(' ').next().expect("a sample has a value");
            *sum.get_or_insert(0.0) += sample.parse::<f64>().expect("a value is a number");
        }
        sum
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
            if std::thread::panicking() {
                eprintln!("--- the server's stderr:\n{}---", self.stderr.text());
            }
        }
    }
}

/// What a process writes, gathered as it comes.
#[derive(Debug)]
struct Output {
    shared: Arc<(Mutex<String>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

impl Output {
    fn follow(source: impl std::io::Read + Send + 'static) -> Self {
        let shared = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let theirs = Arc::clone(&shared);
        let reader = std::thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while source
                .read_until(b'\n', &mut line)
                .is_ok_and(|read| read > 0)
            {
                theirs
                    .0
                    .lock()
                    .expect("no holder panics")
                    .push_str(&String::from_utf8_lossy(&line));
                theirs.1.notify_all();
                line.clear();
            }
        });
        Self {
            shared,
            reader: Some(reader),
        }
    }

    fn text(&self) -> String {
        self.shared.0.lock().expect("no holder panics").clone()
    }

    /// Until something more was written, or a moment has passed.
    fn wait_a_little(&self) {
        let text = self.shared.0.lock().expect("no holder panics");
        drop(self.shared.1.wait_timeout(text, Duration::from_millis(20)));
    }

    /// Everything, once the process has ended.
    fn finish(&self) -> String {
        let deadline = Instant::now() + PATIENCE;
        while self
            .reader
            .as_ref()
            .is_some_and(|reader| !reader.is_finished())
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.text()
    }
}
