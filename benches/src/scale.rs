//! Many deployed functions: what they cost while nobody calls them, how soon a restarted server has them all again, and
//! whether one that is called notices the others.

use crate::Paths;
use crate::chart::{Bar, Chart, Group};
use crate::load::{self, Connection};
use crate::process::{self, Server};
use crate::report::Report;
use crate::statistics::{Spread, micros, percentile};
use crate::workload::Work;
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Connections of the busy function.
const CONNECTIONS: usize = 16;
/// Clients that create Services at one time.
const CREATING: usize = 8;
/// How long the platform may take until it serves all of them.
const READY_TIMEOUT: Duration = Duration::from_secs(1800);
/// Pause between two looks whether it does.
const GLANCE: Duration = Duration::from_millis(5);
/// A restarted server is at rest when it used less CPU time than `REST_CPU_MICROS` in `REST_PERIOD`.
const REST_PERIOD: Duration = Duration::from_secs(1);
const REST_CPU_MICROS: f64 = 50_000.0;
/// Where Services are created.
const SERVICES: &str = "/apis/serving.knative.dev/v1/namespaces/default/services";
/// Functions that are called once, spread over all.
const SAMPLE: usize = 500;

/// What to run.
#[derive(clap::Args, Clone)]
pub struct Options {
    #[command(flatten)]
    pub paths: Paths,
    /// Functions; one server and one line each
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000,10000")]
    pub functions: Vec<usize>,
    /// Seconds of load on one of them
    #[arg(long, value_parser = crate::seconds, default_value = "5")]
    pub seconds: Duration,
}

/// Figures of one number of functions.
struct Row {
    functions: usize,
    deploy_seconds: f64,
    restart_seconds: f64,
    settled_seconds: f64,
    idle_mib: f64,
    first_p50: f64,
    first_p99: f64,
    busy_rate: f64,
    busy_p50: f64,
    busy_p99: f64,
}

/// Measures each number of functions and prints a line.
pub async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    println!(
        "\nDeployed functions, at zero after a restart; one of them called over {CONNECTIONS} connections"
    );
    println!(
        "{:>10} {:>13} {:>15} {:>10} {:>10} {:>13} {:>13} {:>13} {:>11} {:>12} {:>12}",
        "functions",
        "deployed in s",
        "all served in s",
        "at rest in s",
        "idle MiB",
        "KiB/function",
        "first p50 µs",
        "first p99 µs",
        "busy req/s",
        "busy p50 µs",
        "busy p99 µs"
    );
    let mut rows: Vec<Row> = Vec::new();
    for functions in &options.functions {
        let row = measure(options, *functions).await?;
        let base = rows.first().map_or(row.idle_mib, |first| first.idle_mib);
        println!(
            "{:>10} {:>13.1} {:>15.2} {:>10.1} {:>10.1} {:>13.1} {:>13.0} {:>13.0} {:>11.0} {:>12.0} {:>12.0}",
            row.functions,
            row.deploy_seconds,
            row.restart_seconds,
            row.settled_seconds,
            row.idle_mib,
            (row.idle_mib - base) * 1024.0 / row.functions as f64,
            row.first_p50,
            row.first_p99,
            row.busy_rate,
            row.busy_p50,
            row.busy_p99,
        );
        report.add(json(&row));
        rows.push(row);
    }
    if let (Some(few), Some(many)) = (rows.first(), rows.last()) {
        println!(
            "p99 of the busy one with {} functions, over that with {}: {:.2} (target 1.2)",
            many.functions,
            few.functions,
            many.busy_p99 / few.busy_p99
        );
    }
    report.draw("scale", &chart(&rows))
}

fn json(row: &Row) -> Value {
    json!({
        "bench": "scale", "functions": row.functions, "deploy_seconds": row.deploy_seconds,
        "restart_seconds": row.restart_seconds, "settled_seconds": row.settled_seconds, "idle_mib": row.idle_mib, "first_p50_us": row.first_p50,
        "first_p99_us": row.first_p99, "busy_requests_per_second": row.busy_rate, "busy_p50_us": row.busy_p50,
        "busy_p99_us": row.busy_p99,
    })
}

