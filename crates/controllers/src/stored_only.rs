//! Kinds that are stored and validated, and that nothing carries out yet: each object is told so in its status, so that
//! nobody waits for what does not come. A kind leaves the table when its engine arrives.

pub mod plan;

use crate::object::ObjectKey;
use crate::runner::{self, Next, Queue};
use crate::{Error, FIELD_MANAGER, error};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use kittiwake_core::clock::Clock;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, PostParams};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, ResourceExt};
use plan::Form;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

/// A kind: group, version, kind, plural.
type Row = (&'static str, &'static str, &'static str, &'static str);

/// Kinds whose objects get a condition Ready.
const KINDS: [Row; 12] = [
    ("eventing.knative.dev", "v1", "Broker", "brokers"),
    ("eventing.knative.dev", "v1", "Trigger", "triggers"),
    ("eventing.knative.dev", "v1beta2", "EventType", "eventtypes"),
    ("messaging.knative.dev", "v1", "Channel", "channels"),
    (
        "messaging.knative.dev",
        "v1",
        "InMemoryChannel",
        "inmemorychannels",
    ),
    ("messaging.knative.dev", "v1", "Subscription", "subscriptions"),
    ("flows.knative.dev", "v1", "Sequence", "sequences"),
    ("flows.knative.dev", "v1", "Parallel", "parallels"),
    ("sources.knative.dev", "v1", "PingSource", "pingsources"),
    ("sources.knative.dev", "v1", "ApiServerSource", "apiserversources"),
    ("sources.knative.dev", "v1", "ContainerSource", "containersources"),
    ("sources.knative.dev", "v1", "SinkBinding", "sinkbindings"),
];
const TEMPLATES: Row = (
    "templates.gatekeeper.sh",
    "v1",
    "ConstraintTemplate",
    "constrainttemplates",
);
const CONSTRAINTS: (&str, &str) = ("constraints.gatekeeper.sh", "v1beta1");

/// What every kind's run needs.
#[derive(Clone)]
struct Shared {
    client: Client,
    clock: Arc<dyn Clock>,
    /// The runs of kinds that ConstraintTemplates made, by kind.
    constraints: Arc<Mutex<HashMap<String, AbortOnDropHandle<()>>>>,
}

/// Tells all objects of these kinds, for ever.
pub(crate) async fn run(client: Client, clock: Arc<dyn Clock>) {
    let shared = Shared {
        client,
        clock,
        constraints: Arc::default(),
    };
    let resource = |(group, version, kind, plural): Row| {
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    };
    let kinds = KINDS
        .into_iter()
        .map(|row| follow(shared.clone(), resource(row), Form::Conditions));
    let templates = follow(shared.clone(), resource(TEMPLATES), Form::Template);
    futures::future::join_all(kinds.chain([templates])).await;
}

/// Watches one kind and looks at each object of it that changes. Boxed, because following templates leads back here.
fn follow(shared: Shared, resource: ApiResource, form: Form) -> BoxFuture<'static, ()> {
    async move { follow_one(shared, resource, form).await }.boxed()
}

async fn follow_one(shared: Shared, resource: ApiResource, form: Form) {
    let api: Api<DynamicObject> = Api::all_with(shared.client.clone(), &resource);
    let writer = reflector::store::Writer::new(resource.clone());
    let store = writer.as_reader();
    let queue = Queue::default();
    let watching = async {
        let objects = watcher(api, watcher::Config::default())
            .default_backoff()
            .modify(|object| object.managed_fields_mut().clear())
            .reflect(writer)
            .touched_objects();
        let mut objects = std::pin::pin!(objects);
        while let Some(object) = objects.next().await {
            match object {
                Ok(object) => queue.add(ObjectKey::new(
                    object.namespace().unwrap_or_default(),
                    object.name_any(),
                )),
                Err(error) => {
                    tracing::debug!(kind = resource.kind, %error, "a watch broke, starting it anew");
                }
            }
        }
    };
    let reconcile = |key: ObjectKey| {
        let (shared, resource, store) = (shared.clone(), resource.clone(), store.clone());
        async move { reconcile(&shared, &resource, form, &store, &key).await }.boxed()
    };
    tokio::join!(watching, runner::run("stored-only", &queue, reconcile));
}

async fn reconcile(
    shared: &Shared,
    resource: &ApiResource,
    form: Form,
    store: &Store<DynamicObject>,
    key: &ObjectKey,
) -> Result<Next, Error> {
    let reference = ObjectRef::new_with(&key.name, resource.clone()).within(&key.namespace);
    let object = store.get(&reference);
    if form == Form::Template {
        follow_constraints(shared, key, object.as_deref()).await;
    }
    let Some(object) = object.filter(|object| object.metadata.deletion_timestamp.is_none()) else {
        return Ok(Next::OnChange);
    };
    if let Some(status) = plan::plan(&resource.kind, form, &object, shared.clock.now()) {
        write_status(shared, resource, &object, status).await?;
    }
    Ok(Next::OnChange)
}

/// Begins to follow the kind that a template makes, or ends it with the template.
async fn follow_constraints(shared: &Shared, key: &ObjectKey, template: Option<&DynamicObject>) {
    let mut constraints = shared.constraints.lock().await;
    let kind = template.and_then(|template| template.data.pointer("/spec/crd/spec/names/kind")?.as_str());
    let Some(kind) = kind else {
        constraints.remove(&*key.name);
        return;
    };
    if constraints.contains_key(&*key.name) {
        return;
    }
    let (group, version) = CONSTRAINTS;
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), &key.name);
    let run = follow(shared.clone(), resource, Form::Constraint);
    constraints.insert(key.name.to_string(), AbortOnDropHandle::new(tokio::spawn(run)));
}

async fn write_status(
    shared: &Shared,
    resource: &ApiResource,
    object: &DynamicObject,
    status: serde_json::Value,
) -> Result<(), Error> {
    let mut changed = object.clone();
    if let Some(data) = changed.data.as_object_mut() {
        data.insert("status".to_owned(), status);
    }
    let api: Api<DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(shared.client.clone(), &namespace, resource),
        None => Api::all_with(shared.client.clone(), resource),
    };
    let params = PostParams {
        dry_run: false,
        field_manager: Some(FIELD_MANAGER.to_owned()),
    };
    match api.replace_status(&object.name_any(), &params, &changed).await {
        Ok(_) => Ok(()),
        Err(gone) if error::is_gone(&gone) => Ok(()),
        Err(other) => Err(other.into()),
    }
}
