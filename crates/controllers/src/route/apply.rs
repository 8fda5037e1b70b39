//! Carries out a Route's plan.

use super::plan::Plan;
use crate::context::Context;
use crate::error::Error;
use crate::object::write_status;
use crate::runner::Next;
use kittiwake_api::serving::Route;

/// Writes the status, from which the routing table is made.
///
/// # Errors
/// When the API refuses it.
pub async fn apply(context: &Context, route: &Route, plan: Plan) -> Result<Next, Error> {
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
