//! TLS in one process: what is loaded, what is kept, who is told.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::*;

/// An authority, and a certificate by it for `gate.example`, in files.
struct Scene {
    dir: TempDir,
    files: TlsFiles,
}

fn issue(dir: &Path, name: &str) -> (String, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_cert = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    fs::write(dir.join("ca.pem"), ca_cert.pem()).unwrap();
    (leaf.pem(), key.serialize_pem())
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = TlsFiles {
            cert: dir.path().join("cert.pem"),
            key: dir.path().join("key.pem"),
            client_ca: None,
        };
        let scene = Self { dir, files };
        let (cert, key) = issue(scene.dir.path(), "gate.example");
        scene.write(&cert, &key);
        scene
    }

    fn write(&self, cert: &str, key: &str) {
        fs::write(&self.files.cert, cert).unwrap();
        fs::write(&self.files.key, key).unwrap();
    }

    fn tls(&self) -> Arc<Tls> {
        Tls::open("gate", self.files.clone()).unwrap()
    }

    /// The error of a client, if it does not get through.
    async fn connect(&self, tls: &Tls, name: &str) -> Result<Retired, String> {
        let files = ClientFiles {
            ca: Some(self.dir.path().join("ca.pem")),
            identity: None,
        };
        let client = ClientTls::open(&files)?;
        let (ours, theirs) = duplex(1 << 16);
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let calling = async {
            let mut stream = client.connector().connect(name, theirs).await?;
            stream.write_all(b"a").await?;
            let mut answer = [0];
            stream.read_exact(&mut answer).await?;
            Ok::<_, io::Error>(answer)
        };
        let serving = async {
            let mut accepted = tls.accept(ours).await?;
            assert_eq!(
                accepted.stream.get_ref().1.alpn_protocol(),
                Some(&b"h2"[..])
            );
            let mut said = [0];
            accepted.stream.read_exact(&mut said).await.ok()?;
            accepted.stream.write_all(&said).await.ok()?;
            accepted.stream.flush().await.ok()?;
            Some(accepted.retired)
        };
        let (called, served) = tokio::join!(calling, serving);
        match (called, served) {
            (Ok(answer), Some(retired)) => {
                assert_eq!(&answer, b"a");
                Ok(retired)
            }
            (Err(error), _) => Err(explain(&error).unwrap_or_else(|| error.to_string())),
            (Ok(_), None) => Err("the server gave up".to_owned()),
        }
    }
}

fn is_retired(retired: &mut Retired) -> bool {
    futures_util::FutureExt::now_or_never(retired.wait()).is_some()
}

#[tokio::test]
async fn what_replaces_the_files_is_in_force_and_older_connections_are_told() {
    let scene = Scene::new();
    let tls = scene.tls();
    let mut old = scene.connect(&tls, "gate.example").await.unwrap();
    let (cert, key) = issue(scene.dir.path(), "new.example");
    scene.write(&cert, &key);
    tls.look();
    assert!(!is_retired(&mut old), "it may still be being written");
    tls.look();
    assert!(is_retired(&mut old));
    let mut new = scene.connect(&tls, "new.example").await.unwrap();
    for _ in 0..3 {
        tls.look();
    }
    assert!(!is_retired(&mut new));
    assert_eq!((tls.totals().reloaded, tls.totals().refused), (1, 0));
}

#[tokio::test]
async fn faulty_files_leave_in_force_what_was_and_count_once() {
    let scene = Scene::new();
    let tls = scene.tls();
    let (cert, key) = scene_files(&scene);
    let (other_cert, _) = issue(tempfile::tempdir().unwrap().path(), "other.example");
    let faults = [
        (&cert[..cert.len() / 2], key.as_str()),
        (cert.as_str(), &key[..key.len() / 2]),
        (other_cert.as_str(), key.as_str()),
        ("", key.as_str()),
        (cert.as_str(), ""),
        (key.as_str(), cert.as_str()),
    ];
    for (count, (cert, key)) in faults.into_iter().enumerate() {
        scene.write(cert, key);
        for _ in 0..4 {
            tls.look();
        }
        assert_eq!(tls.totals().refused, count as u64 + 1);
        let mut connected = scene.connect(&tls, "gate.example").await.unwrap();
        assert!(!is_retired(&mut connected));
    }
    fs::remove_file(&scene.files.key).unwrap();
    for _ in 0..4 {
        tls.look();
    }
    assert_eq!(tls.totals().refused, 7);
    // What was in force all along is no change.
    scene.write(&cert, &key);
    for _ in 0..4 {
        tls.look();
    }
    assert_eq!((tls.totals().reloaded, tls.totals().refused), (0, 7));
    scene.connect(&tls, "gate.example").await.unwrap();
}

fn scene_files(scene: &Scene) -> (String, String) {
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    (read(&scene.files.cert), read(&scene.files.key))
}

#[tokio::test]
async fn a_server_that_is_another_is_not_believed() {
    let scene = Scene::new();
    let tls = scene.tls();
    let error = scene.connect(&tls, "other.example").await.err().unwrap();
    assert!(error.contains("another name"), "{error}");
    let elsewhere = Scene::new();
    let foreign = elsewhere.tls();
    let error = scene.connect(&foreign, "gate.example").await.err().unwrap();
    assert!(error.contains("--ca"), "{error}");
    assert_eq!(foreign.totals().broken_handshakes, 1);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stalls_its_handshake_is_cut_off() {
    let tls = Scene::new().tls();
    let (ours, _theirs) = duplex(1 << 16);
    let started = tokio::time::Instant::now();
    assert!(tls.accept(ours).await.is_none());
    assert_eq!(started.elapsed(), HANDSHAKE_LIMIT);
    assert_eq!(tls.totals().broken_handshakes, 1);
}

#[test]
fn faults_name_the_file_and_never_what_a_key_holds() {
    let scene = Scene::new();
    let (cert, key) = scene_files(&scene);
    let half = &key[..key.len() / 2];
    for (cert, key, says) in [
        ("", key.as_str(), "cert.pem holds no certificate"),
        (&cert[..40], key.as_str(), "cert.pem is no whole PEM"),
        (cert.as_str(), "", "key.pem holds no whole private key"),
        (cert.as_str(), half, "key.pem holds no whole private key"),
    ] {
        scene.write(cert, key);
        let error = Tls::open("gate", scene.files.clone()).unwrap_err();
        assert!(error.contains(says), "{error}");
        assert!(!error.contains(&half[40..60]), "{error}");
    }
}

/// One that is taken up again would skip the look at the client's certificate.
#[tokio::test]
async fn no_session_is_taken_up_again() {
    let scene = Scene::new();
    let tls = scene.tls();
    let files = ClientFiles {
        ca: Some(scene.dir.path().join("ca.pem")),
        identity: None,
    };
    let client = ClientTls::open(&files).unwrap();
    for _ in 0..3 {
        let (ours, theirs) = duplex(1 << 16);
        let name = rustls::pki_types::ServerName::try_from("gate.example").unwrap();
        let connecting = client.connector().connect(name, theirs);
        let (connected, accepted) = tokio::join!(connecting, tls.accept(ours));
        let (mut connected, mut accepted) = (connected.unwrap(), accepted.unwrap().stream);
        // What would let it be taken up again comes with the first bytes.
        accepted.write_all(b"a").await.unwrap();
        accepted.flush().await.unwrap();
        connected.read_exact(&mut [0]).await.unwrap();
        let kind = accepted.get_ref().1.handshake_kind();
        assert_eq!(kind, Some(rustls::HandshakeKind::Full));
    }
}
