//! The same work from several servers, in turn, round by round: what each answers in a second, how long that takes, and
//! what it costs the server and the client.

mod table;

use crate::chart::{Chart, Group};
use crate::load::{self, Run};
use crate::peers::{self, Contender};
use crate::process::Used;
use crate::report::Report;
use crate::statistics::{Spread, micros, percentile};
use crate::workload::{Call, Work};
use crate::{Paths, seconds};
use anyhow::Context;
use std::rc::Rc;
use std::time::Duration;
use table::Table;

/// What to run.
#[derive(clap::Args, Clone)]
pub struct Options {
    #[command(flatten)]
    pub paths: Paths,
    /// Kinds of work; servers are started anew for each
    #[arg(long, value_delimiter = ',', default_value = "hello")]
    pub work: Vec<Work>,
    /// Connections, one table each
    #[arg(long, value_delimiter = ',', default_value = "1,64")]
    pub connections: Vec<usize>,
    /// Rounds; each serves from every server once
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Seconds of load for each server in each round
    #[arg(long, value_parser = seconds, default_value = "3")]
    pub seconds: Duration,
    /// Requests due per second (open loop), instead of as many as a server can answer
    #[arg(long, value_name = "N", conflicts_with = "load")]
    pub rate: Option<f64>,
    /// The same as a share of what the server answered at most, measured just before, such as 0.7
    #[arg(long, value_name = "SHARE")]
    pub load: Option<f64>,
}

/// When requests are sent.
#[derive(Clone, Copy)]
pub enum Pace {
    /// When the answer to the last one is there.
    Saturation,
    /// So many per second.
    Rate(f64),
    /// So much of saturation.
    Share(f64),
}

impl Options {
    fn pace(&self) -> Pace {
        match (self.rate, self.load) {
            (Some(rate), _) => Pace::Rate(rate),
            (_, Some(share)) => Pace::Share(share),
            _ => Pace::Saturation,
        }
    }
}

/// One server in one round.
pub struct Round {
    /// Requests per second that were due; none in a closed loop.
    pub due: Option<f64>,
    pub rate: f64,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub server_cpu: f64,
    pub client_cpu: f64,
}

/// Starts the servers and prints a table for each kind of work and number of connections.
pub async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    println!(
        "\nSame machine, same run, client on the same cores; {} rounds of {:?} each",
        options.rounds, options.seconds
    );
    for work in &options.work {
        compare(options, *work, report)
            .await
            .with_context(|| work.name())?;
    }
    Ok(())
}

/// Starts the servers for one kind of work, measures, stops them.
async fn compare(options: &Options, work: Work, report: &mut Report) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let connections_max = options.connections.iter().copied().max().unwrap_or(1);
    let contenders = peers::start(&options.paths, work, connections_max, folder.path()).await?;
    let call = work.call();
    let mut groups = Vec::new();
    for connections in &options.connections {
        let mut table = Table::new(work, *connections, options.pace(), &contenders);
        for _ in 0..options.rounds {
            for (contender, rounds) in contenders.iter().zip(table.rounds_mut()) {
                let round = measure(contender, &call, *connections, options.seconds, options.pace())
                    .await
                    .with_context(|| contender.name)?;
                rounds.push(round);
            }
        }
        table.print();
        report.add(table.json());
        groups.push(Group {
            name: format!("{connections} connection(s)"),
            bars: table.bars(),
        });
    }
    draw(report, work, options.pace(), groups)?;
    stop(work, contenders, report).await
}

/// Puts the pace's load on a server once.
pub async fn measure(
    contender: &Contender,
    call: &Call,
    connections: usize,
    duration: Duration,
    pace: Pace,
) -> anyhow::Result<Round> {
    let (address, host) = (contender.address, &contender.host);
    let saturate = || load::closed_loop(address, host, call, connections, duration);
    let due = match pace {
        Pace::Saturation => None,
        Pace::Rate(rate) => Some(rate),
        Pace::Share(share) => Some(saturate().await?.requests_per_second * share),
    };
    let before = (contender.server.cpu_micros()?, Used::by("self")?.cpu_micros());
    let run = match due {
        None => saturate().await?,
        Some(rate) => load::open_loop(address, host, call, connections, duration, rate).await?,
    };
    let after = (contender.server.cpu_micros()?, Used::by("self")?.cpu_micros());
    let each = |micros: f64| micros / run.requests.max(1) as f64;
    Ok(Round {
        due,
        rate: run.requests_per_second,
        p50: at(&run, 50.0),
        p99: at(&run, 99.0),
        p999: at(&run, 99.9),
        server_cpu: each(after.0 - before.0),
        client_cpu: each(after.1 - before.1),
    })
}

fn at(run: &Run, percent: f64) -> f64 {
    micros(percentile(&run.latencies, percent))
}

/// The median and spread of one figure over the rounds.
pub fn spread(rounds: &[Round], figure: impl Fn(&Round) -> f64) -> Spread {
    Spread::of(rounds.iter().map(figure))
}

fn draw(report: &Report, work: Work, pace: Pace, groups: Vec<Group>) -> anyhow::Result<()> {
    let (name, unit) = match pace {
        Pace::Saturation => (
            "http",
            "requests/s, more is better; lines: least to most over the rounds",
        ),
        Pace::Rate(_) | Pace::Share(_) => (
            "rate",
            "P99 in µs from when a request was due, less is better; lines: least to most over the rounds",
        ),
    };
    let title = match pace {
        Pace::Saturation => work.name().to_owned(),
        Pace::Rate(rate) => format!("{} at {rate} requests/s", work.name()),
        Pace::Share(share) => format!(
            "{} at {:.0} % of each server's saturation",
            work.name(),
            share * 100.0
        ),
    };
    let chart = Chart {
        title,
        unit: unit.into(),
        groups,
    };
    report.draw(&format!("{name}-{}", work.name()), &chart)
}

async fn stop(work: Work, contenders: Vec<Contender>, report: &mut Report) -> anyhow::Result<()> {
    println!();
    let mut shared = None;
    for contender in contenders {
        let name = shared.take().unwrap_or(contender.name);
        // A server with two contenders ends with the last of them, and goes by the name of the first.
        let Ok(server) = Rc::try_unwrap(contender.server) else {
            shared = Some(name);
            continue;
        };
        let resident = server.resident_mib()?;
        println!("{name:<18} {resident:>8.1} MiB resident after {}", work.name());
        report.add(serde_json::json!({
            "bench": "memory", "work": work.name(), "server": name, "resident_mib": resident,
        }));
        server.stop().await?;
    }
    Ok(())
}
