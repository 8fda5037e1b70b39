//! Who may do what: every kind and verb, roles and bindings, grants, reviews, impersonation, the audit log.

use crate::harness::{Answer, Api, CONFIG_MAPS, SERVICES, config_map, service};
use axum::body::Body;
use http::Request;
use kittiwake_apiserver::auth;
use kittiwake_core::unit::ByteCount;
use kittiwake_store::ObjectStore;
use serde_json::{Value, json};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// A server that knows ann (no rights), bob (no rights, in the group `ops`) and an administrator.
async fn api() -> Api {
    Api::with_users(&[
        ("ann", "ann", ""),
        ("bob", "bob", "ops"),
        ("root", "root", "system:masters"),
    ])
    .await
}

fn subjects(user: &str) -> Value {
    json!([{"kind": "User", "name": user}])
}

async fn put(api: &Api, collection: &str, object: Value) {
    let answer = api.post(collection, &object).await;
    assert_eq!(answer.code, 201, "{}", answer.text);
}

async fn bind(api: &Api, namespace: &str, name: &str, kind: &str, role: &str, subjects: Value) {
    let path = if namespace.is_empty() {
        format!("{RBAC}/clusterrolebindings")
    } else {
        format!("{RBAC}/namespaces/{namespace}/rolebindings")
    };
    let binding =
        json!({"metadata": {"name": name}, "roleRef": {"kind": kind, "name": role}, "subjects": subjects});
    put(api, &path, binding).await;
}

async fn role(api: &Api, namespace: &str, name: &str, rules: Value) {
    let path = if namespace.is_empty() {
        format!("{RBAC}/clusterroles")
    } else {
        format!("{RBAC}/namespaces/{namespace}/roles")
    };
    put(api, &path, json!({"metadata": {"name": name}, "rules": rules})).await;
}

/// What a verb is as a request.
fn request_of(verb: &str, collection: &str) -> (&'static str, String) {
    let object = format!("{collection}/x");
    match verb {
        "create" => ("POST", collection.to_owned()),
        "list" => ("GET", collection.to_owned()),
        // A watch that may run is not left running by a test: it asks for a version that was never.
        "watch" => ("GET", format!("{collection}?watch=true&resourceVersion=x")),
        "deletecollection" => ("DELETE", format!("{collection}?labelSelector=a%3Dnobody")),
        "get" => ("GET", object),
        "update" => ("PUT", object),
        "patch" => ("PATCH", object),
        "delete" => ("DELETE", object),
        other => panic!("no request for the verb {other}"),
    }
}

/// Every kind that discovery shows, with every verb that it has, is denied to who has no role, and allowed by a role
/// that names exactly this.
#[tokio::test]
async fn every_verb_of_every_kind_is_denied_without_a_role_and_allowed_by_one() {
    let api = api().await;
    let mut cases = 0;
    let mut groups = vec![(String::new(), "/api/v1".to_owned())];
    for group in api.get("/apis").await.json["groups"].as_array().unwrap() {
        for version in group["versions"].as_array().unwrap() {
            let version = version["groupVersion"].as_str().unwrap();
            groups.push((
                group["name"].as_str().unwrap().to_owned(),
                format!("/apis/{version}"),
            ));
        }
    }
    for (group, root) in groups {
        for resource in api.get(&root).await.json["resources"].as_array().unwrap() {
            let name = resource["name"].as_str().unwrap();
            let namespaced = resource["namespaced"] == true;
            let (plural, subresource) = name.split_once('/').unwrap_or((name, ""));
            let collection = if namespaced {
                format!("{root}/namespaces/default/{plural}")
            } else {
                format!("{root}/{plural}")
            };
            for verb in resource["verbs"].as_array().unwrap() {
                let verb = verb.as_str().unwrap();
                let (method, mut path) = request_of(verb, &collection);
                if !subresource.is_empty() {
                    path = format!("{path}/{subresource}");
                }
                let what = format!("{method} {path}");
                let denied = api.ask("ann", method, &path, &json!({})).await;
                assert_eq!(denied.code, 403, "{what}: {}", denied.text);
                let says = format!("cannot {verb} resource {name:?} in API group {group:?}");
                assert!(denied.message().contains(&says), "{what}: {}", denied.message());

                cases += 1;
                let case = format!("case-{cases}");
                role(
                    &api,
                    "",
                    &case,
                    json!([{"verbs": [verb], "apiGroups": [group], "resources": [name]}]),
                )
                .await;
                bind(&api, "", &case, "ClusterRole", &case, subjects("ann")).await;
                let allowed = api.ask("ann", method, &path, &json!({})).await;
                assert!(
                    !matches!(allowed.code, 401 | 403) || allowed.message().contains("attempting to grant"),
                    "{what}: {}",
                    allowed.text
                );
                api.delete(&format!("{RBAC}/clusterrolebindings/{case}")).await;
                let again = api.ask("ann", method, &path, &json!({})).await;
                assert_eq!(again.code, 403, "{what}: what was taken away counts at once");
            }
        }
    }
    assert!(cases > 100, "only {cases} cases: discovery has shrunk");
}

