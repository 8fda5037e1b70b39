//! Errors as clients of Kubernetes expect them: a `Status` object with the reason, code, text and details of
//! k8s.io/apimachinery/pkg/api/errors. kubectl and kube-rs decide by `reason` and `code`.

use serde_json::{Map, Value, json};

/// One cause of an error: which field, which rule, what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cause {
    pub field: String,
    pub reason: String,
    pub message: String,
}

impl Cause {
    pub(crate) fn new(field: impl Into<String>, reason: &str, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

/// A failed request.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    /// HTTP status code.
    pub code: u16,
    /// Kubernetes' machine-readable reason.
    pub reason: &'static str,
    /// Text for people.
    pub message: String,
    details: Option<Box<Map<String, Value>>>,
    /// The token with which a list that broke off can go on.
    next: Option<Box<str>>,
}

/// The names of a resource in error texts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names<'a> {
    pub group: &'a str,
    pub plural: &'a str,
    pub kind: &'a str,
}

impl Names<'_> {
    /// `services.serving.knative.dev`, or `configmaps` in the core group.
    fn qualified(&self, word: &str) -> String {
        if self.group.is_empty() {
            word.to_owned()
        } else {
            format!("{word}.{}", self.group)
        }
    }

    fn details(&self, name: &str, kind: &str) -> Map<String, Value> {
        let mut details = Map::new();
        for (key, value) in [("name", name), ("group", self.group), ("kind", kind)] {
            if !value.is_empty() {
                details.insert(key.into(), value.into());
            }
        }
        details
    }
}

