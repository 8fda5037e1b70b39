//! An HTTP/1.1 server on the sockets of WASI 0.2 (`wasi:sockets`). It has one thread: the loop below waits for all
//! connections at once, and for the time at which a delayed answer is due, so a slow call does not hold up the others.
//! (A program that serves one connection after the other needs none of this: `std::net::TcpListener` is enough.)

mod connection;
mod routes;

use connection::{Connection, Next};
use std::process::ExitCode;
use wasip2::io::poll::{Pollable, poll};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp::TcpSocket;
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

fn main() -> ExitCode {
    let port = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080);
    let error = match listen(port) {
        Ok(listener) => {
            println!("listening on port {port}");
            serve(&listener)
        }
        Err(error) => error,
    };
    eprintln!("port {port}: {error}");
    ExitCode::FAILURE
}

/// A socket that listens on a port of all addresses.
fn listen(port: u16) -> Result<TcpSocket, ErrorCode> {
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    let any = IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (0, 0, 0, 0) });
    socket.start_bind(&instance_network(), any)?;
    finished(&socket, TcpSocket::finish_bind)?;
    socket.start_listen()?;
    finished(&socket, TcpSocket::finish_listen)?;
    Ok(socket)
}

/// Waits for the end of what was started.
pub fn finished<T>(socket: &TcpSocket, finish: impl Fn(&TcpSocket) -> Result<T, ErrorCode>) -> Result<T, ErrorCode> {
    let changes = socket.subscribe();
    loop {
        match finish(socket) {
            Err(ErrorCode::WouldBlock) => changes.block(),
            other => return other,
        }
    }
}

/// Takes connections and answers their requests, until that is not possible any more.
fn serve(listener: &TcpSocket) -> ErrorCode {
    let mut routes = routes::Routes::default();
    let mut connections: Vec<Connection> = Vec::new();
    let new = listener.subscribe();
    loop {
        let waits: Vec<Pollable> = connections.iter().map(Connection::waits_for).collect();
        let all: Vec<&Pollable> = std::iter::once(&new).chain(&waits).collect();
        let ready = poll(&all);
        drop(waits);
        // From the end, so that the places of those before stay as they are.
        for place in ready.iter().rev().filter_map(|place| (*place as usize).checked_sub(1)) {
            if matches!(connections[place].go_on(&mut routes), Next::Close) {
                connections.remove(place);
            }
        }
        if ready.contains(&0) {
            loop {
                match listener.accept() {
                    Ok((socket, input, output)) => connections.push(Connection::new(socket, input, output)),
                    Err(ErrorCode::WouldBlock) => break,
                    Err(ErrorCode::ConnectionAborted) => {}
                    Err(error) => return error,
                }
            }
        }
    }
}
