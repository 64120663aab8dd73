//! Where a credential may stand, and what each bad one gets: rows 1 to 29b of the list of bad inputs.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;

const IC: (u32, &str) = (401, "INVALID_CREDENTIAL");
const INV: (u32, &str) = (400, "INVALID_REQUEST");

fn basic(pair: &str) -> String {
    format!("Basic {}", STANDARD.encode(pair))
}

#[tokio::test]
async fn a_credential_opens_from_each_place_and_is_removed_from_there() {
    let mut scene = Scene::new();
    scene.settings.query_parameter = Some("api_key".into());
    let token = scene.token.clone();
    let bare = scene.call().without("x-api-key");
    for (call, removed, removed_query) in [
        (scene.call(), &["x-api-key"][..], &[][..]),
        (
            bare.clone()
                .header("authorization", &format!("bEaReR {token}")),
            &["authorization"],
            &[],
        ),
        (
            bare.clone()
                .header("authorization", &basic(&format!("default:{token}"))),
            &["authorization"],
            &[],
        ),
        (
            bare.clone().raw_header("x-api-key", token.as_bytes()),
            &["x-api-key"],
            &[],
        ),
        (
            bare.clone().path(&format!("/v1?a=b&api_key={token}&c")),
            &[],
            &["api_key"],
        ),
    ] {
        let told = scene.answer(&call).await;
        told.is(200, "OK");
        assert_eq!(told.removed, removed);
        assert_eq!(told.removed_query, removed_query);
    }
}

#[tokio::test]
async fn the_operator_chooses_the_header() {
    let mut scene = Scene::new();
    let elsewhere = scene
        .call()
        .without("x-api-key")
        .header("x-key", &scene.token.clone());
    scene.answer(&elsewhere).await.is(IC.0, IC.1);
    scene.settings.header = Some("x-key".into());
    let told = scene.answer(&elsewhere).await;
    told.is(200, "OK");
    assert_eq!(told.removed, ["x-key"]);
    scene.answer(&scene.call()).await.is(IC.0, IC.1);
    scene.settings.header = None;
    scene.answer(&elsewhere).await.is(IC.0, IC.1);
}

