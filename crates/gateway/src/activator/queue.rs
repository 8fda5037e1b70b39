//! Calls that wait: each revision's are limited (serving `pkg/activator/net/throttler.go`, `breakerQueueDepth`), and
//! all together too, with as much room for each revision as for any other when it gets tight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Calls of one revision that may wait; the next is refused. Knative's depth of a queue in the activator.
pub(crate) const QUEUE_MAX: usize = 10_000;

/// The calls of all revisions that wait.
#[derive(Debug)]
pub(crate) struct Waiting {
    calls: AtomicUsize,
    revisions: AtomicUsize,
    max: usize,
}

/// The calls of one revision that wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    calls: AtomicUsize,
}

/// A place in a queue, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    queue: &'a Queue,
    all: Arc<Waiting>,
}

impl Waiting {
    /// At most `max` calls wait, but for a fair share of them: see [`Queue::enter`].
    pub(crate) fn new(max: usize) -> Self {
        Self {
            calls: AtomicUsize::new(0),
            revisions: AtomicUsize::new(0),
            max,
        }
    }
}

impl Queue {
    /// A place; `None` when the revision has [`QUEUE_MAX`] calls waiting, or when all revisions together have their most
    /// and this one at least its share of it: an equal part for each that has any. So one that floods the queue keeps
    /// no other out.
    pub(crate) fn enter<'a>(&'a self, all: &Arc<Waiting>) -> Option<Place<'a>> {
        let own = self.calls.fetch_add(1, Ordering::Relaxed);
        if own == 0 {
            all.revisions.fetch_add(1, Ordering::Relaxed);
        }
        let total = all.calls.fetch_add(1, Ordering::Relaxed);
        // Counted from here on, so that a refusal gives back what was counted.
        let place = Place {
            queue: self,
            all: Arc::clone(all),
        };
        let share = all.max / all.revisions.load(Ordering::Relaxed).max(1);
        let fits = own < QUEUE_MAX && (total < all.max || own < share);
        fits.then_some(place)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.all.calls.fetch_sub(1, Ordering::Relaxed);
        if self.queue.calls.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.all.revisions.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill<'a>(queue: &'a Queue, all: &Arc<Waiting>, calls: usize) -> Vec<Place<'a>> {
        (0..calls).map_while(|_| queue.enter(all)).collect()
    }

    #[test]
    fn each_revision_has_a_limit() {
        let (all, queue) = (Arc::new(Waiting::new(1 << 20)), Queue::default());
        let places = fill(&queue, &all, QUEUE_MAX + 5);
        assert_eq!((places.len(), queue.len()), (QUEUE_MAX, QUEUE_MAX));
        drop(places);
        assert_eq!(queue.len(), 0);
        assert_eq!(all.calls.load(Ordering::Relaxed), 0);
        assert_eq!(all.revisions.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_flood_leaves_room_for_others() {
        let all = Arc::new(Waiting::new(100));
        let (flooded, other, third) = (Queue::default(), Queue::default(), Queue::default());
        let places = fill(&flooded, &all, 1000);
        assert_eq!(places.len(), 100);
        assert!(flooded.enter(&all).is_none());
        let others = fill(&other, &all, 1000);
        assert_eq!(others.len(), 50, "half for each of two");
        assert_eq!(fill(&third, &all, 1000).len(), 33);
        assert!(flooded.enter(&all).is_none(), "it has more than its share");
    }
}
