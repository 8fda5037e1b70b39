//! Settings of the API server.

use crate::auth;
use kittiwake_core::unit::ByteCount;
use std::time::Duration;

/// Settings of the API server. All have defaults that suit one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Largest request body; a longer one gets 413. Kubernetes' own limit is 3 MiB.
    pub body_bytes_max: ByteCount,
    /// Time between the deletion of a namespace and the purge of what is in it. `kubectl delete -f` deletes the
    /// namespace of a file first and the things inside it next: an instant purge would make those deletes fail.
    pub namespace_purge_delay: Duration,
    /// How long an Event object is kept after it last happened.
    pub event_ttl: Duration,
    /// Event objects kept; the oldest go first.
    pub events_max: usize,
    /// Time between two bookmarks of a watch that asked for them.
    pub bookmark_interval: Duration,
    /// Pause between two sweeps of expired events.
    pub event_sweep_interval: Duration,
    /// Who is believed, and what is written down.
    pub auth: auth::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            body_bytes_max: ByteCount::mib(3),
            namespace_purge_delay: Duration::from_secs(1),
            event_ttl: Duration::from_secs(3600),
            events_max: 10_000,
            bookmark_interval: Duration::from_secs(60),
            event_sweep_interval: Duration::from_secs(60),
            auth: auth::Config::default(),
        }
    }
}
