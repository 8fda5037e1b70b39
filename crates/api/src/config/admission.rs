//! What a ConfigMap of the platform may say (knative/pkg `webhook/configmaps`).

use super::example::{CHECKSUM_ANNOTATION, EXAMPLE_KEY, checksum};
use super::{Data, NAMES, NAMESPACE, Settings};
use crate::admission::json;
use serde_json::Value;

/// Checks a ConfigMap that is about to be written. Gives warnings: keys that mean nothing. What is no ConfigMap of the
/// platform passes.
///
/// # Errors
/// Why it is refused, as Knative's webhook says it.
pub fn admit(object: &Value) -> Result<Vec<String>, String> {
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    let name = json::text(metadata, "name");
    if json::text(metadata, "namespace") != NAMESPACE || !NAMES.contains(&name) {
        return Ok(Vec::new());
    }
    let data = data_of(object);
    let annotation = json::texts(metadata, "annotations").find(|(key, _)| *key == CHECKSUM_ANNOTATION);
    if let (Some(example), Some((_, wanted))) = (data.get(EXAMPLE_KEY), annotation)
        && checksum(example) != wanted
    {
        return Err(format!(
            "validation failed: the update modified a key in {EXAMPLE_KEY:?} which is probably not what you want. \
             Instead, copy the respective setting to the top-level of the ConfigMap, directly below \"data\""
        ));
    }
    let unknown = Settings::default()
        .set(name, Some(&data))
        .map_err(|error| format!("validation failed: {error}"))?;
    let warning = |key: &String| format!("{name}: the key {key:?} means nothing and is ignored");
    Ok(unknown.iter().map(warning).collect())
}

/// The texts of a ConfigMap.
#[must_use]
pub fn data_of(object: &Value) -> Data {
    json::texts(object, "data")
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;
    use serde_json::json;

    fn map(namespace: &str, data: Value) -> Value {
        let mut map = example::ensured("config-gc", None).unwrap();
        map["metadata"]["namespace"] = namespace.into();
        for (key, value) in data.as_object().unwrap() {
            map["data"][key] = value.clone();
        }
        map
    }

    #[test]
    fn nonsense_is_refused_in_the_platforms_namespace_only() {
        let nonsense = json!({"max-non-active-revisions": "many"});
        assert_eq!(
            admit(&map(NAMESPACE, nonsense.clone())),
            Err("validation failed: failed to parse \"max-non-active-revisions\": \"many\" is not a number of revisions, or disabled".to_owned())
        );
        assert_eq!(admit(&map("default", nonsense)), Ok(Vec::new()));
    }

    #[test]
    fn a_changed_example_is_found() {
        let refused = admit(&map(
            NAMESPACE,
            json!({"_example": "max-non-active-revisions: 3"}),
        ));
        assert!(refused.unwrap_err().contains("copy the respective setting"));
    }

    #[test]
    fn unknown_keys_are_warned_about() {
        let warnings = admit(&map(NAMESPACE, json!({"max-stale-revisions": "3"}))).unwrap();
        assert_eq!(
            warnings,
            ["config-gc: the key \"max-stale-revisions\" means nothing and is ignored"]
        );
    }
}
