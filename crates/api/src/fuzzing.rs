//! Entry points for the fuzz targets in `fuzz/`. Not part of the API. Each function takes any bytes and must return.

use crate::admission::{self, Operation, Request};
use crate::duration::GoDuration;
use crate::quantity::{self, Quantity};
use serde_json::Value;

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// A quantity such as `1.5Gi`.
pub fn quantity(bytes: &[u8]) {
    let _ = text(bytes).parse::<Quantity>();
    let _ = quantity::parse_bytes(text(bytes));
    let _ = quantity::parse_milli_cpu(text(bytes));
}

/// A duration such as `1h2m3.5s`; what was read is written and read again.
pub fn duration(bytes: &[u8]) {
    if let Ok(duration) = text(bytes).parse::<GoDuration>() {
        let _ = duration.to_std();
        assert_eq!(duration.to_string().parse(), Ok(duration));
    }
}

/// An image reference.
pub fn image(bytes: &[u8]) {
    let _ = admission::image::check(text(bytes));
}

/// A Service as a user may write it: defaults and rules. What was admitted is admitted again, unchanged.
pub fn admission(bytes: &[u8]) {
    let Ok(mut object) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let request = Request {
        api_version: "serving.knative.dev/v1",
        kind: "Service",
        operation: Operation::Create,
        subresource: None,
        old: None,
        user: "somebody",
        dry_run: false,
        settings: crate::config::Settings::stock(),
    };
    if object.is_object() && admission::admit(&request, &mut object).is_ok() {
        let once = object.clone();
        assert!(admission::admit(&request, &mut object).is_ok());
        assert_eq!(object, once);
    }
}
