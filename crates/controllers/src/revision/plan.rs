//! What a Revision's conditions say, and whether its artifact has to be made ready (again)
//! (serving `pkg/apis/serving/v1/revision_lifecycle.go`, `pkg/reconciler/revision/reconcile_resources.go`).

use super::credentials::Credentials;
use super::environment::{Surroundings, serving_container, sidecars};
use super::preparation::{Failure, Preparation};
use super::spec::{self, Images};
use crate::context::Servable;
use crate::events::Notice;
use crate::health::Failing;
use crate::object::{Meta, is_controlled_by, keep_times};
use crate::runner::Next;
use jiff::Timestamp;
use kittiwake_api::autoscaling::pod_autoscaler::{self, PodAutoscaler};
use kittiwake_api::condition::{self, Condition, ConditionStatus, Conditions};
use kittiwake_api::meta;
use kittiwake_api::serving::revision::condition::{ACTIVE, CONTAINER_HEALTHY, READY, RESOURCES_AVAILABLE};
use kittiwake_api::serving::revision::{CONDITIONS, reason};
use kittiwake_api::serving::{ContainerStatus, Revision, RevisionStatus};
use kittiwake_core::artifact::{FunctionKind, PreparePhase, PrepareRequest, Prepared};
use kittiwake_core::code::ErrorCode;
use std::collections::HashMap;
use std::time::Duration;

/// Reason when the environment cannot be put together (kubelet's word).
const CONFIG_ERROR: &str = "CreateContainerConfigError";
/// Reasons when an image that the user pinned to its digest cannot be had: Knative has no tag to resolve then and leaves
/// it to the kubelet, whose words these are; the second while the next try is waited for.
const PULL_FAILED: &str = "ErrImagePull";
const PULL_BACK_OFF: &str = "ImagePullBackOff";
/// The message while the instances that it begins with are started.
const STARTING_MESSAGE: &str = "Starting the instances that it begins with.";
/// What Knative says with `ProgressDeadlineExceeded`.
const INITIAL_SCALE_MESSAGE: &str = "Initial scale was never achieved";

/// What is there already.
#[derive(Debug, Clone)]
pub struct Observed<'a> {
    /// The PodAutoscaler of the Revision's name.
    pub pod_autoscaler: Option<&'a PodAutoscaler>,
    /// Its environment and folders, or what is missing from them.
    pub surroundings: Result<Surroundings, String>,
    /// Its pull secrets.
    pub credentials: Credentials,
    /// How far its artifact is in this process.
    pub preparation: Option<Preparation>,
    /// How every call or instance ends, when the data plane reported that.
    pub failure: Option<Failing>,
    /// Where its logs are shown.
    pub log_url: Option<String>,
    /// Time to become ready, where no annotation says otherwise.
    pub progress_deadline: Duration,
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What to have made ready now.
    pub prepare: Option<Box<PrepareRequest>>,
    /// Whether it can be called in this process.
    pub serve: Servable,
    /// The new status, when it differs.
    pub status: Option<RevisionStatus>,
    /// What to tell once the status is written.
    pub notices: Vec<Notice>,
    /// When to look again.
    pub next: Next,
}

/// Decides what a Revision needs.
#[must_use]
pub fn plan(revision: &Revision, observed: Observed<'_>, now: Timestamp) -> Plan {
    let old = revision.status.clone().unwrap_or_default();
    let mut status = old.clone();
    let mut conditions = std::mem::take(&mut status.conditions);
    let mut manager = CONDITIONS.manage(&mut conditions, now);
    manager.initialize();
    let mut plan = Plan {
        prepare: None,
        serve: Servable::Undecided,
        status: None,
        notices: Vec::new(),
        next: Next::OnChange,
    };
    match &observed.surroundings {
        Err(missing) => {
            plan.serve = Servable::No;
            manager.mark_false(CONTAINER_HEALTHY, CONFIG_ERROR, missing);
        }
        Ok(surroundings) => {
            let request = request(revision, surroundings.clone(), &observed);
            follow_preparation(
                &mut plan,
                &mut status,
                &mut manager,
                revision,
                &observed,
                request,
                now,
            );
        }
    }
    follow_pod_autoscaler(&mut status, &mut manager, revision, observed.pod_autoscaler);
    status.log_url = observed.log_url;
    status.observed_generation = revision.metadata.generation;
    keep_times(&old.conditions, &mut conditions);
    status.conditions = conditions;
    if status != old {
        plan.notices = notices(&old.conditions, &status.conditions);
        plan.status = Some(status);
    }
    plan
}

