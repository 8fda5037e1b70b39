//! Labeler: says on each Revision whether a Route leads to it, and which (serving `pkg/reconciler/labeler`).

pub mod plan;

use crate::FIELD_MANAGER;
use crate::context::Context;
use crate::error::{Error, is_gone};
use crate::object::{Meta, ObjectKey};
use crate::runner::Next;
use kittiwake_api::serving::Revision;
use kube::Api;
use kube::api::{Patch, PatchParams};
use std::sync::Arc;

/// Brings the labels of one Revision up to date.
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
    let routes = context.index().routed_revisions.to(&key);
    let routes: Vec<&str> = routes.iter().map(|route| &*route.name).collect();
    let Some(patch) = plan::plan(&revision, &routes, context.now()) else {
        return Ok(Next::OnChange);
    };
    let api = Api::<Revision>::namespaced(context.client.clone(), &key.namespace);
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    match api.patch(&key.name, &params, &Patch::Merge(patch)).await {
        Err(error) if !is_gone(&error) => Err(error.into()),
        _ => Ok(Next::OnChange),
    }
}
