//! What all reconcilers share.

use crate::certificates::Certificates;
use crate::events::EventSink;
use crate::health::HealthReports;
use crate::index::Index;
use crate::kpa::deciders::Deciders;
use crate::kpa::metrics::Metrics;
use crate::object::{Meta, ObjectKey};
use crate::reflectors::Stores;
use crate::revision::preparation::Preparations;
use crate::revision::tokens::Tokens;
use crate::route::placeholder;
use crate::runner::Queue;
use crate::scale_table::Scales;
use crate::settings::{Follower, Refusals};
use crate::{Config, Inputs};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kittiwake_api::config::autoscaler::Autoscaler;
use kittiwake_api::config::{ConfigError, Settings};
use kittiwake_api::serving::Route;
use kittiwake_core::clock::Clock;
use kittiwake_core::log::LogHub;
use kittiwake_core::revision::RevisionSpec;
use kittiwake_core::routing_table::{Gateways, RoutingTable};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// One queue per reconciler.
#[derive(Debug, Default)]
pub struct Queues {
    /// Keys of Services.
    pub service: Queue,
    /// Keys of Configurations.
    pub configuration: Queue,
    /// Keys of Revisions.
    pub revision: Queue,
    /// Keys of Routes.
    pub route: Queue,
    /// Keys of Revisions whose labels are looked at.
    pub labeler: Queue,
    /// Keys of Revisions, whose names their PodAutoscalers have.
    pub pod_autoscaler: Queue,
    /// Keys of Configurations whose old Revisions may go.
    pub garbage_collector: Queue,
    /// Keys of DomainMappings.
    pub domain_mapping: Queue,
    /// Keys of users' PodAutoscalers.
    pub user_pod_autoscaler: Queue,
}

/// What all reconcilers share.
pub struct Context {
    /// The settings.
    pub config: Config,
    /// The API.
    pub client: kube::Client,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Functions' logs.
    pub logs: Arc<LogHub>,
    /// What the API holds, as far as it was seen.
    pub stores: Stores,
    /// Who waits for a reconcile.
    pub queues: Arc<Queues>,
    /// Where Kubernetes Events go.
    pub events: EventSink,
    /// Artifacts that are being made ready, are ready, or failed to become so, in this process.
    pub preparations: Preparations,
    /// Tokens that Revisions find in their volumes.
    pub tokens: Tokens,
    /// What the data plane saw.
    pub health: HealthReports,
    /// The routing table as published.
    pub routing_table: watch::Receiver<Arc<RoutingTable>>,
    /// What `config-autoscaler` says, for the autoscaler's loop.
    pub autoscaler: watch::Sender<Arc<Autoscaler>>,
    /// What was decided about the scale of Revisions.
    pub deciders: Deciders,
    /// How far Revisions shall be scaled, as their PodAutoscalers say.
    pub scales: Scales,
    /// Who carries the routing table out.
    pub gateways: Arc<dyn Gateways>,
    /// Rung when the routing table may have to change.
    pub routing_changed: Notify,
    /// What Secrets with certificates held.
    pub certificates: Certificates,
    settings: Mutex<Follower>,
    refusals: Refusals,
    index: Arc<Mutex<Index>>,
    servable: Mutex<HashMap<ObjectKey, Option<Arc<RevisionSpec>>>>,
}

impl Context {
    /// A context in which nothing was seen yet.
    #[must_use]
    pub fn new(
        config: Config,
        inputs: &Inputs,
        stores: Stores,
        events: EventSink,
        metrics: Metrics,
        refusals: Refusals,
        routing_table: watch::Receiver<Arc<RoutingTable>>,
    ) -> Self {
        let queues = Arc::new(Queues::default());
        let preparations = Preparations::new(
            Arc::clone(&inputs.prepare),
            Arc::clone(&inputs.clock),
            Arc::clone(&queues),
            config.preparations_max,
        );
        Self {
            config,
            client: inputs.client.clone(),
            clock: Arc::clone(&inputs.clock),
            logs: Arc::clone(&inputs.logs),
            stores,
            queues,
            events,
            preparations,
            tokens: Tokens::default(),
            health: HealthReports::default(),
            routing_table,
            autoscaler: watch::Sender::default(),
            deciders: Deciders::new(metrics),
            scales: Scales::default(),
            gateways: Arc::clone(&inputs.gateways),
            routing_changed: Notify::new(),
            certificates: Certificates::default(),
            settings: Mutex::default(),
            refusals,
            index: Arc::default(),
            servable: Mutex::default(),
        }
    }

