//! PodAutoscaler of Knative's internal group: one per Revision, with its scaling annotations and how far it is scaled.
//!
//! A function that gets a fresh instance for each call has no instance between calls. So the scale that is shown is 0
//! for desired and actual, and says nothing about the calls in flight; `Active` says whether a call would be answered
//! at once (the Revision is ready and a Route leads to it). Resident kinds will show what the autoscaler counts.

pub mod plan;

use crate::context::Context;
use crate::error::Error;
use crate::object::{Meta, ObjectKey, write, write_status};
use crate::runner::Next;
use kittiwake_api::autoscaling::pod_autoscaler::PodAutoscaler;
use kittiwake_api::meta;
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
    let plan = plan::plan(&revision, observed.as_deref(), user, context.now());
    write(&context.client, plan.write).await?;
    if let (Some(status), Some(observed)) = (plan.status, observed) {
        let object = PodAutoscaler {
            status: Some(status),
            ..(*observed).clone()
        };
        write_status(&context.client, &object).await?;
    }
    Ok(Next::OnChange)
}
