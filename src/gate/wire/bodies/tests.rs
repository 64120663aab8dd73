use std::{collections::VecDeque, convert::Infallible, future::poll_fn};

use http_body_util::BodyExt as _;
use tokio::time::Instant;
use tonic::Code;

use super::*;

/// A body of these pieces, behind which nothing comes.
struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.0.pop_front() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => Poll::Pending,
        }
    }
}

fn of(sizes: &[usize]) -> Pieces {
    let zeros = |size: &usize| Bytes::from(vec![0; *size]);
    Pieces(sizes.iter().map(zeros).collect())
}

/// Reads what is there, then whether an error has come of it.
async fn polled(body: &mut RequestBody<Pieces>) -> Option<Status> {
    poll_fn(|context| {
        loop {
            match Pin::new(&mut *body).poll_frame(context) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(status))) => return Poll::Ready(Some(status)),
                Poll::Ready(None) | Poll::Pending => return Poll::Ready(None),
            }
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_request_is_waited_for_so_long() {
    let all = HeldBytes::default();
    let share = all.share();
    let mut body = RequestBody::new(of(&[5]), &share);
    let started = Instant::now();
    body.frame().await.expect("a frame").expect("data");
    let late = body.frame().await.expect("an end").expect_err("an error");
    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert_eq!(started.elapsed(), BODY_LIMIT);

    let mut lasting = RequestBody::lasting(of(&[5]), &share);
    lasting.frame().await.expect("a frame").expect("data");
    let waited = tokio::time::timeout(100 * BODY_LIMIT, lasting.frame()).await;
    assert!(waited.is_err(), "a conversation may be long");
}

/// A few bytes of a message that says it is long are as good as all of it.
#[tokio::test(start_paused = true)]
async fn what_a_message_says_of_its_length_is_held_from_its_first_byte() {
    let all = HeldBytes::default();
    let share = all.share_of(1_000);
    let own = |share: &Share| share.0.own.load(Ordering::Relaxed);
    let head = [0, 0, 0, 1, 0];
    for cut in 1..=HEAD {
        let (first, last) = head.split_at(cut);
        let pieces = [first, last].map(Bytes::copy_from_slice);
        let mut body = RequestBody::new(Pieces(pieces.into()), &share);
        assert!(polled(&mut body).await.is_none());
        assert_eq!(own(&share), 5 + 256, "cut at {cut}");
    }
    assert_eq!(own(&share), 0);
    let long = Bytes::from_static(&[0, 0, 0, 4, 0, 7]);
    let mut body = RequestBody::new(Pieces([long].into()), &share);
    let refused = polled(&mut body).await.expect("there is no room");
    assert_eq!(refused.code(), Code::ResourceExhausted);
}

#[tokio::test(start_paused = true)]
async fn what_is_there_in_part_is_held_up_to_a_bound() {
    let all = HeldBytes::default();
    let count = |share: &Share| {
        let own = share.0.own.load(Ordering::Relaxed);
        (own, all.0.load(Ordering::Relaxed))
    };
    let (one, other) = (all.share_of(100), all.share());
    let mut body = RequestBody::new(of(&[60, 20]), &one);
    assert!(polled(&mut body).await.is_none());
    assert_eq!(count(&one), (80, 80));

    let mut next = RequestBody::new(of(&[21]), &one);
    let refused = polled(&mut next).await.expect("there is no room");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(count(&one), (80, 80), "a refused one holds nothing");
    let mut elsewhere = RequestBody::new(of(&[21]), &other);
    assert!(polled(&mut elsewhere).await.is_none(), "others have theirs");
    assert_eq!(count(&other), (21, 101));

    drop(body);
    drop(elsewhere);
    assert_eq!((count(&one), count(&other)), ((0, 0), (0, 0)));
    let mut next = RequestBody::new(of(&[100]), &one);
    assert!(polled(&mut next).await.is_none());

    let most = usize::try_from(MOST_HELD - 100).expect("it fits");
    let large = all.share_of(u64::MAX);
    let mut rest = RequestBody::new(of(&[most]), &large);
    assert!(polled(&mut rest).await.is_none());
    let mut byte = RequestBody::new(of(&[1]), &other);
    let refused = polled(&mut byte).await.expect("nobody has room");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(count(&other).0, 0);
}
