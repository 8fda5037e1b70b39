//! Which rules somebody has: an index by subject, brought up to date from the store's watches.
//!
//! Whoever asks first takes over what was written since, so a role that was taken away is gone with the next request;
//! and no request looks through all bindings.

use super::{PolicyRule, RoleRef, Subject, rules_of};
use crate::auth::attributes::Attributes;
use crate::auth::identity::Identity;
use futures::FutureExt;
use kittiwake_store::{Event, EventKind, Key, ObjectStore, Stored, Watcher};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// The kinds that the index is made of.
const RESOURCES: [&str; 4] = [
    CLUSTER_ROLES,
    "clusterrolebindings.rbac.authorization.k8s.io",
    ROLES,
    "rolebindings.rbac.authorization.k8s.io",
];
const CLUSTER_ROLES: &str = "clusterroles.rbac.authorization.k8s.io";
const ROLES: &str = "roles.rbac.authorization.k8s.io";

/// Whether something may be done, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    pub allowed: bool,
    /// The binding that allows it, or what is broken in those that do not.
    pub reason: String,
}

/// The roles and bindings of the store.
pub(crate) struct Rbac {
    store: ObjectStore,
    index: RwLock<Index>,
    /// The store's version that the index knows.
    seen: AtomicU64,
    watchers: Mutex<Option<Vec<Watcher>>>,
}

type Rules = Arc<[PolicyRule]>;
type Bindings = BTreeMap<Arc<str>, RoleRef>;

#[derive(Default)]
struct Index {
    cluster_roles: HashMap<Arc<str>, Rules>,
    roles: HashMap<(Arc<str>, Arc<str>), Rules>,
    /// Subject → namespace (empty: all of the cluster) → binding → role.
    grants: HashMap<Subject, HashMap<Arc<str>, Bindings>>,
    /// The subjects of each binding, so that it can be taken out.
    bound: HashMap<Key, Vec<Subject>>,
}

impl Rbac {
    pub(crate) fn new(store: ObjectStore) -> Self {
        Self {
            store,
            index: RwLock::default(),
            // No store has this version: the first question reads everything.
            seen: AtomicU64::new(u64::MAX),
            watchers: Mutex::new(None),
        }
    }

    /// Whether somebody may do something. Members of `system:masters` may do everything.
    pub(crate) fn decide(&self, identity: &Identity, asked: &Attributes) -> Decision {
        if identity.is_superuser() {
            return Decision {
                allowed: true,
                reason: String::new(),
            };
        }
        let namespace = match asked {
            Attributes::Resource(asked) => asked.namespace.as_str(),
            Attributes::Path { .. } => "",
        };
        let mut allowed_by = None;
        let mut broken = Vec::new();
        self.visit(identity, namespace, |grant| {
            match grant.rules {
                None => broken.push(grant.missing()),
                Some(rules) if rules.iter().any(|rule| rule.allows(asked)) => {
                    allowed_by = Some(grant.to_string())
                }
                Some(_) => {}
            }
            allowed_by.is_none()
        });
        match allowed_by {
            Some(grant) => Decision {
                allowed: true,
                reason: format!("RBAC: allowed by {grant}"),
            },
            None if broken.is_empty() => Decision::default(),
            None => {
                broken.sort();
                broken.dedup();
                let reason = match broken.as_slice() {
                    [one] => format!("RBAC: {one}"),
                    all => format!("RBAC: [{}]", all.join(", ")),
                };
                Decision {
                    allowed: false,
                    reason,
                }
            }
        }
    }

    /// All rules that somebody has in a namespace (empty: in all of the cluster).
    pub(crate) fn rules(&self, identity: &Identity, namespace: &str) -> Vec<PolicyRule> {
        let mut all: Vec<PolicyRule> = Vec::new();
        self.visit(identity, namespace, |grant| {
            for rule in grant.rules.into_iter().flatten() {
                if !all.contains(rule) {
                    all.push(rule.clone());
                }
            }
            true
        });
        all
    }

    /// The rules of a role; `None` where there is no such role.
    pub(crate) fn role(&self, role: &RoleRef, namespace: &str) -> Option<Rules> {
        self.catch_up();
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.role(role, namespace).cloned()
    }

