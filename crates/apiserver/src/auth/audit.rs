//! The audit log: a line for each request from outside, as an `Event` of audit.k8s.io/v1 at the level `Metadata`: who,
//! what, when, from where, with what result. Bodies and credentials never get here.

mod file;

pub use file::{Config, Log};

use super::attributes::Attributes;
use super::certificate::Peer;
use super::identity::Identity;
use super::rbac::index::Decision;
use crate::object;
use axum::extract::Request;
use axum::response::Response;
use http::header::USER_AGENT;
use http_body_util::BodyExt;
use jiff::Timestamp;
use kittiwake_core::clock::Clock;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Longest text that a client chooses and that is logged, in characters.
const TEXT_CHARS_MAX: usize = 1024;
/// Longest `Audit-ID` that a client may choose (k8s.io/apiserver/pkg/audit, `maxAuditIDLength`).
const ID_CHARS_MAX: usize = 64;

/// The object that an answer shows, as an extension of the response: a POST does not name it.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub name: String,
    pub uid: String,
}

/// The machine-readable reason of a failure, as an extension of the response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure(pub &'static str);

/// What is known of a request so far.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub id: String,
    pub user: Option<Identity>,
    pub impersonated: Option<Identity>,
    received: Timestamp,
    uri: String,
    verb: String,
    agent: String,
    address: Option<String>,
    target: Option<Map<String, Value>>,
    annotations: Map<String, Value>,
}

impl Record {
    /// What the head of a request says.
    pub(crate) fn begin<B>(
        request: &Request<B>,
        peer: Option<&Peer>,
        attributes: &Attributes,
        received: Timestamp,
    ) -> Self {
        let header = |name: &str| {
            let value = request.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default()
        };
        let chosen = header("audit-id");
        let usable = !chosen.is_empty() && chosen.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let uri = request.uri();
        let target = match attributes {
            Attributes::Path { .. } => None,
            Attributes::Resource(asked) => {
                let mut target = Map::new();
                for (key, value) in [
                    ("resource", &asked.resource),
                    ("namespace", &asked.namespace),
                    ("name", &asked.name),
                    ("apiGroup", &asked.group),
                    ("apiVersion", &asked.version),
                    ("subresource", &asked.subresource),
                ] {
                    if !value.is_empty() {
                        target.insert(key.to_owned(), short(value).into());
                    }
                }
                Some(target)
            }
        };
        Self {
            id: if usable {
                chosen.chars().take(ID_CHARS_MAX).collect()
            } else {
                uuid::Uuid::new_v4().to_string()
            },
            user: None,
            impersonated: None,
            received,
            uri: short(uri.path_and_query().map_or("/", |path| path.as_str())),
            verb: attributes.verb().to_owned(),
            agent: short(header(USER_AGENT.as_str())),
            address: peer.and_then(|peer| Some(peer.address?.ip().to_string())),
            target,
            annotations: Map::new(),
        }
    }

    /// What authorization said.
    pub(crate) fn decided(&mut self, decision: &Decision) {
        let word = if decision.allowed { "allow" } else { "forbid" };
        self.annotations
            .insert("authorization.k8s.io/decision".into(), word.into());
        self.annotations.insert(
            "authorization.k8s.io/reason".into(),
            short(&decision.reason).into(),
        );
    }

    /// The line of one stage.
    fn line(&self, stage: &str, code: u16, failure: Option<Failure>, now: Timestamp) -> String {
        let mut event = Map::new();
        let mut put = |key: &str, value: Value| event.insert(key.to_owned(), value);
        put("kind", "Event".into());
        put("apiVersion", "audit.k8s.io/v1".into());
        put("level", "Metadata".into());
        put("auditID", self.id.as_str().into());
        put("stage", stage.into());
        put("requestURI", self.uri.as_str().into());
        put("verb", self.verb.as_str().into());
        put(
            "user",
            self.user.as_ref().map_or_else(|| json!({}), Identity::to_json),
        );
        if let Some(other) = &self.impersonated {
            put("impersonatedUser", other.to_json());
        }
        if let Some(address) = &self.address {
            put("sourceIPs", json!([address]));
        }
        if !self.agent.is_empty() {
            put("userAgent", self.agent.as_str().into());
        }
        if let Some(target) = &self.target {
            put("objectRef", Value::Object(target.clone()));
        }
        let mut status = json!({"metadata": {}});
        if let Some(Failure(reason)) = failure {
            object::map_mut(&mut status).insert("status".into(), "Failure".into());
            object::map_mut(&mut status).insert("reason".into(), reason.into());
        }
        object::map_mut(&mut status).insert("code".into(), code.into());
        put("responseStatus", status);
        put("requestReceivedTimestamp", micros(self.received).into());
        put("stageTimestamp", micros(now).into());
        if !self.annotations.is_empty() {
            put("annotations", Value::Object(self.annotations.clone()));
        }
        Value::Object(event).to_string()
    }
}

/// Logs how a request ended. One that goes on answering (a watch, a followed log) is logged when it starts and again
/// when it ends.
pub(crate) fn finish(
    log: &Arc<Log>,
    mut record: Record,
    mut response: Response,
    clock: &Arc<dyn Clock>,
) -> Response {
    let code = response.status().as_u16();
    let failure = response.extensions_mut().remove::<Failure>();
    if let (Some(target), Some(shown)) = (&mut record.target, response.extensions_mut().remove::<Shown>()) {
        if !shown.name.is_empty() {
            target.insert("name".into(), shown.name.into());
        }
        if !shown.uid.is_empty() {
            target.insert("uid".into(), shown.uid.into());
        }
    }
    let streams = record.verb == "watch" || record.uri.contains("follow=");
    if !streams || failure.is_some() {
        log.write(record.line("ResponseComplete", code, failure, clock.now()));
        return response;
    }
    log.write(record.line("ResponseStarted", code, failure, clock.now()));
    let end = End {
        log: Arc::clone(log),
        record,
        code,
        clock: Arc::clone(clock),
    };
    response.map(|body| {
        axum::body::Body::new(body.map_frame(move |frame| {
            let _held_until_the_last_frame = &end;
            frame
        }))
    })
}

/// Logs the end of a stream when it is dropped with it.
struct End {
    log: Arc<Log>,
    record: Record,
    code: u16,
    clock: Arc<dyn Clock>,
}

impl Drop for End {
    fn drop(&mut self) {
        let line = self
            .record
            .line("ResponseComplete", self.code, None, self.clock.now());
        self.log.write(line);
    }
}

fn short(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

fn micros(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
