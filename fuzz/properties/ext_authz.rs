//! What holds of every message that `ext_authz` may get, whatever its bytes. Fuzzed, and tested on the corpus and on made-up ones.
//!
//! We decode `portcullis.extauthz.v1.CheckRequest`, a trimmed `envoy.service.auth.v3.CheckRequest`. This is how they relate:
//! - What the full message takes, the trimmed one takes.
//! - They then read the same: the trimmed one's entries, put into a map where the last of a key counts, are the full one's maps.
//! - What only the trimmed one takes is malformed in what it does not read, or in a text of which it reads the bytes. Written
//!   out by itself, what it read is taken by the full one, too, and reads the same; unless a text in it is no UTF-8.
//!
//! And one level up, of the answer:
//! - Every message is answered, with an OK or with a denial.
//! - Only one that holds the key's secret gets an OK, and then its credential is taken away.
//! - The message as the full one writes it again gets the same answer, if no key of a map stood in it twice. If one did, it
//!   does not get an OK less.
//! - Where the key has an allowlist, it gets the same answer from a source in it, and no OK from another or an unknown one.
//!   What its source is, by [`LISTED`]'s count of hops, is read here once more, from the full one.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use portcullis::{
    config::EnvoySettings,
    domain::{
        id::{KeyId, Revision, TokenPrefix, WorkspaceId},
        key::{Key, KeyRecord},
        permission::PermissionSet,
        route::{Method, Policy, Route, RouteTable, Template},
        secret::{GeneratedSecret, Secret},
        setting::{Declaration, Declarations, Kind},
        source::IpAllowlist,
        text::TextMap,
        time::Timestamp,
        workspace::Workspace,
    },
    gate::{
        catch_up::{CatchUp, NotReached},
        checker::{Checker, Parts},
        clock::SystemClock,
        envoy::EnvoyApi,
        keyring::KeyringWriter,
        lease::Lease,
        metrics::CheckMetrics,
        verify::VerifyPool,
    },
    proto::{
        envoy::{
            config::core::v3::{EnvoyInternalAddress, Pipe, address::Address as FullAddress},
            service::auth::v3::{
                CheckRequest as Full, CheckResponse, check_response::HttpResponse,
            },
        },
        extauthz::{CheckRequest as Trimmed, Entry, address::Address},
    },
    store::{RecordId, Stored, WorkspaceRecord},
};
use prost::Message as _;
use tokio::runtime::Runtime;

/// The one source that may use the keys of some gates, and how many hops these trust.
const LISTED: (&str, [usize; 3]) = ("192.0.2.7", [0, 1, 2]);

/// Panics if something does not hold.
pub fn check(data: &[u8]) {
    relate(data);
    answer(data);
}

/// The HTTP status that a message gets; 200: the call passes.
pub fn status(data: &[u8]) -> i32 {
    Gate::get().open.answer(data).status
}

/// The token that opens calls for `sms.send`.
pub fn token() -> &'static str {
    &Gate::get().open.token
}

/// What the trimmed message reads, as either message has it.
#[derive(Debug, PartialEq)]
struct View {
    /// Whether these are there: attributes, request, HTTP, source, its address.
    there: [bool; 5],
    method: Vec<u8>,
    path: Vec<u8>,
    headers: BTreeMap<Vec<u8>, Vec<u8>>,
    header_map: Option<Vec<[Vec<u8>; 3]>>,
    extensions: BTreeMap<Vec<u8>, Vec<u8>>,
    peer: Peer,
}

#[derive(Debug, PartialEq)]
enum Peer {
    None,
    Socket(Vec<u8>),
    Pipe,
    Internal,
}

fn relate(data: &[u8]) {
    match (Full::decode(data), Trimmed::decode(data)) {
        (Ok(full), Ok(trimmed)) => assert_eq!(of_full(&full), of_trimmed(&trimmed)),
        // The library takes an entry of a map whatever wire type its field has. No encoder makes such a one.
        (Ok(_), Err(error)) => {
            let why = error.to_string();
            assert!(
                ["invalid wire type", "unexpected end group tag"]
                    .iter()
                    .any(|known| why.contains(known)),
                "the trimmed message refuses what the full one takes: {why}"
            );
        }
        (Err(_), Ok(trimmed)) => {
            let alone = trimmed.encode_to_vec();
            match Full::decode(&*alone) {
                Ok(full) => assert_eq!(of_full(&full), of_trimmed(&trimmed)),
                Err(error) => assert!(!is_text(&trimmed), "it refuses texts: {error}"),
            }
        }
        (Err(_), Err(_)) => {}
    }
}