#[tokio::test]
async fn refusals_are_those_of_kubernetes() {
    let api = api().await;
    let denied = api.ask("ann", "GET", SERVICES, &Value::Null).await;
    assert_eq!(
        denied.json,
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": r#"services.serving.knative.dev is forbidden: User "ann" cannot list resource "services" in API group "serving.knative.dev" in the namespace "default""#,
            "reason": "Forbidden",
            "details": {"group": "serving.knative.dev", "kind": "services"},
            "code": 403,
        })
    );
    let denied = api.ask("", "GET", "/apis", &Value::Null).await;
    assert_eq!(
        denied.message(),
        r#"forbidden: User "system:anonymous" cannot get path "/apis""#
    );
    // Also what is not served at all is not told to strangers.
    assert_eq!(
        api.ask("ann", "GET", "/apis/x/v1/birds", &Value::Null).await.code,
        403
    );
    assert_eq!(
        api.ask("root", "GET", "/apis/x/v1/birds", &Value::Null)
            .await
            .code,
        404
    );
    for path in ["/version", "/healthz", "/readyz", "/livez"] {
        assert_eq!(api.ask("", "GET", path, &Value::Null).await.code, 200, "{path}");
    }
    assert_eq!(api.ask("ann", "GET", "/apis", &Value::Null).await.code, 200);
    bind(&api, "", "broken", "ClusterRole", "nowhere", subjects("ann")).await;
    let denied = api.ask("ann", "GET", SERVICES, &Value::Null).await;
    assert!(
        denied
            .message()
            .ends_with(r#": RBAC: clusterrole.rbac.authorization.k8s.io "nowhere" not found"#),
        "{}",
        denied.message()
    );
}

