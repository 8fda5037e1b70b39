//! DELETE of one object or of a collection: preconditions, finalizers, propagation.

use crate::constraint_kinds;
use crate::handler::list::{Selection, list_value};
use crate::handler::{Call, body, reply};
use crate::object::{self, metadata_mut};
use crate::registry::Served;
use crate::server::{Server, store_failure};
use crate::status::{self, ApiError};
use axum::body::Body;
use axum::response::Response;
use kittiwake_store::{Change, Key, Stored, WriteError};
use serde_json::Value;
use std::sync::Arc;

/// The finalizer of an object whose dependents go first.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an object whose dependents stay.
pub(crate) const ORPHAN: &str = "orphan";

/// What happens to dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// They are deleted after their owner.
    Background,
    /// They are deleted before their owner.
    Foreground,
    /// They stay, without owner.
    Orphan,
}

/// `DeleteOptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    pub propagation: Option<Propagation>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub dry_run: bool,
}

/// What a deletion led to.
pub(crate) struct Deletion {
    /// The object as it was, or as it now waits for its finalizers.
    pub object: Arc<Value>,
    /// Whether it is gone.
    pub gone: bool,
}

/// Deletes one object.
pub(crate) async fn handle(call: &Call, body: Body) -> Result<Response, ApiError> {
    let options = options(call, body).await?;
    let key = Server::key(&call.served, &call.path.namespace, call.name());
    let deletion = delete_object(&call.server, &call.served, key, &options).await?;
    if deletion.gone {
        let status = status::success(call.served.names(), call.name(), object::uid(&deletion.object));
        return Ok(reply::json(200, &status));
    }
    reply::object(call, 200, &call.served.read(&deletion.object), &[])
}

/// Deletes what the selectors choose; answers with what was chosen.
pub(crate) async fn collection(call: &Call, body: Body) -> Result<Response, ApiError> {
    let options = options(call, body).await?;
    let selection = Selection::parse(call)?;
    let snapshot = call
        .server
        .store_of(&call.served.kind)
        .list(&call.served.kind.storage_resource, selection.namespace());
    let mut objects = Vec::new();
    for stored in selection.choose(&call.served, snapshot.items) {
        match delete_object(&call.server, &call.served, stored.key.clone(), &options).await {
            Ok(_) => objects.push(stored),
            Err(error) if error.reason == "NotFound" => {}
            Err(error) => return Err(error),
        }
    }
    let metadata = serde_json::json!({"resourceVersion": snapshot.resource_version.to_string()});
    reply::encoded(call, 200, &list_value(&call.served, metadata, &objects))
}

/// Deletes one object: at once, or by marking it when finalizers, dependents or a background task come first.
pub(crate) async fn delete_object(
    server: &Server,
    served: &Served,
    key: Key,
    options: &DeleteOptions,
) -> Result<Deletion, ApiError> {
    let (name, now) = (Arc::clone(&key.name), object::time(server.clock.now()));
    let decide = |old: Option<&Stored>| decide(served, &name, old, options, &now);
    let store = server.store_of(&served.kind);
    if options.dry_run {
        let old = store.get(&key);
        let (change, object) = decide(old.as_ref())?;
        return Ok(Deletion {
            object,
            gone: matches!(change, Change::Delete),
        });
    }
    let result = store.write(key, |old| {
        let (change, object) = decide(old)?;
        let gone = matches!(change, Change::Delete);
        Ok((change, (object, gone)))
    });
    let result = result.await;
    if served.kind.hooks.defines_kinds && result.is_ok() {
        Box::pin(constraint_kinds::follow(server)).await;
    }
    match result {
        Ok((stored, (object, gone))) => {
            let object = stored.map_or(object, |stored| stored.object.tree());
            if let Some(end) = served.kind.hooks.end {
                end(&server.instances, &object);
            }
            Ok(Deletion { object, gone })
        }
        Err(WriteError::Refused(error)) => Err(error),
        Err(other) => Err(store_failure(other)),
    }
}

