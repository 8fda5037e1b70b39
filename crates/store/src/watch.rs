//! Watchers: each is a position in the shared ring of events, so a slow one costs nothing and blocks nobody.

use crate::error::WatchError;
use crate::object::Event;
use crate::state::State;
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// Events that a watcher takes from the ring at a time.
pub(crate) const WATCHER_BUFFER_EVENTS_MAX: usize = 64;

/// The events of one resource, in order. Made by [`crate::ObjectStore::watch`].
#[derive(Debug)]
pub struct Watcher {
    resource: Arc<str>,
    state: Arc<RwLock<State>>,
    /// Rings whenever the state's version moves; closed with the store.
    changes: watch::Receiver<u64>,
    /// Events taken from the ring and not handed out yet.
    buffer: VecDeque<Event>,
    /// Everything up to this version was taken from the ring.
    scanned: u64,
}

impl Watcher {
    pub(crate) fn new(
        resource: &str,
        from: u64,
        state: Arc<RwLock<State>>,
        changes: watch::Receiver<u64>,
    ) -> Self {
        Self {
            resource: resource.into(),
            state,
            changes,
            buffer: VecDeque::new(),
            scanned: from,
        }
    }

    /// The next event. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`WatchError::Lagged`] when events between the last one handed out and now are gone from the ring;
    /// [`WatchError::Closed`] when the store is closed and everything was handed out.
    pub async fn next(&mut self) -> Result<Event, WatchError> {
        loop {
            if let Some(event) = self.buffer.pop_front() {
                return Ok(event);
            }
            // Marked as seen before the ring is read: a change in between rings again.
            self.changes.borrow_and_update();
            self.fill()?;
            if self.buffer.is_empty() {
                self.changes.changed().await.map_err(|_| WatchError::Closed)?;
            }
        }
    }

    /// The version up to which every event was handed out: safe to send to a client as a bookmark.
    #[must_use]
    pub fn bookmark(&self) -> u64 {
        self.buffer
            .front()
            .map_or(self.scanned, |next| next.object.resource_version - 1)
    }

    fn fill(&mut self) -> Result<(), WatchError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let (events, scanned) = state
            .events_after(&self.resource, self.scanned, WATCHER_BUFFER_EVENTS_MAX)
            .ok_or(WatchError::Lagged)?;
        self.buffer.extend(events);
        self.scanned = scanned;
        Ok(())
    }
}
