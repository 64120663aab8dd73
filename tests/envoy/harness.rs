//! Envoy as a process, on a shipped file with addresses of the test's own.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Instant,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{self, Address, Missing, PATIENCE};

/// The port of the gate in the shipped files.
const GATE: &str = "socket_address: { address: 127.0.0.1, port_value: 7700 }";
/// The same in the file for a Unix socket.
const GATE_SOCKET: &str = "pipe: { path: /run/portcullis/gate.sock }";
/// The port of the second gate of a fleet.
const GATE_2: &str = "socket_address: { address: 127.0.0.1, port_value: 7710 }";
/// The service that is protected.
const SERVICE: &str = "socket_address: { address: 127.0.0.1, port_value: 9000 }";
/// Where clients come in.
const EDGE: &str = "socket_address: { address: 0.0.0.0, port_value: 8080 }";
const ADMIN: &str = "socket_address: { address: 127.0.0.1, port_value: 9901 }";
const FREE: &str = "socket_address: { address: 127.0.0.1, port_value: 0 }";
/// A test's own hosts come before the shipped ones.
const HOSTS: &str = "            virtual_hosts:\n";

/// What Envoy is started on.
#[derive(Clone, Debug)]
pub struct Config(String);

impl Config {
    /// A file of `deploy/envoy`.
    #[track_caller]
    pub fn shipped(name: &str) -> Self {
        let path = shipped(name);
        let text = fs::read_to_string(&path);
        Self(text.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    /// With something else in the place of what stands there once.
    #[track_caller]
    pub fn with(self, there: &str, instead: &str) -> Self {
        let times = self.0.matches(there).count();
        assert_eq!(times, 1, "{there:?} stands there {times} times");
        Self(self.0.replace(there, instead))
    }

    /// With something else wherever it stands.
    pub fn replacing(self, there: &str, instead: &str) -> Self {
        Self(self.0.replace(there, instead))
    }

    /// With the addresses of a test: free ports for Envoy itself.
    #[track_caller]
    pub fn between(self, gate: &Address, service: SocketAddr) -> Self {
        let gate = match gate {
            Address::Tcp(address) => tcp(*address),
            Address::Unix(path) => format!("pipe: {{ path: {} }}", path.display()),
        };
        let there = if self.0.contains(GATE_SOCKET) {
            GATE_SOCKET
        } else {
            GATE
        };
        self.with(there, &gate).before(service)
    }

    /// With the addresses of two gates.
    #[track_caller]
    pub fn before_two(self, gates: [SocketAddr; 2]) -> Self {
        self.with(GATE, &tcp(gates[0])).with(GATE_2, &tcp(gates[1]))
    }

    /// With the addresses of a test, but for the gates'.
    #[track_caller]
    pub fn before(self, service: SocketAddr) -> Self {
        self.with(SERVICE, &tcp(service))
            .with(EDGE, FREE)
            .with(ADMIN, FREE)
    }

    /// With a host of the test's own, before the shipped ones. Without a policy Envoy is told none.
    #[track_caller]
    pub fn with_host(self, name: &str, policy: &[(&str, &str)]) -> Self {
        let policy = if policy.is_empty() {
            String::new()
        } else {
            let entries: Vec<_> = policy
                .iter()
                .map(|(key, value)| format!("{}: {}", quoted(key), quoted(value)))
                .collect();
            format!(
                "              typed_per_filter_config: {{ envoy.filters.http.ext_authz: {{ \
                 \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute, \
                 check_settings: {{ context_extensions: {{ {} }} }} }} }}\n",
                entries.join(", ")
            )
        };
        let host = format!(
            "{HOSTS}            - name: {name}\n              domains: [{name}]\n{policy}              \
             routes: [{{ match: {{ prefix: / }}, route: {{ cluster: service }} }}]\n"
        );
        self.with(HOSTS, &host)
    }

    pub fn text(&self) -> &str {
        &self.0
    }
}

/// A text as JSON, which YAML reads.
fn quoted(text: &str) -> Value {
    Value::from(text)
}

fn tcp(address: SocketAddr) -> String {
    let (ip, port) = (address.ip(), address.port());
    format!("socket_address: {{ address: \"{ip}\", port_value: {port} }}")
}

/// Where a shipped file is.
pub fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy/envoy")
        .join(name)
}

/// A running Envoy. Dropping it kills it.
pub struct Envoy {
    child: Child,
    dir: TempDir,
    admin: SocketAddr,
    edge: SocketAddr,
}

/// A line of the shipped access log.
#[derive(Clone, Debug)]
pub struct Logged(Value);

impl Envoy {
    /// Starts one and waits until it takes requests.
    ///
    /// # Errors
    ///
    /// When there is no Envoy on this machine.
    #[track_caller]
    pub fn start(config: &Config) -> Result<Self, Missing> {
        Self::start_with(config, &[])
    }

