//! One worker process: a runtime and a gateway on a socket that it was handed, serving what the API says.

use super::handoff;
use super::inner_doors::InnerDoors;
use super::link::{Assignment, Down, InMemory, Link, Placed, Settings, Up};
use crate::acme;
use crate::doors::Doors;
use crate::platform;
use anyhow::Context;
use kittiwake_core::clock::{Clock, SystemClock};
use kittiwake_core::inside::Inside;
use kittiwake_core::instances::{Ending, InstanceHub, InstanceId};
use kittiwake_core::invoke::Invoke;
use kittiwake_core::log::{LogHub, LogLine};
use kittiwake_core::report::{self, Report};
use kittiwake_core::resident::Residents;
use kittiwake_core::routing_table::{RouteEntry, RoutingTable};
use kittiwake_core::scale::{self, Stats};
use kittiwake_core::share::Share;
use kittiwake_runtime::THIS_PROCESS;
use kube::config::{KubeConfigOptions, Kubeconfig};
use prometheus::{Registry, TextEncoder};
use std::net::TcpListener;
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Names of the process, as `ps -o comm` and top show them.
const SPARE_NAME: &str = "kittiwake-spare";
const WORKER_NAME: &str = "kittiwake";
/// How long idle HTTP/1.1 connections stay open for a last request when another process takes over.
const LINGER: Duration = Duration::from_secs(2);
/// How often a worker looks whether its supervisor is still there.
const ORPHAN_CHECK_PERIOD: Duration = Duration::from_millis(200);
/// How often a worker looks whether there is something new to tell of the revisions in its memory.
const LIVE_PERIOD: Duration = Duration::from_secs(1);

/// Runs a worker that a supervisor started: its standard input is the link.
///
/// # Errors
/// When it was started by someone else, or a part cannot be made.
pub fn run() -> anyhow::Result<ExitCode> {
    let (settings, stream) =
        take_over().context("kittiwake worker is started by `kittiwake up --workers N`, not by hand")?;
    name_process(SPARE_NAME);
    crate::telemetry::start(&log_filter(&settings.config.log), settings.config.log_format)?;
    crate::host_limits::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.threads)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(serve(settings, stream))?;
    // Whatever still runs has been given its time.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

/// The filter of logs, without what the Kubernetes client says of each connection that fails: while the supervisor
/// becomes another program that is as it should be, and the watches say so once each.
fn log_filter(filter: &str) -> String {
    match filter.contains("kube_client") {
        true => filter.to_owned(),
        false => format!("{filter},kube_client=off"),
    }
}

/// At most 15 bytes (proc(5), `/proc/pid/comm`). Only for people; without it nothing is worse.
fn name_process(name: &str) {
    let _ = std::fs::write("/proc/self/comm", name);
}

fn take_over() -> anyhow::Result<(Settings, UnixStream)> {
    let input = std::io::stdin().as_fd().try_clone_to_owned()?;
    let mut stream = UnixStream::from(input);
    let (settings, _) = handoff::receive(&mut stream)?;
    Ok((settings, stream))
}

/// What makes a worker of this process.
struct Assigned {
    index: usize,
    listener: TcpListener,
    inner_door: Option<UnixListener>,
    doors: Doors,
    stream: UnixStream,
}

/// Waits until this process becomes a worker; `None` when the supervisor has gone.
async fn assignment(mut stream: UnixStream) -> anyhow::Result<Option<Assigned>> {
    let received = tokio::task::spawn_blocking(move || {
        handoff::receive::<Assignment>(&mut stream).map(|(assignment, sockets)| (assignment, sockets, stream))
    });
    let (assignment, mut sockets, stream) = match received.await.context("waiting for a socket failed")? {
        Ok(received) => received,
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(anyhow::Error::new(error).context("cannot take over a socket")),
    };
    tracing::debug!(worker = assignment.index, "this process takes calls now");
    let doors = Doors::received(assignment.doors, &mut sockets);
    let socket = sockets.pop().context("no socket to listen on")?;
    let inner_door = assignment
        .inner_door
        .then(|| sockets.pop().map(UnixListener::from))
        .flatten();
    // It counts as a spare no more, for those who look at the list of processes.
    name_process(WORKER_NAME);
    Ok(Some(Assigned {
        index: assignment.index,
        listener: TcpListener::from(socket),
        inner_door,
        doors,
        stream,
    }))
}