fn request(revision: &Revision, surroundings: Surroundings, observed: &Observed<'_>) -> PrepareRequest {
    PrepareRequest {
        revision: spec::revision_spec(
            revision,
            &Images::of(revision),
            FunctionKind::default(),
            surroundings,
        ),
        credentials: observed.credentials.known.clone(),
        progress_deadline: deadline(revision, observed),
    }
}

fn follow_preparation(
    plan: &mut Plan,
    status: &mut RevisionStatus,
    conditions: &mut Conditions<'_>,
    revision: &Revision,
    observed: &Observed<'_>,
    request: PrepareRequest,
    now: Timestamp,
) {
    match &observed.preparation {
        None | Some(Preparation::Lost) => {
            mark_progress(conditions, None);
            plan.prepare = Some(Box::new(request));
        }
        Some(Preparation::Running { phase, last: None }) => mark_progress(conditions, *phase),
        Some(Preparation::Running {
            last: Some(failure), ..
        }) => {
            plan.serve = Servable::No;
            mark_failure(conditions, revision, observed, failure, now);
        }
        Some(Preparation::Failed { failure, retry_at }) => {
            plan.serve = Servable::No;
            mark_failure(conditions, revision, observed, failure, now);
            if *retry_at <= now || failure.tried_other_than(&request) {
                plan.prepare = Some(Box::new(request));
            } else {
                plan.next = Next::After(Duration::try_from(retry_at.duration_since(now)).unwrap_or_default());
            }
        }
        Some(Preparation::Ready(prepared)) => {
            status.container_statuses = container_statuses(revision, prepared);
            status
                .annotations
                .insert(meta::KIND_ANNOTATION.to_owned(), prepared.kind.name().to_owned());
            let mut prepared_spec = request.revision;
            let images = Images::prepared(prepared);
            prepared_spec.kind = prepared.kind;
            prepared_spec.image = images.serving;
            for (sidecar, image) in prepared_spec.sidecars.iter_mut().zip(images.sidecars) {
                sidecar.image = image;
            }
            plan.serve = Servable::Yes(Box::new(prepared_spec));
            mark_resources(conditions, prepared, observed.pod_autoscaler);
            match &observed.failure {
                None => conditions.mark_true(CONTAINER_HEALTHY),
                Some(Failing { message, exit_code }) => {
                    conditions.mark_false(CONTAINER_HEALTHY, &format!("ExitCode{exit_code}"), message);
                }
            }
        }
    }
}

/// Says what is being done. A Revision that was ready before stays so: after a restart its artifact is on disk, and
/// making it ready again is quick.
fn mark_progress(conditions: &mut Conditions<'_>, phase: Option<PreparePhase>) {
    if conditions.is_happy() {
        return;
    }
    let (reason, message) = match phase {
        None => (
            reason::RESOLVING_DIGESTS,
            "Waiting for other artifacts to be made ready first.",
        ),
        Some(PreparePhase::Pulling) => (reason::RESOLVING_DIGESTS, "Pulling the image."),
        Some(PreparePhase::Compiling) => (reason::DEPLOYING, "Compiling the WebAssembly."),
        Some(PreparePhase::Starting) => (reason::DEPLOYING, "Starting an instance."),
    };
    conditions.mark_unknown(RESOURCES_AVAILABLE, reason, message);
    conditions.mark_unknown(CONTAINER_HEALTHY, reason, message);
}

