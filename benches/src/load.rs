//! Load: closed loops over keep-alive connections. Each connection sends its next request when it has the answer.

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// What a run of load came to.
pub struct Run {
    /// Requests answered with 200 in each second.
    pub requests_per_second: f64,
    /// Requests answered.
    pub requests: u64,
    /// Time of each request, sorted.
    pub latencies: Vec<Duration>,
}

/// One keep-alive connection.
pub struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    host: String,
}

impl Connection {
    pub async fn open(address: SocketAddr, host: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        Ok(Self {
            sender,
            host: host.to_owned(),
        })
    }

    /// Status and body of one GET.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<(u16, Bytes)> {
        let request = Request::get(path).header("host", &self.host).body(Empty::new())?;
        let response = self.sender.send_request(request).await?;
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    /// Sends one GET and reads the whole answer, which must be 200 and `Hello`.
    pub async fn hello(&mut self) -> anyhow::Result<Duration> {
        let request = Request::get("/").header("host", &self.host).body(Empty::new())?;
        let start = Instant::now();
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        let took = start.elapsed();
        ensure!(
            status == 200 && body.starts_with(b"Hello"),
            "wrong answer: {status} {:?}",
            String::from_utf8_lossy(&body)
        );
        Ok(took)
    }
}

/// Loads `address` over `connections` for `duration`. Any wrong answer ends the run with an error.
pub async fn closed_loop(
    address: SocketAddr,
    host: &str,
    connections: usize,
    duration: Duration,
) -> anyhow::Result<Run> {
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let host = host.to_owned();
        tasks.spawn(async move {
            let mut connection = Connection::open(address, &host).await?;
            let mut latencies = Vec::new();
            while start.elapsed() < duration {
                latencies.push(connection.hello().await?);
            }
            anyhow::Ok(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        latencies.extend(ended??);
    }
    let took = start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let requests = latencies.len() as u64;
    Ok(Run {
        requests_per_second: requests as f64 / took,
        requests,
        latencies,
    })
}
