//! A Redis of a test's own: a port and a directory of its own, and killed when dropped.

use std::{
    ffi::OsString,
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use ::redis::{Client, Connection, RedisResult, Value};
use portcullis::config::{RedisAddress, RedisDurability, RedisSettings};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Missing, PATIENCE, redis_server};

/// Another process may take a port that was just found free.
const PORTS_TRIED: usize = 20;

/// A running redis-server that keeps what it acknowledges.
#[derive(Debug)]
pub struct RedisServer {
    program: OsString,
    dir: TempDir,
    port: u16,
    /// Who [`connection`](Self::connection) is, and the password; `None`: the default user, who may do everything.
    login: Option<(String, String)>,
    /// `None` between [`kill`](Self::kill) and [`start_again`](Self::start_again).
    child: Option<Child>,
}

impl RedisServer {
    /// Starts one with `appendonly yes` and `appendfsync always`, and with `lines` at the end of its configuration, where
    /// they outrule what stands before.
    ///
    /// # Errors
    ///
    /// When there is no redis-server on this machine.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[track_caller]
    pub fn start(lines: &[&str]) -> Result<Self, Missing> {
        Self::begin(None, |server| server.configure(lines))
    }

    /// Starts one on a whole configuration, in which `{port}` and `{dir}` stand for its own. The user named must be allowed
    /// everything.
    ///
    /// # Errors
    ///
    /// When there is no redis-server on this machine.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[track_caller]
    pub fn start_as(configuration: &str, user: &str, password: &str) -> Result<Self, Missing> {
        let login = Some((user.to_owned(), password.to_owned()));
        Self::begin(login, |server| {
            let text = configuration
                .replace("{port}", &server.port.to_string())
                .replace("{dir}", &server.dir().display().to_string());
            let log = server.dir().join("log");
            let text = format!("{text}\nlogfile {}\n", log.display());
            fs::write(server.dir().join("conf"), text).expect("a configuration");
        })
    }

    #[track_caller]
    fn begin(login: Option<(String, String)>, configure: impl Fn(&Self)) -> Result<Self, Missing> {
        let program = redis_server()?;
        let dir = tempfile::tempdir().expect("a directory");
        let mut server = Self {
            program,
            dir,
            port: 0,
            login,
            child: None,
        };
        for _ in 0..PORTS_TRIED {
            server.port = free_port();
            configure(&server);
            if server.spawn() {
                return Ok(server);
            }
        }
        panic!("redis-server does not start:\n{}", server.log());
    }

    /// Writes the configuration that the next start reads, on the port that it has.
    pub fn configure(&self, lines: &[&str]) {
        let own = [
            format!("port {}", self.port),
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", self.dir().display()),
            format!("logfile {}", self.dir().join("log").display()),
            "daemonize no".to_owned(),
            "save \"\"".to_owned(),
            "appendonly yes".to_owned(),
            "appendfsync always".to_owned(),
            "enable-debug-command local".to_owned(),
        ];
        let lines = own.iter().map(String::as_str).chain(lines.iter().copied());
        let text: String = lines.flat_map(|line| [line, "\n"]).collect();
        fs::write(self.dir().join("conf"), text).expect("a configuration");
    }

    /// True if it came up; false if it ended, as when the port was taken.
    fn spawn(&mut self) -> bool {
        let child = Command::new(&self.program)
            .arg(self.dir().join("conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server can be run");
        let child = self.child.insert(child);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                self.child = None;
                eprintln!("redis-server ended: {status}");
                return false;
            }
            if answers(self.port, self.login.as_ref(), child.id()) {
                return true;
            }
            assert!(Instant::now() < deadline, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// As `--redis` takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its process.
    ///
    /// # Panics
    ///
    /// When it was killed.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running server").id()
    }

    fn signal(&self, signal: Signal) {
        let pid = self.pid().try_into().expect("a pid");
        let pid = Pid::from_raw(pid).expect("a pid");
        kill_process(pid, signal).expect("the server is there to be told");
    }

    /// Stops it as it is: its connections stay open and nothing answers.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("a running server");
        child.kill().expect("a running server can be killed");
        child.wait().expect("a child can be waited for");
    }

    /// Starts it again on the same port and the same files, after [`kill`](Self::kill).
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "it is running");
        // The port may be in use for a moment as the local end of somebody's connection.
        for _ in 0..PORTS_TRIED {
            if self.spawn() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("redis-server does not start again:\n{}", self.log());
    }

    /// Kills it, and starts it again on the same port and the same files.
    pub fn restart(&mut self) {
        self.kill();
        self.start_again();
    }

    /// A connection past Portcullis, as one who may do everything.
    ///
    /// # Panics
    ///
    /// When there is none to be had.
    #[must_use]
    pub fn connection(&self) -> Connection {
        connect(self.port, self.login.as_ref()).expect("a connection")
    }

    /// Sends one command past Portcullis: `["SET", "key", "value"]`.
    ///
    /// # Errors
    ///
    /// What the server says against it.
    pub fn try_cli<A: AsRef<[u8]>>(&self, words: &[A]) -> RedisResult<Value> {
        let mut command = ::redis::Cmd::new();
        for word in words {
            command.arg(word.as_ref());
        }
        command.query(&mut self.connection())
    }

    /// Sends one command past Portcullis.
    ///
    /// # Panics
    ///
    /// When the server refuses it.
    pub fn cli<A: AsRef<[u8]>>(&self, words: &[A]) -> Value {
        self.try_cli(words).unwrap_or_else(|error| {
            let words: Vec<_> = words
                .iter()
                .map(|word| String::from_utf8_lossy(word.as_ref()))
                .collect();
            panic!("{words:?}: {error}")
        })
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir().join("log")).unwrap_or_default()
    }
}

/// Leads to a server as its default user, in the namespace that is Portcullis's own choice.
#[must_use]
pub fn redis_settings(server: &RedisServer) -> RedisSettings {
    RedisSettings {
        address: RedisAddress::Tcp("127.0.0.1".to_owned(), server.port()),
        user: None,
        password: None,
        database: 0,
        namespace: "portcullis".to_owned(),
        durability: RedisDurability::Verify,
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn connect(port: u16, login: Option<&(String, String)>) -> RedisResult<Connection> {
    let login = login.map_or(String::new(), |(user, password)| {
        format!("{user}:{password}@")
    });
    let client = Client::open(format!("redis://{login}127.0.0.1:{port}"))?;
    let connection = client.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    Ok(connection)
}

/// True once the process `pid`, and no other that has taken its port, answers and has read its files.
fn answers(port: u16, login: Option<&(String, String)>, pid: u32) -> bool {
    let asked = || -> RedisResult<String> {
        let mut connection = connect(port, login)?;
        ::redis::cmd("PING").exec(&mut connection)?;
        ::redis::cmd("INFO").arg("server").query(&mut connection)
    };
    let own = format!("process_id:{pid}");
    asked().is_ok_and(|info| info.lines().any(|line| line.trim() == own))
}
