//! Tables for the plan of a Configuration.

use super::*;
use kittiwake_api::condition::find;
use serde_json::json;

fn configuration(generation: i64, name: Option<&str>) -> Configuration {
    serde_json::from_value(json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Configuration",
        "metadata": {
            "name": "hello", "namespace": "default", "uid": "cfg-uid", "generation": generation,
            "labels": { "serving.knative.dev/service": "hello", "serving.knative.dev/serviceUID": "svc-uid", "x": "y" },
            "annotations": { "serving.knative.dev/creator": "ann", "serving.knative.dev/lastModifier": "bob" },
        },
        "spec": { "template": {
            "metadata": { "name": name, "labels": { "own": "label" }, "annotations": { "own": "annotation" } },
            "spec": { "containers": [{ "name": "c", "image": format!("image-{generation}") }] },
        } },
    }))
    .unwrap()
}

/// The Revision of a generation with its Ready condition.
fn revision(generation: i64, ready: &str, message: &str) -> Arc<Revision> {
    let mut revision = new_revision(&configuration(generation, None), Timestamp::UNIX_EPOCH);
    revision.status = serde_json::from_value(
        json!({ "conditions": [{ "type": "Ready", "status": ready, "reason": "ContainerMissing", "message": message }] }),
    )
    .unwrap();
    Arc::new(revision)
}

fn step(configuration: &mut Configuration, revisions: &[Arc<Revision>]) -> Plan {
    let named = revisions
        .iter()
        .find(|r| r.name_str() == wanted_name(configuration));
    let plan = plan(
        configuration,
        revisions,
        named.map(|r| &**r),
        Timestamp::UNIX_EPOCH,
    );
    if let Some(status) = &plan.status {
        configuration.status = Some(status.clone());
    }
    plan
}

fn says(configuration: &Configuration) -> (&'static str, &str, &str) {
    let ready = find(&configuration.status.as_ref().unwrap().conditions, READY).unwrap();
    (ready.status.as_str(), &ready.reason, &ready.message)
}

fn latest(configuration: &Configuration) -> (Option<&str>, Option<&str>) {
    let status = configuration.status.as_ref().unwrap();
    (
        status.latest_created_revision_name.as_deref(),
        status.latest_ready_revision_name.as_deref(),
    )
}

#[test]
fn a_generation_makes_its_revision() {
    let mut configuration = configuration(1, None);
    let plan = step(&mut configuration, &[]);
    let revision = plan.create.unwrap();
    assert_eq!(revision.name_str(), "hello-00001");
    assert_eq!(revision.spec, configuration.spec.template.spec);
    for (key, value) in [
        ("serving.knative.dev/service", "hello"),
        ("serving.knative.dev/serviceUID", "svc-uid"),
        ("serving.knative.dev/configuration", "hello"),
        ("serving.knative.dev/configurationUID", "cfg-uid"),
        ("serving.knative.dev/configurationGeneration", "1"),
        ("serving.knative.dev/routingState", "pending"),
        ("own", "label"),
    ] {
        assert_eq!(revision.label(key), Some(value), "{key}");
    }
    assert_eq!(
        revision.label("x"),
        None,
        "labels of the Configuration itself stay there"
    );
    assert_eq!(
        revision.annotation("serving.knative.dev/creator"),
        Some("bob"),
        "who changed it made the Revision"
    );
    assert_eq!(
        revision.annotation("serving.knative.dev/routingStateModified"),
        Some("1970-01-01T00:00:00Z")
    );
    assert!(is_controlled_by(&*revision, &configuration));
    assert_eq!(
        (says(&configuration).0, latest(&configuration)),
        ("Unknown", (Some("hello-00001"), None))
    );
}