/// Where instances stay they have to be there once, as many as it begins with (`PropagateAutoscalerStatus`); one that
/// was ready before stays so.
fn mark_resources(conditions: &mut Conditions<'_>, prepared: &Prepared, scaler: Option<&PodAutoscaler>) {
    let status = scaler.and_then(|scaler| scaler.status.as_ref());
    let conditions_of = status
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let says = |type_| condition::find(conditions_of, type_);
    let begun = says(pod_autoscaler::condition::SCALE_TARGET_INITIALIZED).is_some_and(Condition::is_true);
    let active = says(pod_autoscaler::condition::ACTIVE);
    let given_up = status.is_some_and(|status| status.desired_scale == Some(0))
        && active.is_some_and(|active| active.reason == pod_autoscaler::reason::TIMED_OUT);
    if begun || !prepared.kind.is_resident() || conditions.is_happy() {
        conditions.mark_true(RESOURCES_AVAILABLE);
    } else if given_up {
        conditions.mark_false(
            RESOURCES_AVAILABLE,
            reason::PROGRESS_DEADLINE_EXCEEDED,
            INITIAL_SCALE_MESSAGE,
        );
    } else {
        conditions.mark_unknown(RESOURCES_AVAILABLE, reason::DEPLOYING, STARTING_MESSAGE);
    }
}

/// Says what went wrong. What may pass by itself is not called a failure before the progress deadline.
fn mark_failure(
    conditions: &mut Conditions<'_>,
    revision: &Revision,
    observed: &Observed<'_>,
    failure: &Failure,
    now: Timestamp,
) {
    let mut message = failure.error.to_string();
    if matches!(
        failure.error.code,
        ErrorCode::RegistryUnauthorized | ErrorCode::ArtifactNotFound
    ) {
        for problem in &observed.credentials.problems {
            message = format!("{message} ({problem})");
        }
    }
    if failure.error.code == ErrorCode::NotReadyInTime {
        let message = format!("{INITIAL_SCALE_MESSAGE}: {message}");
        conditions.mark_unknown(CONTAINER_HEALTHY, reason::DEPLOYING, &message);
        conditions.mark_false(RESOURCES_AVAILABLE, reason::PROGRESS_DEADLINE_EXCEEDED, &message);
        return;
    }
    let deadline = deadline(revision, observed);
    let waited = Duration::try_from(now.duration_since(failure.since)).unwrap_or_default();
    if let Some((reason, message)) = pull_failure(failure, &message)
        && (!failure.error.is_transient() || waited >= deadline)
    {
        conditions.mark_unknown(CONTAINER_HEALTHY, reason::DEPLOYING, "");
        conditions.mark_false(RESOURCES_AVAILABLE, reason, &message);
        return;
    }
    if !failure.error.is_transient() {
        conditions.mark_unknown(RESOURCES_AVAILABLE, reason::DEPLOYING, "");
        conditions.mark_false(CONTAINER_HEALTHY, &failure.error.reason(), &message);
        return;
    }
    conditions.mark_unknown(CONTAINER_HEALTHY, reason::DEPLOYING, &message);
    if waited >= deadline {
        let message = format!("{message} (tried for {} s, still trying)", deadline.as_secs());
        conditions.mark_false(RESOURCES_AVAILABLE, reason::PROGRESS_DEADLINE_EXCEEDED, &message);
    } else {
        conditions.mark_unknown(RESOURCES_AVAILABLE, reason::DEPLOYING, &message);
    }
}

