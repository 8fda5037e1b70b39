//! Calls that compute without end, and what others notice of them: guests are made to yield every few milliseconds, so
//! one that computes may slow its neighbours down but not hold them up.

use crate::Paths;
use crate::load::{self, Connection};
use crate::peers::service;
use crate::process;
use crate::report::Report;
use crate::statistics::{micros, percentile};
use crate::workload::Work;
use anyhow::Context;
use kittiwake_testkit::guest;
use serde_json::json;
use std::time::Duration;
use tokio::task::JoinSet;

/// Connections of the function that is measured.
const CONNECTIONS: usize = 4;

/// What to run.
#[derive(clap::Args, Clone)]
pub struct Options {
    #[command(flatten)]
    pub paths: Paths,
    /// Computing calls at one time, one line each
    #[arg(long, value_delimiter = ',', default_value = "0,1,2,8")]
    pub computing: Vec<usize>,
    /// Seconds of load beside them
    #[arg(long, value_parser = crate::seconds, default_value = "4")]
    pub seconds: Duration,
}

/// Measures beside each number of computing calls and prints a line.
pub async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let program = options.paths.kittiwake()?;
    let folder = tempfile::tempdir()?;
    let data_dir = folder.path().join("data");
    let spin = folder.path().join("spin.wasm");
    std::fs::write(&spin, guest::spin())?;
    let hello = options
        .paths
        .component
        .canonicalize()
        .context("no such component")?;
    // It ends by its time limit, a moment after the load beside it.
    let limit = options.seconds.as_secs() + 2;
    let spinning = service("spin", &spin.display().to_string()).replace(
        "      containers:",
        &format!("      timeoutSeconds: {limit}\n      containers:"),
    );
    let manifest = folder.path().join("both.yaml");
    std::fs::write(
        &manifest,
        spinning + &service("hello", &hello.display().to_string()),
    )?;
    let server = process::kittiwake(&program, &data_dir, &options.paths.kittiwake_flags()).await?;
    process::apply(&program, &data_dir, &manifest).await?;
    let address = server.address("Functions")?;

    println!("\nhello over {CONNECTIONS} connections beside calls that compute without end");
    println!(
        "{:>10} {:>14} {:>10} {:>10} {:>10}",
        "computing", "requests/s", "p50 µs", "p99 µs", "p99.9 µs"
    );
    for computing in &options.computing {
        let mut busy = JoinSet::new();
        for _ in 0..*computing {
            let mut connection = Connection::open(address, "spin.default.localhost").await?;
            busy.spawn(async move { connection.get("/").await });
        }
        let run = load::closed_loop(
            address,
            "hello.default.localhost",
            &Work::Hello.call(),
            CONNECTIONS,
            options.seconds,
        )
        .await?;
        let at = |percent| micros(percentile(&run.latencies, percent));
        println!(
            "{computing:>10} {:>14.0} {:>10.0} {:>10.0} {:>10.0}",
            run.requests_per_second,
            at(50.0),
            at(99.0),
            at(99.9)
        );
        report.add(json!({
            "bench": "neighbours", "computing": computing, "requests_per_second": run.requests_per_second,
            "p50_us": at(50.0), "p99_us": at(99.0), "p999_us": at(99.9),
        }));
        // Each ends with 504 at its time limit.
        busy.join_all().await;
    }
    server.stop().await
}
