//! PingSource: an event at times that repeat (eventing `pkg/apis/sources/v1/ping_*.go`).

use super::{default_sink, validate_sink};
use crate::admission::{FieldErrors, Request, json, metadata};
use crate::cron::Schedule;
use crate::duck::{CloudEventOverrides, Destination, SourceStatus};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::tz;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The schedule of a PingSource that names none: every minute.
pub const SCHEDULE_DEFAULT: &str = "* * * * *";
/// Most bytes of data, of Knative's `config-ping-defaults` unlimited; here what an event may hold.
pub const DATA_BYTES_MAX: usize = 1024 * 1024;

/// What the user wants: when, and which event.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "sources.knative.dev",
    version = "v1",
    kind = "PingSource",
    plural = "pingsources",
    singular = "pingsource",
    namespaced,
    status = "PingSourceStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "all",
    category = "knative",
    category = "sources",
    doc = "PingSource sends an event at times that repeat.",
    printcolumn = r#"{"name":"Sink","type":"string","jsonPath":".status.sinkUri"}"#,
    printcolumn = r#"{"name":"Schedule","type":"string","jsonPath":".spec.schedule"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PingSourceSpec {
    /// When, in the syntax of cron: five fields, six with seconds before them, or a word such as @hourly. Default: every minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// The time zone of the schedule, such as Europe/Paris. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// The media type of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The data. Not together with dataBase64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The data in base64.
    #[serde(default, rename = "dataBase64", skip_serializing_if = "Option::is_none")]
    pub data_base64: Option<String>,
    /// Where events go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<Destination>,
    /// What is added to events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce_overrides: Option<CloudEventOverrides>,
}

/// What became of a PingSource.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PingSourceStatus {
    /// What the status of a source holds.
    #[serde(flatten)]
    pub source: SourceStatus,
}

/// Fills in the schedule and the sink's namespace.
pub(crate) fn default(request: &Request<'_>, object: &mut Value) {
    let namespace = metadata::namespace(object).to_owned();
    if let Some(spec) = json::fill(object, "spec") {
        default_sink(spec, &namespace);
        json::default_unset(spec, "schedule", SCHEDULE_DEFAULT);
    }
    metadata::set_user_info_of(super::GROUP, request, object);
}

/// What is wrong with a PingSource.
pub(crate) fn validate(_request: &Request<'_>, object: &Value) -> FieldErrors {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let mut errors = FieldErrors::none();
    if let Err(wrong) = json::text(spec, "schedule").parse::<Schedule>() {
        errors.also(FieldErrors::invalid(wrong, "schedule"));
    }
    let zone = json::text(spec, "timezone");
    if !zone.is_empty() && !is_time_zone(zone) {
        let wrong = format!("provided bad location {zone}: unknown time zone {zone}");
        errors.also(FieldErrors::invalid(wrong, "timezone"));
    }
    errors.also(validate_sink(spec));
    errors.also(data(spec));
    errors.via("spec")
}

/// Whether there is such a time zone. On a machine that knows none at all, any name is taken.
fn is_time_zone(name: &str) -> bool {
    tz::db().get(name).is_ok() || tz::db().is_definitively_empty()
}

fn data(spec: &Value) -> FieldErrors {
    let (plain, encoded) = (json::text(spec, "data"), json::text(spec, "dataBase64"));
    let is_json = json::text(spec, "contentType") == "application/json";
    if !plain.is_empty() && !encoded.is_empty() {
        return FieldErrors::multiple_one_of(&["data", "dataBase64"]);
    }
    let (field, text) = if encoded.is_empty() {
        ("data", plain)
    } else {
        ("dataBase64", encoded)
    };
    if text.is_empty() {
        return FieldErrors::none();
    }
    if text.len() > DATA_BYTES_MAX {
        let wrong = format!(
            "the {field} length of {} bytes exceeds limit set at {DATA_BYTES_MAX}.",
            text.len()
        );
        return FieldErrors::invalid(wrong, field);
    }
    let bytes = if encoded.is_empty() {
        plain.as_bytes().to_vec()
    } else {
        match STANDARD.decode(encoded) {
            Ok(bytes) => bytes,
            Err(error) => return FieldErrors::invalid(error, field),
        }
    };
    match serde_json::from_slice::<Map<String, Value>>(&bytes) {
        Err(error) if is_json => FieldErrors::invalid(error, field),
        _ => FieldErrors::none(),
    }
}
