//! The calls that are under way in one instance.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Notify, OwnedSemaphorePermit};

/// Counts them. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flights(Arc<Count>);

#[derive(Debug, Default)]
struct Count {
    under_way: AtomicUsize,
    none: Notify,
}

/// One call, until it is dropped.
#[derive(Debug)]
pub(crate) struct Flight {
    flights: Flights,
    /// Its turn, where calls are limited.
    pub turn: Option<OwnedSemaphorePermit>,
}

impl Flights {
    /// One more.
    pub(crate) fn begin(&self) -> Flight {
        self.0.under_way.fetch_add(1, Ordering::AcqRel);
        Flight {
            flights: self.clone(),
            turn: None,
        }
    }

    /// Resolves once there is none.
    pub(crate) async fn until_none(&self) {
        loop {
            let none = self.0.none.notified();
            if self.0.under_way.load(Ordering::Acquire) == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.flights.0.under_way.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.flights.0.none.notify_waiters();
        }
    }
}
