//! One watch per kind, its newest state in a local store, and for each change the keys that have to be looked at.
//!
//! Watched: Services (Knative's and Kubernetes'), Configurations, Revisions, Routes, both PodAutoscalers, DomainMappings
//! and their claims, Secrets, ConfigMaps and namespaces. After a watch had to be started anew, everything that was or is in its store is looked at
//! again, so nothing that happened in between is missed.

pub mod triggers;

use crate::context::Context;
use crate::object::ObjectKey;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, Secret, Service as KubernetesService, ServiceAccount,
};
use kittiwake_api::autoscaling::pod_autoscaler::PodAutoscaler;
use kittiwake_api::autoscaling::user_pod_autoscaler::PodAutoscaler as UserPodAutoscaler;
use kittiwake_api::networking::ClusterDomainClaim;
use kittiwake_api::serving::{Configuration, DomainMapping, Revision, Route, Service};
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::Arc;
use tokio::task::JoinSet;
use triggers::Trigger;

/// What a kind must be so that it can be watched.
pub trait Watched:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Trigger + Send + Sync + 'static
{
}

impl<K> Watched for K where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Trigger + Send + Sync + 'static
{
}

/// The newest state of one kind, as far as it was seen.
pub struct Cache<K: Watched>(Store<K>);

impl<K: Watched> Cache<K> {
    /// An object, if it is there.
    #[must_use]
    pub fn by_key(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.0.get(&reference(key))
    }

    /// Every object, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<K>> {
        self.0.state()
    }

    pub(crate) async fn wait_until_seen(&self) {
        // An error means that the watch ended, as it does at shutdown.
        let _ = self.0.wait_until_ready().await;
    }
}

fn reference<K: Watched>(key: &ObjectKey) -> ObjectRef<K> {
    let reference = ObjectRef::new(&key.name);
    if key.namespace.is_empty() {
        reference
    } else {
        reference.within(&key.namespace)
    }
}

/// The newest state of every kind.
#[expect(missing_docs, reason = "each field is named after its kind")]
pub struct Stores {
    pub services: Cache<Service>,
    pub configurations: Cache<Configuration>,
    pub revisions: Cache<Revision>,
    pub routes: Cache<Route>,
    pub pod_autoscalers: Cache<PodAutoscaler>,
    pub user_pod_autoscalers: Cache<UserPodAutoscaler>,
    pub secrets: Cache<Secret>,
    pub config_maps: Cache<ConfigMap>,
    pub domain_mappings: Cache<DomainMapping>,
    pub domain_claims: Cache<ClusterDomainClaim>,
    pub namespaces: Cache<Namespace>,
    pub service_accounts: Cache<ServiceAccount>,
    pub kubernetes_services: Cache<KubernetesService>,
}

impl Stores {
    /// Resolves once every kind was listed.
    pub async fn wait_until_seen(&self) {
        self.services.wait_until_seen().await;
        self.configurations.wait_until_seen().await;
        self.revisions.wait_until_seen().await;
        self.routes.wait_until_seen().await;
        self.pod_autoscalers.wait_until_seen().await;
        self.user_pod_autoscalers.wait_until_seen().await;
        self.secrets.wait_until_seen().await;
        self.config_maps.wait_until_seen().await;
        self.domain_mappings.wait_until_seen().await;
        self.domain_claims.wait_until_seen().await;
        self.namespaces.wait_until_seen().await;
        self.service_accounts.wait_until_seen().await;
        self.kubernetes_services.wait_until_seen().await;
    }
}

/// The watches that fill [`Stores`]; they run once spawned.
pub struct Reflectors {
    services: Reflector<Service>,
    configurations: Reflector<Configuration>,
    revisions: Reflector<Revision>,
    routes: Reflector<Route>,
    pod_autoscalers: Reflector<PodAutoscaler>,
    user_pod_autoscalers: Reflector<UserPodAutoscaler>,
    secrets: Reflector<Secret>,
    config_maps: Reflector<ConfigMap>,
    domain_mappings: Reflector<DomainMapping>,
    domain_claims: Reflector<ClusterDomainClaim>,
    namespaces: Reflector<Namespace>,
    service_accounts: Reflector<ServiceAccount>,
    kubernetes_services: Reflector<KubernetesService>,
}