fn causes_json(causes: &[Cause]) -> Value {
    causes
        .iter()
        .map(|cause| json!({"reason": cause.reason, "message": cause.message, "field": cause.field}))
        .collect()
}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
            next: None,
        }
    }

    fn with_details(mut self, details: Map<String, Value>) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// 404 for a path that is nothing of ours; kubectl prints it as "the server could not find the requested resource".
    pub(crate) fn page_not_found() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
        .with_details(Map::new())
    }

    /// 404 for an object.
    pub(crate) fn not_found(names: Names<'_>, name: &str) -> Self {
        Self::new(
            404,
            "NotFound",
            format!("{} {name:?} not found", names.qualified(names.plural)),
        )
        .with_details(names.details(name, names.plural))
    }

    /// 409: the name is taken.
    pub(crate) fn already_exists(names: Names<'_>, name: &str) -> Self {
        Self::new(
            409,
            "AlreadyExists",
            format!("{} {name:?} already exists", names.qualified(names.plural)),
        )
        .with_details(names.details(name, names.plural))
    }

    /// 409: somebody else was faster, or a precondition does not hold.
    pub(crate) fn conflict(names: Names<'_>, name: &str, why: &str) -> Self {
        let what = names.qualified(names.plural);
        Self::new(
            409,
            "Conflict",
            format!("Operation cannot be fulfilled on {what} {name:?}: {why}"),
        )
        .with_details(names.details(name, names.plural))
    }

    /// 409 of a write whose resourceVersion is old.
    pub(crate) fn stale(names: Names<'_>, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(names, name, why)
    }

    /// 409 of a server-side apply; kubectl adds its own advice to the causes.
    pub(crate) fn apply_conflict(message: String, causes: &[Cause]) -> Self {
        let mut details = Map::new();
        details.insert("causes".into(), causes_json(causes));
        Self::new(409, "Conflict", message).with_details(details)
    }

    /// 422: fields that break rules. `name` may be empty.
    pub(crate) fn invalid(names: Names<'_>, name: &str, causes: &[Cause]) -> Self {
        let texts: Vec<String> = causes
            .iter()
            .map(|cause| match cause.field.as_str() {
                "" => cause.message.clone(),
                field => format!("{field}: {}", cause.message),
            })
            .collect();
        let text = if let [one] = texts.as_slice() {
            one.clone()
        } else {
            format!("[{}]", texts.join(", "))
        };
        let mut details = names.details(name, names.kind);
        details.insert("causes".into(), causes_json(causes));
        Self::new(
            422,
            "Invalid",
            format!("{} {name:?} is invalid: {text}", names.qualified(names.kind)),
        )
        .with_details(details)
    }

    /// 422 about a query parameter, in the words of the options' own kind.
    pub(crate) fn invalid_options(options: &'static str, causes: &[Cause]) -> Self {
        let names = Names {
            group: "meta.k8s.io",
            plural: options,
            kind: options,
        };
        Self::invalid(names, "", causes)
    }

    /// 422 of a patch that can be read but not carried out.
    pub(crate) fn unprocessable(message: impl Into<String>) -> Self {
        let message = message.into();
        Self::new(
            422,
            "Invalid",
            format!("the server rejected our request due to an error in our request: {message}"),
        )
    }

    /// 400.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 403 about one object.
    pub(crate) fn forbidden(names: Names<'_>, name: &str, why: &str, causes: &[Cause]) -> Self {
        let mut details = names.details(name, names.plural);
        if !causes.is_empty() {
            details.insert("causes".into(), causes_json(causes));
        }
        Self::new(
            403,
            "Forbidden",
            format!("{} {name:?} is forbidden: {why}", names.qualified(names.plural)),
        )
        .with_details(details)
    }

    /// 401: who is it? Why it is not known is said in the log only.
    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403 of somebody who may not do something with a resource, or (`plural` empty) with a path.
    pub(crate) fn access_denied(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let names = Names {
            group,
            plural,
            kind: "",
        };
        let what = match (plural.is_empty(), name.is_empty()) {
            (true, _) => String::new(),
            (false, true) => format!("{} is ", names.qualified(plural)),
            (false, false) => format!("{} {name:?} is ", names.qualified(plural)),
        };
        Self::new(403, "Forbidden", format!("{what}forbidden: {why}"))
            .with_details(names.details(name, plural))
    }

    /// What an admission step answers, in its own words and with its own code.
    pub(crate) fn denied(code: u16, webhook: &str, text: &str) -> Self {
        let reason = if code == 403 { "Forbidden" } else { "BadRequest" };
        Self::new(
            code,
            reason,
            format!("admission webhook {webhook:?} denied the request: {text}"),
        )
    }

    /// 405: the resource exists but not with this verb.
    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
        .with_details(Map::new())
    }

    /// 405: clients may not write this kind; says why, and what to do instead.
    pub(crate) fn method_not_allowed_because(why: &str) -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            format!("the server does not allow this method on the requested resource: {why}"),
        )
        .with_details(Map::new())
    }

    /// 406: no form that we write is acceptable.
    pub(crate) fn not_acceptable() -> Self {
        let message = "only the following media types are accepted: application/json, application/yaml, \
             application/json;stream=watch";
        Self::new(406, "NotAcceptable", message)
    }

    /// 415: a body in a form that we do not read.
    pub(crate) fn unsupported_media_type(accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 413.
    pub(crate) fn too_large(limit_bytes: usize) -> Self {
        Self::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {limit_bytes}"),
        )
    }

    /// 413 of a request that is too large in another way than in bytes.
    pub(crate) fn request_too_large(message: impl Into<String>) -> Self {
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 410: a resourceVersion or continue token that is too old; clients list again.
    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// The same, with a token that goes on from here (`metadata.continue`).
    pub(crate) fn with_continue(mut self, token: String) -> Self {
        self.next = Some(token.into());
        self
    }

    /// 504 with the hint that clients know as "wait until the server has caught up".
    pub(crate) fn too_large_resource_version(wanted: u64, current: u64) -> Self {
        let mut details = Map::new();
        let cause = Cause::new("", "ResourceVersionTooLarge", "Too large resource version");
        details.insert("causes".into(), causes_json(&[cause]));
        details.insert("retryAfterSeconds".into(), 1.into());
        Self::new(
            504,
            "Timeout",
            format!("Timeout: Too large resource version: {wanted}, current: {current}"),
        )
        .with_details(details)
    }

    /// 503: try again in a moment.
    pub(crate) fn unavailable(message: &str) -> Self {
        Self::new(503, "ServiceUnavailable", message).worth_another_try()
    }

    /// 507 (RFC 4918, section 11.5): the disk is full. Kubernetes has no reason for it: etcd's "space exceeded" comes
    /// to its clients as a 500.
    pub(crate) fn insufficient_storage(path: &std::path::Path) -> Self {
        let message = format!(
            "nothing was changed: the disk that holds {} is full. Free some space on it (delete files beside it, old \
             backups, logs), then send the request again; the server needs no restart, and reads go on meanwhile",
            path.display()
        );
        Self::new(507, "InsufficientStorage", message).worth_another_try()
    }

    /// Adds the hint by which clients know that the same request may succeed a little later.
    fn worth_another_try(self) -> Self {
        let mut details = Map::new();
        details.insert("retryAfterSeconds".into(), 1.into());
        self.with_details(details)
    }

    /// Seconds after which the same request may succeed.
    pub(crate) fn retry_after_seconds(&self) -> Option<u64> {
        self.details.as_ref()?.get("retryAfterSeconds")?.as_u64()
    }

    /// 500.
    pub(crate) fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {message}"),
        )
    }

    /// The `Status` object.
    pub(crate) fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason,
        });
        if let Some(map) = status.as_object_mut() {
            if let Some(details) = &self.details {
                map.insert("details".into(), Value::Object((**details).clone()));
            }
            map.insert("code".into(), self.code.into());
            if let Some(token) = &self.next {
                map.insert("metadata".into(), json!({"continue": token}));
            }
        }
        status
    }
}

