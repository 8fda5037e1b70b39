//! Functions in memory: one per revision that was called lately, found without a lock.

use crate::component::Loaded;
use crate::host::MemoryUse;
use crate::instance::Waiting;
use crate::outside::{Outside, World};
use crate::prepare::EXIT_CODE_OF_TRAP;
use crate::service::Service;
use crate::turns::{Line, Turns};
use arc_swap::ArcSwap;
use jiff::Timestamp;
use kittiwake_core::clock::Clock;
use kittiwake_core::instances::{self, Live};
use kittiwake_core::log::RevisionLog;
use kittiwake_core::report::{Health, Report, Reporter};
use kittiwake_core::revision::{RevisionKey, RevisionSpec};
use kittiwake_core::unit::ByteCount;
use pin_project_lite::pin_project;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

/// Parts of the table; each is copied when a function comes or goes, so a part holds few even with 10,000 functions.
const SHARDS: usize = 64;
/// A function that only ever failed stays this many times longer, so that its recovery can be told.
const FAILING_STAYS_TIMES: u32 = 10;
/// Revisions that are remembered to have answered, about 100 bytes each: several of each of 10,000 functions.
const ANSWERED_REVISIONS_MAX: usize = 32 * 1024;

/// Everything one revision needs to answer calls.
pub(crate) struct Function {
    /// Its component.
    pub loaded: Arc<Loaded>,
    /// The programs of its sidecars, in the order of the revision.
    pub sidecars: Vec<Arc<Loaded>>,
    /// Its log.
    pub log: Arc<RevisionLog>,
    /// Instances kept from earlier calls.
    pub waiting: Waiting,
    /// Instances that serve several calls at a time, where its component is a `wasi:http` 0.3 service.
    pub service: Service,
    /// What its instances use.
    pub meter: Meter,
    /// Its way to other servers.
    pub outside: Arc<Outside>,
    key: RevisionKey,
    since: Timestamp,
    usage: Usage,
    answered: AtomicBool,
    failing: AtomicBool,
}

/// What the instances of a function use. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    /// Linear memory.
    pub memory: Arc<MemoryUse>,
    processor: Arc<Processor>,
}

/// The processor, as the guests of one function use it.
#[derive(Debug)]
struct Processor {
    /// Time that they were polled, since that was last told.
    busy_nanos: AtomicU64,
    turns: Arc<Turns>,
    /// The function's number among those that wait for a turn.
    line: u64,
}

impl Meter {
    /// For the guests of a function, which takes its turns on the processor with the others.
    pub(crate) fn new(turns: &Arc<Turns>) -> Self {
        let processor = Processor {
            busy_nanos: AtomicU64::new(0),
            turns: Arc::clone(turns),
            line: Turns::number(),
        };
        Self {
            memory: Arc::default(),
            processor: Arc::new(processor),
        }
    }

    /// Runs a guest in its turns, and counts the time in which it is polled. `waited` is told how long the first turn
    /// took to come, before the guest runs, unless it came at once.
    pub(crate) fn run<F: Future, W: FnOnce(Duration)>(self, guest: F, waited: W) -> Metered<F, W> {
        Metered {
            line: self.line(),
            waited: Some(waited),
            guest,
            meter: self,
        }
    }

    /// The turns of one guest.
    pub(crate) fn line(&self) -> Line {
        Line::new(&self.processor.turns, self.processor.line)
    }

    /// Polls a guest if it is its turn, as [`Line::poll`] does, and counts the time that takes.
    pub(crate) fn poll<R>(
        &self,
        line: &mut Line,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>, Duration) -> R,
    ) -> Option<R> {
        let Poll::Ready(polled) = line.poll(cx, poll) else {
            return None;
        };
        let nanos = u64::try_from(polled.cost.as_nanos()).unwrap_or(u64::MAX);
        self.processor.busy_nanos.fetch_add(nanos, Ordering::Relaxed);
        Some(polled.result)
    }

    /// Processor time since this was last asked.
    fn take_busy(&self) -> Duration {
        Duration::from_nanos(self.processor.busy_nanos.swap(0, Ordering::Relaxed))
    }
}

pin_project! {
    /// A guest as [`Meter::run`] runs it. Not an async function, whose future would have room for the guest twice.
    pub(crate) struct Metered<F, W> {
        line: Line,
        waited: Option<W>,
        #[pin]
        guest: F,
        meter: Meter,
    }
}

