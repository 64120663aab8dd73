//! The whole life of a key, told by grpcurl through reflection: a client that knows nothing of us but what the server
//! itself describes.

mod support;

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use support::{Address, Server};

/// grpcurl against one listener with one credential.
struct Grpcurl {
    program: PathBuf,
    address: Address,
    token: Option<String>,
}

/// An error status as grpcurl prints it.
#[derive(Debug)]
struct Refusal {
    /// The number of the gRPC code.
    code: i32,
    /// `ErrorInfo.reason`.
    reason: String,
}

const FAILED_PRECONDITION: i32 = 9;
const UNAUTHENTICATED: i32 = 16;
const NOT_FOUND: i32 = 5;

impl Grpcurl {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["-plaintext", "-format-error", "-max-time", "30"]);
        if let Some(token) = &self.token {
            command
                .arg("-rpc-header")
                .arg(format!("authorization: Bearer {token}"));
        }
        if matches!(self.address, Address::Unix(_)) {
            command.arg("-unix");
        }
        command.stdin(Stdio::null());
        command
    }

    fn target(&self) -> String {
        match &self.address {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(path) => path.display().to_string(),
        }
    }

    /// Calls a method and answers its message, or its error status.
    #[track_caller]
    fn try_call(&self, method: &str, message: &Value) -> Result<Value, Refusal> {
        let output = self
            .command()
            .args(["-d", &message.to_string(), &self.target(), method])
            .output()
            .expect("grpcurl can be run");
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            return Ok(serde_json::from_str(&stdout)
                .unwrap_or_else(|error| panic!("{method}: {error}: {stdout}")));
        }
        // grpcurl ends with 64 and the gRPC code; anything lower is its own trouble, such as no reflection.
        let code = output.status.code().expect("an exit code") - 64;
        assert!(code > 0, "{method}: {stderr}");
        let status: Value = serde_json::from_str(&stderr)
            .unwrap_or_else(|error| panic!("{method}: {error}: {stderr}"));
        let infos: Vec<&Value> = status["details"]
            .as_array()
            .unwrap_or_else(|| panic!("{method}: no details in {stderr}"))
            .iter()
            .filter(|detail| {
                detail["@type"]
                    .as_str()
                    .is_some_and(|name| name.ends_with("/google.rpc.ErrorInfo"))
            })
            .collect();
        let [info] = infos.as_slice() else {
            panic!("{method}: one ErrorInfo is due: {stderr}")
        };
        assert_eq!(info["domain"], "portcullis.dev", "{method}: {stderr}");
        Err(Refusal {
            code,
            reason: info["reason"].as_str().expect("a reason").to_owned(),
        })
    }

    #[track_caller]
    fn call(&self, method: &str, message: &Value) -> Value {
        self.try_call(method, message)
            .unwrap_or_else(|refusal| panic!("{method} {message}: {refusal:?}"))
    }

    #[track_caller]
    fn refused(&self, method: &str, message: &Value, code: i32, reason: &str) {
        match self.try_call(method, message) {
            Ok(answer) => panic!("{method} {message}: accepted: {answer}"),
            Err(refusal) => assert_eq!(
                (refusal.code, refusal.reason.as_str()),
                (code, reason),
                "{method} {message}"
            ),
        }
    }

    /// Asks the gate, and answers whether it opens and why.
    #[track_caller]
    fn decides(&self, credential: &str, permission: &str, reason: &str) {
        let asked = json!({"credential": credential, "permissions": [permission]});
        let answer = self.call("portcullis.v1.CheckService/Check", &asked);
        let allowed = answer["allowed"] == true;
        assert_eq!(
            (answer["reason"].as_str(), allowed),
            (Some(reason), reason == "OK"),
            "{answer}"
        );
        let proved = !matches!(reason, "INVALID_CREDENTIAL" | "INVALID_REQUEST");
        assert_eq!(
            answer.get("key").is_some(),
            proved,
            "the key is told to who proved its secret: {answer}"
        );
    }
}

