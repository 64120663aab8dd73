//! One connection to the gate: HTTP/2, from its first byte to its last.

use std::{pin::pin, sync::Arc};

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

use super::{accounts::Account, dispatch::ConnectionService, stopped};
use crate::gate::wire::Guarded;

/// Streams that one connection may have open.
const MAX_STREAMS: u32 = 1_024;
/// Header lists above this are refused by the library, with an error. Envoy's call may carry what its client wrote into headers
/// of tracing, 60 KiB unless Envoy is told otherwise, and must be answered; so this is more than we take ourselves.
const MAX_HEADERS: u32 = 128 << 10;
/// What a peer may send of one call, or of all on a connection, before we have looked at it. A batch of 1,000 checks fits,
/// a larger one waits a moment; what nobody reads on purpose is never more than this for a connection. The library's
/// budget for tiny DATA frames is half of the latter.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// What is taken from an answer's body before the peer has room for it. An answer is one piece, so that this only spares
/// the second of two.
const SEND_BUFFER: usize = 64 << 10;
/// Calls that are reset before we have seen that they were begun, of which a proxy may have any number. More than what is read
/// in a turn can hold, after which all that was begun is seen.
const PENDING_RESETS: usize = 4_096;
/// Calls that we reset because of what the peer did wrong, in the life of a connection. A client that has not read our
/// limit of streams yet may begin as many too many, once.
const OUR_RESETS: usize = MAX_STREAMS as usize;

/// Serves a connection until its peer ends it or must be cut off, or, once `shutdown` turns true, its last call is answered.
pub(super) async fn serve_connection<I>(
    io: Guarded<I>,
    service: ConnectionService,
    account: Arc<Account>,
    mut shutdown: watch::Receiver<bool>,
) where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(OUR_RESETS)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    // A peer that breaks off or breaks the protocol ends its own connection only.
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        () = stopped(&mut shutdown) => connection.as_mut().graceful_shutdown(),
        () = account.must_go() => return,
    }
    tokio::select! {
        biased;
        _ = connection => {}
        () = account.must_go() => {}
    }
}
