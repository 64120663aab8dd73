//! What Envoy says of a request, checked and in one place.

use std::{
    borrow::Cow,
    str::{self, Utf8Error},
    sync::{Mutex, PoisonError},
};

use crate::{
    domain::{
        route::is_token,
        setting::{Declaration, Declarations, Requested},
    },
    proto::extauthz::{AttributeContext, CheckRequest, Entry, HeaderValue, Peer, address::Address},
};

/// The longest path that is looked at, in bytes. Envoy itself refuses headers of more than 60 KiB.
const MAX_PATH: usize = 32 << 10;

/// A well-formed request, as Envoy reports it.
pub(super) struct Asked<'a> {
    pub(super) method: &'a str,
    /// With its query.
    pub(super) path: &'a str,
    /// In lower case, in the order in which they came. A value need not be text.
    headers: Vec<(&'a str, &'a [u8])>,
    /// The peer of the connection, if it has an IP address.
    pub(super) peer: Option<&'a str>,
    extensions: Vec<(&'a str, &'a str)>,
}

/// One key with two values.
pub(super) struct Contradictory;

impl<'a> Asked<'a> {
    /// Reads a message. `None`: it is about no HTTP request, or about one that Envoy would not send.
    pub(super) fn read(message: &'a CheckRequest) -> Option<Self> {
        let AttributeContext {
            source,
            request,
            context_extensions,
            // What other filters say is not for us.
            metadata_context: _,
            route_metadata_context: _,
        } = message.attributes.as_ref()?;
        let http = request.as_ref()?.http.as_ref()?;

        let mut headers = Vec::with_capacity(http.headers.len());
        for Entry { key, value } in &http.headers {
            // Envoy sends text here; bytes that are none come from something else.
            str::from_utf8(value).ok()?;
            headers.push((header_name(key)?, &**value));
        }
        for header in http.header_map.iter().flat_map(|map| &map.headers) {
            let HeaderValue {
                key,
                value,
                raw_value,
            } = header;
            str::from_utf8(value).ok()?;
            // One of the two is given.
            let value = match (value.is_empty(), raw_value.is_empty()) {
                (false, false) => return None,
                (false, true) => value,
                (true, _) => raw_value,
            };
            headers.push((header_name(key)?, &**value));
        }
        let extensions = context_extensions
            .iter()
            .map(|Entry { key, value }| Some((text(key)?, text(value)?)));
        Some(Self {
            method: text(&http.method).filter(|method| is_token(method))?,
            path: text(&http.path).filter(|path| path.len() <= MAX_PATH)?,
            headers,
            peer: peer_address(source.as_ref()).ok()?,
            extensions: extensions.collect::<Option<_>>()?,
        })
    }

    /// All headers.
    pub(super) fn headers(&self) -> impl DoubleEndedIterator<Item = (&'a str, &'a [u8])> {
        self.headers.iter().copied()
    }

    /// The values that came under a header.
    pub(super) fn header(&self, name: &str) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        self.headers()
            .filter(move |(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// What the route's configuration in Envoy says under a key.
    pub(super) fn extension(&self, key: &str) -> Result<Option<&'a str>, Contradictory> {
        let mut values = self.extensions.iter().filter(|(known, _)| *known == key);
        match (values.next(), values.next()) {
            (found, None) => Ok(found.map(|(_, value)| *value)),
            (_, Some(_)) => Err(Contradictory),
        }
    }

    /// True if the caller speaks gRPC, and reads our message as the status's.
    pub(super) fn is_grpc(&self) -> bool {
        self.header("content-type").any(|kind| {
            kind.strip_prefix(b"application/grpc")
                .is_some_and(|rest| rest.is_empty() || matches!(rest[0], b'+' | b';'))
        })
    }
}

/// The peer's IP address, if it has one.
fn peer_address(peer: Option<&Peer>) -> Result<Option<&str>, Utf8Error> {
    let address = peer
        .and_then(|peer| peer.address.as_ref())
        .and_then(|address| address.address.as_ref());
    match address {
        Some(Address::SocketAddress(socket)) => str::from_utf8(&socket.address).map(Some),
        Some(Address::Pipe(_) | Address::EnvoyInternalAddress(_)) | None => Ok(None),
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    str::from_utf8(bytes).ok()
}

/// A header's name. Envoy writes them in lower case, so that a name compares as it stands.
fn header_name(bytes: &[u8]) -> Option<&str> {
    let well_formed = !bytes.is_empty()
        && bytes
            .iter()
            .all(|byte| matches!(byte, b'!'..=b'~') && !byte.is_ascii_uppercase());
    text(bytes).filter(|_| well_formed)
}

/// The request's own values for settings: what came under their headers.
pub(super) struct OwnSettings<'a> {
    asked: &'a Asked<'a>,
    /// What stands there is a secret, and no setting's value.
    credential_header: Option<&'a str>,
    /// Headers that some server may take for a setting's, noted as the settings are looked up.
    look_alikes: Mutex<Vec<&'a str>>,
}

impl<'a> OwnSettings<'a> {
    pub(super) const fn new(asked: &'a Asked<'a>, credential_header: Option<&'a str>) -> Self {
        Self {
            asked,
            credential_header,
            look_alikes: Mutex::new(Vec::new()),
        }
    }

    /// Headers that are no setting's, and look like one's to some servers, whether that setting has a value or not.
    pub(super) fn into_look_alikes(self) -> Vec<&'a str> {
        let noted = self.look_alikes.into_inner();
        // A list of names is whole at any time.
        noted.unwrap_or_else(PoisonError::into_inner)
    }
}

/// True if some server may take a header of that name for the other one: many take `x_a`, and some `x.a`, for `x-a`.
pub(super) fn folds_to(name: &str, other: &str) -> bool {
    name.len() == other.len() && folded(name).eq(other.bytes())
}

/// A header's name as those servers read it.
pub(super) fn folded(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().map(|byte| match byte {
        byte if byte.is_ascii_alphanumeric() => byte,
        _ => b'-',
    })
}

/// Headers may hold secrets.
impl std::fmt::Debug for OwnSettings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnSettings")
    }
}

impl Requested for OwnSettings<'_> {
    fn value_of(&self, declaration: &Declaration) -> Option<Cow<'_, str>> {
        let header = declaration.header.as_deref()?;
        if self.credential_header == Some(header) {
            return None;
        }
        for (name, _) in self.asked.headers() {
            if name != header && folds_to(name, header) {
                let noted = self.look_alikes.lock();
                noted.unwrap_or_else(PoisonError::into_inner).push(name);
            }
        }
        let mut values = self.asked.header(header);
        let (first, second) = (values.next()?, values.next());
        // What is no text, and what stands there twice, is as invalid as an empty value.
        let value = text(first).filter(|_| second.is_none());
        Some(value.unwrap_or_default().into())
    }

    /// Any other header is none of our business.
    fn has_others_than(&self, _declared: &Declarations) -> bool {
        false
    }
}
