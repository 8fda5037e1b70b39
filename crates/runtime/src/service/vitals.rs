//! What an instance, the calls in it and whoever wants its place tell each other.

use super::dispatch::Places;
use super::seat::{Failure, Seat};
use crate::instance::CALLS_MAX;
use crate::invoke::state::CallFailure;
use crate::prepare::root_cause;
use futures::task::AtomicWaker;
use kittiwake_core::revision::Isolation;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Calls that one instance serves at a time, where it may serve several: what `wasmtime serve` does as well.
const CALLS_AT_A_TIME_MAX: usize = 16;

/// How many calls an instance serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sharing {
    /// In its life.
    pub(super) calls_max: usize,
    /// At a time, from the request to the end of the response's body.
    pub(super) at_a_time_max: usize,
}

impl Sharing {
    /// What a revision has chosen; `concurrency` is its `containerConcurrency`.
    pub(super) fn of(isolation: Isolation, concurrency: Option<NonZeroU32>) -> Self {
        let reused = usize::try_from(CALLS_MAX).unwrap_or(usize::MAX);
        let (calls_max, at_a_time_max) = match isolation {
            Isolation::Request => (1, 1),
            Isolation::Serial => (reused, 1),
            Isolation::Concurrent => {
                let most = concurrency.and_then(|most| usize::try_from(most.get()).ok());
                (
                    reused,
                    most.map_or(CALLS_AT_A_TIME_MAX, |most| most.min(CALLS_AT_A_TIME_MAX)),
                )
            }
        };
        Self {
            calls_max,
            at_a_time_max,
        }
    }
}

/// See the module's documentation.
pub(super) struct Vitals {
    sharing: Sharing,
    /// How long the instance took to make.
    pub(super) instantiated: Duration,
    inside: Mutex<Inside>,
    /// Its task, which looks at all of this.
    pub(super) task: AtomicWaker,
    /// Its task waits for its turn, and looks at all of this when it has it: nobody need wake it for a call.
    stands_in_line: AtomicBool,
    retired: AtomicBool,
    gives_way: AtomicBool,
    abandoned: AtomicBool,
    timed_out: AtomicBool,
}

struct Inside {
    /// Calls in it, bodies of responses included.
    calls: Vec<Arc<Seat>>,
    begun: usize,
    /// When all calls that it ever began must have ended.
    busy_until: Instant,
    /// Some caller left before the head of the response: the guest may go on for nobody.
    astray: bool,
}

impl Vitals {
    /// Of an instance that was just made.
    pub(super) fn new(sharing: Sharing, instantiated: Duration) -> Self {
        Self {
            sharing,
            instantiated,
            inside: Mutex::new(Inside {
                calls: Vec::new(),
                begun: 0,
                busy_until: Instant::now(),
                astray: false,
            }),
            task: AtomicWaker::new(),
            stands_in_line: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            gives_way: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            timed_out: AtomicBool::new(false),
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether its task waits for its turn. Must be taken back before the task looks for calls: who brings one
    /// writes first and looks at this then, so that one of both sees the other.
    pub(super) fn stand_in_line(&self, stands: bool) {
        self.stands_in_line.store(stands, Ordering::SeqCst);
    }

    /// Has its task look for calls.
    pub(super) fn wake(&self) {
        if !self.stands_in_line.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }

    /// Whether it is in one call, or none.
    pub(super) fn is_in_one_call(&self) -> bool {
        self.inside().calls.len() <= 1
    }

    /// Whether it will take no more calls, and is in none.
    pub(super) fn is_done(&self) -> bool {
        let inside = self.inside();
        inside.calls.is_empty() && (self.is_retired() || inside.begun >= self.sharing.calls_max)
    }

    /// A call comes in.
    pub(super) fn enter(self: &Arc<Self>, seat: &Arc<Seat>) {
        let mut inside = self.inside();
        inside.begun += 1;
        inside.busy_until = inside.busy_until.max(seat.deadline);
        inside.calls.push(Arc::clone(seat));
        let is_first = inside.begun == 1;
        drop(inside);
        if is_first {
            seat.state.set_instantiated(self.instantiated);
        }
        seat.take(self, is_first);
    }

    /// A call goes: with the whole response, or with its head at least, or with nothing.
    pub(super) fn leave(&self, seat: &Arc<Seat>, whole: bool, has_head: bool) {
        let mut inside = self.inside();
        inside.calls.retain(|other| !Arc::ptr_eq(other, seat));
        // Wasmtime cannot cancel one call of several (wasmtime #11833). A guest is told when nobody reads its response
        // any more; one that has not begun it, or that is to be in one call at a time, is not trusted to end soon.
        if !whole && (!has_head || self.sharing.at_a_time_max == 1) {
            inside.astray = true;
            self.retired.store(true, Ordering::Release);
        }
        let is_empty = inside.calls.is_empty();
        if inside.astray && is_empty {
            self.abandoned.store(true, Ordering::Release);
        }
        let ends = is_empty && (self.is_retired() || inside.begun >= self.sharing.calls_max);
        drop(inside);
        if ends {
            self.task.wake();
        }
    }

    /// It takes no more calls.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// It is to end when it has nothing to do.
    pub(super) fn give_way(&self) {
        self.gives_way.store(true, Ordering::Release);
        self.task.wake();
    }

    /// Whether it was asked to end when it has nothing to do.
    pub(super) fn gives_way(&self) -> bool {
        self.gives_way.load(Ordering::Acquire)
    }

    /// Whether nobody waits for what it does.
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// When all its calls must have ended.
    pub(super) fn busy_until(&self) -> Instant {
        self.inside().busy_until
    }

    /// It is ended because its calls took too long.
    pub(super) fn time_out(&self) {
        self.timed_out.store(true, Ordering::Release);
    }

    /// Tells the calls in it that it has ended, and why. Must come before its store is dropped, which ends their
    /// responses.
    pub(super) fn end(&self, error: Option<&Arc<wasmtime::Error>>) {
        for seat in &self.inside().calls {
            let (told, answer) = if self.timed_out.load(Ordering::Acquire) {
                (Some(CallFailure::TimedOut), Failure::TimedOut)
            } else if let Some(error) = error {
                let told = CallFailure::Trapped(root_cause(error));
                (Some(told), Failure::Trapped(Arc::clone(error)))
            } else {
                (None, Failure::Ended)
            };
            if let Some(told) = told {
                seat.state.fail(told);
            }
            seat.answer(Err(answer));
        }
    }
}

impl Places for Vitals {
    fn room(&self) -> usize {
        if self.is_retired() {
            return 0;
        }
        let inside = self.inside();
        let at_a_time = self.sharing.at_a_time_max.saturating_sub(inside.calls.len());
        at_a_time.min(self.sharing.calls_max.saturating_sub(inside.begun))
    }
}