impl<F: Future, W: FnOnce(Duration)> Future for Metered<F, W> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let polled = this.meter.poll(this.line, cx, |cx, wait| {
            if let Some(waited) = this.waited.take()
                && !wait.is_zero()
            {
                waited(wait);
            }
            this.guest.poll(cx)
        });
        // Without its turn it is pending too.
        polled.unwrap_or(Poll::Pending)
    }
}

/// The calls that run, and when a call last ran.
#[derive(Default)]
struct Usage {
    calls: AtomicUsize,
    used_millis: AtomicU64,
}

/// Counts a call as running, so that its function is not unloaded.
pub(crate) struct Running(Arc<Function>);

impl Function {
    /// A function that was just loaded, whose instances are among those of `turns`; `answered` tells whether its
    /// revision ever answered a call.
    pub(crate) fn new(
        revision: &RevisionSpec,
        (loaded, sidecars): (Arc<Loaded>, Vec<Arc<Loaded>>),
        log: Arc<RevisionLog>,
        turns: &Arc<Turns>,
        world: &Arc<World>,
        clock: &dyn Clock,
        answered: bool,
    ) -> Self {
        let now = clock.elapsed();
        Self {
            loaded,
            sidecars,
            log,
            waiting: Waiting::default(),
            service: Service::default(),
            meter: Meter::new(turns),
            outside: Arc::new(Outside::new(world)),
            key: revision.key.clone(),
            since: clock.now(),
            usage: Usage {
                calls: AtomicUsize::new(0),
                used_millis: AtomicU64::new(millis(now)),
            },
            answered: AtomicBool::new(answered),
            failing: AtomicBool::new(false),
        }
    }

    /// Starts a call at `now`.
    pub(crate) fn run(self: &Arc<Self>, now: Duration) -> Running {
        self.usage.begin(now);
        Running(Arc::clone(self))
    }

    /// Notes an answered call; the first one after a failure is reported.
    pub(crate) fn succeeded(&self, revision: &RevisionSpec, reporter: &Reporter, answered: &Answered) {
        if !self.answered.load(Ordering::Relaxed) {
            self.answered.store(true, Ordering::Relaxed);
            answered.insert(&revision.uid);
        }
        if self.failing.load(Ordering::Relaxed) && self.failing.swap(false, Ordering::Relaxed) {
            send(revision, reporter, Health::Recovered);
        }
    }

    /// Notes a failure of the guest; reported when its revision has never answered.
    pub(crate) fn trapped(&self, revision: &RevisionSpec, reporter: &Reporter, message: &str) {
        if !self.answered.load(Ordering::Relaxed) && !self.failing.swap(true, Ordering::Relaxed) {
            self.failing(revision, reporter, message, EXIT_CODE_OF_TRAP);
        }
    }

    /// Notes that no instance of it takes calls because they fail, whether or not it ever answered.
    pub(crate) fn failing(
        &self,
        revision: &RevisionSpec,
        reporter: &Reporter,
        message: &str,
        exit_code: i32,
    ) {
        self.failing.store(true, Ordering::Relaxed);
        let message = message.to_owned();
        send(revision, reporter, Health::Failing { message, exit_code });
    }

    /// Notes that an instance of it takes calls.
    pub(crate) fn recovered(&self, revision: &RevisionSpec, reporter: &Reporter) {
        if self.failing.swap(false, Ordering::Relaxed) {
            send(revision, reporter, Health::Recovered);
        }
    }

    fn is_idle(&self, now: Duration, idle: Duration) -> bool {
        let idle = if self.failing.load(Ordering::Relaxed) {
            idle.saturating_mul(FAILING_STAYS_TIMES)
        } else {
            idle
        };
        self.usage.is_idle(now, idle)
    }
}

