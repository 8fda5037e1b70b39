//! Questions about who somebody is and what they may do: `kubectl auth can-i`, `auth can-i --list`, `auth whoami`, and
//! the reviews that other programs ask (authorization.k8s.io/v1 and authentication.k8s.io/v1). Nothing is stored.

use super::attributes::{Attributes, ResourceAttributes};
use super::authentication;
use super::identity::Identity;
use super::service_account::ISSUER;
use crate::handler::{body, reply};
use crate::object::{self, text};
use crate::request_info::ResourcePath;
use crate::server::Server;
use crate::status::{ApiError, Cause, Names};
use axum::response::Response;
use http::Method;
use http::request::Parts;
use serde_json::{Value, json};

const AUTHORIZATION: &str = "authorization.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// One kind of question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Review {
    /// May I do this?
    SelfAccess,
    /// What may I do?
    SelfRules,
    /// Who am I?
    SelfSubject,
    /// May somebody do this?
    Access,
    /// May somebody do this in this namespace?
    LocalAccess,
    /// Whose token is this?
    Token,
}

/// The question at a path. These groups are not in discovery: clients know them.
pub(crate) fn find(path: &ResourcePath) -> Option<Review> {
    if path.version != "v1" || path.name.is_some() {
        return None;
    }
    let review = match (path.group.as_str(), path.resource.as_str()) {
        (AUTHORIZATION, "selfsubjectaccessreviews") => Review::SelfAccess,
        (AUTHORIZATION, "selfsubjectrulesreviews") => Review::SelfRules,
        (AUTHORIZATION, "subjectaccessreviews") => Review::Access,
        (AUTHORIZATION, "localsubjectaccessreviews") => Review::LocalAccess,
        (AUTHENTICATION, "selfsubjectreviews") => Review::SelfSubject,
        (AUTHENTICATION, "tokenreviews") => Review::Token,
        _ => return None,
    };
    ((review == Review::LocalAccess) != path.namespace.is_empty()).then_some(review)
}

impl Review {
    fn names(self) -> Names<'static> {
        let (group, plural, kind) = match self {
            Self::SelfAccess => (
                AUTHORIZATION,
                "selfsubjectaccessreviews",
                "SelfSubjectAccessReview",
            ),
            Self::SelfRules => (AUTHORIZATION, "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
            Self::SelfSubject => (AUTHENTICATION, "selfsubjectreviews", "SelfSubjectReview"),
            Self::Access => (AUTHORIZATION, "subjectaccessreviews", "SubjectAccessReview"),
            Self::LocalAccess => (
                AUTHORIZATION,
                "localsubjectaccessreviews",
                "LocalSubjectAccessReview",
            ),
            Self::Token => (AUTHENTICATION, "tokenreviews", "TokenReview"),
        };
        Names { group, plural, kind }
    }

    fn invalid(self, field: &str, reason: &str, message: &str) -> ApiError {
        ApiError::invalid(self.names(), "", &[Cause::new(field, reason, message)])
    }
}

/// Answers a question.
pub(crate) async fn handle(
    server: &Server,
    identity: &Identity,
    review: Review,
    path: &ResourcePath,
    parts: &Parts,
    bytes: &[u8],
) -> Result<Response, ApiError> {
    if parts.method != Method::POST {
        return Err(ApiError::method_not_allowed());
    }
    let asked = body::decode(&parts.headers, bytes)?.value;
    let names = review.names();
    let kind = text(&asked, "/kind");
    if !kind.is_empty() && kind != names.kind {
        return Err(ApiError::bad_request(format!(
            "the kind in the data ({kind}) does not match the expected kind ({})",
            names.kind
        )));
    }
    let spec = asked.get("spec").cloned().unwrap_or_else(|| json!({}));
    let status = match review {
        Review::SelfAccess => access(server, identity, &attributes(review, &spec)?),
        Review::SelfRules => rules(server, identity, review, &spec)?,
        Review::SelfSubject => json!({"userInfo": identity.to_json()}),
        Review::Access | Review::LocalAccess => {
            let attributes = attributes(review, &spec)?;
            if let Attributes::Resource(asked) = &attributes
                && review == Review::LocalAccess
                && asked.namespace != path.namespace
            {
                let message = format!(
                    "Invalid value: {:?}: must match metadata.namespace",
                    asked.namespace
                );
                return Err(review.invalid(
                    "spec.resourceAttributes.namespace",
                    "FieldValueInvalid",
                    &message,
                ));
            }
            access(server, &somebody(review, &spec)?, &attributes)
        }
        Review::Token => token(server, &spec).await,
    };
    // A token is a password: it is not sent back.
    let mut shown = spec;
    if review == Review::Token {
        object::remove(&mut shown, "token");
    }
    let api_version = format!("{}/v1", names.group);
    let answer = json!({"kind": names.kind, "apiVersion": api_version, "metadata": {}, "spec": shown, "status": status});
    Ok(reply::json(201, &answer))
}