/// Empty stores, and the watches that fill them.
#[must_use]
pub fn new(client: &Client) -> (Stores, Reflectors) {
    let (services, fill_services) = reflect(client);
    let (configurations, fill_configurations) = reflect(client);
    let (revisions, fill_revisions) = reflect(client);
    let (routes, fill_routes) = reflect(client);
    let (pod_autoscalers, fill_pod_autoscalers) = reflect(client);
    let (user_pod_autoscalers, fill_user_pod_autoscalers) = reflect(client);
    let (secrets, fill_secrets) = reflect(client);
    let (config_maps, fill_config_maps) = reflect(client);
    let (domain_mappings, fill_domain_mappings) = reflect(client);
    let (domain_claims, fill_domain_claims) = reflect(client);
    let (namespaces, fill_namespaces) = reflect(client);
    let (service_accounts, fill_service_accounts) = reflect(client);
    let (kubernetes_services, fill_kubernetes_services) = reflect(client);
    let stores = Stores {
        services,
        configurations,
        revisions,
        routes,
        pod_autoscalers,
        user_pod_autoscalers,
        secrets,
        config_maps,
        domain_mappings,
        domain_claims,
        namespaces,
        service_accounts,
        kubernetes_services,
    };
    let reflectors = Reflectors {
        services: fill_services,
        configurations: fill_configurations,
        revisions: fill_revisions,
        routes: fill_routes,
        pod_autoscalers: fill_pod_autoscalers,
        user_pod_autoscalers: fill_user_pod_autoscalers,
        secrets: fill_secrets,
        config_maps: fill_config_maps,
        domain_mappings: fill_domain_mappings,
        domain_claims: fill_domain_claims,
        namespaces: fill_namespaces,
        service_accounts: fill_service_accounts,
        kubernetes_services: fill_kubernetes_services,
    };
    (stores, reflectors)
}

impl Reflectors {
    /// Starts all watches.
    pub fn spawn(self, tasks: &mut JoinSet<()>, context: &Arc<Context>) {
        tasks.spawn(self.services.run(Arc::clone(context)));
        tasks.spawn(self.configurations.run(Arc::clone(context)));
        tasks.spawn(self.revisions.run(Arc::clone(context)));
        tasks.spawn(self.routes.run(Arc::clone(context)));
        tasks.spawn(self.pod_autoscalers.run(Arc::clone(context)));
        tasks.spawn(self.user_pod_autoscalers.run(Arc::clone(context)));
        tasks.spawn(self.secrets.run(Arc::clone(context)));
        tasks.spawn(self.config_maps.run(Arc::clone(context)));
        tasks.spawn(self.domain_mappings.run(Arc::clone(context)));
        tasks.spawn(self.domain_claims.run(Arc::clone(context)));
        tasks.spawn(self.namespaces.run(Arc::clone(context)));
        tasks.spawn(self.service_accounts.run(Arc::clone(context)));
        tasks.spawn(self.kubernetes_services.run(Arc::clone(context)));
    }
}

pub(crate) struct Reflector<K: Watched> {
    api: Api<K>,
    store: Store<K>,
    writer: Writer<K>,
}

pub(crate) fn reflect<K: Watched>(client: &Client) -> (Cache<K>, Reflector<K>) {
    let (store, writer) = reflector::store();
    (
        Cache(store.clone()),
        Reflector {
            api: Api::all(client.clone()),
            store,
            writer,
        },
    )
}

impl<K: Watched> Reflector<K> {
    /// Has every reconciler look at what a change may concern.
    async fn run(self, context: Arc<Context>) {
        self.run_and_tell(move |key, now| K::trigger(&context, key, now))
            .await;
    }

    /// Keeps the store up to date, and after each change tells the key with the object as it is in the store now, or
    /// the key alone when it is gone.
    pub(crate) async fn run_and_tell(mut self, tell: impl Fn(&ObjectKey, Option<&K>)) {
        let events = watcher(self.api.clone(), watcher::Config::default()).default_backoff();
        let mut events = std::pin::pin!(events);
        let mut before = Vec::new();
        while let Some(event) = events.next().await {
            let mut event = match event {
                Ok(event) => event,
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&()), %error, "a watch broke, starting it anew");
                    continue;
                }
            };
            if let watcher::Event::Apply(object) | watcher::Event::InitApply(object) = &mut event {
                object.managed_fields_mut().clear();
            }
            if matches!(event, watcher::Event::Init) {
                before = self.store.state();
            }
            self.writer.apply_watcher_event(&event);
            match event {
                watcher::Event::Apply(object) | watcher::Event::Delete(object) => self.touch(&tell, &object),
                watcher::Event::InitDone => {
                    for object in before.drain(..).chain(self.store.state()) {
                        self.touch(&tell, &object);
                    }
                }
                watcher::Event::Init | watcher::Event::InitApply(_) => {}
            }
        }
    }

    fn touch(&self, tell: &impl Fn(&ObjectKey, Option<&K>), object: &K) {
        let key = ObjectKey::of(object);
        let now = self.store.get(&reference(&key));
        tell(&key, now.as_deref());
    }
}
