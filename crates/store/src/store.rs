//! The store's front: reads from memory, writes through the committer.

use crate::backup::Backup;
use crate::commit::{Outcome, Pending, Shared, Waiter};
use crate::disk::{Disk, Durable, Nothing};
use crate::document::Document;
use crate::encryption::Encryption;
use crate::error::{Expired, OpenError, WriteError};
use crate::object::{Change, Key, Snapshot, Stored, set_resource_version};
use crate::state::{Record, State};
use crate::watch::Watcher;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Events kept for watches by default; a watch that starts before the oldest is refused.
pub const EVENTS_KEPT_MAX: usize = 10_000;
/// Writes that may wait for the disk by default; more callers wait for their turn to decide.
pub const WRITES_WAITING_MAX: usize = 4096;
/// The version of a store that was never written to. Not 0, which means "any" in the Kubernetes API.
pub(crate) const RESOURCE_VERSION_FIRST: u64 = 1;

/// How a store behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Events kept in memory for watches. At the limit the oldest is forgotten; watchers that still need it get
    /// [`crate::WatchError::Lagged`]. Default 10,000.
    pub events_kept: usize,
    /// Writes that may wait for the disk at a time. At the limit further writers wait before they decide.
    /// Default 4,096.
    pub writes_waiting_max: usize,
    /// What is encrypted on the disk. Default: nothing.
    pub encryption: Option<Arc<Encryption>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            events_kept: EVENTS_KEPT_MAX,
            writes_waiting_max: WRITES_WAITING_MAX,
            encryption: None,
        }
    }
}

/// All objects. Clones share one store; the last one dropped closes it after its queued writes are durable.
#[derive(Debug, Clone)]
pub struct ObjectStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    waiting: Arc<Semaphore>,
    encryption: Option<Arc<Encryption>>,
    committer: Committer,
}

#[derive(Debug)]
enum Committer {
    /// A thread of its own, since an fsync blocks. `None` once it was joined.
    Thread(Mutex<Option<JoinHandle<()>>>),
    /// The writer itself, for a store without a disk.
    Writer(Mutex<Nothing>),
}

