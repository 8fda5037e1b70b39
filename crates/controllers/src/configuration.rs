//! Configuration: makes a Revision for each of its generations and follows the newest one that is ready
//! (serving `pkg/reconciler/configuration/configuration.go`).

pub mod apply;
pub mod plan;

use crate::context::Context;
use crate::error::Error;
use crate::object::{Meta, ObjectKey};
use crate::runner::Next;
use std::sync::Arc;

/// Brings one Configuration a step forward.
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
    let named = plan::wanted_name(&configuration);
    let named = context.stores.revisions.by_key(&key.sibling(named));
    let plan = plan::plan(&configuration, &revisions, named.as_deref(), context.now());
    apply::apply(&context, &configuration, plan).await
}
