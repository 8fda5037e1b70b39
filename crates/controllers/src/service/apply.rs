//! Carries out a Service's plan.

use super::plan::Plan;
use crate::context::Context;
use crate::error::Error;
use crate::events::Notice;
use crate::object::{Meta, Write, write, write_status};
use crate::runner::Next;
use kittiwake_api::serving::Service;

/// Writes the children, then the status.
///
/// # Errors
/// When the API refuses one; what comes after it is left for the next run.
pub async fn apply(context: &Context, service: &Service, plan: Plan) -> Result<Next, Error> {
    let creates = (created(&plan.configuration), created(&plan.route));
    let name = service.name_str();
    write(&context.client, plan.configuration).await?;
    if creates.0 {
        context.events.tell(
            service,
            vec![Notice::normal(
                "Created",
                format!("Created Configuration {name:?}"),
            )],
        );
    }
    write(&context.client, plan.route).await?;
    if creates.1 {
        context.events.tell(
            service,
            vec![Notice::normal("Created", format!("Created Route {name:?}"))],
        );
    }
    if let Some(status) = plan.status {
        write_status(
            &context.client,
            &Service {
                status: Some(status),
                ..service.clone()
            },
        )
        .await?;
    }
    context.events.tell(service, plan.notices);
    Ok(plan.next)
}

fn created<T>(write: &Write<T>) -> bool {
    matches!(write, Write::Create(_))
}