const CREATE: &str = "portcullis.v1.KeyService/CreateKey";
const GET: &str = "portcullis.v1.KeyService/GetKey";
const LIST: &str = "portcullis.v1.KeyService/ListKeys";
const UPDATE: &str = "portcullis.v1.KeyService/UpdateKey";
const ENABLE: &str = "portcullis.v1.KeyService/EnableKey";
const DISABLE: &str = "portcullis.v1.KeyService/DisableKey";
const RESET: &str = "portcullis.v1.KeyService/ResetSecret";
const DELETE: &str = "portcullis.v1.KeyService/DeleteKey";

#[test]
fn a_key_lives_and_dies_by_grpcurl() {
    let Ok(program) = support::grpcurl() else {
        return;
    };
    let server = Server::start();
    let admin = Grpcurl {
        program: program.clone(),
        address: server.admin().clone(),
        token: Some(server.root_token()),
    };
    let gate = Grpcurl {
        program,
        address: server.gate().clone(),
        token: None,
    };

    // Create: the token is shown this once.
    let wanted = json!({
        "parent": "workspaces/default",
        "key": {"display_name": "first", "permissions": ["sms.send"], "labels": {"team": "billing"}},
    });
    let issued = admin.call(CREATE, &wanted);
    let token = issued["token"].as_str().expect("a token").to_owned();
    let key_id = issued["key"]["keyId"]
        .as_str()
        .expect("a key id")
        .to_owned();
    let name = issued["key"]["name"].as_str().expect("a name").to_owned();
    assert_eq!(name, format!("workspaces/default/keys/{key_id}"));
    assert_eq!(
        token,
        format!(
            "pc_{key_id}_{}",
            issued["secret"].as_str().expect("a secret")
        )
    );
    assert_eq!(issued["key"]["state"], "ACTIVE");
    let named = json!({ "name": name });

    // Get and list: all but the secret.
    let key = admin.call(GET, &named);
    assert_eq!(key, issued["key"], "Get answers what Create answered");
    let listed = admin.call(LIST, &json!({"parent": "workspaces/default"}));
    assert_eq!(listed["keys"], json!([key]));
    for answer in [&key, &listed] {
        assert!(
            !answer.to_string().contains(&token[token.len() - 20..]),
            "a secret is shown once: {answer}"
        );
    }

    // Check, here and on the admin listener.
    gate.decides(&token, "sms.send", "OK");
    gate.decides(&format!("Bearer {token}"), "sms.send", "OK");
    admin.decides(&token, "sms.send", "OK");

    // Update by mask: what the mask does not name stays. (grpcurl takes a mask as the message it is.)
    let changed = admin.call(
        UPDATE,
        &json!({"key": {"name": name, "permissions": ["sms.read"], "display_name": "not in the mask"},
                "update_mask": {"paths": ["permissions"]}}),
    );
    assert_eq!(changed["permissions"], json!(["sms.read"]));
    assert_eq!(changed["displayName"], "first");
    assert_ne!(
        changed["etag"], key["etag"],
        "the etag changes with the key"
    );
    gate.decides(&token, "sms.send", "PERMISSION_DENIED");
    gate.decides(&token, "sms.read", "OK");

    // Disable and enable; each twice, since both may be repeated.
    for _ in 0..2 {
        assert_eq!(admin.call(DISABLE, &named)["state"], "DISABLED");
        gate.decides(&token, "sms.read", "KEY_DISABLED");
    }
    for _ in 0..2 {
        assert_eq!(admin.call(ENABLE, &named)["key"]["state"], "ACTIVE");
        gate.decides(&token, "sms.read", "OK");
    }

    // Reset: the old secret is dead, the new one lives, the key id stays.
    let reset = admin.call(RESET, &named);
    let fresh = reset["token"].as_str().expect("a token").to_owned();
    assert_eq!(reset["key"]["name"], name);
    assert_ne!(fresh, token);
    gate.decides(&token, "sms.read", "INVALID_CREDENTIAL");
    gate.decides(&fresh, "sms.read", "OK");

    // Delete: an ACTIVE key only by force, and then for good.
    admin.refused(DELETE, &named, FAILED_PRECONDITION, "KEY_ACTIVE");
    gate.decides(&fresh, "sms.read", "OK");
    admin.call(DELETE, &json!({"name": name, "force": true}));
    gate.decides(&fresh, "sms.read", "INVALID_CREDENTIAL");
    admin.refused(GET, &named, NOT_FOUND, "RESOURCE_NOT_FOUND");
    assert_eq!(
        admin.call(LIST, &json!({"parent": "workspaces/default"})),
        json!({})
    );
}

