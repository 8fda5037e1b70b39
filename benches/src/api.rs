//! The API server alone, with as many objects as ten thousand functions have: how fast they are written, listed and
//! told to watchers, what they take in memory, and how soon a killed server has them again.

mod objects;
mod server;
mod watchers;

pub use server::serve;

use crate::load::Connection;
use crate::report::Report;
use crate::statistics::{micros, percentile};
use anyhow::{Context, ensure};
use objects::{KINDS, Kind, kind_of_turn};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use watchers::Watchers;

/// Clients that write at one time.
const WRITING: usize = 16;
/// Objects of a page of a list, as kubectl asks for.
const PAGE: usize = 500;
/// Updates each second while deliveries are timed.
const PACE_PER_SECOND: u32 = 50;

/// What to run.
#[derive(clap::Args, Clone)]
pub struct Options {
    /// Services; each comes with its Configuration, Route and Revision
    #[arg(long, default_value_t = 10_000)]
    pub services: usize,
    /// Watchers, spread over the four kinds
    #[arg(long, default_value_t = 200)]
    pub watchers: usize,
    /// Updates whose delivery is timed
    #[arg(long, default_value_t = 500)]
    pub updates: usize,
}

/// Starts a server, measures, prints a table.
pub async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("objects.redb");
    let server = server::start(&file).await?;
    let api = server.address("API")?;
    let objects = options.services * KINDS.len();
    println!(
        "\nThe API server with {objects} objects ({} Services and what belongs to them), {WRITING} clients writing, {} watchers",
        options.services, options.watchers
    );
    let mut table = Table::new(options);

    let empty = server.resident_mib()?;
    let created = write(api, options.services, Verb::Create).await?;
    table.row("created", created.rate(), "objects/s");
    table.row("  each, p50", created.p50_ms(), "ms");
    let loaded = server.resident_mib()?;
    table.row(
        "memory",
        (loaded - empty) * 1024.0 * 1024.0 / objects as f64,
        "bytes/object, newest events included",
    );
    let applied = write(api, options.services, Verb::Apply).await?;
    table.row("applied (server-side), changed", applied.rate(), "objects/s");
    let applied = write(api, options.services, Verb::Apply).await?;
    table.row("applied again, unchanged", applied.rate(), "objects/s");

    lists(api, options, &mut table).await?;
    watches(api, options, &mut table).await?;
    table.row("resident at the end", server.resident_mib()?, "MiB");
    table.row("file", file_mib(&file)?, "MiB");

    server.kill().await?;
    let start = Instant::now();
    let server = server::start(&file).await?;
    table.row(
        "ready again after kill -9",
        start.elapsed().as_secs_f64() * 1e3,
        "ms",
    );
    let restarted = server.resident_mib()?;
    table.row(
        "memory after it",
        (restarted - empty) * 1024.0 * 1024.0 / objects as f64,
        "bytes/object",
    );
    let (_, found) = list(server.address("API")?, &Kind::of("services").collection(), "").await?;
    ensure!(
        found == options.services,
        "{found} of {} are there",
        options.services
    );
    server.stop().await?;
    report.add(table.json());
    Ok(())
}

/// Figures, printed as they come.
struct Table {
    figures: serde_json::Map<String, Value>,
}

impl Table {
    fn new(options: &Options) -> Self {
        let mut figures = serde_json::Map::new();
        figures.insert("bench".into(), "api".into());
        figures.insert("services".into(), options.services.into());
        figures.insert("watchers".into(), options.watchers.into());
        figures.insert("debug_build".into(), cfg!(debug_assertions).into());
        Self { figures }
    }

    fn row(&mut self, what: &str, figure: f64, unit: &str) {
        println!("{what:<44} {figure:>12.1} {unit}");
        self.figures
            .insert(format!("{}, {unit}", what.trim()), figure.into());
    }

    fn json(self) -> Value {
        Value::Object(self.figures)
    }
}

/// What writers do with each object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Create,
    Apply,
}

/// What writing came to.
struct Written {
    /// Of each request, sorted.
    latencies: Vec<Duration>,
    took: Duration,
}

impl Written {
    fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }

    fn p50_ms(&self) -> f64 {
        micros(percentile(&self.latencies, 50.0)) / 1e3
    }
}

/// Writes all objects, some clients at a time.
async fn write(api: SocketAddr, services: usize, verb: Verb) -> anyhow::Result<Written> {
    let start = Instant::now();
    let mut writing = JoinSet::new();
    for part in 0..WRITING {
        writing.spawn(async move {
            let mut connection = Connection::open(api, "127.0.0.1").await?;
            let mut latencies = Vec::new();
            for index in (part..services).step_by(WRITING) {
                for kind in &KINDS {
                    let start = Instant::now();
                    let (status, body) = match verb {
                        Verb::Create => connection.post(&kind.collection(), &kind.object(index)).await?,
                        Verb::Apply => connection.apply(&kind.path(index), &kind.applied(index)).await?,
                    };
                    ensure!(status < 300, "{status}: {}", String::from_utf8_lossy(&body));
                    latencies.push(start.elapsed());
                }
            }
            Ok(latencies)
        });
    }
    let mut latencies = Vec::new();
    for part in writing.join_all().await {
        latencies.extend(part?);
    }
    let took = start.elapsed();
    latencies.sort_unstable();
    Ok(Written { latencies, took })
}

