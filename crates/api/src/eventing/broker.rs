//! Broker: takes events, keeps them, and hands them to its Triggers (eventing `pkg/apis/eventing/v1/broker_*.go`).

use crate::admission::{FieldErrors, Request, immutable, json, metadata};
use crate::duck::{self, DeadLetterStatus, DeliverySpec, KReference, Status, delivery, reference};
use crate::serving::Addressable;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Annotation: who carries out a Broker. Never changes.
pub const CLASS_ANNOTATION: &str = "eventing.knative.dev/broker.class";
/// The class of a Broker that names none, as in Knative.
pub const CLASS_DEFAULT: &str = "MTChannelBasedBroker";

/// What the user wants of a Broker.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "eventing.knative.dev",
    version = "v1",
    kind = "Broker",
    plural = "brokers",
    singular = "broker",
    namespaced,
    status = "BrokerStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "all",
    category = "knative",
    category = "eventing",
    doc = "Broker collects events. A Trigger subscribes to the events of a Broker that match its filter.",
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".status.address.url"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct BrokerSpec {
    /// Settings of the Broker's class. Never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<KReference>,
    /// How events are delivered to Triggers that say nothing about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliverySpec>,
}

/// Where a Broker takes events, and what became of it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrokerStatus {
    /// What every status begins with.
    #[serde(flatten)]
    pub status: Status,
    /// Where it takes events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Addressable>,
    /// Its dead letter sink.
    #[serde(flatten)]
    pub dead_letter: DeadLetterStatus,
}

/// Fills in class and delivery (Knative's `config-br-defaults`). `spec.config` stays empty: this platform's Brokers have
/// no settings of their own.
pub(crate) fn default(request: &Request<'_>, object: &mut Value) {
    let namespace = metadata::namespace(object).to_owned();
    if let Some(metadata) = json::fill(object, "metadata")
        && let Some(annotations) = json::fill(metadata, "annotations")
    {
        json::default_unset(annotations, CLASS_ANNOTATION, CLASS_DEFAULT);
    }
    if let Some(spec) = json::fill(object, "spec") {
        json::remove_nulls(spec);
        json::default(
            spec,
            "delivery",
            json!({"backoffDelay": "PT0.2S", "backoffPolicy": "exponential", "retry": 10}),
        );
        if let Some(config) = spec.get_mut("config") {
            reference::default(config, &namespace);
        }
        delivery::default(spec, &namespace);
    }
    metadata::set_user_info_of(super::GROUP, request, object);
}

/// What is wrong with a Broker.
pub(crate) fn validate(request: &Request<'_>, object: &Value) -> FieldErrors {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let mut errors = FieldErrors::none();
    if let Some(config) = json::object(spec, "config") {
        errors.also(duck::reference::validate(config, None).via("config"));
    }
    errors.also(delivery::validate(spec, None));
    let mut errors = errors.via("spec");
    errors.also(immutable::spec_but(&["delivery"], request, object));
    errors.also(immutable::annotation(CLASS_ANNOTATION, request, object));
    errors
}
