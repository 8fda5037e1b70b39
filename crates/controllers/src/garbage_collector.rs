//! Garbage collector: removes old Revisions to which no Route leads (serving `pkg/reconciler/gc`).

pub mod plan;

use crate::context::Context;
use crate::error::{Error, is_gone};
use crate::object::{Meta, ObjectKey};
use crate::runner::Next;
use kittiwake_api::serving::Revision;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use std::sync::Arc;

/// Removes what is to go of one Configuration's Revisions.
///
/// # Errors
/// When the API refuses; the key is then tried again.
pub async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Result<Next, Error> {
    let Some(configuration) = context
        .stores
        .configurations
        .by_key(&key)
        .filter(|c| !c.is_being_deleted())
    else {
        return Ok(Next::OnChange);
    };
    let keys = context.index().revision_configuration.to(&key);
    let revisions: Vec<_> = keys
        .iter()
        .filter_map(|key| context.stores.revisions.by_key(key))
        .collect();
    let plan = plan::plan(&configuration, &revisions, &context.settings().gc, context.now());
    let api: Api<Revision> = Api::namespaced(context.client.clone(), &key.namespace);
    for revision in plan.remove {
        tracing::info!(revision = %ObjectKey::of(&*revision), "an old revision is removed");
        // With the version that was judged: a Route may lead to it again since.
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: revision.metadata.uid.clone(),
                resource_version: revision.metadata.resource_version.clone(),
            }),
            ..DeleteParams::default()
        };
        match api.delete(revision.name_str(), &params).await {
            Err(error) if !is_gone(&error) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(plan.next)
}
