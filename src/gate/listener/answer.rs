//! Answers on their way: a call is not finished before its peer has taken them.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;
use hyper::body::{Body as _, Frame, SizeHint};
use tonic::{Status, body::Body};

use super::accounts::Unfinished;
use crate::gate::wire::Held;

/// The body of an answer.
///
/// The library asks for a piece when its peer has room for some of it, so that until then this is there, and its call
/// unfinished.
pub(super) struct AnswerBody {
    /// What has been taken out of the body already.
    first: Option<Frame<Bytes>>,
    body: Body,
    /// Of a call whose answer leaves in one piece.
    _unfinished: Option<Unfinished>,
}

impl AnswerBody {
    /// A small answer.
    pub(super) const fn small(body: Body, unfinished: Unfinished) -> Self {
        Self {
            first: None,
            body,
            _unfinished: Some(unfinished),
        }
    }
}

/// Writes out an answer that may be large now, so that how many bytes are held for it is known, and holds them until the
/// last is sent. An answer for which there is no room becomes an error.
pub(super) fn hold_large(
    response: Response<Body>,
    unfinished: Unfinished,
    context: &mut Context<'_>,
) -> Response<AnswerBody> {
    let (parts, mut body) = response.into_parts();
    let first = match Pin::new(&mut body).poll_frame(context) {
        Poll::Ready(Some(Ok(frame))) => frame,
        // An error, which stands in the headers.
        Poll::Ready(Some(Err(_)) | None) | Poll::Pending => {
            return Response::from_parts(parts, AnswerBody::small(body, unfinished));
        }
    };
    let bytes = match first.into_data() {
        Ok(bytes) => bytes,
        Err(trailers) => {
            let answer = AnswerBody {
                first: Some(trailers),
                ..AnswerBody::small(body, unfinished)
            };
            return Response::from_parts(parts, answer);
        }
    };
    let mut held = unfinished.share().hold();
    if let Err(status) = held.grow_to(bytes.len() as u64) {
        return refusal(&status, unfinished);
    }
    let first = Bytes::from_owner(Piece {
        bytes,
        _held: held,
        _unfinished: unfinished,
    });
    let answer = AnswerBody {
        first: Some(Frame::data(first)),
        body,
        _unfinished: None,
    };
    Response::from_parts(parts, answer)
}

fn refusal(status: &Status, unfinished: Unfinished) -> Response<AnswerBody> {
    let response = status.clone().into_http::<Body>();
    response.map(|body| AnswerBody::small(body, unfinished))
}

/// The bytes of a large answer. HTTP/2 takes them before the peer has room for all of them, so that they hold their call
/// open themselves.
struct Piece {
    bytes: Bytes,
    _held: Held,
    _unfinished: Unfinished,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl hyper::body::Body for AnswerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => Pin::new(&mut self.body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.first {
            // Only the library asks, for the length of a body that is known whole.
            Some(_) => SizeHint::default(),
            None => self.body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests;
