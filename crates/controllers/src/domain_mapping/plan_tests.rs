//! Tables for the plan of a DomainMapping.

use super::*;
use crate::Config;
use kittiwake_api::condition::find;
use kittiwake_api::config::Settings;
use kittiwake_api::networking::cluster_domain_claim::ClusterDomainClaimSpec;
use kittiwake_core::revision::{RevisionKey, RevisionSpec};
use kittiwake_core::routing_table::RouteTarget;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

fn mapping(spec: Value) -> DomainMapping {
    serde_json::from_value(json!({
        "apiVersion": "serving.knative.dev/v1beta1", "kind": "DomainMapping",
        "metadata": { "name": "www.example.org", "namespace": "ns", "generation": 1 }, "spec": spec,
    }))
    .unwrap()
}

fn claim(namespace: &str) -> ClusterDomainClaim {
    ClusterDomainClaim::new(
        "www.example.org",
        ClusterDomainClaimSpec {
            namespace: namespace.to_owned(),
        },
    )
}

fn settings(pairs: &[(&str, &str)]) -> Settings {
    let mut settings = Settings::default();
    let data: BTreeMap<_, _> = pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    settings.set("config-network", Some(&data)).unwrap();
    settings
}

fn missing() -> CertificateState {
    CertificateState::Missing {
        name: "cert".to_owned(),
        why: "secret \"cert\" not found".to_owned(),
    }
}

struct Case {
    mapping: DomainMapping,
    claim: Option<ClusterDomainClaim>,
    target: Result<String, String>,
    routed: Option<RouteEntry>,
    certificate: CertificateState,
    settings: Settings,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            mapping: mapping(json!({ "ref": { "kind": "Service", "name": "hello" } })),
            claim: Some(claim("ns")),
            target: Ok("hello".to_owned()),
            routed: Some(RouteEntry {
                namespace: "ns".into(),
                name: "hello".into(),
                mapped_to: Some("hello.ns.svc.cluster.local".into()),
                targets: vec![RouteTarget {
                    revision: Arc::new(RevisionSpec::new(RevisionKey::new("ns", "hello-00001"), "u", "i")),
                    percent: 100,
                }],
                ..RouteEntry::default()
            }),
            certificate: missing(),
            settings: Settings::default(),
        }
    }
}

impl Case {
    fn run(&self) -> Plan {
        let config = Config {
            external_port: Some(8080),
            https_external_port: Some(8443),
            ..Config::default()
        };
        let observed = Observed {
            claim: self.claim.as_ref(),
            target: self.target.clone(),
            routed: self.routed.as_ref(),
            certificate: self.certificate.clone(),
            naming: Naming {
                config: &config,
                settings: &self.settings,
                kept_inside: &|_, _| false,
            },
        };
        plan(&self.mapping, &observed, Timestamp::UNIX_EPOCH)
    }

    /// `status/reason` of a condition.
    fn says(&self, type_: &str) -> String {
        let status = self.run().status.unwrap();
        let condition = find(&status.status.conditions, type_).unwrap();
        format!("{}/{}", condition.status.as_str(), condition.reason)
    }
}

#[test]
fn a_mapping_whose_name_is_claimed_becomes_ready() {
    let case = Case::default();
    let status = case.run().status.unwrap();
    assert_eq!(case.says("Ready"), "True/");
    assert_eq!(case.says("CertificateProvisioned"), "True/TLSNotEnabled");
    assert_eq!(status.url.as_deref(), Some("http://www.example.org:8080"));
    assert_eq!(status.status.annotations["kittiwake.dev/route"], "hello");
    let again = Case {
        mapping: DomainMapping {
            status: Some(status),
            ..case.mapping.clone()
        },
        ..Case::default()
    };
    assert_eq!(again.run().status, None, "nothing new");
}

