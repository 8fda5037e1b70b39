//! `kittiwake up`: the whole platform on this machine.

use super::apply;
use crate::cli::UpArgs;
use crate::client::Connection;
use crate::config::Config;
use crate::platform::Platform;
use crate::resource::Resources;
use crate::wait;
use crate::worker::upgrade;
use crate::{host_limits, kubeconfig, manifest, telemetry};
use anyhow::Context;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

/// How long `--apply` waits for what it applied; a first pull and compile of many large functions takes a while.
const APPLY_TIMEOUT: Duration = Duration::from_secs(600);
/// Exit code after a second Ctrl-C: that of a program killed by SIGINT.
const INTERRUPTED: u8 = 130;

/// Runs the platform until Ctrl-C or SIGTERM, its control plane on the threads of `control`.
///
/// # Errors
/// When the settings are wrong or the platform cannot start.
pub async fn run(args: UpArgs, control: Handle) -> anyhow::Result<ExitCode> {
    let handover = args.take_over.then(upgrade::take_over).transpose()?;
    let config = Config::resolve(args)?;
    telemetry::start(&config.log, config.log_format)?;
    // Read before anything is started: a typing error in a path should not cost a start.
    // A program that takes over finds them applied, and perhaps changed since.
    let manifests = if config.apply.is_empty() || handover.is_some() {
        Vec::new()
    } else {
        manifest::read_all(&config.apply)?
    };
    host_limits::raise_open_files();
    let mut signals = Signals::new()?;
    let mut replace = signal(SignalKind::user_defined2()).context("cannot listen for SIGUSR2")?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let taken_over = handover.is_some();
    let mut platform = match handover {
        Some(handover) => Platform::take_over(&config, handover, &control).await?,
        None => Platform::start_with(&config, &control).await?,
    };
    let workers = platform.workers();
    let kubeconfig_path = config.data_dir.join("kubeconfig");
    kubeconfig::write(&kubeconfig_path, &platform.access)?;
    let kubeconfig_path = kubeconfig_path
        .canonicalize()
        .context("cannot find the kubeconfig just written")?;
    if taken_over {
        crate::sayln!("Kittiwake {} has taken over.", env!("CARGO_PKG_VERSION"));
    } else {
        crate::output::say(format_args!("{}", welcome(&config, &platform, &kubeconfig_path)));
    }

    let applied = async {
        if !manifests.is_empty() {
            platform.synced().await;
            let connection = Connection::over(platform.client.clone(), platform.access.server.clone());
            if let Err(error) = apply_all(&connection, &manifests).await {
                eprintln!("error: --apply: {error:#}");
            }
        }
        if taken_over {
            platform.synced().await;
            crate::sayln!("All workers have been replaced.");
        }
        crate::sayln!("\nPress Ctrl-C to stop.");
        platform.failed().await;
    };
    let end = tokio::select! {
        () = applied => End::Failed,
        () = signals.next() => End::Asked,
        () = program_to_become(&mut replace, &program, workers.is_some()) => End::Replaced,
    };
    if end == End::Replaced {
        crate::sayln!("\nBecoming the program on disk: its workers take over one by one.");
        return match platform.release().await {
            Ok(handover) => Err(upgrade::become_program(&program, &handover)),
            Err((platform, error)) => {
                platform.stop(config.drain).await;
                Err(error)
            }
        };
    }
    let failed = end == End::Failed;
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
            if let Some(workers) = workers {
                workers.kill();
            }
            telemetry::flush();
            // At once means at once: no destructor may hold the process up.
            std::process::exit(i32::from(INTERRUPTED))
        }
    }
}

/// What a stranger reads first.
fn welcome(config: &Config, platform: &Platform, kubeconfig: &Path) -> String {
    let Platform {
        http,
        https,
        cluster_local,
        access,
        ..
    } = platform;
    let also = |what: &str, scheme: &str, address: Option<std::net::SocketAddr>| {
        address.map_or_else(String::new, |address| {
            format!("  {what:<16}{scheme}://{address}\n")
        })
    };
    let doors = also("with TLS", "https", *https) + &also("cluster-local", "http", *cluster_local);
    let api = &access.server;
    let port = if http.port() == 80 {
        String::new()
    } else {
        format!(":{}", http.port())
    };
    let domain = &config.domain;
    format!(
        "Kittiwake {version} is up.\n\n\
         \x20 Kubernetes API  {api}\n\
         \x20 Functions       http://{http}   (http://NAME.NAMESPACE.{domain}{port})\n{doors}\
         \x20 Metrics         {api}/metrics\n\
         \x20 State           {data}\n{workers}\n\
         In another terminal:\n\
         \x20 export KUBECONFIG={kubeconfig}\n\
         \x20 kubectl apply -f examples/hello/service.yaml      # no kubectl? kittiwake apply -f …\n\
         \x20 kubectl get ksvc                                  # no kubectl? kittiwake get ksvc\n\
         \x20 curl http://hello.default.{domain}{port}\n\n",
        version = env!("CARGO_PKG_VERSION"),
        data = config.data_dir.display(),
        workers = match config.workers {
            0 => String::new(),
            count => format!(
                "\x20 Workers         {count}   (kill -USR2 {pid} goes over to the program on disk without refusing a call)\n",
                pid = std::process::id(),
            ),
        },
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

/// Why the platform ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// A part of it ended.
    Failed,
    /// By Ctrl-C or SIGTERM.
    Asked,
    /// The program on disk is to take its place.
    Replaced,
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

    /// The next one that asks for the end.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Resolves when SIGUSR2 came and the program on disk can be run.
async fn program_to_become(replace: &mut tokio::signal::unix::Signal, program: &Path, has_workers: bool) {
    loop {
        if replace.recv().await.is_none() {
            return std::future::pending().await;
        }
        if !has_workers {
            eprintln!("SIGUSR2 is ignored: only `up --workers N` can go over to another program");
            continue;
        }
        match upgrade::try_out(program).await {
            Ok(_) => return,
            Err(error) => eprintln!("error: everything stays as it is: {error:#}"),
        }
    }
}
