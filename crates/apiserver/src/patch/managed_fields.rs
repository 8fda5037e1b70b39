//! `metadata.managedFields`: who set which field, and when (apimachinery `pkg/util/managedfields`).

use super::field_set::{FieldSet, PathElement};
use super::typed::{Comparison, compare};
use crate::schema::Schema;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// Entries of updates that one object keeps; the oldest are merged into [`ANCIENT_CHANGES`].
pub const UPDATE_ENTRIES_MAX: usize = 10;
/// The manager of merged old updates.
pub const ANCIENT_CHANGES: &str = "ancient-changes";
/// The manager of what an object held before somebody first applied it.
pub(super) const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// How a manager wrote its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Server-side apply: the manager says what it wants, as a whole.
    Apply,
    /// Create, replace and all other patches.
    Update,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        })
    }
}

/// Which entry of `managedFields`; the version is left out for Apply, as a manager applies one set in any version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    pub operation: Operation,
    pub manager: String,
    pub api_version: String,
    pub subresource: String,
}

impl Identity {
    pub fn new(operation: Operation, manager: &str, api_version: &str, subresource: Option<&str>) -> Self {
        let api_version = if operation == Operation::Apply {
            ""
        } else {
            api_version
        };
        Self {
            operation,
            manager: manager.to_owned(),
            api_version: api_version.to_owned(),
            subresource: subresource.unwrap_or_default().to_owned(),
        }
    }
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owned {
    pub api_version: String,
    pub time: Option<String>,
    pub fields: FieldSet,
}

/// All entries of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Managers(pub BTreeMap<Identity, Owned>);

/// Records in `new.metadata.managedFields` that `manager` made `new` out of `old` (`None`: created it).
///
/// Fields that changed belong to the manager alone, fields that went belong to nobody. A client may have written
/// `managedFields` itself: `[{}]` ends the tracking, an empty list is taken for ignorance and changes nothing.
/// Subresource requests cannot write it. When no field changed, every entry keeps its time.
pub fn record_update(
    schema: &Schema,
    old: Option<&Value>,
    new: &mut Value,
    manager: &str,
    api_version: &str,
    subresource: Option<&str>,
    now: Timestamp,
) {
    let mut managers = current(old, new, subresource);
    if !(managers.0.is_empty() && old.is_some()) {
        let nothing = json!({});
        let comparison = compare(schema.root(), old.unwrap_or(&nothing), new);
        let identity = Identity::new(Operation::Update, manager, api_version, subresource);
        managers.update(
            identity,
            &comparison.map(|set| visible(set, subresource)),
            api_version,
            now,
        );
        managers.cap_updates();
    }
    managers.write(new);
}

/// The entries that an update starts from: those of the request, or where it has none, of the live object.
fn current(old: Option<&Value>, new: &Value, subresource: Option<&str>) -> Managers {
    let live = || old.and_then(Managers::read).unwrap_or_default();
    if subresource.is_some() {
        return live();
    }
    if new.pointer("/metadata/managedFields") == Some(&json!([{}])) {
        return Managers::default();
    }
    Managers::read(new)
        .filter(|managers| !managers.0.is_empty())
        .unwrap_or_else(live)
}

/// The part of a set that a request to the main resource or to a subresource can own: the status belongs to
/// `/status`, all else to the main resource.
pub(super) fn visible(set: &FieldSet, subresource: Option<&str>) -> FieldSet {
    let status = FieldSet::of([[PathElement::field("status")].as_slice()]);
    let rest = set.difference_with_descendants(&status);
    let part = if subresource == Some("status") {
        set.difference(&rest)
    } else {
        rest
    };
    strip(&part)
}

/// The set without what nobody owns (apimachinery `stripmeta.go`).
pub(super) fn strip(set: &FieldSet) -> FieldSet {
    const TOP: [&str; 3] = ["apiVersion", "kind", "metadata"];
    const METADATA: [&str; 9] = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    let mut unowned = FieldSet::default();
    for name in TOP {
        unowned.insert(&[PathElement::field(name)]);
    }
    for name in METADATA {
        unowned.insert(&[PathElement::field("metadata"), PathElement::field(name)]);
    }
    set.difference(&unowned)
}

impl Managers {
    /// Reads the entries of an object; `None` when one of them is not an entry.
    pub fn read(object: &Value) -> Option<Self> {
        let entries = match object.pointer("/metadata/managedFields") {
            None | Some(Value::Null) => return Some(Self::default()),
            Some(Value::Array(entries)) => entries,
            Some(_) => return None,
        };
        let mut managers = Self::default();
        for entry in entries {
            let text = |name: &str| entry.get(name).and_then(Value::as_str);
            let operation = match text("operation")? {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return None,
            };
            let api_version = text("apiVersion").unwrap_or_default();
            let identity = Identity::new(
                operation,
                text("manager").unwrap_or_default(),
                api_version,
                text("subresource"),
            );
            let fields = FieldSet::from_fields_v1(entry.get("fieldsV1")?).ok()?;
            let time = text("time").map(str::to_owned);
            managers.0.insert(
                identity,
                Owned {
                    api_version: api_version.to_owned(),
                    time,
                    fields,
                },
            );
        }
        Some(managers)
    }

