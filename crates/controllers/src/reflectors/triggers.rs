//! Which keys of which reconcilers have to be looked at when an object changes. Only keys leave from here.

use crate::context::Context;
use crate::domain_mapping;
use crate::object::{Meta, ObjectKey};
use crate::revision::references;
use crate::settings;
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, Secret, Service as KubernetesService, ServiceAccount,
};
use kittiwake_api::autoscaling::pod_autoscaler::PodAutoscaler;
use kittiwake_api::autoscaling::user_pod_autoscaler::PodAutoscaler as UserPodAutoscaler;
use kittiwake_api::meta;
use kittiwake_api::networking::ClusterDomainClaim;
use kittiwake_api::serving::{Configuration, DomainMapping, Revision, Route, Service, TrafficTarget};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A kind whose changes concern reconcilers.
pub trait Trigger: Sized {
    /// Adds the keys to look at after a change of `key`; `now` is the object as it is, `None` when it is gone.
    fn trigger(context: &Context, key: &ObjectKey, now: Option<&Self>);
}

impl Trigger for Service {
    fn trigger(context: &Context, key: &ObjectKey, _: Option<&Self>) {
        context.queues.service.add(key.clone());
        look_at_mappings(context, key);
        for pod_autoscaler in context.index().user_pod_autoscaler_service.to(key) {
            context.queues.user_pod_autoscaler.add(pod_autoscaler);
        }
    }
}

impl Trigger for Configuration {
    fn trigger(context: &Context, key: &ObjectKey, _: Option<&Self>) {
        context.queues.configuration.add(key.clone());
        context.queues.garbage_collector.add(key.clone());
        context.queues.service.add(key.clone());
        for route in context.index().route_configurations.to(key) {
            context.queues.route.add(route);
        }
    }
}

impl Trigger for Revision {
    fn trigger(context: &Context, key: &ObjectKey, now: Option<&Self>) {
        let label = |name: &str| {
            now.and_then(|r| r.label(name))
                .map(|value| key.sibling(value))
                .into_iter()
                .collect()
        };
        let references = now.map(references::of).unwrap_or_default();
        let mut index = context.index();
        let configurations = index
            .revision_configuration
            .set(key, label(meta::CONFIGURATION_LABEL));
        index.revision_service.set(key, label(meta::SERVICE_LABEL));
        index.revision_secrets.set(key, references.secrets);
        index.revision_config_maps.set(key, references.config_maps);
        let account = now.map(|revision| key.sibling(references::service_account(revision)));
        index.revision_account.set(key, account.into_iter().collect());
        let routes = index.route_revisions.to(key);
        drop(index);

        context.queues.revision.add(key.clone());
        context.queues.pod_autoscaler.add(key.clone());
        context.queues.labeler.add(key.clone());
        for configuration in configurations {
            context.queues.garbage_collector.add(configuration.clone());
            context.queues.configuration.add(configuration);
        }
        for route in routes {
            context.queues.route.add(route);
        }
    }
}

impl Trigger for Route {
    fn trigger(context: &Context, key: &ObjectKey, now: Option<&Self>) {
        let wanted = now.map(|route| route.spec.traffic.as_slice()).unwrap_or_default();
        let assigned = now
            .and_then(|r| r.status.as_ref())
            .map(|s| s.traffic.as_slice())
            .unwrap_or_default();
        let mut index = context.index();
        index.route_configurations.set(
            key,
            names(key, wanted, |target| target.configuration_name.as_ref()),
        );
        index
            .route_revisions
            .set(key, names(key, wanted, |target| target.revision_name.as_ref()));
        let revisions = index
            .routed_revisions
            .set(key, names(key, assigned, |target| target.revision_name.as_ref()));
        drop(index);

        context.queues.route.add(key.clone());
        context.queues.service.add(key.clone());
        look_at_mappings(context, key);
        for revision in revisions {
            context.queues.labeler.add(revision);
        }
        context.routing_changed.notify_one();
    }
}

fn names(
    key: &ObjectKey,
    targets: &[TrafficTarget],
    name: impl Fn(&TrafficTarget) -> Option<&String>,
) -> BTreeSet<ObjectKey> {
    targets
        .iter()
        .filter_map(name)
        .map(|name| key.sibling(name.as_str()))
        .collect()
}

impl Trigger for PodAutoscaler {
    fn trigger(context: &Context, key: &ObjectKey, now: Option<&Self>) {
        context.scales.set(key, now);
        // When it is gone its Revision is too, or makes it anew: either tells.
        if let Some(service) = now.and_then(|object| object.label(meta::SERVICE_LABEL)) {
            for user in context
                .index()
                .user_pod_autoscaler_service
                .to(&key.sibling(service))
            {
                context.queues.user_pod_autoscaler.add(user);
            }
        }
        context.queues.pod_autoscaler.add(key.clone());
        context.queues.revision.add(key.clone());
    }
}