#[tokio::test]
async fn the_roles_of_the_first_start_are_graded() {
    let api = api().await;
    api.post(SERVICES, &service("hello")).await;
    put(&api, "/api/v1/namespaces", json!({"metadata": {"name": "other"}})).await;
    let elsewhere = SERVICES.replace("/default/", "/other/");
    let rolebindings = format!("{RBAC}/namespaces/default/rolebindings");
    let hello = format!("{SERVICES}/hello");
    let secrets = "/api/v1/namespaces/default/secrets";
    // (role, [(method, path, allowed)])
    let view = [
        ("GET", hello.as_str(), true),
        ("GET", "/api/v1/namespaces/default", true),
        ("GET", CONFIG_MAPS, true),
        ("GET", secrets, false),
        ("DELETE", &hello, false),
        ("GET", &elsewhere, false),
        ("GET", &rolebindings, false),
    ];
    let edit = [
        ("GET", hello.as_str(), true),
        ("GET", secrets, true),
        ("PATCH", &hello, true),
        ("POST", CONFIG_MAPS, true),
        (
            "POST",
            "/api/v1/namespaces/default/serviceaccounts/default/token",
            true,
        ),
        ("GET", &rolebindings, false),
        ("GET", &elsewhere, false),
    ];
    let admin = [
        ("GET", hello.as_str(), true),
        ("DELETE", &hello, true),
        ("GET", &rolebindings, true),
        ("GET", "/api/v1/namespaces", false),
        ("GET", &elsewhere, false),
    ];
    for (name, cases) in [("view", &view[..]), ("edit", &edit[..]), ("admin", &admin[..])] {
        bind(&api, "default", name, "ClusterRole", name, subjects("ann")).await;
        for (method, path, allowed) in cases {
            let answer = api.ask("ann", method, path, &json!({})).await;
            assert_eq!(
                answer.code != 403,
                *allowed,
                "{name}: {method} {path}: {}",
                answer.text
            );
        }
        api.delete(&format!("{rolebindings}/{name}")).await;
    }
    let rules = api.get(&format!("{RBAC}/clusterroles/admin")).await.json["rules"].to_string();
    assert!(
        rules.contains("serving.knative.dev") && rules.contains("rolebindings"),
        "{rules}"
    );
}

#[tokio::test]
async fn roles_may_name_objects_groups_and_parts() {
    let api = api().await;
    let rules = json!([
        {"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"]},
        {"verbs": ["patch"], "apiGroups": ["*"], "resources": ["*/status"]},
    ]);
    role(&api, "default", "some", rules).await;
    let ops = json!([{"kind": "Group", "name": "ops"}]);
    bind(&api, "default", "ops", "Role", "some", ops).await;
    put(&api, CONFIG_MAPS, config_map("mine")).await;
    let status = format!("{SERVICES}/x/status");
    for (method, path, wanted) in [
        ("GET", format!("{CONFIG_MAPS}/mine"), 200),
        ("GET", format!("{CONFIG_MAPS}/yours"), 403),
        ("GET", CONFIG_MAPS.to_owned(), 403),
        (
            "GET",
            format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Dmine"),
            200,
        ),
        (
            "GET",
            format!("{CONFIG_MAPS}?fieldSelector=metadata.name%21%3Dmine"),
            403,
        ),
        ("PATCH", status, 404),
        ("PATCH", format!("{SERVICES}/x"), 403),
    ] {
        let answer = api.ask("bob", method, &path, &json!({})).await;
        assert_eq!(answer.code, wanted, "{method} {path}: {}", answer.text);
        assert_eq!(api.ask("ann", method, &path, &json!({})).await.code, 403);
    }
}

