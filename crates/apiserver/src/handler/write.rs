//! The one path on which objects are written: everything between a proposed object and the store.
//!
//! Create, update, patch and apply differ only in how they propose the new object. The rest is here: unknown fields,
//! defaults, immutable metadata, the split of status and spec, admission, validation, generation, managed fields, and
//! the rule that a write which changes nothing stores nothing. It all runs inside the store's read-modify-write, so a
//! patch never loses a race.

use crate::admission::Review;
use crate::auth::Identity;
use crate::auth::attributes::{Attributes, ResourceAttributes};
use crate::auth::rbac::{escalation, validation};
use crate::constraint_kinds;
use crate::handler::size;
use crate::metadata;
use crate::object::{self, metadata_mut};
use crate::patch::managed_fields;
use crate::query::FieldValidation;
use crate::registry::Served;
use crate::schema::FieldCause;
use crate::server::{Server, store_failure};
use crate::status::{ApiError, Cause};
use kittiwake_store::{Change, Key, Stored, WriteError};
use serde_json::Value;
use std::sync::Arc;

/// Metadata that only the server writes.
const SERVER_FIELDS: [&str; 7] = [
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "resourceVersion",
];
/// How often a name is generated before the client is told that it is taken (apiserver `pkg/registry/generic/registry`).
const GENERATE_TRIES_MAX: usize = 8;
/// The namespace of objects that say `metadata.namespace` differently from the URL.
const NAMESPACE_MISMATCH: &str =
    "the namespace of the provided object does not match the namespace sent on the request";

/// Who writes.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    /// Field manager.
    pub manager: String,
    /// The user.
    pub identity: Arc<Identity>,
}

/// One write request.
pub(crate) struct Write<'a> {
    pub server: &'a Server,
    pub served: &'a Served,
    /// Namespace of the URL; empty for cluster scope.
    pub namespace: String,
    /// `status`, or `None` for the object itself.
    pub subresource: Option<&'a str>,
    pub actor: Actor,
    pub dry_run: bool,
    pub validation: FieldValidation,
}

/// The object that a request wants to have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proposal {
    pub object: Value,
    /// Keys that the body gave twice.
    pub duplicate_fields: Vec<String>,
    /// Fields that were dropped already because the schema does not know them.
    pub unknown_fields: Vec<String>,
    /// Whether managed fields are already recorded (server-side apply).
    pub applied: bool,
    /// Whether a missing resourceVersion is an error (PUT of a custom resource).
    pub needs_resource_version: bool,
}

/// What a write led to.
pub(crate) struct Written {
    /// The object now, in the requested version.
    pub object: Arc<Value>,
    pub created: bool,
    pub warnings: Vec<String>,
}

/// What is to be stored.
struct Decision {
    change: Change,
    created: bool,
    warnings: Vec<String>,
}

