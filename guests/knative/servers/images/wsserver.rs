//! Echoes the messages of WebSockets, with `SUFFIX` behind them. The query's `delay`, in seconds, holds for all echoes from
//! then on.

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::handshake::derive_accept_key;
use async_tungstenite::tungstenite::protocol::{Message, Role};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::StreamExt as _;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::rt::{Read as _, ReadBuf, Write as _};
use hyper::upgrade::Upgraded;
use kittiwake_knative_servers::{Request, Response, executor, is_probe, query, text};
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

thread_local! {
    static DELAY: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

fn main() -> io::Result<()> {
    kittiwake_knative_servers::main(async |request: Request| answer(request))
}

fn answer(request: Request) -> Response {
    if let Some(seconds) = query(&request, "delay").filter(|seconds| !seconds.is_empty()) {
        DELAY.set(Duration::from_secs(seconds.parse().unwrap_or_default()));
    }
    if is_probe(&request) {
        return text(200, "");
    }
    let Some(key) = websocket_key(request.headers()) else {
        return text(400, "this is a server of WebSockets\n");
    };
    let accept = derive_accept_key(key.as_bytes());
    executor::spawn(async move {
        match hyper::upgrade::on(request).await {
            Ok(upgraded) => echo(upgraded).await,
            Err(error) => println!("Error upgrading websocket: {error}"),
        }
    });
    let mut response = text(101, "");
    let headers = response.headers_mut();
    headers.clear();
    headers.insert("connection", HeaderValue::from_static("Upgrade"));
    headers.insert("upgrade", HeaderValue::from_static("websocket"));
    headers.insert("sec-websocket-accept", HeaderValue::from_str(&accept).expect("it is base64"));
    response
}

/// The key of a request that asks for version 13 of the protocol (RFC 6455 §4.2.1).
fn websocket_key(headers: &HeaderMap) -> Option<String> {
    let value = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let has = |name, token: &str| value(name).is_some_and(|all| all.split(',').any(|one| one.trim().eq_ignore_ascii_case(token)));
    if !has("connection", "upgrade") || !has("upgrade", "websocket") || !has("sec-websocket-version", "13") {
        return None;
    }
    value("sec-websocket-key").map(str::to_owned)
}

async fn echo(upgraded: Upgraded) {
    println!("Connection upgraded to WebSocket. Entering receive loop.");
    let mut socket = WebSocketStream::from_raw_socket(Io(upgraded), Role::Server, None).await;
    let suffix = std::env::var("SUFFIX").unwrap_or_default();
    while let Some(message) = socket.next().await {
        let echoed = match message {
            Ok(Message::Text(said)) if !suffix.is_empty() => Message::text(format!("{said} {suffix}")),
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => message,
            Ok(_) => continue,
            Err(error) => return println!("Handler exiting on error: {error}"),
        };
        println!("Successfully received: {echoed}");
        executor::sleep(DELAY.get()).await;
        if let Err(error) = socket.send(echoed).await {
            return println!("Failed to write message: {error}");
        }
    }
}

/// A connection of hyper's with the traits of futures.
struct Io(Upgraded);

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(bytes);
        let read = Pin::new(&mut self.0).poll_read(cx, buffer.unfilled());
        read.map_ok(|()| buffer.filled().len())
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
