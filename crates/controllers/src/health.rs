//! What the data plane reports about revisions: they fail at every call, have recovered, or lost their artifact.

use crate::context::Context;
use crate::object::ObjectKey;
use kittiwake_core::report::{Health, Report};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Revisions that fail, with the message of the trap. Bounded by the number of revisions: only known ones are kept.
#[derive(Debug, Default)]
pub struct HealthReports {
    failing: Mutex<HashMap<ObjectKey, (Arc<str>, Failing)>>,
}

/// How a revision fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// In one line.
    pub message: String,
    /// As of a container's process.
    pub exit_code: i32,
}

impl HealthReports {
    /// How a revision object fails.
    #[must_use]
    pub fn failure(&self, key: &ObjectKey, uid: &str) -> Option<Failing> {
        self.lock()
            .get(key)
            .filter(|(of, _)| &**of == uid)
            .map(|(_, failure)| failure.clone())
    }

    /// Forgets a revision.
    pub fn forget(&self, key: &ObjectKey) {
        self.lock().remove(key);
    }

    fn take_note(&self, key: &ObjectKey, report: Report) {
        match report.health {
            Health::Failing { message, exit_code } => {
                let failure = Failing { message, exit_code };
                self.lock().insert(key.clone(), (report.uid, failure))
            }
            Health::Recovered | Health::ArtifactLost => self.lock().remove(key),
        };
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, (Arc<str>, Failing)>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes note of reports until the data plane ends.
pub async fn listen(context: Arc<Context>, mut reports: mpsc::Receiver<Report>) {
    while let Some(report) = reports.recv().await {
        let key = ObjectKey::new(
            Arc::clone(&report.revision.namespace),
            Arc::clone(&report.revision.name),
        );
        if context.stores.revisions.by_key(&key).is_some() {
            if report.health == Health::ArtifactLost {
                context.preparations.lose(&key, &report.uid);
            }
            context.health.take_note(&key, report);
            context.queues.revision.add(key);
        }
    }
}
