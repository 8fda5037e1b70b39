//! Host names and URLs of a Route, by Knative's default templates: `{{.Name}}.{{.Namespace}}.{{.Domain}}` and
//! `{{.Tag}}-{{.Name}}` (networking `pkg/config/config.go`).

use crate::Config;
use crate::object::Meta;
use kittiwake_api::meta;
use kittiwake_api::serving::Route;

/// The domain inside the platform.
const CLUSTER_DOMAIN: &str = "svc.cluster.local";

/// Whether a Route is kept from the outside.
#[must_use]
pub fn is_cluster_local(route: &Route) -> bool {
    route.label(meta::VISIBILITY_LABEL) == Some(meta::VISIBILITY_CLUSTER_LOCAL)
}

/// First part of a host: `hello`, or `v1-hello` for a tag.
#[must_use]
pub fn host_label(route: &str, tag: Option<&str>) -> String {
    tag.map_or_else(|| route.to_owned(), |tag| format!("{tag}-{route}"))
}

/// Every host under which a Route, or a tag of it, is called: those inside the platform, and the outer one unless the
/// Route is kept from the outside.
#[must_use]
pub fn hosts(route: &Route, tag: Option<&str>, config: &Config) -> Vec<String> {
    let namespace = route.metadata.namespace.as_deref().unwrap_or_default();
    let label = host_label(route.name_str(), tag);
    let mut hosts = vec![
        format!("{label}.{namespace}.{CLUSTER_DOMAIN}"),
        format!("{label}.{namespace}.svc"),
        format!("{label}.{namespace}"),
    ];
    if !is_cluster_local(route) {
        hosts.push(format!(
            "{label}.{namespace}.{}",
            config.domain.to_ascii_lowercase()
        ));
    }
    hosts
}

/// Where a Route, or a tag of it, is called by users.
#[must_use]
pub fn url(route: &Route, tag: Option<&str>, config: &Config) -> String {
    if is_cluster_local(route) {
        return cluster_url(route, tag);
    }
    let namespace = route.metadata.namespace.as_deref().unwrap_or_default();
    let host = format!(
        "{}.{namespace}.{}",
        host_label(route.name_str(), tag),
        config.domain
    );
    match config.external_port {
        Some(port) => format!("http://{host}:{port}"),
        None => format!("http://{host}"),
    }
}

/// Where a Route, or a tag of it, is called from inside the platform.
#[must_use]
pub fn cluster_url(route: &Route, tag: Option<&str>) -> String {
    let namespace = route.metadata.namespace.as_deref().unwrap_or_default();
    format!(
        "http://{}.{namespace}.{CLUSTER_DOMAIN}",
        host_label(route.name_str(), tag)
    )
}
