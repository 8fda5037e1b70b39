//! `test/conformance/api/v1beta1` and `test/e2e/domainmapping`: names of the users' own.

use crate::suite::{PIZZA_PLANET_1, PIZZA_PLANET_2, Suite, image, is_ready, service, text};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use kittiwake_testkit::platform::condition;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_rustls::TlsConnector;

const HOST: &str = "planet.example.org";
const OTHERS: &str = "/apis/serving.knative.dev/v1beta1/namespaces/other/domainmappings";

/// A mapping of [`HOST`] to the Service `planet` of its namespace.
fn mapping() -> Value {
    json!({"apiVersion": "serving.knative.dev/v1beta1", "kind": "DomainMapping", "metadata": {"name": HOST},
        "spec": {"ref": {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "planet"}}})
}

async fn start(suite: &Suite) {
    let claims = json!({"autocreate-cluster-domain-claims": "true"});
    suite.configure("config-network", &claims).await;
    suite
        .create_service_ready(&service("planet", "pizzaplanetv1"))
        .await;
}

/// `TestDomainMapping`
#[tokio::test(flavor = "multi_thread")]
async fn test_domain_mapping() {
    let suite = Suite::start().await;
    start(&suite).await;
    suite.create("domainmappings", &mapping()).await.unwrap();
    let path = format!("/apis/serving.knative.dev/v1beta1/namespaces/default/domainmappings/{HOST}");
    let ready = suite.platform.until_at(&path, is_ready).await.unwrap();
    let url = text(&ready, "/status/url").to_owned();
    suite.until_text(&url, PIZZA_PLANET_1).await;

    let yaml = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: other}}\n---\napiVersion: serving.knative.dev/v1\nkind: Service\n\
         metadata: {{name: planet, namespace: other}}\nspec: {{template: {{spec: {{containers: [{{image: '{}'}}]}}}}}}\n",
        image("pizzaplanetv2")
    );
    suite.platform.apply_and_wait(&yaml).await.unwrap();
    suite.send(Method::POST, OTHERS, &mapping()).await.unwrap();
    let others = format!("{OTHERS}/{HOST}");
    let refused = |m: &Value| {
        condition(m, "DomainClaimed").0 == "False"
            && m["status"]["observedGeneration"] == m["metadata"]["generation"]
    };
    suite.platform.until_at(&others, refused).await.unwrap();
    let answer = suite.get(&url).await;
    assert!(answer.text().contains(PIZZA_PLANET_1), "{}", answer.text());

    suite.delete("domainmappings", HOST).await;
    suite.platform.until_at(&others, is_ready).await.unwrap();
    suite.until_text(&url, PIZZA_PLANET_2).await;
}

/// The body of a GET over TLS, which trusts one certificate alone.
async fn get_with_tls(address: SocketAddr, host: &str, trusted: &rcgen::Certificate) -> String {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await
        .unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get("/")
        .header("host", host)
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// `TestBYOCertificate`
#[tokio::test(flavor = "multi_thread")]
async fn test_byo_certificate() {
    let suite = Suite::start_with(|config| {
        config.gateway.https_listen = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    start(&suite).await;
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
    let base64 = |text: String| BASE64_STANDARD.encode(text);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "byo"}, "type": "kubernetes.io/tls",
        "data": {"tls.crt": base64(cert.pem()), "tls.key": base64(signing_key.serialize_pem())}});
    suite.create("secrets", &secret).await.unwrap();
    let mut mapping = mapping();
    mapping["spec"]["tls"] = json!({"secretName": "byo"});
    suite.create("domainmappings", &mapping).await.unwrap();
    let path = format!("/apis/serving.knative.dev/v1beta1/namespaces/default/domainmappings/{HOST}");
    let secure = |m: &Value| is_ready(m) && text(m, "/status/url").starts_with("https://");
    suite.platform.until_at(&path, secure).await.unwrap();
    let address = suite.platform.gateway_with_tls().unwrap();
    let answer = get_with_tls(address, HOST, &cert).await;
    assert!(answer.contains(PIZZA_PLANET_1), "{answer}");
}
