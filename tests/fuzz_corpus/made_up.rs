//! Messages made up field by field: as the schema says, so that fields repeat and merge and oneofs change their minds; or
//! nearly so.

use portcullis::proto::envoy::{
    config::core::v3::{HeaderMap, HeaderValue, address::Address},
    service::auth::v3::CheckRequest,
};
use proptest::{collection::vec, prelude::*, sample::select};
use prost::Message as _;

use super::{named, property};

/// What a field holds.
#[derive(Clone, Copy)]
enum Holds {
    Text,
    Bytes,
    Varint,
    Double,
    Message(&'static [(u32, Holds)]),
    /// A `google.protobuf.Value`, which may hold more of them.
    Value,
}

use Holds::{Bytes, Double, Message, Text, Value, Varint};

const TEXTS: Holds = Message(&[(1, Text), (2, Text)]);
const ADDRESS: Holds = Message(&[
    (
        1,
        Message(&[
            (1, Varint),
            (2, Text),
            (3, Varint),
            (4, Text),
            (5, Text),
            (6, Varint),
            (7, Text),
        ]),
    ),
    (2, Message(&[(1, Text), (2, Varint)])),
    (3, Message(&[(1, Text), (2, Text)])),
]);
const PEER: Holds = Message(&[(1, ADDRESS), (2, Text), (3, TEXTS), (4, Text), (5, Text)]);
const HTTP: Holds = Message(&[
    (1, Text),
    (2, Text),
    (3, TEXTS),
    (4, Text),
    (5, Text),
    (6, Text),
    (7, Text),
    (8, Text),
    (9, Varint),
    (10, Text),
    (11, Text),
    (12, Bytes),
    (
        13,
        Message(&[(1, Message(&[(1, Text), (2, Text), (3, Bytes)]))]),
    ),
]);
const STRUCT: Holds = Message(&[(1, Message(&[(1, Text), (2, Value)]))]);
const METADATA: Holds = Message(&[
    (1, Message(&[(1, Text), (2, STRUCT)])),
    (
        2,
        Message(&[(1, Text), (2, Message(&[(1, Text), (2, Bytes)]))]),
    ),
]);
const REQUEST: Holds = Message(&[(1, Message(&[(1, Varint), (2, Varint)])), (2, HTTP)]);
const ATTRIBUTES: Holds = Message(&[
    (1, PEER),
    (2, PEER),
    (4, REQUEST),
    (4, REQUEST),
    (10, TEXTS),
    (11, METADATA),
    (12, Message(&[(1, Text)])),
    (13, METADATA),
]);
const CHECK_REQUEST: Holds = Message(&[(1, ATTRIBUTES)]);

/// How well-formed a message is.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// As the schema says, with fields that it does not know.
    Well,
    /// Now and then with a text that is none, or a field of another type.
    Ill,
}

fn varint(number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(number, &mut bytes);
    bytes
}

fn tagged(number: u32, wire_type: u32, content: &[u8]) -> Vec<u8> {
    let mut field = varint(u64::from(number << 3 | wire_type));
    field.extend_from_slice(content);
    field
}

fn with_length(number: u32, content: &[u8]) -> Vec<u8> {
    let length = varint(content.len() as u64);
    tagged(number, 2, &[&length, content].concat())
}

fn text(form: Form) -> BoxedStrategy<Vec<u8>> {
    let known = select(vec![
        "",
        "x-api-key",
        "authorization",
        "POST",
        "GET",
        "/v1/messages/7",
        "/v1//messages",
        "workspace",
        "permission",
        "default",
        "sms.send",
        "none",
        "x-portcullis-key",
        "x-sender",
        "content-type",
        "application/grpc",
        "192.0.2.7",
        "x-forwarded-for",
        "X-Upper",
        "é",
        "a\nb",
        "\0",
    ]);
    let known = prop_oneof![
        9 => known.prop_map(|text| text.as_bytes().to_vec()),
        1 => Just(property::token().as_bytes().to_vec()),
    ];
    match form {
        Form::Well => known.boxed(),
        Form::Ill => prop_oneof![9 => known, 1 => vec(any::<u8>(), 0..4)].boxed(),
    }
}

/// A field that the schema does not know, of any wire type.
fn unknown() -> BoxedStrategy<Vec<u8>> {
    let number = select(vec![15_u32, 16, 99, 536_870_911]);
    (number, 0..5_u32, any::<u64>())
        .prop_map(|(number, kind, content)| match kind {
            0 => tagged(number, 0, &varint(content)),
            1 => tagged(number, 1, &content.to_le_bytes()),
            2 => with_length(number, &content.to_le_bytes()[..3]),
            3 => [
                tagged(number, 3, &tagged(1, 0, &varint(content))),
                tagged(number, 4, &[]),
            ]
            .concat(),
            _ => tagged(number, 5, &content.to_le_bytes()[..4]),
        })
        .boxed()
}

fn field(number: u32, holds: Holds, depth: u32, form: Form) -> BoxedStrategy<Vec<u8>> {
    let well = match holds {
        Text => text(form)
            .prop_map(move |text| with_length(number, &text))
            .boxed(),
        Bytes => vec(any::<u8>(), 0..4)
            .prop_map(move |bytes| with_length(number, &bytes))
            .boxed(),
        Varint => any::<u64>()
            .prop_map(move |it| tagged(number, 0, &varint(it)))
            .boxed(),
        Double => any::<[u8; 8]>()
            .prop_map(move |it| tagged(number, 1, &it))
            .boxed(),
        Message(fields) => message(fields, depth, form)
            .prop_map(move |it| with_length(number, &it))
            .boxed(),
        Value if depth > 8 => Just(Vec::new()).boxed(),
        Value => message(
            &[
                (1, Varint),
                (2, Double),
                (3, Text),
                (4, Varint),
                (5, STRUCT),
                (6, Message(&[(1, Value)])),
            ],
            depth,
            form,
        )
        .prop_map(move |it| with_length(number, &it))
        .boxed(),
    };
    match form {
        Form::Well => well,
        Form::Ill => {
            let mistyped = (0..8_u32, any::<[u8; 8]>())
                .prop_map(move |(wire_type, content)| tagged(number, wire_type, &content));
            prop_oneof![40 => well, 1 => mistyped].boxed()
        }
    }
}

