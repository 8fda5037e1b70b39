//! Volumes, as `test/conformance/api/v1` and `test/e2e` mount them.

use crate::suite::{Suite, container, service, text};
use http::StatusCode;
use serde_json::{Value, json};

/// What the image `volumes` writes and answers with.
const EMPTY_DIR_TEXT: &str = "From file in empty dir!";

/// A Service with one volume, and where it is mounted.
fn with_volume(image: &str, source: Value, mount: Value) -> Value {
    let mut wanted = service("volumes", image);
    container(&mut wanted)["volumeMounts"] = json!([mount]);
    let mut volume = source;
    let name = mount["name"].clone();
    volume.as_object_mut().unwrap().insert("name".to_owned(), name);
    wanted["spec"]["template"]["spec"]["volumes"] = json!([volume]);
    wanted
}

/// Adds a volume that does not exist and need not.
fn with_missing(mut wanted: Value, source: Value) -> Value {
    let mount = json!({"name": "blah", "mountPath": "/does/not/matter"});
    let mounts = &mut container(&mut wanted)["volumeMounts"];
    mounts.as_array_mut().unwrap().push(mount);
    let mut volume = source;
    volume
        .as_object_mut()
        .unwrap()
        .insert("name".to_owned(), "blah".into());
    let volumes = &mut wanted["spec"]["template"]["spec"]["volumes"];
    volumes.as_array_mut().unwrap().push(volume);
    wanted
}

fn mount() -> Value {
    json!({"name": "asdf", "mountPath": "/hello"})
}

/// The Service becomes ready and answers, at each path, with a text.
async fn check(suite: &Suite, wanted: &Value, answers: &[(&str, &str)]) {
    let ready = suite.create_service_ready(wanted).await;
    for (path, text_wanted) in answers {
        let url = format!("{}{path}", text(&ready, "/status/url"));
        let answer = suite.get(&url).await;
        let body = answer.text();
        assert_eq!(answer.status, StatusCode::OK, "{path}: {body}");
        assert!(body.contains(text_wanted), "{path}: {body}");
    }
}

async fn create_config_map(suite: &Suite, data: Value) {
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "source"}, "data": data});
    suite.create("configmaps", &object).await.unwrap();
}

async fn create_secret(suite: &Suite, data: Value) {
    let object =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "source"}, "stringData": data});
    suite.create("secrets", &object).await.unwrap();
}

/// `TestConfigMapVolume`
#[tokio::test(flavor = "multi_thread")]
async fn test_config_map_volume() {
    let suite = Suite::start().await;
    create_config_map(&suite, json!({"world": "hello-volumes-1"})).await;
    let source = json!({"configMap": {"name": "source", "optional": false}});
    let missing = json!({"configMap": {"name": "does-not-exist", "optional": true}});
    let wanted = with_missing(with_volume("hellovolume", source, mount()), missing);
    check(&suite, &wanted, &[("", "hello-volumes-1")]).await;
}

/// `TestProjectedConfigMapVolume`
#[tokio::test(flavor = "multi_thread")]
async fn test_projected_config_map_volume() {
    let suite = Suite::start().await;
    create_config_map(&suite, json!({"world": "hello-volumes-2"})).await;
    let source = json!({"projected": {"sources": [
        {"configMap": {"name": "source", "optional": false}},
        {"configMap": {"name": "does-not-matter", "optional": true}},
    ]}});
    let wanted = with_volume("hellovolume", source, mount());
    check(&suite, &wanted, &[("", "hello-volumes-2")]).await;
}

/// `TestSecretVolume`
#[tokio::test(flavor = "multi_thread")]
async fn test_secret_volume() {
    let suite = Suite::start().await;
    create_secret(&suite, json!({"world": "in secret"})).await;
    let source = json!({"secret": {"secretName": "source", "optional": false}});
    let missing = json!({"secret": {"secretName": "does-not-exist", "optional": true}});
    let wanted = with_missing(with_volume("hellovolume", source, mount()), missing);
    check(&suite, &wanted, &[("", "in secret")]).await;
}

/// `TestProjectedSecretVolume`
#[tokio::test(flavor = "multi_thread")]
async fn test_projected_secret_volume() {
    let suite = Suite::start().await;
    create_secret(&suite, json!({"world": "in secret"})).await;
    let source = json!({"projected": {"sources": [{"secret": {"name": "source", "optional": false}}]}});
    let mount = json!({"name": "asdf", "mountPath": "/hello/world", "subPath": "world"});
    let wanted = with_volume("hellovolume", source, mount);
    check(&suite, &wanted, &[("", "in secret")]).await;
}

/// `TestProjectedComplex`
#[tokio::test(flavor = "multi_thread")]
async fn test_projected_complex() {
    let suite = Suite::start().await;
    create_config_map(&suite, json!({"world": "text 1", "other": "text 2"})).await;
    create_secret(&suite, json!({"world": "text 3"})).await;
    let source = json!({"projected": {"sources": [
        {"configMap": {"name": "source", "optional": false, "items": [{"key": "other", "path": "another"}]}},
        {"secret": {"name": "source", "optional": false, "items": [{"key": "world", "path": "world"}]}},
    ]}});
    let wanted = with_volume("hellovolume", source, mount());
    check(&suite, &wanted, &[("", "text 3"), ("/another", "text 2")]).await;
}

/// `TestProjectedServiceAccountToken`
#[tokio::test(flavor = "multi_thread")]
async fn test_projected_service_account_token() {
    let suite = Suite::start().await;
    let token = json!({"audience": "api", "path": "token"});
    let source = json!({"projected": {"sources": [{"serviceAccountToken": token}], "defaultMode": 0o444}});
    let mount = json!({"name": "projectedv", "mountPath": "/hello/token", "subPath": "token"});
    let ready = suite
        .create_service_ready(&with_volume("hellovolume", source, mount))
        .await;
    let url = format!("{}/token", text(&ready, "/status/url"));
    let answer = suite.get(&url).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    // More than Go's test, which only wants the shape of one: the API knows whose it is, and for whom.
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {},
        "spec": {"token": answer.text().trim(), "audiences": ["api"]}});
    let reviewed = suite.create("tokenreviews", &review).await.unwrap();
    assert_eq!(reviewed["status"]["authenticated"], true, "{reviewed:#}");
    assert_eq!(
        reviewed["status"]["user"]["username"],
        "system:serviceaccount:default:default"
    );
}

async fn check_empty_dir(source: Value) {
    let suite = Suite::start().await;
    let mount = json!({"name": "data", "mountPath": "/data"});
    let wanted = with_volume("volumes", json!({"emptyDir": source}), mount);
    check(&suite, &wanted, &[("", EMPTY_DIR_TEXT)]).await;
}

/// `TestServiceCreateWithEmptyDir`
#[tokio::test(flavor = "multi_thread")]
async fn test_service_create_with_empty_dir() {
    check_empty_dir(json!({"medium": "Memory", "sizeLimit": "100M"})).await;
}

/// `TestEmptyDir`
#[tokio::test(flavor = "multi_thread")]
async fn test_empty_dir() {
    check_empty_dir(json!({"sizeLimit": "100M"})).await;
}