async fn serve(settings: Settings, stream: UnixStream) -> anyhow::Result<()> {
    let Settings {
        supervisor,
        kubeconfig,
        ports,
        threads,
        config,
    } = settings;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (logs, lines, lines_lost) = LogHub::forwarding(Arc::clone(&clock));
    let logs = Arc::new(logs);
    let instances = Arc::new(InstanceHub::default());
    let inside = Inside::default();
    let registry = Registry::new();
    let shutdown = CancellationToken::new();
    let followed = shutdown.child_token();
    let (reporter, reports) = report::channel();

    let (runtime, upkeep) = kittiwake_runtime::build(
        kittiwake_runtime::Config {
            threads: u32::try_from(threads)
                .ok()
                .and_then(NonZeroU32::new)
                .unwrap_or(NonZeroU32::MIN),
            ..platform::runtime_config(&config, config.data_dir.clone(), config.max_calls)
        },
        kittiwake_runtime::Inputs {
            logs: Arc::clone(&logs),
            instances: Arc::clone(&instances),
            reporter,
            registry: registry.clone(),
            clock: Arc::clone(&clock),
            inside: inside.clone(),
        },
    )
    .context("cannot start the runtime")?;
    let client = client(&kubeconfig.0)
        .await
        .context("cannot make a client of the API")?;
    let (share_sender, share) = watch::channel(None);
    let (tables, following) = kittiwake_controllers::data_plane::build(
        platform::controllers_config(&config, ports),
        kittiwake_controllers::data_plane::Inputs {
            client: client.clone(),
            clock: Arc::clone(&clock),
            logs: Arc::clone(&logs),
            share,
            shutdown: followed.clone(),
        },
    );
    let mut table = tables.routing;
    tokio::spawn(upkeep);
    tokio::spawn(following);
    // Calls wait in the socket's queue until it is known where they go.
    let mut end = pin!(async {
        tokio::select! {
            _ = terminate.recv() => {}
            () = orphaned(supervisor) => {
                tracing::warn!("the supervisor is gone: this worker ends after the calls it has");
                // The API has gone with it; there is nothing to follow any more.
                followed.cancel();
            }
        }
    });
    let first = tokio::select! {
        seen = table.wait_for(Option::is_some) => seen.context("the API was not followed")?.clone().unwrap_or_default(),
        () = &mut end => return Ok(()),
    };
    let Assigned {
        index,
        listener,
        inner_door,
        doors,
        stream,
    } = tokio::select! {
        assigned = assignment(stream) => match assigned? {
            Some(assigned) => assigned,
            None => return Ok(()),
        },
        () = &mut end => return Ok(()),
    };
    let share = Share {
        index: u32::try_from(index).unwrap_or(u32::MAX),
        count: config.workers,
        joined: inner_door.is_some(),
    };
    share_sender.send_replace(Some(share));
    let mut divided = tables.divided;
    tokio::select! {
        divided = divided.wait_for(|divided| *divided == Some(share)) => {
            divided.context("the API was not followed")?;
        }
        () = &mut end => return Ok(()),
    }
    let inner_doors = InnerDoors::of(&config.data_dir)?;
    let neighbours = inner_door.map(|door| kittiwake_gateway::Neighbours {
        door,
        doors: inner_doors.paths(usize::try_from(config.workers).unwrap_or(usize::MAX)),
    });
    let first = table.borrow_and_update().clone().unwrap_or(first);
    let (routes_sender, routes) = watch::channel(first);
    tokio::spawn(pass_on(table, routes_sender));
    let (stats_sender, stats) = scale::channel();
    let (issued, follow_issued) = acme::follow(&client, followed.clone());
    tokio::spawn(follow_issued);
    let (gateway, gateway_task) = kittiwake_gateway::build(
        platform::gateway_config(&config),
        kittiwake_gateway::Inputs {
            listener,
            also: doors.listeners(),
            issued,
            routes,
            invoke: Arc::clone(&runtime) as Arc<dyn Invoke>,
            activator: kittiwake_gateway::ActivatorInputs {
                residents: runtime as Arc<dyn Residents>,
                scale: tables.scale,
                stats: stats_sender,
                instances: Arc::clone(&instances),
                process: kittiwake_runtime::THIS_PROCESS,
            },
            neighbours,
            registry: registry.clone(),
            clock,
            inside,
            logs: Arc::clone(&logs),
            shutdown: shutdown.clone(),
        },
    )
    .context("cannot start the gateway")?;
    let mut gateway_task = tokio::spawn(gateway_task);

    let (cut_sender, cut) = mpsc::channel(1);
    let talk = Talk {
        link: Link::new(stream).context("cannot use the link")?,
        registry,
        routes: gateway.table_in_use(),
        said: Arc::default(),
        lines,
        lines_lost,
        reports,
        stats,
        silent: false,
        instances,
        told: Vec::new(),
        cut,
    };
    tokio::spawn(async move {
        // The link breaks when the supervisor ends or becomes another program; calls are answered all the same.
        if let Err(error) = talk.run().await {
            tracing::debug!(%error, "the link is broken");
        }
    });
    tokio::select! {
        () = end => {}
        _ = &mut gateway_task => anyhow::bail!("the gateway ended unexpectedly"),
    }
    let cut = gateway.hand_over(config.drain, LINGER).await;
    // Told where there is someone to tell; the supervisor reads until this process has ended.
    let _ = cut_sender.send(cut).await;
    cut_sender.closed().await;
    shutdown.cancel();
    Ok(())
}

