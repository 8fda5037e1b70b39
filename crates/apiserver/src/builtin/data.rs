//! ConfigMaps and Secrets: data in a map, with a bound on its size.

use super::{AGE, NAME, core_kind, created, schema_of, version};
use crate::object::{self, child_mut, map_mut, text};
use crate::registry::{Column, Columns, Hooks, Kind, RegistryError};
use crate::status::Cause;
use base64::Engine;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::Value;

/// Most bytes that a ConfigMap or Secret holds (k8s.io/api, `MaxSecretSize`).
const DATA_BYTES_MAX: usize = 1024 * 1024;

pub(super) fn config_maps() -> Result<Kind, RegistryError> {
    const COLUMNS: &[Column] = &[
        NAME,
        Column {
            name: "Data",
            kind: "string",
            priority: 0,
        },
        AGE,
    ];
    let cells = |object: &Value, now: Timestamp| {
        let count = entries(object, "data") + entries(object, "binaryData");
        vec![
            object::name(object).into(),
            count.to_string().into(),
            created(object, now),
        ]
    };
    let v1 = version("v1", schema_of::<ConfigMap>(), Columns::HandMade(COLUMNS, cells))?;
    let hooks = Hooks {
        validate: Some(check_data),
        ..Hooks::default()
    };
    Ok(Kind {
        hooks,
        ..core_kind("configmaps", "configmap", "ConfigMap", "cm", vec![v1])
    })
}

pub(super) fn secrets() -> Result<Kind, RegistryError> {
    const COLUMNS: &[Column] = &[
        NAME,
        Column {
            name: "Type",
            kind: "string",
            priority: 0,
        },
        Column {
            name: "Data",
            kind: "string",
            priority: 0,
        },
        AGE,
    ];
    let cells = |object: &Value, now: Timestamp| {
        vec![
            object::name(object).into(),
            text(object, "/type").into(),
            entries(object, "data").to_string().into(),
            created(object, now),
        ]
    };
    let mut v1 = version("v1", schema_of::<Secret>(), Columns::HandMade(COLUMNS, cells))?;
    v1.selectable_fields = vec!["type".into()];
    let hooks = Hooks {
        default: Some(default_secret),
        validate: Some(check_data),
        ..Hooks::default()
    };
    Ok(Kind {
        hooks,
        ..core_kind("secrets", "secret", "Secret", "", vec![v1])
    })
}

/// The type `Opaque`, and `stringData` moved into `data` (it is write-only).
fn default_secret(secret: &mut Value) {
    let map = map_mut(secret);
    map.entry("type").or_insert_with(|| "Opaque".into());
    let Some(Value::Object(strings)) = map.shift_remove("stringData") else {
        return;
    };
    let data = child_mut(secret, "data");
    for (key, value) in strings {
        let plain = value.as_str().unwrap_or_default();
        data.insert(
            key,
            base64::engine::general_purpose::STANDARD.encode(plain).into(),
        );
    }
}

/// Size, immutability, and (in Secrets) base64.
fn check_data(old: Option<&Value>, new: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let maps = ["data", "binaryData"];
    let size: usize = maps
        .iter()
        .filter_map(|key| new.get(*key)?.as_object())
        .flat_map(|map| {
            map.iter()
                .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        })
        .sum();
    if size > DATA_BYTES_MAX {
        let message = format!("Too long: may not be more than {DATA_BYTES_MAX} bytes");
        causes.push(Cause::new("", "FieldValueTooLong", message));
    }
    let encoded = if new.get("kind").is_some_and(|kind| kind == "Secret") {
        "data"
    } else {
        "binaryData"
    };
    for (key, value) in new.get(encoded).and_then(Value::as_object).into_iter().flatten() {
        let text = value.as_str().unwrap_or_default();
        if base64::engine::general_purpose::STANDARD.decode(text).is_err() {
            let message = "Invalid value: the value is not base64 text";
            causes.push(Cause::new(
                format!("{encoded}[{key}]"),
                "FieldValueInvalid",
                message,
            ));
        }
    }
    if let Some(old) = old.filter(|old| old.get("immutable") == Some(&Value::Bool(true))) {
        for key in ["data", "binaryData", "immutable"] {
            if old.get(key) != new.get(key) {
                let message = "Forbidden: field is immutable when `immutable` is set";
                causes.push(Cause::new(key, "FieldValueForbidden", message));
            }
        }
    }
    causes
}

fn entries(object: &Value, key: &str) -> usize {
    object
        .get(key)
        .and_then(Value::as_object)
        .map_or(0, serde_json::Map::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn string_data_moves_into_data() {
        let mut secret = json!({"kind": "Secret", "stringData": {"a": "b"}});
        default_secret(&mut secret);
        assert_eq!(
            secret,
            json!({"kind": "Secret", "type": "Opaque", "data": {"a": "Yg=="}})
        );
        assert!(check_data(None, &secret).is_empty());
    }

    #[test]
    fn data_has_rules() {
        let immutable = json!({"kind": "ConfigMap", "immutable": true, "data": {"a": "b"}});
        let causes = check_data(
            Some(&immutable),
            &json!({"kind": "ConfigMap", "immutable": true, "data": {"a": "c"}}),
        );
        assert_eq!(causes[0].field, "data");
        let causes = check_data(None, &json!({"kind": "Secret", "data": {"a": "%"}}));
        assert_eq!(causes[0].field, "data[a]");
        let causes = check_data(
            None,
            &json!({"kind": "ConfigMap", "data": {"a": "x".repeat(DATA_BYTES_MAX)}}),
        );
        assert_eq!(causes[0].reason, "FieldValueTooLong");
    }
}
