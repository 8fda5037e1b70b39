//! DomainMappings, their claims and their certificates.

use crate::platform::{Platform, condition, message, ready, reason, service};
use kittiwake_api::networking::ClusterDomainClaim;
use kittiwake_api::networking::cluster_domain_claim::ClusterDomainClaimSpec;
use kittiwake_api::serving::{DomainMapping, Service};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

const HOST: &str = "www.example.org";

fn mapping() -> Value {
    json!({
        "apiVersion": "serving.knative.dev/v1beta1", "kind": "DomainMapping", "metadata": { "name": HOST },
        "spec": { "ref": { "apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "hello" } },
    })
}

fn claims(platform: &Platform) -> Api<ClusterDomainClaim> {
    Api::all(platform.client.clone())
}

async fn claim(platform: &Platform, namespace: &str) {
    let namespace = namespace.to_owned();
    let claim = ClusterDomainClaim::new(HOST, ClusterDomainClaimSpec { namespace });
    claims(platform)
        .create(&PostParams::default(), &claim)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_name_needs_a_claim_and_a_service() {
    let platform = Platform::start().await;
    platform.create::<DomainMapping>(mapping()).await;
    let unclaimed = |m: &DomainMapping| reason(m, "DomainClaimed") == "DomainAlreadyClaimed";
    platform.wait::<DomainMapping>(HOST, unclaimed).await;
    claim(&platform, "default").await;
    let unresolved = |m: &DomainMapping| reason(m, "ReferenceResolved") == "ResolveFailed";
    let object = platform.wait::<DomainMapping>(HOST, unresolved).await;
    assert!(message(&object, "ReferenceResolved").contains("\"hello\" not found"));
    platform.create::<Service>(service("hello", "good:v1")).await;
    let object = platform.wait::<DomainMapping>(HOST, ready).await;
    assert_eq!(
        object.status.unwrap().url.as_deref(),
        Some("http://www.example.org:8080")
    );
    assert_eq!(
        platform.split(HOST),
        "hello-00001:100",
        "Ready means that it is routed"
    );
    let table = platform.table();
    let entry = table.lookup(HOST).unwrap();
    assert_eq!(
        entry.mapped_to.as_deref(),
        Some("hello.default.svc.cluster.local")
    );
    // A name that is given to another namespace is served no more.
    claims(&platform)
        .delete(HOST, &DeleteParams::default())
        .await
        .unwrap();
    claim(&platform, "other").await;
    platform.wait::<DomainMapping>(HOST, unclaimed).await;
    platform
        .wait_for_table(|table| table.lookup(HOST).is_none())
        .await;
}

#[tokio::test(start_paused = true)]
async fn claims_made_by_themselves_go_with_the_mapping() {
    let platform = Platform::start().await;
    platform
        .set(
            "config-network",
            json!({ "autocreate-cluster-domain-claims": "true" }),
        )
        .await
        .unwrap();
    platform.create::<Service>(service("hello", "good:v1")).await;
    platform.create::<DomainMapping>(mapping()).await;
    platform.wait::<DomainMapping>(HOST, ready).await;
    let claim = claims(&platform).get(HOST).await.unwrap();
    assert_eq!(claim.spec.namespace, "default");
    platform
        .api::<DomainMapping>()
        .delete(HOST, &DeleteParams::default())
        .await
        .unwrap();
    platform.wait_until_gone::<DomainMapping>(HOST).await;
    platform.settle().await;
    assert!(claims(&platform).get_opt(HOST).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_missing_is_named() {
    let platform = Platform::start().await;
    claim(&platform, "default").await;
    platform.create::<Service>(service("hello", "good:v1")).await;
    let mut object = mapping();
    object["spec"]["tls"] = json!({ "secretName": "cert" });
    platform.create::<DomainMapping>(object).await;
    let told = |m: &DomainMapping| {
        reason(m, "CertificateProvisioned") == "CertificateNotReady" && condition(m, "IngressReady") == "True"
    };
    let object = platform.wait::<DomainMapping>(HOST, told).await;
    assert_eq!(condition(&object, "Ready"), "Unknown");
    assert!(message(&object, "CertificateProvisioned").contains("--https-listen"));
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_expires_is_served_no_more_and_that_is_told() {
    let mut platform = Platform::start().await;
    platform.https_external_port = Some(8443);
    platform.restart().await;
    claim(&platform, "default").await;
    platform.create::<Service>(service("hello", "good:v1")).await;
    // It ends some hours after the clock of these tests begins; nothing is written then.
    let mut params = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2025, 1, 1);
    params.not_after = rcgen::date_time_ymd(2025, 6, 16);
    let key = rcgen::KeyPair::generate().unwrap();
    let chain = params.self_signed(&key).unwrap().pem();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": { "name": "cert" },
        "stringData": { "tls.crt": chain, "tls.key": key.serialize_pem() },
    });
    platform
        .create::<k8s_openapi::api::core::v1::Secret>(secret)
        .await;
    let mut object = mapping();
    object["spec"]["tls"] = json!({ "secretName": "cert" });
    platform.create::<DomainMapping>(object).await;
    platform.wait::<DomainMapping>(HOST, ready).await;
    let has = |table: &kittiwake_core::routing_table::RoutingTable| {
        table.certificates().any(|(host, _)| host == HOST)
    };
    platform.wait_for_table(has).await;

    tokio::time::sleep(std::time::Duration::from_secs(9 * 60 * 60)).await;
    platform.wait_for_table(|table| !has(table)).await;
    let told = |m: &DomainMapping| reason(m, "CertificateProvisioned") == "CertificateNotReady";
    let object = platform.wait::<DomainMapping>(HOST, told).await;
    let message = message(&object, "CertificateProvisioned");
    assert!(message.contains("expired at 2025-06-16T00:00:00Z"), "{message}");
}
