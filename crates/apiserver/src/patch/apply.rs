//! Server-side apply: a manager says what it wants, and owns it (structured-merge-diff `merge/update.go`, apimachinery
//! `pkg/util/managedfields`).

use super::field_set::{FieldSet, PathElement, canonical_json, display_path};
use super::managed_fields::{
    BEFORE_FIRST_APPLY, Identity, Managers, Operation, Owned, strip, time_text, visible,
};
use super::typed::{compare, extract, merge, remove, with_named_fields};
use crate::decode;
use crate::schema::{Node, Schema};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// Where client-side `kubectl apply` keeps what it applied last.
pub const LAST_APPLIED_ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Longest such annotation that is kept up to date, in bytes (apimachinery `TotalAnnotationSizeLimitB`).
const LAST_APPLIED_BYTES_MAX: usize = 256 * 1024;
/// The one manager that takes over what client-side apply set.
const KUBECTL: &str = "kubectl";

/// One request to apply.
#[derive(Debug)]
pub struct ApplyRequest<'a> {
    /// The schema of the kind.
    pub schema: &'a Schema,
    /// The object as it is; `None` when it is to be created.
    pub live: Option<&'a Value>,
    /// What the manager wants, as a whole.
    pub applied: Value,
    /// Who applies.
    pub manager: &'a str,
    /// Whether to take fields from managers who want something else.
    pub force: bool,
    /// The version in which `applied` is written, for example `serving.knative.dev/v1`.
    pub api_version: &'a str,
    /// The subresource that the request went to.
    pub subresource: Option<&'a str>,
    /// The time of the request.
    pub now: Timestamp,
}

/// A field that another manager owns and that the request would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Who owns it.
    pub manager: String,
    /// The field, for example `.spec.template`.
    pub field: String,
    /// The version in which the owner wrote it.
    pub api_version: String,
    /// How the owner wrote it.
    pub operation: Operation,
    /// Through which subresource.
    pub subresource: Option<String>,
    /// When.
    pub time: Option<String>,
}

impl Conflict {
    /// The owner as Kubernetes words it: `"m" with subresource "status" using serving.knative.dev/v1`.
    #[must_use]
    pub fn owner(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if let Some(subresource) = &self.subresource {
            text.push_str(&format!(" with subresource {subresource:?}"));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }

    /// The message of the cause in a `Status`: `conflict with "m" using serving.knative.dev/v1`.
    #[must_use]
    pub fn message(&self) -> String {
        format!("conflict with {}", self.owner())
    }
}

/// Why nothing was applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Others own fields that would change, sorted by owner and field: status 409.
    #[error("{}", ConflictText(.0))]
    Conflict(Vec<Conflict>),
    /// What was applied cannot be taken apart into fields: status 400.
    #[error("{0}")]
    Invalid(String),
}

/// The message of the whole `Status`.
struct ConflictText<'a>(&'a [Conflict]);

impl fmt::Display for ConflictText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [conflict] = self.0 {
            return write!(
                f,
                "Apply failed with 1 conflict: {}: {}",
                conflict.message(),
                conflict.field
            );
        }
        write!(f, "Apply failed with {} conflicts: ", self.0.len())?;
        let mut by_owner: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for conflict in self.0 {
            by_owner
                .entry(conflict.owner())
                .or_default()
                .push(&conflict.field);
        }
        for (index, (owner, fields)) in by_owner.iter().enumerate() {
            f.write_str(if index > 0 { "\n" } else { "" })?;
            match fields.as_slice() {
                [field] => write!(f, "conflict with {owner}: {field}")?,
                fields => write!(f, "conflicts with {owner}:\n- {}", fields.join("\n- "))?,
            }
        }
        Ok(())
    }
}

/// The object after the request, with its `managedFields`. It equals the live object, times and all, when nothing
/// changes. `metadata.resourceVersion` and `uid` of the applied object are in it; comparing them is the caller's part.
pub fn apply(request: ApplyRequest<'_>) -> Result<Value, ApplyError> {
    let applied = wanted(&request)?;
    let (fields, faults) = extract(request.schema.root(), &applied);
    if !faults.is_empty() {
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        return Err(ApplyError::Invalid(faults.join("; ")));
    }
    let live = request.live.map_or_else(|| json!({}), without_managed_fields);
    let run = Run {
        root: request.schema.root(),
        own: Identity::new(
            Operation::Apply,
            request.manager,
            request.api_version,
            request.subresource,
        ),
        applied: &applied,
        fields,
        live: &live,
        managers: managers_before(&request, &live),
        request: &request,
    };
    let (mut object, managers) = run.apply()?;
    if let Some(before) = request.live
        && object == live
        && Managers::read(before).is_some_and(|before| before.without_times() == managers.without_times())
    {
        return Ok(before.clone());
    }
    managers.write(&mut object);
    Ok(object)
}

