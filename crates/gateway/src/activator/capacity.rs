//! How many calls of a revision may run at a time: a number that changes while calls run and wait, in the order in
//! which they came (serving `pkg/queue/breaker.go`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Capacity {
    slots: Arc<Semaphore>,
    size: Mutex<usize>,
    /// Slots that were taken away while a call had them: the next ones given back are kept.
    owed: AtomicUsize,
}

/// A slot of a [`Capacity`], given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    of: Arc<Capacity>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Capacity {
    /// So many slots.
    pub(crate) fn new(size: usize) -> Self {
        let size = size.min(Semaphore::MAX_PERMITS);
        Self {
            slots: Arc::new(Semaphore::new(size)),
            size: Mutex::new(size),
            owed: AtomicUsize::new(0),
        }
    }

    /// Changes the number of slots. Calls that have one keep it.
    pub(crate) fn resize(&self, to: usize) {
        let to = to.min(Semaphore::MAX_PERMITS);
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(more) = to.checked_sub(*size) {
            let forgiven = self.pay(more);
            self.slots.add_permits(more - forgiven);
        } else {
            let less = *size - to;
            let free = self.slots.forget_permits(less);
            self.owed.fetch_add(less - free, Ordering::Relaxed);
        }
        *size = to;
    }

    /// Takes up to `slots` off what is owed; tells how many.
    fn pay(&self, slots: usize) -> usize {
        let before = self
            .owed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |owed| {
                Some(owed.saturating_sub(slots))
            })
            .unwrap_or(0);
        before.min(slots)
    }

    /// A slot, if one is free and nobody waits.
    pub(crate) fn try_take(self: &Arc<Self>) -> Option<Slot> {
        let permit = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        Some(self.slot(permit))
    }

    /// A slot, once one is free.
    pub(crate) async fn take(self: &Arc<Self>) -> Slot {
        match Arc::clone(&self.slots).acquire_owned().await {
            Ok(permit) => self.slot(permit),
            // The semaphore is never closed; waiting is right all the same.
            Err(_) => std::future::pending().await,
        }
    }

    fn slot(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Slot {
        Slot {
            of: Arc::clone(self),
            permit: Some(permit),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take()
            && self.of.owed.load(Ordering::Relaxed) > 0
            && self.of.pay(1) == 1
        {
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shrank_under_calls_is_kept_when_they_end() {
        let capacity = Arc::new(Capacity::new(2));
        let (a, b) = (capacity.try_take().unwrap(), capacity.try_take().unwrap());
        assert!(capacity.try_take().is_none());
        capacity.resize(1);
        drop(a);
        assert!(capacity.try_take().is_none(), "one of one is taken");
        drop(b);
        let c = capacity.try_take().unwrap();
        assert!(capacity.try_take().is_none());
        capacity.resize(0);
        capacity.resize(3);
        let (d, e) = (capacity.try_take().unwrap(), capacity.try_take().unwrap());
        assert!(capacity.try_take().is_none());
        drop((c, d, e));
        assert_eq!(capacity.slots.available_permits(), 3);
    }

    #[tokio::test]
    async fn who_waits_is_let_in_when_there_is_more() {
        let capacity = Arc::new(Capacity::new(0));
        let waiting = tokio::spawn({
            let capacity = Arc::clone(&capacity);
            async move { capacity.take().await }
        });
        tokio::task::yield_now().await;
        capacity.resize(1);
        let _slot = waiting.await.unwrap();
        assert!(capacity.try_take().is_none());
    }
}
