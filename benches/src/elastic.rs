//! From zero to a thousand resident instances, and back: a burst of calls to a server that takes one at a time and has no
//! instance, each of which the server answers late, so that every call needs an instance of its own.

use crate::Paths;
use crate::load::{self, Connection};
use crate::peers::service;
use crate::process::{self, Server};
use crate::report::Report;
use crate::statistics::percentile;
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// The server, which listens by itself and stays.
const SERVER: &str = "examples/wasmedge-server/wasmedge-server.wasm";
/// Its virtual host.
const HOST: &str = "elastic.default.localhost";
/// What says how many instances there are.
const SCALE: &str =
    "/apis/autoscaling.internal.knative.dev/v1alpha1/namespaces/default/podautoscalers/elastic-00001";
/// Slots beyond the instances, for the one that is started at deploy time.
const SPARE_SLOTS: usize = 16;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(25);
/// How long the last instance may take to go.
const TO_ZERO_TIMEOUT: Duration = Duration::from_secs(120);
/// Deciding averages over this, as short as Knative allows, and what the last instance waits for.
const WINDOW: &str = "6s";
const GRACE: &str = "6s";

/// What to run.
#[derive(clap::Args, Clone)]
pub struct Options {
    #[command(flatten)]
    pub paths: Paths,
    /// Calls that come at once, and instances that are needed; one server and one line each
    #[arg(long, value_delimiter = ',', default_value = "1000")]
    pub instances: Vec<usize>,
    /// Seconds after which the server answers; must be longer than it takes until all instances are there
    #[arg(long, value_parser = crate::seconds, default_value = "20")]
    pub delay: Duration,
}

/// What one burst came to.
struct Burst {
    /// What each answered call took beyond the server's delay, sorted.
    waits: Vec<Duration>,
    errors: BTreeMap<String, usize>,
    /// The most instances that were ready at a time, and when that was first said.
    ready: usize,
    ready_after: Duration,
    idle_mib: f64,
    resident_mib: f64,
    to_zero: Duration,
}

/// Runs each burst against a server of its own and prints a line. Returns how many calls got no answer.
pub async fn run(options: &Options, report: &mut Report) -> anyhow::Result<usize> {
    let program = options.paths.kittiwake()?;
    println!(
        "\nA burst of calls to a resident server at zero; each call holds an instance for {} s; window {WINDOW}, grace {GRACE}",
        options.delay.as_secs_f64()
    );
    println!(
        "{:>8} {:>12} {:>12} {:>8} {:>15} {:>13} {:>17} {:>14}  errors",
        "calls",
        "wait p50 ms",
        "wait p99 ms",
        "ready",
        "ready after s",
        "resident MiB",
        "KiB per instance",
        "to zero in s"
    );
    let mut unanswered = 0;
    for instances in &options.instances {
        let folder = tempfile::tempdir()?;
        let data_dir = folder.path().join("data");
        let mut flags = vec!["--max-calls".to_owned(), (instances + SPARE_SLOTS).to_string()];
        flags.extend(options.paths.kittiwake_flags());
        let server = process::kittiwake(&program, &data_dir, &flags).await?;
        let manifest = folder.path().join("elastic.yaml");
        std::fs::write(&manifest, manifests(*instances)?)?;
        process::apply(&program, &data_dir, &manifest).await?;
        // One that has compiled nothing, or an instance's memory would drown in what compiling has left.
        server.stop().await?;
        let server = process::kittiwake(&program, &data_dir, &flags).await?;
        let burst = measure(&server, *instances, options.delay).await?;
        server.stop().await?;
        tell(*instances, &burst, report);
        unanswered += instances - burst.waits.len();
    }
    Ok(unanswered)
}