    /// Shows every grant of somebody in a namespace until `go_on` says no.
    fn visit(&self, identity: &Identity, namespace: &str, mut go_on: impl FnMut(Grant<'_>) -> bool) {
        self.catch_up();
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let places: &[&str] = if namespace.is_empty() {
            &[""]
        } else {
            &["", namespace]
        };
        for place in places {
            for subject in Subject::of(identity) {
                let bindings = index.grants.get(&subject).and_then(|grants| grants.get(*place));
                for (binding, role) in bindings.into_iter().flatten() {
                    let grant = Grant {
                        subject: &subject,
                        namespace: place,
                        binding,
                        role,
                        rules: index.role(role, place).map(AsRef::as_ref),
                    };
                    if !go_on(grant) {
                        return;
                    }
                }
            }
        }
    }

    /// Takes over what was written since the last question.
    fn catch_up(&self) {
        let now = self.store.resource_version();
        if self.seen.load(Ordering::Acquire) == now {
            return;
        }
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        if self.seen.load(Ordering::Acquire) == now {
            return;
        }
        let events = watchers.as_mut().and_then(|watchers| pending(watchers));
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        match events {
            Some(events) => events.into_iter().for_each(|event| index.take(&event)),
            None => {
                let (read, following) = self.read();
                *index = read;
                *watchers = following;
            }
        }
        drop(index);
        self.seen.store(now, Ordering::Release);
    }

    /// The index of all that is stored, with watches from there.
    fn read(&self) -> (Index, Option<Vec<Watcher>>) {
        let mut index = Index::default();
        let mut watchers = Some(Vec::new());
        for resource in RESOURCES {
            let snapshot = self.store.list(resource, None);
            for stored in &snapshot.items {
                index.put(stored);
            }
            match (
                self.store.watch(resource, snapshot.resource_version),
                &mut watchers,
            ) {
                (Ok(watcher), Some(all)) => all.push(watcher),
                _ => watchers = None,
            }
        }
        (index, watchers)
    }
}

/// All events that are there already; `None` when some are lost and everything must be read again.
fn pending(watchers: &mut [Watcher]) -> Option<Vec<Event>> {
    let mut events = Vec::new();
    for watcher in watchers {
        loop {
            match watcher.next().now_or_never() {
                None => break,
                Some(Ok(event)) => events.push(event),
                Some(Err(_)) => return None,
            }
        }
    }
    Some(events)
}

impl Index {
    fn role(&self, role: &RoleRef, namespace: &str) -> Option<&Rules> {
        if role.cluster {
            self.cluster_roles.get(role.name.as_str())
        } else {
            self.roles.get(&(namespace.into(), role.name.as_str().into()))
        }
    }

    fn take(&mut self, event: &Event) {
        match event.kind {
            EventKind::Added | EventKind::Modified => self.put(&event.object),
            EventKind::Deleted => self.remove(&event.object.key),
        }
    }

    fn put(&mut self, stored: &Stored) {
        let (key, object) = (&stored.key, stored.object.tree());
        match &*key.resource {
            CLUSTER_ROLES => {
                self.cluster_roles
                    .insert(Arc::clone(&key.name), rules_of(&object).into());
            }
            ROLES => {
                let place = (Arc::clone(&key.namespace), Arc::clone(&key.name));
                self.roles.insert(place, rules_of(&object).into());
            }
            _ => {
                self.remove(key);
                self.bind(key, &object);
            }
        }
    }

    fn bind(&mut self, key: &Key, binding: &Value) {
        let Some(role) = RoleRef::read(binding) else {
            return;
        };
        let subjects = binding.get("subjects").and_then(Value::as_array);
        let subjects = subjects.into_iter().flatten();
        let subjects: Vec<Subject> = subjects
            .filter_map(|subject| Subject::read(subject, &key.namespace))
            .collect();
        for subject in &subjects {
            self.grants
                .entry(subject.clone())
                .or_default()
                .entry(Arc::clone(&key.namespace))
                .or_default()
                .insert(Arc::clone(&key.name), role.clone());
        }
        self.bound.insert(key.clone(), subjects);
    }

    fn remove(&mut self, key: &Key) {
        match &*key.resource {
            CLUSTER_ROLES => {
                self.cluster_roles.remove(&key.name);
            }
            ROLES => {
                self.roles
                    .remove(&(Arc::clone(&key.namespace), Arc::clone(&key.name)));
            }
            _ => {
                for subject in self.bound.remove(key).unwrap_or_default() {
                    self.unbind(&subject, key);
                }
            }
        }
    }

    fn unbind(&mut self, subject: &Subject, key: &Key) {
        let Some(places) = self.grants.get_mut(subject) else {
            return;
        };
        if let Some(bindings) = places.get_mut(&key.namespace) {
            bindings.remove(&key.name);
            if bindings.is_empty() {
                places.remove(&key.namespace);
            }
        }
        if places.is_empty() {
            self.grants.remove(subject);
        }
    }
}

/// One role that somebody has by one binding.
struct Grant<'a> {
    subject: &'a Subject,
    namespace: &'a str,
    binding: &'a str,
    role: &'a RoleRef,
    /// `None` where there is no such role.
    rules: Option<&'a [PolicyRule]>,
}

impl Grant<'_> {
    fn missing(&self) -> String {
        let kind = self.role.kind().to_ascii_lowercase();
        format!("{kind}.{} {:?} not found", super::GROUP, self.role.name)
    }
}

impl std::fmt::Display for Grant<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, name) = if self.namespace.is_empty() {
            ("ClusterRoleBinding", self.binding.to_owned())
        } else {
            ("RoleBinding", format!("{}/{}", self.binding, self.namespace))
        };
        write!(
            f,
            "{kind} {name:?} of {} {:?} to {}",
            self.role.kind(),
            self.role.name,
            self.subject
        )
    }
}
