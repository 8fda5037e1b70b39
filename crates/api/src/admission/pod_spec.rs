//! The pod's spec within a Revision's: which of its fields may be set, and what is filled in (serving
//! `pkg/apis/serving/{fieldmask,k8s_validation}.go`).

use super::container::{self, Role};
use super::{FieldErrors, Operation, Request, json, syntax, volume};
use crate::config::features::{self, Features};
use crate::names::child_name;
use serde_json::Value;
use std::collections::BTreeSet;

/// What may be set. Knative also has `runtimeClassName` behind a flag that is off by default; here it is on, because
/// it is how a manifest says that its image is Wasm.
const ALLOWED: [&str; 12] = [
    "automountServiceAccountToken",
    "containerConcurrency",
    "containers",
    "enableServiceLinks",
    "idleTimeoutSeconds",
    "imagePullSecrets",
    "responseStartTimeoutSeconds",
    "runtimeClassName",
    "serviceAccountName",
    "timeoutSeconds",
    "volumes",
    // Named by its own message below.
    "initContainers",
];

/// The port of a serving container that names none.
const PORT_NAME: &str = "http";

/// Fills in names, probes, resources and mounts.
pub fn default(request: &Request<'_>, spec: &mut Value, parent: &Value) {
    let defaults = &request.settings.defaults;
    if let Some(links) = defaults
        .enable_service_links
        .filter(|_| request.operation == Operation::Create)
    {
        json::default(spec, "enableServiceLinks", links);
    }
    let writable = volume::writable_names(spec);
    container::write_quantities_as_text(spec);
    let Some(containers) = spec.get_mut("containers").and_then(Value::as_array_mut) else {
        return;
    };
    let owned = |key: &str| {
        let texts = json::texts(parent, key);
        texts
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    };
    let name = defaults.container_name(
        json::text(parent, "name"),
        json::text(parent, "generateName"),
        json::text(parent, "namespace"),
        &owned("labels"),
        &owned("annotations"),
    );
    name_containers(containers, &name);
    let alone = containers.len() == 1;
    for item in containers.iter_mut().filter(|item| item.is_object()) {
        container::default(item, alone, &writable, &defaults.resources);
    }
}

/// Names those without a name: by `wanted`, with a number when there are several.
fn name_containers(containers: &mut [Value], wanted: &str) {
    let mut taken: BTreeSet<String> = containers
        .iter()
        .map(|item| json::text(item, "name").to_owned())
        .collect();
    let several = containers.len() > 1;
    let mut number = 0;
    for item in containers.iter_mut().filter(|item| item.is_object()) {
        if item.get("name").is_some_and(json::is_set) {
            continue;
        }
        let mut name = wanted.to_owned();
        while several && (name == wanted || taken.contains(&name)) {
            name = child_name(wanted, &format!("-{number}"));
            number += 1;
        }
        taken.insert(name.clone());
        json::default_unset(item, "name", name);
    }
}

/// What is wrong with it.
pub fn validate(features: &Features, spec: &Value) -> FieldErrors {
    let mut errors = disallowed(features, spec);
    let containers = json::items(spec, "containers");
    errors.also(volume::validate(features, spec, containers));
    errors.also(ports(containers));
    if containers.is_empty() {
        errors.also(FieldErrors::missing(&["containers"]));
    }
    if containers.len() > 1 && !features.has(features::MULTI_CONTAINER) {
        let message = format!(
            "multi-container is off, but found {} containers",
            containers.len()
        );
        errors.also(FieldErrors::generic(message, &["containers"]));
    }
    let port_name = containers
        .iter()
        .flat_map(|item| json::items(item, "ports"))
        .map(|port| json::text(port, "name"))
        .find(|name| !name.is_empty())
        .unwrap_or(PORT_NAME);
    let volumes = volume::by_name(spec);
    let mut names = BTreeSet::new();
    for (index, item) in containers.iter().enumerate() {
        let name = json::text(item, "name");
        let mut wrong = FieldErrors::none();
        if !names.insert(name) && !name.is_empty() {
            wrong.also(FieldErrors::generic(
                format!("duplicate container name {name:?}"),
                &["name"],
            ));
        }
        let serves = containers.len() == 1 || !json::items(item, "ports").is_empty();
        let role = if serves {
            Role::Serving { port_name }
        } else {
            Role::Sidecar
        };
        wrong.also(container::validate(features, item, role, &volumes));
        errors.also(wrong.via_index("containers", index));
    }
    let account = json::text(spec, "serviceAccountName");
    if !account.is_empty() {
        for why in syntax::dns_1123_subdomain(account) {
            errors.also(FieldErrors::invalid_because(account, "serviceAccountName", why));
        }
    }
    errors
}

fn disallowed(features: &Features, spec: &Value) -> FieldErrors {
    let allowed: Vec<&str> = ALLOWED.into_iter().chain(features.pod_fields()).collect();
    let mut fields = json::set_beyond(spec, &allowed);
    // Only `false` may be said.
    if spec.get("automountServiceAccountToken") == Some(&Value::Bool(true)) {
        fields.push("automountServiceAccountToken");
    }
    let mut errors = FieldErrors::none();
    let init_containers = json::items(spec, "initContainers").len();
    if init_containers > 0 {
        let message = if features.has(features::INIT_CONTAINERS) {
            format!(
                "found {init_containers} init containers, which a WebAssembly function has no use for: it has no file system that outlives a call"
            )
        } else {
            format!(
                "pod spec support for init-containers is off, but found {init_containers} init containers"
            )
        };
        errors.also(FieldErrors::generic(message, &["initContainers"]));
    }
    if !fields.is_empty() {
        errors.also(FieldErrors::disallowed(&fields));
    }
    errors
}

/// There is one port over all containers: that of the one that serves.
fn ports(containers: &[Value]) -> FieldErrors {
    let errors = match containers
        .iter()
        .map(|item| json::items(item, "ports").len())
        .sum::<usize>()
    {
        0 if containers.len() > 1 => FieldErrors::missing(&["ports"]),
        0 | 1 => FieldErrors::none(),
        _ => FieldErrors::detailed(
            "more than one container port is set",
            &["ports"],
            "Only a single port is allowed across all containers",
        ),
    };
    errors.via("containers[*]")
}
