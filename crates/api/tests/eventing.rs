//! Admission of the eventing kinds, DomainMapping and Gatekeeper's: what passes, what is refused and in which words.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the helpers of tests fail by panicking"
)]

use kittiwake_api::admission::{Operation, Request, admit};
use kittiwake_api::eventing::event_type;
use kittiwake_api::gatekeeper::{ConstraintTemplate, constraint};
use serde_json::{Value, json};

fn call(object: &mut Value, old: Option<&Value>) -> Result<Vec<String>, String> {
    let api_version = object["apiVersion"].as_str().unwrap().to_owned();
    let kind = object["kind"].as_str().unwrap().to_owned();
    let request = Request {
        api_version: &api_version,
        kind: &kind,
        operation: old.map_or(Operation::Create, |_| Operation::Update),
        subresource: None,
        old,
        user: "ann",
        dry_run: false,
        settings: kittiwake_api::config::Settings::stock(),
    };
    admit(&request, object).map_err(|errors| errors.to_string().replacen("validation failed: ", "", 1))
}

/// An object of the namespace `default` after admission.
fn admitted(api_version: &str, kind: &str, spec: Value) -> Value {
    let mut object = object(api_version, kind, spec);
    call(&mut object, None).expect("admitted");
    object
}

fn object(api_version: &str, kind: &str, spec: Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a.example.com", "namespace": "default"}, "spec": spec})
}

fn refusal(api_version: &str, kind: &str, spec: Value) -> String {
    call(&mut object(api_version, kind, spec), None).expect_err("refused")
}

const EVENTING: &str = "eventing.knative.dev/v1";
const MESSAGING: &str = "messaging.knative.dev/v1";
const FLOWS: &str = "flows.knative.dev/v1";
const SOURCES: &str = "sources.knative.dev/v1";
const SERVING: &str = "serving.knative.dev/v1beta1";

fn sink() -> Value {
    json!({"ref": {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "hello"}})
}

fn with(mut spec: Value, field: &str, value: Value) -> Value {
    spec[field] = value;
    spec
}

#[test]
fn defaults_are_knatives() {
    let two = json!([{"ref": {"apiVersion": "v1", "kind": "Service", "name": "one"}}, {"uri": "http://two.example.com"}]);
    insta::assert_json_snapshot!([
        admitted(EVENTING, "Broker", json!({})),
        admitted(
            EVENTING,
            "Trigger",
            json!({"broker": "default", "subscriber": sink()})
        ),
        admitted(MESSAGING, "Channel", json!({})),
        admitted(
            MESSAGING,
            "InMemoryChannel",
            json!({"delivery": {"deadLetterSink": sink()}})
        ),
        admitted(
            MESSAGING,
            "Subscription",
            json!({"channel": {"apiVersion": MESSAGING, "kind": "Channel", "name": "c"}, "subscriber": sink(), "reply": null})
        ),
        admitted(FLOWS, "Sequence", json!({"steps": two})),
        admitted(
            FLOWS,
            "Parallel",
            json!({"branches": [{"subscriber": sink(), "filter": sink()}]})
        ),
        admitted(SOURCES, "PingSource", json!({"sink": sink()})),
        admitted(
            SOURCES,
            "ApiServerSource",
            json!({"sink": sink(), "resources": [{"apiVersion": "v1", "kind": "Event"}]})
        ),
        admitted(
            SOURCES,
            "ContainerSource",
            json!({"sink": sink(), "template": {"spec": {"containers": [{"image": "busybox"}, {"image": "busybox"}]}}})
        ),
        admitted(
            SOURCES,
            "SinkBinding",
            json!({"sink": sink(), "subject": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}})
        ),
        admitted(SERVING, "DomainMapping", sink()),
    ]);
}

