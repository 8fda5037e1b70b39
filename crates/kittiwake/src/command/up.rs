//! `kittiwake up`: the whole platform on this machine.

use super::apply;
use crate::cli::UpArgs;
use crate::client::Connection;
use crate::config::Config;
use crate::platform::Platform;
use crate::resource::Resources;
use crate::wait;
use crate::{host_limits, kubeconfig, manifest, telemetry};
use anyhow::Context;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long `--apply` waits for what it applied; a first pull and compile of many large functions takes a while.
const APPLY_TIMEOUT: Duration = Duration::from_secs(600);
/// Exit code after a second Ctrl-C: that of a program killed by SIGINT.
const INTERRUPTED: u8 = 130;

/// Runs the platform until Ctrl-C or SIGTERM.
///
/// # Errors
/// When the settings are wrong or the platform cannot start.
pub async fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    let config = Config::resolve(args)?;
    telemetry::start(&config.log, config.log_format)?;
    // Read before anything is started: a typing error in a path should not cost a start.
    let manifests = if config.apply.is_empty() {
        Vec::new()
    } else {
        manifest::read_all(&config.apply)?
    };
    host_limits::raise_open_files();
    let mut signals = Signals::new()?;
    let mut platform = Platform::start(&config).await?;
    let kubeconfig_path = config.data_dir.join("kubeconfig");
    kubeconfig::write(&kubeconfig_path, &format!("http://{}", platform.api))?;
    let kubeconfig_path = kubeconfig_path
        .canonicalize()
        .context("cannot find the kubeconfig just written")?;
    crate::output::say(format_args!("{}", welcome(&config, &platform, &kubeconfig_path)));

    let applied = async {
        if !manifests.is_empty() {
            platform.synced().await;
            let connection = Connection::over(platform.client.clone(), format!("http://{}", platform.api));
            if let Err(error) = apply_all(&connection, &manifests).await {
                eprintln!("error: --apply: {error:#}");
            }
        }
        crate::sayln!("\nPress Ctrl-C to stop.");
        platform.failed().await;
    };
    let failed = tokio::select! {
        () = applied => true,
        () = signals.next() => false,
    };
    if failed {
        eprintln!("error: a part of the platform ended unexpectedly; stopping");
    } else {
        crate::sayln!(
            "\nStopping: calls in flight have {} s to finish; Ctrl-C again stops at once.",
            config.drain.as_secs()
        );
    }
    tokio::select! {
        cut = platform.stop(config.drain) => {
            if cut > 0 {
                eprintln!("{cut} calls did not finish in time and were cut off");
            }
            Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
        () = signals.next() => {
            // At once means at once: no destructor may hold the process up.
            std::process::exit(i32::from(INTERRUPTED))
        }
    }
}

/// What a stranger reads first.
fn welcome(config: &Config, platform: &Platform, kubeconfig: &Path) -> String {
    let Platform { api, http, .. } = platform;
    let port = if http.port() == 80 {
        String::new()
    } else {
        format!(":{}", http.port())
    };
    let domain = &config.domain;
    format!(
        "Kittiwake {version} is up.\n\n\
         \x20 Kubernetes API  http://{api}\n\
         \x20 Functions       http://{http}   (http://NAME.NAMESPACE.{domain}{port})\n\
         \x20 Metrics         http://{api}/metrics\n\
         \x20 State           {data}\n\n\
         In another terminal:\n\
         \x20 export KUBECONFIG={kubeconfig}\n\
         \x20 kubectl apply -f examples/hello/service.yaml      # no kubectl? kittiwake apply -f …\n\
         \x20 kubectl get ksvc                                  # no kubectl? kittiwake get ksvc\n\
         \x20 curl http://hello.default.{domain}{port}\n\n",
        version = env!("CARGO_PKG_VERSION"),
        data = config.data_dir.display(),
        kubeconfig = kubeconfig.display(),
    )
}

/// Applies what `--apply` named, waits, and lists the URLs to call.
async fn apply_all(connection: &Connection, manifests: &[manifest::Manifest]) -> anyhow::Result<()> {
    let resources = Resources::discover(connection).await?;
    let mut targets = Vec::new();
    for manifest in manifests {
        match apply::apply(connection, &resources, manifest, false).await {
            Ok(applied) => {
                crate::sayln!("{} {}", applied.target.display, applied.verb);
                targets.push(applied.target);
            }
            Err(error) => eprintln!("error: {}: {error:#}", manifest.origin),
        }
    }
    let outcomes = wait::wait(connection, &targets, APPLY_TIMEOUT).await?;
    crate::sayln!();
    apply::report(&outcomes, true);
    Ok(())
}

/// Ctrl-C and SIGTERM.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?,
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
