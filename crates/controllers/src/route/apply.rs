//! Carries out a Route's plan.

use super::plan::Plan;
use crate::context::Context;
use crate::error::{Error, is_gone};
use crate::object::{Meta, ObjectKey, write, write_status};
use crate::runner::Next;
use k8s_openapi::api::core::v1::Service;
use kittiwake_api::serving::Route;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};

/// Writes the placeholders, and the status, from which the routing table is made.
///
/// # Errors
/// When the API refuses it.
pub async fn apply(context: &Context, route: &Route, plan: Plan) -> Result<Next, Error> {
    for placeholder in plan.placeholders.writes {
        write(&context.client, placeholder).await?;
    }
    for orphan in plan.placeholders.remove {
        remove(context, &orphan).await?;
    }
    if let Some(status) = plan.status {
        write_status(
            &context.client,
            &Route {
                status: Some(status),
                ..route.clone()
            },
        )
        .await?;
    }
    context.events.tell(route, plan.notices);
    Ok(plan.next)
}

async fn remove(context: &Context, service: &Service) -> Result<(), Error> {
    let key = ObjectKey::of(service);
    let api: Api<Service> = Api::namespaced(context.client.clone(), &key.namespace);
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: service.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(service.name_str(), &params).await {
        Err(error) if !is_gone(&error) => Err(error.into()),
        _ => Ok(()),
    }
}
