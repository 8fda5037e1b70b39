//! Which routes each worker has in place. A Route is ready when every worker that takes calls has it.

use super::link::Placed;
use kittiwake_core::routing_table::{Gateways, RouteEntry};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Namespace and name of a Route.
pub type RouteName = (String, String);

/// What the workers say that they route.
#[derive(Debug, Default)]
pub struct Placement {
    workers: Mutex<HashMap<u64, Worker>>,
}

#[derive(Debug, Default)]
struct Worker {
    /// Whether it takes calls.
    ready: bool,
    hosts: HashMap<String, Placed>,
}

impl Placement {
    /// A process says that hosts changed or are gone. Returns the Routes that are concerned.
    pub fn update(&self, process: u64, changed: Vec<Placed>, removed: &[String]) -> BTreeSet<RouteName> {
        let mut workers = self.lock();
        let worker = workers.entry(process).or_default();
        let mut routes = BTreeSet::new();
        for host in removed {
            routes.extend(
                worker
                    .hosts
                    .remove(host)
                    .map(|placed| (placed.namespace, placed.route)),
            );
        }
        for placed in changed {
            routes.insert((placed.namespace.clone(), placed.route.clone()));
            worker.hosts.insert(placed.host.clone(), placed);
        }
        routes
    }

    /// From now on a process takes calls. Returns the Routes that are concerned.
    pub fn ready(&self, process: u64) -> BTreeSet<RouteName> {
        let mut workers = self.lock();
        let worker = workers.entry(process).or_default();
        worker.ready = true;
        routes(worker)
    }

    /// A process has ended. Returns the Routes that are concerned.
    pub fn forget(&self, process: u64) -> BTreeSet<RouteName> {
        self.lock()
            .remove(&process)
            .as_ref()
            .map(routes)
            .unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Worker>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn routes(worker: &Worker) -> BTreeSet<RouteName> {
    let name = |placed: &Placed| (placed.namespace.clone(), placed.route.clone());
    worker.hosts.values().map(name).collect()
}

impl Gateways for Placement {
    fn have(&self, host: &str, entry: &RouteEntry) -> bool {
        let workers = self.lock();
        let mut taking_calls = workers.values().filter(|worker| worker.ready).peekable();
        let wanted = entry.fingerprint();
        let has = |worker: &Worker| {
            worker
                .hosts
                .get(host)
                .is_some_and(|placed| placed.fingerprint == wanted)
        };
        taking_calls.peek().is_some() && taking_calls.all(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> RouteEntry {
        RouteEntry {
            namespace: "default".into(),
            name: name.into(),
            ..RouteEntry::default()
        }
    }

    fn placed(name: &str) -> Placed {
        Placed {
            host: "host".to_owned(),
            namespace: "default".to_owned(),
            route: name.to_owned(),
            fingerprint: entry(name).fingerprint(),
        }
    }

    #[test]
    fn a_route_is_in_place_when_every_worker_that_takes_calls_has_it() {
        let placement = Placement::default();
        let have = |name| placement.have("host", &entry(name));
        assert!(!have("a"), "nobody takes calls");
        placement.update(1, vec![placed("a")], &[]);
        assert!(!have("a"), "it takes no calls yet");
        assert_eq!(placement.ready(1).len(), 1);
        assert!(have("a") && !have("b"));
        placement.update(2, vec![placed("b")], &[]);
        assert!(have("a"), "the second takes no calls yet");
        placement.ready(2);
        assert!(!have("a"));
        placement.update(2, vec![placed("a")], &[]);
        assert!(have("a"));
        let concerned = placement.update(1, vec![], &["host".to_owned()]);
        assert_eq!(concerned.len(), 1);
        assert!(!have("a"));
        placement.forget(1);
        assert!(have("a"));
    }
}