#[test]
fn the_latest_ready_follows_success_and_never_failure() {
    let mut config = configuration(1, None);
    step(&mut config, &[]);
    assert_eq!(
        step(&mut config, &[revision(1, "Unknown", "")]).status,
        None,
        "nothing to say yet"
    );
    let plan = step(&mut config, &[revision(1, "True", "")]);
    let reasons: Vec<_> = plan.notices.iter().map(|n| n.reason).collect();
    assert_eq!(reasons, ["LatestReadyUpdate", "ConfigurationReady"]);
    assert_eq!(
        (says(&config).0, latest(&config)),
        ("True", (Some("hello-00001"), Some("hello-00001")))
    );

    config = Configuration {
        status: config.status.clone(),
        ..configuration(2, None)
    };
    assert_eq!(
        step(&mut config, &[revision(1, "True", "")])
            .create
            .unwrap()
            .name_str(),
        "hello-00002"
    );
    assert_eq!(
        (says(&config).0, latest(&config)),
        ("Unknown", (Some("hello-00002"), Some("hello-00001")))
    );
    step(
        &mut config,
        &[revision(1, "True", ""), revision(2, "False", "no such image")],
    );
    assert_eq!(
        says(&config),
        (
            "False",
            "RevisionFailed",
            "Revision \"hello-00002\" failed with message: no such image."
        )
    );
    assert_eq!(latest(&config).1, Some("hello-00001"));
    let again = step(
        &mut config,
        &[revision(1, "True", ""), revision(2, "False", "no such image")],
    );
    assert_eq!((again.status, again.notices), (None, vec![]));

    step(&mut config, &[revision(1, "True", ""), revision(2, "True", "")]);
    assert_eq!(
        (says(&config).0, latest(&config).1),
        ("True", Some("hello-00002"))
    );
}

#[test]
fn an_older_revision_that_becomes_ready_late_is_used_but_nothing_goes_back() {
    let mut config = configuration(3, None);
    let all = |two, three| {
        [
            revision(1, "True", ""),
            revision(2, two, ""),
            revision(3, three, ""),
        ]
    };
    step(&mut config, &all("Unknown", "Unknown"));
    assert_eq!(latest(&config).1, Some("hello-00001"));
    step(&mut config, &all("True", "Unknown"));
    assert_eq!(
        (says(&config).0, latest(&config).1),
        ("Unknown", Some("hello-00002"))
    );
    step(&mut config, &all("Unknown", "Unknown"));
    assert_eq!(latest(&config).1, Some("hello-00002"), "not back to 1");
}

#[test]
fn a_ready_revision_that_fails_and_recovers_is_followed() {
    let mut config = configuration(1, None);
    step(&mut config, &[revision(1, "True", "")]);
    step(&mut config, &[revision(1, "False", "trap")]);
    assert_eq!(
        (says(&config).1, latest(&config).1),
        ("RevisionFailed", Some("hello-00001"))
    );
    step(&mut config, &[revision(1, "True", "")]);
    assert_eq!(says(&config).0, "True");
}

#[test]
fn a_deleted_latest_ready_revision_is_named() {
    let mut config = configuration(2, None);
    step(
        &mut config,
        &[revision(1, "True", ""), revision(2, "Unknown", "")],
    );
    step(&mut config, &[revision(2, "Unknown", "")]);
    assert_eq!(
        says(&config),
        (
            "False",
            "RevisionDeleted",
            "Revision \"hello-00001\" was deleted."
        )
    );
}

#[test]
fn chosen_names_are_checked() {
    let mine = configuration(2, Some("hello-mine"));
    let mut revision = new_revision(&mine, Timestamp::UNIX_EPOCH);
    assert_eq!(
        (revision.name_str(), check_name(&mine, None)),
        ("hello-mine", NameCheck::Free)
    );
    assert_eq!(check_name(&mine, Some(&revision)), NameCheck::Ours);
    // A new generation under the old name: fine with the same spec, refused with another.
    let same = Configuration {
        spec: mine.spec.clone(),
        ..configuration(3, Some("hello-mine"))
    };
    assert_eq!(check_name(&same, Some(&revision)), NameCheck::Ours);
    let mut defaulted = revision.clone();
    defaulted.spec.pod_spec.enable_service_links = Some(false);
    assert_eq!(check_name(&same, Some(&defaulted)), NameCheck::Ours);
    defaulted.spec.pod_spec.enable_service_links = Some(true);
    assert_eq!(check_name(&same, Some(&defaulted)), NameCheck::Taken);
    assert_eq!(
        check_name(&configuration(3, Some("hello-mine")), Some(&revision)),
        NameCheck::Taken
    );
    revision.metadata.owner_references = None;
    assert_eq!(check_name(&mine, Some(&revision)), NameCheck::Taken);
    let mut config = mine;
    let plan = step(&mut config, &[Arc::new(revision)]);
    assert_eq!(plan.create, None);
    assert_eq!(
        says(&config).2,
        "Revision creation failed with message: revisions.serving.knative.dev \"hello-mine\" already exists."
    );
}
