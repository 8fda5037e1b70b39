//! PodAutoscaler of group `autoscaling.knative.dev`, which users write for a Service. Its bounds and target reach the
//! Service's Revisions through their own PodAutoscalers ([`crate::pod_autoscaler`]); here it is told what became of it.

pub mod plan;

use crate::context::Context;
use crate::error::Error;
use crate::object::{Meta, ObjectKey, write_status};
use crate::runner::Next;
use kittiwake_api::autoscaling::user_pod_autoscaler::PodAutoscaler;
use std::sync::Arc;

/// Brings the status of one PodAutoscaler up to date.
///
/// # Errors
/// When the API refuses; the key is then tried again.
pub async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Result<Next, Error> {
    let stores = &context.stores;
    let Some(object) = stores
        .user_pod_autoscalers
        .by_key(&key)
        .filter(|p| !p.is_being_deleted())
    else {
        return Ok(Next::OnChange);
    };
    let target = key.sibling(object.spec.scale_target_ref.name.as_deref().unwrap_or_default());
    let rivals = context.index().user_pod_autoscaler_service.to(&target);
    let rivals: Vec<_> = rivals
        .iter()
        .filter_map(|key| stores.user_pod_autoscalers.by_key(key))
        .collect();
    let found = stores.services.by_key(&target).is_some();
    let revisions = context.index().revision_service.to(&target);
    let scaled: Vec<_> = revisions
        .iter()
        .filter_map(|key| stores.pod_autoscalers.by_key(key))
        .collect();
    let scale = plan::Scale::of(&scaled);
    if let Some(status) = plan::plan(&object, found, plan::oldest(&rivals), scale, context.now()) {
        write_status(
            &context.client,
            &PodAutoscaler {
                status: Some(status),
                ..(*object).clone()
            },
        )
        .await?;
    }
    Ok(Next::OnChange)
}
