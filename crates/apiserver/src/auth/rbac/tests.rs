//! What rules allow: a table of cases, and properties that hold for all.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn rule(rule: &Value) -> PolicyRule {
    PolicyRule::deserialize(rule).unwrap()
}

fn ask(verb: &str, group: &str, resource: &str, name: &str) -> Attributes {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Attributes::Resource(ResourceAttributes {
        verb: verb.into(),
        group: group.into(),
        version: "v1".into(),
        resource: resource.into(),
        subresource: subresource.into(),
        namespace: "a".into(),
        name: name.into(),
    })
}

fn get(path: &str) -> Attributes {
    Attributes::Path {
        verb: "get".into(),
        path: path.into(),
    }
}

#[test]
fn rules_allow_what_they_name() {
    let read = json!({"verbs": ["get", "list"], "apiGroups": ["", "g"], "resources": ["pods", "pods/log", "*/scale"]});
    let named =
        json!({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a", "b"]});
    let all = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]});
    let urls = json!({"verbs": ["get"], "nonResourceURLs": ["/version", "/api/*", "/healthz*"]});
    for (given, asked, wanted) in [
        (&read, ask("get", "", "pods", "x"), true),
        (&read, ask("list", "g", "pods", ""), true),
        (&read, ask("get", "", "pods/log", "x"), true),
        (&read, ask("get", "", "pods/exec", "x"), false),
        (&read, ask("get", "", "things/scale", "x"), true),
        (&read, ask("get", "", "scale", "x"), false),
        (&read, ask("delete", "", "pods", "x"), false),
        (&read, ask("get", "h", "pods", "x"), false),
        (&read, get("/version"), false),
        (&named, ask("get", "", "secrets", "a"), true),
        (&named, ask("get", "", "secrets", "c"), false),
        (&named, ask("get", "", "secrets", ""), false),
        (&all, ask("fly", "x", "birds/wings", "y"), true),
        (&all, get("/version"), false),
        (&urls, get("/version"), true),
        (&urls, get("/version/x"), false),
        (&urls, get("/api/v1"), true),
        (&urls, get("/api"), false),
        (&urls, get("/healthz/ping"), true),
        (&urls, ask("get", "", "version", ""), false),
    ] {
        assert_eq!(rule(given).allows(&asked), wanted, "{given} {asked:?}");
    }
}

#[test]
fn nothing_is_allowed_by_what_cannot_be_read() {
    let role =
        json!({"rules": [7, {"verbs": "get"}, {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]});
    assert_eq!(rules_of(&role).len(), 1);
    assert!(rules_of(&json!({"rules": "all"})).is_empty());
    assert!(rules_of(&json!({})).is_empty());
    assert!(!PolicyRule::default().allows(&ask("", "", "", "")));
}

#[test]
fn subjects_are_users_groups_and_accounts() {
    let user = Subject::User("system:serviceaccount:a:bot".into());
    for (given, wanted) in [
        (
            json!({"kind": "User", "name": "x"}),
            Some(Subject::User("x".into())),
        ),
        (
            json!({"kind": "Group", "name": "x"}),
            Some(Subject::Group("x".into())),
        ),
        (
            json!({"kind": "ServiceAccount", "name": "bot"}),
            Some(user.clone()),
        ),
        (
            json!({"kind": "ServiceAccount", "name": "bot", "namespace": "a"}),
            Some(user.clone()),
        ),
        (json!({"kind": "Robot", "name": "x"}), None),
    ] {
        assert_eq!(Subject::read(&given, "a"), wanted, "{given}");
    }
    let homeless = json!({"kind": "ServiceAccount", "name": "bot"});
    assert_eq!(Subject::read(&homeless, ""), None);
}

fn words() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[ab*]|a/b|\\*/b", 0..3)
}

prop_compose! {
    fn any_rule()(verbs in words(), api_groups in words(), resources in words(), resource_names in words(), urls in prop::collection::vec("(/[ab]{0,2}){0,2}\\*?", 0..3)) -> PolicyRule {
        PolicyRule { verbs, api_groups, resources, resource_names, non_resource_urls: urls }
    }
}

prop_compose! {
    fn any_question()(resource in any::<bool>(), verb in "[abc]", group in "[abc]", name in "[abc]?", thing in "[abc](/[abc])?", path in "(/[ab]{0,2}){0,2}") -> Attributes {
        if resource { ask(&verb, &group, &thing, &name) } else { Attributes::Path { verb, path } }
    }
}

proptest! {
    #[test]
    fn a_rule_that_covers_another_allows_all_that_it_allows(a in any_rule(), b in any_rule(), asked in any_question()) {
        let covered = cover::covers(std::slice::from_ref(&a), std::slice::from_ref(&b)).is_ok();
        if covered && b.allows(&asked) {
            prop_assert!(a.allows(&asked), "{a:?} should allow {asked:?} as {b:?} does");
        }
    }

    #[test]
    fn every_rule_covers_itself(a in any_rule()) {
        prop_assert!(cover::covers(std::slice::from_ref(&a), std::slice::from_ref(&a)).is_ok());
    }

    #[test]
    fn more_words_never_allow_less(a in any_rule(), more in any_rule(), asked in any_question()) {
        if a.allows(&asked) {
            let mut wider = a.clone();
            wider.verbs.extend(more.verbs);
            wider.api_groups.extend(more.api_groups);
            wider.resources.extend(more.resources);
            wider.non_resource_urls.extend(more.non_resource_urls);
            prop_assert!(wider.allows(&asked));
        }
    }

    #[test]
    fn the_rule_of_everything_allows_everything(asked in any_question()) {
        let all = || vec![ALL.to_owned()];
        let rule = PolicyRule { verbs: all(), api_groups: all(), resources: all(), resource_names: Vec::new(), non_resource_urls: all() };
        prop_assert!(rule.allows(&asked));
    }
}