/// Times lists in the ways in which clients ask for them.
async fn lists(api: SocketAddr, options: &Options, table: &mut Table) -> anyhow::Result<()> {
    let revisions = Kind::of("revisions").collection();
    let (took, found) = list(api, &revisions, "").await?;
    ensure!(
        found == options.services,
        "{found} of {} are listed",
        options.services
    );
    table.row("list of all Revisions", took, "ms");
    let (took, found) = list_by_page(api, &revisions).await?;
    ensure!(
        found == options.services,
        "{found} of {} are listed",
        options.services
    );
    table.row("  in pages of 500", took, "ms");
    let one = format!("?labelSelector=app%3D{}", objects::name(options.services / 2));
    let (took, found) = list(api, &revisions, &one).await?;
    ensure!(found == 1, "{found} have the label of one");
    table.row("  those of one function, by label", took, "ms");
    let mut connection = Connection::open(api, "127.0.0.1").await?;
    let start = Instant::now();
    let (status, _) = connection
        .get_as(&revisions, "application/json;as=Table;v=v1;g=meta.k8s.io")
        .await?;
    ensure!(status == 200, "{status}");
    table.row("  as a table", start.elapsed().as_secs_f64() * 1e3, "ms");
    Ok(())
}

/// Milliseconds until a list was received, and the number of objects in it.
async fn list(api: SocketAddr, collection: &str, query: &str) -> anyhow::Result<(f64, usize)> {
    let mut connection = Connection::open(api, "127.0.0.1").await?;
    let start = Instant::now();
    let (status, body) = connection.get(&format!("{collection}{query}")).await?;
    let took = start.elapsed().as_secs_f64() * 1e3;
    ensure!(status == 200, "{status}");
    Ok((took, items(&body)?.0))
}

async fn list_by_page(api: SocketAddr, collection: &str) -> anyhow::Result<(f64, usize)> {
    let mut connection = Connection::open(api, "127.0.0.1").await?;
    let (mut took, mut found, mut next) = (Duration::ZERO, 0, String::new());
    loop {
        let start = Instant::now();
        let (status, body) = connection
            .get(&format!("{collection}?limit={PAGE}{next}"))
            .await?;
        took += start.elapsed();
        ensure!(status == 200, "{status}");
        let (count, token) = items(&body)?;
        found += count;
        match token {
            Some(token) => next = format!("&continue={token}"),
            None => return Ok((took.as_secs_f64() * 1e3, found)),
        }
    }
}

/// The number of objects in a list, and where it goes on.
fn items(body: &[u8]) -> anyhow::Result<(usize, Option<String>)> {
    let list: Value = serde_json::from_slice(body)?;
    let items = list.get("items").and_then(Value::as_array).context("no list")?;
    let token = list.pointer("/metadata/continue").and_then(Value::as_str);
    Ok((items.len(), token.map(str::to_owned)))
}

/// Updates objects under watchers, at a pace and then without one.
async fn watches(api: SocketAddr, options: &Options, table: &mut Table) -> anyhow::Result<()> {
    let mut watchers = Watchers::open(api, options.watchers).await?;
    let mut pause = tokio::time::interval(Duration::from_secs(1) / PACE_PER_SECOND);
    let updated = update(api, options, 0, &mut watchers, Some(&mut pause)).await?;
    table.row(
        &format!("delivered at {PACE_PER_SECOND} updates/s, p50"),
        micros(percentile(&updated.deliveries, 50.0)) / 1e3,
        "ms after the request was sent",
    );
    table.row("  p99", micros(percentile(&updated.deliveries, 99.0)) / 1e3, "ms");
    table.row(
        "  the update itself, p50",
        micros(percentile(&updated.writes, 50.0)) / 1e3,
        "ms",
    );
    let updated = update(api, options, options.updates, &mut watchers, None).await?;
    table.row(
        "delivered without a pause",
        updated.deliveries.len() as f64 / updated.took.as_secs_f64(),
        "events/s over all watchers",
    );
    table.row("  p99", micros(percentile(&updated.deliveries, 99.0)) / 1e3, "ms");
    Ok(())
}

/// What updates under watchers came to; both sorted.
struct Updated {
    deliveries: Vec<Duration>,
    writes: Vec<Duration>,
    took: Duration,
}

/// Updates one object after the other; returns when all watchers have been told of all.
async fn update(
    api: SocketAddr,
    options: &Options,
    first: usize,
    watchers: &mut Watchers,
    mut pause: Option<&mut tokio::time::Interval>,
) -> anyhow::Result<Updated> {
    let mut connection = Connection::open(api, "127.0.0.1").await?;
    let (mut sent, mut writes) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    for update in first..first + options.updates {
        if let Some(pause) = &mut pause {
            pause.tick().await;
        }
        let kind = kind_of_turn(update);
        let index = update % options.services;
        let mark = format!("mark-{update}-end");
        let patch = json!({"metadata": {"annotations": {"bench": mark}}});
        let start = Instant::now();
        sent.push((mark, start));
        let (status, body) = connection.merge(&kind.path(index), &patch).await?;
        ensure!(status == 200, "{status}: {}", String::from_utf8_lossy(&body));
        writes.push(start.elapsed());
    }
    let mut deliveries = watchers.deliveries(&sent).await?;
    let took = begin.elapsed();
    deliveries.sort_unstable();
    writes.sort_unstable();
    Ok(Updated {
        deliveries,
        writes,
        took,
    })
}

fn file_mib(path: &Path) -> anyhow::Result<f64> {
    Ok(std::fs::metadata(path)?.len() as f64 / f64::from(1 << 20))
}