#[test]
fn a_broker_has_rules() {
    for (spec, wanted) in [
        (
            json!({"config": {"kind": "ConfigMap"}}),
            "missing field(s): spec.config.apiVersion, spec.config.name",
        ),
        (
            json!({"delivery": {"retry": -1}}),
            "invalid value: -1: spec.delivery.retry",
        ),
        (
            json!({"delivery": {"timeout": "10s"}}),
            "invalid value: 10s: spec.delivery.timeout",
        ),
        (
            json!({"delivery": {"timeout": "PT0S"}}),
            "invalid value: PT0S: spec.delivery.timeout",
        ),
        (
            json!({"delivery": {"backoffPolicy": "fast", "backoffDelay": "x"}}),
            "invalid value: fast: spec.delivery.backoffPolicy\ninvalid value: x: spec.delivery.backoffDelay",
        ),
        (
            json!({"delivery": {"retryAfterMax": "PT1S"}}),
            "must not set the field(s): spec.delivery.retryAfterMax",
        ),
        (
            json!({"delivery": {"deadLetterSink": {"uri": "/x"}}}),
            "invalid value: Relative URI is not allowed when Ref and [apiVersion, kind, name] is absent: spec.delivery.deadLetterSink.uri",
        ),
    ] {
        assert_eq!(refusal(EVENTING, "Broker", spec.clone()), wanted, "{spec}");
    }
}

#[test]
fn what_must_not_change_does_not() {
    let broker = admitted(EVENTING, "Broker", json!({}));
    let mut other = broker.clone();
    other["metadata"]["annotations"]["eventing.knative.dev/broker.class"] = json!("Kafka");
    assert_eq!(
        call(&mut other, Some(&broker)).unwrap_err(),
        "Immutable annotations changed (-old +new): annotations\n{string}:\n\t-: \"MTChannelBasedBroker\"\n\t+: \"Kafka\"\n"
    );
    let mut other = broker.clone();
    other["spec"]["config"] = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "c"});
    assert!(
        call(&mut other, Some(&broker))
            .unwrap_err()
            .starts_with("Immutable fields changed (-old +new): spec\n{spec.config}:")
    );
    let mut other = broker.clone();
    other["spec"]["delivery"] = json!({"retry": 1});
    call(&mut other, Some(&broker)).expect("delivery may change");

    let trigger = admitted(EVENTING, "Trigger", json!({"broker": "a", "subscriber": sink()}));
    let mut other = trigger.clone();
    other["spec"]["broker"] = json!("b");
    assert_eq!(
        call(&mut other, Some(&trigger)).unwrap_err(),
        "Immutable fields changed (-old +new): spec.broker\n{spec.broker}:\n\t-: \"a\"\n\t+: \"b\"\n"
    );
    let subscription = admitted(
        MESSAGING,
        "Subscription",
        json!({"channel": {"apiVersion": MESSAGING, "kind": "Channel", "name": "c"}, "subscriber": sink()}),
    );
    let mut other = subscription.clone();
    other["spec"]["channel"]["name"] = json!("d");
    assert!(
        call(&mut other, Some(&subscription))
            .unwrap_err()
            .contains("{spec.channel.name}")
    );
    let mut other = subscription.clone();
    other["spec"]["subscriber"] = json!({"uri": "http://x.y"});
    call(&mut other, Some(&subscription)).expect("the subscriber may change");
}

