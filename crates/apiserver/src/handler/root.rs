//! Everything that is not an object: discovery, OpenAPI, version, health.

use crate::discovery::{self, Document};
use crate::handler::{backup, reply};
use crate::negotiation;
use crate::openapi;
use crate::query::Query;
use crate::request_info::Target;
use crate::server::Server;
use crate::status::ApiError;
use axum::response::Response;
use http::header::{CACHE_CONTROL, ETAG, EXPIRES, IF_NONE_MATCH, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};
use jiff::ToSpan;
use serde_json::json;

/// The Kubernetes version that clients see; `kubectl` dispatches by it, and it must be semantic versioning.
const KUBERNETES_MINOR: &str = "31";

/// Answers a path that names no resource.
pub(crate) fn handle(server: &Server, target: &Target, parts: &Parts) -> Result<Response, ApiError> {
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return Err(ApiError::method_not_allowed());
    }
    let kinds = server.kinds.load();
    let (registry, headers) = (&kinds.registry, &parts.headers);
    match target {
        Target::CoreVersions => {
            let address = headers
                .get(http::header::HOST)
                .and_then(|host| host.to_str().ok())
                .unwrap_or_default();
            let form = negotiation::discovery(headers);
            Ok(document(
                headers,
                &discovery::core_versions(registry, form, address),
            ))
        }
        Target::Groups => Ok(document(
            headers,
            &discovery::groups(registry, negotiation::discovery(headers)),
        )),
        Target::Group(group) => Ok(document(headers, &discovery::group(registry, group)?)),
        Target::GroupVersion(group, version) => Ok(document(
            headers,
            &discovery::group_version(registry, group, version)?,
        )),
        Target::Other(segments) => {
            let words: Vec<&str> = segments.iter().map(String::as_str).collect();
            other(server, &words, parts)
        }
        Target::Resource(_) => Err(ApiError::page_not_found()),
    }
}

fn other(server: &Server, words: &[&str], parts: &Parts) -> Result<Response, ApiError> {
    match words {
        [] => Ok(reply::json(200, &json!({"paths": paths(server)}))),
        ["version"] => Ok(reply::json(200, &version())),
        ["healthz" | "livez", ..] => Ok(reply::bytes(200, "text/plain; charset=utf-8", "ok")),
        ["readyz", ..] => Ok(match server.ready() {
            Ok(()) => reply::bytes(200, "text/plain; charset=utf-8", "ok"),
            Err(why) => reply::bytes(503, "text/plain; charset=utf-8", format!("not ready: {why}\n")),
        }),
        ["backup"] => Ok(backup::handle(server)),
        ["openapi", "v2"] => {
            let tag = discovery::etag(openapi::V2_EMPTY);
            Ok(tagged(&parts.headers, &tag, || {
                reply::bytes(200, openapi::V2_CONTENT_TYPE, openapi::V2_EMPTY)
            }))
        }
        ["openapi", "v3"] => {
            let root = server.kinds.load().open_api.root();
            let tag = discovery::etag(root.to_string().as_bytes());
            Ok(tagged(&parts.headers, &tag, || reply::json(200, &root)))
        }
        ["openapi", "v3", path @ ..] => open_api(server, &path.join("/"), parts),
        _ => Err(ApiError::page_not_found()),
    }
}

/// One OpenAPI document. Under its hashed URL it never changes, and clients may keep it.
fn open_api(server: &Server, path: &str, parts: &Parts) -> Result<Response, ApiError> {
    let kinds = server.kinds.load();
    let document = kinds
        .open_api
        .document(path)
        .ok_or_else(ApiError::page_not_found)?;
    let query = Query::parse(&parts.uri)?;
    let tag = format!("\"{}\"", document.hash);
    let mut response = tagged(&parts.headers, &tag, || {
        reply::bytes(200, "application/json", document.json.clone())
    });
    if query.get("hash") == Some(document.hash.as_str()) {
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        let next_year = server
            .clock
            .now()
            .checked_add((24 * 365).hours())
            .unwrap_or(jiff::Timestamp::MAX);
        if let Ok(value) = HeaderValue::from_str(&next_year.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
        {
            headers.insert(EXPIRES, value);
        }
    }
    Ok(response)
}

fn document(headers: &HeaderMap, document: &Document) -> Response {
    let mut response = tagged(headers, &document.etag(), || {
        reply::bytes(200, &document.content_type, document.value.to_string())
    });
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    response
}

/// 304 when the client has this content already, else the content with its tag.
fn tagged(headers: &HeaderMap, tag: &str, content: impl FnOnce() -> Response) -> Response {
    let known = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let known = known
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().trim_start_matches("W/") == tag);
    let mut response = if known { not_modified() } else { content() };
    let out = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(tag) {
        out.insert(ETAG, value);
    }
    out.insert(VARY, HeaderValue::from_static("Accept"));
    response
}

fn not_modified() -> Response {
    let mut response = Response::default();
    *response.status_mut() = http::StatusCode::NOT_MODIFIED;
    response
}

fn version() -> serde_json::Value {
    json!({
        "major": "1",
        "minor": KUBERNETES_MINOR,
        "gitVersion": format!("v1.{KUBERNETES_MINOR}.0+kittiwake.{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "rustc", "platform": format!("{}/{}", std::env::consts::OS, go_arch()),
    })
}

/// The machine's architecture as Go spells it.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn paths(server: &Server) -> Vec<String> {
    let mut paths: Vec<String> = [
        "/api",
        "/api/v1",
        "/apis",
        "/backup",
        "/healthz",
        "/livez",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/version",
    ]
    .map(str::to_owned)
    .to_vec();
    for (group, versions) in server
        .kinds
        .load()
        .registry
        .groups()
        .into_iter()
        .filter(|(group, _)| !group.is_empty())
    {
        paths.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
        paths.push(format!("/apis/{group}"));
    }
    paths.sort();
    paths
}
