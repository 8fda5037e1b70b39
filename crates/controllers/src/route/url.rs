//! Host names and URLs of a Route (serving `pkg/reconciler/route/domains`, networking `pkg/config`).

use crate::Config;
use crate::object::{Map, Meta};
use kittiwake_api::config::Settings;
use kittiwake_api::meta;
use kittiwake_api::serving::Route;
use kittiwake_core::routing_table::Visibility;

/// The domain inside the platform.
pub use kittiwake_core::inside::CLUSTER_DOMAIN;

/// What hosts and URLs are made of.
#[derive(Clone, Copy)]
pub struct Naming<'a> {
    /// What the platform was started with.
    pub config: &'a Config,
    /// What administrators set since.
    pub settings: &'a Settings,
    /// Whether a Route's own name, or that of a tag, is kept from the outside by itself: its placeholder has the label.
    pub kept_inside: &'a (dyn Fn(&Route, Option<&str>) -> bool + Sync),
}

impl<'a> Naming<'a> {
    /// The domain of a Route's outer hosts.
    fn domain(&self, route: &Route) -> &'a str {
        let nothing = Map::new();
        let labels = route.metadata.labels.as_ref().unwrap_or(&nothing);
        self.settings.domains.find(labels).unwrap_or(&self.config.domain)
    }

    /// Whether a Route, or a tag of it, is kept from the outside: by the Route's label, because its domain is the inner
    /// one, or by the label of that name's placeholder.
    #[must_use]
    pub fn is_cluster_local(&self, route: &Route, tag: Option<&str>) -> bool {
        route.label(meta::VISIBILITY_LABEL) == Some(meta::VISIBILITY_CLUSTER_LOCAL)
            || self.domain(route) == CLUSTER_DOMAIN
            || (self.kept_inside)(route, tag)
    }

    /// First part of a host: `hello`, or `v1-hello` for a tag.
    #[must_use]
    pub fn label(&self, route: &Route, tag: Option<&str>) -> String {
        match tag {
            Some(tag) => self.settings.network.tag_name(route.name_str(), tag),
            None => route.name_str().to_owned(),
        }
    }

    /// The host outside, as users see it. `None` for one that is kept from the outside.
    #[must_use]
    pub fn external_host(&self, route: &Route, tag: Option<&str>) -> Option<String> {
        if self.is_cluster_local(route, tag) {
            return None;
        }
        let nothing = Map::new();
        Some(self.settings.network.host(
            &self.label(route, tag),
            route.metadata.namespace.as_deref().unwrap_or_default(),
            self.domain(route),
            route.metadata.labels.as_ref().unwrap_or(&nothing),
            route.metadata.annotations.as_ref().unwrap_or(&nothing),
        ))
    }

    /// Every host under which a Route, or a tag of it, is called: those inside the platform, and the outer one unless
    /// it is kept from the outside.
    #[must_use]
    pub fn hosts(&self, route: &Route, tag: Option<&str>) -> Vec<(String, Visibility)> {
        let namespace = route.metadata.namespace.as_deref().unwrap_or_default();
        let label = self.label(route, tag);
        let mut hosts: Vec<_> = [CLUSTER_DOMAIN, "svc", ""]
            .map(|domain| {
                let dot = if domain.is_empty() { "" } else { "." };
                (
                    format!("{label}.{namespace}{dot}{domain}").to_ascii_lowercase(),
                    Visibility::ClusterLocal,
                )
            })
            .into();
        if let Some(host) = self.external_host(route, tag).filter(|host| is_host(host)) {
            hosts.push((host.to_ascii_lowercase(), Visibility::External));
        }
        hosts
    }

    /// Where a Route, or a tag of it, is called by users; `https`: whether it has a certificate.
    #[must_use]
    pub fn url(&self, route: &Route, tag: Option<&str>, https: bool) -> String {
        match self.external_host(route, tag) {
            Some(host) => self.external_url(&host, https),
            None => self.cluster_url(route, tag),
        }
    }

    /// The URL of a host outside.
    #[must_use]
    pub fn external_url(&self, host: &str, https: bool) -> String {
        if https {
            return match self.config.https_external_port {
                None | Some(443) => format!("https://{host}"),
                Some(port) => format!("https://{host}:{port}"),
            };
        }
        // Whoever says that something in front speaks TLS also has it listen on TLS's own port.
        if self.settings.network.default_external_scheme != "http" {
            return format!("{}://{host}", self.settings.network.default_external_scheme);
        }
        match self.config.external_port {
            Some(port) => format!("http://{host}:{port}"),
            None => format!("http://{host}"),
        }
    }

    /// Where a Route, or a tag of it, is called from inside the platform.
    #[must_use]
    pub fn cluster_url(&self, route: &Route, tag: Option<&str>) -> String {
        let namespace = route.metadata.namespace.as_deref().unwrap_or_default();
        format!("http://{}.{namespace}.{CLUSTER_DOMAIN}", self.label(route, tag))
    }
}

