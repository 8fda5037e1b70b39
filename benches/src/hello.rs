//! The same hello from several servers, in turn, round by round.

use crate::process::{self, Server};
use crate::statistics::{Spread, micros, percentile};
use crate::{Paths, load};
use anyhow::Context;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
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
    /// Also write the figures to this file, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Smoke test: very short, only to see that everything runs and answers correctly
    #[arg(long)]
    smoke: bool,
}

struct Contender {
    name: &'static str,
    server: Rc<Server>,
    address: SocketAddr,
    host: String,
}

impl Contender {
    fn new(name: &'static str, server: Server, host: &str) -> anyhow::Result<Self> {
        Ok(Self {
            name,
            address: server.address("http://")?,
            server: Rc::new(server),
            host: host.to_owned(),
        })
    }
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
    let mut tables = Vec::new();
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
        tables.push(json_table(*connections, &contenders, &figures));
        print_table(*connections, &contenders, figures);
    }
    println!();
    for contender in contenders {
        let resident = contender.server.resident_mib()?;
        println!("{:<20} {resident:>8.1} MiB resident at the end", contender.name);
        // A server with two contenders ends with the last of them.
        if let Ok(server) = Rc::try_unwrap(contender.server) {
            server.stop().await?;
        }
    }
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&tables)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

async fn start(options: &Options, folder: &std::path::Path) -> anyhow::Result<Vec<Contender>> {
    let mut contenders = Vec::new();

    let mut native = Command::new(std::env::current_exe()?);
    native.arg("native-server");
    let native = Server::start(native, |line| line.contains("http://")).await?;
    contenders.push(Contender::new("native hyper", native, "localhost")?);
    if let Some(nginx) = nginx(folder).await {
        contenders.push(nginx);
    }
    if let Some(node) = node().await {
        contenders.push(node);
    }

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
        Ok(server) => contenders.push(Contender::new("wasmtime serve", server, "localhost")?),
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
    let component = component.display().to_string();
    let serial = service("hello-serial", &component).replace(
        "  template:\n",
        "  template:\n    metadata:\n      annotations:\n        kittiwake.dev/isolation: serial\n",
    );
    std::fs::write(&manifest, service("hello", &component) + &serial)?;
    process::client(
        &program,
        &data_dir,
        &["apply", "-f", &manifest.display().to_string()],
    )
    .await?;
    let (address, server) = (server.address("Functions")?, Rc::new(server));
    for (name, host) in [
        ("kittiwake", "hello.default.localhost"),
        ("kittiwake, serial", "hello-serial.default.localhost"),
    ] {
        contenders.push(Contender {
            name,
            address,
            server: Rc::clone(&server),
            host: host.into(),
        });
    }
    Ok(contenders)
}

/// nginx that answers the same text: one process, so that its CPU time can be read, and no access log.
async fn nginx(folder: &std::path::Path) -> Option<Contender> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .ok()?
        .local_addr()
        .ok()?
        .port();
    let prefix = folder.display();
    let config = folder.join("nginx.conf");
    let text = format!(
        "daemon off; master_process off; pid {prefix}/nginx.pid; error_log {prefix}/error.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; server {{ listen 127.0.0.1:{port};\n\
         location / {{ default_type 'text/plain; charset=utf-8'; return 200 'Hello World!\n'; }} }} }}\n"
    );
    std::fs::write(&config, text).ok()?;
    let mut command = Command::new("sh");
    let script = format!(
        "echo http://127.0.0.1:{port}/; exec nginx -p {prefix} -c {}",
        config.display()
    );
    command.args(["-c", &script]);
    left_out_if_missing("nginx, 1 process", "nginx", command, "-v").await
}

/// Node's http module, as in a container that teams run: one process.
async fn node() -> Option<Contender> {
    let mut command = Command::new("node");
    command.args([
        "-e",
        "const s = require('http').createServer((_, r) => { r.setHeader('content-type', 'text/plain; charset=utf-8'); \
         r.end('Hello World!\\n'); }); s.listen(0, '127.0.0.1', () => console.log('http://127.0.0.1:' + s.address().port + '/'));",
    ]);
    left_out_if_missing("node, 1 process", "node", command, "--version").await
}

async fn left_out_if_missing(
    name: &'static str,
    program: &str,
    command: Command,
    version: &str,
) -> Option<Contender> {
    let there = Command::new(program).arg(version).output().await.is_ok();
    if !there {
        eprintln!("{name} is left out: {program} is not installed");
        return None;
    }
    let server = Server::start(command, |line| line.contains("http://")).await;
    match server.and_then(|server| Contender::new(name, server, "localhost")) {
        Ok(contender) => Some(contender),
        Err(error) => {
            eprintln!("{name} is left out: {error:#}");
            None
        }
    }
}

/// One table as JSON: the medians and the spread of the rate.
fn json_table(connections: usize, contenders: &[Contender], figures: &[Figures]) -> serde_json::Value {
    let rows = contenders.iter().zip(figures).map(|(contender, figures)| {
        let rate = Spread::of(figures.rate.clone());
        serde_json::json!({
            "server": contender.name,
            "requests_per_second": {"median": rate.median, "least": rate.least, "most": rate.most},
            "p50_us": Spread::of(figures.p50.clone()).median,
            "p99_us": Spread::of(figures.p99.clone()).median,
            "p999_us": Spread::of(figures.p999.clone()).median,
            "cpu_us_per_request": Spread::of(figures.cpu.clone()).median,
        })
    });
    serde_json::json!({"connections": connections, "servers": rows.collect::<Vec<_>>()})
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
        "{:<20} {:>28} {:>10} {:>10} {:>10} {:>14} {:>10} {:>12}",
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
            "{:<20} {:>28} {:>10.0} {:>10.0} {:>10.0} {:>14.1} {:>10.2} {:>12.2}",
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
