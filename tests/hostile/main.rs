//! Hostile HTTP/2, by the numbers that the project's list of bad inputs gives it: whatever a peer sends, keeps back or does
//! not read, it gets no ALLOW that it should not have; its connection is closed or held at a bound; memory grows by no more
//! than is stated; and clients that do nothing wrong are answered rightly all the while.
//!
//! How long those had to wait is no matter of these tests: `cargo bench --bench hostile` measures it.

#[path = "../support/mod.rs"]
mod support;

mod crowd;
mod floods;
mod messages;
mod piles;
mod raw;
mod scene;
mod slow;

#[test]
fn every_row_is_here_or_elsewhere() {
    let sources = [
        include_str!("crowd.rs"),
        include_str!("floods.rs"),
        include_str!("messages.rs"),
        include_str!("slow.rs"),
    ]
    .concat();
    // A stalled TLS hello is for the tests of TLS.
    for row in (98..=112).filter(|row| *row != 109) {
        assert!(
            sources.contains(&format!("row {row}:")),
            "row {row} is nowhere"
        );
    }
}
