//! What a Service needs: its Configuration, its Route, its status.

use crate::configuration::plan::{NameCheck, check_name};
use crate::events::Notice;
use crate::object::{Map, Meta, Write, child_meta, is_controlled_by, keep_times};
use crate::runner::Next;
use jiff::Timestamp;
use kittiwake_api::condition::{self, Condition, ConditionStatus, Conditions};
use kittiwake_api::meta;
use kittiwake_api::serving::service::condition::{CONFIGURATIONS_READY, ROUTES_READY};
use kittiwake_api::serving::service::{CONDITIONS, reason};
use kittiwake_api::serving::{
    Configuration, ConfigurationSpec, Revision, Route, RouteSpec, Service, ServiceStatus, TrafficTarget,
};
use std::time::Duration;

/// Pause before a taken revision name is looked at again, in case the one that has it goes away.
const NAME_TAKEN_PAUSE: Duration = Duration::from_secs(10);

/// What is there already.
#[derive(Debug, Clone, Copy, Default)]
pub struct Observed<'a> {
    /// The Configuration of the Service's name.
    pub configuration: Option<&'a Configuration>,
    /// The Route of the Service's name.
    pub route: Option<&'a Route>,
    /// The Revision that has the name that the template asks for.
    pub named_revision: Option<&'a Revision>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What becomes of the Configuration.
    pub configuration: Write<Configuration>,
    /// What becomes of the Route.
    pub route: Write<Route>,
    /// The new status, when it differs.
    pub status: Option<ServiceStatus>,
    /// What to tell once the status is written.
    pub notices: Vec<Notice>,
    /// When to look again.
    pub next: Next,
}

/// Decides what a Service needs.
#[must_use]
pub fn plan(service: &Service, observed: &Observed<'_>, now: Timestamp) -> Plan {
    let old = service.status.clone().unwrap_or_default();
    let mut status = old.clone();
    let mut conditions = std::mem::take(&mut status.conditions);
    CONDITIONS.manage(&mut conditions, now).initialize();
    let mut plan = Plan {
        configuration: Write::Keep,
        route: Write::Keep,
        status: None,
        notices: Vec::new(),
        next: Next::OnChange,
    };
    let mut manager = CONDITIONS.manage(&mut conditions, now);
    if plan_configuration(&mut plan, &mut status, &mut manager, service, observed) {
        plan_route(&mut plan, &mut status, &mut manager, service, observed);
    }
    // The Route of a failed Configuration only says that it has nothing to send traffic to. The Service's own verdict
    // must name the cause, which the Configuration knows.
    let cause = manager
        .get(CONFIGURATIONS_READY)
        .filter(|cause| cause.is_false())
        .cloned();
    if let Some(Condition { reason, message, .. }) = cause {
        manager.mark_false(CONFIGURATIONS_READY, &reason, &message);
    }
    status.observed_generation = service.metadata.generation;
    keep_times(&old.conditions, &mut conditions);
    status.conditions = conditions;
    if status != old {
        plan.notices
            .extend(failure_notice(&old.conditions, &status.conditions));
        plan.status = Some(status);
    }
    plan
}

