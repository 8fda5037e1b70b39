//! One function called again and again in this process, with no HTTP server around it: what the runtime itself costs.
//!
//! Run under `valgrind --tool=callgrind` it counts instructions; on its own it prints CPU time and page faults per call.

use crate::Paths;
use crate::process::Used;
use crate::report::Report;
use anyhow::Context;
use http_body_util::BodyExt;
use kittiwake_core::artifact::{Prepare, PrepareRequest};
use kittiwake_core::body;
use kittiwake_core::clock::{Clock, SystemClock};
use kittiwake_core::invoke::Invoke;
use kittiwake_core::log::LogHub;
use kittiwake_core::report;
use kittiwake_core::revision::{Isolation, RevisionKey, RevisionSpec};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Calls before anything is counted.
const WARM_UP_CALLS: usize = 200;

/// What to run.
#[derive(clap::Args, Clone)]
pub struct Options {
    #[command(flatten)]
    pub paths: Paths,
    /// Calls that are counted
    #[arg(long, default_value_t = 20_000)]
    pub calls: usize,
    /// Slots of the instance pool
    #[arg(long, default_value_t = 1000)]
    pub instances: u32,
    /// request, serial or concurrent: whether calls share instances
    #[arg(long, default_value = "request")]
    pub isolation: Isolation,
    /// Run the component as what it is, not by its core module alone
    #[arg(long)]
    pub as_component: bool,
    /// Let the function leave memory before each call: what it costs to bring up one whose program stayed
    #[arg(long)]
    pub from_zero: bool,
}

/// Prepares the component, calls it, prints.
pub async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let component = options
        .paths
        .component
        .canonicalize()
        .context("no such component")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (reporter, _reports) = report::channel();
    let (runtime, _task) = kittiwake_runtime::build(
        kittiwake_runtime::Config {
            data_dir: folder.path().to_owned(),
            allow_file_images: true,
            instances_max: options.instances,
            core_modules: !options.as_component,
            ..kittiwake_runtime::Config::default()
        },
        kittiwake_runtime::Inputs {
            instances: Default::default(),
            logs: Arc::new(LogHub::new(Arc::clone(&clock))),
            reporter,
            registry: prometheus::Registry::new(),
            clock,
            inside: Default::default(),
        },
    )?;
    let key = RevisionKey::new("default", "bench-00001");
    let request = PrepareRequest {
        revision: RevisionSpec::new(key.clone(), "bench", format!("file://{}", component.display())),
        credentials: Vec::new(),
        progress_deadline: Duration::from_secs(600),
    };
    let prepared = runtime.prepare(request, Arc::new(|_| ())).await?;
    let revision = Arc::new(RevisionSpec {
        service: "bench".into(),
        configuration: "bench".into(),
        env: vec![
            ("PORT".into(), "8080".into()),
            ("K_SERVICE".into(), "bench".into()),
        ],
        isolation: options.isolation,
        ..RevisionSpec::new(key, "bench", prepared.image)
    });
    for _ in 0..WARM_UP_CALLS {
        call(&*runtime, &revision).await?;
    }
    let (usage, start) = (Used::by("self")?, Instant::now());
    for _ in 0..options.calls {
        if options.from_zero {
            runtime.unload_idle(Duration::ZERO);
        }
        call(&*runtime, &revision).await?;
    }
    let (used, took) = (Used::by("self")?, start.elapsed());
    let per_call = |total: f64| total / options.calls as f64;
    let micros = per_call(took.as_secs_f64() * 1e6);
    let user = per_call(used.user_micros - usage.user_micros);
    let system = per_call(used.system_micros - usage.system_micros);
    let page_faults = per_call(used.page_faults - usage.page_faults);
    println!(
        "{} calls in process, {:?}{}: {micros:.2} µs each; CPU {:.2} µs ({user:.2} user, {system:.2} system); \
         {page_faults:.2} page faults",
        options.calls,
        options.isolation,
        if options.from_zero { " from zero" } else { "" },
        user + system,
    );
    report.add(serde_json::json!({
        "bench": "call", "isolation": format!("{:?}", options.isolation), "from_zero": options.from_zero,
        "calls": options.calls, "us_per_call": micros,
        "user_cpu_us_per_call": user, "system_cpu_us_per_call": system, "page_faults_per_call": page_faults,
    }));
    Ok(())
}

async fn call(invoke: &dyn Invoke, revision: &Arc<RevisionSpec>) -> anyhow::Result<()> {
    let request = http::Request::get("/")
        .header("host", "bench.default.localhost")
        .header("user-agent", "kittiwake-bench")
        .body(body::empty())?;
    let response = invoke.invoke(Arc::clone(revision), request).await?;
    anyhow::ensure!(
        response.status() == 200,
        "the function answered {}",
        response.status()
    );
    let collected = response.into_body().collect().await;
    collected.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
    Ok(())
}
