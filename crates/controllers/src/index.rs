//! Which object speaks of which, both ways, so that a change finds those who care without looking at all objects.

use crate::object::ObjectKey;
use std::collections::{BTreeSet, HashMap};

/// References from objects of one kind to objects of another.
#[derive(Debug, Default)]
pub struct Links {
    /// Canonical.
    forward: HashMap<ObjectKey, BTreeSet<ObjectKey>>,
    /// The same, turned round.
    backward: HashMap<ObjectKey, BTreeSet<ObjectKey>>,
}

impl Links {
    /// Replaces what `from` refers to; an empty set forgets it. Gives everything that it refers or referred to.
    pub fn set(&mut self, from: &ObjectKey, targets: BTreeSet<ObjectKey>) -> BTreeSet<ObjectKey> {
        let old = self.forward.remove(from).unwrap_or_default();
        for gone in old.difference(&targets) {
            if let Some(sources) = self.backward.get_mut(gone) {
                sources.remove(from);
                if sources.is_empty() {
                    self.backward.remove(gone);
                }
            }
        }
        for target in &targets {
            self.backward
                .entry(target.clone())
                .or_default()
                .insert(from.clone());
        }
        let all = old.union(&targets).cloned().collect();
        if !targets.is_empty() {
            self.forward.insert(from.clone(), targets);
        }
        all
    }

    /// Those who refer to `target`, in order.
    #[must_use]
    pub fn to(&self, target: &ObjectKey) -> Vec<ObjectKey> {
        self.backward
            .get(target)
            .map(|sources| sources.iter().cloned().collect())
            .unwrap_or_default()
    }
}

/// All references that are followed.
#[derive(Debug, Default)]
pub struct Index {
    /// Route → Configurations in its spec.
    pub route_configurations: Links,
    /// Route → Revisions in its spec.
    pub route_revisions: Links,
    /// Route → Revisions in its status: those that get its traffic.
    pub routed_revisions: Links,
    /// Route → Kubernetes Services that hold its names.
    pub route_services: Links,
    /// Kubernetes Service → the Route of its label.
    pub service_route: Links,
    /// Revision → its Configuration.
    pub revision_configuration: Links,
    /// Revision → its Service.
    pub revision_service: Links,
    /// Revision → Secrets it reads.
    pub revision_secrets: Links,
    /// Revision → ConfigMaps it reads.
    pub revision_config_maps: Links,
    /// Revision → its ServiceAccount.
    pub revision_account: Links,
    /// DomainMapping → the Service or Route that it leads to.
    pub mapping_targets: Links,
    /// DomainMapping → the Secret with its certificate.
    pub mapping_secrets: Links,
    /// User's PodAutoscaler → its Service.
    pub user_pod_autoscaler_service: Links,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> BTreeSet<ObjectKey> {
        names
            .iter()
            .map(|name| ObjectKey::new("default", *name))
            .collect()
    }

    #[test]
    fn links_are_followed_back_and_forgotten() {
        let mut links = Links::default();
        let route = ObjectKey::new("default", "route");
        let revision = |name: &str| ObjectKey::new("default", name);
        assert_eq!(links.set(&route, keys(&["a", "b"])), keys(&["a", "b"]));
        assert_eq!(links.set(&route, keys(&["b", "c"])), keys(&["a", "b", "c"]));
        assert_eq!(links.to(&revision("a")), []);
        assert_eq!(links.to(&revision("c")), std::slice::from_ref(&route));
        assert_eq!(links.set(&route, keys(&[])), keys(&["b", "c"]));
        assert_eq!(links.to(&revision("c")), []);
        assert!(links.forward.is_empty() && links.backward.is_empty());
    }
}
