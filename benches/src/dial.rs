//! What one setting changes: the access log, the metrics of requests, and the number of cores. The servers run side by side and are loaded in turn.

use crate::Paths;
use crate::chart::{Bar, Chart, Group};
use crate::http::{Pace, Round, measure, spread};
use crate::peers::{self, Contender};
use crate::process::{self, Server};
use crate::report::Report;
use crate::workload::{Call, Work};
use crate::{programs, seconds};
use anyhow::{Context, ensure};
use serde_json::json;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use tokio::process::Command;

/// What to run.
#[derive(clap::Args, Clone)]
pub struct Options {
    #[command(flatten)]
    pub paths: Paths,
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// Rounds; each loads every server once
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Seconds of load for each server in each round
    #[arg(long, value_parser = seconds, default_value = "2")]
    pub seconds: Duration,
}

/// A server with its setting.
struct Setting {
    contender: Contender,
    /// Name of the row that it is compared with.
    base: &'static str,
    /// Whether the server has core 0 alone; the client then keeps to the others.
    one_core: bool,
    rounds: Vec<Round>,
}

const PLAIN: &str = "kittiwake";
const NATIVE: &str = "native hyper";

/// Starts the servers, loads them in turn, prints.
pub async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut settings = start(options, folder.path()).await?;
    let call = Work::Hello.call();
    for _ in 0..options.rounds {
        for setting in &mut settings {
            pin_client(setting.one_core).await?;
            let (connections, seconds) = (options.connections, options.seconds);
            let round = measure(&setting.contender, &call, connections, seconds, Pace::Saturation).await;
            setting.rounds.push(round.context(setting.contender.name)?);
        }
    }
    pin_client(false).await?;
    print(options, &settings);
    report.add(json(options, &settings));
    let bar = |setting: &Setting| Bar::of_server(setting.contender.name, setting.rate());
    let chart = Chart {
        title: "Settings".into(),
        unit: "requests/s, more is better; lines: least to most over the rounds".into(),
        groups: vec![Group {
            name: format!("hello, {} connections", options.connections),
            bars: settings.iter().map(bar).collect(),
        }],
    };
    report.draw("dial", &chart)?;
    for setting in settings {
        if let Ok(server) = Rc::try_unwrap(setting.contender.server) {
            server.stop().await?;
        }
    }
    Ok(())
}

async fn start(options: &Options, folder: &Path) -> anyhow::Result<Vec<Setting>> {
    let call = Work::Hello.call();
    let component = Work::Hello.component(&options.paths.component, folder)?;
    let manifest = folder.join("hello.yaml");
    std::fs::write(
        &manifest,
        peers::service("hello", &component.display().to_string()),
    )?;
    let kittiwake = async |name, flag: Option<&str>, one_core| {
        let data_dir = folder.join(name);
        let program = options.paths.kittiwake()?;
        let mut flags = options.paths.kittiwake_flags();
        flags.extend(flag.map(str::to_owned));
        let command = process::kittiwake_command(&program, &data_dir, &flags);
        let command = with_errors_to_file(pinned(command, one_core), &folder.join("kittiwake.log"));
        let server = process::kittiwake_up(command).await?;
        process::apply(&program, &data_dir, &manifest).await?;
        let address = server.address("Functions")?;
        setting(
            name,
            PLAIN,
            server,
            address,
            "hello.default.localhost",
            one_core,
            &call,
        )
        .await
    };
    let native = async |name, one_core| {
        let server = Server::start(pinned(programs::native()?, one_core), |line| {
            line.contains("http://")
        })
        .await?;
        let address = server.address("http://")?;
        setting(name, NATIVE, server, address, "localhost", one_core, &call).await
    };
    let mut settings = vec![
        kittiwake(PLAIN, None, false).await?,
        kittiwake("kittiwake, access log", Some("--access-log"), false).await?,
        kittiwake("kittiwake, no metrics", Some("--request-metrics=false"), false).await?,
    ];
    // With one core there is nothing to choose from.
    if programs::installed("taskset") && std::thread::available_parallelism()?.get() > 1 {
        settings.push(kittiwake("kittiwake, 1 core", None, true).await?);
        settings.push(native(NATIVE, false).await?);
        settings.push(native("native hyper, 1 core", true).await?);
    }
    Ok(settings)
}

