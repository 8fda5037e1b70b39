//! The wasmtime engine: pooled slots, copy-on-write memories, and a tick that makes running guests yield.

pub(crate) mod swap;

use crate::config::Config;
use crate::direct;
use crate::error::BuildError;
use crate::gate::{Gate, Refused};
use sha2::{Digest as _, Sha256};
use std::hash::{Hash, Hasher};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use wasmtime::{
    AsContextMut, Config as EngineConfig, Enabled, Engine, EngineWeak, InstanceAllocationStrategy,
    PoolingAllocationConfig,
};

/// Core instances of one component instance that are counted on, adapters and shims included: a dynamically linked
/// Python guest has about twenty-five. It is a mere count, the pool keeps nothing for them.
const CORE_INSTANCES_PER_INSTANCE: u32 = 32;
/// Memories of one component instance that are counted on: the modules of a dynamically linked guest share one, each
/// part of a composed component has its own. Costs address space only, 4 GiB each.
const MEMORIES_PER_INSTANCE: u32 = 2;
/// Tables of one component instance that are counted on: those of the modules and of the shims between them. Costs
/// address space only, [`TABLE_ELEMENTS_MAX`] pointers each.
const TABLES_PER_INSTANCE: u32 = 4;
/// Entries of one table, in the pool and without it.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 20_000;
/// Stack that guest code may use, in bytes.
const WASM_STACK_BYTES: usize = 512 * 1024;
/// Whole stack of a call, host functions included, in bytes.
const CALL_STACK_BYTES: usize = 1024 * 1024;
/// What stays in memory of a slot that is given back, rather than being returned to the system. All of the stack's
/// part is written each time; a call with the usual host functions needs less than it.
struct KeepResident {
    memory_bytes: usize,
    table_bytes: usize,
    stack_bytes: usize,
}

/// Only pages that the guest wrote are reset, so this is a limit on what a slot holds while it waits for its next
/// guest: the written pages of most functions fit.
const KEEP_WRITTEN: KeepResident = KeepResident {
    memory_bytes: 512 * 1024,
    table_bytes: 16 * 1024,
    stack_bytes: 16 * 1024,
};
/// All of it is written when a slot is given back, so it is kept small.
const KEEP_BLINDLY: KeepResident = KeepResident {
    memory_bytes: 64 * 1024,
    table_bytes: 16 * 1024,
    stack_bytes: 16 * 1024,
};
/// How long the tick goes on when no guest runs, before its thread sleeps.
const TICK_LINGER: Duration = Duration::from_secs(1);
/// How often the sleeping tick looks whether the engine is gone.
const TICK_SLEEP: Duration = Duration::from_secs(5);

/// The engine and its slots.
pub(crate) struct WasmEngine {
    engine: Engine,
    slots: Arc<Gate>,
    ticker: Arc<Ticker>,
    config: Config,
    resets: Resets,
    calls: Calls,
}

/// How guests are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Calls {
    /// One call after the other.
    Sequential,
    /// Several at a time in one instance, as components of WASI 0.3 need it. What wasmtime keeps for that makes a call a
    /// sixth dearer, and one in a kept instance more (docs/adr/0007), so such components have an engine of their own.
    Concurrent,
}

/// How a slot is made clean for its next guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resets {
    /// The pages that were written, as the kernel tells (Linux 6.7). Right only while nothing can be swapped: see
    /// `engine/swap.rs`.
    WrittenPages,
    /// Everything.
    AllPages,
}

impl Resets {
    /// The cheapest way that is safe on this machine now.
    pub(crate) fn safest() -> Self {
        if PoolingAllocationConfig::is_pagemap_scan_available() && swap::is_impossible() {
            Self::WrittenPages
        } else {
            Self::AllPages
        }
    }
}

/// What lets guests yield: one thread for all engines with the same slots. Where it is started is where its priority is
/// from, so an engine that comes later must not bring one of its own.
struct Ticker {
    /// Whose epoch it advances, as long as there are any.
    engines: Mutex<Vec<EngineWeak>>,
    asleep: AtomicBool,
    thread: std::sync::OnceLock<std::thread::Thread>,
}

impl WasmEngine {
    /// Starts the engine and its tick.
    pub(crate) fn new(config: &Config, resets: Resets) -> Result<Self, BuildError> {
        let slots = Arc::new(Gate::new(slots(config)));
        let ticker = start_ticker(&slots, config.epoch_tick)?;
        Self::start(config, resets, Calls::Sequential, slots, ticker)
    }

    /// Starts another engine for concurrent calls. Both share the slots: an instance in one leaves one less for the
    /// other.
    pub(crate) fn concurrent(&self) -> Result<Self, BuildError> {
        let (slots, ticker) = (Arc::clone(&self.slots), Arc::clone(&self.ticker));
        Self::start(&self.config, self.resets, Calls::Concurrent, slots, ticker)
    }

