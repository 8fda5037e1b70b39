//! From an HTTP request to a response: finds the kind, checks the verb, calls the verb's handler, writes the answer.

pub(crate) mod as_stored;
pub(crate) mod backup;
pub(crate) mod body;
mod compress;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod list_options;
pub(crate) mod pages;
pub(crate) mod patch;
pub(crate) mod reply;
pub(crate) mod root;
pub(crate) mod size;
pub(crate) mod update;
pub(crate) mod watch;
pub(crate) mod write;

use crate::auth::{Identity, reviews, service_account};
use crate::logs;
use crate::made;
use crate::negotiation::{self, Format};
use crate::query::Query;
use crate::registry::Served;
use crate::request_info::{self, ResourcePath, Target};
use crate::server::Server;
use crate::status::ApiError;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Request};
use axum::response::Response;
use std::sync::Arc;

/// Longest `User-Agent` part that becomes a field manager, in bytes.
const AGENT_BYTES_MAX: usize = crate::metadata::MANAGER_BYTES_MAX;

/// One request for a kind, with everything that was read from its head.
pub(crate) struct Call {
    pub server: Arc<Server>,
    pub served: Served,
    pub path: ResourcePath,
    pub query: Query,
    pub headers: HeaderMap,
    pub format: Format,
    /// Who makes the request.
    pub identity: Arc<Identity>,
}

impl Call {
    /// The object's name; handlers of single objects run only when there is one.
    pub(crate) fn name(&self) -> &str {
        self.path.name.as_deref().unwrap_or_default()
    }

    /// The field manager: the query's, else the program in `User-Agent`, else "unknown" (kube-rs sends neither).
    pub(crate) fn manager(&self) -> Result<String, ApiError> {
        if let Some(manager) = self.query.get("fieldManager") {
            let causes = crate::metadata::check_manager("fieldManager", manager);
            if !causes.is_empty() {
                return Err(ApiError::invalid_options("WriteOptions", &causes));
            }
            return Ok(manager.to_owned());
        }
        let agent = self
            .headers
            .get(http::header::USER_AGENT)
            .and_then(|value| value.to_str().ok());
        let program = agent.unwrap_or_default().split('/').next().unwrap_or_default();
        let program = program
            .get(..program.floor_char_boundary(AGENT_BYTES_MAX))
            .unwrap_or_default();
        Ok(if program.is_empty() {
            "unknown".to_owned()
        } else {
            program.to_owned()
        })
    }
}

/// The router: every path goes through one handler, because kinds are data.
pub(crate) fn router(server: Arc<Server>) -> axum::Router {
    axum::Router::new().fallback(handle).with_state(server)
}

async fn handle(State(server): State<Arc<Server>>, request: Request<Body>) -> Response {
    let (gzip, head) = (
        compress::accepts_gzip(request.headers()),
        request.method() == Method::HEAD,
    );
    let response = match route(server, request).await {
        Ok(response) => response,
        Err(error) => reply::error(&error),
    };
    if head {
        return compress::head_only(response);
    }
    if gzip {
        compress::compress(response).await
    } else {
        response
    }
}

async fn route(server: Arc<Server>, request: Request<Body>) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    // Every router says who its callers are; one that does not serves nobody.
    let identity = parts.extensions.get::<Arc<Identity>>().cloned();
    let identity = identity.ok_or_else(ApiError::unauthorized)?;
    let path = match request_info::parse(parts.uri.path())? {
        Target::Resource(path) => path,
        other => return root::handle(&server, &other, &parts),
    };
    if let Some(review) = reviews::find(&path) {
        let body = body::read(&server, &parts.headers, body).await?;
        return reviews::handle(&server, &identity, review, &path, &parts, &body).await;
    }
    let kinds = server.kinds.load();
    let served = kinds.registry.find(&path.group, &path.version, &path.resource);
    let served = served.ok_or_else(crate::registry::unknown_resource)?.clone();
    drop(kinds);
    if !path.namespace.is_empty() && !served.kind.namespaced {
        return Err(ApiError::page_not_found());
    }
    if service_account::is_token(&served, &path) {
        return service_account::handle(&server, &served, &path, &parts, body).await;
    }
    let query = Query::parse(&parts.uri)?;
    let log = logs::is_log(&served, &path);
    let format = if log {
        Format::JSON
    } else {
        negotiation::format(&parts.headers)?
    };
    let call = Call {
        server,
        served,
        path,
        query,
        headers: parts.headers,
        format,
        identity,
    };
    if log {
        // What a caller may do was decided by the method: nothing but reading reads.
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            return Err(ApiError::method_not_allowed());
        }
        return logs::handle(&call);
    }
    made::wait_for(&call.server, &call.served.kind.storage_resource).await;
    dispatch(&call, &parts.method, body).await
}

/// Chooses the verb by method and form of the path, as Kubernetes does.
async fn dispatch(call: &Call, method: &Method, body: Body) -> Result<Response, ApiError> {
    let method = if method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    match (call.path.name.is_some(), call.path.subresource.as_deref()) {
        (false, _) => collection(call, method, body).await,
        (true, None) => object(call, method, body).await,
        (true, Some("status")) if call.served.kind.status => match *method {
            Method::GET => get::handle(call),
            Method::PUT => update::handle(call, body).await,
            Method::PATCH => patch::handle(call, body).await,
            _ => Err(ApiError::method_not_allowed()),
        },
        (true, Some(_)) => Err(ApiError::page_not_found()),
    }
}

async fn collection(call: &Call, method: &Method, body: Body) -> Result<Response, ApiError> {
    match *method {
        Method::GET if call.query.flag("watch") => watch::handle(call),
        Method::GET => list::handle(call),
        Method::POST => {
            allowed(call, "create")?;
            create::handle(call, body).await
        }
        Method::DELETE => {
            allowed(call, "deletecollection")?;
            delete::collection(call, body).await
        }
        _ => Err(ApiError::method_not_allowed()),
    }
}

async fn object(call: &Call, method: &Method, body: Body) -> Result<Response, ApiError> {
    match *method {
        Method::GET if call.query.flag("watch") => watch::handle(call),
        Method::GET => get::handle(call),
        Method::PUT => {
            allowed(call, "update")?;
            update::handle(call, body).await
        }
        Method::PATCH => {
            allowed(call, "patch")?;
            patch::handle(call, body).await
        }
        Method::DELETE => {
            allowed(call, "delete")?;
            delete::handle(call, body).await
        }
        _ => Err(ApiError::method_not_allowed()),
    }
}

/// Refuses a verb that the kind does not have. Writing needs a namespace where there are namespaces.
fn allowed(call: &Call, verb: &str) -> Result<(), ApiError> {
    let has = call.served.kind.verbs.contains(&verb);
    if let Some(why) = call.served.kind.hooks.read_only.filter(|_| !has) {
        return Err(ApiError::method_not_allowed_because(why));
    }
    let needs_namespace = call.served.kind.namespaced && verb != "deletecollection";
    if !has || (needs_namespace && call.path.namespace.is_empty()) {
        return Err(ApiError::method_not_allowed());
    }
    Ok(())
}
