//! Kinds that ConstraintTemplates make: served at once, changed and removed with their template, there after a restart.

use crate::harness::{Api, MERGE, StoreFile, TABLE, step};
use serde_json::{Value, json};

const TEMPLATES: &str = "/apis/templates.gatekeeper.sh/v1/constrainttemplates";
const GROUP: &str = "/apis/constraints.gatekeeper.sh/v1beta1";
const LABELS: &str = "/apis/constraints.gatekeeper.sh/v1beta1/requiredlabels";
const DEFINITION: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/requiredlabels.constraints.gatekeeper.sh";

fn template(parameters: Value) -> Value {
    json!({
        "apiVersion": "templates.gatekeeper.sh/v1", "kind": "ConstraintTemplate", "metadata": {"name": "requiredlabels"},
        "spec": {
            "crd": {"spec": {"names": {"kind": "RequiredLabels", "shortNames": ["rl"]}, "validation": {"openAPIV3Schema": parameters}}},
            "targets": [{"target": "admission.k8s.gatekeeper.sh", "rego": "package requiredlabels\nviolation[{\"msg\": \"no\"}] { true }"}],
        },
    })
}

fn labels() -> Value {
    json!({"type": "object", "properties": {"labels": {"type": "array", "items": {"type": "string"}}}})
}

fn constraint(name: &str, parameters: Value) -> Value {
    json!({
        "apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": "RequiredLabels", "metadata": {"name": name},
        "spec": {"match": {"kinds": [{"apiGroups": [""], "kinds": ["Namespace"]}]}, "parameters": parameters},
    })
}

