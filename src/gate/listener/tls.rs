//! A connection to the gate over TLS: its handshake, who it is, and when it has to go.

use std::{net::IpAddr, pin::pin};

use tokio::{net::TcpStream, sync::watch, time::sleep};

use super::{Arrived, Entry, stopped};
use crate::{
    gate::callers::Peer,
    tls::{RETIRE_LIMIT, Tls},
};

/// Shakes hands, then serves the connection until its peer ends it, or it has to go: because of `shutdown`, or because the
/// files of `tls` have changed. Then its last calls are answered, within [`RETIRE_LIMIT`].
pub(super) async fn serve(
    stream: TcpStream,
    source: Option<IpAddr>,
    tls: &Tls,
    entry: &Entry,
    mut arrived: Arrived,
) {
    let Some(mut accepted) = tls.accept(stream).await else {
        return;
    };
    let peer = Peer::at(source).with_identity(accepted.identity, &entry.callers);
    let (stop, stopping) = watch::channel(false);
    let mut shutdown = std::mem::replace(&mut arrived.shutdown, stopping);
    let mut serving = pin!(arrived.serve(accepted.stream, peer));
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
