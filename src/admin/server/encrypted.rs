//! The admin listener over TLS.
//!
//! Each state of the TLS files has a server of its own, so that the connections made under one of them can be told to go
//! while the listener stays. Handshakes run beside each other and hold up nobody.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::StreamExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Error, server::Connected};

use super::{AdminServices, accepted_tcp, stop};
use crate::{
    gate::{
        callers::{CallerMap, Peer},
        wire::Guarded,
    },
    tls::{RETIRE_LIMIT, Retired, Tls},
};

/// Serves until `shutdown` turns true and every call that was begun is answered.
pub(super) async fn run(
    services: AdminServices,
    listener: TcpListener,
    tls: Arc<Tls>,
    callers: CallerMap,
    shutdown: watch::Receiver<bool>,
) -> Result<(), Error> {
    let mut accepted = pin!(accepted_tcp(listener, services.wire.clone()));
    let mut stopping = pin!(stop(shutdown));
    let mut handshakes = JoinSet::new();
    let mut servers = JoinSet::new();
    let mut files = tls.changes();
    let mut server = Generation::start(&services, &mut servers);
    loop {
        tokio::select! {
            biased;
            () = stopping.as_mut() => break,
            () = files.wait() => {
                files = tls.changes();
                // The old one is dropped, which tells its connections to go.
                server = Generation::start(&services, &mut servers);
            }
            Some(ended) = servers.join_next() => ended.unwrap_or(Ok(()))?,
            Some(connection) = handshakes.join_next() => {
                if let Ok(Some(connection)) = connection {
                    // A server that is gone drops the connection, which its peer sees as closed.
                    let _ = server.connections.send(Ok(connection));
                }
            }
            Some(Ok((stream, place))) = accepted.next() => {
                let (wire, tls, callers) = (services.wire.clone(), tls.clone(), callers.clone());
                handshakes.spawn(async move {
                    let encrypted = shake_hands(stream, tls, callers).await?;
                    Some(Guarded::new(encrypted, wire, place))
                });
            }
        }
    }
    drop((server, handshakes));
    while let Some(ended) = servers.join_next().await {
        ended.unwrap_or(Ok(()))?;
    }
    Ok(())
}

/// The server of the connections made under one state of the files. Dropping this tells them to go.
struct Generation {
    connections: mpsc::UnboundedSender<io::Result<Guarded<Encrypted>>>,
    _stop: watch::Sender<bool>,
}

impl Generation {
    fn start(services: &AdminServices, servers: &mut JoinSet<Result<(), Error>>) -> Self {
        let (connections, incoming) = mpsc::unbounded_channel();
        let (end, ended) = watch::channel(false);
        let router = services.clone().router();
        servers.spawn(async move {
            let incoming = UnboundedReceiverStream::new(incoming);
            router
                .serve_with_incoming_shutdown(incoming, stop(ended))
                .await
        });
        Self {
            connections,
            _stop: end,
        }
    }
}

async fn shake_hands(stream: TcpStream, tls: Arc<Tls>, callers: CallerMap) -> Option<Encrypted> {
    let source = stream.peer_addr().ok().map(|address| address.ip());
    let accepted = tls.accept(stream).await?;
    let peer = Peer::at(source).with_identity(accepted.identity, &callers);
    Some(Encrypted {
        stream: accepted.stream,
        peer: Arc::new(peer),
        cut: Box::pin(cut(accepted.retired)),
    })
}

/// Returns when a connection that was told to go has had its time.
async fn cut(mut retired: Retired) {
    retired.wait().await;
    sleep(RETIRE_LIMIT).await;
}

/// A connection past its handshake, which ends some time after it was told to go.
struct Encrypted {
    stream: TlsStream<TcpStream>,
    peer: Arc<Peer>,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Connected for Encrypted {
    type ConnectInfo = Arc<Peer>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.peer.clone()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A connection always waits for something to read, so that its end is noticed here.
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }
}