#[tokio::test]
async fn an_apply_that_creates_needs_the_right_to_create() {
    let api = api().await;
    let rules = json!([{"verbs": ["patch", "get"], "apiGroups": [""], "resources": ["configmaps"]}]);
    role(&api, "default", "patcher", rules).await;
    bind(&api, "default", "patcher", "Role", "patcher", subjects("ann")).await;
    let apply = |name: &str| {
        let request = Request::patch(format!("{CONFIG_MAPS}/{name}?fieldManager=ann"))
            .header("content-type", "application/apply-patch+yaml")
            .header("authorization", "Bearer ann");
        request
            .body(Body::from(format!(
                "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}}}}}"
            )))
            .unwrap()
    };
    let denied = api.ask_with(apply("new")).await;
    assert_eq!(denied.code, 403);
    assert!(
        denied.message().contains("cannot create resource"),
        "{}",
        denied.message()
    );
    put(&api, CONFIG_MAPS, config_map("old")).await;
    assert_eq!(api.ask_with(apply("old")).await.code, 200);
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_hold() {
    let api = api().await;
    let roles = format!("{RBAC}/namespaces/default/roles");
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let all_of = |resource: &str| json!([{"verbs": ["*"], "apiGroups": [GROUP], "resources": [resource]}]);
    const GROUP: &str = "rbac.authorization.k8s.io";
    role(&api, "default", "roles", json!([{"verbs": ["create", "update", "patch", "get"], "apiGroups": [GROUP], "resources": ["roles", "rolebindings"]}])).await;
    bind(&api, "default", "roles", "Role", "roles", subjects("ann")).await;

    let wanted = json!({"metadata": {"name": "big"}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]});
    let denied = api.ask("ann", "POST", &roles, &wanted).await;
    assert_eq!(
        (denied.code, denied.message()),
        (
            403,
            "roles.rbac.authorization.k8s.io \"big\" is forbidden: user \"ann\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}"
        )
    );
    let binding = |role: &str| json!({"metadata": {"name": format!("b-{role}")}, "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": subjects("ann")});
    let denied = api.ask("ann", "POST", &bindings, &binding("view")).await;
    assert_eq!(denied.code, 403, "{}", denied.text);
    assert_eq!(
        api.ask("ann", "POST", &bindings, &binding("nowhere")).await.code,
        404
    );

    // Who holds it may grant it.
    role(
        &api,
        "default",
        "secrets",
        json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]),
    )
    .await;
    bind(&api, "default", "secrets", "Role", "secrets", subjects("ann")).await;
    assert_eq!(api.ask("ann", "POST", &roles, &wanted).await.code, 201);
    // One that is there may be written again without a change, but not widened.
    let path = format!("{roles}/secrets");
    let relabel = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(api.ask("ann", "PATCH", &path, &relabel).await.code, 200);
    let widen = json!({"rules": [{"verbs": ["*"], "apiGroups": [""], "resources": ["secrets"]}]});
    assert_eq!(api.ask("ann", "PATCH", &path, &widen).await.code, 403);

    // The verbs that say so.
    let verbs = json!([{"verbs": ["escalate", "bind"], "apiGroups": [GROUP], "resources": ["roles", "clusterroles"]}]);
    role(&api, "default", "verbs", verbs).await;
    bind(&api, "default", "verbs", "Role", "verbs", subjects("ann")).await;
    assert_eq!(api.ask("ann", "PATCH", &path, &widen).await.code, 200);
    assert_eq!(
        api.ask("ann", "POST", &bindings, &binding("view")).await.code,
        201
    );
    let aggregated = json!({"metadata": {"name": "agg"}, "aggregationRule": {"clusterRoleSelectors": [{}]}});
    role(&api, "", "clusterroles", all_of("clusterroles")).await;
    bind(&api, "", "bob", "ClusterRole", "clusterroles", subjects("bob")).await;
    // `*` holds `escalate` as well.
    assert_eq!(
        api.ask("bob", "POST", &format!("{RBAC}/clusterroles"), &aggregated)
            .await
            .code,
        201
    );
}

#[tokio::test]
async fn aggregated_roles_follow_their_parts() {
    let api = api().await;
    let view = format!("{RBAC}/clusterroles/view");
    let part = json!({
        "metadata": {"name": "birds-view", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"verbs": ["get"], "apiGroups": ["birds.example"], "resources": ["gulls"]}],
    });
    put(&api, &format!("{RBAC}/clusterroles"), part).await;
    let has = |answer: &Answer| answer.json["rules"].to_string().contains("gulls");
    api.until(&view, has).await;
    // Through two more roles.
    api.until(&view.replace("/view", "/admin"), has).await;
    api.delete(&format!("{RBAC}/clusterroles/birds-view")).await;
    api.until(&view, |answer| !has(answer)).await;
}

