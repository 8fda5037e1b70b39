//! Makes artifacts ready beside the reconcilers: each preparation is a task of its own, a few are fetched and compiled at
//! a time, and it leaves what became of it where the Revision's next reconcile finds it.

use super::spec::Images;
use crate::context::Queues;
use crate::object::ObjectKey;
use jiff::Timestamp;
use kittiwake_core::artifact::{FunctionKind, Prepare, PrepareError, PreparePhase, PrepareRequest, Prepared};
use kittiwake_core::clock::Clock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

/// First pause after a failure that may pass by itself; doubled with each further one.
const TRANSIENT_PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest pause after a failure that may pass by itself.
const TRANSIENT_PAUSE_MAX: Duration = Duration::from_secs(60);
/// First pause after a failure that someone has to repair; the repair is then found without being told.
const PERMANENT_PAUSE_MIN: Duration = Duration::from_secs(5);
/// Longest pause after a failure that someone has to repair.
const PERMANENT_PAUSE_MAX: Duration = Duration::from_secs(300);

/// How far one artifact is.
#[derive(Debug, Clone)]
pub enum Preparation {
    /// Waiting for its turn, or at work ⇒ Ready or Failed.
    Running {
        /// What is being done; `None` while it waits for its turn.
        phase: Option<PreparePhase>,
        /// The attempt before this one, when that failed.
        last: Option<Failure>,
    },
    /// On disk, compiled, started once (perhaps by an earlier process) ⇒ Lost.
    Ready(Prepared),
    /// It was ready, but its artifact left the cache ⇒ Running.
    Lost,
    /// Not ready ⇒ Running, at `retry_at` or when what it was made from changes.
    Failed {
        /// What went wrong.
        failure: Failure,
        /// When to try again.
        retry_at: Timestamp,
    },
}

/// A failed attempt.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Why.
    pub error: PrepareError,
    /// Failures in a row.
    pub attempts: u32,
    /// When the first of them began.
    pub since: Timestamp,
    /// What was tried.
    pub request: Arc<PrepareRequest>,
}

impl Failure {
    /// Whether `request` asks for something else than what failed.
    #[must_use]
    pub fn tried_other_than(&self, request: &PrepareRequest) -> bool {
        let tried = &self.request;
        tried.credentials != request.credentials
            || tried.revision != request.revision
            || tried.progress_deadline != request.progress_deadline
    }
}

struct Entry {
    uid: String,
    state: Preparation,
    task: Option<AbortHandle>,
}

type Entries = Arc<Mutex<HashMap<ObjectKey, Entry>>>;

/// All preparations of this process: one per Revision at most.
pub struct Preparations {
    prepare: Arc<dyn Prepare>,
    clock: Arc<dyn Clock>,
    queues: Arc<Queues>,
    turns: Arc<Semaphore>,
    entries: Entries,
}

impl Preparations {
    /// No preparations yet; at most `running_max` will run at one time.
    #[must_use]
    pub fn new(
        prepare: Arc<dyn Prepare>,
        clock: Arc<dyn Clock>,
        queues: Arc<Queues>,
        running_max: usize,
    ) -> Self {
        let turns = Arc::new(Semaphore::new(running_max.max(1)));
        Self {
            prepare,
            clock,
            queues,
            turns,
            entries: Entries::default(),
        }
    }

    /// How far the artifact of a Revision object is; `None` when nothing was begun.
    #[must_use]
    pub fn get(&self, key: &ObjectKey, uid: &str) -> Option<Preparation> {
        lock(&self.entries)
            .get(key)
            .filter(|entry| entry.uid == uid)
            .map(|entry| entry.state.clone())
    }

    /// Takes up the work of an earlier process: when the artifacts `images` (pinned) of a Revision object are still on
    /// disk, it is ready without being prepared again, so that a restart costs the same however much is deployed. `named`
    /// is the kind that its template names.
    pub fn recall(
        &self,
        key: &ObjectKey,
        uid: &str,
        images: &Images,
        named: Option<FunctionKind>,
    ) -> Option<Preparation> {
        let serving = self.prepare.recall(&images.serving)?;
        let mut sidecars = images.sidecars.iter();
        if !sidecars.all(|image| self.prepare.recall(image).is_some()) {
            return None;
        }
        let state = Preparation::Ready(Prepared {
            kind: serving.kind.taken_for(named),
            sidecars: images.sidecars.clone(),
            ..serving
        });
        let entry = Entry {
            uid: uid.to_owned(),
            state: state.clone(),
            task: None,
        };
        lock(&self.entries).insert(key.clone(), entry);
        Some(state)
    }

    /// Takes note that the artifact of a Revision object is ready no more.
    pub fn lose(&self, key: &ObjectKey, uid: &str) {
        if let Some(entry) = lock(&self.entries).get_mut(key)
            && entry.uid == uid
            && matches!(entry.state, Preparation::Ready(_))
        {
            entry.state = Preparation::Lost;
        }
    }

