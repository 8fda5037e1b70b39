//! The calls that may run at a time in this process, shared fairly: where they are all taken, revisions that wait get
//! the next free ones in turn, however many calls each has waiting. How the processor is shared among the calls that
//! run is up to the runtime (`runtime/src/turns.rs`).

use kittiwake_core::fair::{FairQueue, Next};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// What a slot counts for in the account of its revision.
const SLOT: u64 = 1;

/// Who waits, by the uid of its revision.
type Queue = FairQueue<Arc<str>, oneshot::Sender<FairSlot>>;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct FairSlots {
    free: AtomicUsize,
    /// Who waits; changed under the lock of `queue`, read without.
    waiting: AtomicUsize,
    queue: Mutex<Queue>,
}

/// A slot, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct FairSlot(Option<Arc<FairSlots>>);

impl FairSlots {
    /// So many slots.
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            free: AtomicUsize::new(slots),
            waiting: AtomicUsize::new(0),
            queue: Mutex::default(),
        }
    }

    /// A slot, if one is free and nobody waits.
    pub(crate) fn try_take(self: &Arc<Self>) -> Option<FairSlot> {
        (self.waiting.load(Ordering::SeqCst) == 0 && self.take_free()).then(|| self.slot())
    }

    /// A slot for a revision, in its turn.
    pub(crate) async fn take(self: &Arc<Self>, revision: &Arc<str>) -> FairSlot {
        let receiver = {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            // Before the look at free ones: who gives one back after it sees that someone waits.
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let (sender, receiver) = oneshot::channel();
            queue.push(revision, sender);
            self.hand_out(&mut queue);
            receiver
        };
        match receiver.await {
            Ok(slot) => slot,
            // A sender is dropped only with the slots themselves, which `self` keeps.
            Err(_) => std::future::pending().await,
        }
    }

    fn slot(self: &Arc<Self>) -> FairSlot {
        FairSlot(Some(Arc::clone(self)))
    }

    fn take_free(&self) -> bool {
        self.free
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |free| free.checked_sub(1))
            .is_ok()
    }

    /// Gives free slots to those who wait.
    fn hand_out(self: &Arc<Self>, queue: &mut Queue) {
        while !queue.is_empty() && self.take_free() {
            let mut slot = self.slot();
            loop {
                let Some(Next { key, item, advance }) = queue.pop() else {
                    slot.0 = None;
                    self.free.fetch_add(1, Ordering::SeqCst);
                    return;
                };
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                match item.send(slot) {
                    Ok(()) => {
                        queue.settle(&key, advance, SLOT);
                        break;
                    }
                    // Who waited gave up.
                    Err(back) => {
                        queue.settle(&key, advance, 0);
                        slot = back;
                    }
                }
            }
        }
    }
}

impl Drop for FairSlot {
    fn drop(&mut self) {
        let Some(slots) = self.0.take() else { return };
        slots.free.fetch_add(1, Ordering::SeqCst);
        if slots.waiting.load(Ordering::SeqCst) > 0 {
            let mut queue = slots.queue.lock().unwrap_or_else(PoisonError::into_inner);
            slots.hand_out(&mut queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::collections::VecDeque;
    use std::pin::Pin;

    type Taking = Pin<Box<dyn Future<Output = FairSlot>>>;

    fn taking(slots: &Arc<FairSlots>, revision: &str) -> Taking {
        let (slots, revision) = (Arc::clone(slots), Arc::from(revision));
        let mut taking: Taking = Box::pin(async move { slots.take(&revision).await });
        assert!(taking.as_mut().now_or_never().is_none(), "none is free");
        taking
    }

    #[test]
    fn a_flood_of_one_revision_does_not_keep_another_waiting() {
        let slots = Arc::new(FairSlots::new(1));
        let mut held = slots.try_take().unwrap();
        let mut flood: VecDeque<Taking> = (0..100).map(|_| taking(&slots, "flood")).collect();
        let mut other = taking(&slots, "other");
        assert!(slots.try_take().is_none(), "nobody overtakes");
        drop(held);
        held = flood.pop_front().unwrap().now_or_never().unwrap();
        drop(held);
        held = other
            .as_mut()
            .now_or_never()
            .expect("the second turn is the other's");
        drop(held);
        assert!(flood.pop_front().unwrap().now_or_never().is_some());
    }

    #[test]
    fn slots_of_those_who_gave_up_go_to_the_next() {
        let slots = Arc::new(FairSlots::new(2));
        let (first, second) = (slots.try_take().unwrap(), slots.try_take().unwrap());
        let (a, mut b, c) = (taking(&slots, "a"), taking(&slots, "b"), taking(&slots, "c"));
        drop(a);
        drop(first);
        assert!(b.as_mut().now_or_never().is_some());
        // c had been handed a slot, and goes before it looks.
        drop(second);
        drop(c);
        drop(b);
        assert_eq!(slots.free.load(Ordering::SeqCst), 2);
        assert_eq!(slots.waiting.load(Ordering::SeqCst), 0);
        assert!(slots.try_take().is_some());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_slot_is_lost_or_doubled_under_load() {
        let slots = Arc::new(FairSlots::new(3));
        let running = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..600)
            .map(|n| {
                let (slots, running) = (Arc::clone(&slots), Arc::clone(&running));
                let revision: Arc<str> = Arc::from((n % 7).to_string());
                tokio::spawn(async move {
                    for _ in 0..5 {
                        let slot = match slots.try_take() {
                            Some(slot) => slot,
                            None => slots.take(&revision).await,
                        };
                        assert!(running.fetch_add(1, Ordering::SeqCst) < 3);
                        tokio::task::yield_now().await;
                        running.fetch_sub(1, Ordering::SeqCst);
                        drop(slot);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(slots.free.load(Ordering::SeqCst), 3);
    }
}