/// What a deletion does to an object, as a pure function.
fn decide(
    served: &Served,
    name: &str,
    old: Option<&Stored>,
    options: &DeleteOptions,
    now: &str,
) -> Result<(Change, Arc<Value>), ApiError> {
    let names = served.names();
    let old = &old.ok_or_else(|| ApiError::not_found(names, name))?.object.tree();
    let preconditions = [
        ("UID", &options.uid, object::uid(old)),
        (
            "ResourceVersion",
            &options.resource_version,
            object::resource_version(old),
        ),
    ];
    for (what, wanted, is) in preconditions {
        if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != is) {
            let why =
                format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {is}");
            return Err(ApiError::conflict(names, name, &why));
        }
    }
    if let Some(why) = served.kind.hooks.refuse_deletion.and_then(|refuse| refuse(name)) {
        return Err(ApiError::forbidden(names, name, why, &[]));
    }
    let finalizers = finalizers(old, options.propagation);
    let begin_deletion = served.kind.hooks.begin_deletion;
    if finalizers.is_empty() && begin_deletion.is_none() {
        return Ok((Change::Delete, Arc::clone(old)));
    }
    if object::is_terminating(old) && finalizers == object::finalizers(old) {
        return Ok((Change::Keep, Arc::clone(old)));
    }
    let mut marked = (**old).clone();
    object::set_finalizers(&mut marked, &finalizers);
    if !object::is_terminating(old) {
        let generation = old.pointer("/metadata/generation").and_then(Value::as_u64);
        let metadata = metadata_mut(&mut marked);
        metadata.insert("deletionTimestamp".into(), now.into());
        metadata.insert("deletionGracePeriodSeconds".into(), 0.into());
        if let Some(generation) = generation {
            metadata.insert("generation".into(), (generation + 1).into());
        }
        if let Some(begin) = begin_deletion {
            begin(&mut marked);
        }
    }
    Ok((Change::Put(marked.clone()), Arc::new(marked)))
}

/// The finalizers that hold the object back under a propagation policy.
fn finalizers(object: &Value, propagation: Option<Propagation>) -> Vec<&str> {
    let mut finalizers = object::finalizers(object);
    let Some(propagation) = propagation else {
        return finalizers;
    };
    finalizers.retain(|finalizer| *finalizer != FOREGROUND && *finalizer != ORPHAN);
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => finalizers.push(FOREGROUND),
        Propagation::Orphan => finalizers.push(ORPHAN),
    }
    finalizers
}

/// The options of a deletion: the body's, then the query's.
async fn options(call: &Call, body: Body) -> Result<DeleteOptions, ApiError> {
    let bytes = body::read(&call.server, &call.headers, body).await?;
    let body = if bytes.is_empty() {
        Value::Null
    } else {
        body::decode(&call.headers, &bytes)?.value
    };
    let text = |pointer: &str| Some(object::text(&body, pointer).to_owned()).filter(|text| !text.is_empty());
    // As in Kubernetes the query counts only where there is no body; asking for a dry run counts always.
    let query = |key: &str| {
        call.query
            .get(key)
            .filter(|_| bytes.is_empty())
            .map(str::to_owned)
    };
    let policy = text("/propagationPolicy").or_else(|| query("propagationPolicy"));
    let orphan = match body.get("orphanDependents") {
        Some(Value::Bool(orphan)) => Some(*orphan),
        _ => query("orphanDependents").map(|_| call.query.flag("orphanDependents")),
    };
    let propagation = match policy.as_deref() {
        Some(policy) if orphan.is_some() => {
            let message = format!(
                "Invalid value: {policy:?}: orphanDependents and deletionPropagation cannot be both set"
            );
            let cause = status::Cause::new("propagationPolicy", "FieldValueInvalid", message);
            return Err(ApiError::invalid_options("DeleteOptions", &[cause]));
        }
        None => orphan.map(|orphan| {
            if orphan {
                Propagation::Orphan
            } else {
                Propagation::Background
            }
        }),
        Some("Background") => Some(Propagation::Background),
        Some("Foreground") => Some(Propagation::Foreground),
        Some("Orphan") => Some(Propagation::Orphan),
        Some(other) => {
            let message = format!(
                "Unsupported value: {other:?}: supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
            );
            let cause = status::Cause::new("propagationPolicy", "FieldValueNotSupported", message);
            return Err(ApiError::invalid_options("DeleteOptions", &[cause]));
        }
    };
    let in_body = match body.get("dryRun").and_then(Value::as_array).map(Vec::as_slice) {
        None | Some([]) => false,
        Some(list) if list.iter().all(|word| word == "All") => true,
        Some(list) => {
            let message = format!(
                "Unsupported value: {}: supported values: \"All\"",
                Value::from(list)
            );
            let cause = status::Cause::new("dryRun", "FieldValueNotSupported", message);
            return Err(ApiError::invalid_options("DeleteOptions", &[cause]));
        }
    };
    Ok(DeleteOptions {
        propagation,
        uid: text("/preconditions/uid"),
        resource_version: text("/preconditions/resourceVersion"),
        dry_run: in_body || call.query.dry_run()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn propagation_becomes_a_finalizer() {
        let object = json!({"metadata": {"finalizers": ["orphan", "x/y"]}});
        assert_eq!(finalizers(&object, None), ["orphan", "x/y"]);
        assert_eq!(finalizers(&object, Some(Propagation::Background)), ["x/y"]);
        assert_eq!(
            finalizers(&object, Some(Propagation::Foreground)),
            ["x/y", FOREGROUND]
        );
        assert_eq!(finalizers(&object, Some(Propagation::Orphan)), ["x/y", ORPHAN]);
    }
}
