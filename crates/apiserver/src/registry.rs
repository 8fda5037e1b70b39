//! Every kind that is served, as data: names, scope, verbs, versions, schema, columns.
//!
//! A row comes from a CustomResourceDefinition or, for the kinds that are part of Kubernetes itself, from
//! [`crate::builtin`]. Handlers, discovery, OpenAPI and tables read rows; none of them knows a kind by name.

use crate::constraint_kinds;
use crate::json_path::JsonPath;
use crate::schema::Schema;
use crate::status::{ApiError, Cause, Names};
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use kittiwake_api::meta::MADE_ANNOTATION;
use kittiwake_core::instances::InstanceHub;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Verbs of a kind that clients may write.
pub(crate) const ALL_VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
/// Verbs of a kind whose objects are not deleted by the dozen, such as namespaces.
pub(crate) const NO_COLLECTION_VERBS: &[&str] =
    &["create", "delete", "get", "list", "patch", "update", "watch"];
/// Verbs of a kind that only the server writes.
pub(crate) const READ_VERBS: &[&str] = &["get", "list", "watch"];
/// Verbs of `/status`.
pub(crate) const STATUS_VERBS: &[&str] = &["get", "patch", "update"];

/// Why a kind of the platform's own cannot be written whose objects are made from others.
const MADE_READ_ONLY: &str = "these objects are made by the platform, from the Revision and its PodAutoscaler; \
     they cannot be written: change the Service instead";

/// One kind, in all its versions.
pub(crate) struct Kind {
    pub group: String,
    pub plural: String,
    pub singular: String,
    pub kind: String,
    pub list_kind: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    pub verbs: &'static [&'static str],
    /// Whether it has `/status`; the main resource then cannot change the status, nor `/status` anything else.
    pub status: bool,
    /// Whether `metadata.generation` is kept.
    pub generation: bool,
    /// Whether a PUT may leave out the resourceVersion (`AllowUnconditionalUpdate` in Kubernetes).
    pub unconditional_update: bool,
    /// Whether strategic merge patches are accepted. Only kinds of Kubernetes itself have them.
    pub strategic: bool,
    /// Whether it is a kind of Kubernetes itself.
    pub built_in: bool,
    /// Whether its objects are made by the server from other objects or from what lives now, and kept in memory only.
    pub made: bool,
    /// Its name in the store: `plural.group`, or the plural alone in the core group.
    pub storage_resource: Arc<str>,
    /// The `apiVersion` of stored objects.
    pub storage_api_version: String,
    pub versions: Vec<Arc<Version>>,
    pub hooks: Hooks,
}

/// One version of a kind.
pub(crate) struct Version {
    pub name: String,
    /// `group/version`, or the version alone in the core group.
    pub api_version: String,
    pub schema: Schema,
    /// The same schema as OpenAPI v3 JSON, for clients.
    pub open_api: Value,
    pub columns: Columns,
    /// Field selectors it supports besides `metadata.name` and `metadata.namespace`.
    pub selectable_fields: Vec<String>,
    pub conversion: Conversion,
}

/// Rules that an object breaks; `old` is `None` on create.
type Rules = fn(old: Option<&Value>, new: &Value) -> Vec<Cause>;

/// What a kind of Kubernetes itself does beyond the generic rules. Every hook works on plain JSON.
#[derive(Clone, Copy, Default)]
pub(crate) struct Hooks {
    /// Fills defaults on create and update.
    pub default: Option<fn(&mut Value)>,
    /// Rules that no schema can say; runs on create (`old` is `None`) and update.
    pub validate: Option<Rules>,
    /// Turns a deletion into a state that a background task finishes.
    pub begin_deletion: Option<fn(&mut Value)>,
    /// Has what an object stands for end, where objects are made from what lives: the object goes with it.
    pub end: Option<fn(&InstanceHub, &Value)>,
    /// Why this object may not be deleted.
    pub refuse_deletion: Option<fn(name: &str) -> Option<&'static str>>,
    /// Whether names are DNS labels (63 bytes, no dots) instead of DNS subdomains.
    pub label_names: bool,
    /// Whether its objects define kinds ([`crate::constraint_kinds`]).
    pub defines_kinds: bool,
    /// Why clients cannot write it, and what to do instead. Verbs that the kind has all the same are allowed.
    pub read_only: Option<&'static str>,
    /// Whether names need be no more than a segment of a path, for example `system:discovery`.
    pub path_names: bool,
}

