//! Sequence: functions one after the other (eventing `pkg/apis/flows/v1/sequence_*.go`).

use crate::admission::{FieldErrors, Request, json, metadata};
use crate::duck::{ChannelTemplate, DeliverySpec, Destination, Status, any_objects, delivery, destination};
use crate::messaging::channel;
use crate::serving::Addressable;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the user wants: the steps.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "flows.knative.dev",
    version = "v1",
    kind = "Sequence",
    plural = "sequences",
    singular = "sequence",
    namespaced,
    status = "SequenceStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "all",
    category = "knative",
    category = "flows",
    doc = "Sequence hands each event to functions one after the other.",
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".status.address.url"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct SequenceSpec {
    /// The functions in order; each gets the answer of the one before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<SequenceStep>,
    /// The channels between the steps. Default: InMemoryChannels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_template: Option<ChannelTemplate>,
    /// Where the last answer goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Destination>,
}

/// One step.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SequenceStep {
    /// The function.
    #[serde(flatten)]
    pub destination: Destination,
    /// How events are delivered to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliverySpec>,
}

/// Where a Sequence takes events, and what became of it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SequenceStatus {
    /// What every status begins with.
    #[serde(flatten)]
    pub status: Status,
    /// Where it takes events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Addressable>,
    /// The Subscriptions that it made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "any_objects")]
    pub subscription_statuses: Vec<Value>,
    /// The Channels that it made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "any_objects")]
    pub channel_statuses: Vec<Value>,
}

/// Fills in channels and namespaces.
pub(crate) fn default(request: &Request<'_>, object: &mut Value) {
    let namespace = metadata::namespace(object).to_owned();
    if let Some(spec) = json::fill(object, "spec") {
        json::remove_nulls(spec);
        channel::default_template(spec);
        let steps = spec.get_mut("steps").and_then(Value::as_array_mut);
        for step in steps.into_iter().flatten() {
            if let Some(target) = step.get_mut("ref") {
                crate::duck::reference::default(target, &namespace);
            }
            delivery::default(step, &namespace);
        }
        destination::default(spec, "reply", &namespace);
    }
    metadata::set_user_info_of(super::GROUP, request, object);
}

/// What is wrong with a Sequence. Knative prints the whole step that is wrong; here the field in it is named.
pub(crate) fn validate(_request: &Request<'_>, object: &Value) -> FieldErrors {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let mut errors = FieldErrors::none();
    let steps = json::items(spec, "steps");
    if steps.is_empty() {
        errors.also(FieldErrors::missing(&["steps"]));
    }
    for (index, step) in steps.iter().enumerate() {
        let mut wrong = destination::validate(step, None);
        wrong.also(delivery::validate(step, None));
        errors.also(wrong.via_index("steps", index));
    }
    errors.also(channel::validate_template(spec));
    errors.also(destination::validate_optional(spec, "reply", None));
    errors.via("spec")
}
