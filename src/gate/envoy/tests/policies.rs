//! What opens and closes a call once the credential is good.

use super::*;
use crate::domain::time::Timestamp;
use std::sync::atomic::Ordering;

const PD: (u32, &str) = (403, "PERMISSION_DENIED");
const NONE: (u32, &str) = (403, "NO_POLICY");

#[tokio::test]
async fn a_route_without_a_whole_policy_is_closed() {
    let scene = Scene::with_key(key());
    let call = scene.call();
    for (what, call, (status, reason)) in [
        ("54", call.clone().extension("permission", "Sms.Send"), NONE),
        ("54, any", call.clone().extension("permission", "*"), NONE),
        ("54, blank", call.clone().extension("permission", " "), NONE),
        (
            "54, none and more",
            call.clone().extension("permission", "none,sms.send"),
            NONE,
        ),
        (
            "54, half",
            call.clone().extension("permission", "sms.send,"),
            NONE,
        ),
        ("54a", call.clone().without_extension("permission"), NONE),
        ("54a, empty", call.clone().extension("permission", ""), NONE),
        ("54b", call.clone().without_extension("workspace"), NONE),
        ("54b, empty", call.clone().extension("workspace", ""), NONE),
        (
            "54b, none",
            call.clone().extension("workspace", "No-Such"),
            NONE,
        ),
        (
            "nothing said",
            call.clone()
                .without_extension("permission")
                .without_extension("workspace"),
            NONE,
        ),
        (
            "a slip of the pen",
            call.clone()
                .without_extension("permission")
                .extension("permissions", "sms.send"),
            NONE,
        ),
        (
            "a workspace that is not there",
            call.clone().extension("workspace", "nobody"),
            (401, "INVALID_CREDENTIAL"),
        ),
        (
            "several",
            call.clone().extension("permission", "sms.send,otp.send"),
            (200, "OK"),
        ),
        (
            "none",
            call.clone().extension("permission", "none"),
            (200, "OK"),
        ),
        (
            "more is said",
            call.clone().extension("team", "x"),
            (200, "OK"),
        ),
    ] {
        let told = scene.answer(&call).await;
        assert_eq!((told.status, &*told.reason), (status, reason), "{what}");
    }
}

/// Maps are repeated entries on the wire, where nothing keeps a key from standing there twice.
#[tokio::test]
async fn a_policy_that_is_said_twice_is_none() {
    let scene = Scene::with_key(key());
    let entry = |key: &str, value: &str| extauthz::Entry {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
    };
    for (first, second) in [("sms.send", "none"), ("none", "sms.send"), ("none", "none")] {
        let more = extauthz::CheckRequest {
            attributes: Some(extauthz::AttributeContext {
                context_extensions: vec![entry("permission", second)],
                ..extauthz::AttributeContext::default()
            }),
        };
        let mut bytes = scene.call().extension("permission", first).encoded();
        bytes.extend(more.encode_to_vec());
        scene.answer_bytes(bytes).await.is(NONE.0, NONE.1);
    }
}

#[tokio::test]
async fn none_asks_for_a_valid_key_all_the_same() {
    let scene = Scene::with_key(Key {
        permissions: PermissionSet::none(),
        ..key()
    });
    let call = scene.call().extension("permission", "none");
    scene.answer(&call).await.is(200, "OK");
    scene.answer(&scene.call()).await.is(PD.0, PD.1);
    let nobody = call.without("x-api-key");
    scene.answer(&nobody).await.is(401, "INVALID_CREDENTIAL");
}

#[tokio::test]
async fn all_permissions_of_a_route_must_be_held() {
    let scene = Scene::new();
    let call = scene.call().extension("permission", "sms.send,otp.send");
    let told = scene.answer(&call).await;
    told.is(PD.0, PD.1);
    assert_eq!(
        text(&told.metadata["key"]).len(),
        22,
        "its secret was proved"
    );
}

/// A route may name a permission that is gone, or was never there: what it protects stays closed, also to a key that may do all.
#[tokio::test]
async fn a_permission_that_is_not_declared_opens_nothing() {
    let mut scene = Scene::with_key(key());
    scene.answer(&scene.call()).await.is(200, "OK");
    scene.gate.put_workspace(Workspace {
        permissions: PermissionSet::new(["otp.send"]),
        ..with_settings()
    });
    scene.answer(&scene.call()).await.is(PD.0, PD.1);
    let declared = scene.call().extension("permission", "otp.send");
    scene.answer(&declared).await.is(200, "OK");
}

#[tokio::test]
async fn every_state_of_a_key_has_its_answer() {
    for (state, (status, reason)) in [
        (
            Key {
                disabled: true,
                ..may_send()
            },
            (403, "KEY_DISABLED"),
        ),
        (
            Key {
                expire_time: Some(Timestamp::from_unix_nanos(10)),
                ..may_send()
            },
            (403, "KEY_EXPIRED"),
        ),
        (
            Key {
                archive_time: Some(Timestamp::from_unix_nanos(2)),
                ..may_send()
            },
            (401, "INVALID_CREDENTIAL"),
        ),
        (
            Key {
                ip_allowlist: IpAllowlist::parse(&["10.0.0.0/8"]).unwrap(),
                ..may_send()
            },
            (403, "SOURCE_DENIED"),
        ),
        (
            Key {
                permissions: PermissionSet::none(),
                ..may_send()
            },
            PD,
        ),
    ] {
        let scene = Scene::with_key(state);
        scene.gate.clock.0.store(10, Ordering::SeqCst);
        let told = scene.answer(&scene.call()).await;
        assert_eq!((told.status, &*told.reason), (status, reason));
    }
}

#[tokio::test]
async fn a_denial_says_why_in_the_words_of_its_caller() {
    let scene = Scene::with_key(Key {
        disabled: true,
        ..may_send()
    });
    let disabled = scene.answer(&scene.call()).await;
    assert_eq!(
        disabled.body,
        r#"{"error":{"reason":"KEY_DISABLED","message":"the API key is disabled"}}"#
    );
    assert_eq!(disabled.headers["content-type"], "application/json");
    assert_eq!((disabled.headers.len(), disabled.code), (1, 7));

    let unknown = scene.answer(&scene.call().without("x-api-key")).await;
    assert_eq!(
        unknown.headers["www-authenticate"],
        r#"Bearer realm="portcullis""#
    );
    assert_eq!(unknown.code, 16);

    for (kind, is_grpc) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc;x", true),
        ("application/grpc-web", false),
        ("application/json", false),
    ] {
        let told = scene
            .answer(&scene.call().header("content-type", kind))
            .await;
        assert_eq!(told.body == "the API key is disabled", is_grpc, "{kind}");
        assert_eq!(
            told.headers.contains_key("content-type"),
            !is_grpc,
            "{kind}"
        );
        told.is(403, "KEY_DISABLED");
    }
}

#[tokio::test]
async fn a_replica_without_a_lease_lets_nothing_pass() {
    let scene = Scene::new();
    scene.answer(&scene.call()).await.is(200, "OK");
    scene.gate.lease.fence();
    let told = scene.answer(&scene.call()).await;
    told.is(503, "REPLICA_FENCED");
    assert_eq!((told.headers["retry-after"].as_str(), told.code), ("1", 14));
    assert!(
        told.body.contains("UNAVAILABLE") && !told.body.contains("FENCED"),
        "{}",
        told.body
    );
}
