//! Tables for the plan of a Route.

use super::*;
use crate::Config;
use crate::object::ObjectKey;
use kittiwake_api::condition::find;
use kittiwake_api::config::Settings;
use kittiwake_core::revision::{RevisionKey, RevisionSpec};
use kittiwake_core::routing_table::RoutingTable;
use serde_json::{Value, json};

fn route(traffic: Value, labels: Value) -> Route {
    serde_json::from_value(json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Route",
        "metadata": { "name": "hello", "namespace": "default", "generation": 1, "labels": labels },
        "spec": { "traffic": traffic },
    }))
    .unwrap()
}

/// `ready`, `failed`, `waiting` and `gone`, each with a latest ready Revision or not, as the name says.
fn configuration(name: &str) -> Option<Arc<Configuration>> {
    let (latest, status) = match name {
        "ready" => (Some("one"), "True"),
        "dangling" => (Some("gone"), "True"),
        "failed" => (None, "False"),
        "waiting" => (None, "Unknown"),
        _ => return None,
    };
    let object = json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Configuration", "metadata": { "name": name },
        "spec": {}, "status": { "latestReadyRevisionName": latest, "conditions": [{ "type": "Ready", "status": status }] },
    });
    Some(Arc::new(serde_json::from_value(object).unwrap()))
}

fn revision(name: &str) -> Option<Arc<Revision>> {
    let status = match name {
        "one" | "two" => "True",
        "failed" => "False",
        "waiting" => "Unknown",
        _ => return None,
    };
    let object = json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Revision", "metadata": { "name": name, "namespace": "default" },
        "spec": { "containers": [] }, "status": { "conditions": [{ "type": "Ready", "status": status }] },
    });
    Some(Arc::new(serde_json::from_value(object).unwrap()))
}

fn config() -> Config {
    Config {
        external_port: Some(8080),
        ..Config::default()
    }
}

fn no_certificate(_: &str, _: Option<&str>) -> CertificateState {
    CertificateState::Missing {
        name: "route-u".to_owned(),
        why: "secret \"route-u\" not found".to_owned(),
    }
}

fn run(route: &Route, table: &RoutingTable) -> Plan {
    run_with(
        route,
        table,
        &Settings::default(),
        &no_certificate,
        Timestamp::UNIX_EPOCH,
    )
}

fn run_with(
    route: &Route,
    table: &RoutingTable,
    settings: &Settings,
    certificate: &dyn Fn(&str, Option<&str>) -> CertificateState,
    now: Timestamp,
) -> Plan {
    let observed = Observed {
        configuration: &configuration,
        revision: &revision,
        routed: &|host: &str| table.lookup(host).cloned(),
        certificate,
        placeholders: placeholder::Observed {
            service: &|_: &str| None,
            labelled: &[],
        },
        naming: Naming {
            config: &config(),
            settings,
            kept_inside: &|_, _| false,
        },
    };
    plan(route, &observed, now)
}

/// The routing table that is made of a Route.
fn table(route: &Route) -> RoutingTable {
    let servable = |key: &ObjectKey| {
        Some(Arc::new(RevisionSpec::new(
            RevisionKey::new(Arc::clone(&key.namespace), Arc::clone(&key.name)),
            "u",
            "i",
        )))
    };
    crate::routing_table::plan::plan(&crate::routing_table::plan::Sources {
        routes: &[Arc::new(route.clone())],
        mappings: &[],
        revisions: &[],
        servable: &servable,
        secret: &|_: &ObjectKey| None,
        namespace: &|_: &str| None,
        certificates: &crate::certificates::Certificates::default(),
        naming: Naming {
            config: &config(),
            settings: &Settings::default(),
            kept_inside: &crate::route::url::said_inside,
        },
        now: Timestamp::UNIX_EPOCH,
    })
}

fn settings(map: &str, pairs: &[(&str, &str)]) -> Settings {
    let mut settings = Settings::default();
    let data = pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    settings.set(map, Some(&data)).unwrap();
    settings
}

fn says(status: &RouteStatus, type_: &str) -> (&'static str, String, String) {
    let condition = find(&status.conditions, type_).unwrap();
    (
        condition.status.as_str(),
        condition.reason.clone(),
        condition.message.clone(),
    )
}