fn tell(instances: usize, burst: &Burst, report: &mut Report) {
    let at = |percent| percentile(&burst.waits, percent).as_secs_f64() * 1e3;
    let (p50, p99) = match burst.waits.is_empty() {
        true => (f64::NAN, f64::NAN),
        false => (at(50.0), at(99.0)),
    };
    let kib_each = (burst.resident_mib - burst.idle_mib) * 1024.0 / burst.ready.max(1) as f64;
    let (ready_after, to_zero) = (burst.ready_after.as_secs_f64(), burst.to_zero.as_secs_f64());
    println!(
        "{instances:>8} {p50:>12.0} {p99:>12.0} {:>8} {ready_after:>15.2} {:>13.1} {kib_each:>17.1} {to_zero:>14.1}  {}",
        burst.ready,
        burst.resident_mib,
        match burst.errors.is_empty() {
            true => "none".to_owned(),
            false => format!("{:?}", burst.errors),
        }
    );
    report.add(json!({
        "bench": "elastic", "calls": instances, "wait_p50_ms": p50, "wait_p99_ms": p99, "ready": burst.ready,
        "ready_after_seconds": ready_after, "resident_mib": burst.resident_mib, "kib_per_instance": kib_each,
        "to_zero_seconds": to_zero, "errors": burst.errors,
    }));
}

/// The Service, and the settings of the autoscaler.
fn manifests(instances: usize) -> anyhow::Result<String> {
    let path = Path::new(SERVER).canonicalize();
    let path = path.context("run this in the checkout")?;
    let settings = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: config-autoscaler\n  namespace: knative-serving\ndata:\n  \
         scale-to-zero-grace-period: {GRACE}\n---\n"
    );
    let template = format!(
        "  template:\n    metadata:\n      annotations:\n        autoscaling.knative.dev/window: {WINDOW}\n        \
         autoscaling.knative.dev/initial-scale: \"1\"\n        autoscaling.knative.dev/max-scale: \"{instances}\"\n"
    );
    let service = service("elastic", &path.display().to_string()).replace("  template:\n", &template);
    let spec = "    spec:\n      containerConcurrency: 1\n";
    Ok(settings + &service.replacen("    spec:\n", spec, 1))
}

async fn measure(server: &Server, calls: usize, delay: Duration) -> anyhow::Result<Burst> {
    let address = server.address("Kubernetes API")?;
    let mut api = Connection::open(address, "127.0.0.1").await?;
    // What was started at deploy time goes first.
    until_zero(&mut api).await?;
    let callers = load::connect(server.address("Functions")?, HOST, calls).await?;
    let idle_mib = server.resident_mib()?;
    let start = Instant::now();
    let path = format!("/sleep?ms={}", delay.as_millis());
    let mut tasks = JoinSet::new();
    for mut caller in callers {
        let path = path.clone();
        tasks.spawn(async move { (caller.get(&path).await, start.elapsed()) });
    }
    let (mut ready, mut ready_after) = (0, Duration::ZERO);
    while ready < calls && start.elapsed() < delay {
        let now = actual_scale(&mut api).await?;
        if now > ready {
            (ready, ready_after) = (now, start.elapsed());
        }
        tokio::time::sleep(LOOK).await;
    }
    let resident_mib = server.resident_mib()?;
    let (mut waits, mut errors) = (Vec::new(), BTreeMap::<String, usize>::new());
    while let Some(ended) = tasks.join_next().await {
        match ended? {
            (Ok((200, _)), took) => waits.push(took.saturating_sub(delay)),
            (Ok((status, _)), _) => *errors.entry(status.to_string()).or_default() += 1,
            (Err(error), _) => *errors.entry(format!("{error:#}")).or_default() += 1,
        }
    }
    waits.sort_unstable();
    let over = Instant::now();
    // The server has closed the other connection, which was quiet for so long.
    let mut api = Connection::open(address, "127.0.0.1").await?;
    until_zero(&mut api).await?;
    Ok(Burst {
        waits,
        errors,
        ready,
        ready_after,
        idle_mib,
        resident_mib,
        to_zero: over.elapsed(),
    })
}

/// Instances that take calls, as the PodAutoscaler says.
async fn actual_scale(api: &mut Connection) -> anyhow::Result<usize> {
    let (status, body) = api.get(SCALE).await?;
    ensure!(status == 200, "no PodAutoscaler: {status}");
    let object: Value = serde_json::from_slice(&body)?;
    let scale = object.pointer("/status/actualScale").and_then(Value::as_u64);
    Ok(usize::try_from(scale.unwrap_or(0))?)
}

async fn until_zero(api: &mut Connection) -> anyhow::Result<()> {
    let start = Instant::now();
    while actual_scale(api).await? > 0 {
        ensure!(start.elapsed() < TO_ZERO_TIMEOUT, "instances stay without calls");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
