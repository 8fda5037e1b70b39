//! Questions about oneself: `kubectl auth can-i` and `kubectl auth whoami`. Nothing is stored.
//!
//! There is no authorization yet, so everything is allowed to everybody who reaches the API.

use crate::handler::create::USER;
use crate::handler::{body, reply};
use crate::request_info::ResourcePath;
use crate::status::ApiError;
use axum::response::Response;
use http::Method;
use http::request::Parts;
use serde_json::{Value, json};

/// One kind of question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Review {
    /// May I do this?
    Access,
    /// What may I do?
    Rules,
    /// Who am I?
    Subject,
}

/// The question at a path. These groups are not in discovery: clients know them.
pub(crate) fn find(path: &ResourcePath) -> Option<Review> {
    if path.version != "v1" || path.name.is_some() {
        return None;
    }
    match (path.group.as_str(), path.resource.as_str()) {
        ("authorization.k8s.io", "selfsubjectaccessreviews") => Some(Review::Access),
        ("authorization.k8s.io", "selfsubjectrulesreviews") => Some(Review::Rules),
        ("authentication.k8s.io", "selfsubjectreviews") => Some(Review::Subject),
        _ => None,
    }
}

/// Answers a question.
pub(crate) fn handle(review: Review, parts: &Parts, bytes: &[u8]) -> Result<Response, ApiError> {
    if parts.method != Method::POST {
        return Err(ApiError::method_not_allowed());
    }
    let asked = body::decode(&parts.headers, bytes)?.value;
    Ok(reply::json(201, &answer(review, &asked)))
}

fn answer(review: Review, asked: &Value) -> Value {
    let (api_version, kind, status) = match review {
        Review::Access => (
            "authorization.k8s.io/v1",
            "SelfSubjectAccessReview",
            json!({"allowed": true}),
        ),
        Review::Rules => (
            "authorization.k8s.io/v1",
            "SelfSubjectRulesReview",
            json!({
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
                "incomplete": false,
            }),
        ),
        Review::Subject => (
            "authentication.k8s.io/v1",
            "SelfSubjectReview",
            json!({"userInfo": {"username": USER, "groups": ["system:masters", "system:authenticated"]}}),
        ),
    };
    let spec = asked.get("spec").cloned().unwrap_or_else(|| json!({}));
    json!({"kind": kind, "apiVersion": api_version, "metadata": {}, "spec": spec, "status": status})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_repeat_the_question() {
        let asked = json!({"spec": {"resourceAttributes": {"verb": "get"}}});
        let answer = answer(Review::Access, &asked);
        assert_eq!(answer["spec"], asked["spec"]);
        assert_eq!(answer["status"]["allowed"], true);
    }
}