    fn start(
        config: &Config,
        resets: Resets,
        calls: Calls,
        slots: Arc<Gate>,
        ticker: Arc<Ticker>,
    ) -> Result<Self, BuildError> {
        let engine = match Engine::new(&pooled(config, resets, calls)) {
            Ok(engine) => engine,
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "no address space for a pool of instances (see `ulimit -v`); instances are made one by one, which is slower"
                );
                Engine::new(&basic(calls)).map_err(|error| BuildError::Engine(format!("{error:#}")))?
            }
        };
        ticker.engines().push(engine.weak());
        Ok(Self {
            engine,
            slots,
            ticker,
            config: config.clone(),
            resets,
            calls,
        })
    }

    /// How its slots are made clean.
    pub(crate) fn resets(&self) -> Resets {
        self.resets
    }

    /// How guests are called in it.
    pub(crate) fn calls(&self) -> Calls {
        self.calls
    }

    /// wasmtime's engine.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// How many slots are taken.
    pub(crate) fn slots_taken(&self) -> usize {
        self.slots.taken()
    }

    /// Takes a slot for one instance, waiting until `deadline` or the configured limit, whichever is first.
    pub(crate) async fn slot(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Refused> {
        let permit = self
            .slots
            .enter(deadline.min(Instant::now() + self.config.slot_wait_max))
            .await?;
        self.wake_ticker();
        Ok(permit)
    }

    fn wake_ticker(&self) {
        // The semaphore's operations are weaker than the handshake needs: see the fence in `start_ticker`.
        fence(Ordering::SeqCst);
        if self.ticker.asleep.load(Ordering::Relaxed)
            && let Some(thread) = self.ticker.thread.get()
        {
            thread.unpark();
        }
    }

    /// Takes a slot if one is free.
    pub(crate) fn try_slot(&self) -> Option<OwnedSemaphorePermit> {
        let permit = self.slots.try_enter()?;
        self.wake_ticker();
        Some(permit)
    }

    /// Begins a guest's time on its thread: it yields at the next tick.
    pub(crate) fn begin_turn(mut wasm_store: impl AsContextMut) {
        wasm_store.as_context_mut().set_epoch_deadline(1);
    }

    /// A name for the compiled format: wasmtime's version, target and every setting that code depends on.
    pub(crate) fn compiled_format(&self) -> String {
        let mut hasher = StableHasher(Sha256::new());
        self.engine.precompile_compatibility_hash().hash(&mut hasher);
        direct::VERSION.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

fn slots(config: &Config) -> NonZeroU32 {
    NonZeroU32::new(config.instances_max).unwrap_or(NonZeroU32::MIN)
}

fn basic(calls: Calls) -> EngineConfig {
    let mut engine = EngineConfig::new();
    engine
        .epoch_interruption(true)
        .async_stack_zeroing(true)
        .async_stack_size(CALL_STACK_BYTES)
        .max_wasm_stack(WASM_STACK_BYTES)
        .memory_init_cow(true)
        .parallel_compilation(true)
        .wasm_component_model(true)
        .concurrency_support(calls == Calls::Concurrent);
    engine
}

fn pooled(config: &Config, resets: Resets, calls: Calls) -> EngineConfig {
    let slots = slots(config).get();
    let (scan, keep) = match resets {
        Resets::WrittenPages => (Enabled::Yes, KEEP_WRITTEN),
        Resets::AllPages => (Enabled::No, KEEP_BLINDLY),
    };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(CORE_INSTANCES_PER_INSTANCE))
        .total_memories(slots.saturating_mul(MEMORIES_PER_INSTANCE))
        .total_tables(slots.saturating_mul(TABLES_PER_INSTANCE))
        .total_stacks(slots)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(config.instance_memory_max.as_usize())
        .pagemap_scan(scan)
        .linear_memory_keep_resident(keep.memory_bytes)
        .table_keep_resident(keep.table_bytes)
        .async_stack_keep_resident(keep.stack_bytes);
    let mut engine = basic(calls);
    engine.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    engine
}

impl Ticker {
    fn engines(&self) -> MutexGuard<'_, Vec<EngineWeak>> {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Advances the epoch of every engine there is.
    fn tick(&self) {
        self.engines().retain(|engine| {
            let engine = engine.upgrade();
            if let Some(engine) = &engine {
                engine.increment_epoch();
            }
            engine.is_some()
        });
    }
}

/// Starts the thread. It sleeps while no guest runs, so that an idle platform is idle, and ends with the slots.
fn start_ticker(slots: &Arc<Gate>, tick: Duration) -> Result<Arc<Ticker>, BuildError> {
    let ticker = Arc::new(Ticker {
        engines: Mutex::default(),
        asleep: AtomicBool::new(false),
        thread: std::sync::OnceLock::new(),
    });
    let (state, slots) = (Arc::clone(&ticker), Arc::downgrade(slots));
    let handle = std::thread::Builder::new()
        .name("kittiwake-epoch".to_owned())
        .spawn(move || {
            let mut idle = Duration::ZERO;
            loop {
                std::thread::sleep(tick);
                let Some(slots) = slots.upgrade() else {
                    return;
                };
                state.tick();
                idle = if slots.is_idle() {
                    idle.saturating_add(tick)
                } else {
                    Duration::ZERO
                };
                if idle < TICK_LINGER {
                    continue;
                }
                // First say that we sleep, then look again: a call that comes between takes its slot first and then
                // reads the flag. With a fence between the two steps on both sides, one of them sees the other.
                state.asleep.store(true, Ordering::Relaxed);
                fence(Ordering::SeqCst);
                let idle_still = slots.is_idle();
                drop(slots);
                if idle_still {
                    std::thread::park_timeout(TICK_SLEEP);
                }
                state.asleep.store(false, Ordering::Relaxed);
                idle = TICK_LINGER;
            }
        })
        .map_err(BuildError::Thread)?;
    let _ = ticker.thread.set(handle.thread().clone());
    Ok(ticker)
}

/// A hasher that gives the same value in every process and build.
struct StableHasher(Sha256);

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest
            .iter()
            .take(8)
            .fold(0, |value, byte| (value << 8) | u64::from(*byte))
    }
}
