//! Carries out a DomainMapping's plan.

use super::plan::Plan;
use crate::FIELD_MANAGER;
use crate::context::Context;
use crate::error::{Error, is_gone};
use crate::object::{Meta, ObjectKey, write_status};
use crate::runner::Next;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kittiwake_api::meta;
use kittiwake_api::networking::ClusterDomainClaim;
use kittiwake_api::networking::cluster_domain_claim::ClusterDomainClaimSpec;
use kittiwake_api::serving::DomainMapping;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use std::collections::BTreeMap;

/// Claims the name, writes the status, from which the routing table is made.
///
/// # Errors
/// When the API refuses one.
pub async fn apply(context: &Context, mapping: &DomainMapping, plan: Plan) -> Result<Next, Error> {
    if plan.claim {
        claim(context, mapping).await?;
    }
    if let Some(status) = plan.status {
        write_status(
            &context.client,
            &DomainMapping {
                status: Some(status),
                ..mapping.clone()
            },
        )
        .await?;
    }
    context.events.tell(mapping, plan.notices);
    Ok(Next::OnChange)
}

async fn claim(context: &Context, mapping: &DomainMapping) -> Result<(), Error> {
    let mark = BTreeMap::from([(meta::AUTOCREATED_ANNOTATION.to_owned(), "true".to_owned())]);
    let claim = ClusterDomainClaim {
        metadata: ObjectMeta {
            name: mapping.metadata.name.clone(),
            annotations: Some(mark),
            ..ObjectMeta::default()
        },
        spec: ClusterDomainClaimSpec {
            namespace: mapping.metadata.namespace.clone().unwrap_or_default(),
        },
    };
    let params = PostParams {
        dry_run: false,
        field_manager: Some(FIELD_MANAGER.to_owned()),
    };
    let api: Api<ClusterDomainClaim> = Api::all(context.client.clone());
    api.create(&params, &claim).await?;
    Ok(())
}

/// Gives back the claim of a mapping that is gone, when it was made for it.
///
/// # Errors
/// When the API refuses.
pub async fn give_back(
    context: &Context,
    key: &ObjectKey,
    claim: Option<&ClusterDomainClaim>,
) -> Result<Next, Error> {
    let made_for_it = |claim: &&ClusterDomainClaim| {
        claim.spec.namespace == *key.namespace
            && claim.annotation(meta::AUTOCREATED_ANNOTATION) == Some("true")
            && !claim.is_being_deleted()
    };
    let Some(claim) = claim.filter(made_for_it) else {
        return Ok(Next::OnChange);
    };
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: claim.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let api: Api<ClusterDomainClaim> = Api::all(context.client.clone());
    match api.delete(&key.name, &params).await {
        Err(error) if !is_gone(&error) => Err(error.into()),
        _ => Ok(Next::OnChange),
    }
}
