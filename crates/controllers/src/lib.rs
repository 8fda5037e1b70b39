//! One reconciler per kind, each a pure plan and a thin apply, speaking only through `kube::Client`.
//!
//! # The rules of reconcilers
//! 1. **A reconciler gets a key and nothing else.** What happened to the object is not told and must not matter:
//!    it reads the newest known state and moves the world one step towards what the spec asks for.
//! 2. **Doing it again changes nothing.** A plan made from a world that already is as wished is empty; an empty plan
//!    writes nothing. So events may be lost, doubled and merged.
//! 3. **The decision is pure.** `plan(desired, observed, now)` knows no client, no clock and no channel, and is tested
//!    as a table. `apply` carries a plan out and decides nothing.
//! 4. **Reads are local.** Every list is a reflector's store ([`reflectors`]). A store may lag behind one's own
//!    writes; the server then answers 409, and the key is tried again. 404 and 410 mean that someone was faster.
//! 5. **One key runs once at a time** ([`runner`]). Long work (pulling, compiling) runs beside the reconcilers and
//!    only leaves its result where the next run of the key finds it ([`revision::preparation`]).
//! 6. **One writer per field.** Status is written through `/status`, by the reconciler of that kind alone, with the
//!    resourceVersion that it was planned from, under one field manager ([`FIELD_MANAGER`]).
//! 7. **Failures are state.** What the owner can act on becomes a condition and an Event; what nobody can act on
//!    (a conflict, a server that is away) becomes a retry with growing pauses.
//!
//! ```text
//! Service ─► Configuration ─► Revision ─► PodAutoscaler        (each arrow: makes, then mirrors its status)
//!        └─► Route ─────────────▲  status.traffic ─► routing table ─► gateway
//! stats ─► deciders ─► PodAutoscaler's status ─► scale table ─► gateway
//! ```
//! Architecture invariant: no reconciler calls another; they meet only in API objects, in the queue and in what this
//! process knows about artifacts.

pub mod certificates;
pub mod config;
pub mod configuration;
pub mod context;
pub mod data_plane;
pub mod domain_mapping;
pub mod error;
pub mod events;
pub mod garbage_collector;
pub mod health;
pub mod index;
pub mod kpa;
pub mod labeler;
pub mod object;
pub mod pod_autoscaler;
pub mod reflectors;
pub mod revision;
pub mod route;
pub mod routing_table;
pub mod runner;
pub mod scale_table;
pub mod service;
pub mod settings;
pub mod stored_only;
pub mod user_pod_autoscaler;

pub use config::Config;
pub use error::Error;

use context::{Context, Queues};
use futures::FutureExt;
use futures::future::BoxFuture;
use index::Index;
use kittiwake_core::artifact::Prepare;
use kittiwake_core::clock::Clock;
use kittiwake_core::log::LogHub;
use kittiwake_core::report::Report;
use kittiwake_core::routing_table::{Gateways, RoutingTable};
use kittiwake_core::scale::{ScaleTable, Stats};
use kittiwake_core::share::Share;
use object::ObjectKey;
use runner::{Next, Queue};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The field manager of everything that is written here.
pub const FIELD_MANAGER: &str = "kittiwake-controllers";

/// What the controllers are given.
pub struct Inputs {
    /// The Kubernetes API: our own, in process, or a real cluster's.
    pub client: kube::Client,
    /// Makes artifacts ready.
    pub prepare: Arc<dyn Prepare>,
    /// What the data plane saw.
    pub reports: mpsc::Receiver<Report>,
    /// What the request path saw of calls and instances.
    pub stats: mpsc::Receiver<Stats>,
    /// Who carries the routing table out. A Route is ready when they do. After they have taken over what they had not
    /// before, [`Handle::gateways_changed`] has to be called.
    pub gateways: Arc<dyn Gateways>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where functions' logs are; those of deleted revisions are forgotten.
    pub logs: Arc<LogHub>,
    /// Where the autoscaler's metrics go.
    pub registry: prometheus::Registry,
    /// Ends everything.
    pub shutdown: CancellationToken,
}

/// What others hold of the running controllers.
#[derive(Clone)]
pub struct Handle {
    routing_table: watch::Receiver<Arc<RoutingTable>>,
    scale_table: watch::Receiver<Arc<ScaleTable>>,
    synced: watch::Receiver<bool>,
    // Not the context: its client holds the API server, which may hold this handle.
    queues: Arc<Queues>,
    index: Arc<Mutex<Index>>,
}

impl Handle {
    /// The newest routing table.
    #[must_use]
    pub fn routing_table(&self) -> watch::Receiver<Arc<RoutingTable>> {
        self.routing_table.clone()
    }

    /// How many instances of each Revision there shall be in all processes together.
    #[must_use]
    pub fn scale_table(&self) -> watch::Receiver<Arc<ScaleTable>> {
        self.scale_table.clone()
    }

    /// Has a Route looked at again, because of what the gateways have of it.
    pub fn gateways_changed(&self, namespace: &str, route: &str) {
        let route = ObjectKey::new(namespace, route);
        let mappings = {
            let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
            index.mapping_targets.to(&route)
        };
        for mapping in mappings {
            self.queues.domain_mapping.add(mapping);
        }
        self.queues.route.add(route);
    }