    /// The same with variables of its environment.
    #[track_caller]
    pub fn start_with(config: &Config, environment: &[(&str, &str)]) -> Result<Self, Missing> {
        let program = support::envoy()?;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let place = |name: &str| dir.path().join(name);
        fs::write(place("envoy.yaml"), config.text()).expect("a configuration");
        let into = |name: &str| Stdio::from(File::create(place(name)).expect("a file"));
        let mut child = Command::new(program)
            // Another one on this machine has its own shared memory; what is logged is there soon.
            .args(["--use-dynamic-base-id", "--concurrency", "1"])
            .args(["--file-flush-interval-msec", "100"])
            .args(["--log-level", "warning"])
            .arg("--config-path")
            .arg(place("envoy.yaml"))
            .arg("--admin-address-path")
            .arg(place("admin"))
            .envs(environment.iter().copied())
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(into("access.log"))
            .stderr(into("envoy.log"))
            .spawn()
            .expect("Envoy can be run");
        let deadline = Instant::now() + PATIENCE;
        let (admin, edge) = loop {
            if let Some(found) = addresses(&place("admin")) {
                break found;
            }
            let log = || fs::read_to_string(place("envoy.log")).unwrap_or_default();
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                panic!("Envoy ended: {status}\n{}", log());
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!("Envoy is not ready:\n{}", log());
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        Ok(Self {
            child,
            dir,
            admin,
            edge,
        })
    }

    /// Where clients come in.
    pub fn edge(&self) -> SocketAddr {
        self.edge
    }

    /// A figure of its own.
    #[track_caller]
    pub fn stat(&self, name: &str) -> u64 {
        let text = get(self.admin, &format!("/stats?filter=^{name}$")).expect("the admin page");
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let value = value.unwrap_or_else(|| panic!("no figure {name}: {text:?}"));
        value.parse().expect("a number")
    }

    /// Waits until so many requests are in the access log.
    #[track_caller]
    pub fn logged(&self, count: usize) -> Vec<Logged> {
        let mut lines = Vec::new();
        support::wait_until("the access log is written", || {
            let text = fs::read_to_string(self.dir.path().join("access.log")).expect("a log");
            lines = text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok().map(Logged))
                .collect();
            lines.len() >= count
        });
        assert_eq!(lines.len(), count, "one line a request");
        lines
    }
}

impl Logged {
    /// A field of the line, if it says anything.
    pub fn get(&self, field: &str) -> Option<String> {
        match self.0.get(field)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            for name in ["envoy.log", "access.log"] {
                let text = fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
                let from = text.len().saturating_sub(4_000);
                eprintln!("--- {name}:\n{}---", text.get(from..).unwrap_or_default());
            }
        }
    }
}

/// Envoy's own judgement of a file.
///
/// # Errors
///
/// When there is no Envoy on this machine.
#[track_caller]
pub fn validate(config: &Config) -> Result<Output, Missing> {
    let program = support::envoy()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("envoy.yaml");
    fs::write(&file, config.text()).expect("a configuration");
    let output = Command::new(program)
        .args(["--mode", "validate", "--log-level", "warning"])
        .arg("--config-path")
        .arg(&file)
        .stdin(Stdio::null())
        .output();
    Ok(output.expect("Envoy can be run"))
}

/// Envoy's admin page and its listener, once it takes requests.
fn addresses(file: &Path) -> Option<(SocketAddr, SocketAddr)> {
    let admin = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    if !get(admin, "/ready").ok()?.ends_with("LIVE\n") {
        return None;
    }
    let listeners: Value =
        serde_json::from_str(&get(admin, "/listeners?format=json").ok()?).ok()?;
    let address = listeners.pointer("/listener_statuses/0/local_address/socket_address")?;
    let ip = address.get("address")?.as_str()?.parse().ok()?;
    let port = address.get("port_value")?.as_u64()?;
    Some((admin, SocketAddr::new(ip, port.try_into().ok()?)))
}

/// A page.
fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, mut chunks) = text.split_once("\r\n\r\n").unwrap_or_default();
    if !head.contains("transfer-encoding: chunked") {
        return Ok(chunks.to_owned());
    }
    let mut page = String::new();
    while let Some((size, rest)) = chunks.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        page.push_str(rest.get(..size).unwrap_or_default());
        chunks = rest.get(size + 2..).unwrap_or_default();
    }
    Ok(page)
}
