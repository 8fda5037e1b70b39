//! Admission as the API server calls it: for each rule what passes, what is refused and in which words.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the helpers of tests fail by panicking"
)]

use kittiwake_api::admission::{Operation, Request, admit};
use serde_json::{Value, json};

const SERVING: &str = "serving.knative.dev/v1";
const INTERNAL: &str = "autoscaling.internal.knative.dev/v1alpha1";
const USER: &str = "autoscaling.knative.dev/v1alpha1";

fn call(object: &mut Value, old: Option<&Value>) -> Result<Vec<String>, String> {
    let api_version = object["apiVersion"].as_str().unwrap_or(SERVING).to_owned();
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    let request = Request {
        api_version: &api_version,
        kind: &kind,
        operation: if old.is_some() {
            Operation::Update
        } else {
            Operation::Create
        },
        subresource: None,
        old,
        user: "ann",
        dry_run: false,
        settings: kittiwake_api::config::Settings::stock(),
    };
    admit(&request, object).map_err(|errors| {
        let text = errors.to_string();
        text.strip_prefix("validation failed: ")
            .expect("Knative's prefix")
            .to_owned()
    })
}

fn created(mut object: Value) -> Value {
    call(&mut object, None).expect("admitted");
    object
}

fn refusal(mut object: Value) -> String {
    call(&mut object, None).expect_err("refused")
}

fn service() -> Value {
    json!({
        "apiVersion": SERVING, "kind": "Service", "metadata": {"name": "hello"},
        "spec": {"template": {"spec": {"containers": [{"image": "ghcr.io/me/hello:v1"}]}}},
    })
}

fn route() -> Value {
    json!({
        "apiVersion": SERVING, "kind": "Route", "metadata": {"name": "hello"},
        "spec": {"traffic": [{"configurationName": "hello", "percent": 100}]},
    })
}

/// `object` with the value at `pointer` replaced, its parents made where missing.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let mut place = &mut object;
    for part in pointer.trim_start_matches('/').split('/') {
        let part = part.replace("~1", "/");
        place = match part.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => &mut place[part],
        };
    }
    *place = value;
    object
}

const CONTAINER: &str = "/spec/template/spec/containers/0";

fn with_container(field: &str, value: Value) -> Value {
    with(service(), &format!("{CONTAINER}/{field}"), value)
}

fn with_template(field: &str, value: Value) -> Value {
    with(service(), &format!("/spec/template/spec/{field}"), value)
}

fn with_annotation(key: &str, value: &str) -> Value {
    with(
        service(),
        "/spec/template/metadata/annotations",
        json!({ key: value }),
    )
}

#[test]
fn a_service_gets_knatives_defaults() {
    insta::assert_json_snapshot!(created(service()));
}

#[test]
fn a_configuration_a_route_and_a_revision_get_theirs() {
    let configuration = json!({
        "apiVersion": SERVING, "kind": "Configuration", "metadata": {"name": "hello"},
        "spec": {"template": {"metadata": {"creationTimestamp": null}, "spec": {"timeoutSeconds": 600, "containers": [
            {"image": "busybox", "ports": [{"containerPort": 9000, "name": "h2c"}], "readinessProbe": {"httpGet": {"path": "/"}, "periodSeconds": 10},
             "volumeMounts": [{"name": "s", "mountPath": "/s"}, {"name": "e", "mountPath": "/e"}], "resources": {"limits": {"cpu": 1, "memory": "1Gi"}}},
            {"image": "busybox"},
        ], "volumes": [{"name": "s", "secret": {"secretName": "x"}}, {"name": "e", "emptyDir": {"sizeLimit": 1024}}]}}},
    });
    let revision = json!({
        "apiVersion": SERVING, "kind": "Revision", "metadata": {"name": "hello-00001"},
        "spec": {"containers": [{"image": "busybox", "livenessProbe": {"grpc": {}}}], "timeoutSeconds": 10},
    });
    let traffic = json!([{"revisionName": "hello-00001"}, {"configurationName": "hello", "percent": 100}]);
    let route = with(route(), "/spec/traffic", traffic);
    insta::assert_json_snapshot!([created(configuration), created(route), created(revision)]);
}

/// The manifests that users write, with an image that exists.
#[test]
fn the_manifests_that_users_apply_are_admitted() {
    let service = "
apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  name: serverless-function
spec:
  template:
    metadata:
      annotations:
        autoscaling.knative.dev/minScale: \"0\"
        autoscaling.knative.dev/maxScale: \"1000\"
    spec:
      runtimeClassName: wasmedge
      containers:
      - name: function
        image: file://examples/hello/hello.wasm
        resources:
          requests:
            cpu: 100m
            memory: 128Mi
";
    let autoscaler = "
apiVersion: autoscaling.knative.dev/v1alpha1
kind: PodAutoscaler
metadata:
  name: serverless-function
spec:
  scaleTargetRef:
    apiVersion: serving.knative.dev/v1
    kind: Service
    name: serverless-function
  minScale: 0
  maxScale: 1000
  target: 80
";
    for text in [service, autoscaler] {
        created(serde_yaml_ng::from_str(text).unwrap());
    }
}