#[test]
fn traffic_becomes_revisions_with_urls() {
    let traffic = json!([
        { "configurationName": "ready", "latestRevision": true, "percent": 90 },
        { "revisionName": "two", "percent": 10, "tag": "next" },
    ]);
    let mut route = route(traffic, json!({}));
    let status = run(&route, &RoutingTable::default()).status.unwrap();
    assert_eq!(status.url.as_deref(), Some("http://hello.default.localhost:8080"));
    assert_eq!(
        status.address.as_ref().unwrap().url.as_deref(),
        Some("http://hello.default.svc.cluster.local")
    );
    assert_eq!(
        serde_json::to_value(&status.traffic).unwrap(),
        json!([
            { "revisionName": "one", "latestRevision": true, "percent": 90 },
            { "tag": "next", "revisionName": "two", "latestRevision": false, "percent": 10,
              "url": "http://next-hello.default.localhost:8080" },
        ])
    );
    assert_eq!(says(&status, "AllTrafficAssigned").0, "True");
    assert_eq!(says(&status, "CertificateProvisioned").1, "TLSNotEnabled");
    assert_eq!(
        says(&status, "Ready").1,
        "Uninitialized",
        "the gateway does not have it yet"
    );

    route.status = Some(status);
    assert_eq!(run(&route, &RoutingTable::default()).status, None, "nothing new");
    let published = run(&route, &table(&route));
    assert!(
        published
            .notices
            .iter()
            .any(|notice| notice.reason == "RouteReady")
    );
    route.status = published.status;
    assert_eq!(says(route.status.as_ref().unwrap(), "Ready").0, "True");
    assert_eq!(
        run(&route, &RoutingTable::default()).status,
        None,
        "after a restart it stays ready"
    );

    // Moving traffic is not ready before the gateway has it.
    let old = table(&route);
    route.spec.traffic = vec![TrafficTarget {
        revision_name: Some("two".to_owned()),
        percent: Some(100),
        ..TrafficTarget::default()
    }];
    let moved = run(&route, &old).status.unwrap();
    assert_eq!(
        (says(&moved, "Ready").0, says(&moved, "Ready").1),
        ("Unknown", "Uninitialized".to_owned())
    );
}

#[test]
fn a_name_of_somebody_elses_is_told_and_traffic_stays() {
    let mut route = route(json!([{ "revisionName": "one", "percent": 100 }]), json!({}));
    route.status = run(&route, &RoutingTable::default()).status;
    let before = route.status.clone().unwrap();
    route.spec.traffic[0].revision_name = Some("two".to_owned());
    let taken = |name: &str| {
        (name == "hello")
            .then(|| Arc::new(serde_json::from_value(json!({ "metadata": { "name": "hello" } })).unwrap()))
    };
    let settings = Settings::default();
    let observed = Observed {
        configuration: &configuration,
        revision: &revision,
        routed: &|_: &str| None,
        certificate: &no_certificate,
        placeholders: placeholder::Observed {
            service: &taken,
            labelled: &[],
        },
        naming: Naming {
            config: &config(),
            settings: &settings,
            kept_inside: &|_, _| false,
        },
    };
    let plan = plan(&route, &observed, Timestamp::UNIX_EPOCH);
    assert_eq!(plan.placeholders, Placeholders::default());
    let status = plan.status.unwrap();
    let (ready, reason, message) = says(&status, "Ready");
    assert_eq!((ready, reason.as_str()), ("False", "NotOwned"));
    assert_eq!(
        message,
        "There is an existing placeholder Service \"hello\" that we do not own."
    );
    assert_eq!(status.traffic, before.traffic);
}

#[test]
fn a_tag_too_long_for_a_host_is_told() {
    let tag = "t".repeat(60);
    let traffic = json!([{ "revisionName": "one", "percent": 100, "tag": tag }]);
    for labels in [
        json!({}),
        json!({ "networking.knative.dev/visibility": "cluster-local" }),
    ] {
        let status = run(&route(traffic.clone(), labels), &RoutingTable::default())
            .status
            .unwrap();
        let (ready, reason, message) = says(&status, "IngressReady");
        assert_eq!((ready, reason.as_str()), ("False", "ErrorConfig"));
        assert!(message.contains("shorten the tag"), "{message}");
    }
}