#[test]
fn a_trigger_has_rules() {
    let spec = json!({"broker": "default", "subscriber": sink()});
    for (spec, wanted) in [
        (json!({"subscriber": sink()}), "missing field(s): spec.broker"),
        (
            json!({"broker": "b"}),
            "expected at least one, got none: spec.subscriber.ref, spec.subscriber.uri",
        ),
        (
            with(spec.clone(), "filter", json!({"attributes": {"Type": "x"}})),
            "invalid key name \"Type\": spec.filter.attributes[Type]\nAttribute name must start with a letter and can only contain lowercase alphanumeric",
        ),
        (
            with(
                spec.clone(),
                "filters",
                json!([{"exact": {"type": "a"}, "suffix": {"type": "b"}}]),
            ),
            "multiple dialects found, filters can have only one dialect: spec.filters[0]",
        ),
        (
            with(
                spec.clone(),
                "filters",
                json!([{"any": [{"not": {"prefix": {"a-b": "x"}}}]}]),
            ),
            "invalid key name \"a-b\": spec.filters[0].any[0].not.prefix[a-b]\nAttribute name must start with a letter and can only contain lowercase alphanumeric",
        ),
        (
            with(spec.clone(), "filters", json!([{"exakt": {}}])),
            "invalid key name \"exakt\": spec.filters[0]\na filter is one of: exact, prefix, suffix, all, any, not, cesql",
        ),
        (
            json!({"broker": "b", "subscriber": {"ref": {"apiVersion": "v1", "kind": "Service", "name": "s", "namespace": "other"}}}),
            "mismatched namespaces: spec.subscriber.ref.namespace\nparent namespace: \"default\" does not match ref: \"other\"",
        ),
    ] {
        assert_eq!(refusal(EVENTING, "Trigger", spec.clone()), wanted, "{spec}");
    }
    for (key, value, wanted) in [
        (
            "knative.dev/dependency",
            "{\"kind\": \"PingSource\", \"namespace\": \"x\"}",
            "Namespace must be empty or equal to the trigger namespace \"default\": metadata.annotations.knative.dev/dependency.namespace\nmissing field(s): metadata.annotations.knative.dev/dependency.apiVersion, metadata.annotations.knative.dev/dependency.name",
        ),
        (
            "eventing.knative.dev/injection",
            "yes",
            "The provided injection annotation value can only be \"enabled\" or \"disabled\", not \"yes\": metadata.annotations.eventing.knative.dev/injection",
        ),
    ] {
        let mut trigger = object(EVENTING, "Trigger", spec.clone());
        trigger["metadata"]["annotations"] = json!({ key: value });
        assert_eq!(call(&mut trigger, None).unwrap_err(), wanted);
    }
    let deep = (0..20).fold(json!({"exact": {"type": "x"}}), |inner, _| json!({"not": inner}));
    assert!(
        refusal(EVENTING, "Trigger", with(spec, "filters", json!([deep])))
            .starts_with("filters are nested deeper than 16")
    );
}

#[test]
fn event_types_have_rules_and_two_shapes() {
    let old = "eventing.knative.dev/v1beta2";
    assert_eq!(
        refusal(old, "EventType", json!({})),
        "missing field(s): spec.type"
    );
    assert_eq!(
        refusal(
            event_type::V1BETA3,
            "EventType",
            json!({"attributes": [{"name": "type"}]})
        ),
        "missing field(s): spec.attributes.id, spec.attributes.source, spec.attributes.specversion"
    );
    let stored = admitted(
        old,
        "EventType",
        json!({"type": "t", "source": "/s", "description": "d"}),
    );
    let new = event_type::to_v1beta3(&stored);
    assert_eq!(new["apiVersion"], event_type::V1BETA3);
    assert_eq!(
        new["spec"]["attributes"][0],
        json!({"name": "type", "value": "t", "required": true})
    );
    assert_eq!(event_type::from_v1beta3(&new), stored);
    let mut other = stored.clone();
    other["spec"]["source"] = json!("/other");
    assert!(
        call(&mut other, Some(&stored))
            .unwrap_err()
            .starts_with("Immutable fields changed")
    );
}