    /// Begins to make the artifact of a Revision object ready, unless that is under way. The Revision is reconciled
    /// at each step.
    pub fn start(&self, key: &ObjectKey, uid: &str, request: PrepareRequest) {
        let mut entries = lock(&self.entries);
        let last = match entries.remove(key) {
            Some(entry) if entry.uid != uid => {
                entry.stop();
                None
            }
            Some(Entry {
                state: Preparation::Failed { failure, .. },
                ..
            }) => Some(failure),
            Some(
                entry @ Entry {
                    state: Preparation::Running { .. },
                    ..
                },
            ) => {
                entries.insert(key.clone(), entry);
                return;
            }
            Some(Entry {
                state: Preparation::Ready(_) | Preparation::Lost,
                ..
            })
            | None => None,
        };
        let work = Work {
            entries: Arc::clone(&self.entries),
            queues: Arc::clone(&self.queues),
            clock: Arc::clone(&self.clock),
            key: key.clone(),
            uid: uid.to_owned(),
        };
        let state = Preparation::Running {
            phase: None,
            last: last.clone(),
        };
        // The task waits for the lock that is held here, so the entry is there when it looks for it.
        let task = tokio::spawn(work.run(
            Arc::clone(&self.prepare),
            Arc::clone(&self.turns),
            Arc::new(request),
            last,
        ));
        entries.insert(
            key.clone(),
            Entry {
                uid: uid.to_owned(),
                state,
                task: Some(task.abort_handle()),
            },
        );
    }

    /// Forgets a Revision that is gone, and stops what is under way for it.
    pub fn forget(&self, key: &ObjectKey) {
        if let Some(entry) = lock(&self.entries).remove(key) {
            entry.stop();
        }
    }

    /// Stops all that is under way.
    pub fn stop(&self) {
        for (_, entry) in lock(&self.entries).drain() {
            entry.stop();
        }
    }
}

impl Entry {
    fn stop(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn lock(entries: &Entries) -> MutexGuard<'_, HashMap<ObjectKey, Entry>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One attempt.
struct Work {
    entries: Entries,
    queues: Arc<Queues>,
    clock: Arc<dyn Clock>,
    key: ObjectKey,
    uid: String,
}

impl Work {
    async fn run(
        self,
        prepare: Arc<dyn Prepare>,
        turns: Arc<Semaphore>,
        request: Arc<PrepareRequest>,
        last: Option<Failure>,
    ) {
        // The semaphore is never closed.
        let Ok(turn) = turns.acquire_owned().await else {
            return;
        };
        let began = self.clock.now();
        let work = Arc::new(self);
        let reporting = Arc::clone(&work);
        // An instance may take minutes until it is ready, and costs others nothing while it does.
        let turn = Mutex::new(Some(turn));
        let progress = Arc::new(move |phase| {
            if phase == PreparePhase::Starting {
                drop(turn.lock().unwrap_or_else(PoisonError::into_inner).take());
            }
            reporting.set_phase(phase);
        });
        let result = prepare.prepare((*request).clone(), progress).await;
        work.finish(result, request, last, began);
    }

    fn set_phase(&self, now: PreparePhase) {
        self.change(|state| {
            if let Preparation::Running { phase, .. } = state {
                *phase = Some(now);
            }
        });
    }

    fn finish(
        &self,
        result: Result<Prepared, PrepareError>,
        request: Arc<PrepareRequest>,
        last: Option<Failure>,
        began: Timestamp,
    ) {
        let state = match result {
            Ok(prepared) => Preparation::Ready(prepared),
            Err(error) => {
                let attempts = last.as_ref().map_or(0, |last| last.attempts).saturating_add(1);
                let since = last.map_or(began, |last| last.since);
                let retry_at = self
                    .clock
                    .now()
                    .checked_add(pause(&error, attempts))
                    .unwrap_or(Timestamp::MAX);
                tracing::info!(revision = %self.key, %error, attempts, "an artifact could not be made ready");
                Preparation::Failed {
                    failure: Failure {
                        error,
                        attempts,
                        since,
                        request,
                    },
                    retry_at,
                }
            }
        };
        self.change(|old| *old = state);
    }

    /// Changes the state unless the Revision was replaced meanwhile.
    fn change(&self, change: impl FnOnce(&mut Preparation)) {
        let mut entries = lock(&self.entries);
        let Some(entry) = entries.get_mut(&self.key).filter(|entry| entry.uid == self.uid) else {
            return;
        };
        change(&mut entry.state);
        drop(entries);
        self.queues.revision.add(self.key.clone());
    }
}

/// The pause after the `attempts`-th failure in a row.
fn pause(error: &PrepareError, attempts: u32) -> Duration {
    let (min, max) = if error.is_transient() {
        (TRANSIENT_PAUSE_MIN, TRANSIENT_PAUSE_MAX)
    } else {
        (PERMANENT_PAUSE_MIN, PERMANENT_PAUSE_MAX)
    };
    min.saturating_mul(1_u32 << attempts.saturating_sub(1).min(20))
        .min(max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kittiwake_core::code::ErrorCode;

    #[test]
    fn pauses_grow_to_their_limit() {
        let transient = PrepareError::new(ErrorCode::RegistryUnavailable, "away");
        let permanent = PrepareError::new(ErrorCode::NotWasm, "text");
        let seconds = |error: &PrepareError, attempts| pause(error, attempts).as_secs();
        assert_eq!(
            [1, 2, 3, 7, 99].map(|n| seconds(&transient, n)),
            [1, 2, 4, 60, 60]
        );
        assert_eq!(
            [1, 2, 3, 7, 99].map(|n| seconds(&permanent, n)),
            [5, 10, 20, 300, 300]
        );
    }
}
