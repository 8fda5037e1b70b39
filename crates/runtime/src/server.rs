//! Functions that listen on a port by themselves and stay: their instances, as [`Residents`] has them.
//!
//! For each revision there is a [`Group`], with as many [`place`]s as the autoscaler wants. A place is what a pod is in
//! Knative: it has one instance at a time, starts another one when that ends, and stops when it is not wanted any more.
//! An instance is called over connections in memory ([`connection`], [`call`]).
//!
//! [`Residents`]: kittiwake_core::resident::Residents

use crate::runtime::{Shared, THIS_PROCESS};
use jiff::Timestamp;
use kittiwake_core::instances::{self, INSTANCES_TOLD_MAX, InstanceId, Live, Usage};
use kittiwake_core::log::LogStream;
use kittiwake_core::resident::{Instances, Resident};
use kittiwake_core::revision::RevisionSpec;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::watch;

mod backoff;
mod body;
mod call;
mod connection;
mod flights;
mod instance;
pub(crate) mod launch;
mod place;
pub(crate) mod pod;
pub(crate) mod probe;
pub(crate) mod request;

use instance::Instance;

/// Places of one revision in this process; more are not made, whatever is asked for.
const PLACES_MAX: usize = 16 * 1024;

/// Exit code of an instance that had to be ended, as of a container's process (128 + SIGKILL).
pub(crate) const EXIT_CODE_WHEN_ENDED: i32 = 137;

/// All groups, by the uid of their revision.
#[derive(Default)]
pub(crate) struct Servers(Mutex<HashMap<Arc<str>, Arc<Group>>>);

/// A number for an instance that no other one had.
fn next_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// The instances of one revision.
pub(crate) struct Group {
    /// Weak, since it holds this.
    shared: Weak<Shared>,
    state: Mutex<State>,
    told: watch::Sender<Instances>,
}

struct State {
    /// The newest version of the revision: what is started next is of it.
    revision: Arc<RevisionSpec>,
    /// The oldest first.
    places: Vec<Place>,
    /// The places that are not wanted any more and whose instances finish their last calls.
    stopping: Vec<instances::Instance>,
    failure: Option<Arc<str>>,
}

impl State {
    /// The places behind the first `count` are not wanted any more.
    fn stop_after(&mut self, count: usize) {
        let kept = count.min(self.places.len());
        for place in self.places.split_off(kept) {
            self.stop(&place);
        }
    }

    /// Notes what becomes of a place that is not wanted any more. Dropping it stops it.
    fn stop(&mut self, place: &Place) {
        if place.ready.is_some() {
            self.stopping.extend(place.told(true));
        }
    }

    /// The instances that take calls, the oldest first, and those that finish their last ones.
    fn instances(&self) -> Vec<instances::Instance> {
        let ready = self.places.iter().filter(|place| place.ready.is_some());
        let ready = ready.filter_map(|place| place.told(false));
        let all = ready.chain(self.stopping.iter().copied());
        all.take(INSTANCES_TOLD_MAX).collect()
    }
}

/// What the group knows of one place.
struct Place {
    id: u64,
    /// Dropped to stop it.
    _wanted: watch::Sender<()>,
    ready: Option<Arc<Instance>>,
    /// When an instance of it first took calls.
    since: Option<Timestamp>,
}

impl Place {
    /// What is told of it, once an instance of it has taken calls.
    fn told(&self, ending: bool) -> Option<instances::Instance> {
        let id = InstanceId {
            process: THIS_PROCESS,
            place: self.id,
        };
        let since = self.since?;
        Some(instances::Instance { id, since, ending })
    }
}

impl Servers {
    fn groups(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Group>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group of a revision, made when it is first asked for.
    pub(crate) fn group(&self, revision: &Arc<RevisionSpec>, shared: &Arc<Shared>) -> Arc<Group> {
        let mut groups = self.groups();
        let group = groups.entry(Arc::clone(&revision.uid)).or_insert_with(|| {
            Arc::new(Group {
                shared: Arc::downgrade(shared),
                state: Mutex::new(State {
                    revision: Arc::clone(revision),
                    places: Vec::new(),
                    stopping: Vec::new(),
                    failure: None,
                }),
                told: watch::Sender::default(),
            })
        });
        Arc::clone(group)
    }

    /// Replaces the instances of a revision, by its uid.
    pub(crate) fn renew(&self, revision: &str) {
        let group = self.groups().get(revision).map(Arc::clone);
        if let Some(group) = group {
            group.renew();
        }
    }

    /// Replaces one instance of a revision: that of a place.
    pub(crate) fn renew_one(&self, revision: &str, place: u64) {
        let group = self.groups().get(revision).map(Arc::clone);
        if let Some(group) = group {
            group.renew_one(place);
        }
    }

    /// Adds the instances to what is told of revisions, which are sorted by uid: also of one whose function was loaded
    /// anew meanwhile, while instances of the former one are left.
    pub(crate) fn add_instances(&self, live: &mut Vec<Live>) {
        let known = live.len();
        for (uid, group) in &*self.groups() {
            let state = group.state();
            let instances = state.instances();
            let Some(since) = instances.iter().map(|instance| instance.since).min() else {
                continue;
            };
            let sorted = live.get(..known).unwrap_or_default();
            match sorted
                .binary_search_by(|other| other.uid.cmp(uid))
                .ok()
                .and_then(|at| live.get_mut(at))
            {
                Some(found) => found.instances = instances,
                None => live.push(Live {
                    revision: state.revision.key.clone(),
                    uid: Arc::clone(uid),
                    since,
                    usage: Usage::default(),
                    instances,
                }),
            }
        }
        live.sort_by(|a, b| a.uid.cmp(&b.uid));
    }

    /// Ends all instances.
    pub(crate) fn stop(&self) {
        for group in self.groups().values() {
            group.state().places.clear();
        }
    }

    /// Forgets the groups that have no instance and that nobody looks at.
    pub(crate) fn forget_unused(&self) {
        self.groups().retain(|_, group| {
            let state = group.state();
            let runs = !state.places.is_empty() || !state.stopping.is_empty();
            runs || group.told.receiver_count() > 0
        });
    }
}

impl Group {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`kittiwake_core::resident::Residents::instances`].
    pub(crate) fn instances(&self) -> watch::Receiver<Instances> {
        self.told.subscribe()
    }