async fn measure(options: &Options, functions: usize) -> anyhow::Result<Row> {
    let program = options.paths.kittiwake()?;
    let component = options
        .paths
        .component
        .canonicalize()
        .context("no such component")?;
    let folder = tempfile::tempdir()?;
    let data_dir = folder.path().join("data");
    let flags = options.paths.kittiwake_flags();

    let server = process::kittiwake(&program, &data_dir, &flags).await?;
    let start = Instant::now();
    create(server.address("Kubernetes API")?, functions, &component).await?;
    wait_until_served(server.address("Functions")?, functions).await?;
    let deploy_seconds = start.elapsed().as_secs_f64();
    server.stop().await?;

    let start = Instant::now();
    let server = process::kittiwake(&program, &data_dir, &flags).await?;
    wait_until_served(server.address("Functions")?, functions).await?;
    let restart_seconds = start.elapsed().as_secs_f64();
    come_to_rest(&server).await?;
    let settled_seconds = start.elapsed().as_secs_f64();
    let idle_mib = server.resident_mib()?;
    let (first, busy) = call(options, &server, functions).await?;
    server.stop().await?;
    let at = |samples: &[Duration], percent| micros(percentile(samples, percent));
    Ok(Row {
        functions,
        deploy_seconds,
        restart_seconds,
        settled_seconds,
        idle_mib,
        first_p50: at(&first, 50.0),
        first_p99: at(&first, 99.0),
        busy_rate: busy.requests_per_second,
        busy_p50: at(&busy.latencies, 50.0),
        busy_p99: at(&busy.latencies, 99.0),
    })
}

/// Waits until the server has looked at everything once and does nothing any more.
async fn come_to_rest(server: &Server) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        let before = server.cpu_micros()?;
        tokio::time::sleep(REST_PERIOD).await;
        if server.cpu_micros()? - before < REST_CPU_MICROS {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the server never comes to rest");
    }
}

/// First calls of some functions, sorted, then load on one.
async fn call(
    options: &Options,
    server: &Server,
    functions: usize,
) -> anyhow::Result<(Vec<Duration>, load::Run)> {
    let (address, hello) = (server.address("Functions")?, Work::Hello.call());
    let mut first = Vec::new();
    for index in (0..functions).step_by(functions.div_ceil(SAMPLE)) {
        first.push(
            Connection::open(address, &host(index))
                .await?
                .call(&hello)
                .await?,
        );
    }
    first.sort_unstable();
    let host = host(functions / 2);
    let busy = load::closed_loop(address, &host, &hello, CONNECTIONS, options.seconds).await?;
    Ok((first, busy))
}

fn name(index: usize) -> String {
    format!("hello-{index}")
}

fn host(index: usize) -> String {
    format!("{}.default.localhost", name(index))
}

/// Creates the Services, all with one image.
async fn create(api: SocketAddr, functions: usize, component: &Path) -> anyhow::Result<()> {
    let mut creating = JoinSet::new();
    for part in 0..CREATING {
        let path = component.display().to_string();
        creating.spawn(async move {
            let mut connection = Connection::open(api, "127.0.0.1").await?;
            for index in (part..functions).step_by(CREATING) {
                let service = json!({
                    "apiVersion": "serving.knative.dev/v1",
                    "kind": "Service",
                    "metadata": {"name": name(index)},
                    "spec": {"template": {"spec": {"containers": [{"image": format!("file://{path}")}]}}},
                });
                let (status, body) = connection.post(SERVICES, &service).await?;
                ensure!(status == 201, "{status}: {}", String::from_utf8_lossy(&body));
            }
            anyhow::Ok(())
        });
    }
    for created in creating.join_all().await {
        created?;
    }
    Ok(())
}

/// Waits until the gateway has a ready revision for each; asks it as Knative's activator would, which calls none.
async fn wait_until_served(address: SocketAddr, functions: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    let mut connection = Connection::open(address, "localhost").await?;
    for index in 0..functions {
        while connection.probe(&host(index)).await? != 200 {
            ensure!(
                Instant::now() < deadline,
                "{} is not served after {READY_TIMEOUT:?}",
                name(index)
            );
            tokio::time::sleep(GLANCE).await;
        }
    }
    Ok(())
}

fn chart(rows: &[Row]) -> Chart {
    let bar = |row: &Row| Bar {
        label: format!("{} functions", row.functions),
        spread: Spread::of(vec![row.idle_mib]),
        ours: true,
    };
    Chart {
        title: "Memory of deployed functions that nobody calls".to_owned(),
        unit: "MiB resident after a restart, less is better".to_owned(),
        groups: vec![Group {
            name: String::new(),
            bars: rows.iter().map(bar).collect(),
        }],
    }
}