#[test]
fn local_routes_have_local_urls() {
    let labels = json!({ "networking.knative.dev/visibility": "cluster-local" });
    let traffic = json!([{ "revisionName": "one", "percent": 100, "tag": "t" }]);
    let status = run(&route(traffic, labels), &RoutingTable::default())
        .status
        .unwrap();
    assert_eq!(
        status.url.as_deref(),
        Some("http://hello.default.svc.cluster.local")
    );
    assert_eq!(
        status.traffic[0].url.as_deref(),
        Some("http://t-hello.default.svc.cluster.local")
    );
}

#[test]
fn bad_targets_are_named_and_leave_the_traffic_where_it_is() {
    for (target, status, reason, message) in [
        (
            json!({ "configurationName": "gone" }),
            "False",
            "ConfigurationMissing",
            "Configuration \"gone\" referenced in traffic not found.",
        ),
        (
            json!({ "configurationName": "failed" }),
            "False",
            "RevisionMissing",
            "Configuration \"failed\" does not have any ready Revision.",
        ),
        (
            json!({ "configurationName": "waiting" }),
            "Unknown",
            "RevisionMissing",
            "Configuration \"waiting\" is waiting for a Revision to become ready.",
        ),
        (
            json!({ "configurationName": "dangling" }),
            "False",
            "RevisionMissing",
            "Revision \"gone\" referenced in traffic not found.",
        ),
        (
            json!({ "revisionName": "gone" }),
            "False",
            "RevisionMissing",
            "Revision \"gone\" referenced in traffic not found.",
        ),
        (
            json!({ "revisionName": "failed" }),
            "False",
            "RevisionMissing",
            "Revision \"failed\" failed to become ready.",
        ),
        (
            json!({ "revisionName": "waiting" }),
            "Unknown",
            "RevisionMissing",
            "Revision \"waiting\" is not yet ready.",
        ),
    ] {
        let mut target = target;
        target["percent"] = 100.into();
        let mut route = route(json!([target]), json!({}));
        route.status = Some(
            serde_json::from_value(json!({ "traffic": [{ "revisionName": "one", "percent": 100 }] }))
                .unwrap(),
        );
        let got = run(&route, &RoutingTable::default()).status.unwrap();
        assert_eq!(
            says(&got, "AllTrafficAssigned"),
            (status, reason.to_owned(), message.to_owned())
        );
        assert_eq!(
            says(&got, "Ready"),
            (status, reason.to_owned(), message.to_owned())
        );
        assert_eq!(got.traffic[0].revision_name.as_deref(), Some("one"));
    }
}

#[test]
fn a_new_revision_gets_its_traffic_step_by_step() {
    let start = 1_750_000_000;
    let at = |second: i64| Timestamp::from_second(start + second).unwrap();
    let settings = settings("config-network", &[("rollout-duration", "10")]);
    let traffic = json!([
        { "configurationName": "ready", "latestRevision": true, "percent": 80, "tag": "new" },
        { "revisionName": "two", "percent": 20 },
    ]);
    let mut route = route(traffic, json!({}));
    // The Configuration's revision was `zero` before.
    let before = Rollout {
        configurations: vec![ConfigurationRollout::whole("ready", "", "zero", 80)],
    };
    route.status = Some(RouteStatus {
        annotations: BTreeMap::from([(meta::ROLLOUT_ANNOTATION.to_owned(), before.write())]),
        ..RouteStatus::default()
    });
    let shown = |status: &RouteStatus| -> Vec<String> {
        let traffic = status.traffic.iter();
        traffic
            .map(|t| {
                format!(
                    "{} {} {}",
                    t.revision_name.as_deref().unwrap(),
                    t.percent.unwrap(),
                    t.tag.as_deref().unwrap_or("-")
                )
            })
            .collect()
    };
    let plan = run_with(
        &route,
        &RoutingTable::default(),
        &settings,
        &no_certificate,
        at(0),
    );
    route.status = plan.status;
    let status = route.status.as_ref().unwrap();
    assert_eq!(shown(status), ["zero 79 -", "one 1 new", "two 20 -"]);
    assert_eq!(says(status, "Ready").1, "Uninitialized");
    // The gateways have it after two seconds: eight are left, four steps of 20 % fit.
    let plan = run_with(&route, &table(&route), &settings, &no_certificate, at(2));
    route.status = plan.status;
    assert_eq!(
        says(route.status.as_ref().unwrap(), "Ready").1,
        "RolloutInProgress"
    );
    assert_eq!(plan.next, Next::After(Duration::from_secs(2)));
    for (second, wanted) in [
        (4, ["zero 59 -", "one 21 new", "two 20 -"].as_slice()),
        (6, &["zero 39 -", "one 41 new", "two 20 -"]),
        (8, &["zero 19 -", "one 61 new", "two 20 -"]),
        (10, &["one 80 new", "two 20 -"]),
    ] {
        let plan = run_with(&route, &table(&route), &settings, &no_certificate, at(second));
        route.status = plan.status;
        assert_eq!(shown(route.status.as_ref().unwrap()), wanted);
    }
    let plan = run_with(&route, &table(&route), &settings, &no_certificate, at(10));
    assert_eq!(plan.next, Next::OnChange);
    assert_eq!(says(&plan.status.unwrap(), "Ready").0, "True");
}

