//! `kittiwake-bench`: measurements that anyone can repeat. Each starts what it compares in one run, on one machine,
//! in turn, and prints ratios; none asserts a time. See docs/benchmarks.md for how to read them.

// The allocator and all else as in the product.
use kittiwake as _;

mod api;
mod call;
mod chart;
mod cold_start;
mod concurrency;
mod container;
mod dial;
mod elastic;
mod flood;
mod http;
mod instructions;
mod load;
mod native;
mod neighbours;
mod peers;
mod process;
mod programs;
mod registry;
mod report;
mod scale;
mod statistics;
mod suite;
mod workers;
mod workload;

use clap::{Parser, Subcommand};
use report::{Files, Report};
use std::path::PathBuf;
use std::time::Duration;

/// Measure Kittiwake beside its peers.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    files: Files,
}

#[derive(Subcommand)]
enum What {
    /// Throughput, latency and CPU per request of some kinds of work: Kittiwake and its peers, in turn
    #[command(visible_alias = "hello")]
    Http(http::Options),
    /// First calls: from the compiled artifact on disk, of a new Service, of a new process or container
    ColdStart(cold_start::Options),
    /// Many calls in flight that each wait 10 s: errors, memory, time until all are in
    Concurrency(concurrency::Options),
    /// A burst on a resident server at zero: time until each call has an instance of its own, memory, back to zero
    Elastic(elastic::Options),
    /// One function in this process, without a server around it: CPU and page faults per call
    Call(call::Options),
    /// Many deployed functions: idle memory, restart, and whether a busy one notices the others
    Scale(scale::Options),
    /// The API server alone with 40,000 objects and 200 watchers: writes, lists, deliveries, memory, restart
    Api(api::Options),
    /// What callers notice when a worker process is killed, and when all are replaced
    Workers(workers::Options),
    /// What a function notices of others that compute without end
    Neighbours(neighbours::Options),
    /// What a function notices of a flood on another one, and a hundred functions called at once
    Flood(flood::Options),
    /// Instructions of the hot path, compared with those on file
    Instructions(instructions::Options),
    /// What the access log costs, and what a second core gives
    Dial(dial::Options),
    /// Everything, with times that give figures to publish: about an hour
    All(suite::AllOptions),
    /// Everything, as short as can be: that it runs and answers rightly
    Smoke(suite::SmokeOptions),
    /// The native hyper server that others are compared with (started by `http`)
    #[command(hide = true)]
    NativeServer,
    /// An API server without the rest (started by `api`)
    #[command(hide = true)]
    ApiServer {
        /// Where its objects are
        file: PathBuf,
    },
}

/// Where the programs and files are; by default those of this checkout.
#[derive(clap::Args, Clone)]
pub struct Paths {
    /// The kittiwake program [default: beside this program]
    #[arg(long)]
    kittiwake: Option<PathBuf>,
    /// Worker processes of Kittiwake: `kittiwake up --workers N` [default: as it chooses]
    #[arg(long, value_name = "N")]
    workers: Option<u32>,
    /// The hello component
    #[arg(long, default_value = "examples/hello/hello.wasm")]
    component: PathBuf,
    /// The wasmtime program
    #[arg(long, default_value = "wasmtime")]
    wasmtime: PathBuf,
    /// The workerd program [default: that of `npm ci --prefix benches/peers`, else on the PATH]
    #[arg(long)]
    workerd: Option<PathBuf>,
}

/// Where npm puts the program itself, by processor; `node_modules/.bin` may have a script around it.
const WORKERD_OF_NPM: [&str; 2] = [
    "benches/peers/node_modules/@cloudflare/workerd-linux-64/bin/workerd",
    "benches/peers/node_modules/@cloudflare/workerd-linux-arm64/bin/workerd",
];

impl Paths {
    fn kittiwake(&self) -> anyhow::Result<PathBuf> {
        match &self.kittiwake {
            Some(path) => Ok(path.clone()),
            None => {
                let path = std::env::current_exe()?.with_file_name("kittiwake");
                anyhow::ensure!(
                    path.is_file(),
                    "{} is missing: run `cargo build --release -p kittiwake` first",
                    path.display()
                );
                Ok(path)
            }
        }
    }

    /// Flags for each `kittiwake up`.
    fn kittiwake_flags(&self) -> Vec<String> {
        let workers = self.workers.map(|workers| format!("--workers={workers}"));
        workers.into_iter().collect()
    }

    /// The workerd program, if there is one.
    fn workerd(&self) -> Option<PathBuf> {
        let candidates = match &self.workerd {
            Some(path) => vec![path.clone()],
            None => WORKERD_OF_NPM
                .iter()
                .chain(&["workerd"])
                .map(PathBuf::from)
                .collect(),
        };
        candidates.into_iter().find(|path| programs::installed(path))
    }
}

/// Reads a time in seconds, such as `0.5`.
fn seconds(text: &str) -> anyhow::Result<Duration> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    kittiwake::host_limits::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(cli))
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    if let What::NativeServer = cli.what {
        return native::serve().await;
    }
    if let What::ApiServer { file } = &cli.what {
        return api::serve(file).await;
    }
    let mut report = Report::start(cli.files)?;
    match cli.what {
        What::Http(options) => {
            peers::tell_what_is_missing(&options.paths);
            http::run(&options, &mut report).await?;
        }
        What::ColdStart(options) => cold_start::run(&options, &mut report).await?,
        What::Concurrency(options) => {
            concurrency::run(&options, &mut report).await?;
        }
        What::Elastic(options) => {
            elastic::run(&options, &mut report).await?;
        }
        What::Call(options) => call::run(&options, &mut report).await?,
        What::Scale(options) => scale::run(&options, &mut report).await?,
        What::Api(options) => api::run(&options, &mut report).await?,
        What::Workers(options) => workers::run(&options, &mut report).await?,
        What::Flood(options) => flood::run(&options, &mut report).await?,
        What::Neighbours(options) => neighbours::run(&options, &mut report).await?,
        What::Instructions(options) => instructions::run(&options, &mut report).await?,
        What::Dial(options) => dial::run(&options, &mut report).await?,
        What::All(options) => suite::all(options, &mut report).await?,
        What::Smoke(options) => suite::smoke(options, &mut report).await?,
        What::NativeServer | What::ApiServer { .. } => {}
    }
    report.finish()
}
