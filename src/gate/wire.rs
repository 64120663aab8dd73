//! What a peer may do to a connection before it is cut: how long its preface, a frame or its reading may take, how many
//! frames it may send that ask for nothing, and how many connections and bytes all peers together may have us hold.
//!
//! HTTP/2 itself stays with the library: this reads along in [`Guarded`] as bytes pass, and keeps no clock and no timer for
//! a peer whose frames arrive whole.

mod bodies;
mod frames;
mod places;

use std::{
    future::Future as _,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};
use tonic::transport::server::Connected;

pub use self::{
    bodies::{BODY_LIMIT, Held, HeldBytes, RequestBody, Share},
    places::{Place, raise_file_limit},
};
use self::{
    frames::{Breach, Frames},
    places::Places,
};

/// A peer that has connected says `PRI * HTTP/2.0` at once. One that says nothing holds a connection for nothing.
pub const PREFACE_LIMIT: Duration = Duration::from_secs(5);
/// From the first byte of a frame to its last, and from a call's first header frame to its last. A frame has at most 16
/// KiB, so that only who means to is slower.
pub const FRAME_LIMIT: Duration = Duration::from_secs(10);
/// A peer that takes nothing for so long, while something is there to be sent, is gone or means harm.
pub const STALL_LIMIT: Duration = Duration::from_secs(20);
/// How often frames that ask for nothing are allowed anew.
const ALLOWANCE_PERIOD: Duration = Duration::from_secs(10);

/// Reads in a row before other connections of the thread have their turn: of a peer that never stops sending, 16 KiB or so.
/// The second one of a peer that has sent a little finds nothing, and ends its turn anyway.
const READS_IN_TURN: u8 = 2;

/// GOAWAY with `ENHANCE_YOUR_CALM`, for a peer that floods. It does not say which calls were begun: all may have been.
const CALM_DOWN: [u8; 17] = [
    0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7F, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0xB,
];

/// Why a peer was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It did not begin as HTTP/2 does, or not in time.
    Preface,
    /// A frame or a call's headers did not arrive in time.
    SlowFrame,
    /// It sent too many frames that ask for nothing.
    Flood,
    /// It did not read.
    Stalled,
    /// It did not take its answers.
    Unanswered,
    /// It had too many calls open while there were too many altogether.
    Crowded,
}

impl Cut {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Preface,
        Self::SlowFrame,
        Self::Flood,
        Self::Stalled,
        Self::Unanswered,
        Self::Crowded,
    ];

    /// As metrics name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preface => "preface",
            Self::SlowFrame => "slow_frame",
            Self::Flood => "flood",
            Self::Stalled => "stalled",
            Self::Unanswered => "unanswered",
            Self::Crowded => "crowded",
        }
    }
}

/// The connections of one listener: how many there may be and are, and what was cut.
#[derive(Debug, Clone)]
pub struct Wire {
    numbers: Arc<Numbers>,
    places: Arc<Places>,
}

#[derive(Debug, Default)]
struct Numbers {
    refused: AtomicU64,
    cut: [AtomicU64; Cut::ALL.len()],
}

impl Wire {
    /// Of a listener that has at most `most` connections, or as many as the limit on open files leaves it: `share` of it,
    /// in 64ths.
    #[must_use]
    pub fn new(most: u64, share: u64) -> Self {
        Self {
            numbers: Arc::default(),
            places: Arc::new(Places::new(most, share)),
        }
    }

    /// Of another listener whose connections take none of these places, counted with these.
    #[must_use]
    pub fn with_places(&self, most: u64, share: u64) -> Self {
        Self {
            numbers: self.numbers.clone(),
            places: Arc::new(Places::new(most, share)),
        }
    }

    /// A place for one more connection, if there is one: the newest is refused, since those that are there may be in use.
    #[must_use]
    pub fn enter(&self) -> Option<Place> {
        let place = Places::take(&self.places);
        if place.is_none() {
            self.numbers.refused.fetch_add(1, Ordering::Relaxed);
        }
        place
    }

