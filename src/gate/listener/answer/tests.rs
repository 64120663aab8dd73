use std::task::Waker;

use http_body_util::{BodyExt as _, Full};
use tonic::Code;

use super::*;
use crate::gate::{
    listener::accounts::Accounts,
    wire::{HeldBytes, Wire},
};

fn answer(size: usize) -> Response<Body> {
    Response::new(Body::new(Full::from(vec![1; size])))
}

fn code(response: &Response<AnswerBody>) -> Option<Code> {
    let code = response.headers().get(Status::GRPC_STATUS)?;
    Some(Code::from_bytes(code.as_bytes()))
}

#[tokio::test]
async fn large_answers_are_held_until_they_are_sent_and_refused_when_there_is_no_room() {
    const MIB: usize = 1 << 20;
    let mut peers = Accounts::new(Wire::new(8, 64), HeldBytes::default());
    let peer = peers.join();
    let mut context = Context::from_waker(Waker::noop());
    let mut held = Vec::new();
    loop {
        let response = hold_large(answer(MIB), peer.begin(), &mut context);
        if let Some(code) = code(&response) {
            assert_eq!(code, Code::ResourceExhausted);
            let rest = response.into_body().collect().await.expect("a body");
            assert!(rest.to_bytes().is_empty(), "an error and nothing else");
            break;
        }
        held.push(response);
        assert!(held.len() <= 16, "16 MiB are what one connection has");
    }
    assert_eq!(held.len(), 16);
    assert_eq!(peer.unfinished(), 16, "each until it is sent");

    // What the library has taken is not sent yet.
    let taken = held.pop().expect("one").into_body();
    let taken = taken.collect().await.expect("a body").to_bytes();
    assert_eq!(taken.len(), MIB);
    assert_eq!(peer.unfinished(), 16);
    let refused = hold_large(answer(MIB), peer.begin(), &mut context);
    assert_eq!(code(&refused), Some(Code::ResourceExhausted));
    drop((taken, refused));
    assert_eq!(peer.unfinished(), 15);
    let there_is_room = hold_large(answer(MIB), peer.begin(), &mut context);
    assert_eq!(code(&there_is_room), None);
}
