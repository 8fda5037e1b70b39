//! Tokens of ServiceAccounts: `kubectl create token`, and what such a token proves
//! (kubernetes/pkg/serviceaccount, pkg/registry/core/serviceaccount/storage/token.go).

use super::identity::{CREDENTIAL_ID, Identity, service_account_user};
use super::jwt::{PublicKey, SigningKey, Token};
use crate::handler::{body, reply};
use crate::object;
use crate::registry::Served;
use crate::request_info::ResourcePath;
use crate::server::Server;
use crate::status::{ApiError, Cause};
use axum::body::Body;
use axum::response::Response;
use http::Method;
use http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use kittiwake_store::{Key, ObjectStore};
use serde_json::{Value, json};

/// Who tokens are from, and whom they are for where nothing else is said.
pub const ISSUER: &str = "https://kubernetes.default.svc";
/// The kind in the store.
const RESOURCE: &str = "serviceaccounts";
/// Seconds that a token is valid, where nothing is said.
const SECONDS_DEFAULT: i64 = 3600;
/// Fewest and most seconds that may be asked for (kubernetes/pkg/apis/authentication/validation).
const SECONDS_MIN: i64 = 600;
const SECONDS_MAX: i64 = 1 << 32;

/// The maker and checker of tokens.
pub(crate) struct ServiceAccounts {
    key: SigningKey,
    public: PublicKey,
}

impl ServiceAccounts {
    /// With a PKCS#8 key, or a new one that is forgotten with the server.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub(crate) fn new(pkcs8: Option<&[u8]>) -> Result<Self, String> {
        let key = pkcs8.map_or_else(SigningKey::generate, SigningKey::read)?;
        let public = key.public_key();
        Ok(Self { key, public })
    }

    /// Who a token of ours proves somebody to be, for any of `audiences`. `None` for tokens of others.
    ///
    /// # Errors
    /// When it is one of ours but worth nothing; for the log, not for who shows it.
    pub(crate) fn identify(
        &self,
        token: &Token<'_>,
        audiences: &[&str],
        store: &ObjectStore,
        now: Timestamp,
    ) -> Result<Option<Identity>, String> {
        if token.text("/iss") != ISSUER {
            return Ok(None);
        }
        if !token.verify(&self.public) {
            return Err("the signature is wrong".to_owned());
        }
        let expiry = token.seconds("exp").ok_or("the token has no expiry")?;
        if expiry <= now.as_second() {
            return Err("the token has expired".to_owned());
        }
        if token.seconds("nbf").is_some_and(|start| start > now.as_second()) {
            return Err("the token is not valid yet".to_owned());
        }
        if !token
            .audiences()
            .iter()
            .any(|audience| audiences.contains(audience))
        {
            return Err(format!("the token is for {:?}", token.audiences()));
        }
        let part = |path: &str| token.text(path);
        let (namespace, name) = (
            part("/kubernetes.io/namespace"),
            part("/kubernetes.io/serviceaccount/name"),
        );
        let uid = part("/kubernetes.io/serviceaccount/uid");
        if token.text("/sub") != service_account_user(namespace, name) {
            return Err("the subject is not the ServiceAccount".to_owned());
        }
        let stored = store
            .get(&Key::new(RESOURCE, namespace, name))
            .ok_or("the ServiceAccount is gone")?;
        let account = stored.object.tree();
        if object::uid(&account) != uid || object::is_terminating(&account) {
            return Err("the ServiceAccount was deleted".to_owned());
        }
        let mut identity = Identity::service_account(namespace, name, uid);
        let id = token.text("/jti");
        if !id.is_empty() {
            identity
                .extra
                .insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={id}")]);
        }
        Ok(Some(identity))
    }
}

/// Whether a request is for a token.
pub(crate) fn is_token(served: &Served, path: &ResourcePath) -> bool {
    path.subresource.as_deref() == Some("token") && &*served.kind.storage_resource == RESOURCE
}

/// What a `TokenRequest` asks for.
struct Asked {
    audiences: Vec<String>,
    seconds: i64,
}

