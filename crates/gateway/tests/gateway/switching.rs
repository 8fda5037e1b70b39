//! A function that stays and can switch protocols: a real HTTP/1.1 server behind a connection in memory.

use base64::Engine;
use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kittiwake_core::body::{self, Body};
use kittiwake_core::invoke::InvokeError;
use std::convert::Infallible;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Calls it on a connection of its own.
pub async fn call(request: Request<Body>) -> Result<Response<Body>, InvokeError> {
    let (near, far) = tokio::io::duplex(16 * 1024);
    let server = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(far), service_fn(answer))
        .with_upgrades();
    tokio::spawn(server);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near))
        .await
        .unwrap();
    tokio::spawn(connection.with_upgrades());
    let answer = sender.send_request(request).await.unwrap();
    Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
}

/// What a server answers to a client's key (RFC 6455 §4.2.2).
fn accept(key: &[u8]) -> String {
    let with_guid = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &with_guid);
    base64::engine::general_purpose::STANDARD.encode(digest)
}

/// Repeats short messages until the client closes (RFC 6455 §5).
async fn websocket(mut io: impl AsyncRead + AsyncWrite + Unpin) {
    loop {
        let mut head = [0; 6];
        if io.read_exact(&mut head).await.is_err() {
            return;
        }
        let length = head[1] & 0x7f;
        assert!(head[1] & 0x80 != 0 && length < 126, "masked and short");
        let mut payload = vec![0; usize::from(length)];
        io.read_exact(&mut payload).await.unwrap();
        for (byte, mask) in payload.iter_mut().zip(head[2..].iter().cycle()) {
            *byte ^= mask;
        }
        io.write_all(&[head[0], length]).await.unwrap();
        io.write_all(&payload).await.unwrap();
        let is_close = head[0] & 0x0f == 8;
        if is_close {
            let _ = io.shutdown().await;
            return;
        }
    }
}

/// Repeats what it gets and says "bye" once the other side has ended; `/switch/not` does not switch, `/switch/unasked`
/// says that it does without having been asked.
async fn answer(mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    match request.uri().path() {
        "/switch/not" => return Ok(Response::new(body::full("as before"))),
        "/switch/unasked" => {
            let answer = Response::builder().status(101).header(UPGRADE, "echo");
            return Ok(answer.body(body::empty()).unwrap());
        }
        _ => {}
    }
    let protocol = request.headers()[UPGRADE].clone();
    assert_eq!(request.headers()[CONNECTION], "Upgrade");
    let key = request.headers().get(SEC_WEBSOCKET_KEY).cloned();
    let upgrade = hyper::upgrade::on(&mut request);
    if request.uri().path() == "/switch/ws" {
        tokio::spawn(async move { websocket(TokioIo::new(upgrade.await.unwrap())).await });
        let accept = accept(key.unwrap().as_bytes());
        let answer = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, protocol)
            .header("sec-websocket-accept", accept);
        return Ok(answer.body(body::empty()).unwrap());
    }
    tokio::spawn(async move {
        let mut io = TokioIo::new(upgrade.await.unwrap());
        let mut piece = [0; 1024];
        loop {
            match io.read(&mut piece).await {
                Ok(0) => {
                    let _ = io.write_all(b"bye").await;
                    let _ = io.shutdown().await;
                    return;
                }
                Ok(length) => io.write_all(&piece[..length]).await.unwrap(),
                Err(_) => return,
            }
        }
    });
    let mut answer = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, protocol);
    if let Some(key) = key {
        answer = answer.header("x-key", key).header("sec-websocket-accept", "x");
    }
    Ok(answer.body(body::empty()).unwrap())
}
