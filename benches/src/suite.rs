//! All measurements one after the other: with times that give figures to publish, or so short that they only show that
//! everything runs and answers rightly.

use crate::report::Report;
use crate::workload::Work;
use crate::{
    Paths, api, call, cold_start, concurrency, dial, http, neighbours, peers, scale, seconds, workers,
};
use anyhow::ensure;
use kittiwake_core::revision::Isolation;
use std::time::Duration;

/// What to run with.
#[derive(clap::Args)]
pub struct AllOptions {
    #[command(flatten)]
    paths: Paths,
    /// Rounds; each loads every server once
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load for each server in each round
    #[arg(long, value_parser = seconds, default_value = "2")]
    seconds: Duration,
}

/// What to run with.
#[derive(clap::Args)]
pub struct SmokeOptions {
    #[command(flatten)]
    paths: Paths,
}

/// How much of each measurement.
struct Extent {
    rounds: usize,
    seconds: Duration,
    connections: &'static [usize],
    /// For 1 MiB, where more only fill memory.
    connections_of_1m: &'static [usize],
    connections_at_rate: &'static [usize],
    revisions: usize,
    idle_wait: u64,
    starts: usize,
    calls_in_flight: &'static [usize],
    calls_in_process: usize,
    /// In flight over several processes.
    calls_shared: &'static [usize],
    workers_sharing_calls: u32,
    computing: &'static [usize],
    functions: &'static [usize],
    services: usize,
    watchers: usize,
    updates: usize,
    worker_rounds: usize,
}

/// The rounds and seconds are those asked for.
const FULL: Extent = Extent {
    rounds: 0,
    seconds: Duration::ZERO,
    connections: &[1, 2, 64, 256, 1024],
    connections_of_1m: &[1, 2, 64],
    connections_at_rate: &[64, 256],
    revisions: 1000,
    idle_wait: 75,
    starts: 20,
    calls_in_flight: &[1000, 5000, 9000],
    calls_in_process: 30_000,
    calls_shared: &[10_000, 100_000],
    workers_sharing_calls: 14,
    computing: &[0, 1, 2, 8],
    functions: &[10, 100, 1000, 10_000],
    services: 10_000,
    watchers: 200,
    updates: 500,
    worker_rounds: 10,
};

const SMOKE: Extent = Extent {
    rounds: 1,
    seconds: Duration::from_millis(200),
    connections: &[2],
    connections_of_1m: &[2],
    connections_at_rate: &[2],
    revisions: 3,
    idle_wait: 0,
    starts: 2,
    calls_in_flight: &[150],
    calls_in_process: 100,
    calls_shared: &[150],
    workers_sharing_calls: 2,
    computing: &[1],
    functions: &[2, 5],
    services: 20,
    watchers: 8,
    updates: 20,
    worker_rounds: 1,
};

/// Everything, for figures.
pub async fn all(options: AllOptions, report: &mut Report) -> anyhow::Result<()> {
    let extent = Extent {
        rounds: options.rounds,
        seconds: options.seconds,
        ..FULL
    };
    run(&options.paths, &extent, report).await?;
    Ok(())
}

/// Everything, as short as can be. Answers are checked, times are not.
pub async fn smoke(options: SmokeOptions, report: &mut Report) -> anyhow::Result<()> {
    let unanswered = run(&options.paths, &SMOKE, report).await?;
    ensure!(unanswered == 0, "{unanswered} of the waiting calls got no answer");
    println!("\neverything ran and answered rightly");
    Ok(())
}

/// Returns how many of the waiting calls got no answer.
async fn run(paths: &Paths, extent: &Extent, report: &mut Report) -> anyhow::Result<usize> {
    peers::tell_what_is_missing(paths);
    for work in Work::ALL {
        let connections = match work {
            Work::Echo1M => extent.connections_of_1m,
            _ => extent.connections,
        };
        http::run(&http_options(paths, extent, work, connections, None), report).await?;
    }
    for work in [Work::Hello, Work::Json] {
        let options = http_options(paths, extent, work, extent.connections_at_rate, Some(0.7));
        http::run(&options, report).await?;
    }
    let settings = dial::Options {
        paths: paths.clone(),
        connections: 64,
        rounds: extent.rounds,
        seconds: extent.seconds,
    };
    dial::run(&settings, report).await?;
    let mut unanswered = 0;
    for http2 in [false, true] {
        let options = concurrency::Options {
            paths: paths.clone(),
            calls: extent.calls_in_flight.to_vec(),
            http2,
            shared: false,
        };
        unanswered += concurrency::run(&options, report).await?;
    }
    for isolation in [Isolation::Request, Isolation::Serial] {
        let options = call::Options {
            paths: paths.clone(),
            calls: extent.calls_in_process,
            instances: 1000,
            isolation,
            as_component: false,
            from_zero: false,
        };
        call::run(&options, report).await?;
    }
    let shared = concurrency::Options {
        paths: Paths {
            workers: Some(extent.workers_sharing_calls),
            ..paths.clone()
        },
        calls: extent.calls_shared.to_vec(),
        http2: true,
        shared: false,
    };
    unanswered += concurrency::run(&shared, report).await?;
    let in_shared_instances = concurrency::Options {
        paths: paths.clone(),
        shared: true,
        ..shared
    };
    unanswered += concurrency::run(&in_shared_instances, report).await?;
    let options = neighbours::Options {
        paths: paths.clone(),
        computing: extent.computing.to_vec(),
        seconds: extent.seconds,
    };
    neighbours::run(&options, report).await?;
    let options = workers::Options {
        paths: paths.clone(),
        rounds: extent.worker_rounds,
    };
    workers::run(&options, report).await?;
    let options = scale::Options {
        paths: paths.clone(),
        functions: extent.functions.to_vec(),
        seconds: extent.seconds,
    };
    scale::run(&options, report).await?;
    let options = api::Options {
        services: extent.services,
        watchers: extent.watchers,
        updates: extent.updates,
    };
    api::run(&options, report).await?;
    let options = cold_start::Options {
        paths: paths.clone(),
        revisions: extent.revisions,
        idle_wait: extent.idle_wait,
        starts: extent.starts,
    };
    cold_start::run(&options, report).await?;
    Ok(unanswered)
}

fn http_options(
    paths: &Paths,
    extent: &Extent,
    work: Work,
    connections: &[usize],
    load: Option<f64>,
) -> http::Options {
    http::Options {
        paths: paths.clone(),
        work: vec![work],
        connections: connections.to_vec(),
        rounds: extent.rounds,
        seconds: extent.seconds,
        rate: None,
        load,
    }
}