/// How a version differs from the stored form.
#[derive(Clone, Copy)]
pub(crate) enum Conversion {
    /// In `apiVersion` alone (a CRD's strategy `None`).
    ApiVersion,
    /// In shape.
    Shape {
        from_storage: fn(&Value) -> Value,
        to_storage: fn(&Value) -> Value,
    },
}

/// Columns of `kubectl get`.
pub(crate) enum Columns {
    /// `additionalPrinterColumns` of a CRD.
    Paths(Vec<PathColumn>),
    /// Made by hand: definitions, and the cells of one object.
    HandMade(&'static [Column], fn(&Value, Timestamp) -> Vec<Value>),
}

/// One hand-made column.
pub(crate) struct Column {
    pub name: &'static str,
    pub kind: &'static str,
    /// 0: always shown; 1: only with `-o wide`.
    pub priority: i32,
}

/// One column of a CRD.
pub(crate) struct PathColumn {
    pub name: String,
    pub kind: String,
    pub format: String,
    pub description: String,
    pub priority: i32,
    pub path: JsonPath,
}

/// A kind in the version that a request asked for.
#[derive(Clone)]
pub(crate) struct Served {
    pub kind: Arc<Kind>,
    pub version: Arc<Version>,
}

impl Served {
    /// The names that errors use.
    pub(crate) fn names(&self) -> Names<'_> {
        Names {
            group: &self.kind.group,
            plural: &self.kind.plural,
            kind: &self.kind.kind,
        }
    }

    /// The `apiVersion` of the request's version.
    pub(crate) fn api_version(&self) -> &str {
        &self.version.api_version
    }

    /// A stored object in the requested version; shared, not copied, when that is the stored one.
    pub(crate) fn read(&self, stored: &Arc<Value>) -> Arc<Value> {
        match self.version.conversion {
            Conversion::ApiVersion if crate::object::text(stored, "/apiVersion") == self.api_version() => {
                Arc::clone(stored)
            }
            Conversion::ApiVersion => {
                let mut object = (**stored).clone();
                crate::object::map_mut(&mut object).insert("apiVersion".into(), self.api_version().into());
                Arc::new(object)
            }
            Conversion::Shape { from_storage, .. } => Arc::new(from_storage(stored)),
        }
    }

    /// An object of the requested version in the form in which it is stored.
    pub(crate) fn to_storage(&self, mut object: Value) -> Value {
        if let Conversion::Shape { to_storage, .. } = self.version.conversion {
            object = to_storage(&object);
        }
        // First, so that the text tells what it is by its beginning (`handler::as_stored`).
        let map = crate::object::map_mut(&mut object);
        let kind = map.shift_remove("kind");
        map.shift_remove("apiVersion");
        map.shift_insert(
            0,
            "apiVersion".into(),
            self.kind.storage_api_version.as_str().into(),
        );
        if let Some(kind) = kind {
            map.shift_insert(1, "kind".into(), kind);
        }
        object
    }
}

/// Why a set of CRDs cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the CustomResourceDefinition {crd} cannot be served: {message}")]
pub struct RegistryError {
    /// Name of the CRD.
    pub crd: String,
    /// What is wrong with it.
    pub message: String,
}

/// All kinds. Immutable: a change makes a new registry.
pub(crate) struct Registry {
    kinds: Vec<Arc<Kind>>,
    by_resource: BTreeMap<(String, String, String), Served>,
}

impl Registry {
    /// The registry of the built-in kinds and these CRDs.
    pub(crate) fn new(built_in: Vec<Kind>, crds: &[CustomResourceDefinition]) -> Result<Self, RegistryError> {
        let mut kinds: Vec<Arc<Kind>> = built_in.into_iter().map(Arc::new).collect();
        for crd in crds {
            kinds.push(Arc::new(kind_of_crd(crd)?));
        }
        Self::of(kinds)
    }

