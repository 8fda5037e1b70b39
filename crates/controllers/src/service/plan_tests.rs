//! Tables for the plan of a Service.

use super::*;
use kittiwake_api::condition::find;
use serde_json::{Value, json};

fn service(spec: Value) -> Service {
    let mut service: Service = serde_json::from_value(json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Service",
        "metadata": {
            "name": "hello", "namespace": "default", "uid": "service-uid", "generation": 1,
            "labels": { "team": "a" },
            "annotations": {
                "note": "kept", "serving.knative.dev/creator": "ann",
                "kubectl.kubernetes.io/last-applied-configuration": "{}", "serving.knative.dev/rollout-duration": "10s",
            },
        },
        "spec": spec,
    }))
    .unwrap();
    if service.spec.traffic.is_empty() {
        service.spec.traffic = vec![TrafficTarget {
            latest_revision: Some(true),
            percent: Some(100),
            ..TrafficTarget::default()
        }];
    }
    service
}

fn plain() -> Service {
    service(json!({ "template": { "spec": { "containers": [{ "name": "user-container", "image": "x" }] } } }))
}

/// The children as planned for `service`, as if stored and processed.
fn children(service: &Service, ready: &str, latest_ready: Option<&str>) -> (Configuration, Route) {
    let plan = plan(service, &Observed::default(), Timestamp::UNIX_EPOCH);
    let (Write::Create(mut configuration), Write::Create(mut route)) = (plan.configuration, plan.route)
    else {
        panic!("children are made")
    };
    configuration.metadata.generation = Some(1);
    configuration.status = serde_json::from_value(json!({
        "observedGeneration": 1, "latestCreatedRevisionName": "hello-00001", "latestReadyRevisionName": latest_ready,
        "conditions": [{ "type": "Ready", "status": ready, "reason": "Because", "message": "of this" }],
    }))
    .unwrap();
    route.metadata.generation = Some(1);
    route.status = serde_json::from_value(json!({
        "observedGeneration": 1, "url": "http://hello", "address": { "url": "http://inner" },
        "traffic": [{ "revisionName": "hello-00001", "latestRevision": true, "percent": 100 }],
        "conditions": [{ "type": "Ready", "status": ready, "reason": "Because", "message": "of this" }],
    }))
    .unwrap();
    (configuration, route)
}

fn observed<'a>(configuration: &'a Configuration, route: &'a Route) -> Observed<'a> {
    Observed {
        configuration: Some(configuration),
        route: Some(route),
        named_revision: None,
    }
}

/// Status, reason and message of a condition.
fn says<'a>(status: &'a ServiceStatus, type_: &str) -> (&'static str, &'a str, &'a str) {
    let condition = find(&status.conditions, type_).unwrap();
    (condition.status.as_str(), &condition.reason, &condition.message)
}

#[test]
fn a_new_service_makes_its_children() {
    let plan = plan(&plain(), &Observed::default(), Timestamp::UNIX_EPOCH);
    let (Write::Create(configuration), Write::Create(route)) = (plan.configuration, plan.route) else {
        panic!()
    };
    let owner = &configuration.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((&*owner.kind, &*owner.uid), ("Service", "service-uid"));
    assert_eq!(
        (owner.controller, owner.block_owner_deletion),
        (Some(true), Some(true))
    );
    assert_eq!(
        configuration.label("serving.knative.dev/serviceUID"),
        Some("service-uid")
    );
    assert_eq!(configuration.label("team"), Some("a"));
    assert_eq!(route.label("serving.knative.dev/service"), Some("hello"));
    let keys = |object: Option<&Map>| object.unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        keys(configuration.metadata.annotations.as_ref()),
        ["note", "serving.knative.dev/creator"]
    );
    assert_eq!(
        keys(route.metadata.annotations.as_ref()),
        [
            "note",
            "serving.knative.dev/creator",
            "serving.knative.dev/rollout-duration"
        ]
    );
    let target = &route.spec.traffic[0];
    assert_eq!(
        (target.configuration_name.as_deref(), target.latest_revision),
        (Some("hello"), Some(true))
    );
    let status = plan.status.unwrap();
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(says(&status, "Ready").0, "Unknown");
    assert_eq!(says(&status, "RoutesReady").1, "OutOfDate");
}

#[test]
fn what_the_children_say_is_repeated_and_a_second_look_changes_nothing() {
    let mut service = plain();
    for (ready, wanted) in [
        ("True", ("True", "", "")),
        ("False", ("False", "Because", "of this")),
    ] {
        let (configuration, route) = children(&service, ready, Some("hello-00001"));
        let first = plan(&service, &observed(&configuration, &route), Timestamp::UNIX_EPOCH);
        assert_eq!((&first.configuration, &first.route), (&Write::Keep, &Write::Keep));
        let status = first.status.unwrap();
        assert_eq!(says(&status, "Ready"), wanted);
        assert_eq!(status.url.as_deref(), Some("http://hello"));
        assert_eq!(
            status.latest_created_revision_name.as_deref(),
            Some("hello-00001")
        );
        service.status = Some(status);
        let later = Timestamp::from_second(100).unwrap();
        let second = plan(&service, &observed(&configuration, &route), later);
        assert_eq!((second.status, second.notices), (None, vec![]));
    }
}