/// The `Status` of a success that has no object to show, such as a deletion.
pub(crate) fn success(names: Names<'_>, name: &str, uid: &str) -> Value {
    let mut details = names.details(name, names.plural);
    if !uid.is_empty() {
        details.insert("uid".into(), uid.into());
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: Names<'static> = Names {
        group: "serving.knative.dev",
        plural: "services",
        kind: "Service",
    };

    #[test]
    fn texts_are_those_of_kubernetes() {
        for (error, wanted) in [
            (
                ApiError::not_found(SERVICE, "x"),
                r#"services.serving.knative.dev "x" not found"#,
            ),
            (
                ApiError::already_exists(SERVICE, "x"),
                r#"services.serving.knative.dev "x" already exists"#,
            ),
            (
                ApiError::stale(SERVICE, "x"),
                r#"Operation cannot be fulfilled on services.serving.knative.dev "x": the object has been modified; please apply your changes to the latest version and try again"#,
            ),
            (
                ApiError::invalid(
                    SERVICE,
                    "x",
                    &[Cause::new("spec.a", "FieldValueRequired", "Required value")],
                ),
                r#"Service.serving.knative.dev "x" is invalid: spec.a: Required value"#,
            ),
            (
                ApiError::denied(400, "validation.webhook.serving.knative.dev", "no"),
                r#"admission webhook "validation.webhook.serving.knative.dev" denied the request: no"#,
            ),
        ] {
            assert_eq!(error.message, wanted);
        }
    }

    #[test]
    fn details_name_the_object() {
        let status = ApiError::not_found(SERVICE, "x").to_status();
        assert_eq!(
            status["details"],
            json!({"name": "x", "group": "serving.knative.dev", "kind": "services"})
        );
        assert_eq!(status["code"], 404);
        let one = Cause::new(".spec.x", "FieldManagerConflict", "conflict with \"m\" using v1");
        let status =
            ApiError::apply_conflict("Apply failed".to_owned(), std::slice::from_ref(&one)).to_status();
        assert_eq!(status["message"], "Apply failed");
        assert_eq!(status["details"]["causes"][0]["field"], ".spec.x");
    }
}