/// The part of the applied object that this request may set.
fn wanted(request: &ApplyRequest<'_>) -> Result<Value, ApplyError> {
    let Value::Object(mut applied) = request.applied.clone() else {
        return Err(ApplyError::Invalid("an object is expected".to_owned()));
    };
    let mut metadata = match applied.shift_remove("metadata") {
        Some(Value::Object(metadata)) => metadata,
        _ => return Err(ApplyError::Invalid("metadata is missing".to_owned())),
    };
    if metadata
        .shift_remove("managedFields")
        .is_some_and(|fields| !fields.is_null() && fields != json!([]))
    {
        return Err(ApplyError::Invalid(
            "metadata.managedFields must be nil".to_owned(),
        ));
    }
    metadata.retain(|_, value| !value.is_null());
    if request.subresource == Some("status") {
        applied.retain(|name, _| ["apiVersion", "kind", "status"].contains(&name.as_str()));
        metadata.retain(|name, _| ["name", "namespace", "uid", "resourceVersion"].contains(&name.as_str()));
    } else {
        applied.shift_remove("status");
    }
    let position = applied.len().min(2);
    applied.shift_insert(position, "metadata".to_owned(), Value::Object(metadata));
    Ok(Value::Object(applied))
}

/// The entries of the live object; where it has none, all it holds belongs to `before-first-apply`.
fn managers_before(request: &ApplyRequest<'_>, live: &Value) -> Managers {
    let managers = request.live.and_then(Managers::read).unwrap_or_default();
    if !managers.0.is_empty() || request.live.is_none() {
        return managers;
    }
    let api_version = live
        .get("apiVersion")
        .and_then(Value::as_str)
        .unwrap_or(request.api_version);
    let everything = compare(request.schema.root(), &json!({}), live).added;
    let fields = visible(&everything, request.subresource);
    if fields.is_empty() {
        return managers;
    }
    let identity = Identity::new(
        Operation::Update,
        BEFORE_FIRST_APPLY,
        api_version,
        request.subresource,
    );
    let owned = Owned {
        api_version: api_version.to_owned(),
        time: Some(time_text(request.now)),
        fields,
    };
    Managers(BTreeMap::from([(identity, owned)]))
}

fn without_managed_fields(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
    }
    object
}

/// One application, prepared.
struct Run<'a> {
    root: &'a Node,
    own: Identity,
    applied: &'a Value,
    fields: FieldSet,
    live: &'a Value,
    managers: Managers,
    request: &'a ApplyRequest<'a>,
}

