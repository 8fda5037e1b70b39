//! GET with `watch=true`: one JSON line per event, from any resource version that the history still holds.

use crate::handler::list::Selection;
use crate::handler::list_options::{self, WatchStart};
use crate::handler::{Call, as_stored, reply};
use crate::negotiation::Shape;
use crate::object;
use crate::registry::Served;
use crate::server::Server;
use crate::status::ApiError;
use crate::table::{self, IncludeObject};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use kittiwake_store::{Document, Event, EventKind, Stored, WatchError, Watcher};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Shortest default duration of a watch; the longest is twice that (`--min-request-timeout` of kube-apiserver).
const DURATION_DEFAULT_MIN: Duration = Duration::from_secs(1800);
/// Most bytes that are joined into one chunk when several events wait.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// Streams events until the client leaves, the time is up, or the server stops.
pub(crate) fn handle(call: &Call) -> Result<Response, ApiError> {
    let selection = Selection::parse(call)?;
    let include = IncludeObject::parse(call.query.get("includeObject"))?;
    let start = list_options::watch_start(
        &call.query,
        call.server.store_of(&call.served.kind).resource_version(),
    )?;
    let writer = EventWriter {
        server: Arc::clone(&call.server),
        served: call.served.clone(),
        shape: call.format.shape,
        include,
    };
    let timeout = call
        .query
        .number("timeoutSeconds")?
        .filter(|seconds| *seconds > 0)
        .map_or_else(
            || DURATION_DEFAULT_MIN + DURATION_DEFAULT_MIN.mul_f64(rand::random()),
            Duration::from_secs,
        );
    let now = Instant::now();
    let mut stream = Stream {
        initial: VecDeque::new(),
        initial_end: None,
        watcher: None,
        failure: None,
        selection,
        writer,
        bookmarks: call.query.flag("allowWatchBookmarks"),
        next_bookmark: now + call.server.config.bookmark_interval,
        deadline: now.checked_add(timeout).unwrap_or(now + DURATION_DEFAULT_MIN),
    };
    stream.open(start);
    let body = futures::stream::unfold(stream, |mut stream| async move {
        let chunk = stream.next_chunk().await?;
        Some((Ok::<Bytes, Infallible>(chunk), stream))
    });
    Ok(reply::bytes(200, "application/json", Body::from_stream(body)))
}

/// Writes events in the form that the client asked for.
struct EventWriter {
    server: Arc<Server>,
    served: Served,
    shape: Shape,
    include: IncludeObject,
}

impl EventWriter {
    /// An event about an object as it is stored: by its text where that fits, so that one encoding serves all watchers.
    fn stored(&self, kind: &str, document: &Document) -> Vec<u8> {
        match as_stored::text(&self.served, document) {
            Some(text) if self.shape == Shape::Whole => ["{\"type\":\"", kind, "\",\"object\":", text, "}\n"]
                .concat()
                .into_bytes(),
            _ => self.event(kind, &self.served.read(&document.tree())),
        }
    }

    fn event(&self, kind: &str, object: &Value) -> Vec<u8> {
        let shaped = match self.shape {
            Shape::Whole => return line(kind, object),
            Shape::Metadata(version) => table::partial_metadata(object, version),
            Shape::Table(version) => {
                let metadata = json!({"resourceVersion": object::resource_version(object)});
                let now = self.server.clock.now();
                table::table(&self.served, version, [object], metadata, self.include, now)
            }
        };
        line(kind, &shaped)
    }

    /// A bookmark: kind and resource version only. `initial_end` marks the end of the initial state.
    fn bookmark(&self, resource_version: u64, initial_end: bool) -> Vec<u8> {
        let mut metadata =
            json!({"resourceVersion": resource_version.to_string(), "creationTimestamp": null});
        if initial_end {
            let annotations = json!({"k8s.io/initial-events-end": "true"});
            object::map_mut(&mut metadata).insert("annotations".into(), annotations);
        }
        let object = match self.shape {
            Shape::Whole => {
                json!({"kind": self.served.kind.kind, "apiVersion": self.served.api_version(), "metadata": metadata})
            }
            Shape::Metadata(version) => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata})
            }
            Shape::Table(version) => table::table(
                &self.served,
                version,
                [],
                metadata,
                self.include,
                self.server.clock.now(),
            ),
        };
        line("BOOKMARK", &object)
    }
}

/// `{"type": …, "object": …}` and a line end.
fn line(kind: &str, object: &Value) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
        object: &'a Value,
    }
    let mut bytes = serde_json::to_vec(&Line { kind, object }).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// The state of one watch.