    /// The same registry with these kinds of one group instead of those that it had.
    pub(crate) fn with_group(
        &self,
        group: &str,
        kinds: impl Iterator<Item = Arc<Kind>>,
    ) -> Result<Self, RegistryError> {
        let others = self.kinds.iter().filter(|kind| kind.group != group);
        Self::of(others.cloned().chain(kinds).collect())
    }

    fn of(kinds: Vec<Arc<Kind>>) -> Result<Self, RegistryError> {
        let mut by_resource = BTreeMap::new();
        for kind in &kinds {
            for version in &kind.versions {
                let (group, name) = version
                    .api_version
                    .rsplit_once('/')
                    .unwrap_or(("", &version.api_version));
                let key = (group.to_owned(), name.to_owned(), kind.plural.clone());
                let served = Served {
                    kind: Arc::clone(kind),
                    version: Arc::clone(version),
                };
                if by_resource.insert(key, served).is_some() {
                    let message = "another kind has the same group, version and plural".to_owned();
                    return Err(RegistryError {
                        crd: kind.storage_resource.to_string(),
                        message,
                    });
                }
            }
        }
        Ok(Self { kinds, by_resource })
    }

    /// The kind behind a URL.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Served> {
        self.by_resource
            .get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    /// The kind behind an `apiVersion` and `kind`, as owner references name it.
    pub(crate) fn find_kind(&self, api_version: &str, kind: &str) -> Option<&Served> {
        self.served()
            .find(|served| served.api_version() == api_version && served.kind.kind == kind)
    }

    /// Every kind, once.
    pub(crate) fn kinds(&self) -> &[Arc<Kind>] {
        &self.kinds
    }

    /// Every kind in every version, sorted by group, version and plural.
    pub(crate) fn served(&self) -> impl Iterator<Item = &Served> {
        self.by_resource.values()
    }

    /// The kinds of one group and version.
    pub(crate) fn group_version<'a>(
        &'a self,
        group: &'a str,
        version: &'a str,
    ) -> impl Iterator<Item = &'a Served> {
        self.by_resource
            .iter()
            .filter(move |((g, v, _), _)| g == group && v == version)
            .map(|(_, served)| served)
    }

    /// Groups with their versions, the preferred version first (Kubernetes' version order: GA, beta, alpha).
    pub(crate) fn groups(&self) -> Vec<(String, Vec<String>)> {
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (group, version, _) in self.by_resource.keys() {
            let versions = groups.entry(group.clone()).or_default();
            if !versions.contains(version) {
                versions.push(version.clone());
            }
        }
        for versions in groups.values_mut() {
            versions.sort_by_key(|version| std::cmp::Reverse(version_rank(version)));
        }
        groups.into_iter().collect()
    }
}

/// Order of versions: `v2` > `v1` > `v1beta2` > `v1beta1` > `v1alpha1`
/// (k8s.io/apimachinery/pkg/version, `CompareKubeAwareVersionStrings`).
fn version_rank(version: &str) -> (u8, u32, u32) {
    let rest = version.trim_start_matches('v');
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (major, tail) = rest.split_at(digits);
    let major = major.parse().unwrap_or(0);
    match (tail.strip_prefix("beta"), tail.strip_prefix("alpha")) {
        (Some(minor), _) => (1, major, minor.parse().unwrap_or(0)),
        (_, Some(minor)) => (0, major, minor.parse().unwrap_or(0)),
        _ => (2, major, 0),
    }
}

