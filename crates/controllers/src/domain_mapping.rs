//! DomainMapping: a host name of the user's own for a Route (serving `pkg/reconciler/domainmapping`).

pub mod apply;
pub mod plan;

use crate::certificates;
use crate::context::Context;
use crate::error::{Error, is_gone};
use crate::object::{Meta, ObjectKey};
use crate::route::url::{CLUSTER_DOMAIN, Naming};
use crate::runner::Next;
use kittiwake_api::serving;
use kittiwake_api::serving::DomainMapping;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use std::sync::Arc;

/// Brings one DomainMapping a step forward; gives back the claim of one that is gone.
///
/// # Errors
/// When the API refuses; the key is then tried again.
pub async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Result<Next, Error> {
    let mapping = context.stores.domain_mappings.by_key(&key);
    let claim = context
        .stores
        .domain_claims
        .by_key(&ObjectKey::new("", Arc::clone(&key.name)));
    let Some(mapping) = mapping.filter(|mapping| !mapping.is_being_deleted()) else {
        return apply::give_back(&context, &key, claim.as_deref()).await;
    };
    let settings = context.settings();
    let target = resolve(&context, &key, &mapping).await?;
    let table = Arc::clone(&context.routing_table.borrow());
    let routed = table
        .lookup(&key.name)
        .filter(|entry| context.gateways.have(&key.name, entry));
    let secrets = [plan::secret(&mapping)];
    let observed = plan::Observed {
        claim: claim.as_deref(),
        target,
        routed: routed.map(|entry| &**entry),
        certificate: certificates::of_secrets(&context, &key, &secrets, &key.name),
        naming: Naming {
            config: &context.config,
            settings: &settings,
            kept_inside: &|_, _| false,
        },
    };
    let plan = plan::plan(&mapping, &observed, context.now());
    apply::apply(&context, &mapping, plan).await
}

/// The Route that the reference of a mapping leads to, or why there is none.
async fn resolve(
    context: &Context,
    key: &ObjectKey,
    mapping: &DomainMapping,
) -> Result<Result<String, String>, Error> {
    let reference = mapping.spec.reference.clone().unwrap_or_default();
    let (kind, name) = (
        reference.kind.unwrap_or_default(),
        reference.name.unwrap_or_default(),
    );
    let api_version = reference.api_version.unwrap_or_default();
    let target = key.sibling(name.as_str());
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let plural = format!("{}s", kind.to_ascii_lowercase());
    let not_found = || format!("failed to get object {target}: {plural}.{group} {name:?} not found");
    let url = match (group, kind.as_str()) {
        (serving::GROUP, "Service") => match context.stores.services.by_key(&target) {
            None => return Ok(Err(not_found())),
            Some(service) => service.status.as_ref().and_then(|s| s.address.clone()),
        }
        .and_then(|address| address.url),
        (serving::GROUP, "Route") => match context.stores.routes.by_key(&target) {
            None => return Ok(Err(not_found())),
            Some(route) => route.status.as_ref().and_then(|s| s.address.clone()),
        }
        .and_then(|address| address.url),
        _ => {
            let resource =
                ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, &kind), &plural);
            let api: Api<DynamicObject> =
                Api::namespaced_with(context.client.clone(), &key.namespace, &resource);
            match api.get(&name).await {
                Err(error) if is_gone(&error) => return Ok(Err(not_found())),
                Err(error) => return Err(error.into()),
                Ok(object) => object
                    .data
                    .pointer("/status/address/url")
                    .and_then(|url| url.as_str())
                    .map(str::to_owned),
            }
        }
    };
    Ok(match url {
        None => Err(format!("address not set for {kind}.{group} {target}")),
        Some(url) => plan::route_of_url(&url, &key.namespace),
    })
}

/// The host by which the function behind a mapping is known inside.
#[must_use]
pub fn target_host(route: &str, namespace: &str) -> String {
    format!("{route}.{namespace}.{CLUSTER_DOMAIN}")
}
