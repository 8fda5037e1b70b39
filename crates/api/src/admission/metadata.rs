//! Rules for names, labels and annotations (serving `pkg/apis/serving/metadata_validation.go`, knative/pkg
//! `apis/metadata_validation.go`).

use super::{FieldErrors, Request, json, syntax};
use crate::autoscaling::annotations::{self, Annotations};
use crate::config::Autoscaler;
use crate::config::network::HTTP_PROTOCOLS;
use crate::duration::GoDuration;
use crate::meta;
use crate::quantity::Quantity;
use kittiwake_core::outbound::Outbound;
use serde_json::Value;

/// Annotations under `networking.knative.dev/` that may be set (networking `pkg/apis/networking`).
const NETWORKING_ANNOTATIONS: [&str; 9] = [
    "networking.knative.dev/ingress-class",
    "networking.knative.dev/ingress.class",
    "networking.knative.dev/certificate-class",
    "networking.knative.dev/certificate.class",
    "networking.knative.dev/disable-auto-tls",
    "networking.knative.dev/disableAutoTLS",
    "networking.knative.dev/disable-external-domain-tls",
    "networking.knative.dev/http-protocol",
    "networking.knative.dev/httpOption",
];

/// Annotations for Knative's sidecar that hold a quantity.
const SIDECAR_QUANTITIES: [&str; 6] = [
    "queue.sidecar.serving.knative.dev/cpu-resource-request",
    "queue.sidecar.serving.knative.dev/cpu-resource-limit",
    "queue.sidecar.serving.knative.dev/memory-resource-request",
    "queue.sidecar.serving.knative.dev/memory-resource-limit",
    "queue.sidecar.serving.knative.dev/ephemeral-storage-resource-request",
    "queue.sidecar.serving.knative.dev/ephemeral-storage-resource-limit",
];

/// The share of the container that Knative's sidecar gets, in both spellings.
const SIDECAR_PERCENTAGES: [&str; 2] = [
    "queue.sidecar.serving.knative.dev/resource-percentage",
    "queue.sidecar.serving.knative.dev/resourcePercentage",
];

/// The annotations of something that has metadata.
pub fn annotations(object: &Value) -> Annotations {
    object
        .get("metadata")
        .map(|metadata| owned(metadata, "annotations"))
        .unwrap_or_default()
}

fn owned(metadata: &Value, key: &str) -> Annotations {
    json::texts(metadata, key)
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// The object's name, and labels and annotations that are no text.
pub fn object(object: &Value) -> FieldErrors {
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    let mut errors = name(metadata);
    errors.also(texts(metadata));
    errors.via("metadata")
}

fn name(metadata: &Value) -> FieldErrors {
    let (name, generate_name) = (json::text(metadata, "name"), json::text(metadata, "generateName"));
    if name.is_empty() && generate_name.is_empty() {
        return FieldErrors::generic("name or generateName is required", &["name"]);
    }
    let wrong = if generate_name.is_empty() {
        Vec::new()
    } else {
        syntax::dns_1035_prefix(generate_name)
    };
    if !wrong.is_empty() {
        let message = format!("not a DNS 1035 label prefix: {}", syntax::list(&wrong));
        return FieldErrors::generic(message, &["generateName"]);
    }
    let wrong = if name.is_empty() {
        Vec::new()
    } else {
        syntax::dns_1035_label(name)
    };
    if wrong.is_empty() {
        return FieldErrors::none();
    }
    FieldErrors::generic(
        format!("not a DNS 1035 label: {}", syntax::list(&wrong)),
        &["name"],
    )
}

/// Labels and annotations whose value is no text, the usual slip of an unquoted number in YAML.
pub fn texts(metadata: &Value) -> FieldErrors {
    let mut errors = FieldErrors::none();
    for field in ["labels", "annotations"] {
        for (key, value) in metadata
            .get(field)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            if !value.is_string() {
                let why = "must be a string; put it in quotes";
                errors.also(FieldErrors::invalid_because(value, key, why).via(field));
            }
        }
    }
    errors
}

/// What belongs on the template but stands on the Service, Configuration or Route itself.
pub fn not_on_template(object: &Value) -> FieldErrors {
    let mut errors = FieldErrors::none();
    for key in annotations(object).keys() {
        let what = if annotations::is_autoscaling(key) {
            "autoscaling"
        } else if key == meta::ISOLATION_ANNOTATION {
            "isolation"
        } else if key == meta::KIND_ANNOTATION {
            "kind"
        } else if key == meta::OUTBOUND_ANNOTATION {
            "outbound"
        } else {
            continue;
        };
        let why =
            format!("{what} annotations must be put under \"spec.template.metadata.annotations\" to work");
        errors.also(FieldErrors::invalid_key(key, "metadata.annotations", why));
    }
    errors
}

