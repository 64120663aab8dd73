//! Authorities and certificates of a test's own, and clients that show them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hyper_util::rt::TokioIo;
use portcullis::{
    proto::v1::{CreateKeyRequest, CreateWorkspaceRequest, DisableKeyRequest, IssuedKey, Key},
    tls::{ClientFiles, ClientTls},
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, SanType, date_time_ymd,
};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::support::{Clients, Server, Setup, Token, key_named};

/// An authority.
pub struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
pub struct Leaf {
    pub cert: String,
    pub key: String,
}

impl Ca {
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).expect("a certificate");
        Self {
            pem: cert.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate with these names.
    pub fn leaf(&self, names: &[&str]) -> Leaf {
        self.issue(names, |_| {})
    }

    pub fn expired(&self, names: &[&str]) -> Leaf {
        self.issue(names, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 2);
        })
    }

    fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.iter().map(|name| san(name)).collect();
        // One that is called as its issuer is would be taken for its own.
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "leaf");
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        Leaf {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }
}

fn san(name: &str) -> SanType {
    if let Ok(address) = name.parse() {
        SanType::IpAddress(address)
    } else if name.contains("://") {
        SanType::URI(name.try_into().expect("ASCII"))
    } else {
        SanType::DnsName(name.try_into().expect("ASCII"))
    }
}

/// Who everybody is in these tests.
pub const EDGE: &str = "spiffe://example.org/edge";
pub const OPERATOR: &str = "operator.example.org";

/// The files of a server with TLS and mutual TLS on both listeners, and of its clients.
pub struct Scene {
    pub dir: TempDir,
    /// Signs servers.
    pub ca: Ca,
    /// Signs clients.
    pub clients: Ca,
}

impl Scene {
    pub fn new() -> Self {
        let scene = Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
            ca: Ca::new(),
            clients: Ca::new(),
        };
        scene.write("ca.pem", scene.ca.pem());
        scene.write("clients.pem", scene.clients.pem());
        scene.server_cert(&scene.ca.leaf(&["localhost", "127.0.0.1"]));
        let callers = format!(
            "[[caller]]\nspiffe = \"{EDGE}\"\npermissions = [\"default:check\"]\n\
             [[caller]]\ndns = \"{OPERATOR}\"\npermissions = [\"*:keys.write\", \"*:keys.read\", \"default:audit.read\"]\n"
        );
        scene.write("portcullis.toml", &callers);
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file can be written");
    }

    /// In place of the certificate that the server has now.
    pub fn server_cert(&self, leaf: &Leaf) {
        self.write("server.pem", &leaf.cert);
        self.write("server.key", &leaf.key);
    }

    /// A server with mutual TLS on both listeners.
    pub fn mutual(&self) -> Setup {
        self.with(self.server_tls("gate"), "gate-client-ca", "clients.pem")
            .args(["--admin-cert", &self.name("server.pem")])
            .args(["--admin-key", &self.name("server.key")])
            .args(["--admin-client-ca", &self.name("clients.pem")])
            .args(["--config", &self.name("portcullis.toml")])
    }

    /// A server with TLS on one listener.
    pub fn server_tls(&self, listener: &str) -> Setup {
        Setup::new()
            .args([
                &format!("--{listener}-cert"),
                self.name("server.pem").as_str(),
            ])
            .args([
                &format!("--{listener}-key"),
                self.name("server.key").as_str(),
            ])
    }

    pub fn with(&self, setup: Setup, setting: &str, file: &str) -> Setup {
        setup.args([&format!("--{setting}"), self.name(file).as_str()])
    }

    fn name(&self, file: &str) -> String {
        self.path(file).display().to_string()
    }

    /// The files of a client that shows this certificate.
    pub fn client_files(&self, leaf: Option<&Leaf>) -> ClientFiles {
        let identity = leaf.map(|leaf| {
            let dir = tempfile::tempdir_in(self.dir.path())
                .expect("a directory")
                .keep();
            fs::write(dir.join("cert.pem"), &leaf.cert).expect("a file can be written");
            fs::write(dir.join("key.pem"), &leaf.key).expect("a file can be written");
            (dir.join("cert.pem"), dir.join("key.pem"))
        });
        ClientFiles {
            ca: Some(self.path("ca.pem")),
            identity,
        }
    }

    pub fn tls(&self, leaf: Option<&Leaf>) -> ClientTls {
        ClientTls::open(&self.client_files(leaf)).expect("files of a client")
    }

    /// Calls a port with this certificate.
    pub fn clients(&self, port: u16, leaf: Option<&Leaf>, token: &Token) -> Clients {
        Clients::over(self.channel(port, leaf), token)
    }

    pub fn channel(&self, port: u16, leaf: Option<&Leaf>) -> Channel {
        let tls = self.tls(leaf);
        let connect = tower::service_fn(move |_| {
            let tls = tls.clone();
            async move { tls.connect("127.0.0.1", port).await.map(TokioIo::new) }
        });
        Endpoint::from_static("https://127.0.0.1").connect_with_connector_lazy(connect)
    }

    /// The admin listener of a server with mutual TLS, as its root.
    pub fn root(&self, server: &Server) -> Clients {
        let nobody = self.clients.leaf(&["nobody.example.org"]);
        let token = Token::bearer(&server.root_token());
        self.clients(server.admin().tcp().port(), Some(&nobody), &token)
    }
}

/// A key of `system`.
pub async fn issue(root: &Clients, permissions: &[&str]) -> IssuedKey {
    issue_key(root, key_named("", permissions)).await
}

pub async fn issue_key(root: &Clients, key: Key) -> IssuedKey {
    let request = CreateKeyRequest {
        parent: "workspaces/system".into(),
        key: Some(key),
        ..CreateKeyRequest::default()
    };
    let issued = root.keys.clone().create_key(request).await;
    issued.expect("root may").into_inner()
}

pub async fn disable(root: &Clients, name: &str) {
    let request = DisableKeyRequest {
        name: name.into(),
        ..DisableKeyRequest::default()
    };
    let disabled = root.keys.clone().disable_key(request).await;
    disabled.expect("root may");
}

pub async fn create_workspace(root: &Clients, id: &str) {
    let request = CreateWorkspaceRequest {
        workspace_id: id.into(),
        ..CreateWorkspaceRequest::default()
    };
    let created = root.workspaces.clone().create_workspace(request).await;
    created.expect("root may");
}

/// Replaces a file in one step, as a mounted secret is.
pub fn swap(dir: &Path, name: &str, text: &str) {
    let next = dir.join(format!("{name}.next"));
    fs::write(&next, text).expect("a file can be written");
    fs::rename(next, dir.join(name)).expect("a file can be renamed");
}

/// Asserts that a call failed because there was no connection: nobody answered it.
#[track_caller]
pub fn assert_no_connection<T: std::fmt::Debug>(what: &str, result: Result<T, tonic::Status>) {
    let status = result.expect_err(what);
    let source = std::error::Error::source(&status);
    let source = source.and_then(|source| source.downcast_ref::<tonic::transport::Error>());
    assert!(source.is_some(), "{what}: {status:?}");
}
