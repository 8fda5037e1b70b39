//! Carries out a Revision's plan.

use super::plan::Plan;
use super::spec;
use crate::context::{Context, Servable};
use crate::error::Error;
use crate::object::{Meta, ObjectKey, write_status};
use crate::runner::Next;
use kittiwake_api::serving::Revision;

/// Starts the preparation, offers the Revision to the routing table, writes the status.
///
/// # Errors
/// When the API refuses the status.
pub async fn apply(
    context: &Context,
    key: &ObjectKey,
    revision: &Revision,
    plan: Plan,
) -> Result<Next, Error> {
    if let Some(request) = plan.prepare {
        context.preparations.start(key, revision.uid_str(), *request);
    }
    // Only an artifact whose digest is on record is served: after a restart it must be found without the network.
    if let Some(status) = plan.status {
        write_status(
            &context.client,
            &Revision {
                status: Some(status),
                ..revision.clone()
            },
        )
        .await?;
    }
    context.set_servable(key, plan.serve);
    context.events.tell(revision, plan.notices);
    Ok(plan.next)
}

/// Forgets a Revision that is gone. A Revision of the same name that came after it is not harmed: it has another uid,
/// and its own reconcile begins anew.
pub fn forget(context: &Context, key: &ObjectKey) {
    context.preparations.forget(key);
    context.health.forget(key);
    context.tokens.forget(key);
    context.set_servable(key, Servable::Undecided);
    context.logs.forget(&spec::key_for_data_plane(key));
    context.routing_changed.notify_one();
}
