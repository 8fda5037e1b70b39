//! What changed between two JSON values, in the form of Knative's short diff (knative/pkg `kmp/reporters.go`).

use serde_json::Value;
use std::fmt::Write;

/// Changes that are printed; a diff is read by people.
const CHANGES_MAX: usize = 20;

/// Each changed place with its old and new value; empty when nothing changed.
pub fn short(old: &Value, new: &Value, path: &str) -> String {
    let mut changes = Vec::new();
    walk(Some(old), Some(new), path.to_owned(), &mut changes);
    let beyond = changes.len().saturating_sub(CHANGES_MAX);
    let mut text: String = changes.into_iter().take(CHANGES_MAX).collect();
    if beyond > 0 {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "and {beyond} more");
    }
    text
}

fn walk(old: Option<&Value>, new: Option<&Value>, path: String, changes: &mut Vec<String>) {
    if old == new {
        return;
    }
    match (old, new) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let added = b.keys().filter(|key| !a.contains_key(*key));
            for key in a.keys().chain(added) {
                walk(a.get(key), b.get(key), format!("{path}.{key}"), changes);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for index in 0..a.len().max(b.len()) {
                walk(a.get(index), b.get(index), format!("{path}[{index}]"), changes);
            }
        }
        _ => {
            let line = |sign: &str, value: Option<&Value>| match value {
                Some(Value::String(text)) => format!("\t{sign}: {text:?}\n"),
                Some(value) => format!("\t{sign}: \"{value}\"\n"),
                None => String::new(),
            };
            changes.push(format!("{{{path}}}:\n{}{}", line("-", old), line("+", new)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn changes_are_named_by_their_place() {
        let old = json!({"a": {"b": "x", "same": 1}, "gone": true, "list": [1, 2]});
        let new = json!({"list": [1, 3, 4], "a": {"same": 1, "b": "y"}, "come": {}});
        assert_eq!(
            short(&old, &new, "spec"),
            "{spec.a.b}:\n\t-: \"x\"\n\t+: \"y\"\n{spec.gone}:\n\t-: \"true\"\n{spec.list[1]}:\n\t-: \"2\"\n\t+: \"3\"\n{spec.list[2]}:\n\t+: \"4\"\n{spec.come}:\n\t+: \"{}\"\n"
        );
        assert_eq!(short(&old, &old, "spec"), "");
    }

    #[test]
    fn a_long_diff_ends() {
        let list: Vec<u32> = (0..100).collect();
        assert!(short(&json!([]), &json!(list), "x").ends_with("and 80 more\n"));
    }
}
