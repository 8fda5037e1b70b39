//! The limit: a hyper server that does the same work natively, with nothing in between.

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use tokio::net::TcpSocket;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// Serves until killed; prints its address first.
pub async fn serve() -> anyhow::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener = socket.listen(BACKLOG)?;
    println!("Serving HTTP on http://{}/", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            // A client that goes away is no error here.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Answer, hyper::Error> {
    Ok(match request.uri().path() {
        "/echo" => Response::new(request.into_body().boxed()),
        "/quotes" => {
            let body = request.into_body().collect().await?.to_bytes();
            match quote(&body) {
                Some(quote) => whole(StatusCode::OK, "application/json", quote),
                None => whole(StatusCode::BAD_REQUEST, "text/plain", "no basket\n"),
            }
        }
        "/fib" => text(format!("{}\n", fib(black_box(27)))),
        _ => text(Bytes::from_static(b"Hello World!\n")),
    })
}

fn text(body: impl Into<Bytes>) -> Answer {
    whole(StatusCode::OK, "text/plain; charset=utf-8", body)
}

fn whole(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Answer {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Ok(value) = content_type.parse() {
        response.headers_mut().insert(http::header::CONTENT_TYPE, value);
    }
    response
}

#[derive(Deserialize)]
struct Basket {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    id: String,
    quantity: u64,
}

#[derive(Serialize)]
struct Quote {
    items: Vec<Line>,
    total_cents: u64,
}

#[derive(Serialize)]
struct Line {
    id: String,
    line_cents: u64,
    quantity: u64,
}

/// Adds a basket up, as examples/json-rest does.
fn quote(body: &[u8]) -> Option<Vec<u8>> {
    let basket: Basket = serde_json::from_slice(body).ok()?;
    let lines = basket.items.into_iter().map(|Item { id, quantity }| {
        let price_cents = match id.as_str() {
            "tea" => 890,
            "cup" => 1450,
            "kettle" => 5900,
            _ => return None,
        };
        Some(Line {
            id,
            line_cents: price_cents * quantity,
            quantity,
        })
    });
    let items: Vec<Line> = lines.collect::<Option<_>>()?;
    let total_cents = items.iter().map(|line| line.line_cents).sum();
    let mut text = serde_json::to_vec(&Quote { items, total_cents }).ok()?;
    text.push(b'\n');
    Some(text)
}

fn fib(n: u32) -> u32 {
    if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Work;

    #[test]
    fn the_native_work_gives_the_answers_that_are_checked() {
        let call = Work::Json.call();
        assert_eq!(quote(&call.body), Some(call.answer.to_vec()));
        assert_eq!(format!("{}\n", fib(27)), Work::Fib.call().answer);
    }
}
