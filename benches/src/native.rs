//! The limit: a hyper server that answers the same text natively, with nothing in between.

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use tokio::net::TcpListener;

/// Serves until killed; prints its address first.
pub async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("Serving HTTP on http://{}/", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let answer = service_fn(|_: Request<Incoming>| async {
                let response = Response::builder().header("content-type", "text/plain; charset=utf-8");
                Ok::<_, Infallible>(
                    response
                        .body(Full::new(Bytes::from_static(b"Hello World!\n")))
                        .unwrap_or_default(),
                )
            });
            // A client that goes away is no error here.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}