/// Answers a `TokenRequest`.
pub(crate) async fn handle(
    server: &Server,
    served: &Served,
    path: &ResourcePath,
    parts: &Parts,
    body: Body,
) -> Result<Response, ApiError> {
    if parts.method != Method::POST {
        return Err(ApiError::method_not_allowed());
    }
    let bytes = body::read(server, &parts.headers, body).await?;
    let request = body::decode(&parts.headers, &bytes)?.value;
    let name = path.name.as_deref().unwrap_or_default();
    let stored = server
        .store
        .get(&Server::key(served, &path.namespace, name))
        .ok_or_else(|| ApiError::not_found(served.names(), name))?;
    let account = stored.object.tree();
    let asked = read(&request)?;
    let now = server.clock.now();
    let expiry = now
        .checked_add(SignedDuration::from_secs(asked.seconds))
        .map_err(ApiError::internal)?;
    let claims = json!({
        "aud": asked.audiences,
        "exp": expiry.as_second(),
        "iat": now.as_second(),
        "iss": ISSUER,
        "jti": uuid::Uuid::new_v4().to_string(),
        "kubernetes.io": {
            "namespace": path.namespace,
            "serviceaccount": {"name": name, "uid": object::uid(&account)},
        },
        "nbf": now.as_second(),
        "sub": service_account_user(&path.namespace, name),
    });
    let token = server
        .auth
        .service_accounts
        .key
        .sign(&claims)
        .map_err(ApiError::internal)?;
    let answer = json!({
        "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": name, "namespace": path.namespace, "creationTimestamp": object::time(now)},
        "spec": {"audiences": asked.audiences, "expirationSeconds": asked.seconds, "boundObjectRef": null},
        "status": {"token": token, "expirationTimestamp": object::time(expiry)},
    });
    Ok(reply::json(201, &answer))
}

fn read(request: &Value) -> Result<Asked, ApiError> {
    let bad_kind = |what: &str, is: &str, wanted: &str| {
        let message = format!("the {what} in the data ({is}) does not match the expected {what} ({wanted})");
        (!is.is_empty() && is != wanted).then(|| ApiError::bad_request(message))
    };
    if let Some(error) = bad_kind("kind", object::text(request, "/kind"), "TokenRequest") {
        return Err(error);
    }
    let invalid = |field: &str, value: &Value, why: &str| {
        let names = crate::status::Names {
            group: "authentication.k8s.io",
            plural: "tokenrequests",
            kind: "TokenRequest",
        };
        let cause = Cause::new(
            field,
            "FieldValueInvalid",
            format!("Invalid value: {value}: {why}"),
        );
        ApiError::invalid(names, "", &[cause])
    };
    if let Some(bound) = request
        .pointer("/spec/boundObjectRef")
        .filter(|bound| !bound.is_null())
    {
        let kind = object::text(bound, "/kind");
        return Err(ApiError::bad_request(format!(
            "cannot bind token for object of type {kind:?}"
        )));
    }
    let seconds = match request.pointer("/spec/expirationSeconds") {
        None | Some(Value::Null) => SECONDS_DEFAULT,
        Some(value) => {
            let field = "spec.expirationSeconds";
            let seconds = value
                .as_i64()
                .ok_or_else(|| invalid(field, value, "must be a whole number of seconds"))?;
            if seconds < SECONDS_MIN {
                return Err(invalid(
                    field,
                    value,
                    "may not specify a duration less than 10 minutes",
                ));
            }
            if seconds > SECONDS_MAX {
                return Err(invalid(
                    field,
                    value,
                    "may not specify a duration larger than 2^32 seconds",
                ));
            }
            seconds
        }
    };
    let audiences = request.pointer("/spec/audiences").and_then(Value::as_array);
    let audiences: Vec<String> = audiences
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    Ok(Asked {
        audiences: if audiences.is_empty() {
            vec![ISSUER.to_owned()]
        } else {
            audiences
        },
        seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_requests_are_named() {
        for (spec, part) in [
            (json!({"expirationSeconds": 599}), "less than 10 minutes"),
            (
                json!({"expirationSeconds": (1_i64 << 32) + 1}),
                "larger than 2^32",
            ),
            (json!({"expirationSeconds": "soon"}), "spec.expirationSeconds"),
            (
                json!({"boundObjectRef": {"kind": "Bird"}}),
                "cannot bind token for object of type \"Bird\"",
            ),
        ] {
            let error = read(&json!({"spec": spec})).err().unwrap();
            assert!(error.message.contains(part), "{}", error.message);
        }
        assert!(read(&json!({"kind": "Pod"})).is_err());
        let usual = read(&json!({})).ok().unwrap();
        assert_eq!((usual.seconds, usual.audiences), (3600, vec![ISSUER.to_owned()]));
    }
}
