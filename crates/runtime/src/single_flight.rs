//! One piece of work per key at a time: callers that want the same thing share one flight and its result.

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// See the module's documentation. `V` is cloned for each caller.
pub(crate) struct SingleFlight<K, V: Clone> {
    flights: Mutex<HashMap<K, Shared<BoxFuture<'static, V>>>>,
}

impl<K: Eq + Hash + Clone, V: Clone + Send + Sync + 'static> SingleFlight<K, V> {
    /// No flights yet.
    pub(crate) fn new() -> Self {
        Self {
            flights: Mutex::new(HashMap::new()),
        }
    }

    /// Joins the flight of `key`, or starts it with `start`. A flight that all its callers left is dropped.
    pub(crate) async fn run(&self, key: K, start: impl FnOnce() -> BoxFuture<'static, V>) -> V {
        let flight = {
            let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            flights
                .entry(key.clone())
                .or_insert_with(|| start().shared())
                .clone()
        };
        let seat = Seat {
            owner: self,
            key,
            flight: flight.clone(),
        };
        let value = flight.await;
        drop(seat);
        value
    }
}

/// Takes a flight off the table when it has landed or the last caller leaves.
struct Seat<'a, K: Eq + Hash, V: Clone> {
    owner: &'a SingleFlight<K, V>,
    key: K,
    flight: Shared<BoxFuture<'static, V>>,
}

impl<K: Eq + Hash, V: Clone> Drop for Seat<'_, K, V> {
    fn drop(&mut self) {
        /// Handles of a flight with a single caller: the table's, the caller's own, and its seat's.
        const HANDLES_OF_LAST_CALLER: usize = 3;
        let mut flights = self.owner.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(current) = flights.get(&self.key) else {
            return;
        };
        let landed = self.flight.peek().is_some();
        let alone = self
            .flight
            .strong_count()
            .is_none_or(|handles| handles <= HANDLES_OF_LAST_CALLER);
        if current.ptr_eq(&self.flight) && (landed || alone) {
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn callers_of_one_key_share_the_work_and_later_ones_do_it_again() {
        let flights = Arc::new(SingleFlight::<u8, usize>::new());
        let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let call = || {
            let (flights, runs, gate) = (Arc::clone(&flights), Arc::clone(&runs), Arc::clone(&gate));
            tokio::spawn(async move {
                let start = || {
                    async move {
                        gate.notified().await;
                        runs.fetch_add(1, Ordering::SeqCst) + 1
                    }
                    .boxed()
                };
                flights.run(7, start).await
            })
        };
        let (one, two) = (call(), call());
        tokio::task::yield_now().await;
        gate.notify_one();
        assert_eq!((one.await.unwrap(), two.await.unwrap()), (1, 1));
        gate.notify_one();
        assert_eq!(call().await.unwrap(), 2);
        assert!(flights.flights.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_flight_that_everyone_left_is_forgotten() {
        let flights = SingleFlight::<u8, ()>::new();
        let run = flights.run(1, || futures::future::pending().boxed());
        assert!(
            tokio::time::timeout(std::time::Duration::ZERO, run)
                .await
                .is_err()
        );
        assert!(flights.flights.lock().unwrap().is_empty());
    }
}
