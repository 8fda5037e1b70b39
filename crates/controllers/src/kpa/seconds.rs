//! What the processes of the request path tell, put together second by second.
//!
//! Each process tells once a second, at a moment of its own, and late where it, or the loop that listens, gets no
//! processor. The autoscaler's windows have a bucket for each second, and a short one that weighs exponentially has
//! four fifths of its weight in the newest: a second to which somebody has not told yet would be a dip, and one in which
//! somebody told twice a peak, at each decision for as long as the moments of telling and deciding stay as they are.
//! So a second is closed once everybody has told what they saw in it, decisions are made on closed ones, and a process
//! that tells late tells of all seconds since it told last, for its stats are averages over all of them. In Knative this is
//! the collector's part, which asks all pods once a second (serving `pkg/autoscaler/metrics/collector.go`).

use crate::object::ObjectKey;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Seconds by which a process may be behind another before what it sees is added without being waited for.
const WAITED_FOR_MAX: u64 = 2;
/// Seconds that one batch can tell of. Before them nothing is known of its process.
const TOLD_AT_ONCE_MAX: u64 = 5;

/// What a process saw of one Revision.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Load {
    pub(super) key: ObjectKey,
    /// The uid of the Revision.
    pub(super) uid: Arc<str>,
    /// Calls under way.
    pub(super) concurrency: f64,
    /// Calls by the second.
    pub(super) rps: f64,
}

/// What becomes known of a second.
#[derive(Debug, PartialEq)]
pub(super) struct Second {
    /// Its beginning.
    pub(super) at: Duration,
    /// What each of several processes saw in it.
    pub(super) of: Vec<Arc<Vec<Load>>>,
    /// Whether that is all; otherwise it is to be added to a second that was closed before.
    pub(super) closed: bool,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Seconds {
    /// The last second that each process has told of.
    told: HashMap<u64, u64>,
    /// Seconds that are not closed. They are those after `closed`, and [`WAITED_FOR_MAX`] at most.
    open: BTreeMap<u64, Vec<Arc<Vec<Load>>>>,
    closed: Option<u64>,
}

impl Seconds {
    /// A process tells what it saw until `at`. Gives what is known more than before, the oldest second first.
    pub(super) fn tell(&mut self, process: u64, at: Duration, seen: Vec<Load>) -> Vec<Second> {
        let now = at.as_secs();
        let (first, last) = match self.told.get(&process) {
            // By the grain of timers it may tell twice within a second: the second time it tells of the next, and if it told
            // of that already, of none.
            Some(told) => {
                let last = now.max((told + 1).min(now + 1));
                let first = (told + 1).max((last + 1).saturating_sub(TOLD_AT_ONCE_MAX));
                (first, last)
            }
            None => (now, now),
        };
        self.told
            .entry(process)
            .and_modify(|told| *told = last.max(*told))
            .or_insert(last);
        let seen = Arc::new(seen);
        let mut known = Vec::new();
        for second in first..=last {
            if self.closed.is_some_and(|closed| second <= closed) {
                known.push(Second {
                    at: Duration::from_secs(second),
                    of: vec![Arc::clone(&seen)],
                    closed: false,
                });
            } else {
                self.open.entry(second).or_default().push(Arc::clone(&seen));
            }
        }
        known.extend(self.close());
        known
    }

    /// Closes the seconds of which everybody has told, or that are too old to be waited for.
    fn close(&mut self) -> Vec<Second> {
        let newest = self.told.values().max().copied().unwrap_or_default();
        let everybody = self.told.values().min().copied().unwrap_or_default();
        let last = everybody.max(newest.saturating_sub(WAITED_FOR_MAX));
        let first = match self.closed {
            Some(closed) => (closed + 1).max((last + 1).saturating_sub(TOLD_AT_ONCE_MAX)),
            None => self.open.keys().next().copied().unwrap_or(last),
        };
        let mut known = Vec::new();
        for second in first..=last {
            known.push(Second {
                at: Duration::from_secs(second),
                of: self.open.remove(&second).unwrap_or_default(),
                closed: true,
            });
        }
        self.closed = self.closed.max(Some(last));
        known
    }

    /// A process is gone.
    pub(super) fn forget(&mut self, process: u64) {
        self.told.remove(&process);
    }

