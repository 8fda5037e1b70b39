//! The rows of roles, bindings and ServiceAccounts.

use super::{GROUP, validation};
use crate::builtin::{AGE, NAME, core_kind, created, schema_of, version};
use crate::object::{self, text};
use crate::registry::{Column, Columns, Hooks, Kind, RegistryError};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use schemars::JsonSchema;
use serde_json::Value;

/// The version of all RBAC kinds.
const API_VERSION: &str = "rbac.authorization.k8s.io/v1";

const CREATED_AT: Column = Column {
    name: "Created At",
    kind: "date",
    priority: 0,
};
const ROLE: Column = wide("Role", 0);
const USERS: Column = wide("Users", 1);
const GROUPS: Column = wide("Groups", 1);
const SERVICE_ACCOUNTS: Column = wide("ServiceAccounts", 1);

const fn wide(name: &'static str, priority: i32) -> Column {
    Column {
        name,
        kind: "string",
        priority,
    }
}

/// All rows.
pub(crate) fn rows() -> Result<Vec<Kind>, RegistryError> {
    Ok(vec![
        service_accounts()?,
        role_kind::<Role>("roles", "Role", true, validation::role)?,
        role_kind::<ClusterRole>("clusterroles", "ClusterRole", false, validation::cluster_role)?,
        binding_kind::<RoleBinding>("rolebindings", "RoleBinding", true, validation::role_binding)?,
        binding_kind::<ClusterRoleBinding>(
            "clusterrolebindings",
            "ClusterRoleBinding",
            false,
            validation::cluster_role_binding,
        )?,
    ])
}

fn service_accounts() -> Result<Kind, RegistryError> {
    const COLUMNS: &[Column] = &[NAME, wide("Secrets", 0), AGE];
    let cells = |object: &Value, now: Timestamp| {
        let secrets = object
            .get("secrets")
            .and_then(Value::as_array)
            .map_or(0, Vec::len);
        vec![
            object::name(object).into(),
            secrets.to_string().into(),
            created(object, now),
        ]
    };
    let v1 = version(
        "v1",
        schema_of::<ServiceAccount>(),
        Columns::HandMade(COLUMNS, cells),
    )?;
    Ok(core_kind(
        "serviceaccounts",
        "serviceaccount",
        "ServiceAccount",
        "sa",
        vec![v1],
    ))
}

type Validate = fn(Option<&Value>, &Value) -> Vec<crate::status::Cause>;

fn rbac_kind(row: Kind, namespaced: bool, hooks: Hooks) -> Kind {
    let storage_resource = format!("{}.{GROUP}", row.plural);
    Kind {
        group: GROUP.to_owned(),
        namespaced,
        storage_resource: storage_resource.into(),
        storage_api_version: API_VERSION.to_owned(),
        hooks,
        ..row
    }
}

fn role_kind<T: JsonSchema>(
    plural: &str,
    kind: &str,
    namespaced: bool,
    validate: Validate,
) -> Result<Kind, RegistryError> {
    const COLUMNS: &[Column] = &[NAME, CREATED_AT];
    let cells = |object: &Value, _now: Timestamp| {
        vec![
            object::name(object).into(),
            text(object, "/metadata/creationTimestamp").into(),
        ]
    };
    let v1 = version(API_VERSION, schema_of::<T>(), Columns::HandMade(COLUMNS, cells))?;
    let hooks = Hooks {
        validate: Some(validate),
        path_names: true,
        ..Hooks::default()
    };
    let row = core_kind(plural, &kind.to_ascii_lowercase(), kind, "", vec![v1]);
    Ok(rbac_kind(row, namespaced, hooks))
}

fn binding_kind<T: JsonSchema>(
    plural: &str,
    kind: &str,
    namespaced: bool,
    validate: Validate,
) -> Result<Kind, RegistryError> {
    const COLUMNS: &[Column] = &[NAME, ROLE, AGE, USERS, GROUPS, SERVICE_ACCOUNTS];
    let cells = |object: &Value, now: Timestamp| {
        let role = format!(
            "{}/{}",
            text(object, "/roleRef/kind"),
            text(object, "/roleRef/name")
        );
        vec![
            object::name(object).into(),
            role.into(),
            created(object, now),
            subjects(object, "User").into(),
            subjects(object, "Group").into(),
            subjects(object, "ServiceAccount").into(),
        ]
    };
    let v1 = version(API_VERSION, schema_of::<T>(), Columns::HandMade(COLUMNS, cells))?;
    let hooks = Hooks {
        default: Some(validation::default_binding),
        validate: Some(validate),
        path_names: true,
        ..Hooks::default()
    };
    let row = core_kind(plural, &kind.to_ascii_lowercase(), kind, "", vec![v1]);
    Ok(rbac_kind(row, namespaced, hooks))
}

/// The names of a binding's subjects of one kind.
fn subjects(binding: &Value, kind: &str) -> String {
    let all = binding.get("subjects").and_then(Value::as_array);
    let names: Vec<String> = all
        .into_iter()
        .flatten()
        .filter(|subject| text(subject, "/kind") == kind)
        .map(|subject| match text(subject, "/namespace") {
            "" => text(subject, "/name").to_owned(),
            namespace => format!("{namespace}/{}", text(subject, "/name")),
        })
        .collect();
    names.join(", ")
}
