//! The kinds of Kubernetes itself that are served: one row each. Schemas come from the types of k8s-openapi.

mod data;
mod deployment;
mod endpoints;
mod lease;
mod pod;
pub(crate) mod runtime_class;
mod service;

use crate::events;
use crate::object::{self, child_mut, map_mut, text};
use crate::registry::{
    ALL_VERBS, Column, Columns, Conversion, Hooks, Kind, NO_COLLECTION_VERBS, READ_VERBS, RegistryError,
    Version,
};
use crate::schema::Schema;
use crate::table::age;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Namespace};
use k8s_openapi::api::events::v1::Event as NewEvent;
use kube::core::schema::StructuralSchemaRewriter;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};
use std::sync::Arc;

/// Namespaces made at the first start. `default` may never be deleted.
pub(crate) const NAMESPACES: [&str; 2] = ["default", "knative-serving"];
/// The label that every namespace carries (KEP-2161).
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";
/// All rows.
pub(crate) fn kinds() -> Result<Vec<Kind>, RegistryError> {
    let mut rows = vec![
        namespaces()?,
        data::config_maps()?,
        data::secrets()?,
        service::kind()?,
        events_row()?,
        custom_resource_definitions()?,
        pod::pods()?,
        pod::metrics()?,
        runtime_class::kind()?,
        lease::kind()?,
        deployment::kind()?,
        endpoints::endpoints()?,
        endpoints::slices()?,
    ];
    rows.extend(crate::auth::rbac::kinds::rows()?);
    Ok(rows)
}

/// The OpenAPI schema of a type, without references.
pub(crate) fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
    let generator = settings.with_transform(StructuralSchemaRewriter).into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    object::remove(&mut schema, "$schema");
    schema
}

pub(crate) fn version(
    api_version: &str,
    open_api: Value,
    columns: Columns,
) -> Result<Version, RegistryError> {
    let compiled = Schema::compile(&open_api).map_err(|error| RegistryError {
        crd: api_version.to_owned(),
        message: error.to_string(),
    })?;
    Ok(Version {
        name: api_version.rsplit('/').next().unwrap_or_default().to_owned(),
        api_version: api_version.to_owned(),
        schema: compiled,
        open_api,
        columns,
        selectable_fields: Vec::new(),
        conversion: Conversion::ApiVersion,
    })
}