#[test]
fn good_services_are_admitted() {
    for object in [
        with(service(), "/metadata", json!({"generateName": "hello-"})),
        with(
            service(),
            "/spec/template/metadata",
            json!({"name": "hello-first"}),
        ),
        with(
            service(),
            "/metadata/annotations",
            json!({"serving.knative.dev/rollout-duration": "60s", "x": "y"}),
        ),
        with(
            service(),
            "/metadata/labels",
            json!({"networking.knative.dev/visibility": "cluster-local"}),
        ),
        with_annotation("kittiwake.dev/isolation", "serial"),
        with_annotation("kittiwake.dev/kind", "command"),
        with_annotation("serving.knative.dev/progress-deadline", "30s"),
        with_annotation("networking.knative.dev/http-protocol", "Redirected"),
        with_container("image", json!("oci-layout:///srv/hello")),
        with_container(
            "ports",
            json!([{"containerPort": 8080, "name": "h2c", "protocol": "TCP"}]),
        ),
        with_container(
            "env",
            json!([{"name": "A", "value": "b"}, {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
        ),
        with_container(
            "envFrom",
            json!([{"prefix": "X_", "configMapRef": {"name": "c"}}, {"secretRef": {"name": "s"}}]),
        ),
        with_container(
            "securityContext",
            json!({"privileged": false, "runAsUser": 65532, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}),
        ),
        with_container("readinessProbe", json!({"httpGet": {"path": "/", "port": 8080}})),
        with_container("livenessProbe", json!({"tcpSocket": {"port": 8080}})),
        with_container(
            "resources",
            json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m", "memory": "1024Mi"}}),
        ),
        with_template("containerConcurrency", json!(1000)),
        with_template("timeoutSeconds", json!(600)),
        with_template("idleTimeoutSeconds", json!(300)),
        with_template("automountServiceAccountToken", json!(false)),
        with_template("serviceAccountName", json!("robot.a")),
        with_template("imagePullSecrets", json!([{"name": "pull"}])),
        with(
            service(),
            "/spec/traffic",
            json!([{"latestRevision": true, "percent": 90}, {"revisionName": "hello-00001", "percent": 10, "tag": "old"}]),
        ),
    ] {
        let mut tried = object.clone();
        assert_eq!(call(&mut tried, None), Ok(vec![]), "{object:#}");
    }
}

#[test]
fn metadata_that_breaks_a_rule_is_named() {
    let label = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
    let in_template =
        "autoscaling annotations must be put under \"spec.template.metadata.annotations\" to work";
    for (object, wanted) in [
        (with(service(), "/metadata/name", json!("Hello")), format!("not a DNS 1035 label: [{label}]: metadata.name")),
        (with(service(), "/metadata/name", json!("a".repeat(64))), "not a DNS 1035 label: [must be no more than 63 characters]: metadata.name".to_owned()),
        (with(service(), "/metadata", json!({"generateName": "1-"})), format!("not a DNS 1035 label prefix: [{label}]: metadata.generateName")),
        (with(service(), "/metadata", json!({})), "name or generateName is required: metadata.name".to_owned()),
        (with(service(), "/metadata/annotations", json!({"autoscaling.knative.dev/minScale": "1"})), format!("invalid key name \"autoscaling.knative.dev/minScale\": metadata.annotations\n{in_template}")),
        (with(route(), "/metadata/annotations", json!({"autoscaling.knative.dev/minScale": "1"})), format!("invalid key name \"autoscaling.knative.dev/minScale\": metadata.annotations\n{in_template}")),
        (with(service(), "/metadata/annotations", json!({"kittiwake.dev/isolation": "serial"})), "invalid key name \"kittiwake.dev/isolation\": metadata.annotations\nisolation annotations must be put under \"spec.template.metadata.annotations\" to work".to_owned()),
        (with(service(), "/metadata/annotations", json!({"kittiwake.dev/kind": "command"})), "invalid key name \"kittiwake.dev/kind\": metadata.annotations\nkind annotations must be put under \"spec.template.metadata.annotations\" to work".to_owned()),
        (with(service(), "/metadata/annotations", json!({"serving.knative.dev/rollout-duration": "1500ms"})), "rollout-duration=1500ms is not at second precision: metadata.annotations.serving.knative.dev/rollout-duration".to_owned()),
        (with(service(), "/metadata/annotations", json!({"serving.knative.dev/rolloutDuration": "-1s"})), "rollout-duration=-1s must be positive: metadata.annotations.serving.knative.dev/rolloutDuration".to_owned()),
        (with(service(), "/metadata/annotations", json!({"serving.knative.dev/rollout-duration": "soon"})), "invalid value: soon: metadata.annotations.serving.knative.dev/rollout-duration".to_owned()),
        (with(service(), "/metadata/labels", json!({"networking.knative.dev/visibility": "public"})), "invalid value: public: metadata.labels.networking.knative.dev/visibility\nmust be cluster-local".to_owned()),
        (with(service(), "/metadata/annotations", json!({"networking.knative.dev/httpOption": "ftp"})), "invalid value: ftp: metadata.annotations.networking.knative.dev/httpOption\nmust be one of: enabled, disabled, redirected".to_owned()),
        (with(route(), "/metadata/labels", json!({"serving.knative.dev/service": "hello"})), "missing field(s): metadata.labels.serving.knative.dev/service".to_owned()),
        (with(service(), "/metadata/labels", json!({"a": 1})), "invalid value: 1: metadata.labels.a\nmust be a string; put it in quotes".to_owned()),
        (with(service(), "/spec/template/metadata/annotations", json!({"autoscaling.knative.dev/minScale": 1})), "invalid value: 1: spec.template.metadata.annotations.autoscaling.knative.dev/minScale\nmust be a string; put it in quotes".to_owned()),
        (with_annotation("autoscaling.knative.dev/min-scale", "-1"), "expected 0 <= -1 <= 2147483647: spec.template.metadata.annotations.autoscaling.knative.dev/min-scale".to_owned()),
        (with_annotation("networking.knative.dev/odd", "x"), "invalid key name \"networking.knative.dev/odd\": spec.template.metadata.annotations".to_owned()),
        (with_annotation("kittiwake.dev/isolation", "none"), "invalid value: none: spec.template.metadata.annotations.kittiwake.dev/isolation\nmust be one of: request, serial, concurrent".to_owned()),
        (with_annotation("kittiwake.dev/kind", "component"), "invalid value: component: spec.template.metadata.annotations.kittiwake.dev/kind\nmust be one of: command, server".to_owned()),
        (with_annotation("serving.knative.dev/progress-deadline", "1ms"), "progress-deadline=1ms is not at second precision: spec.template.metadata.annotations.serving.knative.dev/progress-deadline".to_owned()),
        (with_annotation("queue.sidecar.serving.knative.dev/cpu-resource-limit", "much"), "invalid value: much: spec.template.metadata.annotations[queue.sidecar.serving.knative.dev/cpu-resource-limit]".to_owned()),
        (with_annotation("queue.sidecar.serving.knative.dev/resourcePercentage", "101"), "expected 0.1 <= 101 <= 100: spec.template.metadata.annotations[queue.sidecar.serving.knative.dev/resourcePercentage]".to_owned()),
        (with(service(), "/spec/template/metadata", json!({"name": "other-first"})), "invalid value: \"other-first\" must have prefix \"hello-\": spec.template.metadata.name".to_owned()),
        (with(service(), "/spec/template/metadata", json!({"name": "hello-"})), format!("invalid value: not a DNS 1035 label: [{label}]: spec.template.metadata.name")),
        (with(with(service(), "/metadata", json!({"generateName": "hello-"})), "/spec/template/metadata", json!({"name": "hello-a"})), "must not set the field(s): spec.template.metadata.name".to_owned()),
    ] {
        assert_eq!(refusal(object.clone()), wanted, "{object:#}");
    }
}

/// Refusals of a template; paths are below `spec.template.spec.`.
#[test]
fn a_template_that_breaks_a_rule_is_named() {
    for (object, wanted) in [
        (
            with(service(), "/spec/template/spec", json!({})),
            "missing field(s): containers",
        ),
        (
            with(service(), "/spec", json!({})),
            "missing field(s): containers",
        ),
        (
            with_template("containers", json!([{}])),
            "missing field(s): containers[0].image",
        ),
        (
            with_template("timeoutSeconds", json!(601)),
            "expected 0 <= 601 <= 600: timeoutSeconds",
        ),
        (
            with_template("timeoutSeconds", json!(-1)),
            "expected 0 <= -1 <= 600: timeoutSeconds",
        ),
        (
            with_template("responseStartTimeoutSeconds", json!(301)),
            "expected 0 <= 301 <= 300: responseStartTimeoutSeconds",
        ),
        (
            with_template("idleTimeoutSeconds", json!(-1)),
            "expected 0 <= -1 <= 300: idleTimeoutSeconds",
        ),
        (
            with_template("containerConcurrency", json!(1001)),
            "expected 0 <= 1001 <= 1000: containerConcurrency",
        ),
        (
            with_template("containerConcurrency", json!(-1)),
            "expected 0 <= -1 <= 1000: containerConcurrency",
        ),
        (
            with_template("nodeSelector", json!({"a": "b"})),
            "must not set the field(s): nodeSelector",
        ),
        (
            with_template("hostNetwork", json!(true)),
            "must not set the field(s): hostNetwork",
        ),
        (
            with_template("automountServiceAccountToken", json!(true)),
            "must not set the field(s): automountServiceAccountToken",
        ),
        (
            with_template("initContainers", json!([{"image": "x"}])),
            "pod spec support for init-containers is off, but found 1 init containers: initContainers",
        ),
        (
            with_template("serviceAccountName", json!("@robot")),
            "invalid value: @robot: serviceAccountName\na lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ),
        (
            with_template("containers", json!([{"image": "busybox"}, {"image": "busybox"}])),
            "missing field(s): containers[*].ports",
        ),
        (
            with_template("containers", json!([{"image": "busybox", "name": "User"}])),
            "invalid value: User: containers[0].name\na lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
        ),
        (
            with_template(
                "containers",
                json!([{"image": "busybox", "name": "a", "ports": [{"containerPort": 80}]}, {"image": "busybox", "name": "a"}]),
            ),
            "duplicate container name \"a\": containers[1].name",
        ),
        (
            with_template(
                "containers",
                json!([{"image": "busybox", "ports": [{"containerPort": 80}]}, {"image": "busybox", "livenessProbe": {"tcpSocket": {}}}]),
            ),
            "must not set the field(s): containers[1].livenessProbe.tcpSocket",
        ),
        (
            with_template("volumes", json!([{"name": "v", "secret": {"secretName": "s"}}])),
            "volume with name \"v\" not mounted: volumes[0].name",
        ),
    ] {
        assert_eq!(
            refusal(object.clone()).replace("spec.template.spec.", ""),
            wanted,
            "{object:#}"
        );
    }
}

/// Refusals of a container; paths are below `spec.template.spec.containers[0].`.
#[test]
fn a_container_that_breaks_a_rule_is_named() {
    for (field, value, wanted) in [
        (
            "image",
            json!("HELLO WORLD"),
            "Failed to parse image reference: image\nimage: \"HELLO WORLD\", error: could not parse reference: HELLO WORLD",
        ),
        (
            "name",
            json!("queue-proxy"),
            "\"queue-proxy\" is a reserved container name: name",
        ),
        ("lifecycle", json!({}), "must not set the field(s): lifecycle"),
        ("stdin", json!(true), "must not set the field(s): stdin"),
        ("tty", json!(true), "must not set the field(s): tty"),
        (
            "volumeDevices",
            json!([{}]),
            "must not set the field(s): volumeDevices",
        ),
        (
            "ports",
            json!([{"containerPort": 80}, {"containerPort": 81}]),
            "more than one container port is set: spec.template.spec.containers[*].ports\nOnly a single port is allowed across all containers",
        ),
        (
            "ports",
            json!([{"containerPort": 8012}]),
            "invalid value: 8012 is a reserved port: ports.containerPort\n8012 is a reserved port, please use a different value",
        ),
        (
            "ports",
            json!([{"containerPort": 65536}]),
            "expected 0 <= 65536 <= 65535: ports.containerPort",
        ),
        (
            "ports",
            json!([{"containerPort": 80, "protocol": "UDP"}]),
            "invalid value: UDP: ports.protocol",
        ),
        (
            "ports",
            json!([{"containerPort": 80, "name": "grpc"}]),
            "Port name grpc is not allowed: ports\nName must be empty, or one of: 'h2c', 'http1'",
        ),
        (
            "ports",
            json!([{"containerPort": 80, "hostPort": 80}]),
            "must not set the field(s): ports.hostPort",
        ),
        (
            "env",
            json!([{"name": "K_SERVICE", "value": "x"}]),
            "\"K_SERVICE\" is a reserved environment variable: env[0].name",
        ),
        (
            "env",
            json!([{"name": "PORT", "value": "x"}]),
            "\"PORT\" is a reserved environment variable: env[0].name",
        ),
        ("env", json!([{"value": "x"}]), "missing field(s): env[0].name"),
        (
            "env",
            json!([{"name": "a=b"}]),
            "invalid value: \"a=b\": env[0].name\na valid environment variable name must consist only of printable ASCII characters other than '='",
        ),
        (
            "env",
            json!([{"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]),
            "must not set the field(s): env[0].valueFrom.fieldRef",
        ),
        (
            "envFrom",
            json!([{}]),
            "expected exactly one, got neither: envFrom[0].configMapRef, envFrom[0].secretRef",
        ),
        (
            "envFrom",
            json!([{"configMapRef": {"name": "a"}, "secretRef": {"name": "b"}}]),
            "expected exactly one, got both: envFrom[0].configMapRef, envFrom[0].secretRef",
        ),
        (
            "resources",
            json!({"limits": {"memory": "lots"}}),
            "invalid value: lots: resources.limits.memory\nquantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            "resources",
            json!({"limits": {"memory": "-1"}}),
            "invalid value: -1: resources.limits.memory\nmust be greater than or equal to 0",
        ),
        (
            "resources",
            json!({"limits": {"memory": "100Mi"}, "requests": {"memory": "200Mi"}}),
            "invalid value: 200Mi: resources.requests.memory\nmust be less than or equal to memory limit of 100Mi",
        ),
        (
            "resources",
            json!({"claims": [{"name": "gpu"}]}),
            "must not set the field(s): resources.claims",
        ),
        (
            "securityContext",
            json!({"privileged": true}),
            "must not set the field(s): securityContext.privileged",
        ),
        (
            "securityContext",
            json!({"runAsUser": -1}),
            "expected 0 <= -1 <= 2147483647: securityContext.runAsUser",
        ),
        (
            "securityContext",
            json!({"capabilities": {"add": ["NET_ADMIN"]}}),
            "must not set the field(s): securityContext.capabilities.add",
        ),
        (
            "terminationMessagePolicy",
            json!("Never"),
            "invalid value: Never: terminationMessagePolicy",
        ),
        (
            "readinessProbe",
            json!({"tcpSocket": {}, "exec": {"command": []}}),
            "expected exactly one, got both: readinessProbe.exec, readinessProbe.tcpSocket",
        ),
        (
            "livenessProbe",
            json!({"periodSeconds": 1}),
            "expected exactly one, got neither: livenessProbe.exec, livenessProbe.grpc, livenessProbe.httpGet, livenessProbe.tcpSocket",
        ),
        (
            "livenessProbe",
            json!({"httpGet": {"port": "other"}}),
            "invalid value: other: livenessProbe.httpGet.port\nProbe port must match container port",
        ),
        (
            "livenessProbe",
            json!({"tcpSocket": {"port": 70000}}),
            "expected 0 <= 70000 <= 65535: livenessProbe.tcpSocket.port",
        ),
        (
            "readinessProbe",
            json!({"timeoutSeconds": 2}),
            "timeoutSeconds is disallowed when periodSeconds is zero: readinessProbe.timeoutSeconds",
        ),
        (
            "readinessProbe",
            json!({"failureThreshold": 2}),
            "failureThreshold is disallowed when periodSeconds is zero: readinessProbe.failureThreshold",
        ),
        (
            "readinessProbe",
            json!({"periodSeconds": -1}),
            "expected 0 <= -1 <= 2147483647: readinessProbe.periodSeconds",
        ),
        (
            "readinessProbe",
            json!({"periodSeconds": 1, "timeoutSeconds": -1}),
            "expected 1 <= -1 <= 2147483647: readinessProbe.timeoutSeconds",
        ),
        (
            "readinessProbe",
            json!({"successThreshold": -1}),
            "expected 1 <= -1 <= 2147483647: readinessProbe.successThreshold",
        ),
        (
            "volumeMounts",
            json!([{"name": "v", "mountPath": "/v"}]),
            "volumeMount has no matching volume: volumeMounts[0].name",
        ),
    ] {
        let text =
            refusal(with_container(field, value.clone())).replace("spec.template.spec.containers[0].", "");
        assert_eq!(text, wanted, "{field}: {value}");
    }
}

/// Refusals of volumes and mounts; paths are below `spec.template.spec.`.
#[test]
fn a_volume_that_breaks_a_rule_is_named() {
    let mount = |path: Value| json!([{"name": "v", "mountPath": path}]);
    let secret = || json!([{"name": "v", "secret": {"secretName": "s"}}]);
    for (volumes, mounts, wanted) in [
        (
            secret(),
            mount(json!("/")),
            "mountPath \"/\" is a reserved path: containers[0].volumeMounts[0].mountPath",
        ),
        (
            secret(),
            mount(json!("/x/../dev/")),
            "mountPath \"/dev\" is a reserved path: containers[0].volumeMounts[0].mountPath",
        ),
        (
            secret(),
            mount(json!("v")),
            "invalid value: v: containers[0].volumeMounts[0].mountPath",
        ),
        (
            secret(),
            mount(Value::Null),
            "missing field(s): containers[0].volumeMounts[0].mountPath",
        ),
        (
            secret(),
            json!([{"name": "v", "mountPath": "/v"}, {"name": "v", "mountPath": "/v/."}]),
            "invalid value: \"/v/.\" must be unique: containers[0].volumeMounts[1].mountPath",
        ),
        (
            secret(),
            json!([{"name": "v", "mountPath": "/v", "subPathExpr": "x"}]),
            "must not set the field(s): containers[0].volumeMounts[0].subPathExpr",
        ),
        (
            json!([{"name": "v"}]),
            mount(json!("/v")),
            "expected exactly one, got neither: volumes[0].configMap, volumes[0].emptyDir, volumes[0].projected, volumes[0].secret",
        ),
        (
            json!([{"name": "v", "secret": {}, "configMap": {}}]),
            mount(json!("/v")),
            "expected exactly one, got both: volumes[0].configMap, volumes[0].secret",
        ),
        (
            json!([{"name": "v", "hostPath": {"path": "/"}}]),
            mount(json!("/v")),
            "must not set the field(s): volumes[0].hostPath",
        ),
        (
            json!([{"name": "v", "emptyDir": {"medium": "Tape"}}]),
            mount(json!("/v")),
            "invalid value: Tape: volumes[0].emptyDir.medium",
        ),
        (
            json!([{"name": "v", "emptyDir": {"sizeLimit": "big"}}]),
            mount(json!("/v")),
            "invalid value: big: volumes[0].emptyDir.sizeLimit",
        ),
        (
            json!([{"name": "v", "secret": {"items": [{"key": "k"}]}}]),
            mount(json!("/v")),
            "missing field(s): volumes[0].secret.items[0].path",
        ),
        (
            json!([{"name": "v", "projected": {"sources": [{}]}}]),
            mount(json!("/v")),
            "expected exactly one, got neither: volumes[0].projected[0].configMap, volumes[0].projected[0].downwardAPI, volumes[0].projected[0].secret, volumes[0].projected[0].serviceAccountToken",
        ),
        (
            json!([{"name": "v", "projected": {"sources": [{"secret": {}}]}}]),
            mount(json!("/v")),
            "missing field(s): volumes[0].projected[0].secret.name",
        ),
        (
            json!([{"name": "v", "projected": {"sources": [{"serviceAccountToken": {}}]}}]),
            mount(json!("/v")),
            "missing field(s): volumes[0].projected[0].serviceAccountToken.path",
        ),
        (
            json!([{"name": "v", "projected": {"sources": [{"downwardAPI": {"items": [{"path": "p"}]}}]}}]),
            mount(json!("/v")),
            "expected exactly one, got neither: volumes[0].projected[0].downwardAPI.items[0].fieldRef, volumes[0].projected[0].downwardAPI.items[0].resourceFieldRef",
        ),
        (
            json!([{"name": "v", "secret": {}}, {"name": "v", "secret": {}}]),
            mount(json!("/v")),
            "duplicate volume name \"v\": volumes[1].name",
        ),
        (
            json!([{"name": "V", "secret": {}}]),
            json!([{"name": "V", "mountPath": "/v"}]),
            "invalid value: V: volumes[0].name",
        ),
    ] {
        let object = with(
            with_template("volumes", volumes.clone()),
            &format!("{CONTAINER}/volumeMounts"),
            mounts,
        );
        assert_eq!(
            refusal(object).replace("spec.template.spec.", ""),
            wanted,
            "{volumes}"
        );
    }
}

#[test]
fn traffic_that_breaks_a_rule_is_named() {
    let cases = [
        (
            "Service",
            json!([{"percent": 99}]),
            "Traffic targets sum to 99, want 100: spec.traffic",
        ),
        (
            "Service",
            json!([{"percent": 101}]),
            "Traffic targets sum to 101, want 100: spec.traffic\nexpected 0 <= 101 <= 100: spec.traffic[0].percent",
        ),
        (
            "Service",
            json!([{"percent": i64::MAX}, {"percent": i64::MAX}]),
            "Traffic targets sum to 18446744073709551614, want 100: spec.traffic\nexpected 0 <= 9223372036854775807 <= 100: spec.traffic[0].percent, spec.traffic[1].percent",
        ),
        (
            "Service",
            json!([{"percent": 100, "tag": "a"}, {"tag": "a"}]),
            "Multiple definitions for \"a\": spec.traffic[0].tag, spec.traffic[1].tag",
        ),
        (
            "Service",
            json!([{"percent": 100, "revisionName": "r", "latestRevision": true}]),
            "may not set revisionName \"r\" when latestRevision is true: spec.traffic[0].latestRevision",
        ),
        (
            "Service",
            json!([{"percent": 100, "latestRevision": false}]),
            "may not set revisionName \"\" when latestRevision is false: spec.traffic[0].latestRevision",
        ),
        (
            "Service",
            json!([{"percent": 100, "configurationName": "c"}]),
            "must not set the field(s): spec.traffic[0].configurationName",
        ),
        (
            "Service",
            json!([{"percent": 100, "url": "http://a", "tag": "a"}]),
            "must not set the field(s): spec.traffic[0].url",
        ),
        (
            "Route",
            json!([{"percent": 100}]),
            "expected exactly one, got neither: spec.traffic[0].configurationName, spec.traffic[0].revisionName",
        ),
        (
            "Route",
            json!([{"percent": 100, "revisionName": "a", "configurationName": "b"}]),
            "expected exactly one, got both: spec.traffic[0].configurationName, spec.traffic[0].revisionName",
        ),
        (
            "Route",
            json!([]),
            "Traffic targets sum to 0, want 100: spec.traffic",
        ),
        (
            "Route",
            json!([{"percent": 100, "revisionName": "a/b/c"}]),
            "invalid key name \"a/b/c\": spec.traffic[0].revisionName\na qualified name must consist of alphanumeric characters",
        ),
        (
            "Service",
            json!([{"percent": 100, "tag": "A"}]),
            "invalid value: not a DNS 1035 label: [",
        ),
    ];
    for (kind, traffic, wanted) in cases {
        let object = if kind == "Route" { route() } else { service() };
        let text = refusal(with(object, "/spec/traffic", traffic.clone()));
        assert!(text.starts_with(wanted), "{traffic}: {text}");
    }
}

#[test]
fn autoscalers_that_break_a_rule_are_named() {
    let internal = |spec: Value| json!({"apiVersion": INTERNAL, "kind": "PodAutoscaler", "metadata": {"name": "a"}, "spec": spec});
    let user = |spec: Value| json!({"apiVersion": USER, "kind": "PodAutoscaler", "metadata": {"name": "a"}, "spec": spec});
    let revision = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"});
    let service = json!({"apiVersion": SERVING, "kind": "Service", "name": "a"});
    let admitted = created(internal(
        json!({"scaleTargetRef": revision, "protocolType": "http1"}),
    ));
    assert_eq!(
        admitted["metadata"]["annotations"],
        json!({"autoscaling.knative.dev/class": "kpa.autoscaling.knative.dev", "autoscaling.knative.dev/metric": "concurrency"})
    );
    for (object, wanted) in [
        (internal(json!({})), "missing field(s): spec"),
        (
            internal(json!({"scaleTargetRef": revision})),
            "missing field(s): spec.protocolType",
        ),
        (
            internal(json!({"scaleTargetRef": revision, "protocolType": "smtp"})),
            "invalid value: smtp: spec.protocolType",
        ),
        (
            internal(
                json!({"scaleTargetRef": revision, "protocolType": "h2c", "containerConcurrency": 1001}),
            ),
            "expected 0 <= 1001 <= 1000: spec.containerConcurrency",
        ),
        (
            internal(json!({"scaleTargetRef": {}, "protocolType": "h2c"})),
            "missing field(s): spec.scaleTargetRef.apiVersion, spec.scaleTargetRef.kind, spec.scaleTargetRef.name",
        ),
        (
            internal(
                json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a", "namespace": "b"}, "protocolType": "h2c"}),
            ),
            "must not set the field(s): spec.scaleTargetRef.namespace",
        ),
        (user(json!({})), "missing field(s): spec"),
        (
            user(json!({"scaleTargetRef": {"apiVersion": SERVING, "kind": "Route", "name": "a"}})),
            "invalid value: Route: spec.scaleTargetRef.kind\nonly Service of serving.knative.dev/v1 can be scaled",
        ),
        (
            user(json!({"scaleTargetRef": service, "minScale": -1})),
            "expected 0 <= -1 <= 2147483647: spec.minScale",
        ),
        (
            user(json!({"scaleTargetRef": service, "minScale": 3, "maxScale": 2})),
            "maxScale=2 is less than minScale=3: spec.maxScale, spec.minScale",
        ),
        (
            user(json!({"scaleTargetRef": service, "target": 0})),
            "target 0 should be at least 0.01: spec.target",
        ),
    ] {
        assert_eq!(refusal(object.clone()), wanted, "{object:#}");
    }
}

#[test]
fn the_maker_is_noted_and_cannot_be_changed() {
    let old = created(service());
    assert_eq!(
        old["metadata"]["annotations"]["serving.knative.dev/creator"],
        "ann"
    );
    let creator = "/metadata/annotations/serving.knative.dev~1creator";
    let modifier = "/metadata/annotations/serving.knative.dev~1lastModifier";
    let mut forged = with(old.clone(), creator, json!("bob"));
    assert_eq!(
        call(&mut forged, Some(&old)).unwrap_err(),
        "annotation value is immutable: metadata.annotations.serving.knative.dev/creator"
    );
    let mut forged = with(old.clone(), modifier, json!("bob"));
    assert_eq!(
        call(&mut forged, Some(&old)).unwrap_err(),
        "invalid value: bob: metadata.annotations.serving.knative.dev/lastModifier"
    );
    let before = with(old, modifier, json!("bob"));
    let mut changed = with(before.clone(), "/spec/template/spec/timeoutSeconds", json!(5));
    call(&mut changed, Some(&before)).unwrap();
    assert_eq!(
        changed["metadata"]["annotations"]["serving.knative.dev/lastModifier"],
        "ann"
    );
    let mut same = before.clone();
    call(&mut same, Some(&before)).unwrap();
    assert_eq!(same, before);
}

#[test]
fn children_are_not_signed() {
    let owners = json!([{"apiVersion": SERVING, "kind": "Service", "name": "hello", "uid": "1"}]);
    let child = with(
        with(route(), "/metadata/ownerReferences", owners),
        "/metadata/labels",
        json!({"serving.knative.dev/service": "hello"}),
    );
    assert_eq!(created(child)["metadata"].get("annotations"), None);
}

#[test]
fn a_revision_never_changes() {
    let revision = json!({
        "apiVersion": SERVING, "kind": "Revision", "metadata": {"name": "hello-00001"},
        "spec": {"containers": [{"image": "busybox", "resources": {"limits": {"cpu": 1}}}]},
    });
    let old = created(revision);
    let mut changed = with(old.clone(), "/spec/containers/0/image", json!("alpine"));
    assert_eq!(
        call(&mut changed, Some(&old)).unwrap_err(),
        "Immutable fields changed (-old +new): spec\n{spec.containers[0].image}:\n\t-: \"busybox\"\n\t+: \"alpine\"\n"
    );
    let mut labeled = with(
        old.clone(),
        "/metadata/labels",
        json!({"serving.knative.dev/routingState": "active"}),
    );
    assert_eq!(call(&mut labeled, Some(&old)), Ok(vec![]));
    let mut bad = with(
        old.clone(),
        "/metadata/annotations",
        json!({"autoscaling.knative.dev/window": "1s"}),
    );
    assert!(call(&mut bad, Some(&old)).is_err());
}

#[test]
fn a_chosen_name_must_change_with_the_template() {
    let named = with(
        service(),
        "/spec/template/metadata",
        json!({"name": "hello-first"}),
    );
    let old = created(named.clone());
    // The same manifest once more: it is what is stored, but for the defaults.
    let mut again = with(
        named,
        "/metadata/annotations",
        old["metadata"]["annotations"].clone(),
    );
    call(&mut again, Some(&old)).unwrap();
    assert_eq!(again, old);
    let mut changed = with(old.clone(), &format!("{CONTAINER}/image"), json!("busybox"));
    assert_eq!(
        call(&mut changed, Some(&old)).unwrap_err(),
        "Saw the following changes without a name change (-old +new): spec.template.metadata.name\n{template.spec.containers[0].image}:\n\t-: \"ghcr.io/me/hello:v1\"\n\t+: \"busybox\"\n"
    );
    let mut renamed = with(changed, "/spec/template/metadata/name", json!("hello-second"));
    assert_eq!(call(&mut renamed, Some(&old)), Ok(vec![]));
}

#[test]
fn types_are_checked_at_the_end() {
    let text = refusal(with_template("timeoutSeconds", json!("soon")));
    assert!(
        text.starts_with("cannot decode incoming new object: invalid type: string \"soon\""),
        "{text}"
    );
}

#[test]
fn a_probe_that_runs_another_program_warns() {
    let warned = |field: &str, command: Value| {
        let probe = json!({"exec": {"command": command}, "periodSeconds": 1});
        call(&mut with_container(field, probe), None).unwrap()
    };
    for field in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let path = format!("spec.template.spec.containers[0].{field}.exec.command: ");
        for (command, wanted) in [
            (
                json!(["cat", "/tmp/healthy"]),
                r#"unless the image calls it "cat" the probe fails"#,
            ),
            (json!([]), "it is empty"),
        ] {
            let warnings = warned(field, command);
            assert!(
                warnings.len() == 1 && warnings[0].starts_with(&path) && warnings[0].contains(wanted),
                "{warnings:?}"
            );
        }
        assert_eq!(
            warned(field, json!(["/ko-app/hello", "probe"])),
            Vec::<String>::new()
        );
    }
    let fine = json!({"httpGet": {"path": "/"}});
    let warnings = call(&mut with_container("livenessProbe", fine), None).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn a_deprecated_annotation_warns() {
    let mut object = with_annotation("queue.sidecar.serving.knative.dev/resource-percentage", "10");
    let warnings = call(&mut object, None).unwrap();
    assert!(
        warnings[0].starts_with("Queue proxy resource percentage annotation is deprecated"),
        "{warnings:?}"
    );
}

#[test]
fn what_is_not_ours_passes_unchanged() {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}});
    assert_eq!(created(map.clone()), map);
    let going = with(
        service(),
        "/metadata/deletionTimestamp",
        json!("2026-01-01T00:00:00Z"),
    );
    assert_eq!(created(going.clone()), going);
    let request = Request {
        api_version: SERVING,
        kind: "Service",
        operation: Operation::Update,
        subresource: Some("status"),
        old: None,
        user: "ann",
        dry_run: false,
        settings: kittiwake_api::config::Settings::stock(),
    };
    let mut status = json!({"status": {}});
    assert_eq!(admit(&request, &mut status), Ok(vec![]));
    assert_eq!(status, json!({"status": {}}));
}
