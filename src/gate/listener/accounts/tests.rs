use std::future::Future as _;
use std::task::{Context, Waker};

use super::*;

fn peers() -> Accounts {
    Accounts::new(Wire::new(8, 64), HeldBytes::default())
}

/// Whether it was told to go, without waiting.
fn must_go(peer: &Account) -> bool {
    let go = std::pin::pin!(peer.must_go());
    go.poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

async fn looks(peers: &mut Accounts, count: u32) {
    for _ in 0..count {
        peers.look().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_take_its_answers_is_cut_after_a_time() {
    let mut peers = peers();
    let (guilty, honest, lasting) = (peers.join(), peers.join(), peers.join());
    let old = guilty.begin();
    let watch = lasting.begin_lasting();
    for _ in 0..2 * LOOKS_IN_PERIOD {
        let finished = honest.begin();
        looks(&mut peers, 1).await;
        drop(finished);
        assert!(!must_go(&guilty), "it has its time");
    }
    looks(&mut peers, LOOKS_IN_PERIOD).await;
    assert!(must_go(&guilty));
    assert_eq!(peers.wire.cuts(Cut::Unanswered), 1);
    looks(&mut peers, 10 * LOOKS_IN_PERIOD).await;
    assert!(!must_go(&honest) && !must_go(&lasting));
    drop((old, watch));
    assert_eq!(peers.thread.open.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn among_too_many_calls_those_of_who_has_most_are_given_up() {
    let mut peers = peers();
    let modest = peers.join();
    let own: Vec<_> = (0..FAIR).map(|_| modest.begin()).collect();
    let mut crowd = Vec::new();
    let greedy: Vec<_> = (0..8).map(|_| peers.join()).collect();
    for turn in 0..CROWD {
        crowd.push(greedy[turn % greedy.len()].begin());
    }
    assert!(greedy.iter().any(|it| must_go(it)));
    assert!(peers.wire.cuts(Cut::Crowded) > 0);
    drop(own);
    let again: Vec<_> = (0..FAIR).map(|_| modest.begin()).collect();
    assert!(!must_go(&modest), "{} are fair", again.len());
}

/// Watching health takes no credential, so that it must not get those cut who ask for decisions.
#[tokio::test(start_paused = true)]
async fn whoever_watches_crowds_out_nobody() {
    let mut peers = peers();
    let peers_of_health: Vec<_> = (0..10_000).map(|_| peers.join()).collect();
    let watches: Vec<_> = peers_of_health
        .iter()
        .flat_map(|watcher| (0..128).map_while(|_| watcher.begin_lasting()))
        .collect();
    assert_eq!(watches.len(), MOST_LASTING);
    let of_one = watches
        .iter()
        .filter(|watch| Arc::ptr_eq(&watch.account, &peers_of_health[0]));
    assert_eq!(of_one.count(), LASTING_FOR_ONE as usize);
    let honest = peers.join();
    let _own: Vec<_> = (0..2 * FAIR).map(|_| honest.begin()).collect();
    assert!(!must_go(&honest));
    drop(watches);
    assert!(honest.begin_lasting().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_gone_is_forgotten() {
    let mut peers = peers();
    let stays = peers.join();
    for _ in 0..1_000 {
        drop(peers.join());
    }
    looks(&mut peers, 1).await;
    assert_eq!(peers.all.len(), 1);
    drop(stays);
}
