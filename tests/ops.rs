//! What an operator sees: probes, metrics by their names, the ready line, and logs that never hold a secret.

mod support;

use portcullis::proto::v1::{
    CheckRequest, DeleteKeyRequest, DisableKeyRequest, EnableKeyRequest, ResetSecretRequest,
};
use serde_json::Value;
use support::{Server, Setup, check, check_request, clients, key_named, update};

#[test]
fn probes_answer_once_the_server_is_ready() {
    let server = Server::start();
    for path in ["/livez", "/readyz", "/metrics"] {
        let (status, body) = server.page(path);
        assert_eq!(status, 200, "{path}: {body}");
    }
    assert_eq!(server.page("/nowhere").0, 404);
}

/// Asserts the value of a sample, or of all the samples with these labels together.
#[track_caller]
fn shows(server: &Server, metric: &str, labels: &str, due: f64) {
    let found = server.metric(metric, labels);
    assert_eq!(found, Some(due), "{metric} {labels}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_what_happened() {
    let server = Server::start();
    let (admin, gate) = clients(&server);
    let issued = admin.create("first", &["sms.send"]).await;
    admin.create("second", &[]).await;
    let name = issued.key.expect("a key").name;
    let token = issued.token;

    for permission in ["sms.send", "sms.send", "sms.read"] {
        gate.ask(check_request(&token, &[permission])).await;
    }
    gate.ask(check("nothing")).await;
    let malformed = CheckRequest {
        source_address: "here".into(),
        ..check(&token)
    };
    gate.ask(malformed).await;
    let (etag, mut keys) = (String::new(), admin.keys.clone());
    let disable = DisableKeyRequest {
        name,
        etag,
        ..DisableKeyRequest::default()
    };
    keys.disable_key(disable).await.expect("disabled");
    gate.ask(check(&token)).await;

    let checks = "portcullis_checks_total";
    shows(&server, checks, "reason=\"OK\"", 2.0);
    shows(&server, checks, "reason=\"PERMISSION_DENIED\"", 1.0);
    shows(&server, checks, "reason=\"INVALID_CREDENTIAL\"", 1.0);
    shows(&server, checks, "reason=\"INVALID_REQUEST\"", 1.0);
    shows(&server, checks, "reason=\"KEY_DISABLED\"", 1.0);
    shows(&server, "portcullis_check_duration_seconds_count", "", 6.0);
    let mutations = "portcullis_mutations_total";
    shows(&server, mutations, "method=\"CreateKey\"", 2.0);
    shows(&server, mutations, "method=\"DisableKey\"", 1.0);
    shows(&server, "portcullis_mutations_failed_total", "", 0.0);
    let barriers = "portcullis_barriers_total";
    shows(&server, barriers, "by=\"acknowledgements\"", 3.0);
    shows(&server, barriers, "by=\"lease_end\"", 0.0);
    shows(&server, barriers, "by=\"none\"", 0.0);
    // The first revision is the store's own, with its root.
    shows(&server, "portcullis_revision", "", 4.0);
    shows(&server, "portcullis_keyring_keys", "", 3.0);
    shows(&server, "portcullis_unreadable_records", "", 0.0);
    shows(&server, "portcullis_argon2_queue", "", 0.0);
    shows(&server, "portcullis_argon2_shed_total", "", 0.0);
    // The root's secret and the key's, once each.
    shows(&server, "portcullis_argon2_runs_total", "", 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_hold_no_secret_at_any_level() {
    for format in ["text", "json"] {
        let server = Setup::new()
            .args(["--log", "trace", "--log-format", format])
            .start();
        let (admin, gate) = clients(&server);
        let issued = admin.create("first", &["sms.send"]).await;
        let name = issued.key.expect("a key").name;
        let (etag, mut keys) = (String::new(), admin.keys.clone());
        gate.ask(check(&issued.token)).await;
        gate.ask(check(&format!("Bearer {}", issued.token))).await;
        admin.ask(check(&issued.token)).await;
        let change = key_named("other", &[]);
        let change = portcullis::proto::v1::Key {
            name: name.clone(),
            ..change
        };
        keys.update_key(update(change, &["display_name"]))
            .await
            .expect("updated");
        let reset = ResetSecretRequest {
            name: name.clone(),
            etag: etag.clone(),
            ..ResetSecretRequest::default()
        };
        let fresh = keys.reset_secret(reset).await.expect("reset").into_inner();
        gate.ask(check(&fresh.token)).await;
        let enable = EnableKeyRequest {
            name: name.clone(),
            etag: etag.clone(),
            ..EnableKeyRequest::default()
        };
        keys.enable_key(enable).await.expect("enabled");
        let delete = DeleteKeyRequest {
            name,
            force: true,
            etag,
            ..DeleteKeyRequest::default()
        };
        keys.delete_key(delete).await.expect("deleted");

        let root = server.root_token();
        assert_eq!(
            server.stdout().lines().count(),
            2,
            "{format}: the ready line and the root token's: {}",
            server.stdout()
        );
        let exit = server.stop();
        let root_secret = root.rsplit('_').next().expect("a secret").to_owned();
        for secret in [root_secret, issued.secret, fresh.secret] {
            // Half of it is too much as well.
            let half = &secret[..secret.len() / 2];
            let leak = exit.stderr.lines().find(|line| line.contains(half));
            assert_eq!(leak, None, "{format}: a secret in the logs");
            assert!(!exit.stdout.contains(half), "{format}: {}", exit.stdout);
        }
        assert!(!exit.stderr.is_empty(), "{format}: trace says something");
        if format == "json" {
            for line in exit.stderr.lines() {
                let parsed: Result<Value, _> = serde_json::from_str(line);
                assert!(parsed.is_ok_and(|line| line.is_object()), "{line}");
            }
        }
    }
}

#[tokio::test]
async fn a_listener_vouches_for_what_it_serves_itself_and_nothing_else() {
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    };

    let server = Server::start();
    let (admin, gate) = clients(&server);
    let status = async |channel: &tonic::transport::Channel, service: &str| {
        let service = service.to_owned();
        let request = HealthCheckRequest { service };
        let answer = HealthClient::new(channel.clone()).check(request).await;
        answer.map(|answer| answer.into_inner().status()).ok()
    };
    for (service, on_gate) in [
        ("", true),
        ("portcullis.v1.CheckService", true),
        ("portcullis.v1.KeyService", false),
        ("portcullis.v1.WorkspaceService", false),
        ("portcullis.v1.FleetService", false),
        ("portcullis.v1.AuditService", false),
    ] {
        let serving = Some(ServingStatus::Serving);
        assert_eq!(status(&admin.channel, service).await, serving, "{service}");
        let expected = serving.filter(|_| on_gate);
        assert_eq!(status(&gate.channel, service).await, expected, "{service}");
    }
}