    /// Notes that a peer was cut.
    pub fn count(&self, cut: Cut) {
        self.numbers.cut[cut as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many connections there are.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.places.taken()
    }

    /// How many connections were refused because there were too many.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.numbers.refused.load(Ordering::Relaxed)
    }

    /// How many peers were cut for this.
    #[must_use]
    pub fn cuts(&self, cut: Cut) -> u64 {
        self.numbers.cut[cut as usize].load(Ordering::Relaxed)
    }
}

/// A connection on which its peer is watched.
#[derive(Debug)]
pub struct Guarded<I> {
    io: I,
    wire: Wire,
    _place: Place,
    frames: Frames,
    /// Runs while a preface, a frame or a call's headers are there in part and nothing more has come.
    in_part: Option<Pin<Box<Sleep>>>,
    /// Runs while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    /// When frames that ask for nothing were last allowed anew.
    allowed: Instant,
    /// Reads in a row that found something.
    reads: u8,
}

impl<I> Guarded<I> {
    /// Watches a new connection.
    pub fn new(io: I, wire: Wire, place: Place) -> Self {
        Self {
            io,
            wire,
            _place: place,
            frames: Frames::default(),
            in_part: None,
            stalled: None,
            allowed: Instant::now(),
            reads: 0,
        }
    }

    /// What the library sees is the end of the connection.
    fn cut(&self, cut: Cut) -> io::Error {
        self.wire.count(cut);
        io::Error::new(io::ErrorKind::ConnectionAborted, cut.name())
    }

    /// Looks at what was read.
    fn look(&mut self, read: &[u8]) -> Result<(), Cut> {
        match self.frames.pass(read) {
            Ok(()) => {}
            Err(Breach::Preface) => return Err(Cut::Preface),
            Err(Breach::Window) => return Err(Cut::Unanswered),
            // The clock is read here and nowhere else: a peer that asks for something never gets here.
            Err(Breach::Allowance) => {
                let now = Instant::now();
                if now.duration_since(self.allowed) < ALLOWANCE_PERIOD {
                    return Err(Cut::Flood);
                }
                self.allowed = now;
                self.frames.allow_anew();
            }
        }
        if self.frames.has_moved_on() {
            self.in_part = None;
        }
        Ok(())
    }

    /// Nothing more has come of what is there in part: for how long already?
    fn wait_for_the_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (limit, cut) = if self.frames.in_preface() {
            (PREFACE_LIMIT, Cut::Preface)
        } else {
            (FRAME_LIMIT, Cut::SlowFrame)
        };
        let timer = self.in_part.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(self.cut(cut)))
    }

    /// Notes whether the peer takes what is sent.
    fn sent<T>(
        &mut self,
        sent: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if sent.is_ready() {
            if self.stalled.is_some() {
                self.stalled = None;
            }
            return sent;
        }
        let timer = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(STALL_LIMIT)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(self.cut(Cut::Stalled)))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if me.reads == READS_IN_TURN {
            me.reads = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let Poll::Ready(read) = Pin::new(&mut me.io).poll_read(context, buffer) else {
            me.reads = 0;
            return if me.frames.at_rest() {
                Poll::Pending
            } else {
                me.wait_for_the_rest(context)
            };
        };
        read?;
        me.reads += 1;
        if let Err(cut) = me.look(&buffer.filled()[before..]) {
            // Only between two frames of ours; and if there is no room for it, the peer learns it from the end.
            if cut == Cut::Flood && me.stalled.is_none() {
                let _ = Pin::new(&mut me.io).poll_write(context, &CALM_DOWN);
            }
            return Poll::Ready(Err(me.cut(cut)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Guarded<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.io).poll_write(context, bytes);
        self.sent(sent, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.sent(sent, context)
    }

    // Without it the library copies every answer into a buffer of its own first.
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        self.sent(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.io).poll_shutdown(context);
        self.sent(shut, context)
    }
}

impl<I: Connected> Connected for Guarded<I> {
    type ConnectInfo = I::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.io.connect_info()
    }
}

#[cfg(test)]
mod tests;