    /// The newest second that is closed: decisions are made as of then. `None` while nobody tells.
    pub(super) fn newest(&self) -> Option<Duration> {
        self.closed
            .filter(|_| !self.told.is_empty())
            .map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn load(concurrency: f64) -> Vec<Load> {
        vec![Load {
            key: ObjectKey::new("default", "r"),
            uid: "u".into(),
            concurrency,
            rps: 0.0,
        }]
    }

    /// `second:sum`, with a `+` where it is added to a closed one.
    fn shown(known: &[Second]) -> String {
        let one = |second: &Second| {
            let loads = second.of.iter().flat_map(|of| of.iter());
            let sum = loads.fold(0.0, |sum, load| sum + load.concurrency);
            let sign = if second.closed { "" } else { "+" };
            format!("{}:{sign}{sum}", second.at.as_secs())
        };
        known.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn tell(seconds: &mut Seconds, process: u64, at: f64, concurrency: f64) -> String {
        shown(&seconds.tell(process, Duration::from_secs_f64(at), load(concurrency)))
    }

    #[test]
    fn one_process_closes_a_second_each_time_it_tells() {
        let mut seconds = Seconds::default();
        assert_eq!(seconds.newest(), None);
        assert_eq!(tell(&mut seconds, 0, 7.9995, 1.0), "7:1");
        // A little late, then a little early: each second was told of once.
        assert_eq!(tell(&mut seconds, 0, 9.0005, 2.0), "8:2 9:2");
        assert_eq!(tell(&mut seconds, 0, 9.9995, 3.0), "10:3");
        assert_eq!(tell(&mut seconds, 0, 11.0, 4.0), "11:4");
        assert_eq!(tell(&mut seconds, 0, 11.9, 4.5), "12:4.5");
        assert_eq!(tell(&mut seconds, 0, 11.95, 4.5), "", "it has told of 12");
        assert_eq!(seconds.newest(), Some(Duration::from_secs(12)));
        // Late: it tells of all seconds since; but not of more than it can know.
        assert_eq!(tell(&mut seconds, 0, 14.3, 5.0), "13:5 14:5");
        assert_eq!(tell(&mut seconds, 0, 99.0, 6.0), "95:6 96:6 97:6 98:6 99:6");
        seconds.forget(0);
        assert_eq!(seconds.newest(), None);
        assert_eq!(tell(&mut seconds, 0, 200.0, 7.0), "196:0 197:0 198:0 199:0 200:7");
    }

    #[test]
    fn a_second_is_closed_when_all_processes_have_told_of_it() {
        let mut seconds = Seconds::default();
        assert_eq!(tell(&mut seconds, 1, 5.8, 1.0), "5:1");
        assert_eq!(
            tell(&mut seconds, 2, 6.2, 10.0),
            "",
            "the first has not told of 6"
        );
        assert_eq!(tell(&mut seconds, 1, 6.8, 2.0), "6:12");
        assert_eq!(tell(&mut seconds, 2, 7.2, 20.0), "");
        assert_eq!(tell(&mut seconds, 1, 7.8, 3.0), "7:23");
        // The second one says no more: it is waited for, but not long, and then it says what it missed.
        assert_eq!(tell(&mut seconds, 1, 8.8, 4.0), "");
        assert_eq!(tell(&mut seconds, 1, 9.8, 5.0), "");
        assert_eq!(tell(&mut seconds, 1, 10.8, 6.0), "8:4");
        assert_eq!(tell(&mut seconds, 2, 10.9, 40.0), "8:+40 9:45 10:46");
        assert_eq!(seconds.newest(), Some(Duration::from_secs(10)));
    }

    proptest! {
        /// Whatever the moments and delays, a process tells once of each second from its first to its last, none is
        /// closed twice, and none is before those that were.
        #[test]
        fn every_second_is_told_of_once(
            start in 0_u64..5000,
            steps in prop::collection::vec((0_u64..3, 995_u64..3000), 1..60),
        ) {
            let mut seconds = Seconds::default();
            let mut at = [start; 3].map(Duration::from_millis);
            let (mut closed, mut sums) = (BTreeSet::new(), BTreeMap::<u64, f64>::new());
            let mut last = None;
            for (process, step) in steps {
                // All tell often enough not to be forgotten.
                let index = usize::try_from(process).unwrap();
                let behind = at.iter().max().unwrap().saturating_sub(Duration::from_secs(3));
                at[index] = (at[index] + Duration::from_millis(step)).max(behind);
                for second in seconds.tell(process, at[index], load(1.0)) {
                    let number = second.at.as_secs();
                    if second.closed {
                        prop_assert!(closed.insert(number), "{number} is closed twice");
                        prop_assert!(last.is_none_or(|last| last < number));
                        last = Some(number);
                    } else {
                        prop_assert!(last.is_some_and(|last| number <= last));
                    }
                    *sums.entry(number).or_default() += second.of.len() as f64;
                }
                prop_assert!(seconds.open.len() <= usize::try_from(WAITED_FOR_MAX).unwrap() + 1);
            }
            prop_assert!(sums.values().all(|sum| *sum <= 3.0), "{sums:?}");
        }
    }
}