/// The row of a CRD.
pub(crate) fn kind_of_crd(crd: &CustomResourceDefinition) -> Result<Kind, RegistryError> {
    let name = crd.metadata.name.clone().unwrap_or_default();
    let wrong = |message: String| RegistryError {
        crd: name.clone(),
        message,
    };
    let spec = &crd.spec;
    let storage = spec.versions.iter().find(|version| version.storage);
    let storage = storage.ok_or_else(|| wrong("no version is marked as storage".into()))?;
    let versions = spec.versions.iter().filter(|version| version.served);
    let versions: Vec<Arc<Version>> = versions
        .map(|version| version_of_crd(&spec.group, &spec.names.kind, version).map(Arc::new))
        .collect::<Result<_, String>>()
        .map_err(wrong)?;
    let names = &spec.names;
    let subresources = spec
        .versions
        .iter()
        .filter_map(|version| version.subresources.as_ref());
    let storage_resource: Arc<str> = format!("{}.{}", names.plural, spec.group).into();
    let annotations = crd.metadata.annotations.as_ref();
    let made = annotations.is_some_and(|annotations| annotations.contains_key(MADE_ANNOTATION));
    let hooks = if &*storage_resource == constraint_kinds::TEMPLATES {
        constraint_kinds::HOOKS
    } else {
        Hooks {
            read_only: made.then_some(MADE_READ_ONLY),
            ..Hooks::default()
        }
    };
    Ok(Kind {
        group: spec.group.clone(),
        plural: names.plural.clone(),
        singular: names
            .singular
            .clone()
            .unwrap_or_else(|| names.kind.to_lowercase()),
        kind: names.kind.clone(),
        list_kind: names
            .list_kind
            .clone()
            .unwrap_or_else(|| format!("{}List", names.kind)),
        short_names: names.short_names.clone().unwrap_or_default(),
        categories: names.categories.clone().unwrap_or_default(),
        namespaced: spec.scope == "Namespaced",
        verbs: if made { READ_VERBS } else { ALL_VERBS },
        status: !made && subresources.into_iter().any(|part| part.status.is_some()),
        generation: true,
        unconditional_update: false,
        strategic: false,
        built_in: false,
        made,
        storage_resource,
        storage_api_version: format!("{}/{}", spec.group, storage.name),
        versions,
        hooks,
    })
}

fn version_of_crd(
    group: &str,
    kind: &str,
    version: &CustomResourceDefinitionVersion,
) -> Result<Version, String> {
    let schema = version
        .schema
        .as_ref()
        .and_then(|schema| schema.open_api_v3_schema.as_ref());
    let open_api = serde_json::to_value(schema).map_err(|error| error.to_string())?;
    let schema = Schema::compile(&open_api).map_err(|error| format!("version {}: {error}", version.name))?;
    let columns = version.additional_printer_columns.iter().flatten().map(|column| {
        let path =
            JsonPath::parse(&column.json_path).map_err(|error| format!("column {}: {error}", column.name))?;
        Ok(PathColumn {
            name: column.name.clone(),
            kind: column.type_.clone(),
            format: column.format.clone().unwrap_or_default(),
            description: column.description.clone().unwrap_or_default(),
            priority: column.priority.unwrap_or(0),
            path,
        })
    });
    let fields = version.selectable_fields.iter().flatten();
    Ok(Version {
        name: version.name.clone(),
        api_version: format!("{group}/{}", version.name),
        schema,
        open_api,
        columns: Columns::Paths(columns.collect::<Result<_, String>>()?),
        selectable_fields: fields
            .map(|field| field.json_path.trim_start_matches('.').to_owned())
            .collect(),
        conversion: kittiwake_api::conversion::find(&format!("{group}/{}", version.name), kind).map_or(
            Conversion::ApiVersion,
            |conversion| Conversion::Shape {
                from_storage: conversion.from_storage,
                to_storage: conversion.to_storage,
            },
        ),
    })
}

/// The error for a resource that is not served.
pub(crate) fn unknown_resource() -> ApiError {
    ApiError::page_not_found()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_like_kubernetes_orders_them() {
        let mut versions = ["v1alpha1", "v1beta1", "v2", "v1", "v1beta2"];
        versions.sort_by_key(|version| std::cmp::Reverse(version_rank(version)));
        assert_eq!(versions, ["v2", "v1", "v1beta2", "v1beta1", "v1alpha1"]);
    }

    #[test]
    fn a_crd_without_storage_version_is_refused() {
        let crd = CustomResourceDefinition {
            metadata: kube::core::ObjectMeta {
                name: Some("x.y".into()),
                ..Default::default()
            },
            ..Default::default()
        };
        let error = Registry::new(Vec::new(), &[crd]).err().unwrap();
        assert_eq!(
            error.to_string(),
            "the CustomResourceDefinition x.y cannot be served: no version is marked as storage"
        );
    }
}
