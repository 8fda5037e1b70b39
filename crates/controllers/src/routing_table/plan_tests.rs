//! Tables for the routing table.

use super::*;
use crate::Config;
use crate::route::url::said_inside;
use kittiwake_api::config::Settings;
use kittiwake_core::revision::{RevisionKey, RevisionSpec};
use serde_json::{Value, json};

fn route(name: &str, second: i64, labels: Value, traffic: Value) -> Arc<Route> {
    let mut route: Route = serde_json::from_value(json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Route",
        "metadata": { "name": name, "namespace": "default", "labels": labels },
        "spec": {}, "status": { "traffic": traffic },
    }))
    .unwrap();
    let created = jiff::Timestamp::from_second(second).unwrap();
    route.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(created));
    Arc::new(route)
}

/// Every Revision can be called but those named `lost…`.
fn servable(key: &ObjectKey) -> Option<Arc<RevisionSpec>> {
    (!key.name.starts_with("lost")).then(|| {
        Arc::new(RevisionSpec::new(
            RevisionKey::new(Arc::clone(&key.namespace), Arc::clone(&key.name)),
            "u",
            "i",
        ))
    })
}

fn table(routes: &[Arc<Route>]) -> RoutingTable {
    with(routes, &[], &Settings::default())
}

fn with(routes: &[Arc<Route>], mappings: &[Arc<DomainMapping>], settings: &Settings) -> RoutingTable {
    all(routes, mappings, &[], settings)
}

fn all(
    routes: &[Arc<Route>],
    mappings: &[Arc<DomainMapping>],
    revisions: &[Arc<Revision>],
    settings: &Settings,
) -> RoutingTable {
    plan(&Sources {
        routes,
        mappings,
        revisions,
        servable: &servable,
        secret: &|_: &ObjectKey| None,
        namespace: &|_: &str| None,
        certificates: &Certificates::default(),
        naming: Naming {
            config: &Config::default(),
            settings,
            kept_inside: &said_inside,
        },
        now: Timestamp::UNIX_EPOCH,
    })
}

