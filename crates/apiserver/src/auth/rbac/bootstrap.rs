//! The roles that are there from the first start (kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy, and
//! Knative's config/core/200-roles), for the kinds that are served here.
//!
//! At every start what is missing in them is added again, unless an annotation forbids it; what others added stays.

use super::{ALL, GROUP, PolicyRule, rules_of};
use crate::auth::identity::{AUTHENTICATED, MASTERS, UNAUTHENTICATED};
use crate::object;
use crate::server::Server;
use serde_json::{Map, Value, json};

/// Says `false` on a role that must stay as somebody made it.
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// The label of what is made here.
const BOOTSTRAPPING: &str = "kubernetes.io/bootstrapping";
/// The group of the processes that answer calls; they read what they serve.
pub const WORKERS: &str = "system:kittiwake:workers";

const READ: &[&str] = &["get", "list", "watch"];
const CHANGE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const EVERYTHING: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
/// Knative Serving's groups (config/core/200-roles/clusterrole-namespaced.yaml).
const SERVING: &[&str] = &[
    "serving.knative.dev",
    "networking.internal.knative.dev",
    "autoscaling.internal.knative.dev",
    "autoscaling.knative.dev",
    "caching.internal.knative.dev",
];
/// Knative Eventing's groups (config/core/roles/clusterrole-namespaced.yaml).
const EVENTING: &[&str] = &[
    "eventing.knative.dev",
    "messaging.knative.dev",
    "sources.knative.dev",
    "flows.knative.dev",
    "sinks.knative.dev",
];

fn rule(verbs: &[&str], groups: &[&str], resources: &[&str]) -> PolicyRule {
    let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    PolicyRule {
        verbs: owned(verbs),
        api_groups: owned(groups),
        resources: owned(resources),
        ..PolicyRule::default()
    }
}

fn urls(paths: &[&str]) -> PolicyRule {
    PolicyRule {
        verbs: vec!["get".to_owned()],
        non_resource_urls: paths.iter().map(|path| (*path).to_owned()).collect(),
        ..PolicyRule::default()
    }
}

fn role(name: &str, labels: &[(&str, &str)], rules: &[PolicyRule]) -> Value {
    let mut all = Map::new();
    all.insert(BOOTSTRAPPING.into(), "rbac-defaults".into());
    for (key, value) in labels {
        all.insert((*key).to_owned(), (*value).into());
    }
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name, "labels": all, "annotations": {AUTO_UPDATE: "true"}},
        "rules": rules,
    })
}

/// A role whose rules are those of all roles with a label.
fn aggregated(name: &str, labels: &[(&str, &str)], label: &str) -> Value {
    let mut role = role(name, labels, &[]);
    let rule = json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
    object::map_mut(&mut role).insert("aggregationRule".into(), rule);
    role
}

fn binding(role: &str, groups: &[&str]) -> Value {
    let subjects: Vec<Value> = groups
        .iter()
        .map(|group| json!({"kind": "Group", "apiGroup": GROUP, "name": group}))
        .collect();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": role, "labels": {BOOTSTRAPPING: "rbac-defaults"}, "annotations": {AUTO_UPDATE: "true"}},
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
        "subjects": subjects,
    })
}

const TO_ADMIN: &str = "rbac.authorization.k8s.io/aggregate-to-admin";
const TO_EDIT: &str = "rbac.authorization.k8s.io/aggregate-to-edit";
const TO_VIEW: &str = "rbac.authorization.k8s.io/aggregate-to-view";