fn of_trimmed(message: &Trimmed) -> View {
    let attributes = message.attributes.as_ref();
    let request = attributes.and_then(|it| it.request.as_ref());
    let http = request.and_then(|it| it.http.as_ref());
    let source = attributes.and_then(|it| it.source.as_ref());
    let address = source.and_then(|it| it.address.as_ref());
    let entries = |entries: &[Entry]| {
        let entries = entries.iter();
        entries
            .map(|entry| (entry.key.to_vec(), entry.value.to_vec()))
            .collect()
    };
    View {
        there: [
            attributes.is_some(),
            request.is_some(),
            http.is_some(),
            source.is_some(),
            address.is_some(),
        ],
        method: http.map(|it| it.method.to_vec()).unwrap_or_default(),
        path: http.map(|it| it.path.to_vec()).unwrap_or_default(),
        headers: http.map(|it| entries(&it.headers)).unwrap_or_default(),
        header_map: http.and_then(|it| it.header_map.as_ref()).map(|map| {
            let headers = map.headers.iter();
            headers
                .map(|it| [&it.key, &it.value, &it.raw_value].map(|bytes| bytes.to_vec()))
                .collect()
        }),
        extensions: attributes
            .map(|it| entries(&it.context_extensions))
            .unwrap_or_default(),
        peer: match address.and_then(|it| it.address.as_ref()) {
            None => Peer::None,
            Some(Address::SocketAddress(socket)) => Peer::Socket(socket.address.to_vec()),
            Some(Address::Pipe(_)) => Peer::Pipe,
            Some(Address::EnvoyInternalAddress(_)) => Peer::Internal,
        },
    }
}

fn of_full(message: &Full) -> View {
    let attributes = message.attributes.as_ref();
    let request = attributes.and_then(|it| it.request.as_ref());
    let http = request.and_then(|it| it.http.as_ref());
    let source = attributes.and_then(|it| it.source.as_ref());
    let address = source.and_then(|it| it.address.as_ref());
    let entries = |map: &BTreeMap<String, String>| {
        let bytes = |text: &String| text.clone().into_bytes();
        map.iter()
            .map(|(key, value)| (bytes(key), bytes(value)))
            .collect()
    };
    View {
        there: [
            attributes.is_some(),
            request.is_some(),
            http.is_some(),
            source.is_some(),
            address.is_some(),
        ],
        method: http.map(|it| it.method.clone().into()).unwrap_or_default(),
        path: http.map(|it| it.path.clone().into()).unwrap_or_default(),
        headers: http.map(|it| entries(&it.headers)).unwrap_or_default(),
        header_map: http.and_then(|it| it.header_map.as_ref()).map(|map| {
            let headers = map.headers.iter();
            headers
                .map(|it| {
                    [
                        it.key.clone().into(),
                        it.value.clone().into(),
                        it.raw_value.clone(),
                    ]
                })
                .collect()
        }),
        extensions: attributes
            .map(|it| entries(&it.context_extensions))
            .unwrap_or_default(),
        peer: match address.and_then(|it| it.address.as_ref()) {
            None => Peer::None,
            Some(FullAddress::SocketAddress(socket)) => Peer::Socket(socket.address.clone().into()),
            Some(FullAddress::Pipe(_)) => Peer::Pipe,
            Some(FullAddress::EnvoyInternalAddress(_)) => Peer::Internal,
        },
    }
}

/// True if whatever the full message has as texts is UTF-8, and its addresses are such.
fn is_text(message: &Trimmed) -> bool {
    let view = of_trimmed(message);
    let maps = view.headers.iter().chain(&view.extensions);
    let listed = view.header_map.iter().flatten();
    let address = message
        .attributes
        .as_ref()
        .and_then(|it| it.source.as_ref()?.address.as_ref()?.address.as_ref());
    let is_address = match address {
        None => true,
        Some(Address::SocketAddress(socket)) => std::str::from_utf8(&socket.address).is_ok(),
        Some(Address::Pipe(pipe)) => Pipe::decode(&**pipe).is_ok(),
        Some(Address::EnvoyInternalAddress(it)) => EnvoyInternalAddress::decode(&**it).is_ok(),
    };
    // Also those that a later one of the same key hides in the view.
    let entries = message.attributes.iter().flat_map(|it| {
        let http = it.request.as_ref().and_then(|it| it.http.as_ref());
        let headers = http.into_iter().flat_map(|it| &it.headers);
        it.context_extensions.iter().chain(headers)
    });
    is_address
        && [&view.method, &view.path]
            .into_iter()
            .chain(maps.flat_map(|(key, value)| [key, value]))
            .chain(listed.flat_map(|[key, value, _raw]| [key, value]))
            .map(Vec::as_slice)
            .chain(entries.flat_map(|entry| [&*entry.key, &*entry.value]))
            .all(|bytes| std::str::from_utf8(bytes).is_ok())
}

