//! Placeholder Services: one Kubernetes Service for each name under which a Route is called inside, so that nothing
//! else takes the name. A user may keep such a name inside with the visibility label on its Service alone (serving
//! `pkg/reconciler/route/{reconcile_resources.go,resources/service.go,visibility/visibility.go}`).

use super::url::{CLUSTER_DOMAIN, Naming, is_host};
use crate::events::Notice;
use crate::object::{Meta, Write, child_meta, is_controlled_by};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kittiwake_api::config::NAMESPACE;
use kittiwake_api::meta;
use kittiwake_api::serving::Route;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The gateway's name inside, where every placeholder points: Knative has the host of its Ingress there.
pub const INTERNAL_GATEWAY: &str = "kittiwake-internal";
/// The port of every placeholder, and its name, which says that HTTP/2 is spoken as well.
const PORT: i32 = 80;
const PORT_NAME: &str = "http2";

/// What becomes of a Route's placeholders.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Placeholders {
    /// Those that are missing, or do not point to the gateway.
    pub writes: Vec<Write<Service>>,
    /// Those of tags that are gone.
    pub remove: Vec<Arc<Service>>,
    /// What to tell once they are written.
    pub notices: Vec<Notice>,
}

/// What there is of Kubernetes Services.
#[derive(Clone, Copy)]
pub struct Observed<'a> {
    /// A Service of the Route's namespace.
    pub service: &'a dyn Fn(&str) -> Option<Arc<Service>>,
    /// Those that carry the Route's name in their label.
    pub labelled: &'a [Arc<Service>],
}

/// Whether a placeholder keeps its name of the Route inside.
#[must_use]
pub fn keeps_inside(route: &Route, placeholder: Option<&Service>) -> bool {
    placeholder.is_some_and(|service| {
        service.label(meta::ROUTE_LABEL) == Some(route.name_str())
            && service.label(meta::VISIBILITY_LABEL) == Some(meta::VISIBILITY_CLUSTER_LOCAL)
    })
}

/// The names that placeholders hold for a Route: its own and those of its tags. One that is too long for a name has
/// none; the Route says so in its condition.
#[must_use]
pub fn names(route: &Route, naming: Naming<'_>) -> BTreeSet<String> {
    let tags = route.spec.traffic.iter().filter_map(|target| {
        let tag = target.tag.as_deref();
        tag.filter(|tag| !tag.is_empty())
    });
    std::iter::once(None)
        .chain(tags.map(Some))
        .map(|tag| naming.label(route, tag))
        .filter(|name| is_host(name))
        .collect()
}

/// Decides what becomes of a Route's placeholders.
///
/// # Errors
/// The name that a Service has which is not the Route's. Nothing is written then.
pub fn plan(route: &Route, observed: Observed<'_>, naming: Naming<'_>) -> Result<Placeholders, String> {
    let mut plan = Placeholders::default();
    let names = names(route, naming);
    for name in &names {
        let desired = desired(route, name);
        let Some(service) = (observed.service)(name).filter(|service| !service.is_being_deleted()) else {
            let message = format!("Created placeholder service {name:?}");
            plan.notices.push(Notice::normal("Created", message));
            plan.writes.push(Write::Create(desired));
            continue;
        };
        if !is_controlled_by(&*service, route) {
            return Err(name.clone());
        }
        // Labels and annotations are the user's from here on; where it points is not.
        if service.spec != desired.spec {
            plan.writes.push(Write::Replace(Service {
                spec: desired.spec,
                ..(*service).clone()
            }));
        }
    }
    let is_orphan = |service: &&Arc<Service>| {
        !names.contains(service.name_str())
            && is_controlled_by(&***service, route)
            && !service.is_being_deleted()
    };
    plan.remove = observed.labelled.iter().filter(is_orphan).cloned().collect();
    Ok(plan)
}

/// The placeholder of a name as it is made. The Route's visibility is left to the Route: on a placeholder it is the
/// user's word about that one name.
fn desired(route: &Route, name: &str) -> Service {
    let mut labels = route.metadata.labels.clone().unwrap_or_default();
    labels.remove(meta::VISIBILITY_LABEL);
    labels.insert(meta::ROUTE_LABEL.to_owned(), route.name_str().to_owned());
    let annotations = route.metadata.annotations.clone().unwrap_or_default();
    Service {
        metadata: child_meta(route, name.to_owned(), labels, annotations),
        // With what the API would fill in, so that what is stored is what is wished.
        spec: Some(ServiceSpec {
            type_: Some("ExternalName".to_owned()),
            external_name: Some(format!("{INTERNAL_GATEWAY}.{NAMESPACE}.{CLUSTER_DOMAIN}")),
            session_affinity: Some("None".to_owned()),
            ports: Some(vec![ServicePort {
                name: Some(PORT_NAME.to_owned()),
                port: PORT,
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::Int(PORT)),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

#[cfg(test)]
#[path = "placeholder_tests.rs"]
mod tests;