/// Plans the Configuration; whether the Route's turn has come.
fn plan_configuration(
    plan: &mut Plan,
    status: &mut ServiceStatus,
    conditions: &mut Conditions<'_>,
    service: &Service,
    observed: &Observed<'_>,
) -> bool {
    let desired = desired_configuration(service);
    let named = service
        .spec
        .template
        .metadata
        .as_ref()
        .is_some_and(|m| m.name.is_some());
    let Some(configuration) = observed.configuration else {
        plan.configuration = Write::Create(desired);
        mark_configuration_out_of_date(conditions);
        return !named;
    };
    if !is_controlled_by(configuration, service) {
        let message = format!(
            "There is an existing Configuration {:?} that we do not own.",
            service.name_str()
        );
        conditions.mark_false(CONFIGURATIONS_READY, reason::NOT_OWNED, &message);
        return false;
    }
    let same_spec = configuration.spec == desired.spec;
    if !same_spec || !same_meta(configuration, &desired) {
        plan.configuration = Write::Replace(Configuration {
            metadata: updated_meta(configuration, &desired),
            ..desired
        });
    }
    let generation = configuration.metadata.generation;
    let child = configuration.status.clone().unwrap_or_default();
    if !same_spec || child.observed_generation != generation {
        mark_configuration_out_of_date(conditions);
        // With a name of the user's choice the Route waits: that name may already belong to something else.
        return !named;
    }
    status.latest_created_revision_name = child.latest_created_revision_name;
    status.latest_ready_revision_name = child.latest_ready_revision_name;
    mirror(
        conditions,
        CONFIGURATIONS_READY,
        condition::find(&child.conditions, condition::READY),
    );
    if check_name(configuration, observed.named_revision) == NameCheck::Taken {
        let name = service
            .spec
            .template
            .metadata
            .as_ref()
            .and_then(|m| m.name.as_deref())
            .unwrap_or_default();
        let message = format!(
            "The revision name {name:?} is taken by a conflicting Revision, so traffic will not be migrated"
        );
        conditions.mark_false(ROUTES_READY, reason::REVISION_NAME_TAKEN, &message);
        plan.next = Next::After(NAME_TAKEN_PAUSE);
        return false;
    }
    true
}

fn plan_route(
    plan: &mut Plan,
    status: &mut ServiceStatus,
    conditions: &mut Conditions<'_>,
    service: &Service,
    observed: &Observed<'_>,
) {
    let desired = desired_route(service);
    let Some(route) = observed.route else {
        plan.route = Write::Create(desired);
        mark_route_out_of_date(conditions);
        return;
    };
    if !is_controlled_by(route, service) {
        let message = format!(
            "There is an existing Route {:?} that we do not own.",
            service.name_str()
        );
        conditions.mark_false(ROUTES_READY, reason::NOT_OWNED, &message);
        return;
    }
    let same_spec = route.spec == desired.spec;
    if !same_spec || !same_meta(route, &desired) {
        plan.route = Write::Replace(Route {
            metadata: updated_meta(route, &desired),
            ..desired
        });
    }
    let child = route.status.clone().unwrap_or_default();
    if !same_spec || child.observed_generation != route.metadata.generation {
        mark_route_out_of_date(conditions);
        return;
    }
    status.url = child.url;
    status.address = child.address;
    status.traffic = child.traffic;
    mirror(
        conditions,
        ROUTES_READY,
        condition::find(&child.conditions, condition::READY),
    );
    let latest_ready = observed
        .configuration
        .and_then(|c| c.status.as_ref())
        .and_then(|s| s.latest_ready_revision_name.as_deref());
    if !has_migrated(
        &route.spec.traffic,
        &status.traffic,
        service.name_str(),
        latest_ready,
    ) && conditions.get(ROUTES_READY).is_some_and(Condition::is_true)
    {
        conditions.mark_unknown(
            ROUTES_READY,
            reason::TRAFFIC_NOT_MIGRATED,
            "Traffic is not yet migrated to the latest revision.",
        );
    }
}

/// Whether the Route sends its traffic where its spec says, the Configuration standing for its latest ready Revision.
fn has_migrated(
    wanted: &[TrafficTarget],
    got: &[TrafficTarget],
    configuration: &str,
    latest: Option<&str>,
) -> bool {
    wanted.len() == got.len()
        && wanted.iter().zip(got).all(|(wanted, got)| {
            let follows = wanted.configuration_name.as_deref() == Some(configuration);
            let revision = if follows {
                latest
            } else {
                wanted.revision_name.as_deref()
            };
            revision == got.revision_name.as_deref()
                && wanted.tag == got.tag
                && wanted.percent.unwrap_or(0) == got.percent.unwrap_or(0)
        })
}

fn mark_configuration_out_of_date(conditions: &mut Conditions<'_>) {
    conditions.mark_unknown(
        CONFIGURATIONS_READY,
        reason::OUT_OF_DATE,
        "The Configuration is still working to reflect the latest desired specification.",
    );
}

fn mark_route_out_of_date(conditions: &mut Conditions<'_>) {
    conditions.mark_unknown(
        ROUTES_READY,
        reason::OUT_OF_DATE,
        "The Route is still working to reflect the latest desired specification.",
    );
}

