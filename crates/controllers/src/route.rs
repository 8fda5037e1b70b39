//! Route: turns its traffic into Revisions and says where it is called (serving `pkg/reconciler/route`).

pub mod apply;
pub mod plan;
pub mod rollout;
pub mod tls;
pub mod url;

use crate::certificates;
use crate::context::Context;
use crate::error::Error;
use crate::object::{Meta, ObjectKey};
use crate::runner::Next;
use kittiwake_api::serving::Route;
use std::sync::Arc;

/// Brings one Route a step forward.
///
/// # Errors
/// When the API refuses; the key is then tried again.
pub async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Result<Next, Error> {
    let Some(route) = context
        .stores
        .routes
        .by_key(&key)
        .filter(|r| !r.is_being_deleted())
    else {
        return Ok(Next::OnChange);
    };
    let plan = planned(&context, &key, &route);
    apply::apply(&context, &route, plan).await
}

/// What is to be done now: looks everything up, and waits for nothing.
fn planned(context: &Context, key: &ObjectKey, route: &Route) -> plan::Plan {
    let configuration = |name: &str| context.stores.configurations.by_key(&key.sibling(name));
    let revision = |name: &str| context.stores.revisions.by_key(&key.sibling(name));
    let table = Arc::clone(&context.routing_table.borrow());
    let routed = |host: &str| {
        let entry = table.lookup(host)?;
        context.gateways.have(host, entry).then(|| Arc::clone(entry))
    };
    let settings = context.settings();
    let certificate = |host: &str, tag: Option<&str>| certificates::state(context, route, host, tag);
    let observed = plan::Observed {
        configuration: &configuration,
        revision: &revision,
        routed: &routed,
        certificate: &certificate,
        naming: url::Naming {
            config: &context.config,
            settings: &settings,
        },
    };
    plan::plan(route, &observed, context.now())
}
