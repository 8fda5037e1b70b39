//! Group `sources.knative.dev`: what makes events and sends them to a sink.

pub mod api_server_source;
pub mod container_source;
pub mod ping_source;
pub mod sink_binding;

pub use api_server_source::ApiServerSource;
pub use container_source::ContainerSource;
pub use ping_source::PingSource;
pub use sink_binding::SinkBinding;

use crate::admission::{FieldErrors, json};
use crate::duck::destination;
use serde_json::Value;

/// The group.
pub const GROUP: &str = "sources.knative.dev";

/// Fills in what sources share: the namespace of the sink.
pub(crate) fn default_sink(spec: &mut Value, namespace: &str) {
    json::remove_nulls(spec);
    destination::default(spec, "sink", namespace);
}

/// What is wrong with what sources share: `sink` and `ceOverrides` (knative/pkg `apis/duck/v1/source_types.go`).
pub(crate) fn validate_sink(spec: &Value) -> FieldErrors {
    let mut errors = destination::validate_required(spec, "sink", None);
    let extensions = json::object(spec, "ceOverrides")
        .and_then(|overrides| overrides.get("extensions"))
        .and_then(Value::as_object);
    for name in extensions.into_iter().flatten().map(|(name, _)| name) {
        let wrong = if name.is_empty() {
            "keys MUST NOT be empty"
        } else if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            "keys are expected to be alphanumeric"
        } else {
            continue;
        };
        let key = FieldErrors::invalid_key(name, "", wrong);
        errors.also(key.via("extensions").via("ceOverrides"));
    }
    errors
}
