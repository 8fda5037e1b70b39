//! Runs a reconciler: a queue of keys in which each key is once, run by a few at a time, with growing pauses after
//! failures. The guarantee: a key that is added while it runs is run again afterwards, and never twice at once.
//!
//! The queue is bounded by the number of objects, because a key that is in it already is not added again.

use crate::Error;
use crate::object::ObjectKey;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Keys of one reconciler that run at one time.
pub const RUNNING_MAX: usize = 8;
/// Pause after the first failure of a key; doubled with each further one.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// Longest pause after a failure.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// When a key is looked at again without anything having changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Never.
    OnChange,
    /// After this long.
    After(Duration),
}

impl Next {
    /// At the latest after this long, where that is said.
    #[must_use]
    pub fn or_after(self, other: Option<Duration>) -> Self {
        match (self, other) {
            (Self::After(one), Some(other)) => Self::After(one.min(other)),
            (Self::OnChange, Some(other)) => Self::After(other),
            (next, None) => next,
        }
    }
}

/// The keys that wait for one reconciler.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Keys to run, oldest first. None of them is in `running`.
    ready: VecDeque<ObjectKey>,
    /// Everything in `ready`, and every key in `running` that is to run again.
    wanted: HashSet<ObjectKey>,
    running: HashSet<ObjectKey>,
    /// Keys to add later, earliest first; `due_at` is its index by key: one entry per key.
    due: BTreeSet<(Instant, ObjectKey)>,
    due_at: HashMap<ObjectKey, Instant>,
    /// Failures in a row.
    failures: HashMap<ObjectKey, u32>,
}

impl Queue {
    /// Asks for a key to be run.
    pub fn add(&self, key: ObjectKey) {
        self.lock().add(key);
        self.wake.notify_one();
    }

    /// Resolves with the next key, which then counts as running until [`Queue::done`].
    async fn take(&self) -> ObjectKey {
        loop {
            let next_due = {
                let mut state = self.lock();
                state.add_due(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.wanted.remove(&key);
                    state.running.insert(key.clone());
                    return key;
                }
                state.due.first().map(|(at, _)| *at)
            };
            match next_due {
                Some(at) => tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => self.wake.notified().await,
            }
        }
    }

    /// Takes note of how the run of a key ended.
    fn done(&self, key: &ObjectKey, result: &Result<Next, Error>) {
        let mut state = self.lock();
        let pause = match result {
            Ok(next) => {
                state.failures.remove(key);
                match next {
                    Next::OnChange => None,
                    Next::After(pause) => Some(*pause),
                }
            }
            Err(_) => {
                let failures = state.failures.entry(key.clone()).or_default();
                let pause = PAUSE_MIN
                    .saturating_mul(1_u32 << (*failures).min(20))
                    .min(PAUSE_MAX);
                *failures += 1;
                Some(pause)
            }
        };
        state.running.remove(key);
        state.forget_due(key);
        if let Some(pause) = pause {
            let at = Instant::now() + pause;
            state.due.insert((at, key.clone()));
            state.due_at.insert(key.clone(), at);
        }
        if state.wanted.remove(key) {
            state.add(key.clone());
        }
        drop(state);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, key: ObjectKey) {
        if self.wanted.insert(key.clone()) && !self.running.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn add_due(&mut self, now: Instant) {
        while let Some((at, key)) = self.due.pop_first() {
            if at > now {
                self.due.insert((at, key));
                return;
            }
            self.due_at.remove(&key);
            self.add(key);
        }
    }

    fn forget_due(&mut self, key: &ObjectKey) {
        if let Some(at) = self.due_at.remove(key) {
            self.due.remove(&(at, key.clone()));
        }
    }
}

/// Runs keys of `queue` for ever.
pub async fn run(
    name: &'static str,
    queue: &Queue,
    reconcile: impl Fn(ObjectKey) -> BoxFuture<'static, Result<Next, Error>>,
) {
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some((key, result)) = running.next(), if !running.is_empty() => {
                log_failure(name, &key, &result);
                queue.done(&key, &result);
            }
            key = queue.take(), if running.len() < RUNNING_MAX => {
                let reconciled = reconcile(key.clone());
                running.push(async move { (key, reconciled.await) });
            }
        }
    }
}

fn log_failure(reconciler: &'static str, key: &ObjectKey, result: &Result<Next, Error>) {
    match result {
        Ok(_) => {}
        Err(Error::Conflict) => tracing::debug!(reconciler, %key, "changed meanwhile, trying again"),
        Err(error) => tracing::warn!(reconciler, %key, %error, "reconcile failed, trying again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("default", name)
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_however_often_it_is_added() {
        let queue = Queue::default();
        for _ in 0..1000 {
            queue.add(key("a"));
        }
        assert_eq!(queue.take().await, key("a"));
        assert!(queue.take().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_added_while_it_runs_runs_again_afterwards() {
        let queue = Queue::default();
        queue.add(key("a"));
        let running = queue.take().await;
        queue.add(key("a"));
        assert!(queue.take().now_or_never().is_none(), "its twin still runs");
        queue.done(&running, &Ok(Next::OnChange));
        assert_eq!(queue.take().await, key("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_after_failures_double_up_to_a_minute_and_a_success_ends_them() {
        let queue = Queue::default();
        queue.add(key("a"));
        let mut pauses = Vec::new();
        for _ in 0..16 {
            let before = Instant::now();
            let taken = queue.take().await;
            pauses.push(before.elapsed());
            queue.done(&taken, &Err(Error::Conflict));
        }
        assert_eq!(pauses[..4], [0, 5, 10, 20].map(Duration::from_millis));
        assert_eq!(pauses[15], PAUSE_MAX);
        let taken = queue.take().await;
        queue.done(&taken, &Ok(Next::OnChange));
        assert!(queue.take().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_look_comes_and_is_replaced_by_a_newer_wish() {
        let queue = Queue::default();
        queue.add(key("a"));
        let taken = queue.take().await;
        queue.done(&taken, &Ok(Next::After(Duration::from_secs(10))));
        queue.add(key("a"));
        let taken = queue.take().await;
        queue.done(&taken, &Ok(Next::After(Duration::from_secs(1))));
        let before = Instant::now();
        queue.take().await;
        assert_eq!(before.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_run_at_once_than_allowed() {
        let queue = Arc::new(Queue::default());
        for n in 0..100 {
            queue.add(key(&format!("k{n}")));
        }
        let (now, most, ran) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicUsize::new(0)),
        );
        let counts = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&ran));
        let running = Arc::clone(&queue);
        let task = tokio::spawn(async move {
            let (now, most, ran) = counts;
            run("test", &running, |_| {
                let (now, most, ran) = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&ran));
                async move {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    now.fetch_sub(1, Ordering::SeqCst);
                    ran.fetch_add(1, Ordering::SeqCst);
                    Ok(Next::OnChange)
                }
                .boxed()
            })
            .await;
        });
        tokio::time::sleep(Duration::from_secs(100)).await;
        task.abort();
        assert_eq!(
            (most.load(Ordering::SeqCst), ran.load(Ordering::SeqCst)),
            (RUNNING_MAX, 100)
        );
    }
}