/// All ClusterRoles.
pub(crate) fn cluster_roles() -> Vec<Value> {
    let mut everything = rule(&[ALL], &[ALL], &[ALL]);
    let mut all_urls = urls(&[ALL]);
    everything.verbs = vec![ALL.to_owned()];
    all_urls.verbs = vec![ALL.to_owned()];
    let discovery = [
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/healthz",
        "/livez",
        "/openapi",
        "/openapi/*",
        "/readyz",
        "/version",
        "/version/",
    ];
    let mut roles = vec![
        role("cluster-admin", &[], &[everything, all_urls]),
        role("system:discovery", &[], &[urls(&discovery)]),
        role(
            "system:public-info-viewer",
            &[],
            &[urls(&["/healthz", "/livez", "/readyz", "/version", "/version/"])],
        ),
        role(
            "system:basic-user",
            &[],
            &[
                rule(
                    &["create"],
                    &["authorization.k8s.io"],
                    &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
                ),
                rule(&["create"], &["authentication.k8s.io"], &["selfsubjectreviews"]),
            ],
        ),
        role(
            "system:auth-delegator",
            &[],
            &[
                rule(&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
                rule(&["create"], &["authorization.k8s.io"], &["subjectaccessreviews"]),
            ],
        ),
        role(
            "system:monitoring",
            &[],
            &[urls(&[
                "/healthz",
                "/healthz/*",
                "/livez",
                "/livez/*",
                "/metrics",
                "/readyz",
                "/readyz/*",
            ])],
        ),
        role(
            WORKERS,
            &[],
            &[
                rule(
                    READ,
                    &["serving.knative.dev"],
                    &["domainmappings", "revisions", "routes"],
                ),
                // How many instances there shall be.
                rule(READ, &["autoscaling.internal.knative.dev"], &["podautoscalers"]),
                // What functions are given as environment and files, certificates, settings, and for which namespaces.
                rule(READ, &[""], &["configmaps", "namespaces", "secrets"]),
            ],
        ),
        aggregated("admin", &[], TO_ADMIN),
        aggregated("edit", &[(TO_ADMIN, "true")], TO_EDIT),
        aggregated("view", &[(TO_EDIT, "true")], TO_VIEW),
    ];
    roles.extend(core_parts());
    roles.extend(knative_parts());
    roles
}

/// What `admin`, `edit` and `view` allow of Kubernetes' own kinds. Secrets and tokens are no business of viewers.
fn core_parts() -> [Value; 3] {
    [
        role(
            "system:aggregate-to-admin",
            &[(TO_ADMIN, "true")],
            &[
                rule(
                    &["create"],
                    &["authorization.k8s.io"],
                    &["localsubjectaccessreviews"],
                ),
                rule(EVERYTHING, &[GROUP], &["rolebindings", "roles"]),
            ],
        ),
        role(
            "system:aggregate-to-edit",
            &[(TO_EDIT, "true")],
            &[
                rule(READ, &[""], &["secrets"]),
                rule(&["impersonate"], &[""], &["serviceaccounts"]),
                rule(&["create"], &[""], &["serviceaccounts/token"]),
                rule(
                    CHANGE,
                    &[""],
                    &[
                        "configmaps",
                        "events",
                        "pods",
                        "secrets",
                        "serviceaccounts",
                        "services",
                    ],
                ),
                rule(CHANGE, &["events.k8s.io"], &["events"]),
                rule(EVERYTHING, &["coordination.k8s.io"], &["leases"]),
            ],
        ),
        role(
            "system:aggregate-to-view",
            &[(TO_VIEW, "true")],
            &[
                rule(
                    READ,
                    &[""],
                    &[
                        "configmaps",
                        "endpoints",
                        "events",
                        "namespaces",
                        "pods",
                        "pods/log",
                        "pods/status",
                        "serviceaccounts",
                        "services",
                        "services/status",
                    ],
                ),
                rule(READ, &["events.k8s.io"], &["events"]),
                rule(READ, &["metrics.k8s.io"], &["pods"]),
                rule(READ, &["apps"], &["deployments"]),
                rule(READ, &["discovery.k8s.io"], &["endpointslices"]),
            ],
        ),
    ]
}

/// What they allow of Knative's kinds.
fn knative_parts() -> Vec<Value> {
    let mut parts = Vec::new();
    for (name, groups) in [("serving", SERVING), ("eventing", EVENTING)] {
        let mut all = rule(&[ALL], groups, &[ALL]);
        all.verbs = vec![ALL.to_owned()];
        for (word, label, rule) in [
            ("admin", TO_ADMIN, all),
            ("edit", TO_EDIT, rule(CHANGE, groups, &[ALL])),
            ("view", TO_VIEW, rule(READ, groups, &[ALL])),
        ] {
            parts.push(role(
                &format!("knative-{name}-namespaced-{word}"),
                &[(label, "true")],
                &[rule],
            ));
        }
    }
    parts
}

/// All ClusterRoleBindings.
pub(crate) fn cluster_role_bindings() -> Vec<Value> {
    vec![
        binding("cluster-admin", &[MASTERS]),
        binding("system:discovery", &[AUTHENTICATED]),
        binding("system:public-info-viewer", &[AUTHENTICATED, UNAUTHENTICATED]),
        binding("system:basic-user", &[AUTHENTICATED]),
        binding("system:monitoring", &["system:monitoring"]),
        binding(WORKERS, &[WORKERS]),
    ]
}

/// Makes them, and adds what is missing in those that are there.
pub(crate) async fn run(server: &Server) {
    for (plural, objects) in [
        ("clusterroles", cluster_roles()),
        ("clusterrolebindings", cluster_role_bindings()),
    ] {
        for wanted in objects {
            let name = object::name(&wanted).to_owned();
            server
                .put_own(GROUP, "v1", plural, "", &name, |old| match old {
                    Some(old) => repaired(old, &wanted),
                    None => Some(wanted),
                })
                .await;
        }
    }
    super::aggregation::sweep(server).await;
}

/// `old` with what is missing in it of `wanted`; `None` when nothing is, or nothing may be done.
fn repaired(old: &Value, wanted: &Value) -> Option<Value> {
    let annotations = old.pointer("/metadata/annotations");
    if annotations.and_then(|all| all.get(AUTO_UPDATE)?.as_str()) != Some("true") {
        return None;
    }
    let mut new = old.clone();
    if wanted.get("aggregationRule").is_none() && wanted.get("rules").is_some() {
        let (mut rules, all) = (rules_of(old), rules_of(wanted));
        for rule in all {
            if super::cover::covers(&rules, std::slice::from_ref(&rule)).is_err() {
                rules.push(rule);
            }
        }
        object::map_mut(&mut new).insert("rules".into(), json!(rules));
    }
    if let Some(wanted) = wanted.get("subjects").and_then(Value::as_array) {
        let mut subjects = old
            .get("subjects")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        for subject in wanted {
            if !subjects.contains(subject) {
                subjects.push(subject.clone());
            }
        }
        object::map_mut(&mut new).insert("subjects".into(), subjects.into());
    }
    let labels = wanted.pointer("/metadata/labels").and_then(Value::as_object);
    for (key, value) in labels.into_iter().flatten() {
        object::child_mut(
            object::map_mut(&mut new).entry("metadata").or_insert(Value::Null),
            "labels",
        )
        .insert(key.clone(), value.clone());
    }
    (new != *old).then_some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_valid() {
        for role in cluster_roles() {
            let causes = super::super::validation::cluster_role(None, &role);
            assert!(causes.is_empty(), "{}: {causes:?}", object::name(&role));
        }
        for binding in cluster_role_bindings() {
            let causes = super::super::validation::cluster_role_binding(None, &binding);
            assert!(causes.is_empty(), "{}: {causes:?}", object::name(&binding));
        }
    }

    #[test]
    fn what_is_missing_is_added_and_what_others_added_stays() {
        let wanted = role("x", &[], &[rule(READ, &[""], &["pods"])]);
        assert_eq!(repaired(&wanted, &wanted), None);
        let more = role(
            "x",
            &[],
            &[rule(&["get"], &[""], &["pods"]), rule(READ, &["g"], &["things"])],
        );
        let rules = rules_of(&repaired(&more, &wanted).unwrap());
        assert_eq!(rules.len(), 3);
        let mut left_alone = more.clone();
        left_alone["metadata"]["annotations"][AUTO_UPDATE] = "false".into();
        assert_eq!(repaired(&left_alone, &wanted), None);
    }
}
