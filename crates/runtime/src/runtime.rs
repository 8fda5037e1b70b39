//! The runtime as the rest of the platform sees it.

use crate::artifact::pull::Puller;
use crate::cache::Cache;
use crate::component::Components;
use crate::config::Config;
use crate::engine::{Resets, WasmEngine, swap};
use crate::error::BuildError;
use crate::files::FileRoot;
use crate::function::{Answered, Function, Functions};
use crate::gate::Refused;
use crate::instance;
use crate::metrics::Metrics;
use crate::outside::World;
use crate::prepare::Preparations;
use crate::server::Servers;
use crate::single_flight::SingleFlight;
use crate::turns::Turns;
use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use kittiwake_core::artifact::{Prepare, PrepareError, PreparePhase, PrepareRequest, Prepared};
use kittiwake_core::body::Body;
use kittiwake_core::clock::Clock;
use kittiwake_core::inside::Inside;
use kittiwake_core::instances::{Ending, InstanceHub};
use kittiwake_core::invoke::{Invoke, InvokeError};
use kittiwake_core::log::LogHub;
use kittiwake_core::report::Reporter;
use kittiwake_core::resident::{Instances, Residents};
use kittiwake_core::revision::RevisionSpec;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};
use tokio::time::Instant;

/// How often gauges are measured and idle functions looked for; also how exactly the end of a call is known to them.
const HOUSEKEEPING_PERIOD: Duration = Duration::from_secs(1);

/// The number of this process among those that tell what lives; workers have other ones.
pub const THIS_PROCESS: u64 = u64::MAX;

/// What the runtime is handed.
pub struct Inputs {
    /// Where guests' output and traps go.
    pub logs: Arc<LogHub>,
    /// Where it is told which revisions are in memory.
    pub instances: Arc<InstanceHub>,
    /// Where the health of revisions is told.
    pub reporter: Reporter,
    /// Where metrics are registered.
    pub registry: prometheus::Registry,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The way to whoever answers when one function calls another.
    pub inside: Inside,
}

/// Unloads idle functions and measures gauges, until the [`Runtime`] is dropped. It may also just be dropped itself.
pub type Task = BoxFuture<'static, ()>;

/// Makes artifacts ready ([`Prepare`]) and answers calls ([`Invoke`]). Must be used within a tokio runtime.
pub struct Runtime {
    shared: Arc<Shared>,
}

/// A function that was brought up, with the time that took unless someone else had just done it.
pub(crate) type BroughtUp = Result<(Arc<Function>, Option<Duration>), PrepareError>;

/// What calls and preparations share.
pub(crate) struct Shared {
    pub config: Config,
    pub cache: Arc<Cache>,
    /// The components and their engine; replaced when the engine's way of reusing memory is not safe any more.
    pub components: ArcSwap<Components>,
    pub puller: Puller,
    pub preparations: Preparations,
    pub functions: Functions,
    pub turns: Arc<Turns>,
    pub servers: Servers,
    /// Where the files of instances are.
    pub file_root: Arc<FileRoot>,
    pub answered: Answered,
    pub bringing_up: SingleFlight<Arc<str>, BroughtUp>,
    pub logs: Arc<LogHub>,
    pub instances: Arc<InstanceHub>,
    pub reporter: Reporter,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
    /// What all functions share on their way out.
    pub world: Arc<World>,
}

