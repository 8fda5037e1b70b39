//! GET of a collection: selectors, and pages over one unchanging snapshot.

use crate::handler::{Call, as_stored, reply};
use crate::negotiation::Shape;
use crate::registry::Served;
use crate::selector::{FieldSelector, LabelSelector};
use crate::status::ApiError;
use crate::table::{self, IncludeObject};
use axum::body::Body;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures::StreamExt;
use kittiwake_store::{Key, Stored};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Snapshots kept for clients that read page by page; the oldest goes first, and its reader gets 410 and starts over.
const SNAPSHOTS_MAX: usize = 64;
/// How long a snapshot is kept.
const SNAPSHOT_AGE_MAX: Duration = Duration::from_secs(300);

/// Bytes of a piece of a list that is sent as a stream, about; one object more may be in it.
const PIECE_BYTES: usize = 256 << 10;

/// Which objects of a collection are wanted.
pub(crate) struct Selection {
    namespace: String,
    name: Option<String>,
    labels: LabelSelector,
    fields: FieldSelector,
    selective: bool,
}

impl Selection {
    /// Reads the selectors of a request. A watch on one object selects its name.
    pub(crate) fn parse(call: &Call) -> Result<Self, ApiError> {
        let (label_text, field_text) = (call.query.get("labelSelector"), call.query.get("fieldSelector"));
        let bad =
            |what: &str, error: String| ApiError::bad_request(format!("unable to parse {what}: {error}"));
        let labels = LabelSelector::parse(label_text.unwrap_or_default());
        let fields = FieldSelector::parse(field_text.unwrap_or_default());
        let fields = fields.map_err(|error| bad("fieldSelector", error.to_string()))?;
        let known = &call.served.version.selectable_fields;
        for field in fields.fields() {
            let always = matches!(field, "metadata.name" | "metadata.namespace");
            if !always && !known.iter().any(|name| name == field) {
                return Err(ApiError::bad_request(format!(
                    "field label not supported: {field}"
                )));
            }
        }
        Ok(Self {
            namespace: call.path.namespace.clone(),
            name: call.path.name.clone(),
            labels: labels.map_err(|error| bad("labelSelector", error.to_string()))?,
            fields,
            selective: label_text.is_some() || field_text.is_some() || call.path.name.is_some(),
        })
    }

    /// The namespace; `None` for all.
    pub(crate) fn namespace(&self) -> Option<&str> {
        Some(self.namespace.as_str()).filter(|namespace| !namespace.is_empty())
    }

    /// Whether a change to an object can change whether it is wanted.
    pub(crate) fn looks_inside(&self) -> bool {
        self.selective
    }

    /// Those of a list that are wanted. Objects are read only where a selector looks into them.
    pub(crate) fn choose(&self, served: &Served, mut stored: Vec<Stored>) -> Vec<Stored> {
        if self.looks_inside() {
            stored.retain(|stored| {
                self.covers(&stored.key)
                    && self.labels.may_match(stored.object.json())
                    && self.matches(&served.read(&stored.object.tree()))
            });
        }
        stored
    }

    /// Whether an object of this namespace and name may be wanted; `false` is certain.
    pub(crate) fn covers(&self, key: &Key) -> bool {
        (self.namespace.is_empty() || *key.namespace == *self.namespace)
            && self.name.as_deref().is_none_or(|name| name == &*key.name)
            && self.fields.may_match(&key.namespace, &key.name)
    }

    /// Whether an object is wanted.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        (self.namespace.is_empty() || self.namespace == crate::object::namespace(object))
            && self
                .name
                .as_deref()
                .is_none_or(|name| name == crate::object::name(object))
            && (!self.selective || (self.labels.matches(object) && self.fields.matches(object)))
    }
}

/// A list that is being read page by page.
struct Kept {
    id: u64,
    since: Duration,
    page: Page,
}

/// All objects of a list at one resource version.
#[derive(Clone)]
struct Page {
    objects: Arc<Vec<Stored>>,
    resource_version: u64,
}

/// The lists that are being read page by page.
#[derive(Default)]
pub(crate) struct Snapshots(Mutex<VecDeque<Kept>>);

