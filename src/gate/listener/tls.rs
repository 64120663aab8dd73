//! A connection to the gate over TLS: its handshake, who it is, and when it has to go.

use std::{net::IpAddr, pin::pin, sync::Arc};

use tokio::{net::TcpStream, sync::watch, time::sleep};

use super::{Entry, connection::serve_connection, dispatch::PeerService, peers, stopped};
use crate::{
    gate::{
        callers::Peer,
        wire::{Guarded, Place, Wire},
    },
    tls::{RETIRE_LIMIT, Tls},
};

/// Shakes hands, then serves the connection until its peer ends it, or it has to go: because of `shutdown`, or because the
/// files of `tls` have changed. Then its last calls are answered, within [`RETIRE_LIMIT`].
pub(super) async fn serve(
    stream: TcpStream,
    source: Option<IpAddr>,
    tls: &Tls,
    entry: &Entry,
    (service, peer): (PeerService, Arc<peers::Peer>),
    (wire, place): (Wire, Place),
    mut shutdown: watch::Receiver<bool>,
) {
    let Some(mut accepted) = tls.accept(stream).await else {
        return;
    };
    let caller = Peer::at(source).with_identity(accepted.identity, &entry.callers);
    let (stop, stopping) = watch::channel(false);
    let io = Guarded::new(accepted.stream, wire, place);
    let service = service.for_caller(caller);
    let mut serving = pin!(serve_connection(io, service, peer, stopping));
    tokio::select! {
        () = serving.as_mut() => return,
        () = stopped(&mut shutdown) => {}
        () = accepted.retired.wait() => {}
    }
    stop.send_replace(true);
    tokio::select! {
        () = serving => {}
        () = sleep(RETIRE_LIMIT) => {}
    }
}
