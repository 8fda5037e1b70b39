//! Reading and filling JSON whose shape nobody has checked yet. What has the wrong type counts as absent here; the
//! schema and the final decoding name it.

use serde_json::{Map, Value};

/// The text of a member; empty when absent.
pub fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The number of a member.
pub fn integer(object: &Value, key: &str) -> Option<i64> {
    object.get(key).and_then(Value::as_i64)
}

/// The elements of a member; none when absent.
pub fn items<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    object
        .get(key)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// The member when it is an object.
pub fn object<'a>(parent: &'a Value, key: &str) -> Option<&'a Value> {
    parent.get(key).filter(|value| value.is_object())
}

/// The texts of a member that is a map, such as annotations.
pub fn texts<'a>(object: &'a Value, key: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let map = object.get(key).and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

/// Whether Go would take the value for set: not null, `false`, zero, or empty text or list. An empty object is set.
pub fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(_) => true,
    }
}

/// The members that are set but not in `allowed`.
pub fn set_beyond<'a>(object: &'a Value, allowed: &[&str]) -> Vec<&'a str> {
    let members = object.as_object().into_iter().flatten();
    members
        .filter(|(key, value)| !allowed.contains(&key.as_str()) && is_set(value))
        .map(|(key, _)| key.as_str())
        .collect()
}

/// The member as an object to fill; made when it is absent or null. `None` when it is something else, or the parent
/// is no object.
pub fn fill<'a>(parent: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    let member = parent.as_object_mut()?.entry(key).or_insert(Value::Null);
    if member.is_null() {
        *member = Value::Object(Map::new());
    }
    member.is_object().then_some(member)
}

/// Sets a member that is absent or null.
pub fn default(object: &mut Value, key: &str, value: impl Into<Value>) {
    default_where(object, key, value, Value::is_null);
}

/// Sets a member that is absent or not set in Go's sense.
pub fn default_unset(object: &mut Value, key: &str, value: impl Into<Value>) {
    default_where(object, key, value, |old| !is_set(old));
}

fn default_where(object: &mut Value, key: &str, value: impl Into<Value>, replace: impl Fn(&Value) -> bool) {
    let Some(object) = object.as_object_mut() else {
        return;
    };
    if object.get(key).is_none_or(replace) {
        object.insert(key.to_owned(), value.into());
    }
}

/// Removes every member that is null, at any depth, as decoding into Go's structs does.
pub fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, member| !member.is_null());
            object.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn set_means_what_it_means_in_go() {
        for value in [
            json!(null),
            json!(false),
            json!(0),
            json!(0.0),
            json!(""),
            json!([]),
        ] {
            assert!(!is_set(&value), "{value}");
        }
        for value in [
            json!(true),
            json!(-1),
            json!(0.1),
            json!("x"),
            json!([0]),
            json!({}),
        ] {
            assert!(is_set(&value), "{value}");
        }
        assert_eq!(set_beyond(&json!({"a": 1, "b": 0, "c": {}}), &["a"]), ["c"]);
    }

    #[test]
    fn filling_never_replaces_what_has_another_shape() {
        let mut value = json!({"a": null, "b": 1});
        assert!(fill(&mut value, "a").is_some());
        assert!(fill(&mut value, "b").is_none());
        assert!(fill(&mut json!([]), "a").is_none());
        default(&mut value, "b", 2);
        default_unset(&mut value, "c", 3);
        assert_eq!(value, json!({"a": {}, "b": 1, "c": 3}));
    }

    #[test]
    fn nulls_go_at_any_depth_but_not_from_lists() {
        let mut value = json!({"a": null, "b": [{"c": null}, null], "d": {"e": {"f": null}}});
        remove_nulls(&mut value);
        assert_eq!(value, json!({"b": [{}, null], "d": {"e": {}}}));
    }
}
