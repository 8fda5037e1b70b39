//! GET of a collection: selectors, and pages over one unchanging snapshot.

use crate::handler::compress::{self, GzipPieces};
use crate::handler::pages::{self, Page, Start, Token};
use crate::handler::{Call, as_stored, list_options, reply};
use crate::negotiation::Shape;
use crate::registry::Served;
use crate::selector::{FieldSelector, LabelSelector};
use crate::status::ApiError;
use crate::table::{self, IncludeObject};
use axum::response::Response;
use kittiwake_store::{Key, Stored};
use serde_json::{Map, Value, json};
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

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
                return Err(unknown_field(call, field));
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

/// The two texts of Kubernetes: kinds of its own without selectable fields have one (apimachinery
/// `DefaultMetaV1FieldSelectorConversion`), all others the other.
fn unknown_field(call: &Call, field: &str) -> ApiError {
    let (kind, known) = (&call.served.kind, &call.served.version.selectable_fields);
    ApiError::bad_request(if kind.built_in && known.is_empty() {
        format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    } else {
        format!("field label not supported: {field}")
    })
}

/// Answers with one page of the collection, the whole of it when no limit is given.
pub(crate) fn handle(call: &Call) -> Result<Response, ApiError> {
    let limit = call
        .query
        .number("limit")?
        .and_then(|limit| usize::try_from(limit).ok())
        .filter(|limit| *limit > 0);
    list_options::check_list(&call.query)?;
    let Start { page, at, kept } = match call.query.get("continue") {
        Some(text) => pages::resume(call, text, || snapshot(call))?,
        None => Start {
            page: snapshot(call)?,
            at: 0,
            kept: None,
        },
    };
    let end = limit
        .map_or(page.objects.len(), |limit| at.saturating_add(limit))
        .min(page.objects.len());
    let range = at.min(end)..end;
    let objects = page.objects.get(range.clone()).unwrap_or_default();
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".into(), page.resource_version.to_string().into());
    let remaining = page.objects.len().saturating_sub(end);
    if remaining > 0
        && let Some(last) = objects.last()
    {
        let now = call.server.clock.elapsed();
        let id = kept.unwrap_or_else(|| call.server.snapshots.keep(page.clone(), now));
        metadata.insert("continue".into(), Token::new(call, id, &last.key).encode().into());
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
        .store_of(&call.served.kind)
        .list(&call.served.kind.storage_resource, selection.namespace());
    list_options::check_list_version(&call.query, snapshot.resource_version)?;
    Ok(Page {
        objects: Arc::new(selection.choose(&call.served, snapshot.items)),
        resource_version: snapshot.resource_version,
    })
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

/// A list as JSON: at once when it is short, else as a stream, which is compressed here where the client wants that.
fn list_json(call: &Call, metadata: &Value, stored: Page, range: Range<usize>) -> Response {
    let mut pieces = ListJson::new(&call.served, metadata, stored, range);
    let first = pieces.next().unwrap_or_default();
    if pieces.ended {
        return reply::bytes(200, "application/json", first);
    }
    let pieces = std::iter::once(first).chain(pieces);
    if !compress::accepts_gzip(&call.headers) {
        return reply::bytes(
            200,
            "application/json",
            reply::in_turns(pieces.map(Ok::<_, Infallible>)),
        );
    }
    let packed = reply::in_turns(GzipPieces::new(pieces).map(Ok::<_, Infallible>));
    let mut response = reply::bytes(200, "application/json", packed);
    compress::set_gzip(response.headers_mut());
    response
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
        return Ok(list_json(call, &metadata, page, range));
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