struct Stream {
    /// The state at the start, not yet sent.
    initial: VecDeque<Stored>,
    /// Resource version of the bookmark that follows `initial`.
    initial_end: Option<u64>,
    /// Changes; `None` once the watch cannot go on.
    watcher: Option<Watcher>,
    /// The last event of a watch that cannot go on.
    failure: Option<ApiError>,
    selection: Selection,
    writer: EventWriter,
    bookmarks: bool,
    /// When the next bookmark is due, whatever other events there are: a watch whose selector passes over everything
    /// learns how far it is, too.
    next_bookmark: Instant,
    deadline: Instant,
}

impl Stream {
    fn open(&mut self, start: WatchStart) {
        let store = self.writer.server.store_of(&self.writer.served.kind);
        let resource = &self.writer.served.kind.storage_resource;
        let from = match start {
            WatchStart::After(version) => version,
            WatchStart::Now => store.resource_version(),
            WatchStart::State { marked } => {
                let snapshot = store.list(resource, self.selection.namespace());
                self.initial = self.selection.choose(&self.writer.served, snapshot.items).into();
                self.initial_end = Some(snapshot.resource_version).filter(|_| marked && self.bookmarks);
                snapshot.resource_version
            }
        };
        match store.watch(resource, from) {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(_) => {
                let current = store.resource_version();
                self.failure = Some(ApiError::expired(format!(
                    "too old resource version: {from} ({current})"
                )));
            }
        }
    }

    /// The next line or lines; `None` ends the response.
    async fn next_chunk(&mut self) -> Option<Bytes> {
        let initial = self.initial_chunk();
        if !initial.is_empty() {
            return Some(initial.into());
        }
        if let Some(failure) = self.failure.take() {
            self.watcher = None;
            return Some(line("ERROR", &failure.to_status()).into());
        }
        let shutdown = self.writer.server.shutdown.clone();
        loop {
            let watcher = self.watcher.as_mut()?;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return None,
                event = watcher.next() => match event {
                    Ok(event) => {
                        if let Some(line) = self.change(&event) {
                            return Some(line.into());
                        }
                    }
                    Err(WatchError::Closed) => return None,
                    Err(WatchError::Lagged) => {
                        self.watcher = None;
                        let error = ApiError::expired("too old resource version: the watch fell behind the history");
                        return Some(line("ERROR", &error.to_status()).into());
                    }
                },
                () = tokio::time::sleep_until(self.deadline) => return None,
                () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => {
                    self.next_bookmark = Instant::now() + self.writer.server.config.bookmark_interval;
                    return Some(self.writer.bookmark(watcher.bookmark(), false).into());
                }
            }
        }
    }

    /// As much of the initial state as fits a chunk, and its bookmark after the last object.
    fn initial_chunk(&mut self) -> Vec<u8> {
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK_BYTES_MAX {
            let Some(stored) = self.initial.pop_front() else {
                break;
            };
            chunk.extend(self.writer.stored("ADDED", &stored.object));
        }
        if self.initial.is_empty()
            && let Some(version) = self.initial_end.take()
        {
            chunk.extend(self.writer.bookmark(version, true));
        }
        chunk
    }

    /// The line of a change, seen through the selectors: an object that begins to match is ADDED, one that no longer
    /// does is DELETED (as it was, with the resource version of the change).
    fn change(&self, event: &Event) -> Option<Vec<u8>> {
        if !self.selection.covers(&event.object.key) {
            return None;
        }
        if !self.selection.looks_inside() {
            let kind = match event.kind {
                EventKind::Added => "ADDED",
                EventKind::Modified => "MODIFIED",
                EventKind::Deleted => "DELETED",
            };
            return Some(self.writer.stored(kind, &event.object.object));
        }
        let served = &self.writer.served;
        let object = served.read(&event.object.object.tree());
        let matches = self.selection.matches(&object);
        if event.kind == EventKind::Deleted {
            return matches.then(|| self.writer.event("DELETED", &object));
        }
        let previous = event
            .previous
            .as_ref()
            .map(|previous| served.read(&previous.tree()));
        let previous = previous.filter(|previous| self.selection.matches(previous));
        match (previous, matches) {
            (None, false) => None,
            (None, true) => Some(self.writer.event("ADDED", &object)),
            (Some(_), true) => Some(self.writer.event("MODIFIED", &object)),
            (Some(previous), false) => {
                let mut gone = (*previous).clone();
                let version = event.object.resource_version.to_string();
                object::metadata_mut(&mut gone).insert("resourceVersion".into(), version.into());
                Some(self.writer.event("DELETED", &gone))
            }
        }
    }
}