    /// Writes the entries into an object, in Kubernetes' order; none at all when there are none.
    pub fn write(&self, object: &mut Value) {
        let Some(object) = object.as_object_mut() else {
            return;
        };
        let metadata = object.entry("metadata").or_insert_with(|| json!({}));
        let Some(metadata) = metadata.as_object_mut() else {
            return;
        };
        if self.0.is_empty() {
            metadata.shift_remove("managedFields");
            return;
        }
        let mut entries: Vec<_> = self.0.iter().collect();
        entries.sort_by_key(|(identity, owned)| {
            let Identity {
                operation,
                manager,
                subresource,
                ..
            } = identity;
            (
                *operation,
                owned.seconds(),
                manager.clone(),
                owned.api_version.clone(),
                subresource.clone(),
            )
        });
        let entries = entries
            .into_iter()
            .map(|(identity, owned)| owned.entry(identity))
            .collect();
        metadata.insert("managedFields".to_owned(), Value::Array(entries));
    }

    /// The entries without their times, to see whether they say the same.
    pub fn without_times(&self) -> BTreeMap<&Identity, (&str, &FieldSet)> {
        self.0
            .iter()
            .map(|(identity, owned)| (identity, (owned.api_version.as_str(), &owned.fields)))
            .collect()
    }

    /// What others own of the fields that changed.
    pub fn conflicts(&self, own: &Identity, comparison: &Comparison) -> BTreeMap<Identity, FieldSet> {
        let changed = comparison.changed();
        let others = self.0.iter().filter(|(identity, _)| *identity != own);
        let conflicts =
            others.map(|(identity, owned)| (identity.clone(), owned.fields.intersection(&changed)));
        conflicts.filter(|(_, fields)| !fields.is_empty()).collect()
    }

    /// Takes from all others what changed or went.
    pub fn take_from_others(&mut self, own: &Identity, comparison: &Comparison) {
        let changed = comparison.changed().union(&comparison.removed);
        for (identity, owned) in &mut self.0 {
            if identity != own {
                owned.fields = owned.fields.difference(&changed);
            }
        }
        self.tidy();
    }

    /// Drops what nobody owns, and entries that own nothing. An applier that owns nothing stays out too.
    pub fn tidy(&mut self) {
        self.0.retain(|_, owned| {
            owned.fields = strip(&owned.fields);
            !owned.fields.is_empty()
        });
    }

    fn update(&mut self, own: Identity, comparison: &Comparison, api_version: &str, now: Timestamp) {
        self.take_from_others(&own, comparison);
        let changed = comparison.changed();
        if let Some(owned) = self.0.get_mut(&own) {
            owned.fields = owned.fields.difference(&comparison.removed);
        }
        if !changed.is_empty() {
            let before = self
                .0
                .get(&own)
                .map(|owned| owned.fields.clone())
                .unwrap_or_default();
            let owned = Owned {
                api_version: api_version.to_owned(),
                time: Some(time_text(now)),
                fields: before.union(&changed),
            };
            self.0.insert(own, owned);
        }
        self.tidy();
    }