impl Write<'_> {
    /// Creates an object. A generated name that is taken is generated again, some times.
    pub(crate) async fn create(&self, proposal: Proposal) -> Result<Written, ApiError> {
        if object::name(&proposal.object).is_empty() {
            for _ in 1..GENERATE_TRIES_MAX {
                match self.create_once(proposal.clone()).await {
                    Err(error) if error.reason == "AlreadyExists" => {}
                    result => return result,
                }
            }
        }
        self.create_once(proposal).await
    }

    async fn create_once(&self, mut proposal: Proposal) -> Result<Written, ApiError> {
        let name = self.new_name(&mut proposal.object)?;
        self.check_namespace(&name)?;
        let decision = self.prepare_create(proposal)?;
        let names = self.served.names();
        self.commit(&name, |old| match old {
            Some(_) => Err(ApiError::already_exists(names, &name)),
            None => {
                // Asked again under the writer's lock: the namespace may have ended while this waited for its turn.
                self.check_namespace(&name)?;
                Ok(decision)
            }
        })
        .await
    }

    /// Changes the object `name`, or creates it if `propose` wants that: it gets the object as it is, under the
    /// writer's lock.
    pub(crate) async fn change(
        &self,
        name: &str,
        propose: impl FnOnce(Option<&Value>) -> Result<Proposal, ApiError> + Send,
    ) -> Result<Written, ApiError> {
        self.commit(name, |old| {
            let Some(stored) = old else {
                let mut proposal = propose(None)?;
                self.may_create(name)?;
                self.check_namespace(name)?;
                self.check_names(name, &mut proposal.object)?;
                return self.prepare_create(proposal);
            };
            let current = self.served.read(&stored.object.tree());
            self.prepare_update(&current, propose(Some(&current))?)
        })
        .await
    }

    /// Creates or replaces an object of the server's own, keeping what others wrote into its metadata.
    pub(crate) async fn put_own(&self, object: Value) -> Result<Written, ApiError> {
        let name = object::name(&object).to_owned();
        self.change(&name, |old| {
            let mut object = object;
            for (key, value) in old
                .and_then(|old| old.get("metadata")?.as_object())
                .into_iter()
                .flatten()
            {
                metadata_mut(&mut object)
                    .entry(key.clone())
                    .or_insert_with(|| value.clone());
            }
            Ok(Proposal {
                object,
                ..Proposal::default()
            })
        })
        .await
    }

    /// Runs a decision in the store; a dry run decides the same and stores nothing.
    async fn commit(
        &self,
        name: &str,
        decide: impl FnOnce(Option<&Stored>) -> Result<Decision, ApiError> + Send,
    ) -> Result<Written, ApiError> {
        let key = Server::key(self.served, &self.namespace, name);
        if self.dry_run {
            return self.rehearse(&key, decide);
        }
        let result = self.server.store.write(key, |old| {
            let decision = decide(old)?;
            Ok((decision.change, (decision.created, decision.warnings)))
        });
        let result = result.await;
        if self.served.kind.hooks.defines_kinds && result.is_ok() {
            // Boxed, because it writes definitions in turn.
            Box::pin(constraint_kinds::follow(self.server)).await;
        }
        match result {
            Ok((Some(stored), (created, warnings))) => Ok(Written {
                object: self.served.read(&stored.object.tree()),
                created,
                warnings,
            }),
            Ok((None, _)) => Err(ApiError::not_found(self.served.names(), name)),
            Err(WriteError::Refused(error)) => Err(error),
            Err(other) => Err(store_failure(other)),
        }
    }

    fn rehearse(
        &self,
        key: &Key,
        decide: impl FnOnce(Option<&Stored>) -> Result<Decision, ApiError>,
    ) -> Result<Written, ApiError> {
        let old = self.server.store.get(key);
        let decision = decide(old.as_ref())?;
        let object = match (decision.change, old) {
            (Change::Put(object), _) => Arc::new(object),
            (_, Some(old)) => old.object.tree(),
            (_, None) => return Err(ApiError::not_found(self.served.names(), &key.name)),
        };
        Ok(Written {
            object: self.served.read(&object),
            created: decision.created,
            warnings: decision.warnings,
        })
    }

    /// The name of a new object, made from `generateName` when there is none.
    fn new_name(&self, object: &mut Value) -> Result<String, ApiError> {
        let mut name = object::name(object).to_owned();
        if name.is_empty() {
            let prefix = object::text(object, "/metadata/generateName").to_owned();
            if prefix.is_empty() {
                let message = "Required value: name or generateName is required";
                let cause = Cause::new("metadata.name", "FieldValueRequired", message);
                return Err(ApiError::invalid(self.served.names(), "", &[cause]));
            }
            name = metadata::generate_name(&prefix);
        }
        self.check_names(&name, object)?;
        Ok(name)
    }

    /// Writes name and namespace of the URL into the object, and refuses others.
    fn check_names(&self, name: &str, object: &mut Value) -> Result<(), ApiError> {
        let given = object::name(object);
        if !given.is_empty() && given != name {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({given}) does not match the name on the URL ({name})"
            )));
        }
        let given = object::namespace(object);
        if !given.is_empty() && given != self.namespace {
            return Err(ApiError::bad_request(NAMESPACE_MISMATCH));
        }
        let metadata = metadata_mut(object);
        metadata.insert("name".into(), name.into());
        if !self.namespace.is_empty() {
            metadata.insert("namespace".into(), self.namespace.as_str().into());
        }
        Ok(())
    }

    /// Whether the namespace takes new objects. What counts is the answer under the writer's lock: once a namespace is
    /// durably marked, nothing more is decided into it (see `namespace_lifecycle`).
    fn check_namespace(&self, name: &str) -> Result<(), ApiError> {
        if self.namespace.is_empty() {
            return Ok(());
        }
        let kinds = self.server.kinds.load();
        let Some(namespaces) = kinds.registry.find("", "v1", "namespaces") else {
            return Ok(());
        };
        let namespace = &self.namespace;
        let stored = self.server.store.get(&Server::key(namespaces, "", namespace));
        let stored = stored.ok_or_else(|| ApiError::not_found(namespaces.names(), namespace))?;
        // Every create asks this: the text of a namespace that stays tells it without being read.
        if !stored.object.json().contains("deletionTimestamp")
            || !object::is_terminating(&stored.object.tree())
        {
            return Ok(());
        }
        let message = format!("namespace {namespace} is being terminated");
        let cause = Cause::new("metadata.namespace", "NamespaceTerminating", message);
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        Err(ApiError::forbidden(self.served.names(), name, &why, &[cause]))
    }

    /// A new object, complete and checked.
    fn prepare_create(&self, mut proposal: Proposal) -> Result<Decision, ApiError> {
        let (mut object, applied) = (std::mem::take(&mut proposal.object), proposal.applied);
        let kind = &self.served.kind;
        if !applied && !object::resource_version(&object).is_empty() {
            return Err(ApiError::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        self.stamp(&mut object);
        let mut warnings = self.drop_unknown(&proposal, &mut object)?;
        let metadata = metadata_mut(&mut object);
        for field in SERVER_FIELDS {
            metadata.shift_remove(field);
        }
        if !applied {
            metadata.shift_remove("managedFields");
        }
        metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
        metadata.insert(
            "creationTimestamp".into(),
            object::time(self.server.clock.now()).into(),
        );
        if kind.generation {
            metadata.insert("generation".into(), 1.into());
        }
        if kind.status {
            object::remove(&mut object, "status");
        }
        self.default(&mut object);
        if !applied {
            self.record(None, &mut object);
        }
        self.complete(None, &mut object, &mut warnings)?;
        Ok(Decision {
            change: self.put(object)?,
            created: true,
            warnings,
        })
    }

    /// The new state of an object, complete and checked.
    fn prepare_update(&self, old: &Value, mut proposal: Proposal) -> Result<Decision, ApiError> {
        let mut object = std::mem::take(&mut proposal.object);
        self.check_names(object::name(old), &mut object)?;
        self.check_version(old, &object, proposal.needs_resource_version)?;
        self.stamp(&mut object);
        let mut warnings = self.drop_unknown(&proposal, &mut object)?;
        self.refuse(&object, metadata::check_managed_fields(&object))?;
        self.keep_immutable(old, &mut object);
        self.split_status(old, &mut object);
        self.check_finalizers(old, &object)?;
        self.default(&mut object);
        if !proposal.applied {
            self.record(Some(old), &mut object);
        }
        self.complete(Some(old), &mut object, &mut warnings)?;
        if self.served.kind.generation && spec_changed(old, &object, self.served.kind.status) {
            let generation = old
                .pointer("/metadata/generation")
                .and_then(Value::as_u64)
                .unwrap_or(0);
            metadata_mut(&mut object).insert("generation".into(), (generation + 1).into());
        }
        let last_finalizer_gone = object::is_terminating(old)
            && object::finalizers(&object).is_empty()
            && self.served.kind.hooks.begin_deletion.is_none();
        if last_finalizer_gone {
            return Ok(Decision {
                change: Change::Delete,
                created: false,
                warnings,
            });
        }
        if same_but_times(old, &object) {
            return Ok(Decision {
                change: Change::Keep,
                created: false,
                warnings,
            });
        }
        Ok(Decision {
            change: self.put(object)?,
            created: false,
            warnings,
        })
    }

    /// The change that stores an object, if it is not too large.
    fn put(&self, object: Value) -> Result<Change, ApiError> {
        let object = self.served.to_storage(object);
        size::check(&object)?;
        Ok(Change::Put(object))
    }

    /// Writes `apiVersion` and `kind`, which clients of Kubernetes' own kinds may leave out.
    fn stamp(&self, object: &mut Value) {
        let map = object::map_mut(object);
        map.insert("apiVersion".into(), self.served.api_version().into());
        map.insert("kind".into(), self.served.kind.kind.as_str().into());
    }

    fn check_version(&self, old: &Value, new: &Value, required: bool) -> Result<(), ApiError> {
        let (names, name) = (self.served.names(), object::name(old));
        let given = object::resource_version(new);
        if given.is_empty() && required {
            let message = "Invalid value: 0x0: must be specified for an update";
            let cause = Cause::new("metadata.resourceVersion", "FieldValueInvalid", message);
            return Err(ApiError::invalid(names, name, &[cause]));
        }
        if !given.is_empty() && given != object::resource_version(old) {
            return Err(ApiError::stale(names, name));
        }
        let (given, uid) = (object::uid(new), object::uid(old));
        if !given.is_empty() && given != uid {
            let why = format!("Precondition failed: UID in precondition: {given}, UID in object meta: {uid}");
            return Err(ApiError::conflict(names, name, &why));
        }
        Ok(())
    }

    /// Fields that the schema does not know, by the request's `fieldValidation`.
    fn drop_unknown(&self, proposal: &Proposal, object: &mut Value) -> Result<Vec<String>, ApiError> {
        let pruned = self.served.version.schema.prune(object);
        if self.validation == FieldValidation::Ignore {
            return Ok(Vec::new());
        }
        let unknown = proposal
            .unknown_fields
            .iter()
            .chain(&pruned)
            .map(|path| format!("unknown field {path:?}"));
        let duplicate = proposal
            .duplicate_fields
            .iter()
            .map(|path| format!("duplicate field {path:?}"));
        let mut texts: Vec<String> = unknown.chain(duplicate).collect();
        texts.dedup();
        if texts.is_empty() || self.validation == FieldValidation::Warn {
            return Ok(texts);
        }
        let kind = &self.served.kind.kind;
        Err(ApiError::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {kind}: strict decoding error: {}",
            self.served.version.name,
            texts.join(", ")
        )))
    }

    /// Metadata that a client cannot change.
    fn keep_immutable(&self, old: &Value, new: &mut Value) {
        let kept = old.get("metadata").and_then(Value::as_object);
        let metadata = metadata_mut(new);
        for field in SERVER_FIELDS {
            match kept.and_then(|kept| kept.get(field)) {
                Some(value) => metadata.insert(field.into(), value.clone()),
                None => metadata.shift_remove(field),
            };
        }
        // An empty list comes from clients that do not know the field; only `[{}]` means "forget the managers".
        let managed = metadata
            .get("managedFields")
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty());
        match kept
            .and_then(|kept| kept.get("managedFields"))
            .filter(|_| !managed)
        {
            Some(fields) => metadata.insert("managedFields".into(), fields.clone()),
            None if !managed => metadata.shift_remove("managedFields"),
            None => None,
        };
    }

    /// `/status` changes only the status, the object itself everything else.
    fn split_status(&self, old: &Value, new: &mut Value) {
        if !self.served.kind.status {
            return;
        }
        if self.subresource == Some("status") {
            let status = new.get("status").cloned();
            let managed = new.pointer("/metadata/managedFields").cloned();
            *new = old.clone();
            set_or_remove(object::map_mut(new), "status", status);
            set_or_remove(metadata_mut(new), "managedFields", managed);
        } else {
            set_or_remove(object::map_mut(new), "status", old.get("status").cloned());
        }
    }

    fn check_finalizers(&self, old: &Value, new: &Value) -> Result<(), ApiError> {
        if !object::is_terminating(old) {
            return Ok(());
        }
        let before = object::finalizers(old);
        let added: Vec<String> = object::finalizers(new)
            .into_iter()
            .filter(|finalizer| !before.contains(finalizer))
            .map(|finalizer| format!("{finalizer:?}"))
            .collect();
        if added.is_empty() {
            return Ok(());
        }
        let message = format!(
            "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            added.join(", ")
        );
        let cause = Cause::new("metadata.finalizers", "FieldValueForbidden", message);
        Err(ApiError::invalid(
            self.served.names(),
            object::name(old),
            &[cause],
        ))
    }

    /// Defaults of the schema and of the kind itself. They belong to the manager that writes.
    fn default(&self, object: &mut Value) {
        self.served.version.schema.default(object);
        if let Some(default) = self.served.kind.hooks.default {
            default(object);
        }
    }

    /// Admission, validation. What admission adds is owned by nobody, as in Kubernetes: managers are recorded before.
    /// Types are checked first, so that admission sees well-formed objects.
    fn complete(
        &self,
        old: Option<&Value>,
        object: &mut Value,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let (kind, schema) = (&self.served.kind, &self.served.version.schema);
        let wrong_types = schema
            .validate(object)
            .into_iter()
            .filter(|cause| cause.reason == "FieldValueTypeInvalid");
        self.refuse(object, wrong_types.map(field_cause).collect())?;
        let review = Review {
            api_version: self.served.api_version(),
            kind: &kind.kind,
            subresource: self.subresource,
            old,
            user: &self.actor.identity.name,
            dry_run: self.dry_run,
        };
        for step in &self.server.admission {
            warnings.extend(step.admit(&review, object)?);
        }
        let name = object::name(object);
        let mut causes = match old {
            Some(_) => Vec::new(),
            None if kind.hooks.path_names => validation::check_name(name),
            None => metadata::check_name("metadata.name", name, kind.hooks.label_names),
        };
        causes.extend(metadata::check(object));
        causes.extend(schema.validate(object).into_iter().map(field_cause));
        if let Some(validate) = kind.hooks.validate {
            causes.extend(validate(old, object));
        }
        self.refuse(object, causes)?;
        let grant = escalation::Grant {
            served: self.served,
            namespace: &self.namespace,
            old,
            new: object,
        };
        escalation::check(&self.server.auth.rbac, &self.actor.identity, &grant)
    }

    /// A change that creates needs the right to create as well (server-side apply).
    fn may_create(&self, name: &str) -> Result<(), ApiError> {
        let kind = &self.served.kind;
        let asked = Attributes::Resource(ResourceAttributes {
            verb: "create".to_owned(),
            group: kind.group.clone(),
            version: self.served.version.name.clone(),
            resource: kind.plural.clone(),
            subresource: String::new(),
            namespace: self.namespace.clone(),
            name: name.to_owned(),
        });
        let identity = &self.actor.identity;
        let decision = self.server.auth.rbac.decide(identity, &asked);
        if decision.allowed {
            return Ok(());
        }
        Err(asked.denied(identity, &decision.reason))
    }

    fn refuse(&self, object: &Value, causes: Vec<Cause>) -> Result<(), ApiError> {
        if causes.is_empty() {
            return Ok(());
        }
        Err(ApiError::invalid(
            self.served.names(),
            object::name(object),
            &causes,
        ))
    }

    fn record(&self, old: Option<&Value>, new: &mut Value) {
        managed_fields::record_update(
            &self.served.version.schema,
            old,
            new,
            &self.actor.manager,
            self.served.api_version(),
            self.subresource,
            self.server.clock.now(),
        );
    }
}

