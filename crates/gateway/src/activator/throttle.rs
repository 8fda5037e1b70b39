//! One revision's calls: counted, held to its limits, and handed to its instances.

use super::Activator;
use super::capacity::{Capacity, Slot};
use super::fair::FairSlot;
use super::meter::{Busy, Look, Meter};
use super::pool::{Counts, Pool, Seat};
use super::queue::Queue;
use super::wanted::Wanted;
use arc_swap::ArcSwap;
use kittiwake_core::artifact::PrepareError;
use kittiwake_core::code::ErrorCode;
use kittiwake_core::invoke::InvokeError;
use kittiwake_core::revision::{Limits, RevisionSpec, Scaling};
use kittiwake_core::scale;
use kittiwake_core::share::Owners;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

/// When a caller that was refused may try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Looks of one [`kittiwake_core::scale::STATS_PERIOD`] each without calls after which an instance is let go that was
/// started for a call and that the autoscaler has not wanted since.
const IDLE_LOOKS_MAX: u32 = 60;
/// Looks without calls after which a revision that left the routing table lets its instances go, where other processes
/// pass calls on to this one: they learn a moment later that it left.
const LEAVING_LOOKS: u32 = 2;

/// See the module's documentation.
pub(crate) struct Throttle {
    revision: ArcSwap<RevisionSpec>,
    meter: Meter,
    seen: Mutex<Seen>,
    queue: Queue,
    wanted: Mutex<Asked>,
    /// Whether the next call has to tell the autoscaler at once that it came.
    at_zero: AtomicBool,
    /// Whether one did since it was last told what happens.
    told_from_zero: AtomicBool,
    /// How many instances the autoscaler wants in all processes.
    wanted_in_all: AtomicU32,
    /// Looks without calls until it is as if no route led here any more; zero where that is no matter.
    leaving: AtomicU32,
    way: Way,
}

/// Who has instances of a revision that has none in this process: its first owners, so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    pub(crate) owners: Owners,
    pub(crate) count: NonZeroU32,
}

/// How calls reach an instance.
enum Way {
    /// Each call has one of its own; so many may run at a time.
    PerCall(Arc<Capacity>),
    /// Instances stay.
    Resident(Arc<Pool>, AbortHandle),
}

/// How many instances are wanted, and were asked for.
#[derive(Debug, Default)]
struct Asked {
    wanted: Wanted,
    count: u32,
}

/// What was told of it last.
#[derive(Debug, Default)]
struct Seen {
    look: Look,
    idle_looks: u32,
}

/// What a call may use until it ends.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It has an instance of its own.
    PerCall {
        /// Of the revision.
        _slot: Slot,
        /// Of all revisions.
        _fair: FairSlot,
    },
    /// It has a place in one.
    Resident(Seat),
}

/// What a [`Throttle`] tells once per period.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Told {
    pub(crate) busy: Busy,
    pub(crate) counts: Counts,
}

impl Throttle {
    /// A revision without calls. `now` is when counting begins.
    /// Must be called within a tokio runtime where the revision is a resident one.
    pub(crate) fn new(revision: &Arc<RevisionSpec>, activator: &Activator, now: Duration) -> Self {
        let way = if revision.kind.is_resident() {
            let pool = Arc::new(Pool::new(revision.limits.concurrency));
            let following = activator.follow(revision, Arc::clone(&pool));
            Way::Resident(pool, following)
        } else {
            let most = calls_max(&revision.limits, revision.scaling, activator.calls_max);
            Way::PerCall(Arc::new(Capacity::new(most)))
        };
        let mut seen = Seen::default();
        let meter = Meter::default();
        meter.look(now, &mut seen.look);
        let throttle = Self {
            meter,
            seen: Mutex::new(seen),
            queue: Queue::default(),
            wanted: Mutex::default(),
            at_zero: AtomicBool::new(true),
            told_from_zero: AtomicBool::new(false),
            wanted_in_all: AtomicU32::new(0),
            leaving: AtomicU32::new(0),
            way,
            revision: ArcSwap::new(Arc::clone(revision)),
        };
        throttle.decide(activator.decided(&revision.uid), activator);
        throttle
    }

    /// A call came in at `now`: until [`Throttle::end`] it counts as under way.
    pub(crate) fn begin(&self, now: Duration) {
        self.meter.begin(now);
    }

    /// A call ended.
    pub(crate) fn end(&self, now: Duration) {
        self.meter.end(now);
    }