#[tokio::test]
async fn malformed_roles_and_bindings_are_explained() {
    let api = api().await;
    for (collection, object, field) in [
        (
            "clusterroles",
            json!({"metadata": {"name": "x"}, "rules": [{}]}),
            "rules[0].verbs",
        ),
        (
            "clusterroles",
            json!({"metadata": {"name": "a%b"}, "rules": []}),
            "metadata.name",
        ),
        (
            "namespaces/default/roles",
            json!({"metadata": {"name": "x"}, "rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}),
            "rules[0].nonResourceURLs",
        ),
        (
            "clusterrolebindings",
            json!({"metadata": {"name": "x"}, "roleRef": {"kind": "Role", "name": "y"}}),
            "roleRef.kind",
        ),
        (
            "namespaces/default/rolebindings",
            json!({"metadata": {"name": "x"}, "roleRef": {"kind": "Role", "name": "y"}, "subjects": [{"kind": "User"}]}),
            "subjects[0].name",
        ),
    ] {
        let answer = api
            .ask("root", "POST", &format!("{RBAC}/{collection}"), &object)
            .await;
        assert_eq!(answer.code, 422, "{}", answer.text);
        assert_eq!(
            answer.json["details"]["causes"][0]["field"], field,
            "{}",
            answer.text
        );
    }
    let wrong_type = json!({"metadata": {"name": "x"}, "rules": [{"verbs": "get"}]});
    let answer = api
        .ask("root", "POST", &format!("{RBAC}/clusterroles"), &wrong_type)
        .await;
    assert!(
        answer.code == 422 && answer.message().contains("verbs"),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn questions_about_rights_are_answered_truly() {
    let api = api().await;
    bind(&api, "default", "view", "ClusterRole", "view", subjects("ann")).await;
    let ask = async |token: &str, kind: &str, spec: Value| {
        let group = if kind.contains("subjectreviews") || kind == "tokenreviews" {
            "authentication"
        } else {
            "authorization"
        };
        let path = format!("/apis/{group}.k8s.io/v1/{kind}");
        api.ask(token, "POST", &path, &json!({"spec": spec})).await
    };
    let services = |verb: &str| json!({"resourceAttributes": {"verb": verb, "group": "serving.knative.dev", "resource": "services", "namespace": "default"}});
    let yes = ask("ann", "selfsubjectaccessreviews", services("get")).await;
    assert_eq!(yes.json["status"]["allowed"], true);
    assert_eq!(
        yes.json["status"]["reason"],
        r#"RBAC: allowed by RoleBinding "view/default" of ClusterRole "view" to User "ann""#
    );
    let no = ask("ann", "selfsubjectaccessreviews", services("delete")).await;
    assert_eq!(no.json["status"], json!({"allowed": false}));
    let rules = ask("ann", "selfsubjectrulesreviews", json!({"namespace": "default"})).await;
    let text = rules.json["status"].to_string();
    assert!(
        text.contains("serving.knative.dev") && text.contains("/healthz"),
        "{text}"
    );
    assert_eq!(rules.json["status"]["incomplete"], false);
    assert_eq!(ask("ann", "selfsubjectrulesreviews", json!({})).await.code, 400);
    let who = ask("bob", "selfsubjectreviews", json!({})).await;
    assert_eq!(
        who.json["status"]["userInfo"],
        json!({"username": "bob", "uid": "u-bob", "groups": ["ops", "system:authenticated"]})
    );

    // About others: only who may ask.
    let mut about = services("get");
    about["user"] = "ann".into();
    assert_eq!(ask("bob", "subjectaccessreviews", about.clone()).await.code, 403);
    assert_eq!(
        ask("root", "subjectaccessreviews", about).await.json["status"]["allowed"],
        true
    );
    let token = ask("root", "tokenreviews", json!({"token": "bob"})).await;
    assert_eq!(token.json["status"]["user"]["username"], "bob");
    assert_eq!(token.json["spec"], json!({}));
    let token = ask("root", "tokenreviews", json!({"token": "nobody"})).await;
    assert_eq!(token.json["status"]["authenticated"], false);
    assert_eq!(ask("ann", "selfsubjectaccessreviews", json!({})).await.code, 422);
}

#[tokio::test]
async fn acting_as_somebody_else_needs_the_verb() {
    let api = api().await;
    bind(&api, "default", "view", "ClusterRole", "view", subjects("ann")).await;
    let act = |token: &str, path: &str, headers: &[(&str, &str)]| {
        let mut request = Request::get(path).header("authorization", format!("Bearer {token}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    };
    let as_ann = [("impersonate-user", "ann")];
    assert_eq!(api.ask_with(act("root", SERVICES, &as_ann)).await.code, 200);
    assert_eq!(
        api.ask_with(act("root", "/api/v1/secrets", &as_ann)).await.code,
        403
    );
    let denied = api.ask_with(act("bob", SERVICES, &as_ann)).await;
    assert_eq!(
        (denied.code, denied.message()),
        (
            403,
            r#"users "ann" is forbidden: User "bob" cannot impersonate resource "users" in API group "" at the cluster scope"#
        )
    );
    // The user alone may be allowed, and then no group comes with it.
    role(&api, "", "as-ann", json!([{"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["ann"]}])).await;
    bind(&api, "", "as-ann", "ClusterRole", "as-ann", subjects("bob")).await;
    assert_eq!(api.ask_with(act("bob", SERVICES, &as_ann)).await.code, 200);
    let with_group = [
        ("impersonate-user", "ann"),
        ("impersonate-group", "system:masters"),
    ];
    assert_eq!(api.ask_with(act("bob", SERVICES, &with_group)).await.code, 403);
    assert_eq!(
        api.ask_with(act("root", "/api/v1/secrets", &with_group))
            .await
            .code,
        200
    );
    assert_eq!(
        api.ask_with(act("root", SERVICES, &[("impersonate-group", "ops")]))
            .await
            .code,
        400
    );
}

#[tokio::test]
async fn the_audit_log_says_who_did_what_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let auth = auth::Config {
        tokens: auth::TokenFile::parse("t0ken,root,1,system:masters\nann,ann,2").unwrap(),
        audit: Some(auth::audit::Config {
            path: path.clone(),
            bytes_max: ByteCount::mib(1),
            backups_max: 1,
        }),
        ..auth::Config::default()
    };
    let api = Api::start_guarded(ObjectStore::in_memory(kittiwake_store::Config::default()), auth).await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}});
    let made = api.ask("t0ken", "POST", secrets, &secret).await;
    assert_eq!(made.code, 201);
    assert_eq!(
        api.ask("ann", "GET", &format!("{secrets}/s"), &Value::Null)
            .await
            .code,
        403
    );
    assert_eq!(api.ask("g4rbage", "GET", secrets, &Value::Null).await.code, 401);
    let token = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let token = api.ask("t0ken", "POST", token, &json!({})).await.json["status"]["token"].clone();

    let lines = loop {
        let text = std::fs::read_to_string(&path).unwrap();
        if text.lines().count() == 4 {
            break text;
        }
        tokio::task::yield_now().await;
    };
    for never in [
        "hunter2",
        "aHVudGVyMg",
        "t0ken",
        "g4rbage",
        token.as_str().unwrap(),
    ] {
        assert!(
            !lines.contains(&format!("\"{never}")) && !lines.contains(&format!("{never}\"")),
            "{never}: {lines}"
        );
    }
    let events: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let first = &events[0];
    assert_eq!(first["auditID"], made.header("audit-id"));
    assert_eq!(
        (
            &first["verb"],
            &first["user"]["username"],
            &first["responseStatus"]["code"]
        ),
        (&json!("create"), &json!("root"), &json!(201))
    );
    assert_eq!(first["objectRef"]["name"], "s");
    assert_eq!(first["annotations"]["authorization.k8s.io/decision"], "allow");
    assert_eq!(
        (
            &events[1]["annotations"]["authorization.k8s.io/decision"],
            &events[1]["responseStatus"]["reason"]
        ),
        (&json!("forbid"), &json!("Forbidden"))
    );
    assert_eq!(
        (&events[2]["user"], &events[2]["responseStatus"]["code"]),
        (&json!({}), &json!(401))
    );
    assert_eq!(events[3]["objectRef"]["subresource"], "token");
}