fn field_cause(cause: FieldCause) -> Cause {
    Cause::new(cause.field, cause.reason, cause.message)
}

fn set_or_remove(map: &mut serde_json::Map<String, Value>, key: &str, value: Option<Value>) {
    match value {
        Some(value) => map.insert(key.to_owned(), value),
        None => map.shift_remove(key),
    };
}

/// Whether two states differ in nothing but the times of managed fields. An apply whose effect admission takes back
/// (it completes a list that the manager owns whole) must not count as a change, or controllers that apply would spin.
fn same_but_times(old: &Value, new: &Value) -> bool {
    const MANAGED: &str = "managedFields";
    let rest_equal = |a: &Value, b: &Value, skip: &str| {
        let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else {
            return a == b;
        };
        a.iter()
            .all(|(key, value)| key == skip || b.get(key) == Some(value))
            && b.keys().all(|key| key == skip || a.contains_key(key))
    };
    fn metadata(object: &Value) -> &Value {
        object.get("metadata").unwrap_or(&Value::Null)
    }
    fn entries(metadata: &Value) -> &[Value] {
        let list = metadata.get(MANAGED).and_then(Value::as_array);
        list.map(Vec::as_slice).unwrap_or_default()
    }
    let (before, after) = (metadata(old), metadata(new));
    let (managed_before, managed_after) = (entries(before), entries(after));
    rest_equal(old, new, "metadata")
        && rest_equal(before, after, MANAGED)
        && managed_before.len() == managed_after.len()
        // In any order: entries are sorted by time.
        && managed_before
            .iter()
            .all(|a| managed_after.iter().any(|b| rest_equal(a, b, "time")))
}

