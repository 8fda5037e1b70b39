//! What all reconcilers do with objects: name them, own them, write them.

use crate::{Error, FIELD_MANAGER, error};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kittiwake_api::condition::{self, Condition};
use kittiwake_api::duration::GoDuration;
use kube::api::PostParams;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

/// Namespace and name of an object whose kind is known from the place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// The object `name` in `namespace`.
    #[must_use]
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of an object.
    #[must_use]
    pub fn of<K: Resource>(object: &K) -> Self {
        Self::new(
            object.meta().namespace.as_deref().unwrap_or_default(),
            object.meta().name.as_deref().unwrap_or_default(),
        )
    }

    /// Another object's key in the same namespace.
    #[must_use]
    pub fn sibling(&self, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: Arc::clone(&self.namespace),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Labels or annotations.
pub type Map = BTreeMap<String, String>;

/// What a plan does with a child object.
#[derive(Debug, Clone, PartialEq)]
pub enum Write<T> {
    /// It is as it should be, or not ours to touch.
    Keep,
    /// It is not there.
    Create(T),
    /// It is there but differs. Carries the resourceVersion that was observed.
    Replace(T),
}

/// What every object that is read from the API has; empty texts where a test left them out.
pub trait Meta {
    /// The uid.
    fn uid_str(&self) -> &str;
    /// The name.
    fn name_str(&self) -> &str;
    /// A label's value.
    fn label(&self, key: &str) -> Option<&str>;
    /// An annotation's value.
    fn annotation(&self, key: &str) -> Option<&str>;
    /// An annotation's value as a duration in Go's notation; `None` too where it is none, or less than nothing.
    fn duration_annotation(&self, key: &str) -> Option<Duration>;
    /// Whether it is on its way out.
    fn is_being_deleted(&self) -> bool;
}

impl<K: Resource> Meta for K {
    fn uid_str(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or_default()
    }
    fn name_str(&self) -> &str {
        self.meta().name.as_deref().unwrap_or_default()
    }
    fn label(&self, key: &str) -> Option<&str> {
        self.meta().labels.as_ref()?.get(key).map(String::as_str)
    }
    fn annotation(&self, key: &str) -> Option<&str> {
        self.meta().annotations.as_ref()?.get(key).map(String::as_str)
    }
    fn duration_annotation(&self, key: &str) -> Option<Duration> {
        self.annotation(key)?.parse::<GoDuration>().ok()?.to_std()
    }
    fn is_being_deleted(&self) -> bool {
        self.meta().deletion_timestamp.is_some()
    }
}

/// Metadata of a child of `owner`: same namespace, owned by it as its controller.
#[must_use]
pub fn child_meta<O: Resource<DynamicType = ()>>(
    owner: &O,
    name: String,
    labels: Map,
    annotations: Map,
) -> ObjectMeta {
    let reference = OwnerReference {
        api_version: O::api_version(&()).into_owned(),
        kind: O::kind(&()).into_owned(),
        name: owner.name_any(),
        uid: owner.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    ObjectMeta {
        name: Some(name),
        namespace: owner.namespace(),
        labels: Some(labels),
        annotations: Some(annotations),
        owner_references: Some(vec![reference]),
        ..ObjectMeta::default()
    }
}

/// Whether `owner` is the controller of `child`.
#[must_use]
pub fn is_controlled_by<C: Resource, O: Resource>(child: &C, owner: &O) -> bool {
    let uid = owner.meta().uid.as_deref();
    child
        .owner_references()
        .iter()
        .any(|r| r.controller == Some(true) && Some(r.uid.as_str()) == uid)
}

fn post_params() -> PostParams {
    PostParams {
        dry_run: false,
        field_manager: Some(FIELD_MANAGER.to_owned()),
    }
}

fn api_of<K>(client: &Client, object: &K) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(
        client.clone(),
        object.meta().namespace.as_deref().unwrap_or_default(),
    )
}

/// Carries out a [`Write`]. Gives the object as created, or nothing when there was nothing to create. A namespace
/// that went away meanwhile is no error.
///
/// # Errors
/// [`Error::Conflict`] when the object is there already or changed since.
pub async fn write<K>(client: &Client, write: Write<K>) -> Result<Option<K>, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let (result, created) = match write {
        Write::Keep => return Ok(None),
        Write::Create(object) => (
            api_of(client, &object).create(&post_params(), &object).await,
            true,
        ),
        Write::Replace(object) => (
            api_of(client, &object)
                .replace(&object.name_any(), &post_params(), &object)
                .await,
            false,
        ),
    };
    match result {
        Ok(object) => Ok(created.then_some(object)),
        Err(gone) if error::is_gone(&gone) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

/// Writes the status of `object`, which carries the resourceVersion that it was planned from.
///
/// # Errors
/// [`Error::Conflict`] when it changed since. That it is gone is no error.
pub async fn write_status<K>(client: &Client, object: &K) -> Result<(), Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    match api_of(client, object)
        .replace_status(&object.name_any(), &post_params(), object)
        .await
    {
        Ok(_) => Ok(()),
        Err(gone) if error::is_gone(&gone) => Ok(()),
        Err(other) => Err(other.into()),
    }
}

/// Gives conditions that say what they said before their old time back: a plan may mark a condition twice on its way,
/// and what did not change in the end did not change.
pub fn keep_times(old: &[Condition], new: &mut [Condition]) {
    for condition in new {
        if let Some(before) = condition::find(old, &condition.type_) {
            let timed = Condition {
                last_transition_time: before.last_transition_time.clone(),
                ..condition.clone()
            };
            if timed == *before {
                *condition = timed;
            }
        }
    }
}
