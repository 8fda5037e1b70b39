//! Sockets: who may come in by which, and accepting until the gateway ends.

use crate::connection::{self, Connection, Protocol};
use crate::proxy::Gateway;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Pause after the system refused a connection (out of file descriptors), before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket and what coming in by it means.
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    /// Speaks TLS on it.
    pub(crate) tls: Option<TlsAcceptor>,
    /// Whether those who come in may call hosts that are only for those inside.
    pub(crate) is_inside: bool,
}

/// Accepts connections until the gateway drains or is shut down, and ends when the last connection has.
pub(crate) async fn serve(gateway: Arc<Gateway>, doors: Vec<Door>, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(
        gateway.config.connections_max.clamp(1, Semaphore::MAX_PERMITS),
    ));
    let protocol = Arc::new(connection::protocol(&gateway.config));
    let drain = gateway.drain.clone();
    // Counts as a task: who waits for the last one must not miss a connection that was accepted a moment ago.
    let accepting = drain.tasks.token();
    let doors = doors
        .into_iter()
        .map(|door| accept_all(&gateway, &protocol, door, &places, &shutdown));
    futures::future::join_all(doors).await;
    drop(accepting);
    drain.tasks.close();
    tokio::select! {
        () = drain.tasks.wait() => {}
        () = shutdown.cancelled() => {
            drain.stop();
            drain.cut();
            drain.tasks.wait().await;
        }
    }
    drain.stop();
}

/// Accepts by one door until the end, and closes it.
async fn accept_all(
    gateway: &Arc<Gateway>,
    protocol: &Arc<Protocol>,
    door: Door,
    places: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) {
    let stopped = async {
        tokio::select! {
            () = gateway.drain.stop.cancelled() => {}
            () = shutdown.cancelled() => {}
        }
    };
    let mut stopped = pin!(stopped);
    loop {
        let (stream, peer, place) = tokio::select! {
            () = &mut stopped => return,
            accepted = accept(&door.listener, places) => accepted,
        };
        // Answers are small and complete; waiting for more to send only delays them.
        let _ = stream.set_nodelay(true);
        let connection = Connection::new(
            peer,
            door.tls.is_some(),
            door.is_inside,
            gateway.metrics.connection(),
            place,
        );
        let (gateway, protocol) = (Arc::clone(gateway), Arc::clone(protocol));
        let tasks = &gateway.drain.tasks.clone();
        match door.tls.clone() {
            None => tasks.spawn(connection::serve(gateway, protocol, stream, connection)),
            Some(tls) => tasks.spawn(secure(gateway, protocol, tls, stream, connection)),
        };
    }
}

/// Shakes hands, and serves what comes after.
async fn secure(
    gateway: Arc<Gateway>,
    protocol: Arc<Protocol>,
    tls: TlsAcceptor,
    stream: TcpStream,
    connection: Connection,
) {
    let handshake = tokio::time::timeout(gateway.config.tls_handshake_timeout, tls.accept(stream));
    let shaken = tokio::select! {
        shaken = handshake => shaken,
        () = gateway.drain.stop.cancelled() => return,
        () = gateway.drain.cut.cancelled() => return,
    };
    match shaken {
        Ok(Ok(stream)) => connection::serve(gateway, protocol, stream, connection).await,
        Ok(Err(error)) => {
            gateway.metrics.handshake_failed();
            tracing::debug!(peer = %connection.peer, error = &error as &dyn std::error::Error, "a TLS handshake failed");
        }
        Err(_) => {
            gateway.metrics.handshake_failed();
            tracing::debug!(peer = %connection.peer, "a TLS handshake took too long");
        }
    }
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    loop {
        let Ok(place) = Arc::clone(places).acquire_owned().await else {
            // The semaphore is never closed; waiting is right all the same.
            std::future::pending::<()>().await;
            continue;
        };
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, place),
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a connection could not be accepted"
                );
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether only the connection being accepted failed.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}
