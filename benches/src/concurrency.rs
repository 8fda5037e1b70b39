//! Many calls in flight, each waiting 10 s in an instance of its own or in one that it shares: errors, memory, and how long it takes until all
//! of them are in.

use crate::Paths;
use crate::load::{self, Connection};
use crate::peers::{SHARED_COMPONENT, service, with_isolation};
use crate::process::{self, Server};
use crate::report::Report;
use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kittiwake_testkit::guest;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Slots beyond the calls, for the instance that is started at deploy time.
const SPARE_SLOTS: usize = 16;
/// The function's virtual host.
const HOST: &str = "pause.default.localhost";
/// How long the waiting calls may take to be all there.
const GATHER_TIMEOUT: Duration = Duration::from_secs(9);
/// Calls that share one HTTP/2 connection; servers commonly allow 100 to 250.
const STREAMS_PER_CONNECTION: usize = 100;

/// What to run.
#[derive(clap::Args, Clone)]
pub struct Options {
    #[command(flatten)]
    pub paths: Paths,
    /// Calls in flight; one server and one line each
    #[arg(long, value_delimiter = ',', default_value = "1000,5000,9000")]
    pub calls: Vec<usize>,
    /// Make them over HTTP/2, 100 to a connection, instead of each over an HTTP/1.1 connection of its own
    #[arg(long)]
    pub http2: bool,
    /// In instances that are in many calls at a time: a function of WASI 0.3 with `kittiwake.dev/isolation: concurrent`
    #[arg(long)]
    pub shared: bool,
}

impl Options {
    /// What is asked for: with the function that `shared` chooses, to wait 10 s.
    fn path(&self) -> &'static str {
        if self.shared { "/wait?ms=10000" } else { "/" }
    }
}

/// Runs each number of calls against a server of its own and prints a line. Returns how many got no answer.
pub async fn run(options: &Options, report: &mut Report) -> anyhow::Result<usize> {
    let program = options.paths.kittiwake()?;
    println!(
        "\nCalls that wait 10 s each{}, over {}",
        if options.shared {
            " in shared instances"
        } else {
            ""
        },
        if options.http2 { "HTTP/2" } else { "HTTP/1.1" }
    );
    println!(
        "{:>8} {:>10} {:>15} {:>13} {:>13} {:>14} {:>8}  errors",
        "calls", "in flight", "all in after s", "resident MiB", "KiB per call", "instances/GiB", "200s"
    );
    let mut unanswered = 0;
    for calls in &options.calls {
        let folder = tempfile::tempdir()?;
        let function = function(options.shared, folder.path())?;
        let data_dir = folder.path().join("data");
        let mut flags = vec!["--max-calls".to_owned(), (calls + SPARE_SLOTS).to_string()];
        flags.extend(options.paths.kittiwake_flags());
        let server = process::kittiwake(&program, &data_dir, &flags).await?;
        let manifest = folder.path().join("pause.yaml");
        std::fs::write(&manifest, function)?;
        process::apply(&program, &data_dir, &manifest).await?;
        unanswered += measure(&server, *calls, options, report).await?;
        server.stop().await?;
    }
    Ok(unanswered)
}

/// The Service whose calls wait.
fn function(shared: bool, folder: &Path) -> anyhow::Result<String> {
    if shared {
        let component = Path::new(SHARED_COMPONENT).canonicalize();
        let component = component.context("run this in the checkout")?;
        let service = service("pause", &component.display().to_string());
        return Ok(with_isolation(&service, "concurrent"));
    }
    let component = folder.join("pause.wasm");
    std::fs::write(&component, guest::pause())?;
    Ok(service("pause", &component.display().to_string()))
}

async fn measure(
    server: &Server,
    calls: usize,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<usize> {
    let (http2, path) = (options.http2, options.path());
    let address = server.address("Functions")?;
    let api = server.address("Kubernetes API")?;
    let callers = match http2 {
        true => connect_http2(address, calls).await?,
        false => connect_http1(address, calls).await?,
    };
    // With its connections, without calls.
    let idle = server.resident_mib()?;
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for caller in callers {
        tasks.spawn(caller.call(path));
    }
    let mut in_flight = 0;
    while in_flight < calls && start.elapsed() < GATHER_TIMEOUT {
        tokio::time::sleep(Duration::from_millis(50)).await;
        in_flight = load::metric(api, "kittiwake_gateway_in_flight").await? as usize;
    }
    let gathered = start.elapsed().as_secs_f64();
    let resident = server.resident_mib()?;
    let (mut answered, mut errors) = (0_usize, BTreeMap::<String, usize>::new());
    while let Some(ended) = tasks.join_next().await {
        match ended? {
            Ok(200) => answered += 1,
            Ok(status) => *errors.entry(status.to_string()).or_default() += 1,
            Err(error) => *errors.entry(format!("{error:#}")).or_default() += 1,
        }
    }
    let kib_per_call = (resident - idle) * 1024.0 / in_flight.max(1) as f64;
    let per_gib = f64::from(1 << 20) / kib_per_call;
    println!(
        "{calls:>8} {in_flight:>10} {gathered:>15.2} {resident:>13.1} {kib_per_call:>13.1} {per_gib:>14.0} {answered:>8}  {}",
        match errors.is_empty() {
            true => "none".to_owned(),
            false => format!("{errors:?}"),
        }
    );
    report.add(json!({
        "bench": "concurrency", "shared": options.shared, "http2": http2, "calls": calls, "in_flight": in_flight,
        "all_in_after_seconds": gathered, "resident_mib": resident, "kib_per_call": kib_per_call,
        "instances_per_gib": per_gib, "answered": answered, "errors": errors,
    }));
    Ok(calls - answered)
}

/// One call that can be made.
enum Caller {
    Http1(Connection),
    Http2(SendRequest<Empty<Bytes>>),
}

impl Caller {
    /// Makes it; returns the status.
    async fn call(self, path: &'static str) -> anyhow::Result<u16> {
        match self {
            Self::Http1(mut connection) => Ok(connection.get(path).await?.0),
            Self::Http2(mut sender) => {
                let request = Request::get(format!("http://{HOST}{path}")).body(Empty::new())?;
                sender.ready().await?;
                let response = sender.send_request(request).await?;
                let status = response.status().as_u16();
                response.into_body().collect().await?;
                Ok(status)
            }
        }
    }
}

async fn connect_http1(address: SocketAddr, calls: usize) -> anyhow::Result<Vec<Caller>> {
    let connections = load::connect(address, HOST, calls).await?;
    Ok(connections.into_iter().map(Caller::Http1).collect())
}

async fn connect_http2(address: SocketAddr, calls: usize) -> anyhow::Result<Vec<Caller>> {
    let mut callers = Vec::with_capacity(calls);
    while callers.len() < calls {
        let stream = TcpStream::connect(address)
            .await
            .context("the server takes no more connections")?;
        stream.set_nodelay(true)?;
        let (sender, driver) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        let streams = (calls - callers.len()).min(STREAMS_PER_CONNECTION);
        callers.extend((0..streams).map(|_| Caller::Http2(sender.clone())));
    }
    Ok(callers)
}
