//! `coordination.k8s.io/v1` Lease: who leads, until when.

use super::{AGE, NAME, core_kind, created, schema_of, version};
use crate::object::{self, text};
use crate::registry::{Column, Columns, Hooks, Kind, RegistryError};
use crate::status::Cause;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::Value;

const API_VERSION: &str = "coordination.k8s.io/v1";

pub(super) fn kind() -> Result<Kind, RegistryError> {
    const COLUMNS: &[Column] = &[
        NAME,
        Column {
            name: "Holder",
            kind: "string",
            priority: 0,
        },
        AGE,
    ];
    let cells = |object: &Value, now: Timestamp| {
        vec![
            object::name(object).into(),
            text(object, "/spec/holderIdentity").into(),
            created(object, now),
        ]
    };
    let v1 = version(
        API_VERSION,
        schema_of::<Lease>(),
        Columns::HandMade(COLUMNS, cells),
    )?;
    Ok(Kind {
        group: "coordination.k8s.io".into(),
        storage_resource: "leases.coordination.k8s.io".into(),
        storage_api_version: API_VERSION.into(),
        hooks: Hooks {
            validate: Some(check),
            ..Hooks::default()
        },
        ..core_kind("leases", "lease", "Lease", "", vec![v1])
    })
}

/// Numbers that must be positive (kubernetes `pkg/apis/coordination/validation`).
fn check(_old: Option<&Value>, new: &Value) -> Vec<Cause> {
    let number = |field: &str| new.pointer(&format!("/spec/{field}")).and_then(Value::as_i64);
    let mut causes = Vec::new();
    for (field, least, rule) in [
        ("leaseDurationSeconds", 1, "must be greater than 0"),
        ("leaseTransitions", 0, "must be greater than or equal to 0"),
    ] {
        if let Some(value) = number(field).filter(|value| *value < least) {
            let message = format!("Invalid value: {value}: {rule}");
            causes.push(Cause::new(format!("spec.{field}"), "FieldValueInvalid", message));
        }
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_of_a_lease_are_positive() {
        let lease = json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}});
        let fields: Vec<String> = check(None, &lease).into_iter().map(|cause| cause.field).collect();
        assert_eq!(fields, ["spec.leaseDurationSeconds", "spec.leaseTransitions"]);
        assert!(check(None, &json!({"spec": {"leaseDurationSeconds": 15}})).is_empty());
    }
}
