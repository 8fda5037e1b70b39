//! Carries out a Configuration's plan.

use super::plan::Plan;
use crate::context::Context;
use crate::error::Error;
use crate::events::Notice;
use crate::object::{Meta, Write, write, write_status};
use crate::runner::Next;
use kittiwake_api::serving::Configuration;

/// Makes the Revision, then writes the status.
///
/// # Errors
/// When the API refuses one; what comes after it is left for the next run.
pub async fn apply(context: &Context, configuration: &Configuration, plan: Plan) -> Result<Next, Error> {
    if let Some(revision) = plan.create {
        let name = revision.name_str().to_owned();
        match write(&context.client, Write::Create(*revision)).await {
            Ok(_) => {
                let notice = Notice::normal("Created", format!("Created Revision {name:?}"));
                context.events.tell(configuration, vec![notice]);
            }
            // It is there but was not seen yet: the watch brings it and this key with it.
            Err(Error::Conflict) => return Err(Error::Conflict),
            Err(error) => {
                let notice = Notice::warning("CreationFailed", format!("Failed to create Revision: {error}"));
                context.events.tell(configuration, vec![notice]);
                return Err(error);
            }
        }
    }
    if let Some(status) = plan.status {
        write_status(
            &context.client,
            &Configuration {
                status: Some(status),
                ..configuration.clone()
            },
        )
        .await?;
    }
    context.events.tell(configuration, plan.notices);
    Ok(plan.next)
}
