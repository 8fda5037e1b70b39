//! Knative's test image `autoscale` as a server that stays: it uses what the query asks for, which is time (`sleep`, in
//! milliseconds), the CPU (`prime`: the largest prime below) and memory (`bloat`, in MiB). It has one thread, and the parts
//! of a server are those of the example `wasmedge-server`: calls that sleep do so at once, the others one after the other.
//! With `loop` it computes for ever.

#[path = "../../../../examples/wasmedge-server/src/connection.rs"]
mod connection;
#[allow(dead_code, reason = "only the query of a request counts here")]
#[path = "../../../../examples/wasmedge-server/src/http.rs"]
mod http;
mod routes;

use connection::{Connection, Next};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use wasmedge_wasi_socket::poll::{Subscription, poll};
use wasmedge_wasi_socket::{TcpListener, TcpStream};

/// What the listener's events carry; connections count up from here.
const LISTENER: u64 = 0;

fn main() -> io::Result<()> {
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"), true)?;
    let mut routes = routes::Routes;
    let mut connections = BTreeMap::new();
    let mut last = LISTENER;
    loop {
        let mut waits = vec![Subscription::io(LISTENER, &listener, true, false, None)];
        waits.extend(connections.iter().map(|(id, one): (&u64, &Connection)| one.waits_for(*id)));
        for event in poll(&waits)? {
            if event.userdata == LISTENER {
                while let Some(stream) = accept(&listener)? {
                    last += 1;
                    connections.insert(last, Connection::new(stream));
                }
            } else if let Some(one) = connections.get_mut(&event.userdata) {
                if !matches!(one.go_on(&mut routes), Ok(Next::Wait)) {
                    connections.remove(&event.userdata);
                }
            }
        }
    }
}

/// A connection, if one has come.
fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    match listener.accept(true) {
        Ok((stream, _)) => Ok(Some(stream)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
