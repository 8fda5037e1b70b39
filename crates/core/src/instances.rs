//! Which revisions are in memory now, ready for a call, and what they use: told by those who run functions, once a
//! second, and shown to users as pods. Of a function whose instances stay each instance is told.

use crate::revision::RevisionKey;
use crate::unit::ByteCount;
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// One revision in the memory of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Which revision.
    pub revision: RevisionKey,
    /// The uid of that revision object.
    pub uid: Arc<str>,
    /// Since when.
    pub since: Timestamp,
    /// What it uses.
    pub usage: Usage,
    /// Its instances that stay, [`INSTANCES_TOLD_MAX`] at most: those that take calls or finish their last ones.
    pub instances: Vec<Instance>,
}

/// Instances of one revision that are told by one process; others are there and not shown.
pub const INSTANCES_TOLD_MAX: usize = 1000;

/// Where an instance that stays is: its place in one process, in which another one follows it when it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId {
    /// The number of the process.
    pub process: u64,
    /// A number that no other place of that process has or had.
    pub place: u64,
}

/// One instance that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instance {
    /// Where it is.
    pub id: InstanceId,
    /// Since when its place has taken calls.
    pub since: Timestamp,
    /// Whether it finishes its last calls and takes no others.
    pub ending: bool,
}

/// What shall end and begin anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The uid of a revision.
    pub revision: Arc<str>,
    /// One of its instances alone; `None` for all there is of the revision.
    pub instance: Option<InstanceId>,
}

/// What a revision uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Processor time that its calls took within the last [`Usage::window`].
    pub cpu: Duration,
    /// The time over which `cpu` was measured.
    pub window: Duration,
    /// The most linear memory that its instances had at a time within the window: between calls it is none.
    pub memory: ByteCount,
}

/// Endings that were asked for and not yet taken up. Those who are further behind miss the oldest: what was asked for can
/// be asked for again.
const ENDINGS_WAITING_MAX: usize = 1024;

/// All revisions in memory, of all processes that answer calls.
#[derive(Debug)]
pub struct InstanceHub {
    /// By the number of the process.
    processes: RwLock<HashMap<u64, Vec<Live>>>,
    /// Rings when a revision or an instance came or went.
    changes: watch::Sender<()>,
    /// What shall end.
    endings: broadcast::Sender<Ending>,
}

impl Default for InstanceHub {
    fn default() -> Self {
        Self {
            processes: RwLock::default(),
            changes: watch::Sender::default(),
            endings: broadcast::Sender::new(ENDINGS_WAITING_MAX),
        }
    }
}

impl InstanceHub {
    /// Replaces what one process had told. Its instances are those of that process, whatever number they came with.
    pub fn tell(&self, process: u64, mut live: Vec<Live>) {
        for instance in live.iter_mut().flat_map(|live| &mut live.instances) {
            instance.id.process = process;
        }
        let who = |live: &[Live]| -> Vec<(Arc<str>, Timestamp, Vec<Instance>)> {
            live.iter()
                .map(|live| (Arc::clone(&live.uid), live.since, live.instances.clone()))
                .collect()
        };
        let now = who(&live);
        let mut processes = self.processes.write().unwrap_or_else(PoisonError::into_inner);
        let before = if live.is_empty() {
            processes.remove(&process)
        } else {
            processes.insert(process, live)
        };
        drop(processes);
        if who(&before.unwrap_or_default()) != now {
            self.changes.send_replace(());
        }
    }

    /// Every revision once, with what all processes have and use for it, by its uid.
    #[must_use]
    pub fn live(&self) -> BTreeMap<Arc<str>, Live> {
        let mut all: BTreeMap<Arc<str>, Live> = BTreeMap::new();
        for live in self
            .processes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .flatten()
        {
            match all.get_mut(&live.uid) {
                Some(same) => {
                    same.since = same.since.min(live.since);
                    same.instances.extend_from_slice(&live.instances);
                    same.usage.cpu += live.usage.cpu;
                    same.usage.memory = ByteCount(same.usage.memory.0.saturating_add(live.usage.memory.0));
                }
                None => {
                    all.insert(Arc::clone(&live.uid), live.clone());
                }
            }
        }
        all
    }