#[test]
fn a_failing_revision_shows_while_the_route_still_serves_the_old_one() {
    let service = plain();
    let (mut configuration, mut route) = children(&service, "True", Some("hello-00001"));
    configuration.status = serde_json::from_value(json!({
        "observedGeneration": 1, "latestCreatedRevisionName": "hello-00002", "latestReadyRevisionName": "hello-00001",
        "conditions": [{ "type": "Ready", "status": "False", "reason": "RevisionFailed", "message": "no" }],
    }))
    .unwrap();
    route.status.as_mut().unwrap().conditions[0].reason.clear();
    let status = plan(&service, &observed(&configuration, &route), Timestamp::UNIX_EPOCH)
        .status
        .unwrap();
    assert_eq!(says(&status, "Ready"), ("False", "RevisionFailed", "no"));
    assert_eq!(says(&status, "RoutesReady").0, "True");
}

#[test]
fn traffic_that_has_not_moved_is_waited_for() {
    let mut service = plain();
    let (configuration, route) = children(&service, "True", Some("hello-00002"));
    let status = plan(&service, &observed(&configuration, &route), Timestamp::UNIX_EPOCH)
        .status
        .unwrap();
    assert_eq!(
        says(&status, "Ready"),
        (
            "Unknown",
            "TrafficNotMigrated",
            "Traffic is not yet migrated to the latest revision."
        )
    );
    service.status = Some(status);
    let later = Timestamp::from_second(100).unwrap();
    assert_eq!(
        plan(&service, &observed(&configuration, &route), later).status,
        None
    );
}

#[test]
fn changes_of_the_service_reach_its_children() {
    let service = plain();
    let (configuration, route) = children(&service, "True", Some("hello-00001"));
    let mut changed = service.clone();
    changed.metadata.annotations.as_mut().unwrap().remove("note");
    let plan_meta = plan(&changed, &observed(&configuration, &route), Timestamp::UNIX_EPOCH);
    let Write::Replace(replaced) = plan_meta.configuration else {
        panic!()
    };
    assert_eq!(
        (
            replaced.annotation("note"),
            replaced.annotation(meta::CREATOR_ANNOTATION)
        ),
        (None, Some("ann"))
    );
    assert_eq!(replaced.spec, configuration.spec, "metadata makes no revision");

    let mut changed = service.clone();
    changed
        .metadata
        .annotations
        .as_mut()
        .unwrap()
        .insert(meta::LAST_MODIFIER_ANNOTATION.to_owned(), "bob".to_owned());
    assert_eq!(
        plan(&changed, &observed(&configuration, &route), Timestamp::UNIX_EPOCH).configuration,
        Write::Keep
    );

    let mut changed = service;
    changed.spec.traffic[0].tag = Some("v1".to_owned());
    let plan_traffic = plan(&changed, &observed(&configuration, &route), Timestamp::UNIX_EPOCH);
    assert!(matches!(plan_traffic.route, Write::Replace(_)) && plan_traffic.configuration == Write::Keep);
    assert_eq!(says(&plan_traffic.status.unwrap(), "RoutesReady").1, "OutOfDate");
}

#[test]
fn foreign_children_are_left_alone() {
    let service = plain();
    let (mut configuration, mut route) = children(&service, "True", Some("hello-00001"));
    route.metadata.owner_references = None;
    let plan_route = plan(&service, &observed(&configuration, &route), Timestamp::UNIX_EPOCH);
    assert_eq!(plan_route.route, Write::Keep);
    assert_eq!(
        says(&plan_route.status.unwrap(), "Ready"),
        (
            "False",
            "NotOwned",
            "There is an existing Route \"hello\" that we do not own."
        )
    );
    configuration.metadata.owner_references = None;
    let plan = plan(&service, &observed(&configuration, &route), Timestamp::UNIX_EPOCH);
    assert_eq!(plan.configuration, Write::Keep);
    assert_eq!(says(&plan.status.unwrap(), "ConfigurationsReady").1, "NotOwned");
}

#[test]
fn a_taken_revision_name_keeps_the_traffic_where_it_is() {
    let service = service(json!({
        "template": { "metadata": { "name": "hello-mine" }, "spec": { "containers": [{ "name": "c", "image": "x" }] } }
    }));
    let new = plan(&service, &Observed::default(), Timestamp::UNIX_EPOCH);
    assert_eq!(
        new.route,
        Write::Keep,
        "the Route waits for the name to be checked"
    );
    let Write::Create(mut configuration) = new.configuration else {
        panic!()
    };
    configuration.metadata.generation = Some(1);
    configuration.status = Some(serde_json::from_value(json!({ "observedGeneration": 1 })).unwrap());
    let foreign = Revision::new("hello-mine", Default::default());
    let observed = Observed {
        configuration: Some(&configuration),
        route: None,
        named_revision: Some(&foreign),
    };
    let plan = plan(&service, &observed, Timestamp::UNIX_EPOCH);
    assert_eq!(plan.route, Write::Keep);
    assert_eq!(says(&plan.status.unwrap(), "RoutesReady").1, "RevisionNameTaken");
}