impl Snapshots {
    fn keep(&self, page: Page, now: Duration) -> u64 {
        let id = rand::random();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|entry| now.saturating_sub(entry.since) < SNAPSHOT_AGE_MAX);
        if kept.len() >= SNAPSHOTS_MAX {
            kept.pop_front();
        }
        kept.push_back(Kept { id, since: now, page });
        id
    }

    fn find(&self, id: u64, now: Duration) -> Option<Page> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = kept.iter().find(|entry| entry.id == id)?;
        (now.saturating_sub(entry.since) < SNAPSHOT_AGE_MAX).then(|| entry.page.clone())
    }
}

/// What a continue token says.
#[derive(Serialize, Deserialize)]
struct Token {
    /// The snapshot.
    id: u64,
    /// The first object of the next page.
    at: usize,
}

impl Token {
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn decode(text: &str) -> Result<Self, ApiError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        bytes
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(|| ApiError::bad_request("continue key is not valid: it was not made by this server"))
    }
}

/// Answers with one page of the collection, the whole of it when no limit is given.
pub(crate) fn handle(call: &Call) -> Result<Response, ApiError> {
    let limit = call
        .query
        .number("limit")?
        .and_then(|limit| usize::try_from(limit).ok())
        .filter(|limit| *limit > 0);
    let now = call.server.clock.elapsed();
    let (page, kept, start) = match call.query.get("continue") {
        Some(text) => {
            let token = Token::decode(text)?;
            let page = call.server.snapshots.find(token.id, now).ok_or_else(|| {
                ApiError::expired("The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.")
            })?;
            (page, Some(token.id), token.at)
        }
        None => (snapshot(call)?, None, 0),
    };
    let end = limit
        .map_or(page.objects.len(), |limit| start.saturating_add(limit))
        .min(page.objects.len());
    let range = start.min(end)..end;
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".into(), page.resource_version.to_string().into());
    let remaining = page.objects.len().saturating_sub(end);
    if remaining > 0 {
        let id = kept.unwrap_or_else(|| call.server.snapshots.keep(page.clone(), now));
        metadata.insert("continue".into(), Token { id, at: end }.encode().into());
        if call.query.get("labelSelector").is_none() && call.query.get("fieldSelector").is_none() {
            metadata.insert("remainingItemCount".into(), remaining.into());
        }
    }
    respond(call, Value::Object(metadata), page, range)
}

fn snapshot(call: &Call) -> Result<Page, ApiError> {
    let selection = Selection::parse(call)?;
    let snapshot = call
        .server
        .store
        .list(&call.served.kind.storage_resource, selection.namespace());
    check_resource_version(call, snapshot.resource_version)?;
    Ok(Page {
        objects: Arc::new(selection.choose(&call.served, snapshot.items)),
        resource_version: snapshot.resource_version,
    })
}

/// Whether a list at `current` is what `resourceVersion` and `resourceVersionMatch` ask for
/// (kubernetes.io/docs/reference/using-api/api-concepts, "Semantics for get and list").
fn check_resource_version(call: &Call, current: u64) -> Result<(), ApiError> {
    let wanted = call.query.number("resourceVersion")?;
    let rule = call.query.get("resourceVersionMatch");
    let forbidden = |why: &str| {
        let cause = crate::status::Cause::new(
            "resourceVersionMatch",
            "FieldValueForbidden",
            format!("Forbidden: {why}"),
        );
        Err(ApiError::invalid_options("ListOptions", &[cause]))
    };
    match (rule, wanted) {
        (None | Some("NotOlderThan"), Some(wanted)) if wanted > current => {
            Err(ApiError::too_large_resource_version(wanted, current))
        }
        (None, _) | (Some("NotOlderThan"), Some(_)) => Ok(()),
        (Some("Exact"), Some(0)) => {
            forbidden("resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"")
        }
        (Some("Exact"), Some(wanted)) if wanted == current => Ok(()),
        (Some("Exact"), Some(wanted)) => Err(ApiError::expired(format!(
            "The resourceVersion for the provided list is too old: {wanted}"
        ))),
        (Some(_), None) => forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"),
        (Some(_), Some(_)) => forbidden("supported values are \"Exact\" and \"NotOlderThan\""),
    }
}

/// The JSON of a list, piece by piece: a list may be long, and so no more than a piece of it is in memory twice.
struct ListJson {
    served: Served,
    stored: Page,
    /// What is left of the page.
    rest: Range<usize>,
    /// What comes before the first object.
    head: Option<Vec<u8>>,
    ended: bool,
}

impl ListJson {
    fn new(served: &Served, metadata: &Value, stored: Page, range: Range<usize>) -> Self {
        // Written as serde_json writes a map.
        let head =
            json!({"kind": served.kind.list_kind, "apiVersion": served.api_version(), "metadata": metadata});
        let mut head = head.to_string().into_bytes();
        head.pop();
        head.extend_from_slice(b",\"items\":[");
        Self {
            served: served.clone(),
            stored,
            rest: range,
            head: Some(head),
            ended: false,
        }
    }
}

impl Iterator for ListJson {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.ended {
            return None;
        }
        let mut separate = self.head.is_none();
        let mut piece = self.head.take().unwrap_or_default();
        while piece.len() < PIECE_BYTES {
            let next = self.rest.next().and_then(|index| self.stored.objects.get(index));
            let Some(next) = next else {
                piece.extend_from_slice(b"]}");
                self.ended = true;
                break;
            };
            if separate {
                piece.push(b',');
            }
            separate = true;
            as_stored::append(&self.served, &next.object, &mut piece);
        }
        Some(piece)
    }
}

