//! PodAutoscaler of Knative's internal group: one per Revision, with its scaling annotations and how far it is scaled.
//!
//! [`plan`] makes it from its Revision, [`status`] applies what [`crate::kpa`] decided. A function that gets a fresh
//! instance for each call is scaled by the same rules; as many instances as are wanted then count as ready at once.

pub mod hpa;
pub mod plan;
pub mod status;

use crate::context::Context;
use crate::error::Error;
use crate::kpa::deciders::{Instances, Known, Labels};
use crate::kpa::rules;
use crate::object::{Meta, ObjectKey, write, write_status};
use crate::revision::spec;
use crate::runner::Next;
use crate::scale_table;
use kittiwake_api::autoscaling::annotations::{CLASS_HPA, CLASS_KPA};
use kittiwake_api::autoscaling::pod_autoscaler::{PodAutoscaler, REACHABILITY_UNREACHABLE};
use kittiwake_api::autoscaling::settings::Settings;
use kittiwake_api::meta;
use kittiwake_api::serving::Revision;
use std::sync::Arc;

/// Brings the PodAutoscaler of one Revision a step forward.
///
/// # Errors
/// When the API refuses; the key is then tried again.
pub async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Result<Next, Error> {
    let Some(revision) = context
        .stores
        .revisions
        .by_key(&key)
        .filter(|r| !r.is_being_deleted())
    else {
        context.deciders.forget(&key);
        return Ok(Next::OnChange);
    };
    let observed = context.stores.pod_autoscalers.by_key(&key);
    let service = revision.label(meta::SERVICE_LABEL).map(|name| key.sibling(name));
    let users = service
        .map(|service| context.index().user_pod_autoscaler_service.to(&service))
        .unwrap_or_default();
    let users: Vec<_> = users
        .iter()
        .filter_map(|key| context.stores.user_pod_autoscalers.by_key(key))
        .collect();
    let user = crate::user_pod_autoscaler::plan::oldest(&users);
    match plan::plan(&revision, observed.as_deref(), user) {
        plan::Plan::Foreign => Ok(Next::OnChange),
        plan::Plan::Write(object) => {
            write(&context.client, object).await?;
            Ok(Next::OnChange)
        }
        plan::Plan::Follow => match observed {
            Some(observed) => follow(&context, &key, &revision, &observed).await,
            None => Ok(Next::OnChange),
        },
    }
}

/// Brings the decider and the status up to date. What another autoscaler's class scales is left to it.
async fn follow(
    context: &Context,
    key: &ObjectKey,
    revision: &Revision,
    observed: &PodAutoscaler,
) -> Result<Next, Error> {
    let config = Arc::clone(&context.autoscaler.borrow());
    let annotations = observed.metadata.annotations.clone().unwrap_or_default();
    let settings = Settings::resolve(&annotations, &config);
    if settings.class == CLASS_HPA {
        return follow_hpa(context, key, revision, observed, &settings).await;
    }
    if settings.class != CLASS_KPA {
        context.deciders.forget(key);
        return Ok(Next::OnChange);
    }
    let rules = rules::of(observed, &settings, &config, context.config.progress_deadline);
    let instances = instances(revision);
    let before = observed.status.as_ref();
    let known = Known {
        uid: revision.uid_str().into(),
        labels: Labels {
            service: revision.label(meta::SERVICE_LABEL).unwrap_or_default().into(),
            configuration: revision
                .label(meta::CONFIGURATION_LABEL)
                .unwrap_or_default()
                .into(),
        },
        spec: rules.decider.clone(),
        instances,
        replicas: status::is_prepared(revision)
            .then(|| scale_table::replicas(observed))
            .flatten()
            .unwrap_or(0),
        ready_before: before
            .and_then(|status| u32::try_from(status.actual_scale?).ok())
            .unwrap_or(0),
    };
    let seen = context.deciders.upsert(key, known, context.clock.elapsed());
    let activators = |ready| rules.activators(ready);
    let plan = status::plan(
        revision,
        observed,
        &rules.scale,
        instances,
        &seen,
        activators,
        context.now(),
    );
    context.deciders.set_mode(key, plan.mode, context.clock.elapsed());
    if let Some(status) = plan.status {
        let object = PodAutoscaler {
            status: Some(status),
            ..observed.clone()
        };
        write_status(&context.client, &object).await?;
    }
    Ok(plan.next)
}

/// The same for class hpa.
async fn follow_hpa(
    context: &Context,
    key: &ObjectKey,
    revision: &Revision,
    observed: &PodAutoscaler,
    settings: &Settings,
) -> Result<Next, Error> {
    let instances = instances(revision);
    let reachable = observed.spec.reachability.as_deref() != Some(REACHABILITY_UNREACHABLE);
    let spec = hpa::spec(revision, settings, instances, reachable);
    let replicas = scale_table::replicas(observed).unwrap_or(settings.initial_scale);
    let uid = revision.uid_str().into();
    let (desired, counts) = context.deciders.upsert_hpa(key, &uid, spec, replicas);
    if let Some(status) = hpa::status(revision, observed, desired, &counts, instances, context.now()) {
        let object = PodAutoscaler {
            status: Some(status),
            ..observed.clone()
        };
        write_status(&context.client, &object).await?;
    }
    Ok(Next::OnChange)
}

fn instances(revision: &Revision) -> Instances {
    if spec::kind(revision).is_resident() {
        Instances::Resident
    } else {
        Instances::PerCall
    }
}