/// Reason and message when what failed is the pull of an image that is named by its digest.
fn pull_failure(failure: &Failure, message: &str) -> Option<(&'static str, String)> {
    let revision = &failure.request.revision;
    let mut sidecars = revision.sidecars.iter();
    let sidecar = sidecars.find(|sidecar| Some(&sidecar.name) == failure.error.sidecar.as_ref());
    let image = sidecar.map_or(&revision.image, |sidecar| &sidecar.image);
    let pulls = matches!(
        failure.error.code,
        ErrorCode::ArtifactNotFound
            | ErrorCode::RegistryUnauthorized
            | ErrorCode::RegistryUnavailable
            | ErrorCode::DigestMismatch
    );
    if !pulls || !image.contains("@sha256:") {
        return None;
    }
    Some(if failure.attempts > 1 {
        let message = format!("Back-off pulling image {image:?}: {PULL_FAILED}: {message}");
        (PULL_BACK_OFF, message)
    } else {
        (PULL_FAILED, message.to_owned())
    })
}

/// Time to become ready: the annotation in Go's notation (whole seconds, as admission demands), or what all have.
fn deadline(revision: &Revision, observed: &Observed<'_>) -> Duration {
    let deadline = revision.duration_annotation(meta::PROGRESS_DEADLINE_ANNOTATION);
    let deadline = deadline.filter(|deadline| !deadline.is_zero());
    deadline.unwrap_or(observed.progress_deadline)
}

fn container_statuses(revision: &Revision, prepared: &Prepared) -> Vec<ContainerStatus> {
    let serving = serving_container(revision).map(|container| container.name.as_str());
    let beside = sidecars(revision).map(|container| container.name.as_str());
    let images: HashMap<&str, &str> = beside
        .zip(prepared.sidecars.iter().map(|image| &**image))
        .chain(serving.map(|name| (name, prepared.image.as_str())))
        .collect();
    let containers = revision.spec.pod_spec.containers.iter();
    containers
        .map(|container| ContainerStatus {
            name: Some(container.name.clone()),
            image_digest: images
                .get(container.name.as_str())
                .map(|image| (*image).to_owned()),
        })
        .collect()
}

/// Copies what concerns the Revision from its PodAutoscaler (`PropagateAutoscalerStatus`).
fn follow_pod_autoscaler(
    status: &mut RevisionStatus,
    conditions: &mut Conditions<'_>,
    revision: &Revision,
    pod_autoscaler: Option<&PodAutoscaler>,
) {
    let Some(pod_autoscaler) = pod_autoscaler else {
        return;
    };
    if !is_controlled_by(pod_autoscaler, revision) {
        let message = format!(
            "There is an existing PodAutoscaler {:?} that we do not own.",
            revision.name_str()
        );
        conditions.mark_false(RESOURCES_AVAILABLE, reason::NOT_OWNED, &message);
        return;
    }
    let Some(child) = &pod_autoscaler.status else {
        return;
    };
    status.actual_replicas = child.actual_scale;
    status.desired_replicas = child.desired_scale.filter(|scale| *scale >= 0);
    let active = condition::find(&child.conditions, pod_autoscaler::condition::ACTIVE);
    match active.map(|active| (active.status, active)) {
        Some((ConditionStatus::True, _)) => conditions.mark_true(ACTIVE),
        Some((ConditionStatus::False, active)) => {
            conditions.mark_false(ACTIVE, &active.reason, &active.message)
        }
        Some((ConditionStatus::Unknown, active)) => {
            conditions.mark_unknown(ACTIVE, &active.reason, &active.message)
        }
        None => {}
    }
}

fn notices(old: &[Condition], new: &[Condition]) -> Vec<Notice> {
    let (before, now) = (condition::find(old, READY), condition::find(new, READY));
    match now.map(|now| (now.status, now)) {
        Some((ConditionStatus::True, _)) if !before.is_some_and(Condition::is_true) => {
            vec![Notice::normal(
                "RevisionReady",
                "Revision becomes ready upon all resources being ready",
            )]
        }
        Some((ConditionStatus::False, now))
            if !before
                .is_some_and(|b| b.is_false() && b.reason == now.reason && b.message == now.message) =>
        {
            vec![Notice::warning(
                "RevisionFailed",
                format!("{}: {}", now.reason, now.message),
            )]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
