//! Parallel: functions side by side, each behind a filter (eventing `pkg/apis/flows/v1/parallel_*.go`).

use crate::admission::{FieldErrors, Request, json, metadata};
use crate::duck::{ChannelTemplate, DeliverySpec, Destination, Status, any_objects, delivery, destination};
use crate::messaging::channel;
use crate::serving::Addressable;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the user wants: the branches.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "flows.knative.dev",
    version = "v1",
    kind = "Parallel",
    plural = "parallels",
    singular = "parallel",
    namespaced,
    status = "ParallelStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "all",
    category = "knative",
    category = "flows",
    doc = "Parallel hands each event to functions side by side.",
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".status.address.url"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ParallelSpec {
    /// The functions; each gets every event that its filter lets through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<ParallelBranch>,
    /// The channels before the branches. Default: InMemoryChannels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_template: Option<ChannelTemplate>,
    /// Where answers go of branches that say nothing about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Destination>,
}

/// One branch.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParallelBranch {
    /// A function that answers with the event, or with nothing to keep it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Destination>,
    /// The function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscriber: Option<Destination>,
    /// Where its answers go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Destination>,
    /// How events are delivered to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliverySpec>,
}

/// Where a Parallel takes events, and what became of it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParallelStatus {
    /// What every status begins with.
    #[serde(flatten)]
    pub status: Status,
    /// Where it takes events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Addressable>,
    /// The Channel that it made for what comes in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::duck::any_object")]
    pub ingress_channel_status: Option<Value>,
    /// The Channels and Subscriptions of each branch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "any_objects")]
    pub branch_statuses: Vec<Value>,
}

/// Fields of a branch that are destinations.
const DESTINATIONS: [&str; 3] = ["filter", "subscriber", "reply"];

/// Fills in channels and namespaces.
pub(crate) fn default(request: &Request<'_>, object: &mut Value) {
    let namespace = metadata::namespace(object).to_owned();
    if let Some(spec) = json::fill(object, "spec") {
        json::remove_nulls(spec);
        channel::default_template(spec);
        let branches = spec.get_mut("branches").and_then(Value::as_array_mut);
        for branch in branches.into_iter().flatten() {
            for field in DESTINATIONS {
                destination::default(branch, field, &namespace);
            }
            delivery::default(branch, &namespace);
        }
        destination::default(spec, "reply", &namespace);
    }
    metadata::set_user_info_of(super::GROUP, request, object);
}

/// What is wrong with a Parallel. Knative prints the whole branch that is wrong; here the field in it is named.
pub(crate) fn validate(_request: &Request<'_>, object: &Value) -> FieldErrors {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let mut errors = FieldErrors::none();
    let branches = json::items(spec, "branches");
    if branches.is_empty() {
        errors.also(FieldErrors::missing(&["branches"]));
    }
    for (index, branch) in branches.iter().enumerate() {
        let mut wrong = destination::validate_optional(branch, "filter", None);
        wrong.also(destination::validate_required(branch, "subscriber", None));
        wrong.also(destination::validate_optional(branch, "reply", None));
        wrong.also(delivery::validate(branch, None));
        errors.also(wrong.via_index("branches", index));
    }
    errors.also(channel::validate_template(spec));
    errors.also(destination::validate_optional(spec, "reply", None));
    errors.via("spec")
}