/// Copies a child's condition onto `type_`.
fn mirror(conditions: &mut Conditions<'_>, type_: &str, child: Option<&Condition>) {
    let Some(child) = child else { return };
    match child.status {
        ConditionStatus::True => conditions.mark_true(type_),
        ConditionStatus::False => conditions.mark_false(type_, &child.reason, &child.message),
        ConditionStatus::Unknown => conditions.mark_unknown(type_, &child.reason, &child.message),
    }
}

/// A Service that stops being ready says so once.
fn failure_notice(old: &[Condition], new: &[Condition]) -> Option<Notice> {
    let new = condition::find(new, condition::READY).filter(|c| c.is_false())?;
    let before = condition::find(old, condition::READY);
    if before.is_some_and(|old| old.is_false() && old.message == new.message) {
        return None;
    }
    Some(Notice::warning(
        "NotReady",
        format!("{}: {}", new.reason, new.message),
    ))
}

/// The Configuration that a Service wants (`pkg/reconciler/service/resources/configuration.go`).
fn desired_configuration(service: &Service) -> Configuration {
    let excluded = [
        meta::LAST_APPLIED_ANNOTATION,
        meta::ROLLOUT_DURATION_ANNOTATION,
        meta::ROLLOUT_DURATION_ANNOTATION_CAMEL,
    ];
    let mut labels = child_labels(service);
    labels.insert(meta::SERVICE_UID_LABEL.to_owned(), service.uid_str().to_owned());
    Configuration {
        metadata: child_meta(
            service,
            service.name_str().to_owned(),
            labels,
            annotations_without(service, &excluded),
        ),
        spec: ConfigurationSpec {
            template: service.spec.template.clone(),
        },
        status: None,
    }
}

/// The Route that a Service wants (`pkg/reconciler/service/resources/route.go`).
fn desired_route(service: &Service) -> Route {
    let traffic = service.spec.traffic.iter().map(|target| {
        let follows = target.revision_name.as_deref().unwrap_or_default().is_empty();
        TrafficTarget {
            configuration_name: follows.then(|| service.name_str().to_owned()),
            ..target.clone()
        }
    });
    Route {
        metadata: child_meta(
            service,
            service.name_str().to_owned(),
            child_labels(service),
            annotations_without(service, &[meta::LAST_APPLIED_ANNOTATION]),
        ),
        spec: RouteSpec {
            traffic: traffic.collect(),
        },
        status: None,
    }
}

fn child_labels(service: &Service) -> Map {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(meta::SERVICE_LABEL.to_owned(), service.name_str().to_owned());
    labels
}

fn annotations_without(service: &Service, excluded: &[&str]) -> Map {
    let mut annotations = service.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| !excluded.contains(&key.as_str()));
    annotations
}

/// Annotations that admission writes. A difference in them alone is no reason to write the child again.
const ADMISSION_ANNOTATIONS: [&str; 2] = [meta::CREATOR_ANNOTATION, meta::LAST_MODIFIER_ANNOTATION];

fn same_meta<K: kube::Resource>(observed: &K, desired: &K) -> bool {
    let annotations = |object: &K| {
        let mut annotations = object.meta().annotations.clone().unwrap_or_default();
        annotations.retain(|key, _| !ADMISSION_ANNOTATIONS.contains(&key.as_str()));
        annotations
    };
    let labels = |object: &K| object.meta().labels.clone().unwrap_or_default();
    labels(observed) == labels(desired) && annotations(observed) == annotations(desired)
}

/// The metadata of `observed` with the labels and annotations of `desired`; its creator never changes.
fn updated_meta<K: kube::Resource>(
    observed: &K,
    desired: &K,
) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
    let mut updated = observed.meta().clone();
    let creator = observed.annotation(meta::CREATOR_ANNOTATION).map(str::to_owned);
    updated.labels = desired.meta().labels.clone();
    updated.annotations = desired.meta().annotations.clone();
    if let Some(creator) = creator {
        updated
            .annotations
            .get_or_insert_default()
            .insert(meta::CREATOR_ANNOTATION.to_owned(), creator);
    }
    updated
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
