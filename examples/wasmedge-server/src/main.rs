//! An HTTP/1.1 server on WasmEdge's sockets. It has one thread: the loop below waits for all connections at once, and for
//! the time at which a delayed answer is due, so a slow call does not hold up the others.

mod connection;
mod http;
mod routes;

use connection::{Connection, Next};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use wasmedge_wasi_socket::TcpListener;
use wasmedge_wasi_socket::poll::{Subscription, poll};

/// What the listener's events carry; connections count up from here.
const LISTENER: u64 = 0;

fn main() -> io::Result<()> {
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"), true)?;
    println!("listening on port {port}");
    let mut routes = routes::Routes::default();
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
                // A connection that breaks ends alone.
                if !matches!(one.go_on(&mut routes), Ok(Next::Wait)) {
                    connections.remove(&event.userdata);
                }
            }
        }
    }
}

/// A connection, if one has come.
fn accept(listener: &TcpListener) -> io::Result<Option<wasmedge_wasi_socket::TcpStream>> {
    match listener.accept(true) {
        Ok((stream, _)) => Ok(Some(stream)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
