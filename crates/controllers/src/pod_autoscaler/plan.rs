//! What the PodAutoscaler of a Revision holds (serving `pkg/reconciler/revision/resources/pa.go`).

use crate::object::{Map, Meta, Write, child_meta, is_controlled_by};
use crate::revision::environment::serving_container;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kittiwake_api::autoscaling::annotations::{Key, MAX_SCALE, MIN_SCALE, TARGET};
use kittiwake_api::autoscaling::pod_autoscaler::{
    PROTOCOL_H2C, PROTOCOL_HTTP1, PodAutoscaler, PodAutoscalerSpec, REACHABILITY_REACHABLE,
    REACHABILITY_UNREACHABLE, ScaleTargetRef,
};
use kittiwake_api::autoscaling::user_pod_autoscaler::PodAutoscaler as UserPodAutoscaler;
use kittiwake_api::condition;
use kittiwake_api::meta;
use kittiwake_api::serving::Revision;
use kittiwake_api::serving::revision;

/// What to do.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and it is moved once"
)]
pub enum Plan {
    /// The object of that name is not this Revision's: hands off.
    Foreign,
    /// It is not there, or differs. Its status follows with the next look.
    Write(Write<PodAutoscaler>),
    /// It is as it should be: only its status may have to change.
    Follow,
}

/// Decides what a Revision's PodAutoscaler holds; `user` is the PodAutoscaler that users wrote for its Service.
#[must_use]
pub fn plan(revision: &Revision, observed: Option<&PodAutoscaler>, user: Option<&UserPodAutoscaler>) -> Plan {
    let desired = desired(revision, user);
    let Some(observed) = observed else {
        return Plan::Write(Write::Create(desired));
    };
    if !is_controlled_by(observed, revision) {
        return Plan::Foreign;
    }
    let metadata = updated_meta(observed, &desired);
    if observed.spec == desired.spec && observed.metadata == metadata {
        return Plan::Follow;
    }
    Plan::Write(Write::Replace(PodAutoscaler {
        metadata,
        spec: desired.spec,
        status: None,
    }))
}

/// The metadata as observed with what is wanted put in. What admission added stays; what a user's PodAutoscaler set and
/// no longer does goes.
fn updated_meta(observed: &PodAutoscaler, desired: &PodAutoscaler) -> ObjectMeta {
    let mut updated = observed.metadata.clone();
    let annotations = updated.annotations.get_or_insert_default();
    let wanted = desired.metadata.annotations.clone().unwrap_or_default();
    for key in [MIN_SCALE, MAX_SCALE, TARGET] {
        if !wanted.contains_key(key.name()) {
            annotations.remove(key.name());
        }
    }
    annotations.extend(wanted);
    updated
        .labels
        .get_or_insert_default()
        .extend(desired.metadata.labels.clone().unwrap_or_default());
    updated
}

fn desired(revision: &Revision, user: Option<&UserPodAutoscaler>) -> PodAutoscaler {
    let mut labels = revision.metadata.labels.clone().unwrap_or_default();
    labels.insert(meta::APP_LABEL.to_owned(), revision.name_str().to_owned());
    labels.insert(meta::REVISION_LABEL.to_owned(), revision.name_str().to_owned());
    labels.insert(meta::REVISION_UID_LABEL.to_owned(), revision.uid_str().to_owned());
    let mut annotations = revision.metadata.annotations.clone().unwrap_or_default();
    let excluded = [
        meta::LAST_APPLIED_ANNOTATION,
        meta::LAST_MODIFIER_ANNOTATION,
        meta::ROUTING_STATE_MODIFIED_ANNOTATION,
        meta::ROUTES_ANNOTATION,
    ];
    annotations.retain(|key, _| !excluded.contains(&key.as_str()));
    if let Some(user) = user {
        let spec = &user.spec;
        fill(
            &mut annotations,
            MIN_SCALE,
            spec.min_scale.map(|scale| scale.to_string()),
        );
        fill(
            &mut annotations,
            MAX_SCALE,
            spec.max_scale.map(|scale| scale.to_string()),
        );
        fill(
            &mut annotations,
            TARGET,
            spec.target.as_ref().map(ToString::to_string),
        );
    }
    let port = serving_container(revision).and_then(|c| c.ports.as_ref()?.first());
    let protocol = match port.and_then(|port| port.name.as_deref()) {
        Some("h2c") => PROTOCOL_H2C,
        _ => PROTOCOL_HTTP1,
    };
    PodAutoscaler {
        metadata: child_meta(revision, revision.name_str().to_owned(), labels, annotations),
        spec: PodAutoscalerSpec {
            container_concurrency: revision.spec.container_concurrency,
            scale_target_ref: ScaleTargetRef {
                api_version: Some("serving.knative.dev/v1".to_owned()),
                kind: Some("Revision".to_owned()),
                name: Some(revision.name_str().to_owned()),
                ..ScaleTargetRef::default()
            },
            reachability: reachability(revision),
            protocol_type: protocol.to_owned(),
        },
        status: None,
    }
}

/// Sets an annotation that the revision has in none of its spellings.
fn fill(annotations: &mut Map, key: Key, value: Option<String>) {
    if let Some(value) = value
        && key.find(annotations).is_none()
    {
        annotations.insert(key.name().to_owned(), value);
    }
}

/// Knative's rule: a failed Revision is not reachable, otherwise its routing state decides.
fn reachability(revision: &Revision) -> Option<String> {
    let conditions = revision
        .status
        .as_ref()
        .map(|s| s.conditions.as_slice())
        .unwrap_or_default();
    let failed = |type_| condition::find(conditions, type_).is_some_and(condition::Condition::is_false);
    if failed(revision::condition::CONTAINER_HEALTHY) || failed(revision::condition::RESOURCES_AVAILABLE) {
        return Some(REACHABILITY_UNREACHABLE.to_owned());
    }
    match revision.label(meta::ROUTING_STATE_LABEL) {
        Some(meta::ROUTING_STATE_ACTIVE) => Some(REACHABILITY_REACHABLE.to_owned()),
        Some(meta::ROUTING_STATE_RESERVE) => Some(REACHABILITY_UNREACHABLE.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
