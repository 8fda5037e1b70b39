//! Versions that differ from the stored one in shape. All others differ in `apiVersion` alone.

use crate::eventing::event_type;
use serde_json::Value;

/// How objects of one version become stored ones, and back.
#[derive(Debug, Clone, Copy)]
pub struct Conversion {
    /// A stored object in this version.
    pub from_storage: fn(&Value) -> Value,
    /// An object of this version as it is stored.
    pub to_storage: fn(&Value) -> Value,
}

/// The conversion of a version, where it needs one.
#[must_use]
pub fn find(api_version: &str, kind: &str) -> Option<Conversion> {
    (api_version == event_type::V1BETA3 && kind == "EventType").then_some(Conversion {
        from_storage: event_type::to_v1beta3,
        to_storage: event_type::from_v1beta3,
    })
}
