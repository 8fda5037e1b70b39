//! A gate that lets a limited number through at a time and keeps a bounded queue in front.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Callers that may queue, per slot: Knative's queue-proxy holds ten times the container concurrency
/// (serving `cmd/queue`, `queueDepth := 10 * containerConcurrency`).
pub(crate) const QUEUE_PER_SLOT_MAX: usize = 10;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Gate {
    slots: Arc<Semaphore>,
    slots_total: usize,
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// Why a caller was not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The queue is full.
    QueueFull,
    /// No slot became free before the deadline.
    DeadlinePassed,
}

impl Gate {
    /// A gate of `slots`, with the queue that belongs to it.
    pub(crate) fn new(slots: NonZeroU32) -> Self {
        let slots_total = usize::try_from(slots.get()).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            slots: Arc::new(Semaphore::new(slots_total.min(Semaphore::MAX_PERMITS))),
            slots_total,
            waiting: AtomicUsize::new(0),
            waiting_max: slots_total.saturating_mul(QUEUE_PER_SLOT_MAX),
        }
    }

    /// Passes at once when a slot is free, or not at all.
    pub(crate) fn try_enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).try_acquire_owned().ok()
    }

    /// Passes at once when a slot is free, otherwise queues until `deadline`.
    pub(crate) async fn enter(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Refused> {
        if let Some(permit) = self.try_enter() {
            return Ok(permit);
        }
        let _place = Place::take(&self.waiting, self.waiting_max).ok_or(Refused::QueueFull)?;
        match timeout_at(deadline, Arc::clone(&self.slots).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            // The semaphore is never closed; both mean that no slot came.
            Ok(Err(_)) | Err(_) => Err(Refused::DeadlinePassed),
        }
    }

    /// Whether nobody is inside.
    pub(crate) fn is_idle(&self) -> bool {
        self.slots.available_permits() >= self.slots_total
    }

    /// How many are inside.
    pub(crate) fn taken(&self) -> usize {
        self.slots_total.saturating_sub(self.slots.available_permits())
    }
}

/// A place in the queue, given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, max: usize) -> Option<Self> {
        if waiting.fetch_add(1, Ordering::Relaxed) >= max {
            waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn the_queue_is_bounded_and_gives_up_at_the_deadline() {
        let gate = Arc::new(Gate::new(NonZeroU32::new(1).unwrap()));
        let deadline = Instant::now() + Duration::from_secs(60);
        let inside = gate.enter(deadline).await.unwrap();
        let mut queued = Vec::new();
        for _ in 0..QUEUE_PER_SLOT_MAX {
            let gate = Arc::clone(&gate);
            queued.push(tokio::spawn(async move { gate.enter(deadline).await.map(drop) }));
        }
        while gate.waiting.load(Ordering::Relaxed) < QUEUE_PER_SLOT_MAX {
            tokio::task::yield_now().await;
        }
        assert_eq!(gate.enter(deadline).await.unwrap_err(), Refused::QueueFull);
        drop(inside);
        for task in queued {
            task.await.unwrap().unwrap();
        }
        let _inside = gate.enter(deadline).await.unwrap();
        assert_eq!(
            gate.enter(Instant::now()).await.unwrap_err(),
            Refused::DeadlinePassed
        );
        assert_eq!((gate.taken(), gate.is_idle()), (1, false));
    }
}
