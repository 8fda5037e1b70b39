//! `kittiwake-bench`: measurements that anyone can repeat. Each starts what it compares in one run, on one machine,
//! in turn, and prints ratios; none asserts a time. See docs/benchmarks.md for how to read them.

// The allocator and all else as in the product.
use kittiwake as _;

mod call;
mod cold_start;
mod concurrency;
mod hello;
mod load;
mod native;
mod process;
mod statistics;

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Measure Kittiwake beside its peers.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Throughput, latency and CPU per request of the hello component: Kittiwake, wasmtime serve, native hyper
    Hello(hello::Options),
    /// First call of a revision at zero whose compiled artifact is on disk
    ColdStart(cold_start::Options),
    /// Many calls in flight that each wait 10 s: errors, memory, time until all are in
    Concurrency(concurrency::Options),
    /// One function in this process, without a server around it: CPU and page faults per call
    Call(call::Options),
    /// The native hyper server that others are compared with (started by `hello`)
    #[command(hide = true)]
    NativeServer,
}

/// Where the programs and files are; by default those of this checkout.
#[derive(clap::Args, Clone)]
struct Paths {
    /// The kittiwake program [default: beside this program]
    #[arg(long)]
    kittiwake: Option<PathBuf>,
    /// The hello component
    #[arg(long, default_value = "examples/hello/hello.wasm")]
    component: PathBuf,
}

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
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match cli.what {
            What::Hello(options) => hello::run(options).await,
            What::ColdStart(options) => cold_start::run(options).await,
            What::Concurrency(options) => concurrency::run(options).await,
            What::Call(options) => call::run(options).await,
            What::NativeServer => native::serve().await,
        }
    })
}