fn access(server: &Server, identity: &Identity, attributes: &Attributes) -> Value {
    let decision = server.auth.rbac.decide(identity, attributes);
    let mut status = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        object::map_mut(&mut status).insert("reason".into(), decision.reason.into());
    }
    status
}

/// What the question is about; exactly one of the two forms.
fn attributes(review: Review, spec: &Value) -> Result<Attributes, ApiError> {
    let part = |key: &str| spec.get(key).filter(|part| part.is_object());
    match (part("resourceAttributes"), part("nonResourceAttributes")) {
        (Some(asked), None) => {
            let field = |name: &str| text(asked, &format!("/{name}")).to_owned();
            Ok(Attributes::Resource(ResourceAttributes {
                verb: field("verb"),
                group: field("group"),
                version: field("version"),
                resource: field("resource"),
                subresource: field("subresource"),
                namespace: field("namespace"),
                name: field("name"),
            }))
        }
        (None, Some(asked)) if review != Review::LocalAccess => Ok(Attributes::Path {
            verb: text(asked, "/verb").to_owned(),
            path: text(asked, "/path").to_owned(),
        }),
        _ => {
            let message = "Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified";
            Err(review.invalid("spec.resourceAttributes", "FieldValueInvalid", message))
        }
    }
}

/// Whom the question is about.
fn somebody(review: Review, spec: &Value) -> Result<Identity, ApiError> {
    let groups = spec.get("groups").and_then(Value::as_array);
    let groups: Vec<String> = groups
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let name = text(spec, "/user").to_owned();
    if name.is_empty() && groups.is_empty() {
        let message = "Invalid value: \"\": at least one of user or group must be specified";
        return Err(review.invalid("spec.user", "FieldValueInvalid", message));
    }
    Ok(Identity {
        name,
        groups,
        ..Identity::default()
    })
}

fn rules(server: &Server, identity: &Identity, review: Review, spec: &Value) -> Result<Value, ApiError> {
    let namespace = text(spec, "/namespace");
    if namespace.is_empty() {
        return Err(ApiError::bad_request(format!(
            "no namespace on request: {} needs spec.namespace",
            review.names().kind
        )));
    }
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in server.auth.rbac.rules(identity, namespace) {
        if !rule.resources.is_empty() {
            let mut one =
                json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
            if !rule.resource_names.is_empty() {
                object::map_mut(&mut one).insert("resourceNames".into(), rule.resource_names.into());
            }
            resources.push(one);
        }
        if !rule.non_resource_urls.is_empty() {
            paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
        }
    }
    Ok(json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false}))
}

async fn token(server: &Server, spec: &Value) -> Value {
    let wanted = spec.get("audiences").and_then(Value::as_array);
    let wanted: Vec<&str> = wanted.into_iter().flatten().filter_map(Value::as_str).collect();
    let audiences = if wanted.is_empty() {
        vec![ISSUER]
    } else {
        wanted.clone()
    };
    let text = text(spec, "/token");
    let now = server.clock.now();
    match authentication::by_token(&server.auth, &server.store, text, &audiences, now).await {
        Ok((identity, audiences)) => {
            let mut status = json!({"authenticated": true, "user": identity.authenticated().to_json()});
            if !wanted.is_empty() {
                object::map_mut(&mut status).insert("audiences".into(), json!(audiences));
            }
            status
        }
        Err(error) => {
            json!({"authenticated": false, "user": {}, "error": format!("invalid bearer token: {error}")})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_about_one_thing() {
        let ok = |spec: &Value| attributes(Review::SelfAccess, spec).is_ok();
        assert!(ok(&json!({"resourceAttributes": {"verb": "get"}})));
        assert!(ok(
            &json!({"nonResourceAttributes": {"verb": "get", "path": "/x"}})
        ));
        assert!(!ok(&json!({})));
        assert!(!ok(
            &json!({"resourceAttributes": {}, "nonResourceAttributes": {}})
        ));
        assert!(attributes(Review::LocalAccess, &json!({"nonResourceAttributes": {}})).is_err());
        assert!(somebody(Review::Access, &json!({})).is_err());
    }
}
