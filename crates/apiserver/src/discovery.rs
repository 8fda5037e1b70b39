//! Discovery: which groups, versions and resources there are, in the aggregated and in the older form.

use crate::logs;
use crate::negotiation::DiscoveryForm;
use crate::registry::{Kind, Registry, STATUS_VERBS, Served};
use crate::status::ApiError;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A discovery document and its content type.
pub(crate) struct Document {
    pub value: Value,
    pub content_type: String,
}

impl Document {
    fn plain(value: Value) -> Self {
        Self {
            value,
            content_type: "application/json".into(),
        }
    }

    /// An entity tag that changes with the content.
    pub(crate) fn etag(&self) -> String {
        etag(self.value.to_string().as_bytes())
    }
}

/// A strong entity tag of some bytes, in quotes.
pub(crate) fn etag(bytes: &[u8]) -> String {
    format!("\"{}\"", digest(bytes))
}

/// SHA-256 of some bytes in hex, for entity tags and hashed URLs.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect()
}

/// `/api`.
pub(crate) fn core_versions(registry: &Registry, form: DiscoveryForm, address: &str) -> Document {
    match form {
        DiscoveryForm::Aggregated(version) => aggregated(registry, version, |group| group.is_empty()),
        DiscoveryForm::Legacy => Document::plain(json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        })),
    }
}

/// `/apis`.
pub(crate) fn groups(registry: &Registry, form: DiscoveryForm) -> Document {
    match form {
        DiscoveryForm::Aggregated(version) => aggregated(registry, version, |group| !group.is_empty()),
        DiscoveryForm::Legacy => {
            let groups = registry
                .groups()
                .into_iter()
                .filter(|(group, _)| !group.is_empty());
            let groups: Vec<Value> = groups
                .map(|(group, versions)| group_json(&group, &versions))
                .collect();
            Document::plain(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
    }
}

/// `/apis/{group}`.
pub(crate) fn group(registry: &Registry, name: &str) -> Result<Document, ApiError> {
    let groups = registry.groups();
    let (group, versions) = groups
        .iter()
        .find(|(group, _)| group == name && !group.is_empty())
        .ok_or_else(ApiError::page_not_found)?;
    let mut value = group_json(group, versions);
    if let Some(map) = value.as_object_mut() {
        map.insert("kind".into(), "APIGroup".into());
        map.insert("apiVersion".into(), "v1".into());
    }
    Ok(Document::plain(value))
}

/// `/api/v1` and `/apis/{group}/{version}`.
pub(crate) fn group_version(registry: &Registry, group: &str, version: &str) -> Result<Document, ApiError> {
    let mut resources = Vec::new();
    for served in registry.group_version(group, version) {
        let kind = &served.kind;
        resources.push(legacy_resource(kind));
        if logs::has_log(&kind.storage_resource) {
            resources.push(json!({
                "name": format!("{}/log", kind.plural), "singularName": "", "namespaced": kind.namespaced,
                "kind": kind.kind, "verbs": ["get"],
            }));
        }
        if kind.status {
            resources.push(json!({
                "name": format!("{}/status", kind.plural), "singularName": "", "namespaced": kind.namespaced,
                "kind": kind.kind, "verbs": STATUS_VERBS,
            }));
        }
    }
    if resources.is_empty() {
        return Err(ApiError::page_not_found());
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    Ok(Document::plain(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources,
    })))
}

fn legacy_resource(kind: &Kind) -> Value {
    let mut resource = json!({
        "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced,
        "kind": kind.kind, "verbs": kind.verbs,
    });
    insert_names(&mut resource, kind);
    resource
}

fn insert_names(resource: &mut Value, kind: &Kind) {
    let map = crate::object::map_mut(resource);
    for (key, names) in [
        ("shortNames", &kind.short_names),
        ("categories", &kind.categories),
    ] {
        if !names.is_empty() {
            map.insert(key.into(), names.iter().map(String::as_str).collect());
        }
    }
}

fn group_json(group: &str, versions: &[String]) -> Value {
    let version =
        |version: &String| json!({"groupVersion": format!("{group}/{version}"), "version": version});
    json!({
        "name": group,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(version),
    })
}

fn aggregated(registry: &Registry, version: &str, wanted: impl Fn(&str) -> bool) -> Document {
    let items: Vec<Value> = registry
        .groups()
        .iter()
        .filter(|(group, _)| wanted(group))
        .map(|(group, versions)| aggregated_group(registry, group, versions))
        .collect();
    Document {
        value: json!({
            "kind": "APIGroupDiscoveryList",
            "apiVersion": format!("apidiscovery.k8s.io/{version}"),
            "metadata": {},
            "items": items,
        }),
        // Without these parameters client-go reads the reply as the older form.
        content_type: format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"),
    }
}

fn aggregated_group(registry: &Registry, group: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| {
            let resources: Vec<Value> = registry
                .group_version(group, version)
                .map(|served| aggregated_resource(served, group))
                .collect();
            json!({"version": version, "resources": resources, "freshness": "Current"})
        })
        .collect();
    let metadata = if group.is_empty() {
        json!({})
    } else {
        json!({"name": group})
    };
    json!({"metadata": metadata, "versions": versions})
}

fn aggregated_resource(served: &Served, group: &str) -> Value {
    let kind = &served.kind;
    let response_kind = json!({"group": group, "version": served.version.name, "kind": kind.kind});
    let mut resource = json!({
        "resource": kind.plural,
        "responseKind": response_kind,
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": kind.verbs,
    });
    insert_names(&mut resource, kind);
    let part = |name: &str, verbs: &[&str]| json!({"subresource": name, "responseKind": response_kind, "verbs": verbs});
    let mut parts = Vec::new();
    if logs::has_log(&kind.storage_resource) {
        parts.push(part("log", &["get"]));
    }
    if kind.status {
        parts.push(part("status", STATUS_VERBS));
    }
    if !parts.is_empty() {
        crate::object::map_mut(&mut resource).insert("subresources".into(), parts.into());
    }
    resource
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        Registry::new(crate::builtin::kinds().unwrap(), &[]).unwrap()
    }

    #[test]
    fn the_aggregated_form_names_itself_in_the_content_type() {
        let document = core_versions(&registry(), DiscoveryForm::Aggregated("v2"), "");
        assert_eq!(
            document.content_type,
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        );
        let resources = &document.value["items"][0]["versions"][0]["resources"];
        assert_eq!(resources[0]["resource"], "configmaps");
        assert_eq!(document.value["items"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn the_older_form_lists_the_same_groups() {
        let registry = registry();
        let legacy = groups(&registry, DiscoveryForm::Legacy).value;
        assert_eq!(legacy["groups"][0]["name"], "apiextensions.k8s.io");
        assert_eq!(legacy["groups"][0]["preferredVersion"]["version"], "v1");
        let list = group_version(&registry, "", "v1").unwrap().value;
        let names: Vec<&str> = list["resources"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|r| r["name"].as_str())
            .collect();
        assert_eq!(
            names,
            [
                "configmaps",
                "endpoints",
                "events",
                "namespaces",
                "namespaces/status",
                "pods",
                "pods/log",
                "secrets",
                "serviceaccounts",
                "services",
                "services/status"
            ]
        );
        assert_eq!(group_version(&registry, "x", "v1").err().unwrap().code, 404);
        assert_eq!(group(&registry, "x").err().unwrap().code, 404);
    }
}
