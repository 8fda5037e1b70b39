//! EventType: says which events there are. Version v1beta2 has a field for each attribute, v1beta3 a list of them; they
//! are stored as v1beta2 (eventing `pkg/apis/eventing/v1beta2`, `v1beta3`).

use crate::admission::{FieldErrors, Request, immutable, json, metadata};
use crate::duck::{KReference, Status, reference};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The newer of the two versions.
pub const V1BETA3: &str = "eventing.knative.dev/v1beta3";

/// A kind of events.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "eventing.knative.dev",
    version = "v1beta2",
    kind = "EventType",
    plural = "eventtypes",
    singular = "eventtype",
    namespaced,
    status = "EventTypeStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "all",
    category = "knative",
    category = "eventing",
    doc = "EventType says which kind of events can be had from a Broker or another source.",
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".spec.type"}"#,
    printcolumn = r#"{"name":"Source","type":"string","jsonPath":".spec.source"}"#,
    printcolumn = r#"{"name":"Schema","type":"string","jsonPath":".spec.schema"}"#,
    printcolumn = r#"{"name":"Reference Name","type":"string","jsonPath":".spec.reference.name"}"#,
    printcolumn = r#"{"name":"Reference Kind","type":"string","jsonPath":".spec.reference.kind"}"#,
    printcolumn = r#"{"name":"Description","type":"string","jsonPath":".spec.description"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct EventTypeSpec {
    /// The CloudEvents type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// The CloudEvents source, a URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Where the schema of the data is, a URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The schema of the data itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_data: Option<String>,
    /// Where such events come by, such as a Broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<KReference>,
    /// The Broker, in an older form than reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<String>,
    /// What it is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// What is known about an EventType.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventTypeStatus {
    /// What every status begins with.
    #[serde(flatten)]
    pub status: Status,
}

/// Version v1beta3.
pub mod v1beta3 {
    use super::EventTypeStatus;
    use crate::duck::KReference;
    use kube::CustomResource;
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    /// A kind of events.
    #[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
    #[kube(
        group = "eventing.knative.dev",
        version = "v1beta3",
        kind = "EventType",
        plural = "eventtypes",
        singular = "eventtype",
        namespaced,
        status = "EventTypeStatus",
        derive = "PartialEq",
        derive = "Default",
        category = "all",
        category = "knative",
        category = "eventing",
        doc = "EventType says which kind of events can be had from a Broker or another source.",
        printcolumn = r#"{"name":"Reference Name","type":"string","jsonPath":".spec.reference.name"}"#,
        printcolumn = r#"{"name":"Reference Kind","type":"string","jsonPath":".spec.reference.kind"}"#,
        printcolumn = r#"{"name":"Description","type":"string","jsonPath":".spec.description"}"#,
        printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
        printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
    )]
    #[serde(rename_all = "camelCase")]
    pub struct EventTypeSpec {
        /// Where such events come by, such as a Broker.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub reference: Option<KReference>,
        /// What it is, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub description: Option<String>,
        /// The attributes of such events: type, source, specversion and id at least.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub attributes: Vec<EventAttribute>,
    }

    /// One attribute.
    #[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
    pub struct EventAttribute {
        /// Its name.
        #[serde(default)]
        pub name: String,
        /// Its value, or a pattern of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub value: Option<String>,
        /// Whether every such event has it.
        #[serde(default)]
        pub required: bool,
    }
}

/// Fills in the namespace of the reference.
pub(crate) fn default(request: &Request<'_>, object: &mut Value) {
    let namespace = metadata::namespace(object).to_owned();
    if let Some(spec) = json::fill(object, "spec") {
        json::remove_nulls(spec);
        if let Some(target) = spec.get_mut("reference") {
            reference::default(target, &namespace);
        }
    }
    metadata::set_user_info_of(super::GROUP, request, object);
}

/// What is wrong with an EventType, in either version.
pub(crate) fn validate(request: &Request<'_>, object: &Value) -> FieldErrors {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let mut errors = FieldErrors::none();
    if request.api_version == V1BETA3 {
        let has = |name: &str| {
            json::items(spec, "attributes")
                .iter()
                .any(|attribute| json::text(attribute, "name") == name)
        };
        let missing: Vec<&str> = ["type", "source", "specversion", "id"]
            .into_iter()
            .filter(|name| !has(name))
            .collect();
        if !missing.is_empty() {
            errors.also(FieldErrors::missing(&missing).via("attributes"));
        }
    } else if json::text(spec, "type").is_empty() {
        errors.also(FieldErrors::missing(&["type"]));
    }
    let mut errors = errors.via("spec");
    errors.also(immutable::spec_but(&[], request, object));
    errors
}

/// Fields of v1beta2 and the attributes that they are in v1beta3.
const FIELDS: [(&str, &str); 4] = [
    ("type", "type"),
    ("source", "source"),
    ("schema", "schema"),
    ("schemaData", "schemadata"),
];

/// A stored object (v1beta2) as v1beta3.
#[must_use]
pub fn to_v1beta3(stored: &Value) -> Value {
    let mut object = stored.clone();
    let spec = stored.get("spec").unwrap_or(&Value::Null);
    let mut attributes = Vec::new();
    for (field, name) in FIELDS {
        let value = json::text(spec, field);
        if !value.is_empty() {
            attributes.push(json!({"name": name, "value": value, "required": true}));
        }
    }
    // Every CloudEvent has them; v1beta2 has no field for them.
    attributes.push(json!({"name": "specversion", "required": true}));
    attributes.push(json!({"name": "id", "required": true}));
    let mut new = Map::new();
    for field in ["reference", "description"] {
        if let Some(value) = spec.get(field) {
            new.insert(field.to_owned(), value.clone());
        }
    }
    new.insert("attributes".to_owned(), attributes.into());
    replace(&mut object, V1BETA3, new);
    object
}

/// An object of v1beta3 as it is stored.
#[must_use]
pub fn from_v1beta3(object: &Value) -> Value {
    let mut stored = object.clone();
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let mut new = Map::new();
    for field in ["reference", "description"] {
        if let Some(value) = spec.get(field) {
            new.insert(field.to_owned(), value.clone());
        }
    }
    for attribute in json::items(spec, "attributes") {
        let name = json::text(attribute, "name");
        if let Some((field, _)) = FIELDS.iter().find(|(_, known)| *known == name) {
            new.insert((*field).to_owned(), json::text(attribute, "value").into());
        }
    }
    replace(&mut stored, "eventing.knative.dev/v1beta2", new);
    stored
}

fn replace(object: &mut Value, api_version: &str, spec: Map<String, Value>) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".to_owned(), api_version.into());
        fields.insert("spec".to_owned(), Value::Object(spec));
    }
}