/// Whether anything but metadata (and, where it is a subresource, status) differs.
fn spec_changed(old: &Value, new: &Value, status_apart: bool) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else {
        return false;
    };
    let counts = |key: &str| key != "metadata" && !(status_apart && key == "status");
    old.iter()
        .any(|(key, value)| counts(key) && new.get(key) != Some(value))
        || new.keys().any(|key| counts(key) && !old.contains_key(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_of_managed_fields_are_no_change() {
        let object = |time: &str, manager: &str| json!({"metadata": {"managedFields": [{"manager": manager, "time": time}]}, "spec": 1});
        assert!(same_but_times(&object("1", "a"), &object("2", "a")));
        assert!(!same_but_times(&object("1", "a"), &object("1", "b")));
        assert!(!same_but_times(
            &object("1", "a"),
            &json!({"metadata": {}, "spec": 1})
        ));
        assert!(!same_but_times(&json!({"spec": 1}), &json!({"spec": 2})));
        // A newer time moves an entry behind another one.
        let two = |a: (&str, u8), b: (&str, u8)| {
            let entry = |(manager, time): (&str, u8)| json!({"manager": manager, "time": time});
            json!({"metadata": {"managedFields": [entry(a), entry(b)]}})
        };
        assert!(same_but_times(
            &two(("user", 1), ("status", 2)),
            &two(("status", 2), ("user", 3))
        ));
    }

    #[test]
    fn generation_counts_only_the_spec() {
        let old = json!({"metadata": {"a": 1}, "spec": {"x": 1}, "status": {"y": 1}});
        let status = json!({"metadata": {"a": 2}, "spec": {"x": 1}, "status": {"y": 2}});
        assert!(!spec_changed(&old, &status, true));
        assert!(spec_changed(&old, &status, false));
        assert!(spec_changed(
            &old,
            &json!({"metadata": {}, "spec": {"x": 2}, "status": {"y": 1}}),
            true
        ));
        assert!(spec_changed(
            &old,
            &json!({"metadata": {}, "spec": {"x": 1}, "data": {}, "status": {"y": 1}}),
            true
        ));
    }
}
