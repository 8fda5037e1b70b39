//! How far revisions are scaled: what the request path saw, on its way up to the autoscaler, and what the autoscaler
//! wants, on its way down.

use crate::revision::RevisionKey;
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How often the request path tells what it saw (Knative's queue-proxy and activator: each second).
pub const STATS_PERIOD: Duration = Duration::from_secs(1);
/// Batches of stats that may wait for the autoscaler. At the limit one is dropped, as when a scrape fails.
const BATCHES_WAITING_MAX: usize = 256;

/// What one process saw of one revision within one period.
#[derive(Debug, Clone, PartialEq)]
pub struct Stat {
    /// Which revision.
    pub revision: RevisionKey,
    /// The uid of that revision object.
    pub uid: Arc<str>,
    /// Calls under way and waiting, averaged by time.
    pub concurrency: f64,
    /// Calls that came in, by the second.
    pub requests_per_second: f64,
    /// Instances that take calls; for functions that live for one call, those the autoscaler wants.
    pub ready: u32,
    /// Instances that are not ready yet.
    pub starting: u32,
    /// Instances that finish their last calls.
    pub stopping: u32,
    /// Processor time that all instances took within the period, in cores.
    pub cpu_cores: f64,
    /// Memory of all instances, in bytes.
    pub memory_bytes: f64,
}

/// What one process saw since it told last: within one period, or a longer time where it was late. A revision that is not in it had no calls and has no instance.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stats {
    /// The number of the process, among those that take calls.
    pub process: u64,
    /// When the period ended, by the wall clock, which all processes of a machine share. `None` for what is new as it
    /// arrives, such as a batch between two periods.
    pub at: Option<Timestamp>,
    /// Set on a batch that is sent at once, between two periods, because calls found a revision without instances.
    pub from_zero: bool,
    /// One for each revision.
    pub of: Vec<Stat>,
}

/// The sending half, held by the request path.
#[derive(Debug, Clone)]
pub struct StatsSender(mpsc::Sender<Stats>);

impl StatsSender {
    /// Hands in stats without waiting; `false` when the channel is full or nobody listens.
    pub fn send(&self, stats: Stats) -> bool {
        self.0.try_send(stats).is_ok()
    }
}

/// A channel for stats.
#[must_use]
pub fn channel() -> (StatsSender, mpsc::Receiver<Stats>) {
    let (sender, receiver) = mpsc::channel(BATCHES_WAITING_MAX);
    (StatsSender(sender), receiver)
}

/// How many instances of each revision the autoscaler wants, by the revision's uid. One that is not in it is not decided
/// yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScaleTable(pub HashMap<Arc<str>, Wanted>);

/// How many instances of one revision the autoscaler wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// In this process.
    pub here: u32,
    /// In all processes that answer calls.
    pub all: u32,
}