/// A client of the API, with the credentials that the supervisor handed over.
async fn client(kubeconfig: &str) -> anyhow::Result<kube::Client> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

async fn pass_on(
    mut table: watch::Receiver<Option<Arc<RoutingTable>>>,
    routes: watch::Sender<Arc<RoutingTable>>,
) {
    while table.changed().await.is_ok() {
        if let Some(table) = table.borrow_and_update().clone() {
            routes.send_replace(table);
        }
    }
}

/// Resolves when the supervisor has ended. One that becomes another program stays the same process.
async fn orphaned(supervisor: u32) {
    while std::os::unix::process::parent_id() == supervisor {
        tokio::time::sleep(ORPHAN_CHECK_PERIOD).await;
    }
}

/// What a worker tells over its link.
struct Talk {
    link: Link,
    registry: Registry,
    routes: watch::Receiver<Arc<RoutingTable>>,
    /// The routes as they were told.
    said: Arc<RoutingTable>,
    lines: mpsc::Receiver<LogLine>,
    lines_lost: Arc<AtomicU64>,
    reports: mpsc::Receiver<Report>,
    stats: mpsc::Receiver<Stats>,
    /// Whether the stats told last were none.
    silent: bool,
    instances: Arc<InstanceHub>,
    /// The revisions in memory as they were told.
    told: Vec<InMemory>,
    cut: mpsc::Receiver<usize>,
}

impl Talk {
    /// Talks until the end of the drain has been told.
    async fn run(mut self) -> std::io::Result<()> {
        self.tell_routes().await?;
        self.link.say(&Up::Ready).await?;
        let mut look = tokio::time::interval(LIVE_PERIOD);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => self.tell_live().await?,
                asked = self.link.next::<Down>() => match asked? {
                    Some(Down::Metrics) => self.tell_metrics().await?,
                    Some(Down::End { revision, place }) => self.instances.end(Ending {
                        revision: revision.into(),
                        instance: place.map(|place| InstanceId { process: THIS_PROCESS, place }),
                    }),
                    None => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                },
                Some(line) = self.lines.recv() => {
                    self.link.say(&Up::Log(line.into())).await?;
                    let lost = self.lines_lost.swap(0, Ordering::Relaxed);
                    if lost > 0 {
                        self.link.say(&Up::LogLost(lost)).await?;
                    }
                }
                Some(stats) = self.stats.recv() => {
                    // Nothing twice in a row is told once.
                    let silent = stats.of.is_empty();
                    if !(silent && self.silent) {
                        self.link.say(&Up::Stats(stats.into())).await?;
                    }
                    self.silent = silent;
                }
                Some(report) = self.reports.recv() => self.link.say(&Up::Report(report.into())).await?,
                Ok(()) = self.routes.changed() => self.tell_routes().await?,
                Some(cut) = self.cut.recv() => {
                    while let Ok(line) = self.lines.try_recv() {
                        self.link.say(&Up::Log(line.into())).await?;
                    }
                    return self.link.say(&Up::Cut(cut)).await;
                }
            }
        }
    }

    async fn tell_routes(&mut self) -> std::io::Result<()> {
        let now = Arc::clone(&self.routes.borrow_and_update());
        let words = differences(&self.said, &now);
        self.said = now;
        self.link.say(&words).await
    }

    async fn tell_live(&mut self) -> std::io::Result<()> {
        let live = self.instances.of(THIS_PROCESS);
        let live: Vec<InMemory> = live.into_iter().map(InMemory::from).collect();
        if live != self.told {
            self.link.say(&Up::Live(live.clone())).await?;
            self.told = live;
        }
        Ok(())
    }

    async fn tell_metrics(&mut self) -> std::io::Result<()> {
        let text = TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default();
        self.link.say(&Up::Metrics(text)).await
    }
}

/// What has to be said so that who knows `old` knows `new`.
fn differences(old: &RoutingTable, new: &RoutingTable) -> Up {
    let unchanged = |a: &Arc<RouteEntry>, b: &Arc<RouteEntry>| Arc::ptr_eq(a, b) || a == b;
    let changed = new
        .iter()
        .filter(|(host, entry)| !old.lookup(host).is_some_and(|before| unchanged(before, entry)))
        .map(|(host, entry)| Placed {
            host: host.to_owned(),
            namespace: entry.namespace.to_string(),
            route: entry.name.to_string(),
            fingerprint: entry.fingerprint(),
        })
        .collect();
    let removed = old
        .iter()
        .filter(|(host, _)| new.lookup(host).is_none())
        .map(|(host, _)| host.to_owned())
        .collect();
    Up::Routes { changed, removed }
}
