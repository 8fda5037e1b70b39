//! What every request from outside passes before a handler sees it: who is it, may they, and a line in the audit log.

use super::attributes::Attributes;
use super::audit::{self, Record};
use super::certificate::Peer;
use super::identity::Identity;
use super::{authentication, impersonation};
use crate::handler::reply;
use crate::server::Server;
use crate::status::ApiError;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use std::sync::Arc;

/// The header that names the audit event of a request.
const AUDIT_ID: &str = "audit-id";

/// Lets a request through that may pass, with the [`Identity`] it is made by.
pub(crate) async fn check(
    State(server): State<Arc<Server>>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    let attributes = Attributes::of(request.method(), request.uri());
    let peer = request.extensions().get::<Peer>().cloned();
    let mut record = Record::begin(&request, peer.as_ref(), &attributes, server.clock.now());
    let audit_id = HeaderValue::from_str(&record.id).ok();
    let admitted = admit(&server, &mut request, peer.as_ref(), &attributes, &mut record).await;
    let mut response = match admitted {
        Ok(identity) => {
            request.extensions_mut().insert(Arc::new(identity));
            next.run(request).await
        }
        Err(error) => reply::error(&error),
    };
    if let Some(id) = audit_id {
        response.headers_mut().insert(AUDIT_ID, id);
    }
    match &server.auth.audit {
        Some(log) => audit::finish(log, record, response, &server.clock),
        None => response,
    }
}

/// Who makes the request and for whom, if they may do what it asks.
async fn admit(
    server: &Server,
    request: &mut Request<Body>,
    peer: Option<&Peer>,
    attributes: &Attributes,
    record: &mut Record,
) -> Result<Identity, ApiError> {
    // Only this function says who somebody is.
    request.extensions_mut().remove::<Arc<Identity>>();
    let (auth, now) = (&server.auth, server.clock.now());
    let mut identity = if auth.everyone_is_administrator {
        Identity::administrator()
    } else {
        authentication::identify(auth, &server.store, peer, request.headers(), now).await?
    };
    // Nothing behind this point has any use for credentials.
    request.headers_mut().remove(AUTHORIZATION);
    record.user = Some(identity.clone());
    if let Some(other) = impersonation::take(auth, &identity, request.headers_mut())? {
        record.impersonated = Some(other.clone());
        identity = other;
    }
    let decision = auth.rbac.decide(&identity, attributes);
    record.decided(&decision);
    if decision.allowed {
        Ok(identity)
    } else {
        Err(attributes.denied(&identity, &decision.reason))
    }
}