    /// See [`kittiwake_core::resident::Residents::scale`].
    pub(crate) fn scale(self: &Arc<Self>, revision: &Arc<RevisionSpec>, count: u32) {
        let count = usize::try_from(count).unwrap_or(PLACES_MAX).min(PLACES_MAX);
        let mut state = self.state();
        let older = std::mem::replace(&mut state.revision, Arc::clone(revision));
        let before = state.places.len();
        self.fill(&mut state, count);
        state.stop_after(count);
        if count == 0 {
            state.failure = None;
        }
        if before != state.places.len() {
            self.tell(&state);
        }
        drop(state);
        if (&older.mounts, &older.sidecars) != (&revision.mounts, &revision.sidecars)
            && let Some(shared) = self.shared.upgrade()
        {
            self.renew_files(&shared);
        }
    }

    /// Has other instances take the places of all there are; these finish their calls and end.
    fn renew(self: &Arc<Self>) {
        let mut state = self.state();
        let count = state.places.len();
        state.stop_after(0);
        self.fill(&mut state, count);
        self.tell(&state);
    }

    /// Has another instance take the place of one; this one finishes its calls and ends.
    fn renew_one(self: &Arc<Self>, place: u64) {
        let mut state = self.state();
        let count = state.places.len();
        let Some(index) = state.places.iter().position(|other| other.id == place) else {
            return;
        };
        let place = state.places.remove(index);
        state.stop(&place);
        self.fill(&mut state, count);
        self.tell(&state);
    }

    /// Makes places until there are `count`.
    fn fill(self: &Arc<Self>, state: &mut State, count: usize) {
        while state.places.len() < count {
            let id = next_id();
            let (sender, wanted) = watch::channel(());
            state.places.push(Place {
                id,
                _wanted: sender,
                ready: None,
                since: None,
            });
            tokio::spawn(place::run(Arc::clone(self), id, wanted));
        }
    }

    /// Lets the instances find what the newest version of the revision has in its volumes, as the kubelet does it.
    fn renew_files(self: &Arc<Self>, shared: &Arc<Shared>) {
        let (group, shared) = (Arc::clone(self), Arc::clone(shared));
        tokio::task::spawn_blocking(move || {
            if let Err(error) = shared.file_root.renew(|| group.revision()) {
                let text = format!(
                    "the new contents of its volumes cannot be written, so instances keep what they have: {error}; check \
                     the disk of the data directory"
                );
                shared
                    .logs
                    .revision(&group.revision().key)
                    .write(LogStream::Platform, &text);
            }
        });
    }

    /// Says what there is now.
    fn tell(&self, state: &State) {
        let ready: Vec<Arc<dyn Resident>> = state
            .places
            .iter()
            .filter_map(|place| place.ready.clone())
            .map(|instance| instance as Arc<dyn Resident>)
            .collect();
        let starting = state.places.len().saturating_sub(ready.len());
        self.told.send_replace(Instances {
            failure: state.failure.clone().filter(|_| ready.is_empty()),
            starting: u32::try_from(starting).unwrap_or(u32::MAX),
            stopping: u32::try_from(state.stopping.len()).unwrap_or(u32::MAX),
            ready: ready.into(),
        });
    }

    /// The revision that a place starts an instance of now.
    fn revision(&self) -> Arc<RevisionSpec> {
        Arc::clone(&self.state().revision)
    }

    /// The instance of a place takes calls; `false` when the place is not wanted any more.
    fn set_ready(&self, place: u64, instance: &Arc<Instance>) -> bool {
        let now = self.shared.upgrade().map(|shared| shared.clock.now());
        let mut state = self.state();
        let Some(found) = state.places.iter_mut().find(|other| other.id == place) else {
            return false;
        };
        found.ready = Some(Arc::clone(instance));
        found.since = found.since.or(now);
        state.failure = None;
        self.tell(&state);
        true
    }

    /// The instance of a place takes no calls any more. Returns whether another one does.
    fn set_unready(&self, place: u64) -> bool {
        let mut state = self.state();
        let found = state.places.iter_mut().find(|other| other.id == place);
        if found.is_some_and(|found| found.ready.take().is_some()) {
            self.tell(&state);
        }
        state.places.iter().any(|other| other.ready.is_some())
    }

    /// A start failed, or an instance ended, in a place that is wanted.
    fn set_failure(&self, place: u64, message: &str) {
        let mut state = self.state();
        if state.places.iter().any(|other| other.id == place) {
            state.failure = Some(message.into());
            self.tell(&state);
        }
    }

    /// A place is gone, with its instance.
    fn left(&self, place: u64) {
        let mut state = self.state();
        if let Some(index) = state.stopping.iter().position(|other| other.id.place == place) {
            state.stopping.swap_remove(index);
            self.tell(&state);
        }
    }
}
