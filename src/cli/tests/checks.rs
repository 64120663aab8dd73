use super::*;
use crate::proto::v1::check_response::Reason;

#[tokio::test]
async fn check_exits_by_the_decision() {
    let world = World::new();
    let token = token();
    let arguments = [
        "check",
        &token,
        "--permission",
        "sms.send,sms.read",
        "--source",
        "192.0.2.7",
        "--label",
        "team",
    ];
    let ran = world.run(&arguments).await;
    assert_eq!(ran.status, 0);
    assert!(
        ran.out.starts_with("ALLOWED") && ran.out.contains("OK"),
        "{}",
        ran.out
    );
    let call = world.calls().remove(0);
    assert!(
        call.contains(r#"["sms.send", "sms.read"]"#) && call.contains("192.0.2.7"),
        "{call}"
    );

    let ran = world
        .run(&["check", &token, "--min-revision", "1.42"])
        .await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(world.calls()[0].contains(r#"min_revision: "1.42""#));
    let ran = world.run(&["check", &token, "--min-revision", "42"]).await;
    assert_eq!(ran.status, 2, "{}", ran.err);

    world.fake.lock().deny = Some(Reason::KeyDisabled);
    let ran = world.run(&arguments).await;
    assert_eq!(ran.status, 3);
    assert!(
        ran.out.starts_with("DENIED") && ran.out.contains("KEY_DISABLED"),
        "{}",
        ran.out
    );

    world.fake.lock().refuse = Some(Status::unavailable("busy"));
    assert_eq!(world.run(&arguments).await.status, 1);
    assert_eq!(
        world
            .run(&["check", &token, "--source", "nowhere"])
            .await
            .status,
        2
    );
}

#[tokio::test]
async fn check_sends_settings_and_shows_the_effective_ones() {
    let world = World::new();
    let token = token();
    let arguments = [
        "check",
        &token,
        "--setting",
        "sender=A=b",
        "--setting",
        "url=",
    ];
    let ran = world.run(&arguments).await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    let sent = world.fake.lock().settings.clone();
    assert_eq!(
        sent,
        [
            ("sender".to_owned(), "A=b".to_owned()),
            ("url".to_owned(), String::new())
        ]
        .into()
    );
    assert!(ran.out.contains("setting sender  A=b\n"), "{}", ran.out);
    world.fake.lock().deny = Some(Reason::InvalidSetting);
    let ran = world.run(&arguments).await;
    assert_eq!(ran.status, 3);
    assert!(
        ran.out.contains("INVALID_SETTING") && ran.out.contains("not declared"),
        "{}",
        ran.out
    );
}

#[tokio::test]
async fn check_refuses_what_is_no_question_before_asking() {
    let mut world = World::new();
    world.answers = Some("");
    let token = token();
    for (arguments, says) in [
        (&["-"][..], "no token"),
        (&[""], "no token"),
        (&["Bearer "], "no token"),
        (&[&token, "-p", "SMS"], "'SMS'"),
        (&[&token, "-p", "a,,b"], "empty"),
        (&[&token, "-w", "Acme"], "--workspace"),
        (&[&token, "--setting", "Sender=a"], "'Sender=a'"),
        (&[&token, "--setting", "sender"], "NAME=VALUE"),
    ] {
        let ran = world.run(&[&["check"], arguments].concat()).await;
        assert_eq!(ran.status, 2, "{arguments:?}: {}", ran.err);
        assert!(ran.err.contains(says), "{}", ran.err);
    }
    assert!(world.calls().is_empty());
    let ran = world.run(&["check", &token, "-w", "workspaces/acme"]).await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(world.calls()[0].contains(r#"workspace: "acme""#));
}

#[tokio::test]
async fn check_reads_the_token_from_stdin() {
    let mut world = World::new();
    world.answers = Some("a token\n");
    assert_eq!(
        world.run(&["check", "-", "--output", "json"]).await.status,
        0
    );
}
