//! Which revisions are in memory now, ready for a call, and what they use: told by those who run functions, once a
//! second, and shown to users as pods.

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
    /// Rings when a revision came or went.
    changes: watch::Sender<()>,
    /// The uids of revisions whose instances shall end.
    endings: broadcast::Sender<Arc<str>>,
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
    /// Replaces what one process had told.
    pub fn tell(&self, process: u64, live: Vec<Live>) {
        let who = |live: &[Live]| -> Vec<(Arc<str>, Timestamp)> {
            live.iter()
                .map(|live| (Arc::clone(&live.uid), live.since))
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

    /// Every revision once, with what all processes use for it, by its uid.
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

    /// Asks those who run functions to end what there is of a revision (its uid) and to begin anew, as when its pod is
    /// deleted: calls that run are finished, later ones get instances that were not there before.
    pub fn end(&self, revision: &Arc<str>) {
        // Where nobody runs functions there is nothing to end.
        let _ = self.endings.send(Arc::clone(revision));
    }

    /// The uids of revisions that were given to [`InstanceHub::end`] from now on.
    pub fn endings(&self) -> broadcast::Receiver<Arc<str>> {
        self.endings.subscribe()
    }

    /// Rings when a revision came or went; changes of usage alone do not ring.
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

    #[tokio::test]
    async fn who_runs_functions_hears_what_shall_end() {
        let hub = InstanceHub::default();
        hub.end(&"before".into());
        let mut endings = hub.endings();
        hub.end(&"a".into());
        assert_eq!(&*endings.recv().await.unwrap(), "a");
    }
}
