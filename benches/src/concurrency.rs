//! Many calls in flight, each waiting 10 s in an instance of its own: errors, memory, and how long it takes until all
//! of them are in.

use crate::Paths;
use crate::load::Connection;
use crate::peers::service;
use crate::process::{self, Server};
use anyhow::Context;
use kittiwake_testkit::guest;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Slots beyond the calls, for the instance that is started at deploy time.
const SPARE_SLOTS: usize = 16;
/// Connections that are made at one time.
const CONNECTING_MAX: usize = 64;
/// How long the waiting calls may take to be all there.
const GATHER_TIMEOUT: Duration = Duration::from_secs(9);

/// What to run.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    paths: Paths,
    /// Calls in flight; one server and one line each
    #[arg(long, value_delimiter = ',', default_value = "1000,5000,9000")]
    calls: Vec<usize>,
}

/// Runs each number of calls against a server of its own and prints a line.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let program = options.paths.kittiwake()?;
    println!(
        "{:>10} {:>12} {:>18} {:>14} {:>16} {:>8}  errors",
        "calls", "in flight", "all in after (s)", "resident MiB", "KiB per call", "200s"
    );
    for calls in options.calls {
        let folder = tempfile::tempdir()?;
        let component = folder.path().join("pause.wasm");
        std::fs::write(&component, guest::pause())?;
        let data_dir = folder.path().join("data");
        let slots = (calls + SPARE_SLOTS).to_string();
        let mut flags = vec!["--max-calls".to_owned(), slots];
        flags.extend(options.paths.kittiwake_flags());
        let server = process::kittiwake(&program, &data_dir, &flags).await?;
        let manifest = folder.path().join("pause.yaml");
        std::fs::write(&manifest, service("pause", &component.display().to_string()))?;
        process::apply(&program, &data_dir, &manifest).await?;
        measure(&server, calls).await?;
        server.stop().await?;
    }
    Ok(())
}

async fn measure(server: &Server, calls: usize) -> anyhow::Result<()> {
    let address = server.address("Functions")?;
    let connections = connect(address, calls).await?;
    // With its connections, without calls.
    let idle = server.resident_mib()?;
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for mut connection in connections {
        tasks.spawn(async move { connection.get("/").await.map(|(status, _)| status) });
    }
    let api = server.address("Kubernetes API")?;
    let mut in_flight = 0;
    while in_flight < calls && start.elapsed() < GATHER_TIMEOUT {
        tokio::time::sleep(Duration::from_millis(50)).await;
        in_flight = gauge(api, "kittiwake_gateway_in_flight").await?;
    }
    let gathered = start.elapsed();
    let resident = server.resident_mib()?;
    let (mut answered, mut errors) = (0_usize, BTreeMap::<String, usize>::new());
    while let Some(ended) = tasks.join_next().await {
        match ended? {
            Ok(200) => answered += 1,
            Ok(status) => *errors.entry(status.to_string()).or_default() += 1,
            Err(error) => *errors.entry(format!("{error:#}")).or_default() += 1,
        }
    }
    let per_call = (resident - idle) * 1024.0 / in_flight.max(1) as f64;
    println!(
        "{calls:>10} {in_flight:>12} {:>18.2} {resident:>14.1} {per_call:>16.1} {answered:>8}  {}",
        gathered.as_secs_f64(),
        if errors.is_empty() {
            "none".to_owned()
        } else {
            format!("{errors:?}")
        }
    );
    Ok(())
}

async fn connect(address: SocketAddr, count: usize) -> anyhow::Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(count);
    while connections.len() < count {
        let batch = (count - connections.len()).min(CONNECTING_MAX);
        let made = (0..batch).map(|_| Connection::open(address, "pause.default.localhost"));
        let made: Vec<_> = made.map(|open| tokio::spawn(open)).collect();
        for connection in made {
            connections.push(
                connection
                    .await?
                    .context("the server takes no more connections")?,
            );
        }
    }
    Ok(connections)
}

/// A gauge without labels, from the server's metrics.
async fn gauge(api: SocketAddr, name: &str) -> anyhow::Result<usize> {
    let (_, body) = Connection::open(api, "127.0.0.1").await?.get("/metrics").await?;
    let text = String::from_utf8_lossy(&body);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value: f64 = line.context("the gauge is missing")?.parse()?;
    Ok(value as usize)
}
