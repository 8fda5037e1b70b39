//! Subscription: hands the events of a channel to a subscriber (eventing `pkg/apis/messaging/v1/subscription_*.go`).

use crate::admission::{FieldErrors, Request, immutable, json, metadata};
use crate::duck::{
    DeadLetterStatus, DeliverySpec, Destination, KReference, Status, delivery, destination, reference,
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the user wants: which channel's events go where.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "messaging.knative.dev",
    version = "v1",
    kind = "Subscription",
    plural = "subscriptions",
    singular = "subscription",
    namespaced,
    status = "SubscriptionStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "all",
    category = "knative",
    category = "messaging",
    shortname = "sub",
    doc = "Subscription hands the events of a Channel to a subscriber, and its answers to where reply says.",
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionSpec {
    /// The channel, in the same namespace. Never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<KReference>,
    /// Where events go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscriber: Option<Destination>,
    /// Where the subscriber's answers go. Dropped when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Destination>,
    /// How events are delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliverySpec>,
}

/// What became of a Subscription.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionStatus {
    /// What every status begins with.
    #[serde(flatten)]
    pub status: Status,
    /// Where it leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub physical_subscription: Option<PhysicalSubscription>,
}

/// The URLs of a Subscription.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PhysicalSubscription {
    /// The URL of the subscriber.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscriber_uri: Option<String>,
    /// The URL that answers go to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_uri: Option<String>,
    /// Its dead letter sink.
    #[serde(flatten)]
    pub dead_letter: DeadLetterStatus,
}

/// Fills in namespaces.
pub(crate) fn default(request: &Request<'_>, object: &mut Value) {
    let namespace = metadata::namespace(object).to_owned();
    if let Some(spec) = json::fill(object, "spec") {
        json::remove_nulls(spec);
        for field in ["subscriber", "reply"] {
            destination::default(spec, field, &namespace);
        }
        delivery::default(spec, &namespace);
    }
    metadata::set_user_info_of(super::GROUP, request, object);
}

/// What is wrong with a Subscription.
pub(crate) fn validate(request: &Request<'_>, object: &Value) -> FieldErrors {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let Some(channel) = json::object(spec, "channel").filter(|channel| !is_empty(channel)) else {
        let why = "the Subscription must reference a channel";
        return FieldErrors::detailed("missing field(s)", &["spec.channel"], why);
    };
    let namespace = metadata::namespace(object);
    let mut errors = reference::validate(channel, Some(namespace)).via("channel");
    let destinations = ["subscriber", "reply"].map(|field| (field, spec.get(field).unwrap_or(&Value::Null)));
    if destinations.iter().all(|(_, value)| destination::is_empty(value)) {
        errors.also(FieldErrors::detailed(
            "missing field(s)",
            &["reply", "subscriber"],
            "the Subscription must reference at least one of (reply or a subscriber)",
        ));
    }
    for (field, value) in destinations {
        if !destination::is_empty(value) {
            errors.also(destination::validate(value, None).via(field));
        }
    }
    errors.also(delivery::validate(spec, None));
    let mut errors = errors.via("spec");
    let mutable = ["subscriber", "reply", "delivery"];
    errors.also(immutable::spec_but(&mutable, request, object));
    errors
}

fn is_empty(channel: &Value) -> bool {
    ["kind", "namespace", "name", "apiVersion"]
        .iter()
        .all(|field| json::text(channel, field).is_empty())
}
