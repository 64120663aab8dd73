//! One connection to the gate: HTTP/2, from its first byte to its last.

use std::pin::pin;

use hyper::{
    rt::{Read, Write},
    server::conn::http2,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

use super::{dispatch::GateService, stopped};

/// Streams that one connection may have open.
const MAX_STREAMS: u32 = 1_024;
/// Header lists above this are refused.
const MAX_HEADERS: u32 = 16 << 10;

/// Serves a connection until its peer ends it, or, once `shutdown` turns true, its last call is answered.
pub(super) async fn serve_connection<I>(
    io: TokioIo<I>,
    service: GateService,
    mut shutdown: watch::Receiver<bool>,
) where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
    TokioIo<I>: Read + Write,
{
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .auto_date_header(false)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    // A peer that breaks off or breaks the protocol ends its own connection only.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stopped(&mut shutdown) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
