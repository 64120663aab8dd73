use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    time::Instant,
};

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A peer, and our end of its connection.
fn connected(wire: &Wire) -> (DuplexStream, Guarded<DuplexStream>) {
    let (theirs, ours) = duplex(64 << 10);
    let place = wire.enter().expect("a place");
    (theirs, Guarded::new(ours, wire.clone(), place))
}

#[tokio::test(start_paused = true)]
async fn each_limit_ends_the_connection_when_it_is_over_and_is_counted() {
    let wire = Wire::new(8, 64);
    let mut bytes = [0; 64];
    for (sent, limit, cut) in [
        (&b""[..], PREFACE_LIMIT, Cut::Preface),
        (&PREFACE[..23], PREFACE_LIMIT, Cut::Preface),
        (&[PREFACE, &PING[..3]].concat(), FRAME_LIMIT, Cut::SlowFrame),
        (
            &[PREFACE, &PING[..16]].concat(),
            FRAME_LIMIT,
            Cut::SlowFrame,
        ),
        (
            // Headers without their end.
            &[PREFACE, &[0, 0, 0, 1, 0, 0, 0, 0, 1]].concat(),
            FRAME_LIMIT,
            Cut::SlowFrame,
        ),
    ] {
        let (mut theirs, mut ours) = connected(&wire);
        let before = wire.cuts(cut);
        theirs.write_all(sent).await.expect("room");
        let started = Instant::now();
        let mut came = 0;
        let error = loop {
            match ours.read(&mut bytes).await {
                Ok(read) => came += read,
                Err(error) => break error,
            }
        };
        assert_eq!((came, started.elapsed()), (sent.len(), limit), "{cut:?}");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(wire.cuts(cut), before + 1);
    }
    assert_eq!(wire.open(), 0, "its place is free");
}

#[tokio::test(start_paused = true)]
async fn between_two_frames_a_peer_may_be_silent_for_ever() {
    let wire = Wire::new(8, 64);
    let (mut theirs, mut ours) = connected(&wire);
    let mut bytes = [0; 64];
    for _ in 0..3 {
        let sent = if wire.open() == 1 {
            [PREFACE, &PING].concat()
        } else {
            vec![]
        };
        theirs.write_all(&sent[..24]).await.expect("room");
        assert_eq!(ours.read(&mut bytes).await.expect("bytes"), 24);
        // A frame that takes its time, byte by byte, but not too long.
        for byte in PING {
            tokio::time::sleep(FRAME_LIMIT / 20).await;
            theirs.write_all(&[byte]).await.expect("room");
            assert_eq!(ours.read(&mut bytes).await.expect("bytes"), 1);
        }
        let day = Duration::from_hours(24);
        let read = tokio::time::timeout(day, ours.read(&mut bytes)).await;
        assert!(read.is_err(), "{read:?}");
        (theirs, ours) = connected(&wire);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_told_to_calm_down_and_a_steady_ping_is_not() {
    let wire = Wire::new(8, 64);
    let (mut theirs, mut ours) = connected(&wire);
    let mut bytes = [0; 4096];
    theirs.write_all(PREFACE).await.expect("room");
    assert_eq!(ours.read(&mut bytes).await.expect("bytes"), 24);
    // One each 10 s, for a day.
    for _ in 0..8_640 {
        tokio::time::advance(Duration::from_secs(10)).await;
        theirs.write_all(&PING).await.expect("room");
        assert_eq!(ours.read(&mut bytes).await.expect("bytes"), 17);
    }
    loop {
        theirs.write_all(&PING).await.expect("room");
        if ours.read(&mut bytes).await.is_err() {
            break;
        }
    }
    assert_eq!(wire.cuts(Cut::Flood), 1);
    drop(ours);
    let mut told = Vec::new();
    theirs.read_to_end(&mut told).await.expect("the end");
    assert_eq!(told, CALM_DOWN);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_given_up_and_one_that_reads_slowly_is_not() {
    let wire = Wire::new(8, 64);
    let (mut theirs, mut ours) = connected(&wire);
    let mut bytes = vec![0; 64 << 10];
    let mut slow = vec![0; 1];
    ours.write_all(&bytes).await.expect("room");
    for _ in 0..10 {
        let reading = async {
            tokio::time::sleep(STALL_LIMIT.saturating_sub(Duration::from_secs(1))).await;
            theirs.read_exact(&mut slow).await.expect("a byte");
        };
        let (sent, ()) = tokio::join!(ours.write_all(&bytes[..1]), reading);
        sent.expect("room was made in time");
    }
    let started = Instant::now();
    let error = ours.write_all(&bytes).await.expect_err("nobody reads");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    assert_eq!(started.elapsed(), STALL_LIMIT);
    assert_eq!(wire.cuts(Cut::Stalled), 1);
    bytes.clear();
}

#[tokio::test]
async fn a_peer_that_never_stops_leaves_others_their_turn() {
    let wire = Wire::new(8, 64);
    let (mut theirs, mut ours) = connected(&wire);
    let flood = [PREFACE, &PING.repeat(1_000)].concat();
    theirs.write_all(&flood).await.expect("room");
    let mut reads = 0;
    let turn = std::future::poll_fn(|context| {
        loop {
            let mut bytes = [0; 64];
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut ours).poll_read(context, &mut buffer) {
                Poll::Ready(read) => {
                    read.expect("bytes");
                    reads += 1;
                }
                Poll::Pending => return Poll::Ready(()),
            }
        }
    });
    turn.await;
    assert_eq!(reads, READS_IN_TURN);
}