impl ObjectStore {
    /// Opens the store in the file `path`, or makes it. The directory must exist.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: &Path, config: Config) -> Result<Self, OpenError> {
        let (disk, loaded) = Disk::open(path, config.encryption.clone())?;
        let state = State::new(loaded.objects, loaded.resource_version, config.events_kept);
        Self::start(state, Box::new(disk), &config)
    }

    /// A store that forgets everything when it is dropped, for tests and for trying things out.
    #[must_use]
    pub fn in_memory(config: Config) -> Self {
        let shared = Shared::new(State::new(
            BTreeMap::new(),
            RESOURCE_VERSION_FIRST,
            config.events_kept,
        ));
        Self::assemble(Arc::new(shared), &config, Committer::Writer(Mutex::new(Nothing)))
    }

    /// A store over any kind of durability, with a committer thread.
    pub(crate) fn start(
        state: State,
        mut disk: Box<dyn Durable>,
        config: &Config,
    ) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared::new(state));
        let committing = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("store-commit".to_owned())
            .spawn(move || committing.run(&mut *disk))
            .map_err(OpenError::Thread)?;
        Ok(Self::assemble(
            shared,
            config,
            Committer::Thread(Mutex::new(Some(thread))),
        ))
    }

    fn assemble(shared: Arc<Shared>, config: &Config, committer: Committer) -> Self {
        let permits = config.writes_waiting_max.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            inner: Arc::new(Inner {
                shared,
                waiting: Arc::new(Semaphore::new(permits)),
                encryption: config.encryption.clone(),
                committer,
            }),
        }
    }

    /// Closes the store while clones of it may still be held, so that the file can be opened again: queued writes
    /// become durable, later ones are refused, reads go on from memory. Blocks for the last commit.
    pub fn close(&self) {
        self.inner.close();
    }

    /// The object, as far as it is durable.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Stored> {
        self.read(|state| state.get(key).cloned())
    }

    /// The objects of one resource, in one namespace or (`None`) in all.
    #[must_use]
    pub fn list(&self, resource: &str, namespace: Option<&str>) -> Snapshot {
        self.read(|state| state.list(resource, namespace))
    }

    /// Everything as it is now, to be written somewhere else. Writes go on meanwhile. What is encrypted on the disk is
    /// encrypted in it.
    #[must_use]
    pub fn backup(&self) -> Backup {
        let (objects, version) = self.read(|state| (state.all(), state.resource_version()));
        Backup::new(objects, version, self.inner.encryption.clone())
    }

    /// The version of the newest durable write. It never goes back, also over restarts.
    #[must_use]
    pub fn resource_version(&self) -> u64 {
        self.read(State::resource_version)
    }

    /// How many commits were made (or tried) since the store was opened; many writes share one.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.inner.shared.commits()
    }

    /// Read-modify-write. `decide` sees the newest state of `key`, including what other writers are about to make
    /// durable, while no other writer decides; it must be quick and must not block. It may refuse.
    ///
    /// Resolves when the decision and all it was based on are durable, with what is there now (for
    /// [`Change::Delete`] the deleted object with the deletion's version, `None` when there was nothing to delete).
    /// Dropping the future does not take back a write that was decided.
    ///
    /// # Errors
    /// [`WriteError::Refused`] with what `decide` said; the other variants say why nothing was written.
    pub async fn write<T, E>(
        &self,
        key: Key,
        decide: impl FnOnce(Option<&Stored>) -> Result<(Change, T), E> + Send,
    ) -> Result<(Option<Stored>, T), WriteError<E>> {
        let permit = Arc::clone(&self.inner.waiting)
            .acquire_owned()
            .await
            .map_err(|_| WriteError::Closed)?;
        let (decided, durable) = self.decide(key, decide, permit)?;
        if let Some(durable) = durable {
            self.inner.kick();
            durable
                .await
                .map_err(|_| WriteError::Closed)?
                .map_err(WriteError::Disk)?;
        }
        decided.map_err(WriteError::Refused)
    }

    /// Events of `resource` after the version `from` (of a list, an event or a bookmark).
    ///
    /// # Errors
    /// [`Expired`] when events after `from` are already forgotten, or `from` is newer than the store.
    pub fn watch(&self, resource: &str, from: u64) -> Result<Watcher, Expired> {
        let shared = &self.inner.shared;
        self.read(|state| state.check_watch(from))?;
        Ok(Watcher::new(
            resource,
            from,
            Arc::clone(&shared.state),
            shared.changes.subscribe(),
        ))
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(
            &self
                .inner
                .shared
                .state
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Runs `decide` under the writer's lock and queues what it decided. The receiver, where there is one, tells when
    /// the decision holds.
    #[expect(
        clippy::type_complexity,
        reason = "the answer of `write` in two halves; a name would hide that"
    )]
    fn decide<T, E>(
        &self,
        key: Key,
        decide: impl FnOnce(Option<&Stored>) -> Result<(Change, T), E>,
        permit: OwnedSemaphorePermit,
    ) -> Result<(Result<(Option<Stored>, T), E>, Option<oneshot::Receiver<Outcome>>), WriteError<E>> {
        let mut pending = self.inner.shared.lock();
        if pending.is_closing() {
            return Err(WriteError::Closed);
        }
        let (current, is_pending) = match pending.get(&key) {
            Some(current) => (current.clone(), true),
            None => (self.get(&key), false),
        };
        let (record, decided) = match decide(current.as_ref()) {
            // Also a refusal waits for what it was based on: "already exists" must not be said of what may yet fail.
            Err(refusal) => (None, Err(refusal)),
            Ok((change, told)) => {
                let record =
                    record(key, current.as_ref(), change, &mut pending).ok_or(WriteError::NotAnObject)?;
                let now = record.as_ref().map(|record| record.stored.clone()).or(current);
                (record, Ok((now, told)))
            }
        };
        if record.is_none() && !is_pending {
            return Ok((decided, None));
        }
        if let Some(record) = record {
            pending.push(record);
        }
        let (done, durable) = oneshot::channel();
        pending.wait(Waiter {
            done,
            permit: Some(permit),
        });
        Ok((decided, Some(durable)))
    }
}

/// The write that a change asks for, with its version; inner `None` when there is nothing to write, outer `None` when
/// the value is no object.
#[expect(
    clippy::option_option,
    reason = "two different absences, told apart in the one caller"
)]
fn record(
    key: Key,
    current: Option<&Stored>,
    change: Change,
    pending: &mut Pending,
) -> Option<Option<Record>> {
    let (mut object, deleted) = match (change, current) {
        (Change::Keep, _) | (Change::Delete, None) => return Some(None),
        (Change::Put(object), _) => (object, false),
        (Change::Delete, Some(current)) => (Value::clone(&current.object.tree()), true),
    };
    // Probed first, so that a refused value does not use up a version.
    if !set_resource_version(&mut object, 0) {
        return None;
    }
    let resource_version = pending.next_resource_version();
    let _ = set_resource_version(&mut object, resource_version);
    let tree = Arc::new(object);
    Some(Some(Record {
        stored: Stored {
            key,
            resource_version,
            object: Document::new(&tree),
        },
        deleted,
        tree,
    }))
}

impl Inner {
    /// Gets the queue committed: by the thread, or here and now.
    fn kick(&self) {
        match &self.committer {
            Committer::Thread(_) => self.shared.ring(),
            Committer::Writer(nothing) => {
                let mut nothing = nothing.lock().unwrap_or_else(PoisonError::into_inner);
                self.shared.commit_queued(&mut *nothing);
            }
        }
    }
}

impl Inner {
    /// Refuses new writes, waits until the queued ones are durable, and lets go of the file.
    fn close(&self) {
        self.shared.close();
        if let Committer::Thread(thread) = &self.committer
            && let Some(thread) = thread.lock().unwrap_or_else(PoisonError::into_inner).take()
            && thread.join().is_err()
        {
            tracing::error!("the store's committer panicked");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