impl Trigger for UserPodAutoscaler {
    fn trigger(context: &Context, key: &ObjectKey, now: Option<&Self>) {
        let target = now
            .and_then(|p| p.spec.scale_target_ref.name.as_deref())
            .map(|name| key.sibling(name));
        let mut index = context.index();
        let services = index
            .user_pod_autoscaler_service
            .set(key, target.into_iter().collect());
        let siblings: Vec<_> = services
            .iter()
            .flat_map(|s| index.user_pod_autoscaler_service.to(s))
            .collect();
        let revisions: Vec<_> = services
            .iter()
            .flat_map(|service| index.revision_service.to(service))
            .collect();
        drop(index);

        context.queues.user_pod_autoscaler.add(key.clone());
        for sibling in siblings {
            context.queues.user_pod_autoscaler.add(sibling);
        }
        for revision in revisions {
            context.queues.pod_autoscaler.add(revision);
        }
    }
}

impl Trigger for Secret {
    fn trigger(context: &Context, key: &ObjectKey, now: Option<&Self>) {
        for revision in context.index().revision_secrets.to(key) {
            context.queues.revision.add(revision);
        }
        let mappings = context.index().mapping_secrets.to(key);
        // Which Routes a certificate is for is known by its name only, and one that is gone has no type any more.
        let may_be_certificate = now.is_none_or(|secret| {
            secret
                .data
                .as_ref()
                .is_some_and(|data| data.contains_key("tls.crt"))
        });
        let certificates_are_used = !mappings.is_empty() || context.settings().network.external_domain_tls;
        if !may_be_certificate || !certificates_are_used {
            return;
        }
        for mapping in mappings {
            context.queues.domain_mapping.add(mapping);
        }
        if context.settings().network.external_domain_tls {
            look_at_routes(context, &key.namespace);
        }
        context.routing_changed.notify_one();
    }
}

impl Trigger for ConfigMap {
    fn trigger(context: &Context, key: &ObjectKey, _: Option<&Self>) {
        for revision in context.index().revision_config_maps.to(key) {
            context.queues.revision.add(revision);
        }
        if settings::concerns(key) {
            settings::refresh(context);
        }
    }
}

impl Trigger for DomainMapping {
    fn trigger(context: &Context, key: &ObjectKey, now: Option<&Self>) {
        let target = now
            .and_then(|mapping| mapping.spec.reference.as_ref()?.name.as_deref())
            .map(|name| key.sibling(name));
        let secret = now.map(|mapping| key.sibling(domain_mapping::plan::secret(mapping)));
        let mut index = context.index();
        index.mapping_targets.set(key, target.into_iter().collect());
        index.mapping_secrets.set(key, secret.into_iter().collect());
        drop(index);
        context.queues.domain_mapping.add(key.clone());
        context.routing_changed.notify_one();
    }
}

impl Trigger for ClusterDomainClaim {
    fn trigger(context: &Context, key: &ObjectKey, now: Option<&Self>) {
        for mapping in context.stores.domain_mappings.all() {
            if mapping.name_str() == &*key.name {
                context.queues.domain_mapping.add(ObjectKey::of(&*mapping));
            }
        }
        // One whose mapping went while nobody looked is given back.
        if let Some(claim) = now {
            let namespace = claim.spec.namespace.as_str();
            context
                .queues
                .domain_mapping
                .add(ObjectKey::new(namespace, Arc::clone(&key.name)));
        }
    }
}

impl Trigger for ServiceAccount {
    fn trigger(context: &Context, key: &ObjectKey, _: Option<&Self>) {
        for revision in context.index().revision_account.to(key) {
            context.queues.revision.add(revision);
        }
    }
}

impl Trigger for KubernetesService {
    fn trigger(context: &Context, key: &ObjectKey, now: Option<&Self>) {
        let route = now
            .and_then(|service| service.label(meta::ROUTE_LABEL))
            .map(|name| key.sibling(name));
        let mut index = context.index();
        let mut routes = index.service_route.set(key, route.into_iter().collect());
        routes.extend(index.route_services.to(key));
        drop(index);
        for route in routes {
            context.queues.route.add(route);
        }
    }
}

impl Trigger for Namespace {
    fn trigger(context: &Context, key: &ObjectKey, _: Option<&Self>) {
        if context.settings().network.wildcard_namespaces.is_some() {
            look_at_routes(context, &key.name);
            context.routing_changed.notify_one();
        }
    }
}

/// Has the mappings looked at that lead to a Service or Route.
fn look_at_mappings(context: &Context, target: &ObjectKey) {
    for mapping in context.index().mapping_targets.to(target) {
        context.queues.domain_mapping.add(mapping);
    }
}

/// Has the Routes of a namespace looked at.
fn look_at_routes(context: &Context, namespace: &str) {
    for route in context.stores.routes.all() {
        if route.metadata.namespace.as_deref() == Some(namespace) {
            context.queues.route.add(ObjectKey::of(&*route));
        }
    }
}
