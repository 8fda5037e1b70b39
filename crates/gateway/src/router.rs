//! Host → targets, with everything a call needs resolved beforehand. Requests read a snapshot; one task replaces it.

use crate::activator::{Activator, Throttle};
use crate::metrics::{Metrics, RevisionMetrics};
use crate::proxy::Gateway;
use arc_swap::ArcSwap;
use kittiwake_core::clock::Clock;
use kittiwake_core::revision::{RevisionKey, RevisionSpec};
use kittiwake_core::routing_table::{RouteEntry, RouteTarget, RoutingTable};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// One revision behind a host.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) revision: Arc<RevisionSpec>,
    pub(crate) metrics: Arc<RevisionMetrics>,
    pub(crate) throttle: Arc<Throttle>,
}

/// One host. `targets` are those of `entry`, in its order.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) entry: Arc<RouteEntry>,
    pub(crate) targets: Vec<Target>,
    /// Those of the entry's `by_tag`. Empty on all hosts but the main ones of Routes, and there where the feature is off.
    pub(crate) by_tag: HashMap<Arc<str>, Target>,
}

type Hosts = HashMap<Box<str>, Arc<Host>>;
type Revisions = HashMap<(RevisionKey, Arc<str>), Served>;

/// What is kept of a revision from one snapshot to the next.
#[derive(Debug, Clone)]
struct Served {
    metrics: Arc<RevisionMetrics>,
    throttle: Arc<Throttle>,
}

/// The newest snapshot, and what it takes to make the next one.
pub(crate) struct Router {
    hosts: ArcSwap<Hosts>,
    /// Revisions that other processes pass calls on to this one for, by uid; also some that left.
    owned: ArcSwap<HashMap<Arc<str>, Served>>,
    /// Touched by updates only.
    known: Mutex<Known>,
    metrics: Metrics,
    activator: Arc<Activator>,
    clock: Arc<dyn Clock>,
    lingering_max: usize,
}

/// Revisions that are served, or were a while ago.
#[derive(Default)]
struct Known {
    /// Every revision in the snapshot and of those in `left`, by key and uid.
    revisions: Revisions,
    /// Revisions that are in the snapshot no more, in the order in which they left. Their series stay for a while: the
    /// calls since the last scrape must not be lost, and a rollback goes on counting where it was.
    left: VecDeque<(RevisionKey, Arc<str>)>,
}

impl Known {
    /// Takes in the revisions of a new snapshot; drops the series of those that left longest ago.
    fn replace(&mut self, seen: Revisions, lingering_max: usize, activator: &Activator) {
        self.left.retain(|key| !seen.contains_key(key));
        let lingering: HashSet<_> = self.left.iter().cloned().collect();
        let leaving = self.revisions.keys();
        let leaving = leaving.filter(|key| !seen.contains_key(key) && !lingering.contains(key));
        let leaving: Vec<_> = leaving.cloned().collect();
        for served in leaving.iter().filter_map(|key| self.revisions.get(key)) {
            served.throttle.route(None, activator);
        }
        self.left.extend(leaving);
        while self.left.len() > lingering_max {
            let Some(served) = self.left.pop_front().and_then(|key| self.revisions.remove(&key)) else {
                break;
            };
            served.throttle.forget(activator);
            served.metrics.retire();
        }
        self.revisions.extend(seen);
    }
}

impl Router {
    pub(crate) fn new(
        metrics: Metrics,
        activator: Arc<Activator>,
        clock: Arc<dyn Clock>,
        lingering_max: usize,
    ) -> Self {
        Self {
            hosts: ArcSwap::default(),
            owned: ArcSwap::default(),
            known: Mutex::default(),
            metrics,
            activator,
            clock,
            lingering_max,
        }
    }

    /// All revisions that are served or were a while ago.
    pub(crate) fn throttles(&self) -> Vec<Arc<Throttle>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let served = known.revisions.values();
        served.map(|served| Arc::clone(&served.throttle)).collect()
    }

    /// The host in the form of [`kittiwake_core::host::normalize_host`].
    pub(crate) fn lookup(&self, host: &str) -> Option<Arc<Host>> {
        self.hosts.load().get(host).cloned()
    }

    /// The revision with that uid, if others pass its calls on to this process.
    pub(crate) fn owned(&self, uid: &str) -> Option<Target> {
        let Served { metrics, throttle } = self.owned.load().get(uid)?.clone();
        Some(Target {
            revision: throttle.revision(),
            metrics,
            throttle,
        })
    }

    /// Replaces the snapshot. What did not change is taken over.
    pub(crate) fn update(&self, table: &RoutingTable) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let revisions = &known.revisions;
        let old = self.hosts.load_full();
        let mut seen = Revisions::with_capacity(revisions.len());
        let mut hosts = Hosts::with_capacity(table.len());
        let mut see = |revision: &Arc<RevisionSpec>| {
            let key = (revision.key.clone(), Arc::clone(&revision.uid));
            let seen = seen.entry(key).or_insert_with_key(|key| {
                let known = revisions.get(key).cloned();
                let served = known.unwrap_or_else(|| self.serve(revision));
                served.throttle.route(Some(revision), &self.activator);
                served
            });
            seen.clone()
        };
        for (name, entry) in table.iter() {
            let mut resolve = |target: &RouteTarget| {
                let revision = Arc::clone(&target.revision);
                let Served { metrics, throttle } = see(&revision);
                Target {
                    revision,
                    metrics,
                    throttle,
                }
            };
            let targets = entry.targets.iter().map(&mut resolve).collect();
            let by_tag = entry.by_tag.iter();
            let by_tag = by_tag
                .map(|(tag, target)| (Arc::clone(tag), resolve(target)))
                .collect();
            let host = match old.get(name) {
                Some(host) if Arc::ptr_eq(&host.entry, entry) => Arc::clone(host),
                _ => Arc::new(Host {
                    entry: Arc::clone(entry),
                    targets,
                    by_tag,
                }),
            };
            hosts.insert(name.into(), host);
        }
        for revision in table.standing_by() {
            see(revision);
        }
        known.replace(seen, self.lingering_max, &self.activator);
        let owned = known.revisions.iter().filter(|(_, served)| {
            let owners = served.throttle.revision().scaling.owners;
            owners.is_some_and(|owners| owners.is_here())
        });
        let owned = owned.map(|((_, uid), served)| (Arc::clone(uid), served.clone()));
        self.owned.store(Arc::new(owned.collect()));
        self.hosts.store(Arc::new(hosts));
    }
}

