//! Shapes that several groups share: references, destinations, delivery, channel templates, and what every status
//! begins with (knative/pkg `apis/duck/v1`, eventing `pkg/apis/duck/v1`).

pub mod delivery;
pub mod destination;
pub mod reference;

pub use delivery::DeliverySpec;
pub use destination::Destination;
pub use reference::KReference;

use crate::condition::Condition;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What every status of Knative begins with.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The `metadata.generation` that the controller processed last. Conditions speak of that generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready and what it depends on, sorted by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Free-form facts left by controllers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Where events go that could not be delivered, as it was found.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterStatus {
    /// The URL of the dead letter sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter_sink_uri: Option<String>,
    /// PEM certificates of the authorities that its certificate is checked against.
    #[serde(
        default,
        rename = "deadLetterSinkCACerts",
        skip_serializing_if = "Option::is_none"
    )]
    pub dead_letter_sink_ca_certs: Option<String>,
    /// The audience that tokens for it must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter_sink_audience: Option<String>,
}

/// The status of a source (duck/v1 `SourceStatus`).
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// What every status begins with.
    #[serde(flatten)]
    pub status: Status,
    /// The URL of the sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink_uri: Option<String>,
    /// PEM certificates of the authorities that the sink's certificate is checked against.
    #[serde(default, rename = "sinkCACerts", skip_serializing_if = "Option::is_none")]
    pub sink_ca_certs: Option<String>,
    /// The audience that tokens for the sink must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink_audience: Option<String>,
    /// Type and source of the events that come from here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ce_attributes: Vec<CloudEventAttributes>,
}

/// Type and source of a kind of events.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
pub struct CloudEventAttributes {
    /// The CloudEvents type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// The CloudEvents source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// What a source adds to its events.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
pub struct CloudEventOverrides {
    /// Extension attributes that are added or replaced.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extensions: BTreeMap<String, String>,
}

/// A channel to be made.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChannelTemplate {
    /// Group and version of the channel's kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// The channel's kind, such as InMemoryChannel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The channel's spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub spec: Option<Value>,
}

/// Schema of an object whose fields are not looked at.
pub(crate) fn any_object(_: &mut SchemaGenerator) -> Schema {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    Schema::try_from(schema).unwrap_or_default()
}

/// Schema of a list of objects whose fields are not looked at.
pub(crate) fn any_objects(generator: &mut SchemaGenerator) -> Schema {
    let schema = json!({"type": "array", "items": any_object(generator)});
    Schema::try_from(schema).unwrap_or_default()
}
