//! Waits `initialTimeout` milliseconds before the first byte of its answer, and `timeout` milliseconds after it.

use futures_util::stream;
use hyper::body::Frame;
use kittiwake_knative_servers::{Request, Response, executor, pieces, query};
use std::time::Duration;

fn main() -> std::io::Result<()> {
    kittiwake_knative_servers::main(answer)
}

async fn answer(request: Request) -> Response {
    let wait = |name| query(&request, name).and_then(|value| value.parse().ok()).unwrap_or(0);
    executor::sleep(Duration::from_millis(wait("initialTimeout"))).await;
    let milliseconds = wait("timeout");
    pieces(stream::once(async move {
        executor::sleep(Duration::from_millis(milliseconds)).await;
        Frame::data(format!("Slept for {milliseconds} milliseconds").into())
    }))
}
