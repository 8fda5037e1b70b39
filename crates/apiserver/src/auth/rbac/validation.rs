//! What makes a role or a binding valid (kubernetes/pkg/apis/rbac/validation/validation.go).

use super::GROUP;
use crate::object::text;
use crate::status::Cause;
use serde_json::{Value, json};

fn required(field: String, message: &str) -> Cause {
    Cause::new(
        field,
        "FieldValueRequired",
        format!("Required value: {message}")
            .trim_end_matches(": ")
            .to_owned(),
    )
}

fn invalid(field: impl Into<String>, value: &Value, why: &str) -> Cause {
    Cause::new(
        field,
        "FieldValueInvalid",
        format!("Invalid value: {value}: {why}"),
    )
}

fn unsupported(field: impl Into<String>, value: &str, supported: &[&str]) -> Cause {
    let supported: Vec<String> = supported.iter().map(|word| format!("{word:?}")).collect();
    let message = format!(
        "Unsupported value: {value:?}: supported values: {}",
        supported.join(", ")
    );
    Cause::new(field, "FieldValueNotSupported", message)
}

fn list<'v>(object: &'v Value, key: &str) -> &'v [Value] {
    object
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Rules of a Role.
pub(crate) fn role(_old: Option<&Value>, new: &Value) -> Vec<Cause> {
    rules(new, true)
}

/// Rules and aggregation of a ClusterRole.
pub(crate) fn cluster_role(_old: Option<&Value>, new: &Value) -> Vec<Cause> {
    let mut causes = rules(new, false);
    if let Some(aggregation) = new.get("aggregationRule").filter(|rule| !rule.is_null()) {
        let selectors = list(aggregation, "clusterRoleSelectors");
        if selectors.is_empty() {
            let message = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            causes.push(required(
                "aggregationRule.clusterRoleSelectors".to_owned(),
                message,
            ));
        }
        for (index, selector) in selectors.iter().enumerate() {
            for (place, expression) in list(selector, "matchExpressions").iter().enumerate() {
                let field =
                    format!("aggregationRule.clusterRoleSelectors[{index}].matchExpressions[{place}]");
                check_expression(&field, expression, &mut causes);
            }
        }
    }
    causes
}

fn check_expression(field: &str, expression: &Value, causes: &mut Vec<Cause>) {
    let values = list(expression, "values");
    match text(expression, "/operator") {
        "In" | "NotIn" if values.is_empty() => causes.push(required(
            format!("{field}.values"),
            "must be specified when `operator` is 'In' or 'NotIn'",
        )),
        "Exists" | "DoesNotExist" if !values.is_empty() => causes.push(Cause::new(
            format!("{field}.values"),
            "FieldValueForbidden",
            "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        )),
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => causes.push(invalid(
            format!("{field}.operator"),
            &json!(other),
            "not a valid selector operator",
        )),
    }
}

fn rules(role: &Value, namespaced: bool) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (index, rule) in list(role, "rules").iter().enumerate() {
        let field = |name: &str| format!("rules[{index}].{name}");
        let empty = |key: &str| list(rule, key).is_empty();
        if empty("verbs") {
            causes.push(required(field("verbs"), "verbs must contain at least one value"));
        }
        if !empty("nonResourceURLs") {
            let urls = &json!(list(rule, "nonResourceURLs"));
            if namespaced {
                causes.push(invalid(
                    field("nonResourceURLs"),
                    urls,
                    "namespaced rules cannot apply to non-resource URLs",
                ));
            }
            if !(empty("apiGroups") && empty("resources") && empty("resourceNames")) {
                causes.push(invalid(
                    field("nonResourceURLs"),
                    urls,
                    "rules cannot apply to both regular resources and non-resource URLs",
                ));
            }
            continue;
        }
        if empty("apiGroups") {
            causes.push(required(
                field("apiGroups"),
                "resource rules must supply at least one api group",
            ));
        }
        if empty("resources") {
            causes.push(required(
                field("resources"),
                "resource rules must supply at least one resource",
            ));
        }
    }
    causes
}

/// A RoleBinding.
pub(crate) fn role_binding(old: Option<&Value>, new: &Value) -> Vec<Cause> {
    binding(old, new, &["Role", "ClusterRole"])
}

/// A ClusterRoleBinding.
pub(crate) fn cluster_role_binding(old: Option<&Value>, new: &Value) -> Vec<Cause> {
    binding(old, new, &["ClusterRole"])
}

fn binding(old: Option<&Value>, new: &Value, kinds: &[&str]) -> Vec<Cause> {
    let mut causes = Vec::new();
    let group = text(new, "/roleRef/apiGroup");
    if group != GROUP {
        causes.push(unsupported("roleRef.apiGroup", group, &[GROUP]));
    }
    let kind = text(new, "/roleRef/kind");
    if !kinds.contains(&kind) {
        causes.push(unsupported("roleRef.kind", kind, kinds));
    }
    let name = text(new, "/roleRef/name");
    if name.is_empty() {
        causes.push(required("roleRef.name".to_owned(), ""));
    } else if let Some(why) = path_segment(name) {
        causes.push(invalid("roleRef.name", &json!(name), &why));
    }
    for (index, subject) in list(new, "subjects").iter().enumerate() {
        check_subject(index, subject, &mut causes, kinds.len() > 1);
    }
    if let Some(old) = old
        && old.get("roleRef") != new.get("roleRef")
    {
        let value = new.get("roleRef").cloned().unwrap_or_default();
        causes.push(invalid("roleRef", &value, "cannot change roleRef"));
    }
    causes
}

fn check_subject(index: usize, subject: &Value, causes: &mut Vec<Cause>, in_namespace: bool) {
    let field = |name: &str| format!("subjects[{index}].{name}");
    let (name, group) = (text(subject, "/name"), text(subject, "/apiGroup"));
    if name.is_empty() {
        causes.push(required(field("name"), ""));
    }
    let wanted = match text(subject, "/kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                causes.extend(crate::metadata::check_name(&field("name"), name, false));
            }
            if !in_namespace && text(subject, "/namespace").is_empty() {
                causes.push(required(field("namespace"), ""));
            }
            ""
        }
        "User" | "Group" => GROUP,
        other => {
            let kinds = ["ServiceAccount", "User", "Group"];
            return causes.push(unsupported(field("kind"), other, &kinds));
        }
    };
    if group != wanted {
        causes.push(unsupported(field("apiGroup"), group, &[wanted]));
    }
}