/// Builds the runtime: starts the engine and opens the cache. Nothing is fetched yet.
pub fn build(config: Config, inputs: Inputs) -> Result<(Arc<Runtime>, Task), BuildError> {
    let metrics = Metrics::register(&inputs.registry)?;
    let engine = WasmEngine::new(&config, config.resets.unwrap_or_else(Resets::safest))?;
    let cache = Cache::open(
        &config.data_dir,
        engine.compiled_format(),
        config.cache_bytes_max,
        metrics.clone(),
    )?;
    let cache = Arc::new(cache);
    let components = components(&config, engine, &cache, &metrics)?;
    let shared = Arc::new(Shared {
        puller: Puller::new(&config)?,
        file_root: Arc::new(FileRoot::new(&config.data_dir)),
        turns: Arc::new(Turns::new(config.threads)),
        config,
        cache,
        components: ArcSwap::new(components),
        preparations: Preparations::new(),
        functions: Functions::new(),
        servers: Servers::default(),
        answered: Answered::default(),
        bringing_up: SingleFlight::new(),
        logs: inputs.logs,
        instances: inputs.instances,
        reporter: inputs.reporter,
        clock: inputs.clock,
        metrics,
        world: Arc::new(World {
            inside: inputs.inside,
            ..World::default()
        }),
    });
    let endings = shared.instances.endings();
    let task = Box::pin(keep_house(Arc::downgrade(&shared), endings));
    Ok((Arc::new(Runtime { shared }), task))
}

fn components(
    config: &Config,
    engine: WasmEngine,
    cache: &Arc<Cache>,
    metrics: &Metrics,
) -> Result<Arc<Components>, BuildError> {
    let (cache, metrics) = (Arc::clone(cache), metrics.clone());
    Components::new(engine, cache, metrics, config).map(Arc::new)
}

async fn keep_house(shared: Weak<Shared>, mut endings: broadcast::Receiver<Ending>) {
    let mut told = Duration::ZERO;
    loop {
        let ended = tokio::select! {
            () = tokio::time::sleep(HOUSEKEEPING_PERIOD) => None,
            ended = endings.recv() => ended.ok(),
        };
        let Some(shared) = shared.upgrade() else { return };
        // Those that were asked for together, as when all pods are deleted, are looked after together.
        for ending in ended
            .into_iter()
            .chain(std::iter::from_fn(|| endings.try_recv().ok()))
        {
            shared.begin_anew(&ending);
        }
        shared.components.load().tend_kept(shared.clock.elapsed());
        for function in shared.take_idle(shared.config.idle_unload) {
            shared.retire(&function);
            drop(function);
            // What leaves memory for good is unmapped: calls of others go first.
            tokio::task::yield_now().await;
        }
        shared.expire_waiting(shared.clock.elapsed(), instance::WAIT_MAX);
        shared.measure();
        shared.servers.forget_unused();
        shared.file_root.forget_unused();
        let now = shared.clock.elapsed();
        let mut live = shared.functions.live(now.saturating_sub(told));
        shared.servers.add_instances(&mut live);
        shared.instances.tell(THIS_PROCESS, live);
        told = now;
        shared.watch_swap();
    }
}

impl Shared {
    /// Ends what shall end, once its calls are answered; what is called from now on is something else.
    fn begin_anew(&self, ending: &Ending) {
        match ending.instance {
            Some(id) if id.process == THIS_PROCESS => self.servers.renew_one(&ending.revision, id.place),
            Some(_) => {}
            None => {
                // In this order, so that what begins now is a function of its own, with an age of its own.
                self.functions.remove(&ending.revision);
                self.servers.renew(&ending.revision);
            }
        }
    }

    /// An engine that resets only written pages must not be used once pages can be swapped: from then on calls get
    /// another one. Calls in flight end where they are; nothing is instantiated there after them.
    fn watch_swap(&self) {
        let current = self.components.load();
        let chosen_here = self.config.resets.is_none();
        if chosen_here && current.engine().resets() == Resets::WrittenPages && !swap::is_impossible() {
            tracing::warn!(
                "memory of this process can be swapped now: instances are reset in a slower way, which is safe then"
            );
            self.use_engine_that_resets(Resets::AllPages);
        }
    }

    /// Replaces the engine; functions are loaded anew at their next call.
    fn use_engine_that_resets(&self, resets: Resets) {
        let engine = WasmEngine::new(&self.config, resets);
        let replaced = engine.and_then(|engine| components(&self.config, engine, &self.cache, &self.metrics));
        match replaced {
            Ok(components) => {
                self.components.store(components);
                self.functions.clear();
            }
            Err(error) => tracing::error!(
                %error,
                "no engine can be made that is safe with swap: switch swap off"
            ),
        }
    }