    /// Merges the oldest updates until at most [`UPDATE_ENTRIES_MAX`] are left (or one for each version).
    fn cap_updates(&mut self) {
        let updates = self
            .0
            .iter()
            .filter(|(identity, _)| identity.operation == Operation::Update);
        let mut updates: Vec<_> = updates
            .map(|(identity, owned)| (owned.seconds(), identity.clone()))
            .collect();
        updates.sort();
        let mut count = updates.len();
        let mut first_of_version: BTreeMap<String, Identity> = BTreeMap::new();
        for (_, identity) in updates {
            if count <= UPDATE_ENTRIES_MAX {
                return;
            }
            let version = identity.api_version.clone();
            let Some(first) = first_of_version.get(&version) else {
                first_of_version.insert(version, identity);
                continue;
            };
            let bucket = Identity::new(Operation::Update, ANCIENT_CHANGES, &version, None);
            if !self.0.contains_key(&bucket)
                && let Some(owned) = self.0.remove(first)
            {
                self.0.insert(bucket.clone(), owned);
            }
            if identity == bucket {
                continue;
            }
            let Some(merged) = self.0.remove(&identity) else {
                continue;
            };
            count -= 1;
            if let Some(owned) = self.0.get_mut(&bucket) {
                owned.fields = owned.fields.union(&merged.fields);
                owned.time = merged.time;
            }
        }
    }
}

impl Owned {
    fn seconds(&self) -> i64 {
        let time = self
            .time
            .as_deref()
            .and_then(|time| time.parse::<Timestamp>().ok());
        time.map_or(0, Timestamp::as_second)
    }

    fn entry(&self, identity: &Identity) -> Value {
        let mut entry = Map::new();
        let mut put = |name: &str, value: Value| entry.insert(name.to_owned(), value);
        put("manager", json!(identity.manager));
        put("operation", json!(identity.operation.to_string()));
        put("apiVersion", json!(self.api_version));
        if let Some(time) = &self.time {
            put("time", json!(time));
        }
        put("fieldsType", json!("FieldsV1"));
        put("fieldsV1", self.fields.to_fields_v1());
        if !identity.subresource.is_empty() {
            put("subresource", json!(identity.subresource));
        }
        Value::Object(entry)
    }
}

/// A time as Kubernetes writes it: UTC, whole seconds.
pub(super) fn time_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn update(old: Option<&Value>, mut new: Value, manager: &str, second: i64) -> Value {
        record_update(
            &Schema::permissive(),
            old,
            &mut new,
            manager,
            "v1",
            None,
            at(second),
        );
        new
    }

