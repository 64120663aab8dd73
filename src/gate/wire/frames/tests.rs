use super::*;

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags, 0, 0, 0, 1]);
    bytes.extend(payload);
    bytes
}

/// Past the preface.
fn begun() -> Frames {
    let mut frames = Frames::default();
    assert_eq!(frames.pass(PREFACE), Ok(()));
    assert!(frames.has_moved_on());
    frames
}

#[test]
fn a_preface_is_judged_by_the_byte() {
    for wrong in 0..PREFACE.len() {
        let mut frames = Frames::default();
        assert_eq!(frames.pass(&PREFACE[..wrong]), Ok(()));
        assert!(frames.in_preface() && !frames.at_rest());
        assert_eq!(frames.pass(&[PREFACE[wrong] ^ 1]), Err(Breach::Preface));
    }
    let mut frames = Frames::default();
    for byte in PREFACE {
        assert!(!frames.at_rest());
        assert_eq!(frames.pass(&[*byte]), Ok(()));
    }
    assert!(frames.at_rest());
}

/// Cut anywhere, the same frames are the same.
#[test]
fn frames_are_followed_whatever_the_pieces_they_come_in() {
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(SETTINGS, 0, &[0, 3, 0, 0, 0, 100, 0, 4, 0, 1, 0, 0]));
    bytes.extend(frame(HEADERS, 0, b"half"));
    bytes.extend(frame(CONTINUATION, END_HEADERS, b"the rest"));
    bytes.extend(frame(DATA, 0, &[7; 300]));
    bytes.extend(frame(DATA, 1, b""));
    let ends: Vec<usize> = vec![24, 24 + 21, 24 + 21 + 13 + 17, bytes.len() - 9, bytes.len()];
    let due = begun().allowance;
    for size in 1..bytes.len() {
        let mut frames = Frames::default();
        let mut at = 0;
        for piece in bytes.chunks(size) {
            assert_eq!(frames.pass(piece), Ok(()));
            at += piece.len();
            assert_eq!(frames.at_rest(), ends.contains(&at), "at {at} by {size}");
            let before = at - piece.len();
            let ended = ends.iter().any(|end| (before + 1..=at).contains(end));
            assert_eq!(frames.has_moved_on(), ended, "at {at} by {size}");
        }
        // HEADERS earned back what SETTINGS cost, and the DATA with bytes what CONTINUATION did.
        assert_eq!(frames.allowance, due, "by {size}");
    }
}

#[test]
fn frames_that_ask_for_nothing_are_allowed_up_to_a_number_and_anew() {
    for (one, cost) in [
        (frame(8, 0, &[0; 4]), 1),
        (frame(0xBE, 0, b"?"), 1),
        (frame(PING, 0, &[0; 8]), ANSWERED),
        (frame(SETTINGS, 0, &[]), ANSWERED),
        // Of calls that were never begun.
        (frame(RST_STREAM, 0, &[0; 4]), CALL),
    ] {
        let mut frames = begun();
        for _ in 0..ALLOWANCE / cost {
            assert_eq!(frames.pass(&one), Ok(()));
        }
        assert_eq!(frames.pass(&one), Err(Breach::Allowance));
        assert!(frames.at_rest(), "it was followed all the same");
        frames.allow_anew();
        assert_eq!(frames.pass(&one), Ok(()));
    }
}

#[test]
fn calls_earn_what_clients_send_around_them() {
    let mut frames = begun();
    let call = [
        frame(HEADERS, END_HEADERS, b"x"),
        frame(DATA, 0, b"message"),
        frame(DATA, 1, b""),
        frame(6, 0, &[0; 8]),
        frame(8, 0, &[0; 4]),
    ]
    .concat();
    for _ in 0..10 * ALLOWANCE {
        assert_eq!(frames.pass(&call), Ok(()));
    }
}

/// Else whoever gives up on calls through a proxy has the proxy cut off, and with it all its other clients.
#[test]
fn a_proxy_may_reset_every_call() {
    let mut frames = begun();
    let reset = [
        frame(HEADERS, END_HEADERS, b"x"),
        frame(DATA, 1, b"message"),
        frame(RST_STREAM, 0, &[0; 4]),
    ]
    .concat();
    for _ in 0..10 * ALLOWANCE {
        assert_eq!(frames.pass(&reset), Ok(()));
    }
}

#[test]
fn windows_that_let_nothing_through_are_seen() {
    for (window, due) in [
        (0_u32, Err(Breach::Window)),
        (1_023, Err(Breach::Window)),
        (1_024, Ok(())),
        (65_535, Ok(())),
    ] {
        let mut payload = vec![0, 1, 0, 0, 0, 0, 0, 4];
        payload.extend(window.to_be_bytes());
        let bytes = frame(SETTINGS, 0, &payload);
        for size in [1, 2, 7, 100] {
            let mut frames = begun();
            let passed = bytes.chunks(size).try_for_each(|it| frames.pass(it));
            assert_eq!(passed, due, "{window} by {size}");
        }
    }
    // The same bytes elsewhere are something else.
    let mut frames = begun();
    let data = frame(DATA, 0, &[0, 4, 0, 0, 0, 0]);
    assert_eq!(frames.pass(&data), Ok(()));
    assert_eq!(frames.pass(&frame(SETTINGS, ACK, &[])), Ok(()));
    assert_eq!(frames.pass(&data), Ok(()));
}
