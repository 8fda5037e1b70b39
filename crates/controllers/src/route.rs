//! Route: turns its traffic into Revisions and says where it is called (serving `pkg/reconciler/route`).

pub mod apply;
pub mod placeholder;
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
use std::collections::BTreeSet;
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
        context.index().route_services.set(&key, BTreeSet::new());
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
    let kept_inside = |route: &Route, tag: Option<&str>| context.keeps_inside(&settings, route, tag);
    let naming = url::Naming {
        config: &context.config,
        settings: &settings,
        kept_inside: &kept_inside,
    };
    let names = placeholder::names(route, naming);
    let wanted = names.iter().map(|name| key.sibling(name.as_str())).collect();
    let labelled = {
        let mut index = context.index();
        index.route_services.set(key, wanted);
        index.service_route.to(key)
    };
    let service = |name: &str| context.stores.kubernetes_services.by_key(&key.sibling(name));
    let labelled: Vec<_> = labelled
        .iter()
        .filter_map(|service| context.stores.kubernetes_services.by_key(service))
        .collect();
    let certificate = |host: &str, tag: Option<&str>| certificates::state(context, route, host, tag);
    let observed = plan::Observed {
        configuration: &configuration,
        revision: &revision,
        routed: &routed,
        certificate: &certificate,
        placeholders: placeholder::Observed {
            service: &service,
            labelled: &labelled,
        },
        naming,
    };
    plan::plan(route, &observed, context.now())
}