impl Run<'_> {
    fn apply(&self) -> Result<(Value, Managers), ApplyError> {
        let mut result = self.attempt(self.request.force);
        if self.request.manager == KUBECTL {
            if let Err(conflicts) = &mut result {
                let allowed = self.set_by_client_side_apply();
                for fields in conflicts.values_mut() {
                    *fields = fields.difference(&allowed);
                }
                conflicts.retain(|_, fields| !fields.is_empty());
                if conflicts.is_empty() {
                    result = self.attempt(true);
                }
            }
            if let Ok((object, _)) = &mut result {
                self.update_last_applied(object);
            }
        }
        result.map_err(|conflicts| ApplyError::Conflict(self.describe(&conflicts)))
    }

    fn attempt(&self, force: bool) -> Result<(Value, Managers), BTreeMap<Identity, FieldSet>> {
        let mut managers = self.managers.clone();
        let before = managers.0.get(&self.own).cloned();
        let owned = Owned {
            api_version: self.request.api_version.to_owned(),
            time: before.as_ref().and_then(|owned| owned.time.clone()),
            fields: self.fields.clone(),
        };
        managers.0.insert(self.own.clone(), owned);
        let merged = merge(self.root, self.live, self.applied);
        let object = self.prune(merged, before.as_ref(), &managers);
        let comparison =
            compare(self.root, self.live, &object).map(|set| visible(set, self.request.subresource));
        let conflicts = managers.conflicts(&self.own, &comparison);
        if !force && !conflicts.is_empty() {
            return Err(conflicts);
        }
        managers.take_from_others(&self.own, &comparison);
        let same_fields = before.is_some_and(|before| before.fields == strip(&self.fields));
        if let Some(owned) = managers.0.get_mut(&self.own)
            && !(same_fields && object == *self.live)
        {
            owned.time = Some(time_text(self.request.now));
        }
        Ok((object, managers))
    }

    /// Removes what only this manager owned and no longer wants.
    fn prune(&self, merged: Value, before: Option<&Owned>, managers: &Managers) -> Value {
        let Some(before) = before.filter(|owned| !owned.fields.is_empty()) else {
            return merged;
        };
        let named = |set: &FieldSet| with_named_fields(self.root, set);
        let set_of = |value: &Value| named(&extract(self.root, value).0);
        let last = named(&before.fields);
        let all_owned = managers
            .0
            .values()
            .fold(FieldSet::default(), |all, owned| all.union(&owned.fields));
        let merged_set = set_of(&merged);
        let bare = remove(self.root, &merged, &last);
        let unowned = merged_set.difference(&set_of(&bare).union(&named(&all_owned)));
        let kept = remove(self.root, &merged, &unowned);
        let gone = merged_set.difference(&set_of(&kept)).intersection(&last);
        remove(self.root, &merged, &gone)
    }

    /// The fields that client-side apply set and that still have that value (`lastappliedmanager.go`): kubectl takes
    /// them over when it turns to server-side apply. Beyond Kubernetes, an atomic list or map to which defaulting has
    /// only added still counts as that value; otherwise no Knative Service, whose containers always gain defaults,
    /// could be taken over.
    fn set_by_client_side_apply(&self) -> FieldSet {
        let last_applied = last_applied(self.live).and_then(|text| decode::yaml(text.as_bytes()).ok());
        let Some(last_applied) = last_applied else {
            return FieldSet::default();
        };
        let fields = extract(self.root, &last_applied.value).0;
        let comparison = compare(self.root, &last_applied.value, self.live);
        let modified = comparison.modified.paths();
        let other = modified
            .iter()
            .filter(|path| !only_defaulted(path, &last_applied.value, self.live));
        let other = FieldSet::of(other.map(Vec::as_slice));
        fields
            .difference(&comparison.added.union(&other))
            .difference(&comparison.removed)
    }

    /// Keeps the annotation of client-side apply true, where there is one (`lastappliedupdater.go`).
    fn update_last_applied(&self, object: &mut Value) {
        if last_applied(object).is_none() {
            return;
        }
        let mut applied = without_managed_fields(&self.request.applied);
        if let Some(annotations) = applied
            .pointer_mut("/metadata/annotations")
            .and_then(Value::as_object_mut)
        {
            annotations.shift_remove(LAST_APPLIED_ANNOTATION);
        }
        let text = canonical_json(&applied) + "\n";
        if let Some(annotations) = object
            .pointer_mut("/metadata/annotations")
            .and_then(Value::as_object_mut)
        {
            if text.len() > LAST_APPLIED_BYTES_MAX {
                annotations.shift_remove(LAST_APPLIED_ANNOTATION);
            } else {
                annotations.insert(LAST_APPLIED_ANNOTATION.to_owned(), Value::String(text));
            }
        }
    }

    fn describe(&self, conflicts: &BTreeMap<Identity, FieldSet>) -> Vec<Conflict> {
        let mut described = Vec::new();
        for (identity, fields) in conflicts {
            let owned = self.managers.0.get(identity);
            described.extend(fields.paths().iter().map(|path| Conflict {
                manager: identity.manager.clone(),
                field: display_path(path),
                api_version: owned.map(|owned| owned.api_version.clone()).unwrap_or_default(),
                operation: identity.operation,
                subresource: Some(identity.subresource.clone()).filter(|name| !name.is_empty()),
                time: owned.and_then(|owned| owned.time.clone()),
            }));
        }
        described.sort_by_key(|conflict| (conflict.owner(), conflict.field.clone()));
        described
    }
}

/// Whether the live value at a path is what was applied, maybe with fields that defaulting added.
fn only_defaulted(path: &[PathElement], applied: &Value, live: &Value) -> bool {
    at(path, applied)
        .zip(at(path, live))
        .is_some_and(|(applied, live)| covers(live, applied))
}

/// The value at a path of fields.
fn at<'v>(path: &[PathElement], value: &'v Value) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, element| match element {
        PathElement::Field(name) => value.get(name),
        _ => None,
    })
}

/// Whether `live` has all that `applied` has.
fn covers(live: &Value, applied: &Value) -> bool {
    match (live, applied) {
        (Value::Object(live), Value::Object(applied)) => applied
            .iter()
            .all(|(name, applied)| live.get(name).is_some_and(|live| covers(live, applied))),
        (Value::Array(live), Value::Array(applied)) => {
            live.len() == applied.len()
                && live
                    .iter()
                    .zip(applied)
                    .all(|(live, applied)| covers(live, applied))
        }
        _ => live == applied,
    }
}

fn last_applied(object: &Value) -> Option<&str> {
    object
        .get("metadata")?
        .get("annotations")?
        .get(LAST_APPLIED_ANNOTATION)?
        .as_str()
}

#[cfg(test)]
mod tests;
