//! A flood on one function while another one is called as before, and a hundred functions at once: whether one notices
//! the others. The flood is a closed loop of ever more connections, so the platform is always full; the other function
//! is asked at a fixed rate, and its latency is from when each call was due.

use crate::Paths;
use crate::load::{self, Run};
use crate::peers::service;
use crate::process;
use crate::report::Report;
use crate::statistics::{micros, percentile};
use crate::workload::{Call, Work};
use anyhow::Context;
use kittiwake_testkit::guest;
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;

/// Connections of the function that is measured: enough that none has to wait for another at its rate.
const CONNECTIONS: usize = 32;
/// The hosts.
const FLOODED: &str = "flooded.default.localhost";
const OTHER: &str = "other.default.localhost";

/// What to run.
#[derive(clap::Args, Clone)]
pub struct Options {
    #[command(flatten)]
    pub paths: Paths,
    /// Connections that flood the one function, one line each
    #[arg(long, value_delimiter = ',', default_value = "0,16,256,2000")]
    pub connections: Vec<usize>,
    /// Calls per second to the other function
    #[arg(long, default_value = "200")]
    pub rate: f64,
    /// Seconds of load
    #[arg(long, value_parser = crate::seconds, default_value = "5")]
    pub seconds: Duration,
    /// Functions that are called at once, a part of them waiting, a part computing
    #[arg(long, default_value = "120")]
    pub functions: usize,
}

/// Measures beside each flood, then many functions, and prints lines.
pub async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let program = options.paths.kittiwake()?;
    let folder = tempfile::tempdir()?;
    let data_dir = folder.path().join("data");
    let component = options.paths.component.canonicalize();
    let hello = component.context("no such component")?.display().to_string();
    let pause = folder.path().join("pause.wasm");
    std::fs::write(&pause, guest::delayed())?;
    let pause = pause.display().to_string();
    let fib = folder.path().join("fib.wasm");
    std::fs::write(&fib, guest::fib())?;
    let fib = fib.display().to_string();
    let mut services = service("flooded", &hello) + &service("other", &hello) + &service("napping", &pause);
    for (index, image) in [&hello, &pause, &fib]
        .into_iter()
        .cycle()
        .take(options.functions)
        .enumerate()
    {
        services += &service(&format!("mixed-{index}"), image);
    }
    let manifest = folder.path().join("services.yaml");
    std::fs::write(&manifest, services)?;
    let server = process::kittiwake(&program, &data_dir, &options.paths.kittiwake_flags()).await?;
    process::apply(&program, &data_dir, &manifest).await?;
    let address = server.address("Functions")?;

    println!(
        "\n{} calls/s to one function beside a flood on another: short calls, and calls that wait 50 ms",
        options.rate
    );
    println!(
        "{:>10} {:>12} {:>14} {:>10} {:>10} {:>10}",
        "flood", "connections", "flood req/s", "p50 µs", "p99 µs", "p99.9 µs"
    );
    let late = Call::get("/", b"late\n");
    for (flood, host, call) in [
        ("short", FLOODED, Work::Hello.call()),
        ("waiting", "napping.default.localhost", late.clone()),
    ] {
        for connections in &options.connections {
            let (flooded, other) = beside(options, address, host, &call, *connections).await?;
            let at = |percent| micros(percentile(&other.latencies, percent));
            println!(
                "{flood:>10} {connections:>12} {flooded:>14.0} {:>10.0} {:>10.0} {:>10.0}",
                at(50.0),
                at(99.0),
                at(99.9)
            );
            report.add(json!({
                "bench": "flood", "flood": flood, "connections": connections, "flood_requests_per_second": flooded,
                "p50_us": at(50.0), "p99_us": at(99.0), "p999_us": at(99.9),
            }));
        }
    }
    mixed(options, address, &late, report).await?;
    server.stop().await
}

/// The rate that the flood reached, and the run beside it.
async fn beside(
    options: &Options,
    address: SocketAddr,
    host: &str,
    call: &Call,
    connections: usize,
) -> anyhow::Result<(f64, Run)> {
    let hello = Work::Hello.call();
    let other = load::open_loop(address, OTHER, &hello, CONNECTIONS, options.seconds, options.rate);
    if connections == 0 {
        return Ok((0.0, other.await?));
    }
    let flood = load::closed_loop(address, host, call, connections, options.seconds);
    let (flood, other) = tokio::try_join!(flood, other)?;
    Ok((flood.requests_per_second, other))
}

/// All functions called at once, each over a connection of its own.
async fn mixed(
    options: &Options,
    address: SocketAddr,
    late: &Call,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    for index in 0..options.functions {
        let (kind, call) = match index % 3 {
            0 => ("short", Work::Hello.call()),
            1 => ("waiting", late.clone()),
            _ => ("computing", Work::Fib.call()),
        };
        let (host, seconds) = (format!("mixed-{index}.default.localhost"), options.seconds);
        tasks.spawn(async move {
            let run = load::closed_loop(address, &host, &call, 1, seconds).await?;
            anyhow::Ok((kind, run))
        });
    }
    let mut by_kind = std::collections::BTreeMap::<&str, (u64, Vec<Duration>)>::new();
    for ended in tasks.join_all().await {
        let (kind, run) = ended?;
        let (requests, latencies) = by_kind.entry(kind).or_default();
        *requests += run.requests;
        latencies.extend(run.latencies);
    }
    println!(
        "\n{} functions called at once, a third each short, waiting 50 ms, computing fib(27); none failed",
        options.functions
    );
    println!(
        "{:>10} {:>12} {:>10} {:>10} {:>10}",
        "kind", "requests/s", "p50 µs", "p99 µs", "p99.9 µs"
    );
    for (kind, (requests, mut latencies)) in by_kind {
        latencies.sort_unstable();
        let at = |percent| micros(percentile(&latencies, percent));
        let rate = requests as f64 / options.seconds.as_secs_f64();
        println!(
            "{kind:>10} {rate:>12.0} {:>10.0} {:>10.0} {:>10.0}",
            at(50.0),
            at(99.0),
            at(99.9)
        );
        report.add(json!({
            "bench": "mixed", "functions": options.functions, "kind": kind, "requests_per_second": rate,
            "p50_us": at(50.0), "p99_us": at(99.0), "p999_us": at(99.9),
        }));
    }
    Ok(())
}
