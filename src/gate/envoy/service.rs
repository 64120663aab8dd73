//! Takes Envoy's calls off the wire, and answers every one of them.
//!
//! No gRPC library stands in between, since it would answer by itself what it cannot read, and with an error.

use std::{
    convert::Infallible,
    future::{Future as _, poll_fn},
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use prost::Message as _;
use zeroize::Zeroizing;

use super::{EnvoyApi, answer::Denied};
use crate::{
    gate::{callers::Peer, checker::Undecided, clock::Clock},
    proto::envoy::service::auth::v3::CheckResponse,
};

/// The path of `envoy.service.auth.v3.Authorization.Check`.
pub const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";
/// The service's name.
pub const SERVICE_NAME: &str = "envoy.service.auth.v3.Authorization";

/// Envoy waits for 200 ms unless it is told otherwise.
const TIME_LIMIT: Duration = Duration::from_millis(150);
/// The longest message that is read. Envoy's own limit on headers is 60 KiB; a request's body is not asked for.
const MAX_MESSAGE: usize = 256 << 10;
/// What leaves in one DATA frame. The library keeps shorter ones until there is nothing left to do, and writes all answers that
/// are ready by then at once; from 256 bytes on it writes each by itself.
const MOST_AT_ONCE: usize = 255;
/// What stands before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Answers a call to [`PATH`], within the time limit, with `grpc-status` 0.
pub async fn serve<C, B>(api: Arc<EnvoyApi<C>>, request: Request<B>) -> Response<Reply>
where
    C: Clock,
    B: Body<Data = Bytes> + Send,
{
    let (head, body) = request.into_parts();
    let stranger = Arc::default();
    let peer: &Arc<Peer> = head.extensions.get().unwrap_or(&stranger);
    let answered = async {
        match read_message(body).await {
            Ok(message) => api.answer_to(message, &head.headers, peer).await,
            Err(Unread::Malformed) => api.refuse_malformed().into(),
            Err(Unread::Broken) => api.give_up(Denied::Undecided(Undecided::Overloaded)),
        }
    };
    let mut answered = pin!(AssertUnwindSafe(answered).catch_unwind());
    // Most calls are answered at once, and need no timer.
    let outcome = match poll_fn(|context| Poll::Ready(answered.as_mut().poll(context))).await {
        Poll::Ready(outcome) => Ok(outcome),
        Poll::Pending => tokio::time::timeout(TIME_LIMIT, answered).await,
    };
    let response = match outcome {
        Ok(Ok(response)) => response,
        Ok(Err(_panic)) => api.give_up(Denied::Defect),
        Err(_elapsed) => api.give_up(Denied::TooLate),
    };
    reply(&response)
}

fn reply(response: &CheckResponse) -> Response<Reply> {
    let mut reply = Response::new(Reply::of(response));
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    reply
}

impl<C: Clock> EnvoyApi<C> {
    /// Denies a call that is not looked at.
    #[must_use]
    pub fn refuse(&self) -> Response<Reply> {
        reply(&self.refuse_malformed().into())
    }

    /// Answers, and counts, a call that got no decision.
    fn give_up(&self, denied: Denied) -> CheckResponse {
        self.checker.count_undecided();
        denied.into()
    }
}

/// Why there is no message.
enum Unread {
    /// There is none, it is compressed, too long, or does not end where it says.
    Malformed,
    /// The body broke off: its sender is gone, or there was no room for it.
    Broken,
}

/// Reads the one message of a call.
async fn read_message<B: Body<Data = Bytes> + Send>(body: B) -> Result<Bytes, Unread> {
    let mut body = pin!(body);
    // Wiped, since a credential is among it.
    let mut read = Zeroizing::new(Vec::new());
    loop {
        if let Some((prefix, message)) = read.split_first_chunk::<PREFIX>() {
            let [compressed, length @ ..] = prefix;
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            if *compressed != 0 || length > MAX_MESSAGE || message.len() > length {
                return Err(Unread::Malformed);
            }
            if message.len() == length {
                return Ok(Bytes::from_owner(Wiped(read)).slice(PREFIX..));
            }
        }
        let data = next_data(body.as_mut()).await?;
        if read.len() + data.len() > PREFIX + MAX_MESSAGE {
            return Err(Unread::Malformed);
        }
        grow(&mut read, &data);
    }
}

/// The next piece of a body.
async fn next_data<B: Body<Data = Bytes>>(mut body: Pin<&mut B>) -> Result<Bytes, Unread> {
    loop {
        let frame = body.frame().await.ok_or(Unread::Malformed)?;
        if let Ok(data) = frame.map_err(|_| Unread::Broken)?.into_data() {
            return Ok(data);
        }
    }
}

/// Appends. Growing in place would leave an unwiped copy behind.
fn grow(read: &mut Zeroizing<Vec<u8>>, data: &[u8]) {
    if read.capacity() - read.len() < data.len() {
        let room = (read.len() + data.len()).max(2 * read.capacity());
        let mut larger = Zeroizing::new(Vec::with_capacity(room));
        larger.extend_from_slice(read);
        *read = larger;
    }
    read.extend_from_slice(data);
}

/// Bytes that are wiped once nobody looks at them any more.
struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A message, and the trailers of a call that went well.
pub struct Reply {
    message: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Reply {
    fn of(response: &CheckResponse) -> Self {
        let length = response.encoded_len();
        // Envoy takes an empty message for an OK, so a length that does not fit must not become 0.
        let Some(prefix) = u32::try_from(length).ok().filter(|length| *length > 0) else {
            return Self::of(&Denied::Defect.into());
        };
        let mut message = BytesMut::with_capacity(PREFIX + length);
        message.put_u8(0);
        message.put_u32(prefix);
        // There is room, and nothing else can go wrong.
        let _ = response.encode(&mut message);
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Self {
            message: Some(message.freeze()),
            trailers: Some(trailers),
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.message.as_mut().map(|message| {
            let length = message.len().min(MOST_AT_ONCE);
            message.split_to(length)
        });
        if self.message.as_ref().is_some_and(Bytes::is_empty) {
            self.message = None;
        }
        let next = piece.map(Frame::data);
        let next = next.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(next.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.message.as_ref().map_or(0, Bytes::len) as u64)
    }
}