#[test]
fn channels_and_flows_have_rules() {
    for (api_version, kind, spec, wanted) in [
        (
            MESSAGING,
            "Channel",
            json!({"channelTemplate": {"kind": "K"}}),
            "missing field(s): spec.channelTemplate.apiVersion",
        ),
        (
            MESSAGING,
            "Channel",
            json!({"subscribers": [{"uid": "u"}]}),
            "must not set the field(s): spec.subscribable.subscribers",
        ),
        (
            MESSAGING,
            "InMemoryChannel",
            json!({"subscribers": [{}]}),
            "missing field(s): spec.subscribable.subscriber[0].replyURI, spec.subscribable.subscriber[0].subscriberURI\nexpected at least one of, got none",
        ),
        (
            MESSAGING,
            "Subscription",
            json!({}),
            "missing field(s): spec.channel\nthe Subscription must reference a channel",
        ),
        (
            MESSAGING,
            "Subscription",
            json!({"channel": {"apiVersion": MESSAGING, "kind": "Channel", "name": "c"}}),
            "missing field(s): spec.reply, spec.subscriber\nthe Subscription must reference at least one of (reply or a subscriber)",
        ),
        (FLOWS, "Sequence", json!({}), "missing field(s): spec.steps"),
        (
            FLOWS,
            "Sequence",
            json!({"steps": [{"uri": "x"}], "channelTemplate": {"apiVersion": "v1"}}),
            "invalid value: Relative URI is not allowed when Ref and [apiVersion, kind, name] is absent: spec.steps[0].uri\nmissing field(s): spec.channelTemplate.kind",
        ),
        (FLOWS, "Parallel", json!({}), "missing field(s): spec.branches"),
        (
            FLOWS,
            "Parallel",
            json!({"branches": [{"filter": sink()}]}),
            "expected at least one, got none: spec.branches[0].subscriber.ref, spec.branches[0].subscriber.uri",
        ),
    ] {
        assert_eq!(refusal(api_version, kind, spec.clone()), wanted, "{kind} {spec}");
    }
}

#[test]
fn sources_have_rules() {
    let ping = json!({"sink": sink()});
    let subject = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    for (kind, spec, wanted) in [
        (
            "PingSource",
            json!({}),
            "expected at least one, got none: spec.sink.ref, spec.sink.uri",
        ),
        (
            "PingSource",
            with(ping.clone(), "schedule", json!("* * * *")),
            "invalid value: expected 5 to 6 fields, found 4: [* * * *]: spec.schedule",
        ),
        (
            "PingSource",
            with(ping.clone(), "schedule", json!("@every 1m")),
            "invalid value: unsupported descriptor @every: spec.schedule",
        ),
        (
            "PingSource",
            with(
                with(ping.clone(), "data", json!("x")),
                "dataBase64",
                json!("eA=="),
            ),
            "expected exactly one, got both: spec.data, spec.dataBase64",
        ),
        (
            "PingSource",
            with(ping.clone(), "dataBase64", json!("%")),
            "invalid value: Invalid symbol 37, offset 0.: spec.dataBase64",
        ),
        (
            "PingSource",
            with(
                with(ping.clone(), "data", json!("x")),
                "contentType",
                json!("application/json"),
            ),
            "invalid value: expected value at line 1 column 1: spec.data",
        ),
        (
            "PingSource",
            with(ping.clone(), "ceOverrides", json!({"extensions": {"a-b": "c"}})),
            "invalid key name \"a-b\": spec.ceOverrides.extensions\nkeys are expected to be alphanumeric",
        ),
        (
            "ApiServerSource",
            json!({"sink": sink(), "mode": "All", "resources": [{"apiVersion": "a/b/c"}]}),
            "invalid value: All: spec.mode\ninvalid value: a/b/c: spec.resources[0].apiVersion\nmissing field(s): spec.resources[0].kind",
        ),
        (
            "ApiServerSource",
            json!({"sink": sink()}),
            "missing field(s): spec.resources",
        ),
        (
            "ContainerSource",
            json!({"sink": sink()}),
            "missing field(s): spec.containers",
        ),
        (
            "ContainerSource",
            json!({"sink": sink(), "template": {"spec": {"containers": [{"name": "a"}]}}}),
            "missing field(s): spec.containers[0].image",
        ),
        (
            "SinkBinding",
            json!({"sink": sink()}),
            "expected exactly one, got neither: spec.subject.name, spec.subject.selector\nmissing field(s): spec.subject.apiVersion, spec.subject.kind, spec.subject.namespace",
        ),
        (
            "SinkBinding",
            json!({"sink": sink(), "subject": with(subject.clone(), "selector", json!({}))}),
            "expected exactly one, got both: spec.subject.name, spec.subject.selector",
        ),
        (
            "SinkBinding",
            json!({"sink": sink(), "subject": with(subject, "namespace", json!("other"))}),
            "invalid value: other: spec.subject.namespace",
        ),
    ] {
        assert_eq!(refusal(SOURCES, kind, spec.clone()), wanted, "{kind} {spec}");
    }
    if !jiff::tz::db().is_definitively_empty() {
        assert_eq!(
            refusal(
                SOURCES,
                "PingSource",
                with(ping.clone(), "timezone", json!("Mars/Olympus"))
            ),
            "invalid value: provided bad location Mars/Olympus: unknown time zone Mars/Olympus: spec.timezone"
        );
        admitted(
            SOURCES,
            "PingSource",
            with(ping, "timezone", json!("Europe/Paris")),
        );
    }
}

