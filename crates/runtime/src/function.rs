//! Functions in memory: one per revision that was called lately, found without a lock.

use crate::component::Loaded;
use crate::gate::Gate;
use arc_swap::ArcSwap;
use kittiwake_core::log::RevisionLog;
use kittiwake_core::report::{Health, Report, Reporter};
use kittiwake_core::revision::RevisionSpec;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Parts of the table; each is copied when a function comes or goes, so a part holds few even with 10,000 functions.
const SHARDS: usize = 64;
/// A function that only ever failed stays this many times longer, so that its recovery can be told.
const FAILING_STAYS_TIMES: u32 = 10;

/// Everything one revision needs to answer calls.
pub(crate) struct Function {
    /// Its component.
    pub loaded: Arc<Loaded>,
    /// Its log.
    pub log: Arc<RevisionLog>,
    /// Holds calls to `containerConcurrency`.
    pub gate: Option<Gate>,
    calls: AtomicUsize,
    used_millis: AtomicU64,
    answered: AtomicBool,
    failing: AtomicBool,
}

/// Counts a call as running, so that its function is not unloaded.
pub(crate) struct Running(Arc<Function>);

impl Function {
    /// A function that has not been called.
    pub(crate) fn new(
        revision: &RevisionSpec,
        loaded: Arc<Loaded>,
        log: Arc<RevisionLog>,
        now: Duration,
    ) -> Self {
        Self {
            loaded,
            log,
            gate: revision.limits.concurrency.map(Gate::new),
            calls: AtomicUsize::new(0),
            used_millis: AtomicU64::new(millis(now)),
            answered: AtomicBool::new(false),
            failing: AtomicBool::new(false),
        }
    }

    /// Starts a call at `now`.
    pub(crate) fn run(self: &Arc<Self>, now: Duration) -> Running {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.used_millis.store(millis(now), Ordering::Relaxed);
        Running(Arc::clone(self))
    }

    /// Notes an answered call; the first one after a failure is reported.
    pub(crate) fn succeeded(&self, revision: &RevisionSpec, reporter: &Reporter) {
        if !self.answered.load(Ordering::Relaxed) {
            self.answered.store(true, Ordering::Relaxed);
        }
        if self.failing.load(Ordering::Relaxed) && self.failing.swap(false, Ordering::Relaxed) {
            send(revision, reporter, Health::Recovered);
        }
    }

    /// Notes a trap; reported when the function has never answered since it was loaded.
    pub(crate) fn trapped(&self, revision: &RevisionSpec, reporter: &Reporter, message: &str) {
        if !self.answered.load(Ordering::Relaxed) && !self.failing.swap(true, Ordering::Relaxed) {
            send(
                revision,
                reporter,
                Health::Failing {
                    message: message.to_owned(),
                },
            );
        }
    }

    fn is_idle(&self, now: Duration, idle: Duration) -> bool {
        let idle = if self.failing.load(Ordering::Relaxed) {
            idle.saturating_mul(FAILING_STAYS_TIMES)
        } else {
            idle
        };
        let since = millis(now).saturating_sub(self.used_millis.load(Ordering::Relaxed));
        self.calls.load(Ordering::Relaxed) == 0 && since >= millis(idle)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

fn send(revision: &RevisionSpec, reporter: &Reporter, health: Health) {
    reporter.report(Report {
        revision: revision.key.clone(),
        uid: Arc::clone(&revision.uid),
        health,
    });
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

type Shard = HashMap<Arc<str>, Arc<Function>>;

/// All functions in memory, by the uid of their revision.
pub(crate) struct Functions {
    shards: Vec<ArcSwap<Shard>>,
    changing: Mutex<()>,
    hasher: RandomState,
}

impl Functions {
    /// None.
    pub(crate) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| ArcSwap::from_pointee(Shard::new())).collect();
        Self {
            shards,
            changing: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    fn shard(&self, uid: &str) -> Option<&ArcSwap<Shard>> {
        let index = usize::try_from(self.hasher.hash_one(uid) % SHARDS as u64).unwrap_or_default();
        self.shards.get(index)
    }

    /// The function of a revision.
    pub(crate) fn get(&self, uid: &str) -> Option<Arc<Function>> {
        self.shard(uid)?.load().get(uid).cloned()
    }

    /// Adds a function.
    pub(crate) fn insert(&self, uid: Arc<str>, function: Arc<Function>) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(shard) = self.shard(&uid) else { return };
        let mut next = Shard::clone(&shard.load());
        next.insert(uid, function);
        shard.store(Arc::new(next));
    }

    /// Removes the functions that were not called for `idle`; returns how many are left.
    pub(crate) fn unload_idle(&self, now: Duration, idle: Duration) -> usize {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = 0;
        for shard in &self.shards {
            let current = shard.load();
            let busy = current
                .values()
                .filter(|function| !function.is_idle(now, idle))
                .count();
            left += busy;
            if busy < current.len() {
                let mut next = Shard::clone(&current);
                next.retain(|_, function| !function.is_idle(now, idle));
                shard.store(Arc::new(next));
            }
        }
        left
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.load().len()).sum()
    }
}