/// True if a key of a map stands there twice.
fn has_doubles(message: &Trimmed) -> bool {
    let view = of_trimmed(message);
    let Some(attributes) = &message.attributes else {
        return false;
    };
    let http = attributes.request.as_ref().and_then(|it| it.http.as_ref());
    attributes.context_extensions.len() > view.extensions.len()
        || http.is_some_and(|http| http.headers.len() > view.headers.len())
}

fn answer(data: &[u8]) {
    let Gates { open: gate, listed } = Gate::get();
    let told = gate.answer(data);
    if told.allowed {
        assert!(
            data.windows(gate.secret.len())
                .any(|part| part == gate.secret.as_bytes()),
            "an OK without the secret: {told:?}"
        );
    }
    let Ok(trimmed) = Trimmed::decode(data) else {
        assert_eq!(told.status, 400, "what cannot be read");
        return;
    };
    let Ok(full) = Full::decode(data) else {
        return;
    };
    for (gate, hops) in listed.iter().zip(LISTED.1) {
        let theirs = gate.answer(data);
        if !told.allowed {
            assert!(!theirs.allowed, "{hops} hops: {theirs:?}");
        } else if !has_doubles(&trimmed) {
            if source(&full, hops) == LISTED.0.parse().ok() {
                assert_eq!(theirs, told, "{hops} hops");
            } else {
                assert_eq!(theirs.status, 403, "{hops} hops: {theirs:?}");
            }
        }
    }
    let again = gate.answer(&full.encode_to_vec());
    if has_doubles(&trimmed) {
        assert!(again.allowed || !told.allowed, "{told:?}, then {again:?}");
    } else {
        assert_eq!(told, again);
    }
}

/// Where the request came from, if that can be said.
fn source(message: &Full, hops: usize) -> Option<IpAddr> {
    const HEADER: &str = "x-forwarded-for";
    let View {
        headers,
        header_map,
        peer,
        ..
    } = of_full(message);
    let text = if hops == 0 {
        let Peer::Socket(address) = peer else {
            return None;
        };
        address
    } else {
        let listed = header_map.into_iter().flatten();
        let listed = listed.filter(|[name, ..]| name == HEADER.as_bytes());
        let values: Vec<_> = headers
            .get(HEADER.as_bytes())
            .cloned()
            .into_iter()
            .chain(listed.map(|[_, value, raw]| [value, raw].concat()))
            .collect();
        if values.is_empty() {
            return None;
        }
        let whole = values.join(&b',');
        let entries: Vec<_> = whole.split(|byte| *byte == b',').collect();
        entries[entries.len().checked_sub(hops)?].to_vec()
    };
    let text = String::from_utf8(text).ok()?;
    let text = if hops == 0 {
        &text
    } else {
        text.trim_matches([' ', '\t'])
    };
    Some(text.parse::<IpAddr>().ok()?.to_canonical())
}

/// What Envoy makes of an answer.
#[derive(Debug, PartialEq)]
struct Told {
    allowed: bool,
    status: i32,
    headers: Vec<(String, String)>,
    removed: Vec<String>,
    removed_query: Vec<String>,
    body: String,
}

impl From<CheckResponse> for Told {
    fn from(response: CheckResponse) -> Self {
        let code = response.status.expect("a status").code;
        let (headers, status, mut removed, removed_query, body) =
            match response.http_response.expect("an OK or a denial") {
                HttpResponse::OkResponse(it) => {
                    assert_eq!(code, 0);
                    let removed = it.headers_to_remove;
                    (
                        it.headers,
                        200,
                        removed,
                        it.query_parameters_to_remove,
                        String::new(),
                    )
                }
                HttpResponse::DeniedResponse(it) => {
                    assert_ne!(code, 0);
                    let status = it.status.expect("an HTTP status").code;
                    (it.headers, status, Vec::new(), Vec::new(), it.body)
                }
                HttpResponse::ErrorResponse(_) => panic!("failure_mode_allow would judge it"),
            };
        let mut headers: Vec<(String, String)> = headers
            .into_iter()
            .map(|option| option.header.expect("a header"))
            .map(|header| (header.key, header.value))
            .collect();
        headers.sort();
        removed.sort();
        let allowed = status == 200;
        // Nothing here is ever overloaded or out of date.
        assert!(allowed || [400, 401, 403].contains(&status), "{status}");
        if allowed {
            assert!(
                !removed.is_empty() || !removed_query.is_empty(),
                "a credential goes on"
            );
            for name in [
                "x-portcullis-key",
                "x-portcullis-workspace",
                "x-portcullis-owner",
            ] {
                let times = headers.iter().filter(|(set, _)| set == name).count();
                assert_eq!(times, 1, "{name}");
                assert!(!removed.iter().any(|gone| gone == name), "{name}");
            }
        }
        Self {
            allowed,
            status,
            headers,
            removed,
            removed_query,
            body,
        }
    }
}

