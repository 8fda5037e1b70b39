//! Revision: has its artifact made ready, says in its conditions how far that is, and offers it to the routing table.

pub mod apply;
pub mod credentials;
pub mod environment;
pub mod plan;
pub mod preparation;
pub mod probes;
pub mod references;
pub mod spec;
pub mod tokens;
pub mod volumes;

use crate::context::Context;
use crate::error::Error;
use crate::object::{Meta, ObjectKey};
use crate::runner::Next;
use k8s_openapi::api::core::v1::ServiceAccountTokenProjection;
use kittiwake_api::serving::Revision;
use preparation::Preparation;
use std::sync::Arc;

/// Brings one Revision a step forward; forgets one that is gone.
///
/// # Errors
/// When the API refuses; the key is then tried again.
pub async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Result<Next, Error> {
    let revision = context.stores.revisions.by_key(&key);
    let Some(revision) = revision.filter(|revision| !revision.is_being_deleted()) else {
        apply::forget(&context, &key);
        return Ok(Next::OnChange);
    };
    let pod_autoscaler = context.stores.pod_autoscalers.by_key(&key);
    let references = references::of(&revision);
    let account = key.sibling(references::service_account(&revision));
    let account = context.stores.service_accounts.by_key(&account);
    let pull_secrets = references::pull_secrets(&references, account.as_deref());
    let secret = |name: &str| context.stores.secrets.by_key(&key.sibling(name));
    let config_map = |name: &str| context.stores.config_maps.by_key(&key.sibling(name));
    let credentials = credentials::of(&pull_secrets, secret);
    let tokens_end = context
        .tokens
        .renew(&context.client, &revision, context.now())
        .await;
    let token =
        |projection: &ServiceAccountTokenProjection| context.tokens.get(&revision, projection, context.now());
    let observed = plan::Observed {
        pod_autoscaler: pod_autoscaler.as_deref(),
        surroundings: environment::surroundings(&revision, &secret, &config_map, &token),
        credentials,
        preparation: context
            .preparations
            .get(&key, revision.uid_str())
            .or_else(|| recall(&context, &key, &revision)),
        failure: context.health.failure(&key, revision.uid_str()),
        log_url: context.settings().observability.log_url(revision.uid_str()),
        progress_deadline: context
            .settings()
            .deployment
            .progress_deadline
            .unwrap_or(context.config.progress_deadline),
    };
    let plan = plan::plan(&revision, observed, context.now());
    let next = apply::apply(&context, &key, &revision, plan).await?;
    Ok(next.or_after(tokens_end))
}

/// What an earlier process left of a Revision that had become ready: its digest is on record then.
fn recall(context: &Context, key: &ObjectKey, revision: &Revision) -> Option<Preparation> {
    let images = spec::Images::pinned(revision)?;
    let named = spec::named_kind(revision);
    context
        .preparations
        .recall(key, revision.uid_str(), &images, named)
}