pub(crate) fn core_kind(
    plural: &str,
    singular: &str,
    kind: &str,
    short_name: &str,
    versions: Vec<Version>,
) -> Kind {
    Kind {
        group: String::new(),
        plural: plural.to_owned(),
        singular: singular.to_owned(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        short_names: if short_name.is_empty() {
            Vec::new()
        } else {
            vec![short_name.to_owned()]
        },
        categories: Vec::new(),
        namespaced: true,
        verbs: ALL_VERBS,
        status: false,
        generation: false,
        unconditional_update: true,
        strategic: true,
        built_in: true,
        made: false,
        storage_resource: plural.into(),
        storage_api_version: "v1".to_owned(),
        versions: versions.into_iter().map(Arc::new).collect(),
        hooks: Hooks::default(),
    }
}

pub(crate) const NAME: Column = Column {
    name: "Name",
    kind: "string",
    priority: 0,
};
pub(crate) const AGE: Column = Column {
    name: "Age",
    kind: "string",
    priority: 0,
};

fn namespaces() -> Result<Kind, RegistryError> {
    const COLUMNS: &[Column] = &[
        NAME,
        Column {
            name: "Status",
            kind: "string",
            priority: 0,
        },
        AGE,
    ];
    let cells = |object: &Value, now: Timestamp| {
        vec![
            object::name(object).into(),
            text(object, "/status/phase").into(),
            created(object, now),
        ]
    };
    let mut v1 = version("v1", schema_of::<Namespace>(), Columns::HandMade(COLUMNS, cells))?;
    v1.selectable_fields = vec!["status.phase".into()];
    let hooks = Hooks {
        default: Some(|namespace| {
            let name = object::name(namespace).to_owned();
            child_mut(
                map_mut(namespace).entry("metadata").or_insert(Value::Null),
                "labels",
            )
            .insert(NAMESPACE_LABEL.into(), name.into());
            child_mut(namespace, "spec")
                .entry("finalizers")
                .or_insert_with(|| json!(["kubernetes"]));
            child_mut(namespace, "status")
                .entry("phase")
                .or_insert_with(|| "Active".into());
        }),
        begin_deletion: Some(|namespace| {
            child_mut(namespace, "status").insert("phase".into(), "Terminating".into());
        }),
        refuse_deletion: Some(|name| (name == "default").then_some("this namespace may not be deleted")),
        label_names: true,
        ..Hooks::default()
    };
    let row = core_kind("namespaces", "namespace", "Namespace", "ns", vec![v1]);
    Ok(Kind {
        namespaced: false,
        verbs: NO_COLLECTION_VERBS,
        status: true,
        hooks,
        ..row
    })
}

fn events_row() -> Result<Kind, RegistryError> {
    let mut v1 = version(
        "v1",
        schema_of::<Event>(),
        Columns::HandMade(events::COLUMNS, events::cells),
    )?;
    v1.selectable_fields = events::SELECTABLE_FIELDS
        .iter()
        .map(|field| (*field).to_owned())
        .collect();
    let columns = Columns::HandMade(events::COLUMNS, |event, now| {
        events::cells(&events::to_core(event), now)
    });
    let mut new = version("events.k8s.io/v1", schema_of::<NewEvent>(), columns)?;
    new.conversion = Conversion::Shape {
        from_storage: events::from_core,
        to_storage: events::to_core,
    };
    Ok(core_kind("events", "event", "Event", "ev", vec![v1, new]))
}

fn custom_resource_definitions() -> Result<Kind, RegistryError> {
    const COLUMNS: &[Column] = &[
        NAME,
        Column {
            name: "Created At",
            kind: "date",
            priority: 0,
        },
    ];
    let cells = |object: &Value, _now: Timestamp| {
        vec![
            object::name(object).into(),
            text(object, "/metadata/creationTimestamp").into(),
        ]
    };
    let api_version = "apiextensions.k8s.io/v1";
    // The server alone writes these objects, and their schema is recursive: nothing to check, nothing to prune.
    let open_api = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let v1 = version(api_version, open_api, Columns::HandMade(COLUMNS, cells))?;
    let row = core_kind(
        "customresourcedefinitions",
        "customresourcedefinition",
        "CustomResourceDefinition",
        "crd",
        vec![v1],
    );
    Ok(Kind {
        group: "apiextensions.k8s.io".into(),
        short_names: vec!["crd".into(), "crds".into()],
        categories: vec!["api-extensions".into()],
        namespaced: false,
        verbs: READ_VERBS,
        hooks: Hooks {
            read_only: Some(
                "definitions are made by the platform, of its own kinds and of those of ConstraintTemplates; \
                 other kinds cannot be added",
            ),
            ..Hooks::default()
        },
        storage_resource: "customresourcedefinitions.apiextensions.k8s.io".into(),
        storage_api_version: api_version.into(),
        ..row
    })
}

pub(crate) fn created(object: &Value, now: Timestamp) -> Value {
    age(text(object, "/metadata/creationTimestamp"), now).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_are_well_formed() {
        let plurals: Vec<String> = kinds().unwrap().into_iter().map(|kind| kind.plural).collect();
        assert_eq!(
            plurals,
            [
                "namespaces",
                "configmaps",
                "secrets",
                "services",
                "events",
                "customresourcedefinitions",
                "pods",
                "pods",
                "runtimeclasses",
                "leases",
                "deployments",
                "endpoints",
                "endpointslices",
                "serviceaccounts",
                "roles",
                "clusterroles",
                "rolebindings",
                "clusterrolebindings"
            ]
        );
    }
}
