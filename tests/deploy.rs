//! The files in `deploy/`: what can be known of them without a container engine, a cluster or a running systemd. The judge is
//! `deploy/check.py`; here it is run on the files as they are, and on copies with one thing wrong in each.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use support::Missing;
use tempfile::TempDir;

struct Judge {
    python: PathBuf,
    systemd_analyze: PathBuf,
    pem: TempDir,
}

impl Judge {
    fn new() -> Result<Self, Missing> {
        let (python, systemd_analyze) = (support::python()?, support::systemd_analyze()?);
        let pem = tempfile::tempdir().expect("a directory");
        let made = rcgen::generate_simple_self_signed(vec!["portcullis".into()]).expect("made");
        fs::write(pem.path().join("cert.pem"), made.cert.pem()).expect("a file");
        fs::write(pem.path().join("key.pem"), made.signing_key.serialize_pem()).expect("a file");
        Ok(Self {
            python,
            systemd_analyze,
            pem,
        })
    }

    /// The faults of each of these repositories, in one part of it, or in all.
    fn faults<'a>(
        &self,
        roots: impl IntoIterator<Item = &'a Path>,
        only: Option<&str>,
    ) -> Vec<String> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(&self.python);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PORTCULLIS_") {
                command.env_remove(name);
            }
        }
        command
            .arg(repository.join("tests/deploy/check.py"))
            .args(["--portcullis", env!("CARGO_BIN_EXE_portcullis")])
            .arg("--pem")
            .arg(self.pem.path())
            .arg("--systemd-analyze")
            .arg(&self.systemd_analyze);
        if let Some(only) = only {
            command.args(["--only", only]);
        }
        for root in roots {
            command.arg("--root").arg(root);
        }
        let output = command.output().expect("Python can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the judge fell over: {said}");
        serde_json::from_slice(&output.stdout).expect("a list")
    }
}

/// The repository with one passage of one file replaced. What does not matter is linked.
fn broken(file: &str, from: &str, to: &str) -> TempDir {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copy = tempfile::tempdir().expect("a directory");
    mirror(repository, copy.path(), Path::new(file));
    let text = fs::read_to_string(repository.join(file)).expect("it can be read");
    assert!(text.contains(from), "{file}: {from:?} stands there");
    fs::write(copy.path().join(file), text.replacen(from, to, 1)).expect("a file");
    copy
}

/// Makes the directories on the way to `file` and links everything beside them.
fn mirror(from: &Path, to: &Path, file: &Path) {
    let mut way = file.components();
    let next = way.next().expect("a file");
    for entry in fs::read_dir(from).expect("a directory") {
        let name = entry.expect("it can be read").file_name();
        if name == next.as_os_str() {
            if !way.as_path().as_os_str().is_empty() {
                fs::create_dir(to.join(&name)).expect("a directory");
                mirror(&from.join(&name), &to.join(&name), way.as_path());
            }
        } else if name != "target" && name != ".git" {
            std::os::unix::fs::symlink(from.join(&name), to.join(&name)).expect("a link");
        }
    }
}

#[test]
fn what_deploy_has_can_be_deployed_as_far_as_that_can_be_known_here() {
    let Ok(judge) = Judge::new() else { return };
    let faults = judge.faults([Path::new(env!("CARGO_MANIFEST_DIR"))], None);
    assert_eq!(faults, [""], "{}", faults.concat());
}