    fn take_idle(&self, idle: Duration) -> Vec<Arc<Function>> {
        self.functions.take_idle(self.clock.elapsed(), idle)
    }

    /// A function has left memory. Its programs stay for a while.
    fn retire(&self, function: &Function) {
        let components = self.components.load();
        for loaded in std::iter::once(&function.loaded).chain(&function.sidecars) {
            components.keep(None, loaded);
        }
    }

    /// Drops the instances that have waited for a call for `wait_max` or longer, if any wait at all.
    pub(crate) fn expire_waiting(&self, now: Duration, wait_max: Duration) {
        if self.metrics.instances_waiting.get() > 0 {
            self.functions.expire_waiting(now, wait_max);
        }
    }

    /// A slot for one instance, as [`WasmEngine::slot`] has it; where none is free, those that wait for calls give way.
    pub(crate) async fn slot(
        &self,
        engine: &WasmEngine,
        deadline: Instant,
    ) -> Result<OwnedSemaphorePermit, Refused> {
        if let Some(slot) = engine.try_slot() {
            return Ok(slot);
        }
        self.expire_waiting(Duration::MAX, Duration::ZERO);
        engine.slot(deadline).await
    }

    /// Brings the gauges up to date.
    pub(crate) fn measure(&self) {
        let set =
            |gauge: &prometheus::IntGauge, value: usize| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.metrics.functions_loaded, self.functions.len());
        set(&self.metrics.guests_waiting, self.turns.waiting());
        let components = self.components.load();
        set(&self.metrics.slots_taken, components.engine().slots_taken());
        let pools: Vec<_> = components
            .engines()
            .filter_map(|engine| engine.engine().pooling_allocator_metrics())
            .collect();
        set(
            &self.metrics.pool_memories,
            pools.iter().map(|pool| pool.memories()).sum(),
        );
        set(
            &self.metrics.pool_stacks,
            pools.iter().map(|pool| pool.stacks()).sum(),
        );
    }
}

impl Runtime {
    /// Goes over to an engine that resets all of a slot, as happens by itself when swap is switched on.
    pub fn reset_all_pages(&self) {
        self.shared.use_engine_that_resets(Resets::AllPages);
    }

    /// Drops the functions that have not been called for `idle` from memory. The task does so by itself; this is for
    /// operators and tests that do not want to wait.
    pub fn unload_idle(&self, idle: Duration) {
        for function in self.shared.take_idle(idle) {
            self.shared.retire(&function);
        }
        self.shared
            .components
            .load()
            .tend_kept(self.shared.clock.elapsed());
        self.shared.measure();
    }
}

impl Drop for Runtime {
    /// Instances that stay end with it.
    fn drop(&mut self) {
        self.shared.servers.stop();
    }
}

impl Prepare for Runtime {
    fn prepare(
        &self,
        request: PrepareRequest,
        progress: Arc<dyn Fn(PreparePhase) + Send + Sync>,
    ) -> BoxFuture<'static, Result<Prepared, PrepareError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.prepare(request, progress).await })
    }

    fn recall(&self, image: &str) -> Option<Prepared> {
        self.shared.recall(image)
    }
}

impl Residents for Runtime {
    fn scale(&self, revision: &Arc<RevisionSpec>, count: u32) {
        self.shared
            .servers
            .group(revision, &self.shared)
            .scale(revision, count);
    }

    fn instances(&self, revision: &Arc<RevisionSpec>) -> watch::Receiver<Instances> {
        self.shared.servers.group(revision, &self.shared).instances()
    }
}

impl Invoke for Runtime {
    fn invoke(
        &self,
        revision: Arc<RevisionSpec>,
        request: http::Request<Body>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, InvokeError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.call(revision, request).await })
    }
}
