//! Load over keep-alive connections. In a closed loop each connection sends its next request when it has its answer; in
//! an open loop requests are due at fixed times, whatever the server does.

use crate::workload::Call;
use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections that are made at one time.
const CONNECTING_MAX: usize = 64;
/// How much longer than planned an open loop may last, as a factor; what is then still due counts as not answered.
const OPEN_LOOP_OVERTIME: u32 = 2;

/// What a run of load came to.
pub struct Run {
    /// Requests answered rightly in each second.
    pub requests_per_second: f64,
    /// Requests answered.
    pub requests: u64,
    /// Time of each request, sorted: in an open loop from when it was due, not from when it could be sent.
    pub latencies: Vec<Duration>,
}

/// One keep-alive connection.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
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
        let request = Request::get(path).body(Full::default())?;
        self.send(request).await
    }

    /// Status and body of a POST of JSON.
    pub async fn post(&mut self, path: &str, json: &serde_json::Value) -> anyhow::Result<(u16, Bytes)> {
        let request = Request::post(path)
            .header("content-type", "application/json")
            .body(Full::from(json.to_string()))?;
        self.send(request).await
    }

    /// Status and body of one GET in a form of the client's choice.
    pub async fn get_as(&mut self, path: &str, accept: &str) -> anyhow::Result<(u16, Bytes)> {
        let request = Request::get(path)
            .header("accept", accept)
            .body(Full::default())?;
        self.send(request).await
    }

    /// Status and body of a server-side apply.
    pub async fn apply(&mut self, path: &str, json: &serde_json::Value) -> anyhow::Result<(u16, Bytes)> {
        let path = format!("{path}?fieldManager=bench&force=true");
        self.patch(&path, "application/apply-patch+yaml", json).await
    }

    /// Status and body of a merge patch.
    pub async fn merge(&mut self, path: &str, json: &serde_json::Value) -> anyhow::Result<(u16, Bytes)> {
        self.patch(path, "application/merge-patch+json", json).await
    }

    async fn patch(
        &mut self,
        path: &str,
        content_type: &str,
        json: &serde_json::Value,
    ) -> anyhow::Result<(u16, Bytes)> {
        let request = Request::patch(path)
            .header("content-type", content_type)
            .body(Full::from(json.to_string()))?;
        self.send(request).await
    }

    /// The body of a GET that does not end; the connection lives as long as it does.
    pub async fn stream(mut self, path: &str) -> anyhow::Result<Incoming> {
        let request = Request::get(path)
            .header("host", &self.host)
            .body(Full::default())?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        ensure!(status == 200, "{status}");
        Ok(response.into_body())
    }

    /// Asks a Kittiwake gateway, as Knative's queue-proxy is asked, whether a revision behind `host` could answer.
    pub async fn probe(&mut self, host: &str) -> anyhow::Result<u16> {
        self.host = host.to_owned();
        let request = Request::get("/")
            .header("k-network-probe", "queue")
            .body(Full::default())?;
        Ok(self.send(request).await?.0)
    }

    async fn send(&mut self, mut request: Request<Full<Bytes>>) -> anyhow::Result<(u16, Bytes)> {
        request
            .headers_mut()
            .insert(http::header::HOST, self.host.parse()?);
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    /// Makes the call and reads the whole answer, which must be the right one; how long it took.
    pub async fn call(&mut self, call: &Call) -> anyhow::Result<Duration> {
        let request = Request::builder()
            .method(&call.method)
            .uri(call.path)
            .header("host", &self.host)
            .body(Full::new(call.body.clone()))?;
        let start = Instant::now();
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        ensure!(status == 200, "wrong answer: {status}");
        compare(response.into_body(), &call.answer).await?;
        Ok(start.elapsed())
    }
}

/// A gauge or counter of the API at an address, added up over its labels (each worker process has its own).
pub async fn metric(api: SocketAddr, name: &str) -> anyhow::Result<f64> {
    let (_, body) = Connection::open(api, "127.0.0.1").await?.get("/metrics").await?;
    sum_of_metric(&String::from_utf8_lossy(&body), name)
        .with_context(|| format!("the metric {name} is missing"))
}

/// None if there is no such metric.
fn sum_of_metric(text: &str, name: &str) -> Option<f64> {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (_labels, value) = rest.rsplit_once(' ')?;
        (rest.starts_with([' ', '{'])).then(|| value.parse::<f64>().ok())?
    });
    samples.reduce(|sum, value| sum + value)
}

