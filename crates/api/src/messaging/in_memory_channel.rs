//! InMemoryChannel: a channel that the platform itself carries out (eventing
//! `pkg/apis/messaging/v1/in_memory_channel_*.go`).

use super::channel::{self, Subscriber, SubscriberStatus};
use crate::admission::{FieldErrors, Request, json, metadata};
use crate::duck::{DeadLetterStatus, DeliverySpec, Status, delivery};
use crate::serving::Addressable;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Annotation: whether a sender is answered before its event was handed on.
pub const ASYNC_HANDLER_ANNOTATION: &str = "messaging.knative.dev/async-handler";
/// Annotation: `namespace` or `cluster`.
pub const SCOPE_ANNOTATION: &str = "eventing.knative.dev/scope";

/// What the user wants of an InMemoryChannel.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "messaging.knative.dev",
    version = "v1",
    kind = "InMemoryChannel",
    plural = "inmemorychannels",
    singular = "inmemorychannel",
    namespaced,
    status = "InMemoryChannelStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "all",
    category = "knative",
    category = "messaging",
    category = "channel",
    shortname = "imc",
    doc = "InMemoryChannel holds events and hands each to all its Subscriptions.",
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".status.address.url"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct InMemoryChannelSpec {
    /// Receivers. Filled in by the platform.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscribers: Vec<Subscriber>,
    /// How events are delivered to Subscriptions that say nothing about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliverySpec>,
}

/// Where an InMemoryChannel takes events, and what became of it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InMemoryChannelStatus {
    /// What every status begins with.
    #[serde(flatten)]
    pub status: Status,
    /// Where it takes events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Addressable>,
    /// Receivers and whether they are served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscribers: Vec<SubscriberStatus>,
    /// Its dead letter sink.
    #[serde(flatten)]
    pub dead_letter: DeadLetterStatus,
}

/// Fills in namespaces.
pub(crate) fn default(request: &Request<'_>, object: &mut Value) {
    let namespace = metadata::namespace(object).to_owned();
    channel::default_subscribable(object);
    if let Some(spec) = json::fill(object, "spec") {
        json::remove_nulls(spec);
        delivery::default(spec, &namespace);
    }
    metadata::set_user_info_of(super::GROUP, request, object);
}

/// What is wrong with an InMemoryChannel.
pub(crate) fn validate(_request: &Request<'_>, object: &Value) -> FieldErrors {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let mut errors = FieldErrors::none();
    for (index, subscriber) in json::items(spec, "subscribers").iter().enumerate() {
        if ["subscriberUri", "replyUri"]
            .iter()
            .all(|field| json::text(subscriber, field).is_empty())
        {
            let missing = FieldErrors::detailed(
                "missing field(s)",
                &["replyURI", "subscriberURI"],
                "expected at least one of, got none",
            );
            errors.also(missing.via_index("subscriber", index).via("subscribable"));
        }
    }
    errors.also(delivery::validate(spec, None));
    let mut errors = errors.via("spec");
    if let Some(scope) = metadata::annotations(object).get(SCOPE_ANNOTATION)
        && scope != "namespace"
        && scope != "cluster"
    {
        let wrong = FieldErrors::invalid(scope, "").via(&format!("[{SCOPE_ANNOTATION}]"));
        errors.also(wrong.via("metadata.annotations"));
    }
    errors
}
