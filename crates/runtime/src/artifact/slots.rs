//! How many images are fetched at the same time, over all and from one registry.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Images that are fetched from one host at the same time, so that a registry that hangs leaves slots to the others.
const FETCHES_PER_HOST_MAX: usize = 2;

/// Slots for fetching.
#[derive(Debug)]
pub(crate) struct Slots {
    all: Arc<Semaphore>,
    /// The hosts that are in use; an entry goes with the last fetch from its host.
    hosts: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// A right to fetch, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    _all: Option<OwnedSemaphorePermit>,
    _host: Option<OwnedSemaphorePermit>,
}

impl Slots {
    /// `parallel_max` slots over all, at least one.
    pub(crate) fn new(parallel_max: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(parallel_max.max(1))),
            hosts: Mutex::default(),
        }
    }

    /// Waits for a slot for `host`. The host's own comes first: who waits for that one must not hold up the others.
    pub(crate) async fn acquire(&self, host: &str) -> Slot {
        // Acquiring fails only on a closed semaphore, and these are never closed.
        let host = self.host(host).acquire_owned().await.ok();
        let all = Arc::clone(&self.all).acquire_owned().await.ok();
        Slot {
            _all: all,
            _host: host,
        }
    }

    fn host(&self, host: &str) -> Arc<Semaphore> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(semaphore) = hosts.get(host).and_then(Weak::upgrade) {
            return semaphore;
        }
        hosts.retain(|_, semaphore| semaphore.strong_count() > 0);
        let semaphore = Arc::new(Semaphore::new(FETCHES_PER_HOST_MAX));
        hosts.insert(host.to_owned(), Arc::downgrade(&semaphore));
        semaphore
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn one_host_leaves_slots_to_the_others_and_is_forgotten() {
        let slots = Slots::new(3);
        let held = [slots.acquire("a").await, slots.acquire("a").await];
        assert!(slots.acquire("a").now_or_never().is_none(), "the host's limit");
        let other = slots.acquire("b").await;
        assert!(slots.acquire("c").now_or_never().is_none(), "the limit over all");
        drop(held);
        let again = slots.acquire("a").now_or_never().unwrap();
        drop((other, again));
        slots.acquire("d").await;
        assert_eq!(
            slots.hosts.lock().unwrap().len(),
            1,
            "hosts out of use are dropped"
        );
    }
}