/// Reads a body to its end; it must be `expected`. Piece by piece, so that a long one is not copied together.
pub async fn compare(mut body: Incoming, expected: &Bytes) -> anyhow::Result<()> {
    let mut rest = &expected[..];
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        rest = rest.strip_prefix(&data[..]).with_context(|| {
            format!(
                "wrong answer: {:?}",
                String::from_utf8_lossy(data.get(..200).unwrap_or(&data))
            )
        })?;
    }
    ensure!(
        rest.is_empty(),
        "wrong answer: it ends {} bytes too early",
        rest.len()
    );
    Ok(())
}

/// Makes `count` connections, some at a time.
pub async fn connect(address: SocketAddr, host: &str, count: usize) -> anyhow::Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(count);
    while connections.len() < count {
        let mut made = JoinSet::new();
        for _ in 0..(count - connections.len()).min(CONNECTING_MAX) {
            let host = host.to_owned();
            made.spawn(async move { Connection::open(address, &host).await });
        }
        for connection in made.join_all().await {
            connections.push(connection.context("the server takes no more connections")?);
        }
    }
    Ok(connections)
}

/// Loads `address` over `connections` for `duration`. Any wrong answer ends the run with an error.
pub async fn closed_loop(
    address: SocketAddr,
    host: &str,
    call: &Call,
    connections: usize,
    duration: Duration,
) -> anyhow::Result<Run> {
    let connections = connect(address, host, connections).await?;
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for mut connection in connections {
        let call = call.clone();
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            while start.elapsed() < duration {
                latencies.push(connection.call(&call).await?);
            }
            anyhow::Ok(latencies)
        });
    }
    finish(tasks, start).await
}

/// Sends `rate` requests per second to `address` for `duration`, each by whichever connection is free. A request that
/// finds none waits, and its waiting counts: latency is from when it was due.
pub async fn open_loop(
    address: SocketAddr,
    host: &str,
    call: &Call,
    connections: usize,
    duration: Duration,
    rate: f64,
) -> anyhow::Result<Run> {
    let connections = connect(address, host, connections).await?;
    let total = (rate * duration.as_secs_f64()) as u64;
    let (due, taken) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU64::new(0)));
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for mut connection in connections {
        let (call, due, taken) = (call.clone(), Arc::clone(&due), Arc::clone(&taken));
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            // The semaphore is closed once all has become due; what is then left is taken without waiting.
            loop {
                if let Ok(permit) = due.acquire().await {
                    permit.forget();
                }
                let index = taken.fetch_add(1, Ordering::Relaxed);
                if index >= total || start.elapsed() > duration * OPEN_LOOP_OVERTIME {
                    return anyhow::Ok(latencies);
                }
                connection.call(&call).await?;
                latencies.push(start.elapsed().saturating_sub(due_at(index, rate)));
            }
        });
    }
    // A thread of its own: the timers of the async runtime are only good to a millisecond.
    let clock = tokio::task::spawn_blocking(move || release(&due, start, total, rate));
    let run = finish(tasks, start).await;
    clock.await?;
    run
}

/// When request `index` is due, after the start.
fn due_at(index: u64, rate: f64) -> Duration {
    Duration::from_secs_f64(index as f64 / rate)
}

/// Lets requests go as they become due.
fn release(due: &Semaphore, start: Instant, total: u64, rate: f64) {
    let mut released = 0;
    while released < total {
        std::thread::sleep(due_at(released, rate).saturating_sub(start.elapsed()));
        let until_now = (start.elapsed().as_secs_f64() * rate) as u64 + 1;
        let reached = until_now.min(total);
        due.add_permits(reached.saturating_sub(released) as usize);
        released = reached;
    }
    due.close();
}

async fn finish(mut tasks: JoinSet<anyhow::Result<Vec<Duration>>>, start: Instant) -> anyhow::Result<Run> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_added_up_over_its_labels() {
        let text = "# TYPE a gauge\na{worker=\"0\"} 2\na{worker=\"1\"} 3\na_total 9\nb 4\n";
        assert_eq!(sum_of_metric(text, "a"), Some(5.0));
        assert_eq!(sum_of_metric(text, "b"), Some(4.0));
        assert_eq!(sum_of_metric(text, "c"), None);
    }

    #[test]
    fn all_requests_are_released_at_their_time() {
        let due = Semaphore::new(0);
        let start = Instant::now();
        release(&due, start, 50, 1000.0);
        assert_eq!(due.available_permits(), 50);
        assert!(due.is_closed());
        assert!(start.elapsed() >= Duration::from_millis(49));
    }
}
