//! The CustomResourceDefinitions of every kind, made from the Rust types.

use crate::{autoscaling, serving};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

static ALL: LazyLock<Vec<CustomResourceDefinition>> = LazyLock::new(|| {
    [
        serving::Service::crd(),
        serving::Configuration::crd(),
        serving::Revision::crd(),
        serving::Route::crd(),
        autoscaling::pod_autoscaler::PodAutoscaler::crd(),
        autoscaling::user_pod_autoscaler::PodAutoscaler::crd(),
    ]
    .into_iter()
    .map(finish)
    .collect()
});

/// The definition of every kind that is served, with printer columns, short names, categories, status subresource and
/// a structural schema. Made once.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    ALL.clone()
}

/// Gives a derived definition its labels and fits its schema to what admission wants to see.
fn finish(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let labels = crd.metadata.labels.get_or_insert_default();
    labels.insert("app.kubernetes.io/name".to_owned(), "knative-serving".to_owned());
    labels.insert("knative.dev/crd-install".to_owned(), "true".to_owned());
    for version in &mut crd.spec.versions {
        let Some(validation) = &mut version.schema else {
            continue;
        };
        let Some(props) = &mut validation.open_api_v3_schema else {
            continue;
        };
        // Through JSON, where a schema can be walked without naming each of its forty keywords.
        let Ok(mut schema) = serde_json::to_value(&*props) else {
            continue;
        };
        fit(&mut schema);
        if let Ok(fitted) = serde_json::from_value(schema) {
            *props = fitted;
        }
    }
    crd
}

/// Fields of a pod's spec whose inside is never looked at, because admission refuses them or passes them through.
/// Their schemas would be two thirds of the whole.
const OPAQUE_POD_FIELDS: [&str; 16] = [
    "affinity",
    "dnsConfig",
    "ephemeralContainers",
    "hostAliases",
    "initContainers",
    "nodeSelector",
    "os",
    "overhead",
    "readinessGates",
    "resourceClaims",
    "resources",
    "schedulingGates",
    "securityContext",
    "tolerations",
    "topologySpreadConstraints",
    "workloadRef",
];

/// Fields of a container that admission refuses whatever they hold.
const OPAQUE_CONTAINER_FIELDS: [&str; 3] = ["lifecycle", "volumeDevices", "resizePolicy"];

/// Fields of a volume that may be set; admission refuses the others whatever they hold.
const TRANSPARENT_VOLUME_FIELDS: [&str; 5] = ["name", "secret", "configMap", "projected", "emptyDir"];

fn fit(root: &mut Value) {
    remove_defaults(root);
    for pointer in ["/properties/spec", "/properties/spec/properties/template"] {
        if let Some(schema) = root.pointer_mut(pointer) {
            fit_pod_spec(schema.pointer_mut("/properties/spec"));
            if let Some(metadata) = schema.pointer_mut("/properties/metadata") {
                *metadata = template_metadata();
            }
        }
    }
    fit_pod_spec(root.pointer_mut("/properties/spec"));
    if let Some(object) = root.as_object_mut() {
        // An object without spec is admission's to refuse or to complete.
        object.remove("required");
    }
}

fn fit_pod_spec(spec: Option<&mut Value>) {
    let Some(spec) = spec else { return };
    // What is missing is named by admission, in Knative's words.
    strip(spec);
    let Some(properties) = spec.pointer_mut("/properties").and_then(Value::as_object_mut) else {
        return;
    };
    make_opaque(properties, &OPAQUE_POD_FIELDS);
    if let Some(container) = properties
        .get_mut("containers")
        .and_then(|containers| containers.pointer_mut("/items/properties"))
        .and_then(Value::as_object_mut)
    {
        make_opaque(container, &OPAQUE_CONTAINER_FIELDS);
    }
    if let Some(volume) = properties
        .get_mut("volumes")
        .and_then(|volumes| volumes.pointer_mut("/items/properties"))
        .and_then(Value::as_object_mut)
    {
        let sources: Vec<String> = volume
            .keys()
            .filter(|field| !TRANSPARENT_VOLUME_FIELDS.contains(&field.as_str()))
            .cloned()
            .collect();
        make_opaque(volume, &sources.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// Removes `required`, and list types with them: keys of a list map must be required, and in Knative's CRDs the lists
/// of a pod's spec are atomic.
fn strip(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    object.remove("required");
    object.retain(|keyword, _| {
        !keyword.starts_with("x-kubernetes-list-") && keyword != "x-kubernetes-map-type"
    });
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(strip);
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(keyword) {
            strip(inner);
        }
    }
}

/// Removes `default`: what is left out is filled in by admission, not by the schema.
fn remove_defaults(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    object.remove("default");
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(remove_defaults);
    }
    for keyword in ["items", "additionalProperties"] {
        object.get_mut(keyword).into_iter().for_each(remove_defaults);
    }
}

fn make_opaque(properties: &mut Map<String, Value>, names: &[&str]) {
    for name in names {
        let Some(schema) = properties.get_mut(*name).and_then(Value::as_object_mut) else {
            continue;
        };
        schema.retain(|keyword, _| keyword == "description" || keyword == "type");
        if schema.get("type").and_then(Value::as_str) == Some("array") {
            schema.insert(
                "items".to_owned(),
                json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
            );
        } else {
            schema.insert(
                "x-kubernetes-preserve-unknown-fields".to_owned(),
                Value::Bool(true),
            );
        }
    }
}

/// Metadata of a template as in Knative's CRDs: these fields, and whatever clients leave there beside them (`kn`
/// sends `creationTimestamp: null`).
fn template_metadata() -> Value {
    let text = json!({"type": "string"});
    let map = json!({"type": "object", "additionalProperties": text});
    json!({
        "description": "Labels and annotations of the Revision, and, when the user wants to choose it, its name (<configuration>-<something>). Autoscaling annotations belong here.",
        "type": "object",
        "nullable": true,
        "properties": {
            "annotations": map,
            "labels": map,
            "finalizers": {"type": "array", "items": text},
            "name": text,
            "namespace": text,
        },
        "x-kubernetes-preserve-unknown-fields": true,
    })
}