impl Usage {
    fn begin(&self, now: Duration) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.used_millis.store(millis(now), Ordering::Relaxed);
    }

    fn end(&self) {
        self.calls.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether there was no call for `idle`. Must be asked now and then while a call runs: a call counts as having
    /// ended at the last such look, which spares every call another look at the clock.
    fn is_idle(&self, now: Duration, idle: Duration) -> bool {
        if self.calls.load(Ordering::Relaxed) > 0 {
            self.used_millis.store(millis(now), Ordering::Relaxed);
            return false;
        }
        let since = millis(now).saturating_sub(self.used_millis.load(Ordering::Relaxed));
        since >= millis(idle)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.usage.end();
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

/// Which revisions have ever answered, loaded or not: one that did is not called failing for a later trap, which any
/// client may be able to cause. The oldest are forgotten first, so that deleted revisions do not pile up.
#[derive(Default)]
pub(crate) struct Answered(Mutex<AnsweredUids>);

#[derive(Default)]
struct AnsweredUids {
    all: HashSet<Arc<str>>,
    by_age: VecDeque<Arc<str>>,
}

impl Answered {
    /// Whether the revision has answered.
    pub(crate) fn contains(&self, uid: &str) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .all
            .contains(uid)
    }

    fn insert(&self, uid: &Arc<str>) {
        let mut uids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !uids.all.insert(Arc::clone(uid)) {
            return;
        }
        uids.by_age.push_back(Arc::clone(uid));
        if uids.by_age.len() > ANSWERED_REVISIONS_MAX
            && let Some(oldest) = uids.by_age.pop_front()
        {
            uids.all.remove(&oldest);
        }
    }
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

    /// Takes out the functions that were not called for `idle`.
    pub(crate) fn take_idle(&self, now: Duration, idle: Duration) -> Vec<Arc<Function>> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        for shard in &self.shards {
            let current = shard.load();
            let before = taken.len();
            let idle = current.values().filter(|function| function.is_idle(now, idle));
            taken.extend(idle.cloned());
            let gone = taken.get(before..).unwrap_or_default();
            if !gone.is_empty() {
                let mut next = Shard::clone(&current);
                next.retain(|_, function| !gone.iter().any(|gone| Arc::ptr_eq(gone, function)));
                shard.store(Arc::new(next));
            }
        }
        taken
    }

    /// Drops the instances that have waited for `wait_max` or longer.
    pub(crate) fn expire_waiting(&self, now: Duration, wait_max: Duration) {
        for shard in &self.shards {
            for function in shard.load().values() {
                function.waiting.expire(now, wait_max);
                if wait_max.is_zero() {
                    function.service.give_way();
                }
            }
        }
    }

    /// Removes one. Calls that run keep it until they end.
    pub(crate) fn remove(&self, uid: &str) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shard) = self.shard(uid).filter(|shard| shard.load().contains_key(uid)) {
            let mut next = Shard::clone(&shard.load());
            next.remove(uid);
            shard.store(Arc::new(next));
        }
    }

    /// Removes all.
    pub(crate) fn clear(&self) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        for shard in &self.shards {
            shard.store(Arc::default());
        }
    }

    /// All of them, with what they used in the last `window`, sorted by uid, without their instances.
    pub(crate) fn live(&self, window: Duration) -> Vec<Live> {
        let mut live = Vec::new();
        for shard in &self.shards {
            live.extend(shard.load().iter().map(|(uid, function)| Live {
                revision: function.key.clone(),
                uid: Arc::clone(uid),
                since: function.since,
                usage: instances::Usage {
                    cpu: function.meter.take_busy(),
                    window,
                    memory: ByteCount(function.meter.memory.take_peak()),
                },
                instances: Vec::new(),
            }));
        }
        live.sort_by(|a, b| a.uid.cmp(&b.uid));
        live
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.load().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_call_counts_as_use_until_its_end() {
        let (usage, idle) = (Usage::default(), Duration::from_secs(60));
        usage.begin(Duration::ZERO);
        assert!(!usage.is_idle(Duration::from_secs(300), idle));
        usage.end();
        assert!(!usage.is_idle(Duration::from_secs(301), idle));
        assert!(usage.is_idle(Duration::from_secs(360), idle));
    }

    #[test]
    fn revisions_that_answered_are_remembered_up_to_a_limit() {
        let answered = Answered::default();
        for n in 0..=ANSWERED_REVISIONS_MAX {
            let uid = Arc::from(n.to_string());
            answered.insert(&uid);
            answered.insert(&uid);
        }
        assert!(!answered.contains("0"), "the oldest was forgotten");
        assert!(answered.contains("1") && answered.contains(&ANSWERED_REVISIONS_MAX.to_string()));
        let uids = answered.0.lock().unwrap();
        assert_eq!(
            (uids.all.len(), uids.by_age.len()),
            (ANSWERED_REVISIONS_MAX, ANSWERED_REVISIONS_MAX)
        );
    }
}