    /// What a call needs to run, at once where it is free; and whether it had to wait. `accepted` tells when it came in.
    ///
    /// # Errors
    /// The queue is full, the call's time passed, or no instance can be started.
    pub(crate) async fn admit(
        &self,
        activator: &Activator,
        accepted: impl FnOnce() -> Instant,
    ) -> Result<(Admission, bool), InvokeError> {
        if self.at_zero.load(Ordering::Relaxed) {
            self.poke(activator);
        }
        if let Some(admission) = self.try_admit(activator) {
            return Ok((admission, false));
        }
        let deadline = accepted() + self.revision.load().limits.head_limit();
        let full = InvokeError::Overloaded {
            retry_after: RETRY_AFTER,
        };
        let Some(_place) = self.queue.enter(&activator.waiting) else {
            return Err(full);
        };
        match timeout_at(deadline, self.wait(activator)).await {
            Ok(admitted) => admitted.map(|admission| (admission, true)),
            Err(_) => Err(full),
        }
    }

    fn try_admit(&self, activator: &Activator) -> Option<Admission> {
        Some(match &self.way {
            Way::PerCall(capacity) => Admission::PerCall {
                _slot: capacity.try_take()?,
                _fair: activator.slots.try_take()?,
            },
            Way::Resident(pool, _) => Admission::Resident(pool.try_seat()?),
        })
    }

    async fn wait(&self, activator: &Activator) -> Result<Admission, InvokeError> {
        match &self.way {
            Way::PerCall(capacity) => {
                let slot = capacity.take().await;
                let uid = Arc::clone(&self.revision.load().uid);
                let fair = activator.slots.take(&uid).await;
                Ok(Admission::PerCall {
                    _slot: slot,
                    _fair: fair,
                })
            }
            Way::Resident(pool, _) => {
                // Instances may all have gone since the autoscaler wanted some; a call must not wait for its next word.
                if pool.counts() == Counts::default() {
                    self.poke(activator);
                }
                pool.seat()
                    .await
                    .map(Admission::Resident)
                    .map_err(|why| InvokeError::NotStarted(PrepareError::new(ErrorCode::StartFailed, &*why)))
            }
        }
    }

    /// Starts the first instances without waiting for the autoscaler, and has it told at once.
    fn poke(&self, activator: &Activator) {
        let news = {
            let mut asked = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            let news = asked.wanted.poke();
            self.scale(&mut asked, false, activator);
            news
        };
        self.at_zero.store(false, Ordering::Relaxed);
        if news {
            self.told_from_zero.store(true, Ordering::Relaxed);
            activator.tell_from_zero(&self.revision.load(), self.counts());
        }
    }

    /// The autoscaler's newest word; `None` where it has said nothing.
    pub(crate) fn decide(&self, decided: Option<scale::Wanted>, activator: &Activator) {
        let all = decided.map_or(0, |wanted| wanted.all);
        self.wanted_in_all.store(all, Ordering::Relaxed);
        let here = decided.map(|wanted| wanted.here);
        self.change(activator, |wanted| wanted.decide(here));
        if here.unwrap_or(0) == 0 && self.meter.in_flight() == 0 {
            self.at_zero.store(true, Ordering::Relaxed);
        }
    }

    /// Where calls of the revision go that this process has no instance for; `None` where it answers them itself. Of a
    /// revision with as many instances as there are processes, or more, every process does.
    pub(crate) fn elsewhere(&self, revision: &RevisionSpec) -> Option<Elsewhere> {
        let owners = revision.scaling.owners?;
        let count = match &self.way {
            // Those for one call are there when they are called.
            Way::PerCall(_) => owners.max,
            // At zero the first owner is called, which starts the first one.
            Way::Resident(..) => NonZeroU32::new(self.wanted_in_all.load(Ordering::Relaxed))
                .unwrap_or(NonZeroU32::MIN)
                .min(owners.max),
        };
        (owners.place >= count.get()).then_some(Elsewhere { owners, count })
    }

    /// Whether this process answers calls of the revision that others pass on to it.
    pub(crate) fn takes_passed_on(&self) -> bool {
        let asked = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        asked.wanted.is_routed() && self.is_owner()
    }

    fn is_owner(&self) -> bool {
        let scaling = self.revision.load().scaling;
        scaling.owners.is_some_and(|owners| owners.is_here())
    }

    /// Whether calls can come from now on, and for which version of the revision. Where others pass calls on to this
    /// process it takes them for a little longer.
    pub(crate) fn route(&self, revision: Option<&Arc<RevisionSpec>>, activator: &Activator) {
        if revision.is_none() && self.is_owner() {
            self.leaving.store(LEAVING_LOOKS, Ordering::Relaxed);
            return;
        }
        self.leaving.store(0, Ordering::Relaxed);
        self.route_now(revision, activator);
    }

