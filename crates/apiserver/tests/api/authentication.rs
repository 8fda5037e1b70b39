//! Who somebody is: bearer tokens of files and ServiceAccounts, what is worth nothing, and the account of each namespace.

use crate::harness::{Api, CONFIG_MAPS};
use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use serde_json::{Value, json};
use std::time::Duration;

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

async fn api() -> Api {
    Api::with_users(&[("root", "root", "system:masters"), ("ann", "ann", "dev,ops")]).await
}

async fn who(api: &Api, token: &str) -> Value {
    let answer = api.ask(token, "POST", WHO, &json!({})).await;
    assert_eq!(answer.code, 201, "{}", answer.text);
    answer.json["status"]["userInfo"].clone()
}

async fn token(api: &Api, account: &str, spec: Value) -> String {
    let path = format!("{ACCOUNTS}/{account}/token");
    let answer = api.ask("root", "POST", &path, &json!({"spec": spec})).await;
    assert_eq!(answer.code, 201, "{}", answer.text);
    answer.json["status"]["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn tokens_of_the_file_are_users() {
    let api = api().await;
    assert_eq!(
        who(&api, "ann").await,
        json!({"username": "ann", "uid": "u-ann", "groups": ["dev", "ops", "system:authenticated"]})
    );
    // Nobody known may see versions, and no more.
    assert_eq!(api.ask("", "GET", "/version", &Value::Null).await.code, 200);
    let denied = api.ask("", "POST", WHO, &json!({})).await;
    assert!(
        denied.message().contains("system:anonymous"),
        "{}",
        denied.message()
    );
}

#[tokio::test]
async fn what_is_worth_nothing_is_unauthorized_and_not_anonymous() {
    let api = api().await;
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({
        "iss": "https://kubernetes.default.svc", "aud": ["https://kubernetes.default.svc"], "exp": 99_999_999_999_i64,
        "sub": "system:serviceaccount:default:default",
        "kubernetes.io": {"namespace": "default", "serviceaccount": {"name": "default", "uid": "x"}},
    });
    let unsigned = format!("{}.{}.", encode(&json!({"alg": "none"})), encode(&claims));
    let symmetric = format!(
        "{}.{}.c2lnbmF0dXJl",
        encode(&json!({"alg": "HS256"})),
        encode(&claims)
    );
    let good = token(&api, "default", json!({})).await;
    let (head, _) = good.rsplit_once('.').unwrap();
    let other_claims = format!(
        "{}.{}.{}",
        good.split('.').next().unwrap(),
        encode(&claims),
        good.rsplit('.').next().unwrap()
    );
    for garbage in [
        "x",
        "a.b.c",
        "....",
        &unsigned,
        &symmetric,
        &format!("{head}.AAAA"),
        &format!("{head}."),
        &other_claims,
        &"x".repeat(100_000),
    ] {
        let answer = api.ask(garbage, "GET", "/version", &Value::Null).await;
        assert_eq!(
            answer.json,
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "Unauthorized", "reason": "Unauthorized", "code": 401}),
            "{}",
            garbage.get(..40).unwrap_or(garbage)
        );
    }
    let with = |value: &[u8]| {
        Request::get("/version")
            .header("authorization", http::HeaderValue::from_bytes(value).unwrap())
            .body(Body::empty())
            .unwrap()
    };
    assert_eq!(api.ask_with(with(b"Bearer ")).await.code, 401);
    assert_eq!(api.ask_with(with(b"Bearer \xff")).await.code, 401);
    // Another scheme proves nothing, as in Kubernetes.
    assert_eq!(api.ask_with(with(b"Basic YTpi")).await.code, 200);
}

