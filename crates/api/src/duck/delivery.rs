//! How often delivery is tried, and where events go in the end (eventing `pkg/apis/duck/v1/delivery_types.go`).

use super::{Destination, destination};
use crate::admission::{FieldErrors, json};
use jiff::fmt::temporal::SpanParser;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How delivery is tried.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliverySpec {
    /// Where events go that could not be delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter_sink: Option<Destination>,
    /// Tries after the first one, at least 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<i32>,
    /// Time that one try may take, as an ISO 8601 duration such as `PT10S`. More than zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// How pauses between tries grow: `linear` or `exponential`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_policy: Option<String>,
    /// The first pause, as an ISO 8601 duration such as `PT0.2S`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_delay: Option<String>,
    /// Longest pause that a receiver may ask for with Retry-After. An alpha field of Knative, which is refused here as
    /// it is there by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_max: Option<String>,
}

/// Fills in the namespace of the dead letter sink of `object.delivery`.
pub(crate) fn default(object: &mut Value, namespace: &str) {
    if let Some(delivery) = object.get_mut("delivery") {
        destination::default(delivery, "deadLetterSink", namespace);
    }
}

/// What is wrong with `object.delivery`; nothing when there is none.
pub(crate) fn validate(object: &Value, parent: Option<&str>) -> FieldErrors {
    let Some(delivery) = json::object(object, "delivery") else {
        return FieldErrors::none();
    };
    let mut errors = destination::validate_optional(delivery, "deadLetterSink", parent);
    if let Some(retry) = json::integer(delivery, "retry").filter(|retry| *retry < 0) {
        errors.also(FieldErrors::invalid(retry, "retry"));
    }
    let text = |field: &str| delivery.get(field).and_then(Value::as_str);
    let span = |text: &str| SpanParser::new().parse_span(text);
    if let Some(timeout) = text("timeout")
        && !span(timeout).is_ok_and(|span| span.is_positive())
    {
        errors.also(FieldErrors::invalid(timeout, "timeout"));
    }
    if let Some(policy) = text("backoffPolicy").filter(|policy| !matches!(*policy, "linear" | "exponential"))
    {
        errors.also(FieldErrors::invalid(policy, "backoffPolicy"));
    }
    if let Some(delay) = text("backoffDelay").filter(|delay| span(delay).is_err()) {
        errors.also(FieldErrors::invalid(delay, "backoffDelay"));
    }
    if text("retryAfterMax").is_some() {
        errors.also(FieldErrors::disallowed(&["retryAfterMax"]));
    }
    errors.via("delivery")
}
