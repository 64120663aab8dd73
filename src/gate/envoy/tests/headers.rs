//! What goes upstream: identity, settings, and nothing that pretends to be either.

use super::*;

#[tokio::test]
async fn no_header_of_the_caller_passes_for_identity() {
    let scene = Scene::new();
    let forged = [
        "x_portcullis_key",
        "x-portcullis_owner",
        "x.portcullis.workspace",
        "x-portcullis-team",
        "x_portcullis_",
    ];
    let mut call = scene
        .call()
        .header("x-portcullis-key", "forged")
        .header("x-portcullis-owner", "forged")
        .header("x-portcullisx", "another's")
        .header("not-x-portcullis-key", "another's");
    for name in forged {
        call = call.header(name, "forged");
    }
    let told = scene.answer(&call).await;
    told.is(200, "OK");
    let mut removed = told.removed.clone();
    removed.sort_unstable();
    let mut expected: Vec<&str> = forged.into_iter().chain(["x-api-key"]).collect();
    expected.sort_unstable();
    // What is set replaces what came, and Envoy would remove after it sets.
    assert_eq!(removed, expected);
    assert!(
        told.headers.values().all(|value| value != "forged"),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_setting_goes_upstream_under_its_header_and_the_requests_own_value_wins() {
    let mut own = may_send();
    own.settings = [("sender", "key's")].into_iter().collect();
    let mut scene = Scene::with_key(own);
    scene.gate.put_workspace(with_settings());
    let told = scene.answer(&scene.call()).await;
    assert_eq!(told.headers["x-sender"], "key's");
    // One without a header is told to the filters that follow.
    let Some(prost_types::value::Kind::StructValue(settings)) = &told.metadata["settings"].kind
    else {
        panic!("{told:?}");
    };
    let settings: Vec<_> = settings
        .fields
        .iter()
        .map(|(name, value)| (&**name, text(value)))
        .collect();
    assert_eq!(
        settings,
        [
            ("quiet", "default".to_owned()),
            ("sender", "key's".to_owned())
        ]
    );

    let told = scene.answer(&scene.call().header("x-sender", "mine")).await;
    assert_eq!(told.headers["x-sender"], "mine");

    // Under another spelling it is nobody's value, and must not be read as the one that was judged.
    let told = scene
        .answer(&scene.call().header("x_sender", "forged"))
        .await;
    assert_eq!(
        (told.headers["x-sender"].as_str(), &*told.removed[0]),
        ("key's", "x_sender")
    );

    let told = scene.answer(&scene.call().header("quiet", "mine")).await;
    assert_eq!(
        (told.status, told.removed.len()),
        (200, 1),
        "no header is declared for it"
    );
}

#[tokio::test]
async fn a_request_with_a_value_that_its_setting_does_not_take_is_refused() {
    let mut scene = Scene::new();
    scene.gate.put_workspace(with_settings());
    for (row, call) in [
        ("29c", scene.call().header("x-sender", "far too long")),
        ("empty", scene.call().header("x-sender", "")),
        ("control", scene.call().header("x-sender", "a\r\nb")),
        ("no text", scene.call().raw_header("x-sender", b"\xff")),
        (
            "twice",
            scene
                .call()
                .raw_header("x-sender", b"a")
                .raw_header("x-sender", b"a"),
        ),
    ] {
        let told = scene.answer(&call).await;
        assert_eq!(
            (told.status, &*told.reason),
            (400, "INVALID_SETTING"),
            "{row}"
        );
    }
}

/// A workspace may call a setting's header as the operator calls the credential's.
#[tokio::test]
async fn a_credential_is_no_settings_value() {
    let mut scene = Scene::new();
    scene.gate.put_workspace(with_settings());
    scene.settings.header = Some("x-sender".into());
    let call = scene
        .call()
        .without("x-api-key")
        .header("x-sender", &scene.token);
    let told = scene.answer(&call).await;
    told.is(200, "OK");
    assert!(!told.headers.contains_key("x-sender"), "{told:?}");
    assert_eq!(told.removed, ["x-sender"]);
    assert!(!format!("{:?}", told.metadata).contains(&scene.token[30..]));
}

/// Row 57: it is refused when it is written; should it stand in the store all the same, it is not sent.
#[tokio::test]
async fn a_stored_value_with_a_line_end_is_never_sent() {
    let mut own = may_send();
    own.settings = [("sender", "a\r\nb: c")].into_iter().collect();
    let mut scene = Scene::with_key(own);
    scene.gate.put_workspace(with_settings());
    scene
        .answer(&scene.call())
        .await
        .is(503, "RECORD_UNREADABLE");
}
