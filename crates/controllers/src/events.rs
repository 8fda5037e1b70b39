//! Kubernetes Events: the story that `kubectl describe` tells. They are told beside the work: a full queue or a
//! refused Event loses the Event and nothing else.

use crate::FIELD_MANAGER;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kittiwake_core::clock::Clock;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Events that may wait to be written before new ones are dropped.
pub const EVENTS_WAITING_MAX: usize = 1024;
/// Events that are remembered, so that a repetition counts up instead of making another one. All are forgotten
/// when there are more; a repetition then is a new Event.
const EVENTS_REMEMBERED_MAX: usize = 4096;
/// Longest message, in bytes (Kubernetes: 1 kB).
const MESSAGE_BYTES_MAX: usize = 1024;

/// Whether something is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It is.
    Normal,
    /// Its owner should look at it.
    Warning,
}

/// What happened to an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Notice {
    /// Whether that is good.
    pub kind: EventKind,
    /// One CamelCase word.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Notice {
    /// Something good.
    #[must_use]
    pub fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind: EventKind::Normal,
            reason,
            message: message.into(),
        }
    }

    /// Something bad.
    #[must_use]
    pub fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind: EventKind::Warning,
            reason,
            message: message.into(),
        }
    }
}

/// Where Events are handed in.
#[derive(Clone, Debug)]
pub struct EventSink(mpsc::Sender<(ObjectReference, Notice)>);

impl EventSink {
    /// Hands in what happened to `object`, without waiting.
    pub fn tell<K: Resource<DynamicType = ()>>(&self, object: &K, notices: Vec<Notice>) {
        for notice in notices {
            if self.0.try_send((object.object_ref(&()), notice)).is_err() {
                tracing::debug!("an Event was dropped: too many are waiting");
            }
        }
    }
}

/// Writes Events to the API.
pub struct Publisher {
    client: Client,
    clock: Arc<dyn Clock>,
    waiting: mpsc::Receiver<(ObjectReference, Notice)>,
    /// Uid of the object and what was said about it → name of the Event and how often it was said.
    said: HashMap<(String, Notice), (String, i32)>,
    /// Events made so far; keeps the names of two of one moment apart.
    made: u32,
}

/// A sink and the publisher behind it.
#[must_use]
pub fn channel(client: Client, clock: Arc<dyn Clock>) -> (EventSink, Publisher) {
    let (sender, waiting) = mpsc::channel(EVENTS_WAITING_MAX);
    (
        EventSink(sender),
        Publisher {
            client,
            clock,
            waiting,
            said: HashMap::new(),
            made: 0,
        },
    )
}

impl Publisher {
    /// Publishes until every sink is gone.
    pub async fn run(mut self) {
        while let Some((object, notice)) = self.waiting.recv().await {
            if let Err(error) = self.publish(object, notice).await {
                tracing::debug!(%error, "an Event was refused");
            }
        }
    }

    async fn publish(&mut self, object: ObjectReference, notice: Notice) -> Result<(), kube::Error> {
        let now = self.clock.now();
        let api = Api::<Event>::namespaced(
            self.client.clone(),
            object.namespace.as_deref().unwrap_or("default"),
        );
        let said = (object.uid.clone().unwrap_or_default(), notice);
        if let Some((name, count)) = self.said.get_mut(&said) {
            *count += 1;
            let patch = json!({ "count": *count, "lastTimestamp": Time(now) });
            match api
                .patch(name, &PatchParams::apply(FIELD_MANAGER), &Patch::Merge(patch))
                .await
            {
                Err(gone) if crate::error::is_gone(&gone) => {}
                result => return result.map(drop),
            }
        }
        if self.said.len() >= EVENTS_REMEMBERED_MAX {
            self.said.clear();
        }
        self.made = self.made.wrapping_add(1);
        let event = event(object, &said.1, now, self.made);
        let name = event.metadata.name.clone().unwrap_or_default();
        let params = PostParams {
            dry_run: false,
            field_manager: Some(FIELD_MANAGER.to_owned()),
        };
        api.create(&params, &event).await?;
        self.said.insert(said, (name, 1));
        Ok(())
    }
}

fn event(object: ObjectReference, notice: &Notice, now: Timestamp, number: u32) -> Event {
    let unique = now.as_nanosecond() + i128::from(number);
    let name = format!("{}.{unique:x}", object.name.as_deref().unwrap_or_default());
    let end = notice.message.floor_char_boundary(MESSAGE_BYTES_MAX);
    Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: object.namespace.clone(),
            ..ObjectMeta::default()
        },
        involved_object: object,
        type_: Some(match notice.kind {
            EventKind::Normal => "Normal".to_owned(),
            EventKind::Warning => "Warning".to_owned(),
        }),
        reason: Some(notice.reason.to_owned()),
        message: Some(notice.message.get(..end).unwrap_or_default().to_owned()),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        source: Some(EventSource {
            component: Some(FIELD_MANAGER.to_owned()),
            host: None,
        }),
        reporting_component: Some(FIELD_MANAGER.to_owned()),
        reporting_instance: Some(FIELD_MANAGER.to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_name_their_object_and_keep_to_the_length_limit() {
        let object = ObjectReference {
            name: Some("hello".to_owned()),
            namespace: Some("default".to_owned()),
            ..ObjectReference::default()
        };
        let event = event(
            object,
            &Notice::warning("InternalError", "é".repeat(2000)),
            Timestamp::UNIX_EPOCH,
            10,
        );
        assert_eq!(event.metadata.name.as_deref(), Some("hello.a"));
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        assert!(
            event
                .message
                .is_some_and(|m| m.len() <= MESSAGE_BYTES_MAX && m.starts_with('é'))
        );
    }
}