/// Annotations of a template or a Revision. Paths begin with the annotation's name.
pub fn template_annotations(annotations: &Annotations, autoscaler: &Autoscaler) -> FieldErrors {
    let mut errors = annotations::validate(annotations, autoscaler);
    errors.also(whole_seconds(
        annotations,
        &[meta::PROGRESS_DEADLINE_ANNOTATION],
        "progress-deadline",
    ));
    errors.also(sidecar(annotations));
    for (key, words) in [
        (meta::ISOLATION_ANNOTATION, &meta::ISOLATION_VALUES[..]),
        (meta::KIND_ANNOTATION, &meta::KIND_VALUES[..]),
    ] {
        if let Some(value) = annotations.get(key)
            && !words.contains(&value.as_str())
        {
            let why = format!("must be one of: {}", words.join(", "));
            errors.also(FieldErrors::invalid_because(value, key, why));
        }
    }
    if let Some(value) = annotations.get(meta::OUTBOUND_ANNOTATION)
        && let Err(error) = value.parse::<Outbound>()
    {
        let why = error.to_string();
        errors.also(FieldErrors::invalid_because(
            value,
            meta::OUTBOUND_ANNOTATION,
            why,
        ));
    }
    errors
}

/// Annotations under `networking.knative.dev/` that mean nothing.
pub fn networking_annotations(annotations: &Annotations) -> FieldErrors {
    let mut errors = FieldErrors::none();
    for key in annotations
        .keys()
        .filter(|key| key.starts_with("networking.knative.dev"))
    {
        if !NETWORKING_ANNOTATIONS.contains(&key.as_str()) {
            errors.also(FieldErrors::invalid_key(key, "", ""));
        }
    }
    errors
}

/// What is done with HTTP without TLS. Knative finds out when it makes an Ingress; nobody would see that here.
pub fn http_protocol(object: &Value) -> FieldErrors {
    let annotations = annotations(object);
    let said = meta::HTTP_PROTOCOL_ANNOTATIONS
        .iter()
        .find_map(|key| annotations.get(*key).map(|value| (*key, value)));
    let Some((key, value)) = said.filter(|(_, value)| !value.is_empty()) else {
        return FieldErrors::none();
    };
    if HTTP_PROTOCOLS
        .iter()
        .any(|(word, _)| word.eq_ignore_ascii_case(value))
    {
        return FieldErrors::none();
    }
    let words: Vec<&str> = HTTP_PROTOCOLS.iter().map(|(word, _)| *word).collect();
    let why = format!("must be one of: {}", words.join(", "));
    FieldErrors::invalid_because(value, key, why).via("metadata.annotations")
}

/// Rules of a Service and a Route alone: how fast traffic moves, and who can see it.
pub fn routing(object: &Value) -> FieldErrors {
    let keys = [
        meta::ROLLOUT_DURATION_ANNOTATION,
        meta::ROLLOUT_DURATION_ANNOTATION_CAMEL,
    ];
    let mut errors =
        whole_seconds(&annotations(object), &keys, "rollout-duration").via("metadata.annotations");
    errors.also(http_protocol(object));
    let label = object
        .pointer("/metadata/labels")
        .map(|labels| json::text(labels, meta::VISIBILITY_LABEL));
    if let Some(visibility) = label.filter(|v| !v.is_empty() && *v != meta::VISIBILITY_CLUSTER_LOCAL) {
        let why = format!("must be {}", meta::VISIBILITY_CLUSTER_LOCAL);
        errors.also(
            FieldErrors::invalid_because(visibility, meta::VISIBILITY_LABEL, why).via("metadata.labels"),
        );
    }
    errors
}

fn whole_seconds(annotations: &Annotations, keys: &[&str], short_name: &str) -> FieldErrors {
    let found = keys
        .iter()
        .find_map(|key| annotations.get(*key).map(|value| (*key, value)));
    let Some((key, value)) = found.filter(|(_, value)| !value.is_empty()) else {
        return FieldErrors::none();
    };
    match value.parse::<GoDuration>() {
        Err(_) => FieldErrors::invalid(value, key),
        Ok(duration) if !duration.is_whole_seconds() => {
            FieldErrors::generic(format!("{short_name}={value} is not at second precision"), &[key])
        }
        Ok(duration) if duration.is_negative() => {
            FieldErrors::generic(format!("{short_name}={value} must be positive"), &[key])
        }
        Ok(_) => FieldErrors::none(),
    }
}