#[tokio::test]
async fn a_service_account_is_who_its_token_says() {
    let api = api().await;
    let account = api.get(&format!("{ACCOUNTS}/default")).await.json;
    let text = token(&api, "default", json!({})).await;
    let user = who(&api, &text).await;
    assert_eq!(user["username"], "system:serviceaccount:default:default");
    assert_eq!(user["uid"], account["metadata"]["uid"]);
    assert_eq!(
        user["groups"],
        json!([
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated"
        ])
    );
    let binding = json!({
        "metadata": {"name": "view"}, "roleRef": {"kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "default"}],
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    assert_eq!(api.ask(&text, "GET", CONFIG_MAPS, &Value::Null).await.code, 403);
    assert_eq!(api.post(bindings, &binding).await.code, 201);
    assert_eq!(api.ask(&text, "GET", CONFIG_MAPS, &Value::Null).await.code, 200);
    assert_eq!(
        api.ask(&text, "DELETE", &format!("{CONFIG_MAPS}/x"), &Value::Null)
            .await
            .code,
        403
    );
}

#[tokio::test]
async fn tokens_end_by_time_by_audience_and_with_their_account() {
    let api = api().await;
    let short = token(&api, "default", json!({"expirationSeconds": 600})).await;
    let others = token(&api, "default", json!({"audiences": ["vault"]})).await;
    assert_eq!(api.ask(&short, "GET", "/version", &Value::Null).await.code, 200);
    assert_eq!(api.ask(&others, "GET", "/version", &Value::Null).await.code, 401);
    let review = |audiences: Value| json!({"spec": {"token": others, "audiences": audiences}});
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let answer = api.ask("root", "POST", path, &review(json!(["vault"]))).await;
    assert_eq!(answer.json["status"]["authenticated"], true, "{}", answer.text);
    assert_eq!(answer.json["status"]["audiences"], json!(["vault"]));
    let answer = api
        .ask("root", "POST", path, &review(json!(["bank", "vault"])))
        .await;
    assert_eq!(
        answer.json["status"]["audiences"],
        json!(["vault"]),
        "what both say, not what was asked"
    );
    let of_file = json!({"spec": {"token": "root", "audiences": ["vault"]}});
    let answer = api.ask("root", "POST", path, &of_file).await;
    assert_eq!(
        answer.json["status"]["authenticated"], false,
        "a token that names nobody is for this API alone"
    );
    let answer = api.ask("root", "POST", path, &review(json!(["bank"]))).await;
    assert_eq!(answer.json["status"]["authenticated"], false);
    api.clock.advance(Duration::from_secs(600));
    assert_eq!(api.ask(&short, "GET", "/version", &Value::Null).await.code, 401);

    let bot = json!({"metadata": {"name": "bot"}});
    assert_eq!(api.post(ACCOUNTS, &bot).await.code, 201);
    let text = token(&api, "bot", json!({})).await;
    assert_eq!(api.ask(&text, "GET", "/version", &Value::Null).await.code, 200);
    api.delete(&format!("{ACCOUNTS}/bot")).await;
    assert_eq!(api.ask(&text, "GET", "/version", &Value::Null).await.code, 401);
    // One of the same name is another account.
    assert_eq!(api.post(ACCOUNTS, &bot).await.code, 201);
    assert_eq!(api.ask(&text, "GET", "/version", &Value::Null).await.code, 401);
}

#[tokio::test]
async fn token_requests_have_rules() {
    let api = api().await;
    let ask = async |account: &str, body: Value| {
        let path = format!("{ACCOUNTS}/{account}/token");
        api.ask("root", "POST", &path, &body).await
    };
    assert_eq!(ask("nobody", json!({})).await.code, 404);
    let short = ask("default", json!({"spec": {"expirationSeconds": 10}})).await;
    assert_eq!(short.code, 422);
    assert!(
        short
            .message()
            .contains("may not specify a duration less than 10 minutes"),
        "{}",
        short.message()
    );
    let path = format!("{ACCOUNTS}/default/token");
    assert_eq!(api.ask("root", "GET", &path, &Value::Null).await.code, 405);
    assert_eq!(api.ask("ann", "POST", &path, &json!({})).await.code, 403);
}

#[tokio::test]
async fn every_namespace_has_a_default_account() {
    let api = api().await;
    assert_eq!(api.get(&format!("{ACCOUNTS}/default")).await.code, 200);
    api.post("/api/v1/namespaces", &json!({"metadata": {"name": "shop"}}))
        .await;
    let path = "/api/v1/namespaces/shop/serviceaccounts/default";
    let first = api.until(path, |answer| answer.code == 200).await;
    let uid = |json: &Value| json["metadata"]["uid"].clone();
    let is_new =
        |answer: &crate::harness::Answer| answer.code == 200 && uid(&answer.json) != uid(&first.json);
    api.delete(path).await;
    api.until(path, is_new).await;
    api.delete("/api/v1/namespaces/shop").await;
    api.until("/api/v1/namespaces/shop", |answer| answer.code == 404)
        .await;
}