async fn setting(
    name: &'static str,
    base: &'static str,
    server: Server,
    address: std::net::SocketAddr,
    host: &str,
    one_core: bool,
    call: &Call,
) -> anyhow::Result<Setting> {
    Ok(Setting {
        contender: Contender::at(name, server, address, host, call).await?,
        base,
        one_core,
        rounds: Vec::new(),
    })
}

impl Setting {
    fn rate(&self) -> crate::statistics::Spread {
        spread(&self.rounds, |round| round.rate)
    }

    fn cpu(&self) -> f64 {
        spread(&self.rounds, |round| round.server_cpu).median
    }
}

/// On core 0 alone.
fn pinned(command: Command, one_core: bool) -> Command {
    if !one_core {
        return command;
    }
    let mut pinned = Command::new("taskset");
    pinned.args(["-c", "0"]);
    append(&mut pinned, &command);
    pinned
}

/// With its standard error in a file, as a service manager would keep it: this program need not read it.
fn with_errors_to_file(command: Command, file: &Path) -> Command {
    let mut wrapped = Command::new("sh");
    wrapped.args(["-c", "exec \"$@\" 2>>\"$0\""]).arg(file);
    append(&mut wrapped, &command);
    wrapped
}

/// Adds a whole command line as arguments.
fn append(to: &mut Command, command: &Command) {
    to.arg(command.as_std().get_program())
        .args(command.as_std().get_args());
}

/// Moves all threads of this program off core 0, or lets them run anywhere.
async fn pin_client(off_core_0: bool) -> anyhow::Result<()> {
    let cores = std::fs::read_to_string("/sys/devices/system/cpu/online")?;
    let last = cores.trim().rsplit(['-', ',']).next().unwrap_or("0");
    let list = match off_core_0 {
        true => format!("1-{last}"),
        false => format!("0-{last}"),
    };
    if last == "0" || !programs::installed("taskset") {
        return Ok(());
    }
    let mut command = Command::new("taskset");
    command.args(["-a", "-p", "-c", &list, &std::process::id().to_string()]);
    ensure!(
        command.output().await?.status.success(),
        "taskset cannot set this program's cores"
    );
    Ok(())
}

/// A row's rate and CPU time as ratios to those of the row it is compared with.
fn ratios(setting: &Setting, settings: &[Setting]) -> [f64; 2] {
    let base = settings
        .iter()
        .find(|other| other.contender.name == setting.base)
        .unwrap_or(setting);
    [
        setting.rate().median / base.rate().median,
        setting.cpu() / base.cpu(),
    ]
}

fn print(options: &Options, settings: &[Setting]) {
    println!(
        "\nhello, {} connections, {} rounds of {:?}; with 1 core the client has the others, else it shares all",
        options.connections, options.rounds, options.seconds
    );
    println!(
        "{:<24} {:>25} {:>12} {:>12} {:>18} {:>10}",
        "", "requests/s", "× rate", "CPU µs/req", "per CPU second", "× CPU"
    );
    for setting in settings {
        let (rate, [times_rate, times_cpu]) = (setting.rate(), ratios(setting, settings));
        println!(
            "{:<24} {:>25} {times_rate:>12.2} {:>12.1} {:>18.0} {times_cpu:>10.2}",
            setting.contender.name,
            format!("{:.0} [{:.0} – {:.0}]", rate.median, rate.least, rate.most),
            setting.cpu(),
            1e6 / setting.cpu(),
        );
    }
}

fn json(options: &Options, settings: &[Setting]) -> serde_json::Value {
    let rows = settings.iter().map(|setting| {
        let [times_rate, times_cpu] = ratios(setting, settings);
        json!({
            "setting": setting.contender.name,
            "compared_with": setting.base,
            "requests_per_second": setting.rate(),
            "server_cpu_us_per_request": spread(&setting.rounds, |round| round.server_cpu),
            "times_rate": times_rate,
            "times_cpu": times_cpu,
        })
    });
    json!({"bench": "dial", "connections": options.connections, "rows": rows.collect::<Vec<_>>()})
}
