//! What the data plane tells the controllers. Reports flow up through a bounded channel; a report that finds it full
//! is dropped, because the next one says the same.

use crate::revision::RevisionKey;
use tokio::sync::mpsc;

/// Reports that may wait for the controllers before new ones are dropped.
pub const REPORTS_WAITING_MAX: usize = 1024;

/// The health of a revision, as seen by its calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It trapped, and has never answered a call; or none of its instances takes calls, because they end.
    Failing {
        /// The trap or the end, in one line.
        message: String,
        /// As of a container's process that ends so.
        exit_code: i32,
    },
    /// It answered a call. Reported only after [`Health::Failing`].
    Recovered,
    /// Its artifact left the cache and cannot be fetched with the machine's own credentials: it has to be prepared
    /// again, with those of the revision.
    ArtifactLost,
}

/// One report on one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The revision it is about.
    pub revision: RevisionKey,
    /// The uid of that revision object.
    pub uid: std::sync::Arc<str>,
    /// What was seen.
    pub health: Health,
}

/// The sending half, held by the runtime.
#[derive(Debug, Clone)]
pub struct Reporter(mpsc::Sender<Report>);

impl Reporter {
    /// Hands in a report without waiting; `false` when the channel is full or nobody listens.
    pub fn report(&self, report: Report) -> bool {
        self.0.try_send(report).is_ok()
    }
}

/// A channel for reports.
#[must_use]
pub fn channel() -> (Reporter, mpsc::Receiver<Report>) {
    let (sender, receiver) = mpsc::channel(REPORTS_WAITING_MAX);
    (Reporter(sender), receiver)
}
