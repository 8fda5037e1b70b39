//! Channel: a channel of the kind that its template names (eventing `pkg/apis/messaging/v1/channel_*.go`).

use crate::admission::{FieldErrors, Request, immutable, json, metadata};
use crate::duck::{ChannelTemplate, DeadLetterStatus, DeliverySpec, KReference, Status, delivery};
use crate::serving::Addressable;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Annotation: the version of the subscribers' shape.
pub const SUBSCRIBABLE_ANNOTATION: &str = "messaging.knative.dev/subscribable";

/// What the user wants of a Channel.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "messaging.knative.dev",
    version = "v1",
    kind = "Channel",
    plural = "channels",
    singular = "channel",
    namespaced,
    status = "ChannelStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "all",
    category = "knative",
    category = "messaging",
    category = "channel",
    shortname = "ch",
    doc = "Channel holds events and hands each to all its Subscriptions.",
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".status.address.url"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ChannelSpec {
    /// The channel that stands behind it. Default: an InMemoryChannel. Never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_template: Option<ChannelTemplate>,
    /// Receivers. Filled in by the platform.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscribers: Vec<Subscriber>,
    /// How events are delivered to Subscriptions that say nothing about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliverySpec>,
}

/// One receiver of a channel, as its controller keeps it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subscriber {
    /// The uid of its Subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The generation of its Subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The Subscription's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where events go.
    #[serde(default, rename = "subscriberUri", skip_serializing_if = "Option::is_none")]
    pub subscriber_uri: Option<String>,
    /// Where replies go.
    #[serde(default, rename = "replyUri", skip_serializing_if = "Option::is_none")]
    pub reply_uri: Option<String>,
    /// How they are delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliverySpec>,
}

/// Where a Channel takes events, and what became of it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChannelStatus {
    /// What every status begins with.
    #[serde(flatten)]
    pub status: Status,
    /// Where it takes events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Addressable>,
    /// The channel that stands behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<KReference>,
    /// Receivers and whether they are served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscribers: Vec<SubscriberStatus>,
    /// Its dead letter sink.
    #[serde(flatten)]
    pub dead_letter: DeadLetterStatus,
}

/// Whether a receiver is served.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubscriberStatus {
    /// The uid of its Subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The generation that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// True, False or Unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Fills in the channel behind it (Knative's `default-ch-webhook`).
pub(crate) fn default(request: &Request<'_>, object: &mut Value) {
    let namespace = metadata::namespace(object).to_owned();
    default_subscribable(object);
    if let Some(spec) = json::fill(object, "spec") {
        json::remove_nulls(spec);
        default_template(spec);
        delivery::default(spec, &namespace);
    }
    metadata::set_user_info_of(super::GROUP, request, object);
}

/// Notes the version of the subscribers' shape.
pub(crate) fn default_subscribable(object: &mut Value) {
    if let Some(metadata) = json::fill(object, "metadata")
        && let Some(annotations) = json::fill(metadata, "annotations")
    {
        json::default(annotations, SUBSCRIBABLE_ANNOTATION, "v1");
    }
}

/// Fills in the default kind of channel.
pub(crate) fn default_template(spec: &mut Value) {
    json::default(
        spec,
        "channelTemplate",
        json!({"apiVersion": "messaging.knative.dev/v1", "kind": "InMemoryChannel"}),
    );
}

/// What is wrong with a Channel.
pub(crate) fn validate(request: &Request<'_>, object: &Value) -> FieldErrors {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let mut errors = validate_template(spec);
    if !json::items(spec, "subscribers").is_empty() {
        errors.also(FieldErrors::disallowed(&["subscribers"]).via("subscribable"));
    }
    errors.also(delivery::validate(spec, None));
    let mut errors = errors.via("spec");
    errors.also(immutable::spec_but(&["subscribers", "delivery"], request, object));
    errors
}

/// That the template of a channel names apiVersion and kind (`IsValidChannelTemplate`).
pub(crate) fn validate_template(spec: &Value) -> FieldErrors {
    let Some(template) = json::object(spec, "channelTemplate") else {
        return FieldErrors::missing(&["channelTemplate"]);
    };
    let mut errors = FieldErrors::none();
    for field in ["kind", "apiVersion"] {
        if json::text(template, field).is_empty() {
            errors.also(FieldErrors::missing(&[field]).via("channelTemplate"));
        }
    }
    errors
}
