//! Trigger: hands the events of a Broker that match a filter to a subscriber (eventing
//! `pkg/apis/eventing/v1/trigger_*.go`).

use super::filter;
use crate::admission::{FieldErrors, Request, immutable, json, metadata};
use crate::duck::{DeadLetterStatus, DeliverySpec, Destination, Status, any_objects, delivery, destination};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Label: the Broker of a Trigger.
pub const BROKER_LABEL: &str = "eventing.knative.dev/broker";
/// Annotation: an object that must be ready before the Trigger is, as the JSON of an ObjectReference.
pub const DEPENDENCY_ANNOTATION: &str = "knative.dev/dependency";
/// Annotation: whether the namespace's Broker `default` is made for the Trigger.
pub const INJECTION_ANNOTATION: &str = "eventing.knative.dev/injection";

/// What the user wants: which events go where.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "eventing.knative.dev",
    version = "v1",
    kind = "Trigger",
    plural = "triggers",
    singular = "trigger",
    namespaced,
    status = "TriggerStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "all",
    category = "knative",
    category = "eventing",
    doc = "Trigger subscribes to the events of a Broker that match its filter.",
    printcolumn = r#"{"name":"Broker","type":"string","jsonPath":".spec.broker"}"#,
    printcolumn = r#"{"name":"Subscriber_URI","type":"string","jsonPath":".status.subscriberUri"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct TriggerSpec {
    /// The Broker, in the same namespace. Never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<String>,
    /// Events that have these attributes. Not looked at when filters is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<TriggerFilter>,
    /// Events that match all of these; each holds one of exact, prefix, suffix, all, any, not, cesql.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "any_objects")]
    pub filters: Vec<Value>,
    /// Where matching events go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscriber: Option<Destination>,
    /// How they are delivered. The Broker's delivery counts only where this is not set at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliverySpec>,
}

/// A filter on attributes.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TriggerFilter {
    /// Attributes and the values that they must have, all of them; an empty value is any but an empty one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// What became of a Trigger.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TriggerStatus {
    /// What every status begins with.
    #[serde(flatten)]
    pub status: Status,
    /// The URL of the subscriber.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscriber_uri: Option<String>,
    /// PEM certificates of the authorities that the subscriber's certificate is checked against.
    #[serde(
        default,
        rename = "subscriberCACerts",
        skip_serializing_if = "Option::is_none"
    )]
    pub subscriber_ca_certs: Option<String>,
    /// The audience that tokens for the subscriber must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscriber_audience: Option<String>,
    /// Its dead letter sink.
    #[serde(flatten)]
    pub dead_letter: DeadLetterStatus,
}

/// Fills in an open filter, namespaces and the Broker's label.
pub(crate) fn default(request: &Request<'_>, object: &mut Value) {
    let namespace = metadata::namespace(object).to_owned();
    let mut broker = String::new();
    if let Some(spec) = json::fill(object, "spec") {
        json::remove_nulls(spec);
        json::default(spec, "filter", serde_json::json!({}));
        destination::default(spec, "subscriber", &namespace);
        delivery::default(spec, &namespace);
        broker = json::text(spec, "broker").to_owned();
    }
    if !broker.is_empty()
        && let Some(metadata) = json::fill(object, "metadata")
        && let Some(labels) = json::fill(metadata, "labels").and_then(Value::as_object_mut)
    {
        labels.insert(BROKER_LABEL.to_owned(), broker.into());
    }
    metadata::set_user_info_of(super::GROUP, request, object);
}

/// What is wrong with a Trigger.
pub(crate) fn validate(request: &Request<'_>, object: &Value) -> FieldErrors {
    let namespace = Some(metadata::namespace(object));
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let mut errors = FieldErrors::none();
    if json::text(spec, "broker").is_empty() {
        errors.also(FieldErrors::missing(&["broker"]));
    }
    if let Some(attributes) = json::object(spec, "filter").and_then(|filter| filter.get("attributes")) {
        errors.also(
            filter::attribute_names(attributes)
                .via("attributes")
                .via("filter"),
        );
    }
    errors.also(filter::validate_all(json::items(spec, "filters")).via("filters"));
    errors.also(destination::validate_required(spec, "subscriber", namespace));
    errors.also(delivery::validate(spec, namespace));
    let mut errors = errors.via("spec");
    errors.also(annotations(object, json::text(spec, "broker")));
    errors.also(immutable::fields(
        &["/spec/broker"],
        "spec.broker",
        request,
        object,
    ));
    errors
}

fn annotations(object: &Value, broker: &str) -> FieldErrors {
    let annotations = metadata::annotations(object);
    let mut errors = FieldErrors::none();
    if let Some(text) = annotations.get(DEPENDENCY_ANNOTATION) {
        errors.also(dependency(text, metadata::namespace(object)).via(DEPENDENCY_ANNOTATION));
    }
    if let Some(injection) = annotations.get(INJECTION_ANNOTATION) {
        let wrong = if injection != "enabled" && injection != "disabled" {
            format!(
                "The provided injection annotation value can only be \"enabled\" or \"disabled\", not {injection:?}"
            )
        } else if broker != "default" {
            format!(
                "The provided injection annotation is only used for default broker, but non-default broker specified here: {broker:?}"
            )
        } else {
            String::new()
        };
        if !wrong.is_empty() {
            errors.also(FieldErrors::generic(wrong, &[INJECTION_ANNOTATION]));
        }
    }
    errors.via("metadata.annotations")
}

/// That a dependency is the JSON of a reference to an object of the Trigger's namespace.
fn dependency(text: &str, namespace: &str) -> FieldErrors {
    let reference: Value = match serde_json::from_str(text) {
        Ok(reference @ Value::Object(_)) => reference,
        Ok(_) => return not_a_reference(text, "it is no object"),
        Err(error) => return not_a_reference(text, &error.to_string()),
    };
    let mut errors = FieldErrors::none();
    let given = json::text(&reference, "namespace");
    if !given.is_empty() && given != namespace {
        let message = format!("Namespace must be empty or equal to the trigger namespace {namespace:?}");
        errors.also(FieldErrors::generic(message, &["namespace"]));
    }
    for field in ["kind", "name", "apiVersion"] {
        if json::text(&reference, field).is_empty() {
            errors.also(FieldErrors::missing(&[field]));
        }
    }
    errors
}

fn not_a_reference(text: &str, why: &str) -> FieldErrors {
    let message = format!("The provided annotation was not a corev1.ObjectReference: {text:?}");
    FieldErrors::detailed(message, &[""], why)
}
