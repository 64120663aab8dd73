//! The sockets of the gate: how they are accepted, and what they are told before they are served.

use std::{io, os::fd::AsFd, time::Duration};

use rustix::net::sockopt;
use tokio::net::{TcpListener, UnixListener};

use super::GateListener;

/// The kernel asks an idle peer for a sign of life after this time, and closes a connection without one. HTTP/2's own PING
/// would note the time of every frame for it, on the path of every Check.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);

/// A connection, free of any runtime.
pub(super) enum Socket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// A listener of this thread's runtime.
pub(super) enum AsyncListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl AsyncListener {
    pub(super) fn new(listener: GateListener) -> io::Result<Self> {
        match listener {
            GateListener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Self::Tcp)
            }
            GateListener::Unix(listener) => {
                listener.set_nonblocking(true)?;
                UnixListener::from_std(listener).map(Self::Unix)
            }
        }
    }

    /// The next connection, free of this thread's runtime so that another can take it.
    pub(super) async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                prepare(&stream)?;
                stream.into_std().map(Socket::Tcp)
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.into_std().map(Socket::Unix)
            }
        }
    }

    /// Takes what has queued up already, then closes.
    pub(super) fn accept_queued(self, mut deal: impl FnMut(Socket)) -> io::Result<()> {
        // Both listeners are non-blocking, so an empty queue answers with an error, and any error ends this.
        match self {
            Self::Tcp(listener) => {
                let listener = listener.into_std()?;
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    prepare(&stream)?;
                    deal(Socket::Tcp(stream));
                }
            }
            Self::Unix(listener) => {
                let listener = listener.into_std()?;
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    deal(Socket::Unix(stream));
                }
            }
        }
        Ok(())
    }
}

/// A reply leaves at once, and a peer that vanished is noticed.
fn prepare(stream: &impl AsFd) -> io::Result<()> {
    sockopt::set_tcp_nodelay(stream, true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    Ok(())
}
