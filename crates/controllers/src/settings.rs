//! What administrators set in the ConfigMaps of `knative-serving`, followed while the platform runs. A ConfigMap that
//! cannot be used leaves its settings as they were; it is told so in the log and by an Event.

use crate::context::Context;
use crate::events::Notice;
use crate::object::{Meta, ObjectKey};
use k8s_openapi::api::core::v1::ConfigMap;
use kittiwake_api::config::{ConfigError, NAMES, NAMESPACE, Settings};
use prometheus::{IntGaugeVec, Opts, Registry};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Why settings were not taken over (the reason of the Event).
const REASON: &str = "InvalidConfiguration";

/// The settings, and what they were made of.
#[derive(Default)]
pub struct Follower {
    settings: Arc<Settings>,
    seen: HashMap<&'static str, Option<Arc<ConfigMap>>>,
    /// Those of `seen` that cannot be used.
    refused: BTreeSet<&'static str>,
}

/// Which ConfigMaps cannot be used, as a metric.
#[derive(Clone)]
pub struct Refusals(IntGaugeVec);

impl Refusals {
    /// Adds the metric to a registry.
    ///
    /// # Errors
    /// When its name is taken there.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new(
            "kittiwake_config_refused",
            "1 while a ConfigMap of the platform says what cannot be used, so that its last good settings stay",
        );
        let gauges = IntGaugeVec::new(opts, &["name"])?;
        registry.register(Box::new(gauges.clone()))?;
        let refusals = Self(gauges);
        refusals.show(&BTreeSet::new());
        Ok(refusals)
    }

    /// Shows which are refused now.
    pub fn show(&self, refused: &BTreeSet<&'static str>) {
        for name in NAMES {
            self.0
                .with_label_values(&[name])
                .set(refused.contains(name).into());
        }
    }
}

impl Follower {
    /// The settings as of the last [`Follower::update`].
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings)
    }

    /// The ConfigMaps that cannot be used.
    #[must_use]
    pub fn refused(&self) -> &BTreeSet<&'static str> {
        &self.refused
    }

    /// Takes over what changed. Gives the ConfigMaps that cannot be used, each once.
    pub fn update(
        &mut self,
        find: impl Fn(&ObjectKey) -> Option<Arc<ConfigMap>>,
    ) -> Vec<(Arc<ConfigMap>, ConfigError)> {
        let mut refused = Vec::new();
        for name in NAMES {
            let found = find(&ObjectKey::new(NAMESPACE, name)).filter(|map| !map.is_being_deleted());
            let same = match (self.seen.get(name), &found) {
                (Some(Some(old)), Some(new)) => Arc::ptr_eq(old, new),
                (Some(None), None) => true,
                _ => false,
            };
            if same {
                continue;
            }
            let data = found.as_ref().and_then(|map| map.data.as_ref());
            let mut settings = Settings::clone(&self.settings);
            self.refused.remove(name);
            match (settings.set(name, data), &found) {
                (Ok(_), _) if settings != *self.settings => self.settings = Arc::new(settings),
                (Err(error), Some(map)) => {
                    self.refused.insert(name);
                    refused.push((Arc::clone(map), error));
                }
                _ => {}
            }
            self.seen.insert(name, found);
        }
        refused
    }
}

/// Whether an object may be one of the ConfigMaps.
#[must_use]
pub fn concerns(key: &ObjectKey) -> bool {
    *key.namespace == *NAMESPACE && NAMES.contains(&&*key.name)
}

/// Takes over what changed, and has everything looked at that depends on it.
pub fn refresh(context: &Context) {
    let Some(refused) = context.follow_settings() else {
        return;
    };
    for (map, error) in refused {
        let name = map.name_str();
        tracing::warn!(config_map = name, key = error.key, value = error.value, %error, "settings that cannot be used; the last good ones stay");
        let message = format!("{error}; the last good settings stay");
        context.events.tell(&*map, vec![Notice::warning(REASON, message)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn map(name: &str, key: &str, value: &str) -> Arc<ConfigMap> {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(name.to_owned());
        map.metadata.namespace = Some(NAMESPACE.to_owned());
        map.data = Some(BTreeMap::from([(key.to_owned(), value.to_owned())]));
        Arc::new(map)
    }

    #[test]
    fn the_last_good_settings_stay_and_nonsense_is_told_once() {
        let mut follower = Follower::default();
        let good = map("config-gc", "max-non-active-revisions", "30");
        let find = |map: &Arc<ConfigMap>| {
            let map = Arc::clone(map);
            move |key: &ObjectKey| (*key.name == *map.name_str()).then(|| Arc::clone(&map))
        };
        assert!(follower.update(find(&good)).is_empty());
        assert_eq!(follower.settings().gc.max_non_active_revisions, Some(30));
        let bad = map("config-gc", "max-non-active-revisions", "many");
        assert_eq!(follower.update(find(&bad))[0].1.value, "many");
        assert!(follower.update(find(&bad)).is_empty(), "told once");
        assert!(follower.refused().contains("config-gc"), "and remembered");
        assert_eq!(follower.settings().gc.max_non_active_revisions, Some(30));
        assert!(follower.update(|_| None).is_empty());
        assert_eq!(*follower.settings(), Settings::default(), "gone is the default");
        assert!(follower.refused().is_empty());
    }

    #[test]
    fn the_metric_says_which_are_refused() {
        let registry = Registry::new();
        let refusals = Refusals::register(&registry).unwrap();
        let value = |name: &str| refusals.0.with_label_values(&[name]).get();
        assert_eq!(
            registry.gather()[0].get_metric().len(),
            NAMES.len(),
            "all from the start"
        );
        refusals.show(&BTreeSet::from(["config-gc"]));
        assert_eq!((value("config-gc"), value("config-network")), (1, 0));
        refusals.show(&BTreeSet::new());
        assert_eq!(value("config-gc"), 0);
    }
}
