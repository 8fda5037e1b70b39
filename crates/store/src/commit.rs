//! Group commit: writers queue up, one committer makes everything that waits durable with one fsync, publishes it and
//! wakes the writers.
//!
//! When the committer is idle, a write is committed at once. While a commit runs, writes gather for the next one.
//! After a commit that many writers shared, the committer waits up to [`GATHER_MAX`] for as many again, since callers
//! that wait for one write usually send the next.

use crate::disk::Durable;
use crate::error::DiskError;
use crate::object::{Key, Stored};
use crate::state::{Record, State};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

/// Longest time that a commit waits for company.
pub(crate) const GATHER_MAX: Duration = Duration::from_millis(2);

/// How a queued write ended.
pub(crate) type Outcome = Result<(), Arc<DiskError>>;

/// A writer that waits. The permit keeps its place in the bounded queue, also when the writer has gone away.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) done: oneshot::Sender<Outcome>,
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

/// Writes that were decided but are not durable. Guarded by the writer's lock.
#[derive(Debug)]
pub(crate) struct Pending {
    /// What each key will be: `None` when it will be gone. Covers the batch being committed and the one gathering.
    overlay: HashMap<Key, (u64, Option<Stored>)>,
    records: Vec<Record>,
    waiters: Vec<Waiter>,
    /// The version of the newest write, durable or not. It never goes back, also when a commit fails.
    resource_version: u64,
    closing: bool,
}

/// Writes that share one commit.
#[derive(Debug, Default)]
struct Batch {
    records: Vec<Record>,
    waiters: Vec<Waiter>,
}

impl Pending {
    /// What `key` will be when everything pending is durable; `None` when nothing pending touches it.
    pub(crate) fn get(&self, key: &Key) -> Option<&Option<Stored>> {
        self.overlay.get(key).map(|(_, stored)| stored)
    }

    /// The version that the next write gets.
    pub(crate) fn next_resource_version(&mut self) -> u64 {
        self.resource_version += 1;
        self.resource_version
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Queues a write.
    pub(crate) fn push(&mut self, record: Record) {
        let after = (!record.deleted).then(|| record.stored.clone());
        self.overlay
            .insert(record.stored.key.clone(), (record.stored.resource_version, after));
        self.records.push(record);
    }

    /// Queues someone who wants to know when everything queued so far is durable.
    pub(crate) fn wait(&mut self, waiter: Waiter) {
        self.waiters.push(waiter);
    }

    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.waiters.is_empty()
    }

    fn take(&mut self) -> Batch {
        Batch {
            records: std::mem::take(&mut self.records),
            waiters: std::mem::take(&mut self.waiters),
        }
    }

    /// Forgets what is durable up to `version`.
    fn settle(&mut self, version: u64) {
        self.overlay.retain(|_, (pending, _)| *pending > version);
    }
}

/// What writers, the committer and watchers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pending: Mutex<Pending>,
    arrived: Condvar,
    pub(crate) state: Arc<RwLock<State>>,
    pub(crate) changes: watch::Sender<u64>,
    commits: AtomicU64,
}

impl Shared {
    pub(crate) fn new(state: State) -> Self {
        let resource_version = state.resource_version();
        let pending = Pending {
            overlay: HashMap::new(),
            records: Vec::new(),
            waiters: Vec::new(),
            resource_version,
            closing: false,
        };
        Self {
            pending: Mutex::new(pending),
            arrived: Condvar::new(),
            state: Arc::new(RwLock::new(state)),
            changes: watch::Sender::new(resource_version),
            commits: AtomicU64::new(0),
        }
    }

    /// The writer's lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the committer that there is something to do.
    pub(crate) fn ring(&self) {
        self.arrived.notify_one();
    }

    /// Refuses new writes; the committer ends when the queue is empty.
    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.arrived.notify_all();
    }

    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Commits what is queued now, if anything.
    pub(crate) fn commit_queued(&self, disk: &mut dyn Durable) {
        let batch = self.lock().take();
        self.commit(batch, disk);
    }

    /// The committer: runs until the store is closed and the queue is empty.
    pub(crate) fn run(&self, disk: &mut dyn Durable) {
        // A writer must never wait for a committer that is gone, not even one that panicked.
        let _abandon = Abandon(self);
        let mut company = 0;
        while let Some(batch) = self.gather(company) {
            company = batch.records.len();
            self.commit(batch, disk);
        }
    }

    /// Waits for a batch. `company` is how many writes shared the commit before; `None` means closed and done.
    fn gather(&self, company: usize) -> Option<Batch> {
        let mut pending = self
            .arrived
            .wait_while(self.lock(), |pending| pending.is_empty() && !pending.closing)
            .unwrap_or_else(PoisonError::into_inner);
        if company > 1 && !pending.closing {
            pending = self
                .arrived
                .wait_timeout_while(pending, GATHER_MAX, |pending| {
                    pending.records.len() < company && !pending.closing
                })
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        if pending.is_empty() {
            return None;
        }
        Some(pending.take())
    }

    fn commit(&self, batch: Batch, disk: &mut dyn Durable) {
        let Some(version) = batch.records.last().map(|record| record.stored.resource_version) else {
            // Nobody wrote; the writes that these waiters depend on are durable already.
            answer(batch.waiters, &Ok(()));
            return;
        };
        self.commits.fetch_add(1, Ordering::Relaxed);
        let published = |key: &Key| {
            self.state
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .get(key)
                .cloned()
        };
        match disk.commit(&batch.records, version, &published) {
            Ok(()) => {
                self.publish(batch.records, version);
                answer(batch.waiters, &Ok(()));
            }
            Err(error) => self.fail(batch.waiters, error),
        }
    }

    fn publish(&self, records: Vec<Record>, version: u64) {
        self.state
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .publish(records);
        self.lock().settle(version);
        self.changes.send_replace(version);
    }

    /// A commit failed: its writes did not happen, and neither did those decided on top of them.
    fn fail(&self, waiters: Vec<Waiter>, error: DiskError) {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "objects could not be stored"
        );
        let outcome = Err(Arc::new(error));
        let dependents = {
            let mut pending = self.lock();
            pending.overlay.clear();
            pending.take()
        };
        answer(waiters, &outcome);
        answer(dependents.waiters, &outcome);
    }
}

fn answer(waiters: Vec<Waiter>, outcome: &Outcome) {
    for waiter in waiters {
        // A writer that went away is not an error: its write stands all the same.
        let _ = waiter.done.send(outcome.clone());
        drop(waiter.permit);
    }
}

/// Closes the store when the committer ends, however it ends; dropping the waiters tells them so.
struct Abandon<'a>(&'a Shared);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        let mut pending = self.0.lock();
        pending.closing = true;
        drop(pending.take());
    }
}
