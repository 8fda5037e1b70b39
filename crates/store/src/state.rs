//! What readers see: the objects that are durable, and the newest events.

use crate::error::Expired;
use crate::object::{Event, EventKind, Key, Snapshot, Stored};
use crate::ring::Ring;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

/// One write that has its version: what the committer makes durable and then publishes.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// The object after the write; for a deletion its last state with the deletion's version.
    pub(crate) stored: Stored,
    /// Whether it removes the object.
    pub(crate) deleted: bool,
    /// What `stored` was made of: those who are told of the write need not read its text again.
    pub(crate) tree: Arc<Value>,
}

/// Trees of the newest writes that are kept, so that all watchers share one.
const TREES_KEPT: usize = 256;

/// Bytes of objects in the events that are kept: without it, ten thousand large objects would be gigabytes.
const EVENTS_BYTES_MAX: usize = 128 << 20;

/// The durable objects at one version.
#[derive(Debug)]
pub(crate) struct State {
    objects: BTreeMap<Key, Stored>,
    resource_version: u64,
    ring: Ring,
    /// Held for the sake of their documents, which only share what someone holds.
    trees: VecDeque<Arc<Value>>,
}

impl State {
    /// The state just loaded: no event is remembered.
    pub(crate) fn new(objects: BTreeMap<Key, Stored>, resource_version: u64, events_kept: usize) -> Self {
        Self {
            objects,
            resource_version,
            ring: Ring::new(resource_version, events_kept, EVENTS_BYTES_MAX),
            trees: VecDeque::with_capacity(TREES_KEPT),
        }
    }

    pub(crate) fn resource_version(&self) -> u64 {
        self.resource_version
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Stored> {
        self.objects.get(key)
    }

    /// All objects.
    pub(crate) fn all(&self) -> Vec<Stored> {
        self.objects.values().cloned().collect()
    }

    /// Objects of one resource, in one namespace or in all.
    pub(crate) fn list(&self, resource: &str, namespace: Option<&str>) -> Snapshot {
        let start = Key::new(resource, namespace.unwrap_or_default(), "");
        let items = self
            .objects
            .range((Bound::Included(start), Bound::Unbounded))
            .map(|(_, stored)| stored)
            .take_while(|stored| {
                &*stored.key.resource == resource
                    && namespace.is_none_or(|namespace| &*stored.key.namespace == namespace)
            })
            .cloned()
            .collect();
        Snapshot {
            items,
            resource_version: self.resource_version,
        }
    }

    /// Makes durable writes visible, in order, each with its event.
    pub(crate) fn publish(&mut self, records: Vec<Record>) {
        for Record {
            stored,
            deleted,
            tree,
        } in records
        {
            if self.trees.len() >= TREES_KEPT {
                self.trees.pop_front();
            }
            self.trees.push_back(tree);
            let previous = if deleted {
                self.objects.remove(&stored.key)
            } else {
                self.objects.insert(stored.key.clone(), stored.clone())
            };
            let kind = match (deleted, &previous) {
                (true, _) => EventKind::Deleted,
                (false, None) => EventKind::Added,
                (false, Some(_)) => EventKind::Modified,
            };
            self.resource_version = stored.resource_version;
            self.ring.push(Event {
                kind,
                object: stored,
                previous: previous.map(|stored| stored.object),
            });
        }
    }

    /// Whether a watch may start from `version`.
    pub(crate) fn check_watch(&self, version: u64) -> Result<(), Expired> {
        let (oldest, newest) = (self.ring.complete_after(), self.resource_version);
        if (oldest..=newest).contains(&version) {
            return Ok(());
        }
        Err(Expired {
            requested: version,
            oldest,
            newest,
        })
    }

    /// Up to `limit` events of `resource` after `version`, and the version up to which nothing more is known.
    /// `None` when some are gone.
    pub(crate) fn events_after(
        &self,
        resource: &Arc<str>,
        version: u64,
        limit: usize,
    ) -> Option<(Vec<Event>, u64)> {
        let mut found = Vec::new();
        for event in self.ring.after(version)? {
            if event.object.key.resource == *resource {
                found.push(event.clone());
                if found.len() == limit {
                    return Some((found, event.object.resource_version));
                }
            }
        }
        Some((found, self.resource_version.max(version)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Document;
    use serde_json::json;

    fn record(resource: &str, namespace: &str, name: &str, version: u64, deleted: bool) -> Record {
        let object = Arc::new(json!({"metadata": {"resourceVersion": version.to_string()}}));
        Record {
            stored: Stored {
                key: Key::new(resource, namespace, name),
                resource_version: version,
                object: Document::new(&object),
            },
            deleted,
            tree: object,
        }
    }

    fn state() -> State {
        let mut state = State::new(BTreeMap::new(), 1, 4);
        state.publish(vec![
            record("a", "one", "x", 2, false),
            record("a", "one1", "x", 3, false),
            record("a", "two", "b", 4, false),
            record("ab", "one", "x", 5, false),
            record("a", "two", "a", 6, false),
        ]);
        state
    }

    #[test]
    fn lists_hold_their_resource_and_namespace_only_in_order() {
        let state = state();
        for (resource, namespace, wanted) in [
            ("a", None, vec!["a/one/x", "a/one1/x", "a/two/a", "a/two/b"]),
            ("a", Some("one"), vec!["a/one/x"]),
            ("a", Some("two"), vec!["a/two/a", "a/two/b"]),
            ("a", Some(""), vec![]),
            ("ab", None, vec!["ab/one/x"]),
            ("b", None, vec![]),
        ] {
            let list = state.list(resource, namespace);
            let keys: Vec<_> = list.items.iter().map(|item| item.key.to_string()).collect();
            assert_eq!(keys, wanted, "{resource} {namespace:?}");
            assert_eq!(list.resource_version, 6);
        }
    }

    #[test]
    fn events_tell_added_modified_deleted_and_what_was_before() {
        let mut state = State::new(BTreeMap::new(), 1, 10);
        state.publish(vec![
            record("a", "", "x", 2, false),
            record("a", "", "x", 3, false),
            record("a", "", "x", 5, true),
        ]);
        let (events, up_to) = state.events_after(&"a".into(), 1, 10).unwrap();
        let seen: Vec<_> = events
            .iter()
            .map(|e| (e.kind, e.object.resource_version, e.previous.is_some()))
            .collect();
        assert_eq!(
            seen,
            [
                (EventKind::Added, 2, false),
                (EventKind::Modified, 3, true),
                (EventKind::Deleted, 5, true)
            ]
        );
        assert_eq!(up_to, 5);
        assert_eq!(state.get(&Key::new("a", "", "x")), None);
    }

    #[test]
    fn events_come_in_pieces_and_the_version_tells_how_far() {
        let state = state();
        assert!(
            state.events_after(&"a".into(), 1, 10).is_none(),
            "the first event is gone"
        );
        let (events, up_to) = state.events_after(&"a".into(), 2, 2).unwrap();
        assert_eq!((events.len(), up_to), (2, 4));
        let (events, up_to) = state.events_after(&"a".into(), 4, 2).unwrap();
        assert_eq!(
            (events.len(), up_to),
            (1, 6),
            "events of other resources count as seen"
        );
    }

    #[test]
    fn a_watch_starts_within_the_ring_only() {
        let state = state();
        for (version, allowed) in [(0, false), (1, false), (2, true), (6, true), (7, false)] {
            assert_eq!(state.check_watch(version).is_ok(), allowed, "{version}");
        }
    }
}