    /// The revision is forgotten: whatever it waited for, its instances go.
    pub(crate) fn forget(&self, activator: &Activator) {
        if self.leaving.swap(0, Ordering::Relaxed) > 0 {
            self.route_now(None, activator);
        }
    }

    fn route_now(&self, revision: Option<&Arc<RevisionSpec>>, activator: &Activator) {
        let same = revision.is_none_or(|revision| Arc::ptr_eq(revision, &self.revision.load()));
        if let Some(revision) = revision.filter(|_| !same) {
            if let Way::PerCall(capacity) = &self.way {
                capacity.resize(calls_max(&revision.limits, revision.scaling, activator.calls_max));
            }
            self.revision.store(Arc::clone(revision));
        }
        let routed = revision.is_some();
        if !routed {
            self.at_zero.store(true, Ordering::Relaxed);
        }
        let mut asked = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        asked.wanted.route(routed);
        self.scale(&mut asked, !same, activator);
    }

    fn change(&self, activator: &Activator, change: impl FnOnce(&mut Wanted)) {
        let mut asked = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut asked.wanted);
        self.scale(&mut asked, false, activator);
    }

    /// Asks for what is wanted, where that is not what was asked for, or of another version of the revision. Called
    /// under a lock, so that the last word is the newest.
    fn scale(&self, asked: &mut Asked, other_version: bool, activator: &Activator) {
        let revision = self.revision.load_full();
        let count = asked.wanted.count(revision.scaling);
        let same = count == asked.count && !(other_version && count > 0);
        if matches!(self.way, Way::Resident(..)) && !same {
            asked.count = count;
            activator.residents.scale(&revision, count);
        }
    }

    /// What happened since it was last asked; `None` when nothing did, as for most revisions at most times.
    pub(crate) fn tell(&self, activator: &Activator, now: Duration) -> Option<Told> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut busy = self.meter.look(now, &mut seen.look);
        let counts = self.counts();
        let quiet = busy == Busy::default() && self.meter.in_flight() == 0;
        seen.idle_looks = if quiet {
            seen.idle_looks.saturating_add(1)
        } else {
            0
        };
        let idle = seen.idle_looks;
        drop(seen);
        if quiet {
            let left = |looks: u32| looks.checked_sub(1);
            let before = self
                .leaving
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
            if before == Ok(1) {
                self.route_now(None, activator);
            }
        }
        if idle == IDLE_LOOKS_MAX {
            self.change(activator, Wanted::idle);
            self.at_zero.store(true, Ordering::Relaxed);
        }
        if self.told_from_zero.swap(false, Ordering::Relaxed) {
            // That call was told of already, as if it had lasted all the time (`concurrency_reporter.go`).
            busy.concurrency = (busy.concurrency - 1.0).max(0.0);
        }
        (!quiet || counts != Counts::default()).then_some(Told { busy, counts })
    }

    /// The revision.
    pub(crate) fn revision(&self) -> Arc<RevisionSpec> {
        self.revision.load_full()
    }

    /// Calls that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.len()
    }

    fn counts(&self) -> Counts {
        match &self.way {
            Way::PerCall(_) => Counts::default(),
            Way::Resident(pool, _) => pool.counts(),
        }
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        if let Way::Resident(_, following) = &self.way {
            following.abort();
        }
    }
}

impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Throttle({}, {} waiting)",
            self.revision.load().key,
            self.waiting()
        )
    }
}

/// Calls of a revision that may run at a time: what all its instances take together, where both numbers are limited.
fn calls_max(limits: &Limits, scaling: Scaling, otherwise: usize) -> usize {
    let product = |(each, instances): (NonZeroU32, NonZeroU32)| {
        usize::try_from(u64::from(each.get()) * u64::from(instances.get())).unwrap_or(usize::MAX)
    };
    limits
        .concurrency
        .zip(scaling.max)
        .map_or(otherwise, product)
        .min(otherwise)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_bounded_by_concurrency_times_instances() {
        let most = |concurrency, max| {
            let limits = Limits {
                concurrency: NonZeroU32::new(concurrency),
                ..Limits::default()
            };
            let scaling = Scaling {
                max: NonZeroU32::new(max),
                ..Scaling::default()
            };
            calls_max(&limits, scaling, 500)
        };
        assert_eq!((most(1, 10), most(10, 7)), (10, 70));
        assert_eq!((most(0, 10), most(10, 0), most(1000, 1000)), (500, 500, 500));
    }
}