async fn hash(api: &Api) -> String {
    let root = api.get("/openapi/v3").await.json;
    root["paths"]["apis/constraints.gatekeeper.sh/v1beta1"]["serverRelativeURL"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test]
async fn a_template_makes_its_kind_at_once() {
    let api = Api::start().await;
    assert_eq!(api.get(LABELS).await.code, 404);
    assert_eq!(hash(&api).await, "");
    let answer = api.post(TEMPLATES, &template(labels())).await;
    assert_eq!(answer.code, 201, "{}", answer.text);

    let resources = api.get(GROUP).await.json;
    let kind = &resources["resources"][0];
    assert_eq!(kind["name"], "requiredlabels");
    assert_eq!(kind["namespaced"], false);
    assert_eq!(kind["categories"], json!(["constraint", "constraints"]));
    assert_eq!(kind["shortNames"], json!(["rl"]));
    let definition = api.get(DEFINITION).await.json;
    assert_eq!(
        definition["metadata"]["labels"]["gatekeeper.sh/constraint"],
        "yes"
    );

    let answer = api
        .post(LABELS, &constraint("owner", json!({"labels": ["owner"]})))
        .await;
    assert_eq!(answer.code, 201, "{}", answer.text);
    assert_eq!(answer.json["spec"]["enforcementAction"], "deny");
    let table = api.accept(LABELS, TABLE).await.json;
    let columns: Vec<&str> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    assert_eq!(columns, ["Name", "enforcement-action", "total-violations"]);
    assert_eq!(table["rows"][0]["cells"], json!(["owner", "deny", null]));
    let older = api
        .get("/apis/constraints.gatekeeper.sh/v1alpha1/requiredlabels/owner")
        .await;
    assert_eq!(older.json["apiVersion"], "constraints.gatekeeper.sh/v1alpha1");
}

#[tokio::test]
async fn parameters_follow_the_template() {
    let api = Api::start().await;
    api.post(TEMPLATES, &template(labels())).await;
    let before = hash(&api).await;
    let answer = api
        .post(LABELS, &constraint("a", json!({"labels": "owner"})))
        .await;
    assert_eq!(answer.code, 422);
    assert!(
        answer.message().contains("spec.parameters.labels"),
        "{}",
        answer.message()
    );
    let strict = format!("{LABELS}?fieldValidation=Strict");
    let answer = api.post(&strict, &constraint("a", json!({"lables": []}))).await;
    assert!(
        answer
            .message()
            .contains("unknown field \"spec.parameters.lables\""),
        "{}",
        answer.message()
    );

    let changed = json!({"spec": {"crd": {"spec": {"validation": {"openAPIV3Schema": {"properties": {"labels": {"type": "string", "items": null}}}}}}}});
    let answer = api
        .patch(&format!("{TEMPLATES}/requiredlabels"), MERGE, &changed)
        .await;
    assert_eq!(answer.code, 200, "{}", answer.text);
    assert_ne!(hash(&api).await, before);
    let answer = api
        .post(LABELS, &constraint("a", json!({"labels": "owner"})))
        .await;
    assert_eq!(answer.code, 201, "{}", answer.text);
}

#[tokio::test]
async fn a_deleted_template_takes_its_constraints_with_it() {
    let api = Api::start().await;
    api.post(TEMPLATES, &template(labels())).await;
    api.post(LABELS, &constraint("a", json!({}))).await;
    let mut held = constraint("b", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    api.post(LABELS, &held).await;
    let mut watch = api.watch(&format!("{LABELS}?watch=true")).await;
    assert_eq!(watch.step().await, step("ADDED", "a"));
    assert_eq!(watch.step().await, step("ADDED", "b"));

    assert_eq!(api.delete(&format!("{TEMPLATES}/requiredlabels")).await.code, 200);
    assert_eq!(watch.step().await, step("DELETED", "a"));
    assert_eq!(watch.step().await, step("DELETED", "b"));
    for path in [LABELS, GROUP, DEFINITION] {
        assert_eq!(api.get(path).await.code, 404, "{path}");
    }
    assert_eq!(hash(&api).await, "");

    api.post(TEMPLATES, &template(labels())).await;
    assert_eq!(api.get(LABELS).await.json["items"], json!([]));
}

#[tokio::test]
async fn kinds_of_templates_survive_a_restart() {
    let file = StoreFile::new("constraint-kinds");
    let store = file.open();
    let api = Api::start_with(store.clone()).await;
    api.post(TEMPLATES, &template(labels())).await;
    api.post(LABELS, &constraint("a", json!({}))).await;
    let before = hash(&api).await;
    api.handle.shutdown().cancel();
    store.close();

    let api = Api::start_with(file.open()).await;
    assert_eq!(hash(&api).await, before);
    assert_eq!(api.get(&format!("{LABELS}/a")).await.code, 200);
    api.patch(
        &format!("{TEMPLATES}/requiredlabels"),
        MERGE,
        &json!({"metadata": {"labels": {"a": "b"}}}),
    )
    .await;
    assert_eq!(
        api.get(&format!("{LABELS}/a")).await.code,
        200,
        "an update purges nothing"
    );
}

#[tokio::test]
async fn bad_templates_are_refused_and_make_nothing() {
    let api = Api::start().await;
    for (pointer, value, code, wanted) in [
        (
            "/metadata/name",
            json!("other"),
            422,
            "admission webhook \"validation.gatekeeper.sh\" denied the request: validation failed: template's name other is not equal to the lowercase of CRD's Kind: requiredlabels",
        ),
        (
            "/spec/targets/0/rego",
            json!(""),
            422,
            "expected exactly one, got neither: spec.targets[0].code, spec.targets[0].rego",
        ),
        (
            "/spec/targets",
            json!([]),
            422,
            "expected exactly 1 item in targets, got 0",
        ),
        (
            "/spec/crd/spec/validation/openAPIV3Schema",
            json!({"type": "objekt"}),
            422,
            "spec.crd.spec.validation.openAPIV3Schema: Invalid value:",
        ),
        (
            "/spec/crd/spec/validation/openAPIV3Schema",
            json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}),
            422,
            "spec.crd.spec.validation.openAPIV3Schema: Invalid value:",
        ),
    ] {
        let mut bad = template(labels());
        *bad.pointer_mut(pointer).unwrap() = value;
        let answer = api.post(TEMPLATES, &bad).await;
        assert_eq!(answer.code, code, "{}", answer.text);
        assert!(answer.message().contains(wanted), "{}", answer.message());
    }
    assert_eq!(api.get(GROUP).await.code, 404);
    api.post(&format!("{TEMPLATES}?dryRun=All"), &template(labels()))
        .await;
    assert_eq!(api.get(GROUP).await.code, 404, "a dry run makes nothing");
}

#[tokio::test]
async fn constraints_are_collected_with_their_owner() {
    let api = Api::start().await;
    api.post(TEMPLATES, &template(labels())).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "owner"}});
    let owner = api.post("/api/v1/namespaces", &namespace).await.json;
    let mut owned = constraint("a", json!({}));
    owned["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Namespace", "name": "owner", "uid": owner["metadata"]["uid"]}]);
    assert_eq!(api.post(LABELS, &owned).await.code, 201);
    api.delete("/api/v1/namespaces/owner").await;
    api.until(&format!("{LABELS}/a"), |answer| answer.code == 404)
        .await;
}
