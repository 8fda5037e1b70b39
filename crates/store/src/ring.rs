//! The newest events, oldest first. The oldest goes when the ring is full.

use crate::object::Event;
use std::collections::VecDeque;

/// A bounded log of events in the order of their resource versions.
#[derive(Debug)]
pub(crate) struct Ring {
    events: VecDeque<Event>,
    /// Every event with a higher version than this is in `events`.
    complete_after: u64,
    limit: usize,
    /// Bytes of the objects in `events`, as text. What an event tells of the state before is the object of an older
    /// event, or is what readers had at the start; it does not count again.
    bytes: usize,
    bytes_limit: usize,
}

impl Ring {
    /// An empty ring of `limit` events and `bytes_limit` bytes, complete from `version` on. The newest event is kept
    /// also where it alone is larger.
    pub(crate) fn new(version: u64, limit: usize, bytes_limit: usize) -> Self {
        Self {
            events: VecDeque::new(),
            complete_after: version,
            limit: limit.max(1),
            bytes: 0,
            bytes_limit,
        }
    }

    /// Appends an event; its version must be higher than all before.
    pub(crate) fn push(&mut self, event: Event) {
        debug_assert!(
            event.object.resource_version > self.events.back().map_or(0, |e| e.object.resource_version)
        );
        self.bytes += bytes(&event);
        self.events.push_back(event);
        while self.events.len() > self.limit || (self.bytes > self.bytes_limit && self.events.len() > 1) {
            if let Some(gone) = self.events.pop_front() {
                self.bytes -= bytes(&gone);
                self.complete_after = gone.object.resource_version;
            }
        }
    }

    /// The oldest version from which nothing is missing.
    pub(crate) fn complete_after(&self) -> u64 {
        self.complete_after
    }

    /// The events with a version higher than `version`, oldest first; `None` when some of them are gone.
    pub(crate) fn after(&self, version: u64) -> Option<impl Iterator<Item = &Event>> {
        if version < self.complete_after {
            return None;
        }
        let start = self
            .events
            .partition_point(|event| event.object.resource_version <= version);
        Some(self.events.range(start..))
    }
}

fn bytes(event: &Event) -> usize {
    event.object.object.json().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Document;
    use crate::object::{EventKind, Key, Stored};
    use std::sync::Arc;

    fn event(version: u64) -> Event {
        let object = Stored {
            key: Key::new("things", "", "a"),
            resource_version: version,
            object: Document::new(&Arc::new(serde_json::Value::Null)),
        };
        Event {
            kind: EventKind::Added,
            object,
            previous: None,
        }
    }

    fn versions(ring: &Ring, after: u64) -> Option<Vec<u64>> {
        Some(
            ring.after(after)?
                .map(|event| event.object.resource_version)
                .collect(),
        )
    }

    #[test]
    fn the_newest_stay_and_what_is_missing_is_known() {
        let mut ring = Ring::new(10, 3, 100);
        assert_eq!(versions(&ring, 10), Some(vec![]));
        assert_eq!(versions(&ring, 9), None);
        for version in [11, 14, 15] {
            ring.push(event(version));
        }
        assert_eq!(versions(&ring, 10), Some(vec![11, 14, 15]));
        assert_eq!(
            versions(&ring, 12),
            Some(vec![14, 15]),
            "versions have gaps after a failed commit"
        );
        ring.push(event(16));
        assert_eq!(versions(&ring, 10), None);
        assert_eq!(versions(&ring, 11), Some(vec![14, 15, 16]));
        assert_eq!(versions(&ring, 16), Some(vec![]));
        assert_eq!(ring.complete_after(), 11);
    }

    #[test]
    fn large_events_push_older_ones_out() {
        let mut ring = Ring::new(10, 100, 10);
        // `null` is four bytes.
        for version in 11..=14 {
            ring.push(event(version));
        }
        assert_eq!(versions(&ring, 12), Some(vec![13, 14]));
        assert_eq!(versions(&ring, 11), None);
        let mut ring = Ring::new(10, 100, 1);
        ring.push(event(11));
        ring.push(event(12));
        assert_eq!(versions(&ring, 11), Some(vec![12]), "the newest stays");
    }
}
