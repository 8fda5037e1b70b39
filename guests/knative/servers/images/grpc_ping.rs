//! gRPC: `ping.PingService` answers each message with the same one, and with the name of the instance behind it when
//! `HOSTNAME` says so, and then `SUFFIX`. `DELAY` milliseconds pass before a single answer.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use kittiwake_knative_servers::{Request, Response, executor, is_set, pieces, text};
use prost::Message as _;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

/// Bytes before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// `ping.Request` and `ping.Response`.
#[derive(Clone, PartialEq, prost::Message)]
struct Ping {
    #[prost(string, tag = "1")]
    msg: String,
}

/// What is put behind each message.
#[derive(Clone)]
struct Server {
    suffix: String,
    delay: Duration,
}

fn main() -> std::io::Result<()> {
    // WASI has no name of a host: a number that no other instance has is as good.
    let host = if is_set("HOSTNAME") { format!("{:016x}", RandomState::new().build_hasher().finish()) } else { String::new() };
    let variable = |name| std::env::var(name).unwrap_or_default();
    let server = Server {
        suffix: host + &variable("SUFFIX"),
        delay: Duration::from_millis(variable("DELAY").parse().unwrap_or_default()),
    };
    kittiwake_knative_servers::main_with_http2(move |request| answer(request, server.clone()))
}

async fn answer(request: Request, server: Server) -> Response {
    let kind = request.headers().get("content-type").and_then(|kind| kind.to_str().ok());
    if request.version() != hyper::Version::HTTP_2 || !kind.is_some_and(|kind| kind.starts_with("application/grpc")) {
        return text(200, "");
    }
    let delay = match request.uri().path() {
        "/ping.PingService/Ping" => server.delay,
        "/ping.PingService/PingStream" => Duration::ZERO,
        _ => return grpc(pieces(stream::iter([status(12)]))),
    };
    let messages = Messages { body: request.into_body(), received: BytesMut::new(), ended: false };
    grpc(pieces(stream::unfold(Some(messages), move |messages| {
        let suffix = server.suffix.clone();
        async move {
            let mut messages = messages?;
            match messages.next().await {
                Ok(Some(mut ping)) => {
                    executor::sleep(delay).await;
                    ping.msg += &suffix;
                    Some((Frame::data(framed(&ping)), Some(messages)))
                }
                Ok(None) => Some((status(0), None)),
                Err(code) => Some((status(code), None)),
            }
        }
    })))
}

/// The messages of a request.
struct Messages {
    body: Incoming,
    received: BytesMut,
    ended: bool,
}

impl Messages {
    /// The next one, or the gRPC status that says what is wrong.
    async fn next(&mut self) -> Result<Option<Ping>, u32> {
        loop {
            if let Some(mut prefix) = self.received.get(..PREFIX_BYTES) {
                if prefix.get_u8() != 0 {
                    return Err(12); // compressed
                }
                let length = prefix.get_u32() as usize;
                if self.received.len() >= PREFIX_BYTES + length {
                    self.received.advance(PREFIX_BYTES);
                    return Ping::decode(self.received.split_to(length)).map(Some).map_err(|_| 13);
                }
            }
            if self.ended {
                return if self.received.is_empty() { Ok(None) } else { Err(13) };
            }
            match self.body.frame().await {
                None => self.ended = true,
                Some(Ok(frame)) => self.received.extend(frame.into_data().ok().unwrap_or_default()),
                Some(Err(_)) => return Err(1),
            }
        }
    }
}

fn framed(ping: &Ping) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(ping.encoded_len() as u32);
    bytes.extend(ping.encode_to_vec());
    bytes.freeze()
}

/// The trailers that end every answer.
fn status(code: u32) -> Frame<Bytes> {
    Frame::trailers(HeaderMap::from_iter([(hyper::header::HeaderName::from_static("grpc-status"), HeaderValue::from(code))]))
}

fn grpc(mut response: Response) -> Response {
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}