#[test]
fn a_domain_mapping_has_rules() {
    let mapping = |name: &str| {
        let mut mapping = object(SERVING, "DomainMapping", sink());
        mapping["metadata"]["name"] = json!(name);
        mapping
    };
    for (mut mapping, wanted) in [
        (
            mapping("local"),
            "invalid name \"local\": [should be a domain with at least two segments separated by dots]: metadata.name",
        ),
        (
            mapping("a.svc.cluster.local"),
            "invalid name \"a.svc.cluster.local\": must not be a subdomain of cluster local domain \"cluster.local\": metadata.name",
        ),
        (
            object(SERVING, "DomainMapping", json!({})),
            "missing field(s): spec.ref.apiVersion, spec.ref.kind, spec.ref.name",
        ),
        (
            object(
                SERVING,
                "DomainMapping",
                json!({"ref": {"apiVersion": "v1", "kind": "S", "name": "s", "namespace": "x"}}),
            ),
            "mismatched namespaces: spec.ref.namespace\nparent namespace: \"default\" does not match ref: \"x\"",
        ),
    ] {
        assert_eq!(call(&mut mapping, None).unwrap_err(), wanted);
    }
    let first = admitted(SERVING, "DomainMapping", sink());
    let mut second = first.clone();
    second["metadata"]["annotations"]["serving.knative.dev/creator"] = json!("bob");
    assert!(
        call(&mut second, Some(&first))
            .unwrap_err()
            .contains("annotation value is immutable")
    );
}

const TEMPLATES: &str = "templates.gatekeeper.sh/v1";

fn template() -> Value {
    json!({
        "apiVersion": TEMPLATES, "kind": "ConstraintTemplate", "metadata": {"name": "requiredlabels"},
        "spec": {
            "crd": {"spec": {"names": {"kind": "RequiredLabels"}, "validation": {"openAPIV3Schema": {"type": "object", "properties": {
                "labels": {"type": "array", "items": {"type": "string"}}}}}}},
            "targets": [{"target": "admission.k8s.gatekeeper.sh", "rego": "# labels\npackage requiredlabels\n\nviolation[{\"msg\": msg}] { msg := \"no\" }\n"}],
        },
    })
}

fn template_with(pointer: &str, value: Value) -> Value {
    let mut template = template();
    *template.pointer_mut(pointer).unwrap() = value;
    template
}