#[test]
fn certificates_decide_about_https() {
    let ready = |_: &str, _: Option<&str>| CertificateState::Ready;
    let traffic = json!([{ "revisionName": "one", "percent": 100, "tag": "t" }]);
    let plain = route(traffic.clone(), json!({}));
    let local = route(
        traffic,
        json!({ "networking.knative.dev/visibility": "cluster-local" }),
    );
    let mut opted_out = plain.clone();
    opted_out.metadata.annotations = Some(BTreeMap::from([(
        "networking.knative.dev/disable-external-domain-tls".to_owned(),
        "true".to_owned(),
    )]));
    let on = [("external-domain-tls", "Enabled")];
    let strict = [
        ("external-domain-tls", "Enabled"),
        ("http-protocol", "Redirected"),
    ];
    type Certificate<'a> = &'a dyn Fn(&str, Option<&str>) -> CertificateState;
    type Case<'a> = (
        &'a Route,
        &'a [(&'a str, &'a str)],
        Certificate<'a>,
        &'a str,
        &'a str,
        &'a str,
    );
    let cases: [Case<'_>; 7] = [
        (&plain, &[], &ready, "True", "TLSNotEnabled", "http"),
        (&plain, &on, &ready, "True", "", "https"),
        (&plain, &on, &no_certificate, "True", "HTTPDowngrade", "http"),
        (
            &plain,
            &strict,
            &no_certificate,
            "Unknown",
            "CertificateNotReady",
            "https",
        ),
        (&plain, &strict, &ready, "True", "", "https"),
        (&local, &on, &ready, "True", "TLSNotEnabled", "http"),
        (&opted_out, &on, &ready, "True", "TLSNotEnabled", "http"),
    ];
    for (route, pairs, certificate, status, reason, scheme) in cases {
        let settings = settings("config-network", pairs);
        let plan = run_with(
            route,
            &RoutingTable::default(),
            &settings,
            certificate,
            Timestamp::UNIX_EPOCH,
        );
        let got = plan.status.unwrap();
        let said = says(&got, "CertificateProvisioned");
        assert_eq!((said.0, said.1.as_str()), (status, reason), "{pairs:?}");
        for url in [got.url.as_deref(), got.traffic[0].url.as_deref()] {
            assert!(url.unwrap().starts_with(&format!("{scheme}://")), "{url:?}");
        }
    }
}

#[test]
fn a_template_that_gives_no_host_is_told() {
    let settings = settings(
        "config-network",
        &[("domain-template", "{{.Name}}.{{.Labels.team}}.{{.Domain}}")],
    );
    let traffic = json!([{ "revisionName": "one", "percent": 100 }]);
    let plan = run_with(
        &route(traffic, json!({})),
        &RoutingTable::default(),
        &settings,
        &no_certificate,
        Timestamp::UNIX_EPOCH,
    );
    assert_eq!(says(&plan.status.unwrap(), "IngressReady").1, "ErrorConfig");
}
