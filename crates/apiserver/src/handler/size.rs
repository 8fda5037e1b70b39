//! How large a stored object may be. Bodies are bounded already, but patches add to what is stored, an alias of YAML
//! stands for much, and managed fields grow beside the object.

use crate::decode::NESTING_DEPTH_MAX;
use crate::object;
use crate::status::ApiError;
use serde_json::Value;
use std::io::{self, Write};

/// Largest object that is stored, as JSON. It is the API's default limit of a body, so that what a client reads it can
/// also write back.
pub(crate) const OBJECT_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Refuses an object that is nested too deeply to be read back (by the store at its next start, by a client in a body)
/// or that has grown too large.
pub(crate) fn check(object: &Value) -> Result<(), ApiError> {
    let name = object::name(object);
    // Depth first: printing recurses.
    if object::extent(object).depth > NESTING_DEPTH_MAX {
        return Err(ApiError::request_too_large(format!(
            "Request entity too large: the object with metadata.name {name:?} would be nested too deeply, limit is \
             {NESTING_DEPTH_MAX} levels"
        )));
    }
    if !fits(object) {
        return Err(ApiError::request_too_large(format!(
            "Request entity too large: the object with metadata.name {name:?} would be too large, limit is \
             {OBJECT_BYTES_MAX} bytes"
        )));
    }
    Ok(())
}

/// Whether the object's JSON is within the limit; nothing is kept of it.
fn fits(object: &Value) -> bool {
    let left = Left(OBJECT_BYTES_MAX);
    serde_json::to_writer(left, object).is_ok()
}

/// Takes as many bytes as are left, then fails.
struct Left(usize);

impl Write for Left {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self
            .0
            .checked_sub(bytes.len())
            .ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_limits_are_exact() {
        let frame = json!({"metadata": {"name": "a"}, "x": ""}).to_string().len();
        let sized = |bytes: usize| json!({"metadata": {"name": "a"}, "x": "x".repeat(bytes - frame)});
        let nested = |depth: usize| {
            let inner = (2..depth).fold(json!([]), |inner, _| json!([inner]));
            json!({"metadata": {"name": "a"}, "x": inner})
        };
        for fine in [sized(OBJECT_BYTES_MAX), nested(NESTING_DEPTH_MAX)] {
            assert_eq!(check(&fine), Ok(()));
        }
        for (large, limit) in [
            (sized(OBJECT_BYTES_MAX + 1), "limit is 3145728 bytes"),
            (nested(NESTING_DEPTH_MAX + 1), "limit is 100 levels"),
        ] {
            let error = check(&large).unwrap_err();
            assert_eq!((error.code, error.reason), (413, "RequestEntityTooLarge"));
            assert!(
                error.message.contains("metadata.name \"a\"") && error.message.contains(limit),
                "{}",
                error.message
            );
        }
    }
}