    /// What one process told last.
    #[must_use]
    pub fn of(&self, process: u64) -> Vec<Live> {
        let processes = self.processes.read().unwrap_or_else(PoisonError::into_inner);
        processes.get(&process).cloned().unwrap_or_default()
    }

    /// Asks those who run functions to end something and to begin anew, as when a pod is deleted: calls that run are
    /// finished, later ones get instances that were not there before.
    pub fn end(&self, ending: Ending) {
        // Where nobody runs functions there is nothing to end.
        let _ = self.endings.send(ending);
    }

    /// What is given to [`InstanceHub::end`] from now on.
    pub fn endings(&self) -> broadcast::Receiver<Ending> {
        self.endings.subscribe()
    }

    /// Rings when a revision or an instance came or went; changes of usage alone do not ring.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(uid: &str, second: i64, memory: u64) -> Live {
        Live {
            revision: RevisionKey::new("default", uid),
            uid: uid.into(),
            since: Timestamp::from_second(second).unwrap(),
            usage: Usage {
                cpu: Duration::from_millis(10),
                window: Duration::from_secs(1),
                memory: ByteCount(memory),
            },
            instances: Vec::new(),
        }
    }

    /// One that is somewhere in that place.
    fn instance(place: u64, ending: bool) -> Instance {
        Instance {
            id: InstanceId { process: 99, place },
            since: Timestamp::from_second(1).unwrap(),
            ending,
        }
    }

    #[test]
    fn processes_are_added_up_and_comings_and_goings_ring() {
        let hub = InstanceHub::default();
        let mut changes = hub.changes();
        hub.tell(0, vec![live("a", 2, 5)]);
        assert!(changes.has_changed().unwrap());
        hub.tell(1, vec![live("a", 1, 7), live("b", 1, 0)]);
        changes.borrow_and_update();
        let all = hub.live();
        assert_eq!(all.len(), 2);
        assert_eq!(all["a"].since, Timestamp::from_second(1).unwrap());
        assert_eq!(all["a"].usage.memory, ByteCount(12));
        assert_eq!(all["a"].usage.cpu, Duration::from_millis(20));
        hub.tell(0, vec![live("a", 2, 6)]);
        assert!(!changes.has_changed().unwrap(), "usage alone");
        hub.tell(0, vec![live("a", 3, 6)]);
        assert!(changes.has_changed().unwrap(), "it began anew");
        changes.borrow_and_update();
        hub.tell(1, Vec::new());
        assert!(changes.has_changed().unwrap());
        assert_eq!(hub.live().len(), 1);
        assert_eq!(hub.of(0).len(), 1);
    }

    #[test]
    fn instances_are_those_of_the_process_that_tells_them() {
        let hub = InstanceHub::default();
        let with = |instances: &[Instance]| Live {
            instances: instances.to_vec(),
            ..live("a", 2, 0)
        };
        hub.tell(0, vec![with(&[instance(1, false), instance(2, false)])]);
        hub.tell(1, vec![with(&[instance(1, false)])]);
        let mut ids: Vec<_> = hub.live()["a"].instances.iter().map(|one| one.id).collect();
        ids.sort_unstable();
        assert_eq!(
            ids,
            [(0, 1), (0, 2), (1, 1)].map(|(process, place)| InstanceId { process, place })
        );
        let mut changes = hub.changes();
        changes.borrow_and_update();
        hub.tell(0, vec![with(&[instance(1, false), instance(2, false)])]);
        assert!(!changes.has_changed().unwrap(), "nothing changed");
        hub.tell(0, vec![with(&[instance(1, false), instance(2, true)])]);
        assert!(changes.has_changed().unwrap(), "one ends");
    }

    #[tokio::test]
    async fn who_runs_functions_hears_what_shall_end() {
        let hub = InstanceHub::default();
        let of = |revision: &str| Ending {
            revision: revision.into(),
            instance: Some(InstanceId { process: 0, place: 3 }),
        };
        hub.end(of("before"));
        let mut endings = hub.endings();
        hub.end(of("a"));
        assert_eq!(endings.recv().await.unwrap(), of("a"));
    }
}
