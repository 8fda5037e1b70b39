//! Service: makes a Configuration and a Route of its own name, and mirrors what becomes of them
//! (serving `pkg/reconciler/service/service.go`).

pub mod apply;
pub mod plan;

use crate::context::Context;
use crate::error::Error;
use crate::object::{Meta, ObjectKey};
use crate::runner::Next;
use std::sync::Arc;

/// Brings one Service a step forward.
///
/// # Errors
/// When the API refuses; the key is then tried again.
pub async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Result<Next, Error> {
    let Some(service) = context
        .stores
        .services
        .by_key(&key)
        .filter(|s| !s.is_being_deleted())
    else {
        return Ok(Next::OnChange);
    };
    let configuration = context.stores.configurations.by_key(&key);
    let route = context.stores.routes.by_key(&key);
    let template_name = service
        .spec
        .template
        .metadata
        .as_ref()
        .and_then(|meta| meta.name.as_deref());
    let named_revision = template_name.and_then(|name| context.stores.revisions.by_key(&key.sibling(name)));
    let observed = plan::Observed {
        configuration: configuration.as_deref(),
        route: route.as_deref(),
        named_revision: named_revision.as_deref(),
    };
    let plan = plan::plan(&service, &observed, context.now());
    apply::apply(&context, &service, plan).await
}