/// A gate with one key, which is always the same.
struct Gate {
    api: EnvoyApi,
    token: String,
    secret: String,
    runtime: Runtime,
}

/// They differ in who may use the key.
struct Gates {
    open: Gate,
    listed: [Gate; 3],
}

/// Nothing asks for a revision.
struct NeverAsked;

#[async_trait::async_trait]
impl CatchUp for NeverAsked {
    async fn reach(&self, _: Revision) -> Result<(), NotReached> {
        Err(NotReached::Behind)
    }
}

impl Gate {
    fn get() -> &'static Gates {
        static GATES: OnceLock<Gates> = OnceLock::new();
        GATES.get_or_init(|| Gates {
            open: Self::new(&[], 0),
            listed: LISTED.1.map(|hops| Self::new(&[LISTED.0], hops)),
        })
    }

    fn new(allowlist: &[&str], hops: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let at = Timestamp::from_unix_nanos(1);
        let revision = Revision {
            epoch: 1,
            number: 1,
        };
        let default = WorkspaceId::default_workspace();
        let sender = Declaration {
            name: "sender".into(),
            description: "".into(),
            kind: Kind::Text {
                max_length: 9,
                allowed: [].into(),
            },
            default: Some("default".into()),
            header: Some("x-sender".into()),
        };
        let workspace = Workspace {
            settings: Declarations::new(vec![sender]).expect("a setting"),
            ..Workspace::new(default.clone(), TokenPrefix::default(), at)
        };
        let id = KeyId::from_bits(7);
        let key = Key {
            id,
            workspace: default.clone(),
            display_name: "".into(),
            description: "".into(),
            owner: "local:0".into(),
            token_prefix: TokenPrefix::default(),
            disabled: false,
            permissions: PermissionSet::new(["sms.send"]),
            ip_allowlist: IpAllowlist::parse(allowlist).expect("addresses"),
            labels: TextMap::default(),
            settings: TextMap::default(),
            create_time: at,
            update_time: at,
            expire_time: None,
            archive_time: None,
        };
        let secret = GeneratedSecret::from_random(id, &mut |buffer| buffer.fill(42));
        let sealed = Secret::seal(1, &secret, at, &mut |buffer| buffer.fill(43));
        let token = secret.token(&key.token_prefix).expose().to_owned();
        let record = KeyRecord {
            key,
            secrets: vec![sealed],
            revision,
        };
        let mut writer = KeyringWriter::new();
        writer.place(
            RecordId::Workspace(default),
            Stored::Workspace(WorkspaceRecord {
                revision,
                workspace,
            }),
        );
        writer.place(RecordId::Key(id), Stored::Key(Box::new(record)));
        let verify = VerifyPool::new(runtime.handle().clone()).expect("randomness");
        let parts = Parts {
            keyring: writer.reader(),
            lease: Arc::new(Lease::unlimited()),
            clock: Arc::new(SystemClock::new()),
            verify: Arc::new(verify),
            catch_up: Arc::new(NeverAsked),
        };
        let checker = Checker::new(Arc::new(parts), CheckMetrics::default().recorder());
        Self {
            api: EnvoyApi::new(checker, Arc::new(settings(hops))),
            secret: token[token.len() - 49..].to_owned(),
            token,
            runtime,
        }
    }

    fn answer(&self, data: &[u8]) -> Told {
        let message = data.to_vec().into();
        self.runtime.block_on(self.api.answer(message)).into()
    }
}

fn settings(hops: usize) -> EnvoySettings {
    let route = |method: &str, template: &str, permission: &str| Route {
        methods: Some([Method::parse(method).expect("a method")].into()),
        template: Template::parse(template).expect("a template"),
        policy: Policy::new("default", permission).expect("a policy"),
    };
    let routes = vec![
        route("POST", "/v1/messages/{id}", "sms.send"),
        route("GET", "/v1/messages/{id}", "none"),
        route("GET", "/{*rest}", "admin"),
    ];
    EnvoySettings {
        query_parameter: Some("api_key".into()),
        trusted_hops: hops,
        routes: RouteTable::new(routes).expect("a table"),
        ..EnvoySettings::default()
    }
}
