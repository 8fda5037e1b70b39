//! Which keys of which reconcilers have to be looked at when an object changes. Only keys leave from here.

use crate::context::Context;
use crate::object::{Meta, ObjectKey};
use crate::revision::references;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kittiwake_api::autoscaling::pod_autoscaler::PodAutoscaler;
use kittiwake_api::autoscaling::user_pod_autoscaler::PodAutoscaler as UserPodAutoscaler;
use kittiwake_api::meta;
use kittiwake_api::serving::{Configuration, Revision, Route, Service, TrafficTarget};
use std::collections::BTreeSet;

/// A kind whose changes concern reconcilers.
pub trait Trigger: Sized {
    /// Adds the keys to look at after a change of `key`; `now` is the object as it is, `None` when it is gone.
    fn trigger(context: &Context, key: &ObjectKey, now: Option<&Self>);
}

impl Trigger for Service {
    fn trigger(context: &Context, key: &ObjectKey, _: Option<&Self>) {
        context.queues.service.add(key.clone());
        for pod_autoscaler in context.index().user_pod_autoscaler_service.to(key) {
            context.queues.user_pod_autoscaler.add(pod_autoscaler);
        }
    }
}

impl Trigger for Configuration {
    fn trigger(context: &Context, key: &ObjectKey, _: Option<&Self>) {
        context.queues.configuration.add(key.clone());
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
        let routes = index.route_revisions.to(key);
        drop(index);

        context.queues.revision.add(key.clone());
        context.queues.pod_autoscaler.add(key.clone());
        context.queues.labeler.add(key.clone());
        for configuration in configurations {
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
    fn trigger(context: &Context, key: &ObjectKey, _: Option<&Self>) {
        for revision in context.index().revision_secrets.to(key) {
            context.queues.revision.add(revision);
        }
    }
}

impl Trigger for ConfigMap {
    fn trigger(context: &Context, key: &ObjectKey, _: Option<&Self>) {
        for revision in context.index().revision_config_maps.to(key) {
            context.queues.revision.add(revision);
        }
    }
}