impl Router {
    fn serve(&self, revision: &Arc<RevisionSpec>) -> Served {
        Served {
            metrics: Arc::new(self.metrics.revision(revision)),
            throttle: Arc::new(Throttle::new(revision, &self.activator, self.clock.elapsed())),
        }
    }
}

/// Keeps the router at the newest routing table for ever, and tells which one that is. Tables that come faster than
/// they are taken are skipped.
pub(crate) async fn follow(
    gateway: Arc<Gateway>,
    mut routes: watch::Receiver<Arc<RoutingTable>>,
    in_use: watch::Sender<Arc<RoutingTable>>,
) {
    loop {
        let table = Arc::clone(&routes.borrow_and_update());
        gateway.router.update(&table);
        gateway.request_logs.follow(&table);
        in_use.send_replace(table);
        if routes.changed().await.is_err() {
            // The controllers are gone; the last table stays good.
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn entry(targets: &[(&str, u32)]) -> RouteEntry {
        let targets = targets.iter().map(|(name, percent)| {
            let key = RevisionKey::new("default", *name);
            let revision = RevisionSpec {
                service: "s".into(),
                configuration: "s".into(),
                ..RevisionSpec::new(key, "u", "file:///x@sha256:0")
            };
            RouteTarget {
                revision: Arc::new(revision),
                percent: *percent,
            }
        });
        let targets = targets.collect();
        RouteEntry {
            namespace: "default".into(),
            name: "s".into(),
            targets,
            ..RouteEntry::default()
        }
    }

    fn table(entries: &[(&str, Arc<RouteEntry>)]) -> RoutingTable {
        let mut table = RoutingTable::default();
        for (host, entry) in entries {
            assert!(table.insert(*host, Arc::clone(entry)));
        }
        table
    }

    pub(crate) fn router(entries: &[(&str, RouteEntry)]) -> Router {
        let router = Router::new(
            Metrics::register(&prometheus::Registry::new()).unwrap(),
            Arc::new(Activator::new(crate::activator::tests::inputs(), 100, 100)),
            Arc::new(kittiwake_core::clock::SystemClock::new()),
            1,
        );
        let entries: Vec<_> = entries
            .iter()
            .map(|(host, entry)| (*host, Arc::new(entry.clone())))
            .collect();
        router.update(&table(&entries));
        router
    }

    #[test]
    fn what_did_not_change_is_taken_over() {
        let router = router(&[]);
        let (a, b) = (
            Arc::new(entry(&[("a", 100)])),
            Arc::new(entry(&[("a", 50), ("b", 50)])),
        );
        router.update(&table(&[("a", Arc::clone(&a)), ("b", b)]));
        let (host_a, host_b) = (router.lookup("a").unwrap(), router.lookup("b").unwrap());
        assert!(
            Arc::ptr_eq(&host_a.targets[0].metrics, &host_b.targets[0].metrics),
            "one revision, one set of metrics"
        );
        router.update(&table(&[("a", a), ("c", Arc::new(entry(&[])))]));
        assert!(Arc::ptr_eq(&host_a, &router.lookup("a").unwrap()));
        assert!(router.lookup("b").is_none() && router.lookup("c").unwrap().targets.is_empty());
    }

    #[test]
    fn the_series_of_what_left_last_linger() {
        let with = |names: &[(&str, u32)]| [("host", entry(names))];
        let router = router(&with(&[("a", 100)]));
        let metrics = |router: &Router| Arc::clone(&router.lookup("host").unwrap().targets[0].metrics);
        let first = metrics(&router);
        let update = |names| {
            let [(host, entry)] = with(names);
            router.update(&table(&[(host, Arc::new(entry))]));
        };
        update(&[("b", 100)]);
        update(&[("a", 100)]);
        assert!(
            Arc::ptr_eq(&first, &metrics(&router)),
            "a rollback goes on counting"
        );
        update(&[("b", 100)]);
        update(&[("c", 100)]);
        // Only one may linger: b, which left after a.
        update(&[("a", 100)]);
        assert!(!Arc::ptr_eq(&first, &metrics(&router)));
    }
}