/// `a:70 b:30` of a host.
fn split(table: &RoutingTable, host: &str) -> String {
    let entry = table.lookup(host).unwrap_or_else(|| panic!("{host} is routed"));
    entry
        .targets
        .iter()
        .map(|t| format!("{}:{}", t.revision.key.name, t.percent))
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn every_host_of_a_route_and_its_tags_is_there() {
    let traffic = json!([
        { "revisionName": "a", "percent": 70 },
        { "revisionName": "b", "percent": 20, "tag": "next" },
        { "revisionName": "a", "percent": 10 },
        { "revisionName": "c", "tag": "old" },
    ]);
    let table = table(&[route("hello", 0, json!({}), traffic)]);
    for host in [
        "hello.default.localhost",
        "hello.default",
        "hello.default.svc",
        "hello.default.svc.cluster.local",
    ] {
        assert_eq!(split(&table, host), "a:80 b:20", "{host}");
    }
    assert_eq!(split(&table, "next-hello.default.localhost"), "b:100");
    assert_eq!(split(&table, "old-hello.default.svc"), "c:100");
    assert_eq!(table.len(), 12);
}

#[test]
fn local_routes_have_no_outer_host() {
    let labels = json!({ "networking.knative.dev/visibility": "cluster-local" });
    let table = table(&[route(
        "hello",
        0,
        labels,
        json!([{ "revisionName": "a", "percent": 100 }]),
    )]);
    assert!(table.lookup("hello.default.localhost").is_none());
    assert_eq!(split(&table, "hello.default"), "a:100");
}

#[test]
fn revisions_that_cannot_be_called_leave_their_share_to_the_others() {
    let third = json!([
        { "revisionName": "a", "percent": 30 }, { "revisionName": "b", "percent": 30 },
        { "revisionName": "lost", "percent": 40 },
    ]);
    let none = json!([{ "revisionName": "lost", "percent": 100 }]);
    let table = table(&[
        route("one", 0, json!({}), third),
        route("two", 0, json!({}), none),
    ]);
    assert_eq!(split(&table, "one.default"), "a:50 b:50");
    let entry = table.lookup("two.default").unwrap();
    assert_eq!(entry.unready.as_deref(), Some("revision lost is not ready"));
    assert!(entry.targets.is_empty());
}

#[test]
fn the_older_route_keeps_a_host_that_two_claim() {
    let tagged = route(
        "b",
        1,
        json!({}),
        json!([{ "revisionName": "tagged", "percent": 100, "tag": "a" }]),
    );
    let named = route(
        "a-b",
        2,
        json!({}),
        json!([{ "revisionName": "named", "percent": 100 }]),
    );
    assert_eq!(
        split(&table(&[named, tagged]), "a-b.default.localhost"),
        "tagged:100"
    );
}

#[test]
fn a_header_chooses_a_tag_where_that_is_switched_on() {
    let traffic = json!([
        { "revisionName": "a", "percent": 100 },
        { "revisionName": "b", "percent": 0, "tag": "next" },
        { "revisionName": "lost", "percent": 0, "tag": "lost" },
    ]);
    let routes = [route("hello", 0, json!({}), traffic)];
    let tags = |settings: &Settings, host: &str| -> Vec<String> {
        let table = with(&routes, &[], settings);
        let entry = table.lookup(host).unwrap();
        entry.by_tag.keys().map(ToString::to_string).collect()
    };
    assert!(tags(&Settings::default(), "hello.default.localhost").is_empty());
    let mut settings = Settings::default();
    let data = BTreeMap::from([("tag-header-based-routing".to_owned(), "enabled".to_owned())]);
    settings.set("config-features", Some(&data)).unwrap();
    assert_eq!(tags(&settings, "hello.default.localhost"), ["next"]);
    assert!(tags(&settings, "next-hello.default.localhost").is_empty());
}

#[test]
fn a_mapped_name_answers_as_its_route() {
    let traffic = json!([{ "revisionName": "a", "percent": 60 }, { "revisionName": "b", "percent": 40 }]);
    let routes = [route("hello", 0, json!({}), traffic)];
    let mapping = |route: &str| {
        let object = json!({
            "apiVersion": "serving.knative.dev/v1beta1", "kind": "DomainMapping",
            "metadata": { "name": "www.example.org", "namespace": "default" },
            "spec": {}, "status": { "annotations": { "kittiwake.dev/route": route } },
        });
        Arc::new(serde_json::from_value::<DomainMapping>(object).unwrap())
    };
    let table = with(&routes, &[mapping("hello")], &Settings::default());
    assert_eq!(split(&table, "www.example.org"), "a:60 b:40");
    let entry = table.lookup("www.example.org").unwrap();
    assert_eq!(
        entry.mapped_to.as_deref(),
        Some("hello.default.svc.cluster.local")
    );
    assert_eq!(entry.visibility, Visibility::External);
    let table = with(&routes, &[mapping("gone")], &Settings::default());
    assert!(table.lookup("www.example.org").is_none());
}

#[test]
fn a_name_that_its_status_has_inside_is_not_served_outside() {
    let mut shy = (*route("hello", 1, json!({}), json!([
        {"revisionName": "one", "percent": 100, "tag": "shy", "url": "http://shy-hello.default.svc.cluster.local"},
    ])))
    .clone();
    let status = shy.status.as_mut().unwrap();
    status.url = Some("http://hello.default.localhost:8080".to_owned());
    let table = table(&[Arc::new(shy)]);
    assert!(table.lookup("hello.default.localhost").is_some());
    assert!(table.lookup("shy-hello.default.localhost").is_none());
    assert!(table.lookup("shy-hello.default.svc.cluster.local").is_some());
}

#[test]
fn instances_that_stay_run_before_a_route_leads_to_them() {
    let revision = |name: &str, kind: &str, state: &str| -> Arc<Revision> {
        let revision = json!({
            "apiVersion": "serving.knative.dev/v1", "kind": "Revision",
            "metadata": { "name": name, "namespace": "default", "labels": { "serving.knative.dev/routingState": state } },
            "spec": { "containers": [] }, "status": { "annotations": { "kittiwake.dev/kind": kind } },
        });
        Arc::new(serde_json::from_value(revision).unwrap())
    };
    let revisions = [
        revision("routed", "server", "active"),
        revision("new", "server", "pending"),
        revision("old", "server", "reserve"),
        revision("percall", "component", "pending"),
        revision("lost", "server", "pending"),
    ];
    let table = all(&[], &[], &revisions, &Settings::default());
    let names: Vec<&str> = table.standing_by().map(|revision| &*revision.key.name).collect();
    assert_eq!(names, ["new", "routed"]);
}