    /// The wall clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What administrators set.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        let follower = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        follower.settings()
    }

    /// Takes over changed settings, and has everything looked at that depends on them. Gives the ConfigMaps that cannot
    /// be used; `None` where nothing was new.
    pub fn follow_settings(&self) -> Option<Vec<(Arc<ConfigMap>, ConfigError)>> {
        let mut follower = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let before = follower.settings();
        let refused = follower.update(|key| self.stores.config_maps.by_key(key));
        let changed = !Arc::ptr_eq(&before, &follower.settings());
        self.refusals.show(follower.refused());
        drop(follower);
        if changed {
            let autoscaler = &self.settings().autoscaler;
            self.autoscaler.send_if_modified(|old| {
                let differs = old != autoscaler;
                if differs {
                    *old = Arc::clone(autoscaler);
                }
                differs
            });
            for route in self.stores.routes.all() {
                self.queues.route.add(ObjectKey::of(&*route));
            }
            for mapping in self.stores.domain_mappings.all() {
                self.queues.domain_mapping.add(ObjectKey::of(&*mapping));
            }
            for configuration in self.stores.configurations.all() {
                self.queues.garbage_collector.add(ObjectKey::of(&*configuration));
            }
            for revision in self.stores.revisions.all() {
                self.queues.revision.add(ObjectKey::of(&*revision));
            }
            self.routing_changed.notify_one();
        }
        (changed || !refused.is_empty()).then_some(refused)
    }

    /// Whether a Route's own name, or that of a tag, is kept from the outside by its placeholder.
    #[must_use]
    pub fn keeps_inside(&self, settings: &Settings, route: &Route, tag: Option<&str>) -> bool {
        let name = match tag {
            Some(tag) => settings.network.tag_name(route.name_str(), tag),
            None => route.name_str().to_owned(),
        };
        let service = self
            .stores
            .kubernetes_services
            .by_key(&ObjectKey::of(route).sibling(name));
        placeholder::keeps_inside(route, service.as_deref())
    }

    /// Who speaks of whom, for those who must not keep the whole context alive.
    #[must_use]
    pub fn shared_index(&self) -> Arc<Mutex<Index>> {
        Arc::clone(&self.index)
    }

    /// Who speaks of whom. Hold it for a moment only.
    pub fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The revision as the data plane sees it, when it can be called in this process.
    #[must_use]
    pub fn servable(&self, key: &ObjectKey) -> Option<Arc<RevisionSpec>> {
        self.servables().get(key).cloned().flatten()
    }

    /// Whether it is known if a revision can be called in this process.
    #[must_use]
    pub fn is_decided(&self, key: &ObjectKey) -> bool {
        self.servables().contains_key(key)
    }

    /// Says whether and how a revision can be called in this process.
    pub fn set_servable(&self, key: &ObjectKey, now: Servable) {
        let mut servable = self.servables();
        let old = servable.get(key).cloned();
        let new = match now {
            Servable::Undecided => None,
            Servable::No => Some(None),
            Servable::Yes(spec) => Some(Some(match &old {
                Some(Some(old)) if **old == *spec => Arc::clone(old),
                _ => Arc::new(*spec),
            })),
        };
        if new == old {
            return;
        }
        match new {
            Some(new) => servable.insert(key.clone(), new),
            None => servable.remove(key),
        };
        drop(servable);
        self.routing_changed.notify_one();
    }

    fn servables(&self) -> MutexGuard<'_, HashMap<ObjectKey, Option<Arc<RevisionSpec>>>> {
        self.servable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a revision can be called in this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Servable {
    /// Not known yet.
    Undecided,
    /// It cannot, for the time being.
    No,
    /// It can.
    Yes(Box<RevisionSpec>),
}