#[test]
fn a_file_with_one_thing_wrong_is_found_out() {
    const DOCKERFILE: &str = "deploy/Dockerfile";
    const COMPOSE: &str = "deploy/compose.yaml";
    const SHARED: &str = "deploy/kubernetes/shared.yaml";
    const SIDECAR: &str = "deploy/kubernetes/sidecar.yaml";
    const JOB: &str = "deploy/kubernetes/init-job.yaml";
    const UNIT: &str = "deploy/systemd/portcullis.service";
    let Ok(judge) = Judge::new() else { return };
    let wrong = [
        // The image.
        (
            "dockerfile",
            DOCKERFILE,
            "COPY src src\n",
            "",
            "cargo cannot build without",
        ),
        (
            "dockerfile",
            DOCKERFILE,
            "COPY benches benches\n",
            "",
            "cargo cannot build without",
        ),
        (
            "dockerfile",
            DOCKERFILE,
            "proto proto",
            "protos proto",
            "COPY protos: it is not there",
        ),
        (
            "dockerfile",
            DOCKERFILE,
            "--profile dist",
            "--profile distribution",
            "has no profile distribution",
        ),
        (
            "dockerfile",
            DOCKERFILE,
            "--locked ",
            "",
            "does not build what is locked",
        ),
        (
            "dockerfile",
            DOCKERFILE,
            "target/dist/",
            "target/release/",
            "does not copy /src/target/dist/portcullis",
        ),
        (
            "dockerfile",
            DOCKERFILE,
            "USER 65532:65532",
            "USER root",
            "runs as root",
        ),
        (
            "dockerfile",
            DOCKERFILE,
            "--from=build /src",
            "--from=builder /src",
            "there is no stage builder",
        ),
        (
            "dockerfile",
            DOCKERFILE,
            "rust:1.95-bookworm",
            "rust",
            "hadolint: -:",
        ),
        (
            "dockerfile",
            DOCKERFILE,
            "[\"serve\"]",
            "[\"serve\", \"--gates\"]",
            "serve knows no --gates",
        ),
        (
            "dockerfile",
            ".dockerignore",
            "!proto\n",
            "",
            "leaves out proto",
        ),
        (
            "dockerfile",
            ".dockerignore",
            "!src\n",
            "!src\n!data\n",
            "lets in {'data'}",
        ),
        // Compose.
        (
            "compose",
            COMPOSE,
            "command: [serve]",
            "command: [serve, --gate-insecurely]",
            "knows no --gate-insecurely",
        ),
        (
            "compose",
            COMPOSE,
            "PORTCULLIS_NAME: blue",
            "PORTCULIS_NAMES: blue\n      PORTCULLIS_NAMES: blue",
            "no variable PORTCULLIS_NAMES",
        ),
        (
            "compose",
            COMPOSE,
            "unix:/run/portcullis/green.sock",
            "0.0.0.0:7700",
            "config check refuses",
        ),
        (
            "compose",
            COMPOSE,
            "unix:/run/portcullis/green.sock",
            "unix:/run/portcullis/grey.sock",
            "the gates are",
        ),
        (
            "compose",
            COMPOSE,
            "read_only: true",
            "read_only: false",
            "its root file system can be written",
        ),
        (
            "compose",
            COMPOSE,
            "stop_grace_period: 40s",
            "stop_grace_period: 10s",
            "is killed after 10 s",
        ),
        (
            "compose",
            COMPOSE,
            "redis://portcullis@redis:6379",
            "redis://portcullis@reddis:6379",
            "does not reach",
        ),
        (
            "compose",
            COMPOSE,
            "volumes:\n  redis: {}\n",
            "volumes:\n",
            "volumes: declared",
        ),
        (
            "compose",
            COMPOSE,
            "./demo/upstream.py",
            "./demo/downstream.py",
            "neither there nor made",
        ),
        (
            "compose",
            COMPOSE,
            "secrets/portcullis.env",
            "secrets/portcullis.vars",
            "is not made by the commands",
        ),
        (
            "compose",
            COMPOSE,
            "    restart: unless-stopped\n    healthcheck",
            "    restarts: unless-stopped\n    healthcheck",
            "schema: ",
        ),
        (
            "compose",
            COMPOSE,
            "\"127.0.0.1:8080:8080\"",
            "\"8080:8080\"",
            "to everybody",
        ),
        (
            "compose",
            COMPOSE,
            "fleet, status",
            "fleet, health",
            "there is no command",
        ),
        (
            "compose",
            COMPOSE,
            "    user: \"999:999\"\n",
            "",
            "redis: runs as root",
        ),
        (
            "compose",
            "deploy/README.md",
            "s|#0\\{64\\}|",
            "s|#1\\{64\\}|",
            "makes no ACL",
        ),
        (
            "compose",
            "deploy/compose/envoy.yaml",
            "failure_mode_allow: false",
            "failure_mode_allow: true",
            "differs from ../envoy/fleet.yaml",
        ),
        (
            "compose",
            COMPOSE,
            "envoy:distroless-v1.40.0",
            "envoy:distroless-v1.20.0",
            "is not the Envoy",
        ),
        (
            "compose",
            COMPOSE,
            "  <<: [*locked-down, *image]\n  command",
            "  <<: *locked-down\n  image: portcullis:0.1.0\n  command",
            "in a registry",
        ),
        // Kubernetes.
        (
            "kubernetes",
            SIDECAR,
            "targetPort: 8080",
            "targetPort: http",
            "which no container has",
        ),
        (
            "kubernetes",
            SIDECAR,
            "value: 127.0.0.1:7700",
            "value: 127.0.0.1:7710",
            "Envoy does not ask its gate",
        ),
        (
            "kubernetes",
            SIDECAR,
            "containerPort: 8080",
            "containerPort: 8081",
            "Envoy does not listen on [8081]",
        ),
        (
            "kubernetes",
            SHARED,
            "readOnlyRootFilesystem: true",
            "readOnlyRootFilesystem: false",
            "its root file system can be written",
        ),
        (
            "kubernetes",
            SIDECAR,
            "          readOnlyRootFilesystem: true\n",
            "",
            "its root file system can be written",
        ),
        (
            "kubernetes",
            JOB,
            "drop: [ALL]",
            "drop: [NET_RAW]",
            "keeps capabilities",
        ),
        (
            "kubernetes",
            JOB,
            "runAsNonRoot: true",
            "runAsNonRoot: false",
            "may run as root",
        ),
        (
            "kubernetes",
            SHARED,
            "          type: RuntimeDefault\n",
            "          type: Unconfined\n",
            "filters no system calls",
        ),
        (
            "kubernetes",
            SHARED,
            "automountServiceAccountToken: false",
            "automountServiceAccountToken: true",
            "has a token of Kubernetes",
        ),
        (
            "kubernetes",
            SHARED,
            "value: 0.0.0.0:7702",
            "value: 0.0.0.0:7703",
            "no probe reaches its ops listener",
        ),
        (
            "kubernetes",
            SIDECAR,
            "value: 0.0.0.0:7702",
            "value: 127.0.0.1:7702",
            "no probe reaches its ops listener",
        ),
        (
            "kubernetes",
            SHARED,
            "containerPort: 7700",
            "containerPort: 7710",
            "nobody reaches its gate",
        ),
        (
            "kubernetes",
            SHARED,
            "path: /livez\n            port: ops",
            "path: /livez\n            port: gate",
            "does not ask ops",
        ),
        (
            "kubernetes",
            SHARED,
            "path: /readyz",
            "path: /ready",
            "its startupProbe asks",
        ),
        (
            "kubernetes",
            SHARED,
            "targetPort: gate",
            "targetPort: grpc",
            "which no container has",
        ),
        (
            "kubernetes",
            SHARED,
            "args: [serve, --config,",
            "args: [serve, --config-file,",
            "serve knows no --config-file",
        ),
        (
            "kubernetes",
            JOB,
            "[init, --lease, 15s]",
            "[init, --lease, 15x]",
            "config check refuses",
        ),
        (
            "kubernetes",
            JOB,
            "[init, --lease, 15s]",
            "[init, --gate, \"127.0.0.1:0\"]",
            "init knows no --gate",
        ),
        (
            "kubernetes",
            SHARED,
            "PORTCULLIS_GATE_CLIENT_CA",
            "PORTCULLIS_GATE_CA",
            "no variable PORTCULLIS_GATE_CA",
        ),
        (
            "kubernetes",
            SHARED,
            "[[caller]]\n    dns",
            "[[callers]]\n    dns",
            "config check refuses",
        ),
        (
            "kubernetes",
            SHARED,
            "\"default:check\"",
            "\"default:ask\"",
            "config check refuses",
        ),
        (
            "kubernetes",
            SHARED,
            "terminationGracePeriodSeconds: 45",
            "terminationGracePeriodSeconds: 30",
            "is killed after 30 s",
        ),
        (
            "kubernetes",
            SHARED,
            "kind: Deployment",
            "kind: Deploymint",
            "Deploymint",
        ),
        (
            "kubernetes",
            SHARED,
            "policy/v1",
            "policy/v1beta1",
            "PodDisruptionBudget",
        ),
        (
            "kubernetes",
            SIDECAR,
            "periodSeconds: 10",
            "periodSecond: 10",
            "periodSecond",
        ),
        (
            "kubernetes",
            SIDECAR,
            "mountPath: /var/lib/portcullis",
            "mountPath: /var/lib/portcullis/data",
            "cannot make its data directory",
        ),
        (
            "kubernetes",
            SIDECAR,
            "        configMap:\n          name: portcullis-envoy\n",
            "        emptyDir: {}\n      - name: other\n        emptyDir: {}\n",
            "nothing mounts {'other'}",
        ),
        (
            "kubernetes",
            SHARED,
            "mountPath: /etc/portcullis/gate\n",
            "mountPath: /etc/portcullis/tls\n",
            "config check refuses",
        ),
        (
            "kubernetes",
            JOB,
            "valueFrom:\n            secretKeyRef:\n              name: portcullis-root\n              key: token",
            "value: pc_open",
            "a secret, and only that, is a Secret",
        ),
        (
            "kubernetes",
            SHARED,
            "matchLabels:\n      app.kubernetes.io/name: portcullis\n  policyTypes",
            "matchLabels:\n      app: portcullis\n  policyTypes",
            "selects nothing",
        ),
        // systemd.
        (
            "systemd",
            UNIT,
            "portcullis serve",
            "portcullis serve --port 1",
            "serve knows no --port",
        ),
        (
            "systemd",
            UNIT,
            "=PORTCULLIS_DATA_DIR",
            "=PORTCULLIS_DIR",
            "no variable PORTCULLIS_DIR",
        ),
        (
            "systemd",
            UNIT,
            "=PORTCULLIS_CONFIG=%d/portcullis.toml",
            "=PORTCULLIS_CONFIG=%d/config.toml",
            "config check refuses",
        ),
        (
            "systemd",
            UNIT,
            "DynamicUser=yes",
            "DynamicUser=no",
            "DynamicUser is no",
        ),
        (
            "systemd",
            UNIT,
            "TimeoutStopSec=40s",
            "TimeoutStopSec=20s",
            "is killed before it has drained",
        ),
        (
            "systemd",
            UNIT,
            "LockPersonality",
            "LockPersonalty",
            "systemd-analyze verify",
        ),
        (
            "systemd",
            UNIT,
            "SystemCallFilter=@system-service",
            "SystemCallFilter=@everything",
            "systemd-analyze verify",
        ),
        (
            "systemd",
            UNIT,
            "RestrictNamespaces=yes\n",
            "RestrictNamespaces=no\nProtectSystem=no\n",
            "systemd-analyze security",
        ),
    ];
    let mut unseen = Vec::new();
    for part in ["dockerfile", "compose", "kubernetes", "systemd"] {
        let wrong: Vec<_> = wrong.iter().filter(|it| it.0 == part).collect();
        let copies: Vec<_> = wrong
            .iter()
            .map(|(_, file, from, to, _)| broken(file, from, to))
            .collect();
        let faults = judge.faults(copies.iter().map(TempDir::path), Some(part));
        assert_eq!(faults.len(), wrong.len(), "one answer each");
        for ((_, file, from, to, by), faults) in wrong.into_iter().zip(faults) {
            if !faults.contains(by) {
                unseen.push(format!(
                    "{file} with {to:?} for {from:?} should be seen by {by:?}; found: {faults}"
                ));
            }
        }
    }
    assert!(unseen.is_empty(), "{}", unseen.join("\n"));
}