#[tokio::test]
async fn a_bad_credential_opens_nothing_and_costs_no_argon2() {
    let mut scene = Scene::new();
    let token = scene.token.clone();
    let secret = token.rsplit('_').next().unwrap().to_owned();
    let foreign = {
        let (prefix, rest) = token.split_once('_').unwrap();
        let (_, secret) = rest.split_once('_').unwrap();
        let unknown = key().id;
        format!("{prefix}_{unknown}_{secret}")
    };
    let system = scene.gate.put_new(Key {
        workspace: crate::domain::id::WorkspaceId::parse("system").unwrap(),
        permissions: PermissionSet::any(),
        ..key()
    });
    let acme = scene.gate.put_new(Key {
        workspace: crate::domain::id::WorkspaceId::parse("acme").unwrap(),
        ..key()
    });
    let bare = scene.call().without("x-api-key");
    let in_header = |value: &str| bare.clone().header("x-api-key", value);
    let authorized = |value: &str| bare.clone().header("authorization", value);
    for (row, call, (status, reason)) in vec![
        ("1", bare.clone(), IC),
        ("2", in_header(""), IC),
        ("2, blanks", in_header("  "), IC),
        (
            "3",
            bare.clone()
                .raw_header("x-api-key", token.as_bytes())
                .raw_header("x-api-key", token.as_bytes()),
            INV,
        ),
        ("4", in_header(&format!("{token},{token}")), INV),
        (
            "4, authorization",
            authorized(&format!("Bearer {token},{token}")),
            INV,
        ),
        (
            "5, equal",
            in_header(&token).header("authorization", &format!("Bearer {token}")),
            INV,
        ),
        (
            "5, unequal",
            in_header(&token).header("authorization", "Bearer x"),
            INV,
        ),
        (
            "5, empty",
            in_header(&token).header("authorization", ""),
            INV,
        ),
        ("6", authorized("Basic !!!"), IC),
        ("7", authorized(&basic(&token)), IC),
        ("8", authorized(&basic(&format!(":{token}"))), IC),
        (
            "8, bare secret",
            authorized(&basic(&format!(":{secret}"))),
            IC,
        ),
        ("9", authorized("Bearer"), IC),
        ("10", authorized(&format!("Bearer  {token}")), IC),
        ("11", in_header(&format!("{token}\t")), IC),
        ("12", in_header(&token.replacen('_', "_\0", 1)), IC),
        ("13", in_header(&format!("{token}\r\n")), IC),
        ("14", in_header("!"), IC),
        ("15", bare.clone().raw_header("x-api-key", b"\xff"), IC),
        ("16", in_header(&"a".repeat(8 << 10)), IC),
        ("17", in_header(&token.replacen('p', "ｐ", 1)), IC),
        ("18", in_header(&token.replacen('_', "\u{200d}_", 1)), IC),
        ("19", in_header(&token.replacen('_', "%5F", 1)), IC),
        ("20", in_header(&token.replacen("pc", "PC", 1)), IC),
        ("21", in_header(&foreign), IC),
        (
            "22",
            in_header(&crate::gate::testing::token(
                &crate::gate::testing::issue(&key()).0,
            )),
            IC,
        ),
        ("26", in_header(&acme), IC),
        ("27", bare.clone().path(&format!("/?api_key={token}")), IC),
        ("29a", in_header(&system), IC),
        (
            "29a, asked for",
            in_header(&system).extension("workspace", "system"),
            IC,
        ),
        ("29b", authorized(&basic(&format!("acme:{token}"))), IC),
    ] {
        let told = scene.answer(&call).await;
        assert_eq!(
            (told.status, &*told.reason),
            (status, reason),
            "row {row}: {told:?}"
        );
        assert!(
            !told.metadata.contains_key("key"),
            "row {row} proves nothing"
        );
    }
    assert_eq!(scene.gate.verify.runs(), 0);
}

#[tokio::test]
async fn the_secret_of_another_key_opens_nothing() {
    let mut scene = Scene::new();
    let other = scene.gate.put_new(may_send());
    let (id, digits) = (&scene.token[..26], &other[26..69]);
    let forged = {
        let digits: &[u8; 43] = digits.as_bytes().try_into().unwrap();
        let crc = crate::domain::credential::crc(&id.as_bytes()[3..25], digits);
        let crc = crate::domain::base62::encode_u32(crc);
        format!(
            "{id}{}{}",
            &other[26..69],
            std::str::from_utf8(&crc).unwrap()
        )
    };
    let call = scene.call().header("x-api-key", &forged);
    scene.answer(&call).await.is(IC.0, IC.1);
}

#[tokio::test]
async fn a_query_parameter_counts_once_and_as_it_is_written() {
    let mut scene = Scene::new();
    scene.settings.query_parameter = Some("api_key".into());
    let token = scene.token.clone();
    let bare = scene.call().without("x-api-key");
    for (path, (status, reason)) in [
        (format!("/?api_key={token}&api_key={token}"), INV),
        (format!("/?api_key={token}&api_key="), INV),
        (format!("/?api_key={token}&api_key"), INV),
        // Envoy would leave these in, and the upstream might read them.
        (format!("/?api%5fkey={token}"), INV),
        (format!("/?%61pi_key={token}"), INV),
        (format!("/?api_key={token}&api%5Fkey=x"), INV),
        ("/?api_key=".to_owned(), IC),
        ("/?api_key".to_owned(), IC),
        (format!("/?xapi_key={token}"), IC),
        (format!("/?API_KEY={token}"), IC),
        (format!("/?api_key={token}#"), IC),
        (format!("/api_key={token}"), IC),
        (format!("/?api_key={}", token.replacen('_', "%5F", 1)), IC),
    ] {
        let told = scene.answer(&bare.clone().path(&path)).await;
        assert_eq!((told.status, &*told.reason), (status, reason), "{path}");
    }
    let both = scene.call().path(&format!("/?api_key={token}"));
    scene.answer(&both).await.is(INV.0, INV.1);
}
