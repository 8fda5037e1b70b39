//! Users of an OpenID Connect issuer: a tiny one in this process, over TLS, whose keys may change.

use crate::harness::Api;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kittiwake_apiserver::auth::{self, oidc};
use kittiwake_store::ObjectStore;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

struct Key {
    id: &'static str,
    pair: EcdsaKeyPair,
}

impl Key {
    fn new(id: &'static str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        Self { id, pair }
    }

    fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": self.id, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
    }

    fn sign(&self, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = format!(
            "{}.{}",
            encode(&json!({"alg": "ES256", "kid": self.id})),
            encode(claims)
        );
        let signature = self.pair.sign(&SystemRandom::new(), head.as_bytes()).unwrap();
        format!("{head}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// An issuer: its address, its CA, the keys that it shows, and how often it was asked for them.
struct Company {
    url: String,
    ca_pem: String,
    keys: Arc<Mutex<Value>>,
    asked: Arc<AtomicUsize>,
}

impl Company {
    async fn start() -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()])
            .unwrap()
            .signed_by(&key, &Issuer::new(ca, ca_key))
            .unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let company = Self {
            url: url.clone(),
            ca_pem,
            keys: Arc::new(Mutex::new(json!([]))),
            asked: Arc::default(),
        };
        let (keys, asked) = (Arc::clone(&company.keys), Arc::clone(&company.asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => break,
                    }
                }
                let answer = if head.starts_with(b"GET /.well-known/openid-configuration ") {
                    json!({"issuer": url, "jwks_uri": format!("{url}/keys")})
                } else {
                    asked.fetch_add(1, Ordering::SeqCst);
                    json!({"keys": *keys.lock().unwrap()})
                };
                let body = answer.to_string();
                let text = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(text.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        company
    }

    fn show(&self, keys: &[&Key]) {
        *self.keys.lock().unwrap() = keys.iter().map(|key| key.jwk()).collect();
    }

    fn claims(&self) -> Value {
        json!({"iss": self.url, "aud": "kittiwake", "sub": "ann", "exp": 1_800_000_000, "groups": ["dev", "ops"]})
    }

    async fn api(&self) -> Api {
        self.api_with(None, "oidc:").await
    }

    async fn api_with(&self, username_prefix: Option<&str>, groups_prefix: &str) -> Api {
        let auth = auth::Config {
            oidc: Some(oidc::Config {
                issuer_url: self.url.clone(),
                client_id: "kittiwake".to_owned(),
                username_claim: "sub".to_owned(),
                username_prefix: username_prefix.map(str::to_owned),
                groups_claim: Some("groups".to_owned()),
                groups_prefix: groups_prefix.to_owned(),
                ca_pem: Some(self.ca_pem.clone().into_bytes()),
            }),
            ..auth::Config::default()
        };
        Api::start_guarded(ObjectStore::in_memory(kittiwake_store::Config::default()), auth).await
    }
}

async fn code(api: &Api, token: &str) -> u16 {
    api.ask(token, "GET", "/version", &Value::Null).await.code
}

#[tokio::test]
async fn users_of_an_issuer_are_users_here() {
    let (company, key) = (Company::start().await, Key::new("one"));
    company.show(&[&key]);
    let api = company.api().await;
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let answer = api
        .ask(&key.sign(&company.claims()), "POST", path, &json!({}))
        .await;
    assert_eq!(
        answer.json["status"]["userInfo"],
        json!({
            "username": format!("{}#ann", company.url),
            "groups": ["oidc:dev", "oidc:ops", "system:authenticated"],
        }),
        "{}",
        answer.text
    );
    for (claim, value) in [
        ("exp", json!(1_600_000_000)),
        ("exp", Value::Null),
        ("nbf", json!(1_790_000_000)),
        ("aud", json!("bank")),
        ("aud", json!([])),
        ("iss", json!("https://else.example")),
        ("sub", json!(7)),
        ("groups", json!(7)),
    ] {
        let mut claims = company.claims();
        claims[claim] = value.clone();
        assert_eq!(code(&api, &key.sign(&claims)).await, 401, "{claim}: {value}");
    }
    assert_eq!(code(&api, &Key::new("one").sign(&company.claims())).await, 401);
    assert_eq!(company.asked.load(Ordering::SeqCst), 1, "keys are kept");
}

#[tokio::test]
async fn new_keys_are_fetched_and_strange_ones_are_no_flood() {
    let (company, one, two) = (Company::start().await, Key::new("one"), Key::new("two"));
    company.show(&[&one]);
    let api = company.api().await;
    assert_eq!(code(&api, &one.sign(&company.claims())).await, 200);
    company.show(&[&two]);
    for _ in 0..5 {
        assert_eq!(code(&api, &two.sign(&company.claims())).await, 401);
    }
    assert_eq!(company.asked.load(Ordering::SeqCst), 1, "asked a moment ago");
    api.clock.advance(Duration::from_secs(11));
    assert_eq!(code(&api, &two.sign(&company.claims())).await, 200);
    assert_eq!(company.asked.load(Ordering::SeqCst), 2);
    // What the issuer has taken back counts no more.
    assert_eq!(code(&api, &one.sign(&company.claims())).await, 401);
    // Keys that are known are fetched again in time, so that one that was stolen does not count for ever.
    company.show(&[&one]);
    api.clock.advance(Duration::from_secs(16 * 60));
    assert_eq!(code(&api, &two.sign(&company.claims())).await, 401);
}

#[tokio::test]
async fn an_issuer_that_is_not_there_shuts_nobody_else_out() {
    let company = Company::start().await;
    // It shows no keys.
    let api = company.api().await;
    assert_eq!(code(&api, &Key::new("one").sign(&company.claims())).await, 401);
    assert_eq!(code(&api, "").await, 200);
    // Its certificate is another authority's.
    let key = Key::new("one");
    company.show(&[&key]);
    let token = key.sign(&company.claims());
    let api = Company {
        ca_pem: Company::start().await.ca_pem,
        ..company
    }
    .api()
    .await;
    assert_eq!(code(&api, &token).await, 401);
}

#[tokio::test]
async fn an_issuer_names_nobody_of_the_platform() {
    let (company, key) = (Company::start().await, Key::new("one"));
    company.show(&[&key]);
    let api = company.api_with(Some("-"), "").await;
    let mut claims = company.claims();
    claims["groups"] = json!(["system:masters", "dev"]);
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let answer = api.ask(&key.sign(&claims), "POST", path, &json!({})).await;
    let user = &answer.json["status"]["userInfo"];
    assert_eq!(
        (&user["username"], &user["groups"]),
        (&json!("ann"), &json!(["dev", "system:authenticated"]))
    );
    claims["sub"] = "system:admin".into();
    assert_eq!(code(&api, &key.sign(&claims)).await, 401);
}

#[test]
fn settings_that_cannot_work_are_named() {
    let config = |url: &str, client: &str| oidc::Config {
        issuer_url: url.to_owned(),
        client_id: client.to_owned(),
        username_claim: "sub".to_owned(),
        username_prefix: None,
        groups_claim: None,
        groups_prefix: String::new(),
        ca_pem: None,
    };
    assert!(config("http://x", "y").check().unwrap_err().contains("https://"));
    assert!(config("https://x", "").check().unwrap_err().contains("client ID"));
    assert!(config("https://x", "y").check().is_ok());
}