/// Whether a Route's status says that its own name, or that of a tag, is for those inside: what the processes that only
/// answer calls go by.
#[must_use]
pub fn said_inside(route: &Route, tag: Option<&str>) -> bool {
    let Some(status) = &route.status else {
        return false;
    };
    let url = match tag {
        None => status.url.as_deref(),
        Some(tag) => status
            .traffic
            .iter()
            .find(|target| target.tag.as_deref() == Some(tag))
            .and_then(|target| target.url.as_deref()),
    };
    let namespace = route.metadata.namespace.as_deref().unwrap_or_default();
    url.and_then(|url| url.strip_prefix("http://")?.strip_suffix(CLUSTER_DOMAIN))
        .and_then(|host| host.strip_suffix('.')?.split_once('.'))
        .is_some_and(|(_, rest)| rest == namespace)
}

/// Whether a text can be a host: labels of letters, digits and hyphens, each of at most 63 bytes, 253 in all.
#[must_use]
pub fn is_host(text: &str) -> bool {
    let good = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(good)
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn route(labels: Value) -> Route {
        serde_json::from_value(json!({
            "apiVersion": "serving.knative.dev/v1", "kind": "Route",
            "metadata": {"name": "hello", "namespace": "ns", "labels": labels}, "spec": {},
        }))
        .unwrap()
    }

    fn settings(maps: &[(&str, &str, &str)]) -> Settings {
        let mut settings = Settings::default();
        for (map, key, value) in maps {
            let data = Map::from([((*key).to_owned(), (*value).to_owned())]);
            settings.set(map, Some(&data)).unwrap();
        }
        settings
    }

    #[test]
    fn urls_follow_the_settings() {
        let plain = Config {
            external_port: Some(8080),
            ..Config::default()
        };
        let with_tls = Config {
            https_external_port: Some(8443),
            ..plain.clone()
        };
        for (config, maps, labels, tag, https, wanted) in [
            (
                &plain,
                &[][..],
                json!({}),
                None,
                false,
                "http://hello.ns.localhost:8080",
            ),
            (
                &plain,
                &[],
                json!({}),
                Some("v1"),
                false,
                "http://v1-hello.ns.localhost:8080",
            ),
            (
                &with_tls,
                &[],
                json!({}),
                None,
                true,
                "https://hello.ns.localhost:8443",
            ),
            (
                &plain,
                &[("config-domain", "example.com", "")],
                json!({}),
                None,
                false,
                "http://hello.ns.example.com:8080",
            ),
            (
                &plain,
                &[("config-domain", "app.com", "selector: {app: a}")],
                json!({"app": "a"}),
                None,
                false,
                "http://hello.ns.app.com:8080",
            ),
            (
                &plain,
                &[("config-domain", "app.com", "selector: {app: a}")],
                json!({"app": "b"}),
                None,
                false,
                "http://hello.ns.localhost:8080",
            ),
            (
                &plain,
                &[(
                    "config-network",
                    "domain-template",
                    "{{.Name}}-{{.Namespace}}.{{.Domain}}",
                )],
                json!({}),
                Some("t"),
                false,
                "http://t-hello-ns.localhost:8080",
            ),
            (
                &plain,
                &[("config-network", "default-external-scheme", "https")],
                json!({}),
                None,
                false,
                "https://hello.ns.localhost",
            ),
            (
                &plain,
                &[("config-network", "tag-template", "{{.Name}}-{{.Tag}}")],
                json!({"networking.knative.dev/visibility": "cluster-local"}),
                Some("t"),
                false,
                "http://hello-t.ns.svc.cluster.local",
            ),
            (
                &plain,
                &[("config-domain", "svc.cluster.local", "")],
                json!({}),
                None,
                false,
                "http://hello.ns.svc.cluster.local",
            ),
        ] {
            let naming = Naming {
                config,
                settings: &settings(maps),
                kept_inside: &|_, _| false,
            };
            assert_eq!(naming.url(&route(labels), tag, https), wanted);
        }
    }

    #[test]
    fn local_hosts_are_for_those_inside() {
        let (config, settings) = (Config::default(), Settings::default());
        let naming = Naming {
            config: &config,
            settings: &settings,
            kept_inside: &|_, tag| tag == Some("shy"),
        };
        let hosts = naming.hosts(&route(json!({})), None);
        assert_eq!(hosts.len(), 4);
        for (host, visibility) in hosts {
            assert_eq!(
                visibility == Visibility::External,
                host == "hello.ns.localhost",
                "{host}"
            );
        }
        let local = json!({"networking.knative.dev/visibility": "cluster-local"});
        assert_eq!(naming.hosts(&route(local), None).len(), 3);
        assert_eq!(naming.hosts(&route(json!({})), Some("shy")).len(), 3);
        assert_eq!(
            naming.url(&route(json!({})), Some("shy"), false),
            "http://shy-hello.ns.svc.cluster.local"
        );
    }

    #[test]
    fn a_status_says_which_names_stay_inside() {
        let mut route = route(json!({}));
        assert!(!said_inside(&route, None));
        for (url, inside) in [
            ("http://hello.ns.svc.cluster.local", true),
            ("http://hello.ns.localhost:8080", false),
            ("https://hello.ns.example.com", false),
            ("http://hello.ns.mine.svc.cluster.local", false),
            ("http://hello.other.svc.cluster.local", false),
        ] {
            route.status = serde_json::from_value(json!({
                "url": url, "traffic": [{"percent": 1}, {"tag": "t", "url": url}],
            }))
            .unwrap();
            assert_eq!(said_inside(&route, None), inside, "{url}");
            assert_eq!(said_inside(&route, Some("t")), inside, "{url}");
            assert!(!said_inside(&route, Some("other")));
        }
    }
}
