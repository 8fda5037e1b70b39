//! Kinds that users make: each ConstraintTemplate defines a kind of constraints, which is served as soon as the write of
//! the template is answered, follows its changes, and goes with it and all its objects.
//!
//! What is served is made from the templates as they are stored, never from a request: so it is the same after a
//! restart, and the last of several writers is followed whatever their order.

use crate::registry::{Hooks, Kind, kind_of_crd};
use crate::server::{self, Server};
use crate::status::Cause;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kittiwake_api::gatekeeper::{self, ConstraintTemplate, constraint};
use kittiwake_store::{Change, Key, ObjectStore};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

/// The group of the kinds that templates make.
pub(crate) const GROUP: &str = gatekeeper::CONSTRAINTS_GROUP;
/// Where templates are in the store.
pub(crate) const TEMPLATES: &str = "constrainttemplates.templates.gatekeeper.sh";
const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";
const SCHEMA_PATH: &str = "spec.crd.spec.validation.openAPIV3Schema";

/// What templates do beyond the generic rules.
pub(crate) const HOOKS: Hooks = Hooks {
    default: None,
    validate: Some(check),
    begin_deletion: None,
    end: None,
    refuse_deletion: None,
    label_names: false,
    path_names: false,
    defines_kinds: true,
    read_only: None,
};

/// The kinds that were made, by the name of their template.
#[derive(Default)]
pub(crate) struct Made(BTreeMap<String, Template>);

struct Template {
    /// What it was made from.
    spec: Value,
    /// `None` when it cannot be made, which the check at writing forbids; then its objects stay where they are.
    kind: Option<(Arc<Kind>, CustomResourceDefinition)>,
}

impl Made {
    /// The kinds of the templates in a store.
    pub(crate) fn load(store: &ObjectStore) -> Self {
        let mut made = Self::default();
        made.follow(store);
        made
    }

    /// The kinds.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = Arc<Kind>> {
        let kinds = self.0.values().filter_map(|template| template.kind.as_ref());
        kinds.map(|(kind, _)| Arc::clone(kind))
    }

    /// Catches up with the templates in the store; tells what came or changed, and what went.
    fn follow(&mut self, store: &ObjectStore) -> Changes {
        let mut changes = Changes::default();
        let mut old = std::mem::take(&mut self.0);
        for stored in store.list(TEMPLATES, None).items {
            let object = stored.object.tree();
            let spec = object.get("spec").cloned().unwrap_or_default();
            let name = stored.key.name.to_string();
            let is_new = match old.remove(&name) {
                Some(same) if same.spec == spec => {
                    self.0.insert(name, same);
                    continue;
                }
                before => before.is_none(),
            };
            let kind = make(&object)
                .inspect_err(|cause| tracing::error!(template = %name, message = cause.message, "a stored template makes no kind"))
                .ok();
            if is_new {
                changes
                    .new
                    .extend(kind.as_ref().map(|(kind, _)| Arc::clone(&kind.storage_resource)));
            }
            changes
                .definitions
                .extend(kind.as_ref().map(|(_, crd)| crd.clone()));
            self.0.insert(name, Template { spec, kind });
        }
        let gone = old.into_values().filter_map(|template| template.kind);
        changes.gone = gone.map(|(kind, _)| Arc::clone(&kind.storage_resource)).collect();
        changes
    }
}

/// What following the templates came to.
#[derive(Default)]
struct Changes {
    /// Kinds that were not there, by their name in the store.
    new: Vec<Arc<str>>,
    /// Definitions that are new or changed.
    definitions: Vec<CustomResourceDefinition>,
    /// Kinds that are gone, by their name in the store.
    gone: Vec<Arc<str>>,
}

/// The kind that a template makes.
fn make(template: &Value) -> Result<(Arc<Kind>, CustomResourceDefinition), Cause> {
    let wrong = |message: String| {
        Cause::new(
            SCHEMA_PATH,
            "FieldValueInvalid",
            format!("Invalid value: {message}"),
        )
    };
    let template = ConstraintTemplate::deserialize(template).map_err(|error| wrong(error.to_string()))?;
    let crd = constraint::definition(&template).map_err(|error| wrong(error.to_string()))?;
    let kind = kind_of_crd(&crd).map_err(|error| wrong(error.message))?;
    Ok((Arc::new(kind), crd))
}

/// Why a template's kind cannot be served.
fn check(_old: Option<&Value>, new: &Value) -> Vec<Cause> {
    make(new).err().into_iter().collect()
}

/// Brings what is served up to date with the stored templates. When it returns, the kind of a template that was just
/// written is there, and that of one that was deleted is gone with its objects.
pub(crate) async fn follow(server: &Server) {
    // One at a time, so that what is served last is what was looked at last. Nobody but writers of templates waits.
    let mut made = server.constraint_kinds.lock().await;
    let changes = made.follow(&server.store);
    for resource in &changes.new {
        // What a writer put there while the kind was going away (see below) must not come back with it.
        purge(server, resource).await;
    }
    let current = server.kinds.load();
    match current.registry.with_group(GROUP, made.kinds()) {
        Ok(registry) => server.kinds.replace(registry, GROUP),
        Err(error) => tracing::error!(%error, "the kinds of templates cannot be served"),
    }
    for crd in &changes.definitions {
        put_definition(server, crd).await;
    }
    // The kind is not served any more: no new request can write to it.
    for resource in &changes.gone {
        purge(server, resource).await;
        delete(server, Key::new(DEFINITIONS, "", &**resource)).await;
    }
}

/// Deletes all objects of a kind, as the end of a CustomResourceDefinition does.
async fn purge(server: &Server, resource: &str) {
    for stored in server.store.list(resource, None).items {
        delete(server, stored.key).await;
    }
}

async fn delete(server: &Server, key: Key) {
    let deleted = server
        .store
        .write(key, |_| Ok::<_, Infallible>((Change::Delete, ())))
        .await;
    if let Err(error) = deleted {
        tracing::error!(%error, "an object of a kind that is gone cannot be deleted");
    }
}

/// Makes the object of a definition visible to clients.
async fn put_definition(server: &Server, crd: &CustomResourceDefinition) {
    let kinds = server.kinds.load();
    let served = kinds
        .registry
        .find("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let (Some(served), Ok(mut object)) = (served, serde_json::to_value(crd)) else {
        return;
    };
    server::accept_crd(&mut object);
    let write = server.own_write(served, "");
    if let Err(error) = write.put_own(object).await {
        tracing::error!(%error, "the definition of a constraint cannot be written");
    }
}
