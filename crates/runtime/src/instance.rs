//! Instances, and those that are kept between calls.
//!
//! A Revision chooses with `kittiwake.dev/isolation` whether an instance may serve more than one call. By default it
//! may not. One that may is kept only when its call ended well and left nothing of it behind: no request, body or
//! response that the guest still holds. It serves a limited number of calls and waits a limited time for the next.
//!
//! What reuse keeps is what the guest keeps: its memory, globals and tables. It never crosses from one Revision, or
//! one version of its environment, to another.

use crate::direct;
use crate::engine::WasmEngine;
use crate::host::Host;
use crate::metrics::{Counted, Metrics};
use kittiwake_core::revision::RevisionSpec;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;
use wasmtime_wasi_http::p2::bindings::Proxy;

/// Calls that one instance serves. It bounds what a guest that leaks can pile up.
pub(crate) const CALLS_MAX: u32 = 1000;
/// Instances that wait for calls of one function; one that ends its call beyond it is dropped.
const WAITING_MAX: usize = 64;
/// How long an instance waits for its next call.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(10);

/// One instance of a component. Its parts go in this order: first the guest, then its slot.
pub(crate) struct Instance {
    /// The guest and everything it has.
    pub wasm_store: Store<Host>,
    /// Its handler.
    pub handler: Handler,
    calls: u32,
    _slot: OwnedSemaphorePermit,
    _live: Counted,
}

/// What of an instance is called.
pub(crate) enum Handler {
    /// That of a component.
    Component(Proxy),
    /// That of the core module of one.
    Core(direct::Handler),
}

/// A slot in which an instance is to be made.
pub(crate) struct Place {
    slot: OwnedSemaphorePermit,
    live: Counted,
}

impl Place {
    /// The place that `slot` stands for.
    pub(crate) fn new(slot: OwnedSemaphorePermit, metrics: &Metrics) -> Self {
        Self {
            slot,
            live: Counted::new(&metrics.instances_live),
        }
    }

    /// An instance that was made in it.
    pub(crate) fn hold(self, wasm_store: Store<Host>, handler: Handler) -> Instance {
        Instance {
            wasm_store,
            handler,
            calls: 0,
            _slot: self.slot,
            _live: self.live,
        }
    }
}

impl Instance {
    /// Whether it may serve another call: see the module's documentation.
    fn may_stay(&mut self) -> bool {
        let host = self.wasm_store.data_mut();
        self.calls < CALLS_MAX && host.folders.check().is_ok() && host.holds_nothing_of_a_call()
    }
}

/// The instances of one function that wait for a call.
#[derive(Default)]
pub(crate) struct Waiting(Mutex<Vec<Waiter>>);

struct Waiter {
    instance: Instance,
    revision: Arc<RevisionSpec>,
    since: Duration,
    _waits: Counted,
}

impl Waiting {
    /// The instance that waited shortest, if there is one for this very version of the revision. Never waits for
    /// another call that looks at the same time; it gets an instance of its own then.
    pub(crate) fn take(&self, revision: &Arc<RevisionSpec>) -> Option<Instance> {
        let mut waiting = self.0.try_lock().ok()?;
        while let Some(waiter) = waiting.pop() {
            let mut instance = waiter.instance;
            let keeps_little = instance.wasm_store.data().folders.check().is_ok();
            if keeps_little && Arc::ptr_eq(&waiter.revision, revision) {
                WasmEngine::begin_turn(&mut instance.wasm_store);
                return Some(instance);
            }
        }
        None
    }

    /// Keeps an instance whose call has ended well, if it may stay.
    pub(crate) fn put(
        &self,
        mut instance: Instance,
        revision: &Arc<RevisionSpec>,
        now: Duration,
        metrics: &Metrics,
    ) {
        instance.calls = instance.calls.saturating_add(1);
        if !instance.may_stay() {
            return;
        }
        let Ok(mut waiting) = self.0.try_lock() else {
            return;
        };
        if waiting.len() < WAITING_MAX {
            waiting.push(Waiter {
                instance,
                revision: Arc::clone(revision),
                since: now,
                _waits: Counted::new(&metrics.instances_waiting),
            });
        }
    }

    /// Drops the instances that have waited for `wait_max` or longer.
    pub(crate) fn expire(&self, now: Duration, wait_max: Duration) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The last one in is taken first, so the first ones have waited longest.
        let stays = |waiter: &Waiter| now.saturating_sub(waiter.since) < wait_max;
        let first = waiting.iter().position(stays).unwrap_or(waiting.len());
        let expired: Vec<Waiter> = waiting.drain(..first).collect();
        // Instances take a while to go; calls need not wait for that.
        drop(waiting);
        drop(expired);
    }
}