#[test]
fn a_constraint_template_has_rules() {
    let mut good = template();
    call(&mut good, None).expect("admitted");
    assert_eq!(good["spec"]["crd"]["spec"]["validation"]["legacySchema"], false);
    let target = &good["spec"]["targets"][0];
    for (mut template, wanted) in [
        (
            template_with("/metadata/name", json!("other")),
            "template's name other is not equal to the lowercase of CRD's Kind: requiredlabels: spec.crd.spec.names.kind",
        ),
        (
            template_with("/spec/crd/spec/names", json!({})),
            "missing field(s): spec.crd.spec.names.kind",
        ),
        (
            template_with("/spec/crd/spec/names/kind", json!("a-b")),
            "invalid value: a-b: spec.crd.spec.names.kind\na kind is at most 63 letters and digits, and begins with a letter",
        ),
        (
            template_with("/spec/targets", json!([])),
            "expected exactly 1 item in targets, got 0: spec.targets",
        ),
        (
            template_with("/spec/targets", json!([target, target])),
            "expected exactly 1 item in targets, got 2: spec.targets",
        ),
        (
            template_with("/spec/targets/0/target", json!("other")),
            "invalid value: other: spec.targets[0].target\nthe only target is admission.k8s.gatekeeper.sh",
        ),
        (
            template_with("/spec/targets/0/rego", json!("")),
            "expected exactly one, got neither: spec.targets[0].code, spec.targets[0].rego",
        ),
        (
            template_with("/spec/targets/0/rego", json!("violation[x] { true }")),
            "the policy must begin with its package, such as: package policy: spec.targets[0].rego",
        ),
        (
            template_with("/spec/targets/0/rego", json!("package a\ndeny[x] { true }")),
            "the policy must define the rule violation: spec.targets[0].rego",
        ),
        (
            template_with(
                "/spec/targets/0",
                json!({"target": "admission.k8s.gatekeeper.sh", "code": [{"engine": "Lua"}, {"engine": "Rego", "source": {}}, {"engine": "K8sNativeValidation", "source": {}}]}),
            ),
            "invalid value: Lua: spec.targets[0].code[0].engine\nmust be one of: Rego, K8sNativeValidation\nmissing field(s): spec.targets[0].code[1].source.rego, spec.targets[0].code[2].source.validations",
        ),
    ] {
        assert_eq!(call(&mut template, None).unwrap_err(), wanted);
    }
}

#[test]
fn a_template_makes_a_definition() {
    let template: ConstraintTemplate = serde_json::from_value(template()).unwrap();
    let crd = serde_json::to_value(constraint::definition(&template).unwrap()).unwrap();
    assert_eq!(
        crd["metadata"]["name"],
        "requiredlabels.constraints.gatekeeper.sh"
    );
    assert_eq!(
        crd["spec"]["names"]["categories"],
        json!(["constraint", "constraints"])
    );
    let version = &crd["spec"]["versions"][0];
    let spec = &version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    assert_eq!(spec["parameters"]["properties"]["labels"]["type"], "array");
    assert_eq!(
        version["additionalPrinterColumns"][0]["name"],
        "enforcement-action"
    );

    let mut old = json!({"apiVersion": "templates.gatekeeper.sh/v1beta1", "kind": "ConstraintTemplate"});
    old["metadata"] = json!({"name": "requiredlabels"});
    old["spec"] = serde_json::to_value(&template.spec).unwrap();
    old["spec"]["crd"]["spec"]["validation"]["openAPIV3Schema"] = json!({"properties": {"any": {}}});
    call(&mut old, None).expect("admitted");
    let crd = constraint::definition(&serde_json::from_value(old).unwrap()).unwrap();
    let crd = serde_json::to_value(crd).unwrap();
    let parameters = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/parameters";
    assert_eq!(crd.pointer(parameters).unwrap()["type"], "object");
}

#[test]
fn a_constraint_says_what_follows() {
    let api_version = "constraints.gatekeeper.sh/v1beta1";
    let constraint = admitted(api_version, "RequiredLabels", json!({}));
    assert_eq!(constraint["spec"]["enforcementAction"], "deny");
    for (spec, wanted) in [
        (
            json!({"enforcementAction": "shout"}),
            "invalid value: shout: spec.enforcementAction\nsupported: deny, dryrun, warn, scoped",
        ),
        (
            json!({"enforcementAction": "scoped"}),
            "missing field(s): spec.scopedEnforcementActions",
        ),
    ] {
        assert_eq!(refusal(api_version, "RequiredLabels", spec), wanted);
    }
}