#[test]
fn a_name_belongs_to_one_namespace() {
    let foreign = Case {
        claim: Some(claim("other")),
        ..Case::default()
    };
    assert_eq!(foreign.says("DomainClaimed"), "False/DomainAlreadyClaimed");
    assert_eq!(foreign.says("Ready"), "False/DomainAlreadyClaimed");
    let plan = foreign.run();
    assert_eq!(
        plan.notices[0].message,
        "namespace \"ns\" does not own ClusterDomainClaim for \"www.example.org\""
    );
    assert!(
        !plan
            .status
            .unwrap()
            .status
            .annotations
            .contains_key("kittiwake.dev/route")
    );
    let unclaimed = Case {
        claim: None,
        ..Case::default()
    };
    assert!(
        unclaimed.run().notices[0]
            .message
            .contains("autocreate-cluster-domain-claims property is not true")
    );
    let by_itself = Case {
        claim: None,
        settings: settings(&[("autocreate-cluster-domain-claims", "true")]),
        ..Case::default()
    };
    assert!(by_itself.run().claim);
    assert_eq!(by_itself.says("DomainClaimed"), "Unknown/");
    assert_eq!(by_itself.says("Ready"), "Unknown/IngressNotConfigured");
}

#[test]
fn what_is_missing_is_said() {
    let unresolved = Case {
        target: Err("address not set".to_owned()),
        ..Case::default()
    };
    assert_eq!(unresolved.says("ReferenceResolved"), "False/ResolveFailed");
    assert_eq!(unresolved.says("IngressReady"), "Unknown/IngressNotConfigured");
    let unrouted = Case {
        routed: None,
        ..Case::default()
    };
    assert_eq!(unrouted.says("Ready"), "Unknown/Uninitialized");
}

#[test]
fn certificates_decide_about_https() {
    let named =
        || mapping(json!({ "ref": { "kind": "Service", "name": "hello" }, "tls": { "secretName": "cert" } }));
    let on = || settings(&[("external-domain-tls", "enabled")]);
    for (mapping, certificate, settings, says, url) in [
        (
            named(),
            CertificateState::Ready,
            Settings::default(),
            "True/CertificateExternallyProvided",
            "https://www.example.org:8443",
        ),
        (
            named(),
            missing(),
            Settings::default(),
            "Unknown/CertificateNotReady",
            "https://www.example.org:8443",
        ),
        (
            Case::default().mapping,
            CertificateState::Ready,
            on(),
            "True/",
            "https://www.example.org:8443",
        ),
        (
            Case::default().mapping,
            missing(),
            on(),
            "True/HTTPDowngrade",
            "http://www.example.org:8080",
        ),
    ] {
        let case = Case {
            mapping,
            certificate,
            settings,
            ..Case::default()
        };
        assert_eq!(case.says("CertificateProvisioned"), says);
        assert_eq!(case.run().status.unwrap().url.as_deref(), Some(url));
    }
}

#[test]
fn only_addresses_of_the_namespace_lead_to_routes() {
    for (url, wanted) in [
        ("http://hello.ns.svc.cluster.local", Ok("hello")),
        ("http://hello.ns.svc.cluster.local/", Ok("hello")),
        (
            "http://hello.other.svc.cluster.local",
            Err("must be in same namespace as DomainMapping"),
        ),
        ("http://hello.ns.svc.cluster.local/path", Err("contains a path")),
        (
            "http://example.com",
            Err("must be of the form {name}.{namespace}.svc.cluster.local"),
        ),
        (
            "http://a.b.ns.svc.cluster.local",
            Err("must be of the form {name}.{namespace}.svc.cluster.local"),
        ),
    ] {
        match (route_of_url(url, "ns"), wanted) {
            (Ok(got), Ok(wanted)) => assert_eq!(got, wanted),
            (Err(got), Err(wanted)) => assert!(got.ends_with(wanted), "{got}"),
            (got, wanted) => panic!("{url}: {got:?} instead of {wanted:?}"),
        }
    }
}