#[test]
fn health_and_reflection_need_no_credential_and_management_does() {
    let Ok(program) = support::grpcurl() else {
        return;
    };
    let server = Server::start();
    for (address, services) in [
        (server.gate(), &["portcullis.v1.CheckService"][..]),
        (
            server.admin(),
            &[
                "portcullis.v1.AuditService",
                "portcullis.v1.CheckService",
                "portcullis.v1.FleetService",
                "portcullis.v1.KeyService",
                "portcullis.v1.WorkspaceService",
            ],
        ),
    ] {
        let anyone = Grpcurl {
            program: program.clone(),
            address: address.clone(),
            token: None,
        };
        assert_eq!(
            anyone.call("grpc.health.v1.Health/Check", &json!({})),
            json!({"status": "SERVING"})
        );

        let output = anyone
            .command()
            .args([&anyone.target(), "list"])
            .output()
            .expect("grpcurl can be run");
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        let ours: Vec<&str> = listed
            .lines()
            .filter(|line| line.starts_with("portcullis."))
            .collect();
        assert_eq!(
            ours, services,
            "what reflection lists on {address}; {listed}"
        );
        assert!(
            listed.lines().any(|line| line == "grpc.health.v1.Health"),
            "{listed}"
        );
    }

    let anyone = Grpcurl {
        program: program.clone(),
        address: server.admin().clone(),
        token: None,
    };
    let stranger = Grpcurl {
        program,
        address: server.admin().clone(),
        token: Some("pc_nobody_nothing".into()),
    };
    for (method, message) in [
        (CREATE, json!({"parent": "workspaces/default"})),
        (GET, json!({"name": "workspaces/default/keys/4fZ"})),
        (LIST, json!({"parent": "no such thing"})),
        (
            UPDATE,
            json!({"key": {"name": "workspaces/default/keys/4fZ"}}),
        ),
        (ENABLE, json!({"name": ""})),
        (DISABLE, json!({"name": ""})),
        (RESET, json!({"name": ""})),
        (DELETE, json!({"name": "", "force": true})),
        (
            "portcullis.v1.WorkspaceService/CreateWorkspace",
            json!({"workspace_id": "mine"}),
        ),
        (
            "portcullis.v1.WorkspaceService/GetWorkspace",
            json!({"name": "workspaces/default"}),
        ),
        ("portcullis.v1.WorkspaceService/ListWorkspaces", json!({})),
        ("portcullis.v1.FleetService/ListReplicas", json!({})),
        (
            "portcullis.v1.FleetService/AwaitRevision",
            json!({"revision": "0.0"}),
        ),
        ("portcullis.v1.AuditService/ListEvents", json!({})),
        ("portcullis.v1.AuditService/ExportEvents", json!({})),
        ("portcullis.v1.AuditService/VerifyEvents", json!({})),
    ] {
        anyone.refused(method, &message, UNAUTHENTICATED, "CREDENTIAL_MISSING");
        stranger.refused(method, &message, UNAUTHENTICATED, "CREDENTIAL_INVALID");
    }
}

#[test]
fn the_admin_socket_is_the_way_in_without_a_credential() {
    let Ok(program) = support::grpcurl() else {
        return;
    };
    let server = Server::start();
    let socket = Grpcurl {
        program,
        address: server.admin_socket(),
        token: None,
    };
    let issued = socket.call(
        CREATE,
        &json!({"parent": "workspaces/default", "key": {"permissions": ["sms.send"]}}),
    );
    let owner = issued["key"]["owner"].as_str().expect("an owner");
    assert_eq!(
        owner,
        format!("local:{}", rustix::process::getuid().as_raw())
    );
    socket.decides(issued["token"].as_str().expect("a token"), "sms.send", "OK");
}