    /// Resolves once every object was seen, the revisions that had been ready before are routed again (or have failed
    /// to become so), and Services say where they are called now. Also resolves when the controllers ended.
    pub async fn synced(&mut self) {
        // An error means that the controllers ended, after which waiting makes no sense.
        let _ = self.synced.wait_for(|synced| *synced).await;
    }
}

/// The running of the controllers; resolves after [`Inputs::shutdown`].
pub type Task = BoxFuture<'static, ()>;

/// One reconciler: its name for logs, its queue, and what is done for a key.
struct Row {
    name: &'static str,
    queue: fn(&Queues) -> &Queue,
    reconcile: fn(Arc<Context>, ObjectKey) -> BoxFuture<'static, Result<Next, Error>>,
}

/// Every reconciler.
const ROWS: [Row; 9] = [
    Row {
        name: "service",
        queue: |q| &q.service,
        reconcile: |c, k| service::reconcile(c, k).boxed(),
    },
    Row {
        name: "configuration",
        queue: |q| &q.configuration,
        reconcile: |c, k| configuration::reconcile(c, k).boxed(),
    },
    Row {
        name: "revision",
        queue: |q| &q.revision,
        reconcile: |c, k| revision::reconcile(c, k).boxed(),
    },
    Row {
        name: "route",
        queue: |q| &q.route,
        reconcile: |c, k| route::reconcile(c, k).boxed(),
    },
    Row {
        name: "labeler",
        queue: |q| &q.labeler,
        reconcile: |c, k| labeler::reconcile(c, k).boxed(),
    },
    Row {
        name: "garbage-collector",
        queue: |q| &q.garbage_collector,
        reconcile: |c, k| garbage_collector::reconcile(c, k).boxed(),
    },
    Row {
        name: "domain-mapping",
        queue: |q| &q.domain_mapping,
        reconcile: |c, k| domain_mapping::reconcile(c, k).boxed(),
    },
    Row {
        name: "pod-autoscaler",
        queue: |q| &q.pod_autoscaler,
        reconcile: |c, k| pod_autoscaler::reconcile(c, k).boxed(),
    },
    Row {
        name: "user-pod-autoscaler",
        queue: |q| &q.user_pod_autoscaler,
        reconcile: |c, k| user_pod_autoscaler::reconcile(c, k).boxed(),
    },
];

/// Makes the controllers. Nothing runs before the task is polled.
///
/// # Errors
/// When a name of their metrics is taken in the registry.
pub fn build(config: Config, inputs: Inputs) -> Result<(Handle, Task), prometheus::Error> {
    let metrics = kpa::metrics::Metrics::register(&inputs.registry)?;
    let refusals = settings::Refusals::register(&inputs.registry)?;
    let (table_sender, routing_table) = watch::channel(Arc::default());
    let (scales_sender, scale_table) = watch::channel(Arc::default());
    let (synced_sender, synced) = watch::channel(false);
    let (stores, reflectors) = reflectors::new(&inputs.client);
    let (event_sink, event_publisher) = events::channel(inputs.client.clone(), Arc::clone(&inputs.clock));
    let shutdown = inputs.shutdown.clone();
    let stored_only = stored_only::run(inputs.client.clone(), Arc::clone(&inputs.clock));
    let context = Arc::new(Context::new(
        config,
        &inputs,
        stores,
        event_sink,
        metrics,
        refusals,
        routing_table.clone(),
    ));
    let (queues, index) = (Arc::clone(&context.queues), context.shared_index());
    let task = async move {
        let mut tasks = JoinSet::new();
        reflectors.spawn(&mut tasks, &context);
        tasks.spawn(event_publisher.run());
        tasks.spawn(stored_only);
        tasks.spawn(health::listen(Arc::clone(&context), inputs.reports));
        tasks.spawn(kpa::run(Arc::clone(&context), inputs.stats));
        let scales = Arc::clone(&context);
        tasks.spawn(async move {
            let (_whole, share) = watch::channel(Some(Share::WHOLE));
            scales.scales.publish(share, scales_sender).await;
        });
        tasks.spawn(run_when_seen(Arc::clone(&context), table_sender, synced_sender));
        shutdown.cancelled().await;
        tasks.shutdown().await;
        context.preparations.stop();
    };
    let handle = Handle {
        routing_table,
        scale_table,
        synced,
        queues,
        index,
    };
    Ok((handle, task.boxed()))
}

/// Runs all reconcilers once every reflector has listed its kind, so that none mistakes "not seen" for "not there".
async fn run_when_seen(
    context: Arc<Context>,
    table: watch::Sender<Arc<RoutingTable>>,
    synced: watch::Sender<bool>,
) {
    context.stores.wait_until_seen().await;
    settings::refresh(&context);
    let mut runs: Vec<BoxFuture<'static, ()>> = ROWS
        .iter()
        .map(|row| {
            let context = Arc::clone(&context);
            async move {
                let reconcile = |key| (row.reconcile)(Arc::clone(&context), key);
                runner::run(row.name, (row.queue)(&context.queues), reconcile).await;
            }
            .boxed()
        })
        .collect();
    runs.push(routing_table::run(context, table, synced).boxed());
    futures::future::join_all(runs).await;
}
