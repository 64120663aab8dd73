//! A peer that writes its frames by hand, and so may write wrong ones.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::support::PATIENCE;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// The code of GOAWAY for headers of which the end is not read, so that nothing after them can be understood.
pub const COMPRESSION_ERROR: u32 = 9;
/// And for who asks too much.
pub const ENHANCE_YOUR_CALM: u32 = 11;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const CHECK: &str = "/portcullis.v1.CheckService/Check";
pub const BATCH_CHECK: &str = "/portcullis.v1.CheckService/BatchCheck";

/// A frame.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// One entry of SETTINGS.
#[must_use]
pub fn setting(number: u16, value: u32) -> Vec<u8> {
    let mut entry = number.to_be_bytes().to_vec();
    entry.extend(value.to_be_bytes());
    frame(SETTINGS, 0, 0, &entry)
}

/// A header that no table remembers.
#[must_use]
pub fn header(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        // A length above 126 goes on in groups of seven bits.
        if let Ok(short @ 0..127) = u8::try_from(text.len()) {
            bytes.push(short);
        } else {
            bytes.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                bytes.push(u8::try_from(rest % 128).expect("seven bits") | 128);
                rest /= 128;
            }
            bytes.push(u8::try_from(rest).expect("seven bits"));
        }
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// The headers of a call.
#[must_use]
pub fn call_headers(path: &str) -> Vec<u8> {
    [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "hostile"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    .iter()
    .flat_map(|(name, value)| header(name, value))
    .collect()
}

/// A message as gRPC frames it.
#[must_use]
pub fn message(bytes: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend(u32::try_from(bytes.len()).expect("short").to_be_bytes());
    framed.extend(bytes);
    framed
}

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The code of GOAWAY, if one came.
    pub goaway: Option<u32>,
    /// All that came before it.
    pub frames: Vec<Frame>,
    /// How long it took.
    pub took: Duration,
}

/// A connection.
pub struct Raw {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

impl Raw {
    /// Connects and says nothing.
    #[track_caller]
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the listener is there");
        stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(PATIENCE)))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
            .expect("options can be set");
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    /// Connects and begins as HTTP/2 does.
    #[track_caller]
    #[must_use]
    pub fn open(address: SocketAddr) -> Self {
        let mut raw = Self::connect(address);
        raw.send(PREFACE);
        raw.send(&frame(SETTINGS, 0, 0, &[]));
        raw
    }

    /// Sends what the peer must be there to take.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the peer is there");
    }

    /// Sends for as long as somebody is there; true if it all went out.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next frame; `None` at the end, however it came.
    ///
    /// # Errors
    /// When none came in time.
    pub fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some((head, rest)) = self.unread.split_first_chunk::<9>() {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                if rest.len() >= length {
                    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                    let frame = Frame {
                        kind: head[3],
                        flags: head[4],
                        stream,
                        payload: rest[..length].to_vec(),
                    };
                    self.unread.drain(..9 + length);
                    return Ok(Some(frame));
                }
            }
            let mut bytes = [0; 16 << 10];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Ok(None),
                Ok(read) => self.unread.extend(&bytes[..read]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Err(error),
                    // Closed while something that we sent was unread.
                    _ => return Ok(None),
                },
            }
        }
    }

    /// The next frame that `wanted` says is one.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            match self.next() {
                Ok(Some(frame)) if wanted(&frame) => return frame,
                Ok(Some(_)) => {}
                Ok(None) => panic!("the connection was closed instead of {what}"),
                Err(error) => panic!("{what} did not come: {error}"),
            }
        }
    }

    /// Reads to the end.
    ///
    /// # Panics
    /// When it does not come within [`PATIENCE`] of the last frame.
    #[track_caller]
    pub fn end(mut self) -> End {
        let started = Instant::now();
        let (mut goaway, mut frames) = (None, Vec::new());
        loop {
            match self.next() {
                Ok(Some(frame)) if frame.kind == GOAWAY => {
                    let code = frame.payload[4..8].try_into().expect("four bytes");
                    goaway = Some(u32::from_be_bytes(code));
                }
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => {
                    let took = started.elapsed();
                    return End {
                        goaway,
                        frames,
                        took,
                    };
                }
                Err(error) => panic!("the connection was not closed: {error}"),
            }
        }
    }

    /// Sends a byte a second until the connection is closed.
    #[track_caller]
    pub fn trickle(mut self, bytes: &[u8]) -> End {
        let started = Instant::now();
        self.stream
            .set_read_timeout(Some(Duration::from_secs(1)))
            .expect("a timeout can be set");
        let mut frames = Vec::new();
        for byte in bytes {
            let _ = self.stream.write_all(&[*byte]);
            let goaway = loop {
                match self.next() {
                    Ok(Some(frame)) if frame.kind == GOAWAY => {
                        break Some(u32::from_be_bytes(
                            frame.payload[4..8].try_into().expect("four bytes"),
                        ));
                    }
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => {
                        let took = started.elapsed();
                        return End {
                            goaway: None,
                            frames,
                            took,
                        };
                    }
                    Err(_) => break None,
                }
            };
            if goaway.is_some() {
                let took = started.elapsed();
                return End {
                    goaway,
                    frames,
                    took,
                };
            }
        }
        panic!("{} bytes were taken, one a second", bytes.len());
    }
}
