//! What Envoy says of a request: rows 30 to 56 of the list of bad inputs.

use super::*;

const INV: (u32, &str) = (400, "INVALID_REQUEST");

fn limited_to(entry: &str) -> Key {
    Key {
        ip_allowlist: IpAllowlist::parse(&[entry]).unwrap(),
        ..may_send()
    }
}

fn raw(scene: &Scene, edit: impl Fn(&mut HttpRequest)) -> Call {
    let mut call = scene.call();
    edit(call.http());
    call
}

#[tokio::test]
async fn what_envoy_would_not_say_is_refused() {
    let scene = Scene::new();
    let token = scene.token.clone();
    let nest = |depth: usize| {
        let mut value = prost_types::Value { kind: None };
        for _ in 0..depth {
            let list = prost_types::ListValue {
                values: vec![value],
            };
            value = prost_types::Value {
                kind: Some(prost_types::value::Kind::ListValue(list)),
            };
        }
        let metadata = prost_types::Struct {
            fields: [("deep".to_owned(), value)].into(),
        };
        let mut call = scene.call();
        let context = call.attributes().metadata_context.get_or_insert_default();
        context.filter_metadata.insert("filter".into(), metadata);
        call.encoded()
    };
    // An unknown group (field 99) within itself.
    let groups = [
        scene.call().encoded(),
        [0x9b, 0x06].repeat(200),
        [0x9c, 0x06].repeat(200),
    ]
    .concat();
    let good = scene.call().encoded();
    let mut not_text = scene.call().header("x-a", "@@@@").encoded();
    let place = not_text
        .windows(4)
        .position(|window| window == b"@@@@")
        .unwrap();
    not_text[place] = 0xff;
    let mut no_http = scene.call();
    no_http.attributes().request = None;
    let mut nothing_http = scene.call();
    nothing_http
        .attributes()
        .request
        .get_or_insert_default()
        .http = None;
    for (row, bytes) in [
        ("30", Vec::new()),
        ("31", Call::default().encoded()),
        ("32", no_http.encoded()),
        ("32, a request of another kind", nothing_http.encoded()),
        (
            "35",
            raw(&scene, |http| http.method = "PO\0ST".into()).encoded(),
        ),
        (
            "35, empty",
            raw(&scene, |http| http.method.clear()).encoded(),
        ),
        (
            "45",
            scene
                .call()
                .path(&format!("/{}", "a".repeat(64 << 10)))
                .encoded(),
        ),
        ("46", scene.call().header("X-Upper", "a").encoded()),
        (
            "46, the credential",
            scene
                .call()
                .without("x-api-key")
                .header("X-Api-Key", &token)
                .encoded(),
        ),
        (
            "47",
            scene.call().raw_header("x-api-key", b"another").encoded(),
        ),
        (
            "47, equal",
            scene
                .call()
                .raw_header("x-api-key", token.as_bytes())
                .encoded(),
        ),
        ("49", good[..good.len() - 1].to_vec()),
        ("50", [good.clone(), vec![0xff; 11]].concat()),
        ("51", nest(200)),
        ("51, groups", groups),
        ("52", not_text),
        ("a nameless header", scene.call().header("", "a").encoded()),
        (
            "a name with a line end",
            scene.call().header("a\nb", "a").encoded(),
        ),
    ] {
        let told = scene.answer_bytes(bytes).await;
        assert_eq!((told.status, &*told.reason), INV, "row {row}");
    }
    // The same requests without the fault are good.
    scene.answer_bytes(good).await.is(200, "OK");
    scene.answer_bytes(nest(10)).await.is(200, "OK");
}

#[tokio::test]
async fn what_decides_nothing_is_ignored() {
    let scene = Scene::new();
    for (row, call) in [
        ("53", raw(&scene, |http| http.size = i64::MIN)),
        ("44, the route decides", scene.call().path("")),
        ("36, the route decides", scene.call().path("//admin")),
        ("a body", raw(&scene, |http| http.body = "x".repeat(9_000))),
        ("55", scene.call().header("x-forwarded-for", "10.0.0.1")),
    ] {
        let told = scene.answer(&call).await;
        assert_eq!((told.status, &*told.reason), (200, "OK"), "row {row}");
    }
}

#[tokio::test]
async fn a_key_with_a_list_opens_from_no_unknown_source() {
    let scene = Scene::with_key(limited_to("192.0.2.0/24"));
    scene.answer(&scene.call()).await.is(200, "OK");
    let mut unix = scene.call();
    unix.attributes().source = Some(Peer {
        address: Some(Address {
            address: Some(address::Address::Pipe(core::Pipe::default())),
        }),
        ..Peer::default()
    });
    let mut nowhere = scene.call();
    nowhere.attributes().source = None;
    for (row, call) in [
        ("33", nowhere),
        ("34", unix),
        ("no address", scene.call().from("")),
        ("a name", scene.call().from("localhost")),
        ("a port", scene.call().from("192.0.2.1:1")),
        ("another", scene.call().from("192.0.3.1")),
        // Row 55: nobody was trusted to say so.
        (
            "55",
            scene
                .call()
                .from("192.0.3.1")
                .header("x-forwarded-for", "192.0.2.1"),
        ),
    ] {
        let told = scene.answer(&call).await;
        assert_eq!(
            (told.status, &*told.reason),
            (403, "SOURCE_DENIED"),
            "{row}"
        );
    }
    scene
        .answer(&scene.call().from("::ffff:192.0.2.9"))
        .await
        .is(200, "OK");
}

#[tokio::test]
async fn forwarded_addresses_are_counted_from_the_right() {
    let mut scene = Scene::with_key(limited_to("192.0.2.1"));
    let far = "198.51.100.9, ".repeat(10_000);
    for (hops, list, opens) in [
        (1, "192.0.2.1", true),
        (1, "192.0.2.1, 10.0.0.1", false),
        (2, "192.0.2.1, 10.0.0.1", true),
        (2, "192.0.2.1,10.0.0.1", true),
        (2, "192.0.2.1,\t10.0.0.1 ", true),
        (2, "192.0.2.1", false),
        (3, "192.0.2.1, 10.0.0.2, 10.0.0.1", true),
        // What the client wrote itself stands further left.
        (1, "192.0.2.1, 203.0.113.5", false),
        (1, "192.0.2.1:443", false),
        (1, "", false),
        (2, "192.0.2.1,", true),
        (1, "unknown", false),
        (10, "192.0.2.1", false),
    ] {
        scene.settings.trusted_hops = hops;
        let call = scene
            .call()
            .from("192.0.2.1")
            .header("x-forwarded-for", list);
        let told = scene.answer(&call).await;
        assert_eq!(told.status == 200, opens, "{hops} of {list}: {told:?}");
    }
    // Row 56.
    scene.settings.trusted_hops = 2;
    let call = scene
        .call()
        .header("x-forwarded-for", &format!("{far}192.0.2.1, 10.0.0.1"));
    scene.answer(&call).await.is(200, "OK");
    // As they came, in more than one header.
    let call = scene
        .call()
        .raw_header("x-forwarded-for", b"198.51.100.9, 192.0.2.1")
        .raw_header("x-forwarded-for", b"10.0.0.1");
    scene.answer(&call).await.is(200, "OK");
    let absent = scene.call().from("192.0.2.1");
    scene.answer(&absent).await.is(403, "SOURCE_DENIED");
}