fn message(fields: &'static [(u32, Holds)], depth: u32, form: Form) -> BoxedStrategy<Vec<u8>> {
    let known = (0..fields.len()).prop_flat_map(move |place| {
        let (number, holds) = fields[place];
        field(number, holds, depth + 1, form)
    });
    let any_field = prop_oneof![19 => known, 1 => unknown()];
    let most = if depth < 4 { 5 } else { 3 };
    vec(any_field, 0..most)
        .prop_map(|fields| fields.concat())
        .boxed()
}

fn whole(form: Form) -> BoxedStrategy<Vec<u8>> {
    let Message(fields) = CHECK_REQUEST else {
        unreachable!("it is a message")
    };
    let made_up = message(fields, 0, form);
    // Merged into a call that passes, so that some still do.
    let valid = named::messages().remove(0).2;
    (any::<bool>(), made_up)
        .prop_map(move |(merged, made_up)| {
            if merged {
                [&valid[..], &made_up].concat()
            } else {
                made_up
            }
        })
        .boxed()
}

/// A call that passes, from anywhere.
fn from_somewhere() -> impl Strategy<Value = Vec<u8>> {
    let address = || {
        prop_oneof![
            3 => Just("192.0.2.7"),
            1 => select(vec!["192.0.2.8", "::ffff:192.0.2.7", "192.0.2.7:1", "", "x", "192.0.2.07"]),
        ]
    };
    let entry = (
        select(vec!["", " ", "\t"]),
        address(),
        select(vec!["", " "]),
    )
        .prop_map(|(before, address, after)| format!("{before}{address}{after}"));
    let value = vec(entry, 1..4).prop_map(|entries| entries.join(","));
    (address(), vec(value, 0..3)).prop_map(|(peer, values)| {
        let valid = named::messages().remove(0).2;
        let mut message = CheckRequest::decode(&*valid).expect("a message");
        let attributes = message.attributes.as_mut().expect("attributes");
        let source = attributes
            .source
            .as_mut()
            .and_then(|it| it.address.as_mut());
        let Some(Address::SocketAddress(socket)) = source.and_then(|it| it.address.as_mut()) else {
            panic!("it has a source")
        };
        peer.clone_into(&mut socket.address);
        let request = attributes.request.as_mut();
        let http = request.and_then(|it| it.http.as_mut()).expect("a request");
        let headers = values.into_iter().map(|value| HeaderValue {
            key: "x-forwarded-for".into(),
            raw_value: value.into(),
            ..HeaderValue::default()
        });
        http.header_map = Some(HeaderMap {
            headers: headers.collect(),
        });
        message.encode_to_vec()
    })
}

/// What becomes of bytes on the way.
#[derive(Debug, Clone)]
enum Damage {
    Cut(prop::sample::Index),
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Repeat(prop::sample::Index, prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        1 => index().prop_map(Damage::Cut),
        4 => (index(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        2 => (index(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        2 => index().prop_map(Damage::Remove),
        1 => (index(), index()).prop_map(|(from, to)| Damage::Repeat(from, to)),
    ]
}

fn damaged(mut data: Vec<u8>, all: Vec<Damage>) -> Vec<u8> {
    for one in all {
        if data.is_empty() {
            break;
        }
        let length = data.len();
        match one {
            Damage::Cut(at) => data.truncate(at.index(length)),
            Damage::Set(at, byte) => data[at.index(length)] = byte,
            Damage::Insert(at, byte) => data.insert(at.index(length), byte),
            Damage::Remove(at) => drop(data.remove(at.index(length))),
            Damage::Repeat(from, to) => {
                let (from, to) = (from.index(length), to.index(length));
                let part = data[from.min(to)..from.max(to)].to_vec();
                data.extend(part);
            }
        }
    }
    data
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_message_as_the_schema_says_reads_the_same_trimmed(data in whole(Form::Well)) {
        prop_assert!(CheckRequest::decode(&*data).is_ok(), "the schema is Envoy's");
        property::check(&data);
    }

    #[test]
    fn a_message_of_nearly_that_form_never_reads_as_more(data in whole(Form::Ill)) {
        property::check(&data);
    }

    #[test]
    fn a_damaged_message_never_reads_as_more(
        number in any::<prop::sample::Index>(),
        made_up in whole(Form::Well),
        is_named in any::<bool>(),
        damages in vec(damage(), 1..6),
    ) {
        let named = named::messages();
        let data = if is_named { named[number.index(named.len())].2.clone() } else { made_up };
        property::check(&damaged(data, damages));
    }

    #[test]
    fn an_allowlist_is_held_against_the_source_that_is_trusted(data in from_somewhere()) {
        prop_assert_eq!(property::status(&data), 200, "it depends on the source alone");
        property::check(&data);
    }

    #[test]
    fn what_is_no_message_never_reads_as_one(data in vec(any::<u8>(), 0..64)) {
        property::check(&data);
    }
}