/// Kittiwake has no sidecar, so these do nothing; they are still held to Knative's rules.
fn sidecar(annotations: &Annotations) -> FieldErrors {
    let mut errors = FieldErrors::none();
    for key in SIDECAR_QUANTITIES {
        if let Some(value) = annotations
            .get(key)
            .filter(|value| value.parse::<Quantity>().is_err())
        {
            errors.also(FieldErrors::invalid(value, "").via(&format!("[{key}]")));
        }
    }
    let percentage = SIDECAR_PERCENTAGES
        .iter()
        .find_map(|key| annotations.get(*key).map(|value| (key, value)));
    if let Some((key, value)) = percentage {
        let wrong = match value.parse::<f64>() {
            Err(_) => FieldErrors::invalid(value, ""),
            Ok(percent) if (0.1..=100.0).contains(&percent) => FieldErrors::none(),
            Ok(percent) => FieldErrors::out_of_bounds(percent, 0.1, 100, ""),
        };
        errors.also(wrong.via(&format!("[{key}]")));
    }
    errors
}

/// Warnings for the client about an object that was admitted.
pub fn warnings(object: &Value) -> Vec<String> {
    let template = object
        .pointer("/spec/template")
        .map(annotations)
        .unwrap_or_default();
    let deprecated = SIDECAR_PERCENTAGES
        .iter()
        .filter(|key| template.contains_key(**key));
    deprecated
        .map(|key| {
            format!("Queue proxy resource percentage annotation is deprecated. Please use the available annotations to explicitly set resource values per service: spec.template.metadata.annotations[{key}]")
        })
        .collect()
}

/// Whether something owns the object: its owner, not the caller, is answerable for it.
pub fn is_owned(object: &Value) -> bool {
    object
        .get("metadata")
        .is_some_and(|metadata| !json::items(metadata, "ownerReferences").is_empty())
}

/// The namespace of an object, empty where it has none.
pub fn namespace(object: &Value) -> &str {
    object
        .get("metadata")
        .map(|metadata| json::text(metadata, "namespace"))
        .unwrap_or_default()
}

/// Notes who made an object of group `serving.knative.dev` and who changed its spec last (`SetUserInfo`).
pub fn set_user_info(request: &Request<'_>, object: &mut Value) {
    set_user_info_of(crate::serving::GROUP, request, object);
}

/// The same for any of Knative's groups, which is the prefix of the annotations.
pub fn set_user_info_of(group: &str, request: &Request<'_>, object: &mut Value) {
    if request.user.is_empty() {
        return;
    }
    let keys: &[&str] = match request.replaced() {
        None => &["creator", "lastModifier"],
        Some(old) if old.get("spec") == object.get("spec") => return,
        Some(_) => &["lastModifier"],
    };
    let annotations = json::fill(object, "metadata").and_then(|metadata| json::fill(metadata, "annotations"));
    let Some(annotations) = annotations.and_then(Value::as_object_mut) else {
        return;
    };
    for key in keys {
        annotations.insert(format!("{group}/{key}"), Value::from(request.user));
    }
}

/// That nobody changes who made the object, nor who changed it last while changing nothing
/// (`ValidateCreatorAndModifier`).
pub fn creator_and_modifier(request: &Request<'_>, object: &Value) -> FieldErrors {
    let Some(old) = request.replaced() else {
        return FieldErrors::none();
    };
    let (before, after) = (annotations(old), annotations(object));
    let mut errors = FieldErrors::none();
    let changed = |key: &str| before.get(key) != after.get(key);
    if changed(meta::CREATOR_ANNOTATION) {
        errors.also(FieldErrors::generic(
            "annotation value is immutable",
            &[meta::CREATOR_ANNOTATION],
        ));
    }
    if old.get("spec") == object.get("spec") && changed(meta::LAST_MODIFIER_ANNOTATION) {
        let value = after
            .get(meta::LAST_MODIFIER_ANNOTATION)
            .map(String::as_str)
            .unwrap_or_default();
        errors.also(FieldErrors::invalid(value, meta::LAST_MODIFIER_ANNOTATION));
    }
    errors.via("metadata.annotations")
}

/// That a label which names an owner is true (`verifyLabelOwnerRef`).
pub fn owner_label(object: &Value, label: &str, owner_kind: &str) -> FieldErrors {
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    let Some(owner) = metadata
        .get("labels")
        .and_then(|labels| labels.get(label))
        .and_then(Value::as_str)
    else {
        return FieldErrors::none();
    };
    let owns = |r: &Value| json::text(r, "kind") == owner_kind && json::text(r, "name") == owner;
    if json::items(metadata, "ownerReferences").iter().any(owns) {
        return FieldErrors::none();
    }
    FieldErrors::missing(&[label]).via("metadata.labels")
}
