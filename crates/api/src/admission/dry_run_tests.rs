//! Tables for the dry run of pods.

use super::*;
use crate::admission::Operation;
use crate::config::{Data, Settings};
use serde_json::json;

fn service(mode: &str, spec: Value) -> Value {
    json!({"metadata": {"name": "hello", "namespace": "ns", "annotations": {meta::POD_DRY_RUN_ANNOTATION: mode}},
        "spec": {"template": {"spec": spec}}})
}

fn settings(flag: &str) -> Settings {
    let mut settings = Settings::default();
    let data = Data::from([(features::POD_DRY_RUN.to_owned(), flag.to_owned())]);
    settings.set(features::NAME, Some(&data)).unwrap();
    settings
}

fn wanted(kind: &str, flag: &str, old: Option<&Value>, object: &Value) -> bool {
    let settings = settings(flag);
    let request = Request {
        api_version: "serving.knative.dev/v1",
        kind,
        operation: if old.is_some() {
            Operation::Update
        } else {
            Operation::Create
        },
        subresource: None,
        old,
        user: "ann",
        dry_run: false,
        settings: &settings,
    };
    is_wanted(&request, object)
}

#[test]
fn a_template_is_tried_when_it_changed_and_somebody_wants_it() {
    let one = json!({"containers": [{"image": "a"}]});
    for (mode, flag, tried) in [
        ("enabled", "allowed", true),
        ("strict", "allowed", true),
        ("disabled", "allowed", false),
        ("", "allowed", false),
        ("strict", "disabled", false),
        ("", "enabled", true),
    ] {
        let object = service(mode, one.clone());
        assert_eq!(wanted("Service", flag, None, &object), tried, "{mode} {flag}");
        assert!(!wanted("Service", flag, Some(&object), &object), "unchanged");
        let other = service(mode, json!({"containers": [{"image": "b"}]}));
        assert_eq!(wanted("Service", flag, Some(&other), &object), tried, "changed");
        assert_eq!(wanted("Configuration", flag, None, &object), tried);
        assert!(!wanted("Route", flag, None, &object));
        let mut owned = object;
        owned["metadata"]["labels"] = json!({meta::SERVICE_LABEL: "hello"});
        assert!(
            !wanted("Configuration", flag, None, &owned),
            "the Service was tried"
        );
    }
}

#[test]
fn refusals_have_the_form_of_a_cluster() {
    let prefix = "validation callback failed: dry run failed with ";
    let label = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    let good = json!({"name": "a"});
    for (spec, why) in [
        (json!({"containers": [good], "serviceAccountName": "there", "runtimeClassName": "there"}), None),
        (
            json!({"containers": [{"name": "&InvalidValue"}]}),
            Some(format!(
                "Pod \"dry-run-validation\" is invalid: spec.containers[0].name: Invalid value: \"&InvalidValue\": {label}"
            )),
        ),
        (
            json!({"containers": [good], "volumes": [{"name": "a", "secret": {}}, {"name": "b", "configMap": {"name": ""}}]}),
            Some(
                "Pod \"dry-run-validation\" is invalid: [spec.volumes[0].secret.secretName: Required value, spec.volumes[1].configMap.name: Required value]"
                    .to_owned(),
            ),
        ),
        (
            json!({"containers": [good], "serviceAccountName": "gone"}),
            Some("pods \"dry-run-validation\" is forbidden: error looking up service account ns/gone: serviceaccount \"gone\" not found".to_owned()),
        ),
        (
            json!({"containers": [good], "runtimeClassName": "gone"}),
            Some("pods \"dry-run-validation\" is forbidden: pod rejected: RuntimeClass \"gone\" not found".to_owned()),
        ),
    ] {
        let exists = |needed: Needed<'_>| match needed {
            Needed::ServiceAccount { namespace, name } => namespace == "ns" && name == "there",
            Needed::RuntimeClass { name } => name == "there",
        };
        let got = check(&service("strict", spec), &exists);
        assert_eq!(got.err(), why.map(|why| format!("{prefix}{why}: spec.template")));
    }
}