    /// `manager → fields` of the main resource.
    fn owners(object: &Value) -> Value {
        let entries = object["metadata"]["managedFields"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let owners = entries.iter().map(|entry| {
            (
                entry["manager"].as_str().unwrap().to_owned(),
                entry["fieldsV1"].clone(),
            )
        });
        Value::Object(owners.collect())
    }

    #[test]
    fn the_creator_owns_what_was_created() {
        let created = update(
            None,
            json!({"apiVersion": "v1", "kind": "ConfigMap",
                   "metadata": {"name": "c", "uid": "u", "labels": {"a": "b"}, "finalizers": ["f"]}, "data": {"k": "v"}}),
            "kubectl-create",
            1_700_000_000,
        );
        assert_eq!(
            created["metadata"]["managedFields"],
            json!([{
                "manager": "kubectl-create", "operation": "Update", "apiVersion": "v1", "time": "2023-11-14T22:13:20Z",
                "fieldsType": "FieldsV1",
                "fieldsV1": {
                    "f:data": {".": {}, "f:k": {}},
                    "f:metadata": {"f:finalizers": {".": {}, "v:\"f\"": {}}, "f:labels": {".": {}, "f:a": {}}},
                },
            }])
        );
    }

    #[test]
    fn changed_fields_move_and_removed_fields_go() {
        let first = update(
            None,
            json!({"metadata": {"name": "c"}, "data": {"a": "1", "b": "1", "c": "1"}}),
            "one",
            1,
        );
        let mut changed = first.clone();
        changed["data"] = json!({"a": "1", "b": "2", "d": "1"});
        let second = update(Some(&first), changed, "two", 2);
        assert_eq!(
            owners(&second),
            json!({"one": {"f:data": {".": {}, "f:a": {}}}, "two": {"f:data": {"f:b": {}, "f:d": {}}}})
        );
        assert_eq!(
            update(Some(&second), second.clone(), "two", 3),
            second,
            "nothing changed"
        );
    }

    #[test]
    fn status_and_main_are_owned_apart() {
        let created = update(
            None,
            json!({"metadata": {"name": "c"}, "spec": {"a": 1}}),
            "one",
            1,
        );
        let mut new = created.clone();
        new["status"] = json!({"ready": true});
        new["spec"]["a"] = json!(2);
        record_update(
            &Schema::permissive(),
            Some(&created),
            &mut new,
            "two",
            "v1",
            Some("status"),
            at(2),
        );
        let entries = new["metadata"]["managedFields"].as_array().unwrap();
        assert_eq!(entries[1]["subresource"], "status");
        assert_eq!(
            entries[1]["fieldsV1"],
            json!({"f:status": {".": {}, "f:ready": {}}})
        );
        assert_eq!(entries[0], created["metadata"]["managedFields"][0]);
    }

    #[test]
    fn clients_may_rewrite_and_reset_the_record() {
        let first = update(
            None,
            json!({"metadata": {"name": "c"}, "data": {"a": "1"}}),
            "one",
            1,
        );
        let mut forgetful = first.clone();
        forgetful["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("managedFields");
        assert_eq!(update(Some(&first), forgetful.clone(), "two", 2), first);
        forgetful["metadata"]["managedFields"] = json!([]);
        assert_eq!(update(Some(&first), forgetful.clone(), "two", 2), first);
        forgetful["metadata"]["managedFields"] = json!([{}]);
        let reset = update(Some(&first), forgetful, "two", 2);
        assert_eq!(owners(&reset), json!({}));
        let mut later = reset.clone();
        later["data"]["a"] = json!("2");
        assert_eq!(owners(&update(Some(&reset), later, "two", 3)), json!({}));

        let mut renamed = first.clone();
        renamed["metadata"]["managedFields"][0]["manager"] = json!("other");
        assert_eq!(
            owners(&update(Some(&first), renamed, "two", 2)),
            json!({"other": owners(&first)["one"]})
        );
        let mut broken = first.clone();
        broken["metadata"]["managedFields"][0]["fieldsV1"] = json!({"bad": {}});
        assert_eq!(update(Some(&first), broken, "two", 2), first);
    }

    #[test]
    fn old_updates_are_merged() {
        let mut object = update(None, json!({"metadata": {"name": "c"}, "data": {}}), "m0", 1);
        for n in 1..=14 {
            let mut new = object.clone();
            new["data"][format!("k{n}")] = json!("v");
            object = update(Some(&object), new, &format!("m{n}"), n + 1);
        }
        let owners = owners(&object);
        assert_eq!(owners.as_object().unwrap().len(), UPDATE_ENTRIES_MAX);
        let ancient = &owners[ANCIENT_CHANGES]["f:data"];
        assert_eq!(
            *ancient,
            json!({".": {}, "f:k1": {}, "f:k2": {}, "f:k3": {}, "f:k4": {}, "f:k5": {}})
        );
    }

    #[test]
    fn appliers_come_first_then_time_decides() {
        let mut managers = Managers::default();
        for (operation, manager, time) in [
            (Operation::Update, "u", 1),
            (Operation::Apply, "z", 3),
            (Operation::Apply, "a", 4),
            (Operation::Apply, "b", 4),
        ] {
            let owned = Owned {
                api_version: "v1".into(),
                time: Some(time_text(at(time))),
                fields: FieldSet::of([[PathElement::field("x")].as_slice()]),
            };
            managers
                .0
                .insert(Identity::new(operation, manager, "v1", None), owned);
        }
        let mut object = json!({});
        managers.write(&mut object);
        let order: Vec<_> = owners(&object).as_object().unwrap().keys().cloned().collect();
        assert_eq!(order, ["z", "a", "b", "u"]);
        assert_eq!(Managers::read(&object), Some(managers));
    }
}