/// Why a text cannot be a segment of a path (k8s.io/apimachinery/pkg/api/validation/path). Names of roles and bindings
/// need be no more than that, for example `system:discovery`.
pub(crate) fn path_segment(name: &str) -> Option<String> {
    if name == "." || name == ".." {
        return Some(format!("may not be '{name}'"));
    }
    let bad = ['/', '%'].into_iter().find(|bad| name.contains(*bad))?;
    Some(format!("may not contain '{bad}'"))
}

/// What is wrong with the name of a role or binding.
pub(crate) fn check_name(name: &str) -> Vec<Cause> {
    let why = path_segment(name).into_iter();
    why.map(|why| invalid("metadata.name", &json!(name), &why))
        .collect()
}

/// Groups that may be left out of subjects and of the role (`SetDefaults_Subject` in kubernetes/pkg/apis/rbac/v1).
pub(crate) fn default_binding(binding: &mut Value) {
    let fill = |place: &mut Value| {
        let known = matches!(text(place, "/kind"), "User" | "Group" | "Role" | "ClusterRole");
        if known && text(place, "/apiGroup").is_empty() {
            crate::object::map_mut(place).insert("apiGroup".into(), GROUP.into());
        }
    };
    if let Some(role) = binding.get_mut("roleRef") {
        fill(role);
    }
    let subjects = binding.get_mut("subjects").and_then(Value::as_array_mut);
    subjects.into_iter().flatten().for_each(fill);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(causes: &[Cause]) -> Vec<&str> {
        causes.iter().map(|cause| cause.field.as_str()).collect()
    }

    #[test]
    fn malformed_rules_are_named() {
        let url = json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]});
        for (given, wanted) in [
            (
                json!({"rules": [{}]}),
                vec!["rules[0].verbs", "rules[0].apiGroups", "rules[0].resources"],
            ),
            (
                json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}),
                vec![],
            ),
            (url.clone(), vec!["rules[0].nonResourceURLs"]),
        ] {
            assert_eq!(fields(&role(None, &given)), wanted, "{given}");
        }
        assert!(cluster_role(None, &url).is_empty());
        let both = json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"], "resources": ["pods"]}]});
        assert_eq!(fields(&cluster_role(None, &both)), ["rules[0].nonResourceURLs"]);
        assert_eq!(
            fields(&cluster_role(None, &json!({"aggregationRule": {}}))),
            ["aggregationRule.clusterRoleSelectors"]
        );
        let wrong = json!({"aggregationRule": {"clusterRoleSelectors": [{"matchExpressions": [{"key": "a", "operator": "Is"}]}]}});
        assert_eq!(
            fields(&cluster_role(None, &wrong)),
            ["aggregationRule.clusterRoleSelectors[0].matchExpressions[0].operator"]
        );
    }

    #[test]
    fn malformed_bindings_are_named() {
        let mut good = json!({
            "roleRef": {"kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "User", "name": "x"}, {"kind": "ServiceAccount", "name": "bot"}],
        });
        default_binding(&mut good);
        assert_eq!(good["roleRef"]["apiGroup"], GROUP);
        assert!(role_binding(None, &good).is_empty());
        assert_eq!(
            fields(&cluster_role_binding(None, &good)),
            ["subjects[1].namespace"]
        );
        let mut other = good.clone();
        other["roleRef"]["name"] = "edit".into();
        assert_eq!(fields(&role_binding(Some(&good), &other)), ["roleRef"]);
        let bad = json!({"roleRef": {"kind": "Role", "name": "a/b", "apiGroup": "x"}, "subjects": [{"kind": "Robot"}]});
        assert_eq!(
            fields(&cluster_role_binding(None, &bad)),
            [
                "roleRef.apiGroup",
                "roleRef.kind",
                "roleRef.name",
                "subjects[0].name",
                "subjects[0].kind"
            ]
        );
    }

    #[test]
    fn names_are_segments_of_paths() {
        assert_eq!(path_segment("system:discovery"), None);
        for bad in [".", "..", "a/b", "a%b"] {
            assert!(path_segment(bad).is_some(), "{bad}");
        }
    }
}
