//! The same hello from three servers, in turn, round by round.

use crate::process::{self, Server};
use crate::statistics::{Spread, micros, percentile};
use crate::{Paths, load};
use anyhow::Context;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::process::Command;

/// What to run.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    paths: Paths,
    /// The wasmtime program (cargo install wasmtime-cli --version 48.0.8 --locked)
    #[arg(long, default_value = "wasmtime")]
    wasmtime: PathBuf,
    /// Connections, one table each
    #[arg(long, value_delimiter = ',', default_value = "1,64")]
    connections: Vec<usize>,
    /// Rounds; each serves from every server once
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load for each server in each round
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Smoke test: very short, only to see that everything runs and answers correctly
    #[arg(long)]
    smoke: bool,
}

struct Contender {
    name: &'static str,
    server: Server,
    address: SocketAddr,
    host: String,
}

/// Figures of one server over the rounds.
#[derive(Default)]
struct Figures {
    rate: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    p999: Vec<f64>,
    cpu: Vec<f64>,
}

/// Starts the servers and prints a table for each number of connections.
pub async fn run(mut options: Options) -> anyhow::Result<()> {
    if options.smoke {
        options.rounds = 1;
        options.seconds = 1;
    }
    let folder = tempfile::tempdir()?;
    let contenders = start(&options, folder.path()).await?;
    println!(
        "Same machine, same run, client on the same cores; {} rounds of {} s each.",
        options.rounds, options.seconds
    );
    for connections in &options.connections {
        let mut figures: Vec<Figures> = contenders.iter().map(|_| Figures::default()).collect();
        for _ in 0..options.rounds {
            for (contender, figures) in contenders.iter().zip(&mut figures) {
                measure(
                    contender,
                    *connections,
                    Duration::from_secs(options.seconds),
                    figures,
                )
                .await?;
            }
        }
        print_table(*connections, &contenders, figures);
    }
    for contender in contenders {
        println!(
            "{:<16} {:>8.1} MiB resident at the end",
            contender.name,
            contender.server.resident_mib()?
        );
        contender.server.stop().await?;
    }
    Ok(())
}

async fn start(options: &Options, folder: &std::path::Path) -> anyhow::Result<Vec<Contender>> {
    let mut contenders = Vec::new();

    let mut native = Command::new(std::env::current_exe()?);
    native.arg("native-server");
    let native = Server::start(native, |line| line.contains("http://")).await?;
    contenders.push(Contender {
        name: "native hyper",
        address: native.address("http://")?,
        server: native,
        host: "localhost".into(),
    });

    // The best settings of wasmtime serve: pooled slots that are kept resident, of which only dirty pages are reset.
    // Its default of a fresh instance for each request is what Kittiwake does as well.
    let mut wasmtime = Command::new(&options.wasmtime);
    wasmtime
        .args([
            "serve",
            "-S",
            "cli",
            "-O",
            "pooling-allocator=y",
            "-O",
            "memory-init-cow=y",
        ])
        .args([
            "-O",
            "pooling-memory-keep-resident=1048576",
            "-O",
            "pooling-table-keep-resident=1048576",
            "-O",
            "pooling-pagemap-scan=auto",
        ])
        .args(["--addr", "127.0.0.1:0"])
        .arg(&options.paths.component);
    match Server::start(wasmtime, |line| line.contains("http://")).await {
        Ok(server) => {
            contenders.push(Contender {
                name: "wasmtime serve",
                address: server.address("http://")?,
                server,
                host: "localhost".into(),
            });
        }
        Err(error) => eprintln!("wasmtime serve is left out: {error:#}"),
    }

    let program = options.paths.kittiwake()?;
    let component = options
        .paths
        .component
        .canonicalize()
        .context("no hello component")?;
    let data_dir = folder.join("data");
    let server = process::kittiwake(&program, &data_dir).await?;
    let manifest = folder.join("hello.yaml");
    std::fs::write(&manifest, service("hello", &component.display().to_string()))?;
    process::client(
        &program,
        &data_dir,
        &["apply", "-f", &manifest.display().to_string()],
    )
    .await?;
    let address = server.address("Functions")?;
    contenders.push(Contender {
        name: "kittiwake",
        address,
        server,
        host: "hello.default.localhost".into(),
    });
    Ok(contenders)
}

/// A Service whose image is a file.
pub fn service(name: &str, path: &str) -> String {
    format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  template:\n    spec:\n      \
         containers:\n        - image: file://{path}\n---\n"
    )
}

async fn measure(
    contender: &Contender,
    connections: usize,
    duration: Duration,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let before = contender.server.cpu_seconds()?;
    let run = load::closed_loop(contender.address, &contender.host, connections, duration)
        .await
        .with_context(|| contender.name)?;
    let cpu = contender.server.cpu_seconds()? - before;
    figures.rate.push(run.requests_per_second);
    figures.p50.push(micros(percentile(&run.latencies, 50.0)));
    figures.p99.push(micros(percentile(&run.latencies, 99.0)));
    figures.p999.push(micros(percentile(&run.latencies, 99.9)));
    figures.cpu.push(cpu * 1e6 / run.requests.max(1) as f64);
    Ok(())
}

fn print_table(connections: usize, contenders: &[Contender], figures: Vec<Figures>) {
    println!("\n{connections} connection(s), median [least – most] over the rounds");
    println!(
        "{:<16} {:>28} {:>10} {:>10} {:>10} {:>14} {:>10} {:>12}",
        "", "requests/s", "p50 µs", "p99 µs", "p99.9 µs", "CPU µs/request", "× native", "× wasmtime"
    );
    let rates: Vec<f64> = figures
        .iter()
        .map(|figures| Spread::of(figures.rate.clone()).median)
        .collect();
    let rate_of = |name: &str| {
        let found = contenders
            .iter()
            .zip(&rates)
            .find(|(contender, _)| contender.name == name);
        found.map_or(f64::NAN, |(_, rate)| *rate)
    };
    for (contender, figures) in contenders.iter().zip(figures) {
        let rate = Spread::of(figures.rate);
        println!(
            "{:<16} {:>28} {:>10.0} {:>10.0} {:>10.0} {:>14.1} {:>10.2} {:>12.2}",
            contender.name,
            format!("{:.0} [{:.0} – {:.0}]", rate.median, rate.least, rate.most),
            Spread::of(figures.p50).median,
            Spread::of(figures.p99).median,
            Spread::of(figures.p999).median,
            Spread::of(figures.cpu).median,
            rate.median / rate_of("native hyper"),
            rate.median / rate_of("wasmtime serve"),
        );
    }
}
