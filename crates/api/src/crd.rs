//! The CustomResourceDefinitions of every kind, made from the Rust types.

use crate::{autoscaling, eventing, flows, gatekeeper, messaging, networking, serving, sources};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use kube::core::crd::merge_crds;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// Labels of definitions by which clients find what a kind can do (`kn source list-types`, `kn channel list-types`).
const SOURCE: &[&str] = &["duck.knative.dev/source", "eventing.knative.dev/source"];
const BINDING: &[&str] = &[
    "duck.knative.dev/source",
    "eventing.knative.dev/source",
    "duck.knative.dev/binding",
    "bindings.knative.dev/kind",
];
const ADDRESSABLE: &[&str] = &["duck.knative.dev/addressable"];
const CHANNEL: &[&str] = &[
    "duck.knative.dev/addressable",
    "messaging.knative.dev/subscribable",
];

static ALL: LazyLock<Vec<CustomResourceDefinition>> = LazyLock::new(|| {
    let serving = "knative-serving";
    let eventing = "knative-eventing";
    let event_type = || {
        let versions = vec![
            eventing::EventType::crd(),
            eventing::event_type::v1beta3::EventType::crd(),
        ];
        merge_crds(versions, "v1beta2").unwrap_or_else(|_| eventing::EventType::crd())
    };
    [
        (serving, [].as_slice(), serving::Service::crd()),
        (serving, &[], serving::Configuration::crd()),
        (serving, &[], serving::Revision::crd()),
        (serving, ADDRESSABLE, serving::Route::crd()),
        (serving, ADDRESSABLE, serving::DomainMapping::crd()),
        (serving, &[], networking::ClusterDomainClaim::crd()),
        (serving, &[], networking::ServerlessService::crd()),
        (serving, &[], autoscaling::pod_autoscaler::PodAutoscaler::crd()),
        (
            serving,
            &[],
            autoscaling::user_pod_autoscaler::PodAutoscaler::crd(),
        ),
        (eventing, ADDRESSABLE, eventing::Broker::crd()),
        (eventing, &[], eventing::Trigger::crd()),
        (eventing, &[], event_type()),
        (eventing, CHANNEL, messaging::Channel::crd()),
        (eventing, CHANNEL, messaging::InMemoryChannel::crd()),
        (eventing, &[], messaging::Subscription::crd()),
        (eventing, ADDRESSABLE, flows::Sequence::crd()),
        (eventing, ADDRESSABLE, flows::Parallel::crd()),
        (
            eventing,
            SOURCE,
            also_served(sources::PingSource::crd(), &["v1beta2"]),
        ),
        (eventing, SOURCE, sources::ApiServerSource::crd()),
        (eventing, SOURCE, sources::ContainerSource::crd()),
        (eventing, BINDING, sources::SinkBinding::crd()),
        (
            "gatekeeper",
            &[],
            also_served(gatekeeper::ConstraintTemplate::crd(), &["v1beta1", "v1alpha1"]),
        ),
    ]
    .into_iter()
    .map(|(part, labels, crd)| finish(part, labels, crd))
    .collect()
});

/// The definition of every kind that is served, with printer columns, short names, categories, status subresource and
/// a structural schema. Made once.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    ALL.clone()
}

/// Adds older versions that have the same shape as the one that is stored.
fn also_served(mut crd: CustomResourceDefinition, versions: &[&str]) -> CustomResourceDefinition {
    let same = crd.spec.versions.first().cloned();
    crd.spec.versions.extend(versions.iter().filter_map(|name| {
        let mut version = same.clone()?;
        version.name = (*name).to_owned();
        version.storage = false;
        Some(version)
    }));
    crd
}

/// Gives a derived definition its labels and fits its schema to what admission wants to see.
fn finish(part: &str, labels_true: &[&str], mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let labels = crd.metadata.labels.get_or_insert_default();
    labels.insert("app.kubernetes.io/name".to_owned(), part.to_owned());
    if part == "gatekeeper" {
        labels.insert("gatekeeper.sh/system".to_owned(), "yes".to_owned());
    } else {
        labels.insert("knative.dev/crd-install".to_owned(), "true".to_owned());
    }
    for label in labels_true {
        labels.insert((*label).to_owned(), "true".to_owned());
    }
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
