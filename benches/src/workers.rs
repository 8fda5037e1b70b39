//! What callers notice when a worker process is killed, and when all of them are replaced while calls come.

use crate::Paths;
use crate::load::{self, Connection};
use crate::peers::service;
use crate::process::{self, Server};
use crate::report::Report;
use crate::statistics::{micros, percentile};
use crate::workload::{Call, Work};
use anyhow::{Context, ensure};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::process::Command;
use tokio::task::JoinSet;

/// Callers; each makes a connection for each call, so that all sockets are met.
const CALLERS: usize = 8;
/// Load before and after what is done to the workers.
const QUIET: Duration = Duration::from_millis(500);
/// Longest wait until all workers take calls again.
const BACK_TIMEOUT: Duration = Duration::from_secs(120);

/// What to run.
#[derive(clap::Args, Clone)]
pub struct Options {
    #[command(flatten)]
    pub paths: Paths,
    /// How often a worker is killed, and how often all are replaced
    #[arg(long, default_value_t = 10)]
    pub rounds: usize,
}

/// Calls of one event.
#[derive(Default)]
struct Seen {
    answered: usize,
    /// Calls that got no answer, with why.
    failed: Vec<String>,
    /// Time of each call, connecting included.
    took: Vec<Duration>,
}

/// Measures both events and prints a line for each.
pub async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let program = options.paths.kittiwake()?;
    let folder = tempfile::tempdir()?;
    let data_dir = folder.path().join("data");
    let workers = options.paths.workers.unwrap_or(4);
    let flags = [format!("--workers={workers}")];
    let server = process::kittiwake(&program, &data_dir, &flags).await?;
    let manifest = folder.path().join("hello.yaml");
    let component = options
        .paths
        .component
        .canonicalize()
        .context("no such component")?;
    std::fs::write(&manifest, service("hello", &component.display().to_string()))?;
    process::apply(&program, &data_dir, &manifest).await?;

    println!("\n{workers} workers, {CALLERS} callers that make a connection for each call");
    println!(
        "{:<44} {:>7} {:>10} {:>8} {:>10} {:>16} {:>14}",
        "", "times", "answered", "failed", "p50 µs", "longest ms, p50", "longest ms"
    );
    for (what, event) in [("killed", Event::Kill), ("replaced", Event::Replace)] {
        let (mut all, mut longest) = (Seen::default(), Vec::new());
        for _ in 0..options.rounds {
            let seen = observe(&server, workers, event).await?;
            longest.push(seen.took.iter().max().copied().unwrap_or_default());
            all.answered += seen.answered;
            all.failed.extend(seen.failed);
            all.took.extend(seen.took);
        }
        longest.sort_unstable();
        all.took.sort_unstable();
        let millis = |percent| micros(percentile(&longest, percent)) / 1000.0;
        let label = match event {
            Event::Kill => "one worker killed (SIGKILL)",
            Event::Replace => "program and all workers replaced (SIGUSR2)",
        };
        println!(
            "{label:<44} {:>7} {:>10} {:>8} {:>10.0} {:>16.1} {:>14.1}",
            options.rounds,
            all.answered,
            all.failed.len(),
            micros(percentile(&all.took, 50.0)),
            millis(50.0),
            millis(100.0)
        );
        for why in all.failed.iter().take(3) {
            println!("    {why}");
        }
        report.add(json!({
            "bench": "workers", "event": what, "times": options.rounds, "answered": all.answered,
            "failed": all.failed.len(), "longest_ms_p50": millis(50.0), "longest_ms": millis(100.0),
        }));
    }
    server.stop().await
}

#[derive(Clone, Copy)]
enum Event {
    /// One worker is killed; calls that it had are lost.
    Kill,
    /// The platform goes over to the program on disk.
    Replace,
}

async fn observe(server: &Server, workers: u32, event: Event) -> anyhow::Result<Seen> {
    let (address, api) = (server.address("Functions")?, server.address("Kubernetes API")?);
    let ended = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(call_again_and_again(
            address,
            Work::Hello.call(),
            Arc::clone(&ended),
        ));
    }
    tokio::time::sleep(QUIET).await;
    let before = children(server.id()?).await?;
    let victims = match event {
        Event::Kill => {
            let victim = *before.first().context("there is no worker")?;
            signal("-KILL", victim).await?;
            vec![victim]
        }
        Event::Replace => {
            signal("-USR2", server.id()?).await?;
            before.clone()
        }
    };
    let deadline = Instant::now() + BACK_TIMEOUT;
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = children(server.id()?).await?;
        let all_new = now.len() == before.len() && victims.iter().all(|victim| !now.contains(victim));
        if all_new && load::metric(api, "kittiwake_workers_ready").await.unwrap_or(0.0) >= f64::from(workers)
        {
            break;
        }
        ensure!(Instant::now() < deadline, "the workers did not come back");
    }
    tokio::time::sleep(QUIET).await;
    ended.store(true, Ordering::Relaxed);
    let mut all = Seen::default();
    for seen in callers.join_all().await {
        all.answered += seen.answered;
        all.failed.extend(seen.failed);
        all.took.extend(seen.took);
    }
    Ok(all)
}

async fn call_again_and_again(address: SocketAddr, call: Call, ended: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    while !ended.load(Ordering::Relaxed) {
        let start = Instant::now();
        let answer = async {
            let mut connection = Connection::open(address, "hello.default.localhost").await?;
            connection.call(&call).await
        };
        match answer.await {
            Ok(_) => seen.answered += 1,
            Err(error) => seen.failed.push(format!("{error:#}")),
        }
        seen.took.push(start.elapsed());
    }
    seen
}

/// The workers that a process has started; one that only waits has another name.
async fn children(process: u32) -> anyhow::Result<Vec<u32>> {
    let output = Command::new("pgrep")
        .args(["-x", "kittiwake", "-P", &process.to_string()])
        .output()
        .await?;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    listed.split_whitespace().map(|id| Ok(id.parse()?)).collect()
}

async fn signal(name: &str, process: u32) -> anyhow::Result<()> {
    let status = Command::new("kill")
        .args([name, &process.to_string()])
        .status()
        .await?;
    ensure!(status.success(), "kill {name} {process} failed");
    Ok(())
}
