//! Every call is answered, with `grpc-status` 0, whatever it sends and whatever breaks.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::Request;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};

use super::*;
use crate::{
    domain::time::Timestamp,
    gate::{
        checker::Parts,
        clock::{Boottime, Now},
        envoy::service::serve,
        keyring::KeyringWriter,
        lease::Lease,
        metrics::CheckMetrics,
        testing::StaysBehind,
        verify::VerifyPool,
    },
};

/// The pieces of a body, and how it goes on after them.
struct Pieces(VecDeque<Bytes>, After);

#[derive(Clone, Copy)]
enum After {
    End,
    Silence,
    Reset,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match (self.0.pop_front(), self.1) {
            (Some(piece), _) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            (None, After::End) => Poll::Ready(None),
            (None, After::Silence) => Poll::Pending,
            (None, After::Reset) => Poll::Ready(Some(Err("reset"))),
        }
    }
}

/// A message behind its prefix.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, message].concat()
}

async fn call<C: Clock>(api: EnvoyApi<C>, pieces: Vec<Vec<u8>>, after: After) -> Told {
    let body = Pieces(pieces.into_iter().map(Bytes::from).collect(), after);
    let response = serve(Arc::new(api), Request::new(body)).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let body = response
        .into_body()
        .collect()
        .await
        .expect("it cannot fail");
    let trailers = body.trailers().expect("behind the message");
    assert_eq!(trailers["grpc-status"], "0");
    let bytes = body.to_bytes();
    assert_eq!(bytes[..5], framed(&bytes[5..])[..5], "one message");
    CheckResponse::decode(&bytes[5..]).expect("Envoy's").into()
}

#[tokio::test]
async fn a_message_may_come_in_any_pieces() {
    let scene = Scene::new();
    let bytes = framed(&scene.call().encoded());
    let whole = vec![bytes.clone()];
    let bit_by_bit = bytes.chunks(1).map(<[u8]>::to_vec).collect();
    for (pieces, after) in [
        (whole.clone(), After::End),
        (bit_by_bit, After::End),
        // It is all there; nobody waits for the stream to end.
        (whole, After::Silence),
    ] {
        call(scene.api(), pieces, after).await.is(200, "OK");
    }
}

/// Rows 98 to 102, which other services answer with errors.
#[tokio::test]
async fn what_is_no_message_is_denied() {
    let scene = Scene::new();
    let good = scene.call().encoded();
    let framed_good = framed(&good);
    let with_prefix = |prefix: [u8; 5]| [&prefix[..], &good].concat();
    let compressed = [&[1][..], &framed_good[1..]].concat();
    for (what, pieces, after) in [
        ("98", vec![framed(&vec![0; 300 << 10])], After::End),
        (
            "98, without end",
            vec![vec![0, 0, 4, 0, 0], vec![0; 300 << 10]],
            After::Silence,
        ),
        (
            "99",
            vec![with_prefix([0, 0xff, 0xff, 0xff, 0xff])],
            After::Silence,
        ),
        ("100", vec![compressed], After::End),
        (
            "102",
            vec![framed_good[..framed_good.len() - 1].to_vec()],
            After::End,
        ),
        ("nothing", vec![], After::End),
        ("half a prefix", vec![vec![0, 0]], After::End),
        (
            "two",
            vec![[framed_good.clone(), framed_good.clone()].concat()],
            After::End,
        ),
        ("garbage", vec![framed(&[0xff; 40])], After::End),
    ] {
        let told = call(scene.api(), pieces, after).await;
        assert_eq!(
            (told.status, &*told.reason),
            (400, "INVALID_REQUEST"),
            "{what}"
        );
    }
}

/// Its sender is gone, or nobody had room for it. Either way it is nobody's fault that the answer could name.
#[tokio::test]
async fn what_breaks_off_is_not_decided() {
    let scene = Scene::new();
    let bytes = framed(&scene.call().encoded());
    let told = call(scene.api(), vec![bytes[..9].to_vec()], After::Reset).await;
    told.is(503, "OVERLOADED");
}

/// Envoy gives up after 200 ms, and what then happens is for the operator's settings to say.
#[tokio::test(start_paused = true)]
async fn who_does_not_send_its_message_is_denied_in_time() {
    let scene = Scene::new();
    let bytes = framed(&scene.call().encoded());
    let began = tokio::time::Instant::now();
    let told = call(scene.api(), vec![bytes[..40].to_vec()], After::Silence).await;
    told.is(503, "DEADLINE_EXCEEDED");
    assert_eq!(began.elapsed(), Duration::from_millis(150));
}

struct BrokenClock;

impl Clock for BrokenClock {
    fn now(&self) -> Now {
        panic!("the clock is broken")
    }

    fn follow(&self, _: Timestamp, _: Boottime) {}
}

#[tokio::test]
async fn a_panic_in_a_decision_is_a_denial() {
    let metrics = CheckMetrics::default();
    let parts = Parts {
        keyring: KeyringWriter::new().reader(),
        lease: Arc::new(Lease::unlimited()),
        clock: Arc::new(BrokenClock),
        verify: Arc::new(VerifyPool::new(tokio::runtime::Handle::current()).unwrap()),
        catch_up: Arc::new(StaysBehind),
    };
    let checker = Checker::new(Arc::new(parts), metrics.recorder());
    let api = EnvoyApi::new(checker, Arc::default());
    let told = call(
        api,
        vec![framed(&Scene::new().call().encoded())],
        After::End,
    )
    .await;
    told.is(503, "INTERNAL_ERROR");
    let undecided = metrics.totals().outcomes.pop().unwrap();
    assert_eq!(undecided, ("UNDECIDED", 1));
}

#[tokio::test]
async fn every_call_is_counted_once() {
    let scene = Scene::new();
    let closed = scene.call().extension("permission", "");
    let told = [
        framed(&scene.call().encoded()),
        framed(&closed.encoded()),
        framed(&scene.call().without("x-api-key").encoded()),
        framed(&[0xff]),
        vec![1],
    ];
    for bytes in told {
        call(scene.api(), vec![bytes], After::End).await;
    }
    let counted: Vec<_> = scene.gate.metrics.totals().outcomes;
    let counted: Vec<_> = counted
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(
        counted,
        [
            ("OK", 1),
            ("INVALID_CREDENTIAL", 1),
            ("PERMISSION_DENIED", 1),
            ("INVALID_REQUEST", 2)
        ]
    );
}
