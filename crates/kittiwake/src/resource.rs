//! Kinds as people name them (`ksvc`, `rev`, `services.serving.knative.dev`), resolved by asking the server.

use crate::client::Connection;
use anyhow::bail;
use http::Method;
use serde_json::Value;

/// A kind that the server serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Name in paths, for example `services`.
    pub plural: String,
    /// For example `service`.
    pub singular: String,
    /// For example `Service`.
    pub kind: String,
    /// Short names, for example `ksvc`.
    pub short_names: Vec<String>,
    /// Categories, for example `knative`.
    pub categories: Vec<String>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

impl Resource {
    /// The path of its collection; `namespace` is left out where the kind has none, `None` means all namespaces.
    #[must_use]
    pub fn collection(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        match namespace {
            Some(namespace) if self.namespaced => format!("{root}/namespaces/{namespace}/{}", self.plural),
            _ => format!("{root}/{}", self.plural),
        }
    }

    /// The path of one object.
    #[must_use]
    pub fn object(&self, namespace: &str, name: &str) -> String {
        format!("{}/{name}", self.collection(Some(namespace)))
    }

    /// How kubectl names an object: `service.serving.knative.dev/hello`, `configmap/x`.
    #[must_use]
    pub fn display(&self, name: &str) -> String {
        if self.group.is_empty() {
            format!("{}/{name}", self.singular)
        } else {
            format!("{}.{}/{name}", self.singular, self.group)
        }
    }

    fn is_called(&self, name: &str) -> bool {
        let lower = name.to_lowercase();
        let (word, group) = lower
            .split_once('.')
            .map_or((lower.as_str(), None), |(word, group)| (word, Some(group)));
        let word_fits = word == self.plural
            || word == self.singular
            || word == self.kind.to_lowercase()
            || self.short_names.iter().any(|short| short == word);
        word_fits
            && group.is_none_or(|group| {
                group == self.group || group == format!("{}.{}", self.version, self.group)
            })
    }
}

/// Every kind of a server.
#[derive(Debug, Clone, Default)]
pub struct Resources(Vec<Resource>);

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

impl Resources {
    /// Asks the server (aggregated discovery, Kubernetes 1.30 and newer).
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn discover(connection: &Connection) -> anyhow::Result<Self> {
        let mut all = Vec::new();
        for path in ["/api", "/apis"] {
            let answer = connection
                .json(Method::GET, path, "application/json", AGGREGATED, Vec::new())
                .await?;
            all.extend(parse(&answer.value));
        }
        Ok(Self(all))
    }

    /// The kinds that `name` means: a plural, singular, kind or short name, optionally with `.group`, or a category.
    ///
    /// # Errors
    /// When there is none, in kubectl's words.
    pub fn find(&self, name: &str) -> anyhow::Result<Vec<&Resource>> {
        let mut called = self
            .0
            .iter()
            .filter(|resource| resource.is_called(name))
            .peekable();
        if let Some(first) = called.peek().copied() {
            // A Service without a group is Knative's here: Kubernetes' own does nothing that this program shows.
            let knative = called.find(|resource| resource.group == "serving.knative.dev");
            return Ok(vec![knative.unwrap_or(first)]);
        }
        let category: Vec<_> = self
            .0
            .iter()
            .filter(|resource| resource.categories.iter().any(|c| c == name))
            .collect();
        if category.is_empty() {
            bail!("the server doesn't have a resource type \"{name}\"");
        }
        Ok(category)
    }

    /// The kind of a manifest.
    ///
    /// # Errors
    /// When the server does not serve it, in kubectl's words.
    pub fn of(&self, api_version: &str, kind: &str) -> anyhow::Result<&Resource> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        match self
            .0
            .iter()
            .find(|r| r.group == group && r.version == version && r.kind == kind)
        {
            Some(resource) => Ok(resource),
            None => bail!(
                "no matches for kind \"{kind}\" in version \"{api_version}\": this server does not serve it"
            ),
        }
    }
}

/// Reads an APIGroupDiscoveryList.
fn parse(list: &Value) -> Vec<Resource> {
    let text = |value: &Value, field: &str| {
        value
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let texts = |value: &Value, field: &str| -> Vec<String> {
        let items = value
            .get(field)
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        items
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let array = |value: &Value, field: &str| {
        value
            .get(field)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let mut resources = Vec::new();
    for group in array(list, "items") {
        let group_name = group
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        for version in array(&group, "versions") {
            for resource in array(&version, "resources") {
                let kind = resource
                    .pointer("/responseKind/kind")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned();
                let singular = text(&resource, "singularResource");
                resources.push(Resource {
                    group: group_name.clone(),
                    version: text(&version, "version"),
                    plural: text(&resource, "resource"),
                    singular: if singular.is_empty() {
                        kind.to_lowercase()
                    } else {
                        singular
                    },
                    kind,
                    short_names: texts(&resource, "shortNames"),
                    categories: texts(&resource, "categories"),
                    namespaced: text(&resource, "scope") == "Namespaced",
                });
            }
        }
    }
    resources
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn resources() -> Resources {
        Resources(parse(&json!({"items": [
            {"metadata": {"name": "serving.knative.dev"}, "versions": [{"version": "v1", "resources": [
                {"resource": "services", "responseKind": {"kind": "Service"}, "scope": "Namespaced",
                 "singularResource": "service", "shortNames": ["ksvc", "kservice"], "categories": ["all", "knative"]},
                {"resource": "routes", "responseKind": {"kind": "Route"}, "scope": "Namespaced", "categories": ["knative"]}]}]},
            {"metadata": {}, "versions": [{"version": "v1", "resources": [
                {"resource": "namespaces", "responseKind": {"kind": "Namespace"}, "scope": "Cluster", "shortNames": ["ns"]}]}]}
        ]})))
    }

    #[test]
    fn kinds_have_many_names() {
        let resources = resources();
        for name in [
            "ksvc",
            "Service",
            "services",
            "service.serving.knative.dev",
            "services.v1.serving.knative.dev",
        ] {
            assert_eq!(resources.find(name).unwrap()[0].kind, "Service", "{name}");
        }
        assert_eq!(resources.find("knative").unwrap().len(), 2);
        assert!(
            resources
                .find("pods")
                .unwrap_err()
                .to_string()
                .contains("\"pods\"")
        );
        assert!(resources.of("serving.knative.dev/v2", "Service").is_err());
    }

    #[test]
    fn paths_follow_scope() {
        let resources = resources();
        let service = resources.of("serving.knative.dev/v1", "Service").unwrap();
        assert_eq!(
            service.object("shop", "a"),
            "/apis/serving.knative.dev/v1/namespaces/shop/services/a"
        );
        assert_eq!(service.collection(None), "/apis/serving.knative.dev/v1/services");
        assert_eq!(service.display("a"), "service.serving.knative.dev/a");
        let namespace = resources.of("v1", "Namespace").unwrap();
        assert_eq!(namespace.object("ignored", "a"), "/api/v1/namespaces/a");
    }
}