/// A list as JSON: at once when it is short, else as a stream.
fn list_json(served: &Served, metadata: &Value, stored: Page, range: Range<usize>) -> Body {
    let mut pieces = ListJson::new(served, metadata, stored, range);
    let first = pieces.next().unwrap_or_default();
    if pieces.ended {
        return first.into();
    }
    let pieces = std::iter::once(first).chain(pieces).map(Bytes::from);
    // Between pieces others have their turn: writing one is computing, not waiting.
    Body::from_stream(futures::stream::iter(pieces).then(async |piece| {
        tokio::task::yield_now().await;
        Ok::<_, Infallible>(piece)
    }))
}

/// A list of the kind's own list type.
pub(crate) fn list_value(served: &Served, metadata: Value, stored: &[Stored]) -> Value {
    let items: Vec<Value> = stored
        .iter()
        .map(|stored| (*served.read(&stored.object.tree())).clone())
        .collect();
    json!({"kind": served.kind.list_kind, "apiVersion": served.api_version(), "metadata": metadata, "items": items})
}

fn respond(call: &Call, metadata: Value, page: Page, range: Range<usize>) -> Result<Response, ApiError> {
    let read = |stored: &Stored| call.served.read(&stored.object.tree());
    if call.format.shape == Shape::Whole && reply::is_plain_json(call) {
        let body = list_json(&call.served, &metadata, page, range);
        return Ok(reply::bytes(200, "application/json", body));
    }
    let stored = page.objects.get(range).unwrap_or_default();
    match call.format.shape {
        Shape::Whole => reply::encoded(call, 200, &list_value(&call.served, metadata, stored)),
        Shape::Metadata(version) => {
            let items: Vec<Value> = stored
                .iter()
                .map(|stored| table::partial_metadata(&read(stored), version))
                .collect();
            let api_version = format!("meta.k8s.io/{version}");
            let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": api_version, "metadata": metadata, "items": items});
            reply::encoded(call, 200, &list)
        }
        Shape::Table(version) => {
            let include = IncludeObject::parse(call.query.get("includeObject"))?;
            let objects: Vec<Arc<Value>> = stored.iter().map(read).collect();
            let objects = objects.iter().map(AsRef::as_ref);
            let table = table::table(
                &call.served,
                version,
                objects,
                metadata,
                include,
                call.server.clock.now(),
            );
            reply::encoded(call, 200, &table)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_bounded_in_number_and_age() {
        let snapshots = Snapshots::default();
        let page = Page {
            objects: Arc::default(),
            resource_version: 1,
        };
        let first = snapshots.keep(page.clone(), Duration::ZERO);
        assert!(snapshots.find(first, SNAPSHOT_AGE_MAX).is_none());
        assert!(snapshots.find(first, Duration::ZERO).is_some());
        for _ in 0..SNAPSHOTS_MAX {
            snapshots.keep(page.clone(), Duration::ZERO);
        }
        assert!(snapshots.find(first, Duration::ZERO).is_none());
    }

    #[test]
    fn tokens_survive_the_wire_and_strangers_are_refused() {
        let token = Token {
            id: u64::MAX,
            at: 500,
        };
        let read = Token::decode(&token.encode()).ok().unwrap();
        assert_eq!((read.id, read.at), (u64::MAX, 500));
        assert_eq!(Token::decode("x%").err().unwrap().code, 400);
    }
}
