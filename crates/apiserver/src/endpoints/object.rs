//! What Endpoints and EndpointSlices look like, as pure functions (serving `pkg/reconciler/serverlessservice`;
//! kubernetes `pkg/controller/endpoint`, `staging/src/k8s.io/endpointslice`).

use crate::object::{self, map_mut, text};
use crate::pods::{self, NODE, POD_IP};
use crate::scaled;
use crate::server::Server;
use kittiwake_api::config::NAMESPACE;
use kittiwake_api::meta;
use kittiwake_api::names::child_name;
use kittiwake_store::Key;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// The Service of the activator (serving `pkg/networking/constants.go`).
const ACTIVATOR: &str = "activator-service";
/// The ports behind Knative's Services for HTTP/1 and HTTP/2 (the same file), with the names of their ports (networking
/// `pkg/apis/networking/register.go`). Calls come in through the gateway; nothing listens there.
const HTTP: Port = Port {
    name: "http",
    number: 8012,
};
/// See [`HTTP`].
const HTTP2: Port = Port {
    name: "http2",
    number: 8013,
};
/// Labels of both Services of a Revision: whose they are, and which of the two.
const SERVERLESS_SERVICE_LABEL: &str = "networking.internal.knative.dev/serverlessservice";
/// See [`SERVERLESS_SERVICE_LABEL`].
const SERVICE_TYPE_LABEL: &str = "networking.internal.knative.dev/serviceType";
/// What leads from an EndpointSlice to its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// Who keeps an EndpointSlice.
const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
/// The keeper of all that are here.
const KEEPER: &str = "kittiwake";
/// Endpoints of one slice, as Kubernetes' own controller has it (`--max-endpoints-per-slice`).
const SLICE_ENDPOINTS_MAX: usize = 100;

/// A port behind a Service.
#[derive(Debug, Clone, Copy)]
struct Port {
    name: &'static str,
    number: u16,
}

impl Port {
    fn value(self) -> Value {
        json!({"name": self.name, "port": self.number, "protocol": "TCP"})
    }
}

/// One that is behind a Service.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Backend {
    ip: String,
    /// The pod that it is: its name and uid.
    pod: Option<(String, String)>,
    /// It finishes its last calls.
    terminating: bool,
}

impl Backend {
    /// The activator: all processes that answer calls share one address.
    fn activator() -> Self {
        Self {
            ip: POD_IP.to_owned(),
            pod: None,
            terminating: false,
        }
    }

    /// The instance that a pod stands for.
    pub(super) fn of_pod(pod: &Value) -> Self {
        Self {
            ip: text(pod, "/status/podIP").to_owned(),
            pod: Some((object::name(pod).to_owned(), object::uid(pod).to_owned())),
            terminating: object::is_terminating(pod),
        }
    }

    /// Which pod it is, for `namespace`.
    fn target(&self, namespace: &str) -> Option<Value> {
        let (name, uid) = self.pod.as_ref()?;
        Some(json!({"kind": "Pod", "namespace": namespace, "name": name, "uid": uid}))
    }
}

/// One Service with what is behind it.
pub(super) struct Facade {
    pub(super) namespace: String,
    pub(super) name: String,
    created: String,
    labels: Map<String, Value>,
    annotations: Map<String, Value>,
    owners: Option<Value>,
    /// The uid of its Endpoints, from which those of its slices are made.
    uid: String,
    ports: Vec<Port>,
    backends: Vec<Backend>,
}

/// The Revision that a pod is of.
pub(super) fn revision_of(pod: &Value) -> Option<&str> {
    let labels = pod.pointer("/metadata/labels")?;
    labels.get(meta::REVISION_LABEL)?.as_str()
}

/// The Service of the activator.
pub(super) fn activator(server: &Server) -> Facade {
    let home = server.store.get(&Key::new("namespaces", "", NAMESPACE));
    let created = home.map(|home| text(&home.object.tree(), "/metadata/creationTimestamp").to_owned());
    let labels = [
        ("app", "activator"),
        ("app.kubernetes.io/component", "activator"),
        ("app.kubernetes.io/name", NAMESPACE),
    ];
    Facade {
        namespace: NAMESPACE.to_owned(),
        name: ACTIVATOR.to_owned(),
        created: created.unwrap_or_default(),
        labels: labels
            .into_iter()
            .map(|(label, value)| (label.to_owned(), value.into()))
            .collect(),
        annotations: Map::new(),
        owners: None,
        uid: pods::uid_of(Sha256::digest(ACTIVATOR).as_ref()),
        ports: vec![HTTP, HTTP2],
        backends: vec![Backend::activator()],
    }
}

/// The two Services of a PodAutoscaler's Revision, which has these pods.
pub(super) fn of_revision(scaler: &Value, pods: &[Backend]) -> [Facade; 2] {
    let name = object::name(scaler);
    // A function that lives for one call is in memory for a while after the last one: it has an instance only while the
    // autoscaler sees one.
    let instances = if scaled::ready(scaler) > 0 { pods } else { &[] };
    let takes_calls = instances.iter().any(|instance| !instance.terminating);
    let in_front = if scaled::is_proxied(scaler) || !takes_calls {
        vec![Backend::activator()]
    } else {
        instances.to_vec()
    };
    let port = if text(scaler, "/spec/protocolType") == "h2c" {
        HTTP2
    } else {
        HTTP
    };
    let facade = |name: String, kind: &str, backends: Vec<Backend>| {
        let map = |pointer: &str| {
            let map = scaler.pointer(pointer).and_then(Value::as_object);
            map.cloned().unwrap_or_default()
        };
        let mut labels = map("/metadata/labels");
        labels.insert(SERVERLESS_SERVICE_LABEL.into(), object::name(scaler).into());
        labels.insert(SERVICE_TYPE_LABEL.into(), kind.into());
        let mut annotations = map("/metadata/annotations");
        annotations.shift_remove(kittiwake_api::autoscaling::annotations::METRIC.name());
        Facade {
            namespace: object::namespace(scaler).to_owned(),
            name,
            created: text(scaler, "/metadata/creationTimestamp").to_owned(),
            labels,
            annotations,
            owners: Some(json!([{
                "apiVersion": "networking.internal.knative.dev/v1alpha1", "kind": "ServerlessService",
                "name": object::name(scaler), "uid": scaled::owned_uid("ServerlessService", scaler),
                "controller": true, "blockOwnerDeletion": true,
            }])),
            uid: scaled::owned_uid(&format!("Endpoints {kind}"), scaler),
            ports: vec![port],
            backends,
        }
    };
    [
        facade(name.to_owned(), "Public", in_front),
        facade(child_name(name, "-private"), "Private", instances.to_vec()),
    ]
}

impl Facade {
    /// The Endpoints of it.
    pub(super) fn endpoints(&self) -> Value {
        let addresses: Vec<Value> = self
            .backends
            .iter()
            .filter(|backend| !backend.terminating)
            .map(|backend| {
                let mut address = json!({"ip": backend.ip, "nodeName": NODE});
                if let Some(target) = backend.target(&self.namespace) {
                    map_mut(&mut address).insert("targetRef".into(), target);
                }
                address
            })
            .collect();
        let mut endpoints = json!({
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": self.metadata(&self.name, &self.uid),
        });
        if !addresses.is_empty() {
            let ports: Vec<Value> = self.ports.iter().map(|port| port.value()).collect();
            map_mut(&mut endpoints).insert(
                "subsets".into(),
                json!([{"addresses": addresses, "ports": ports}]),
            );
        }
        endpoints
    }

    /// The EndpointSlices of it; one without endpoints where there is nothing behind it.
    pub(super) fn slices(&self) -> Vec<(&'static str, Value)> {
        let mut parts: Vec<&[Backend]> = self.backends.chunks(SLICE_ENDPOINTS_MAX).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        parts
            .into_iter()
            .enumerate()
            .map(|(number, part)| (super::SLICES, self.slice(number, part)))
            .collect()
    }

    fn slice(&self, number: usize, backends: &[Backend]) -> Value {
        let endpoints: Vec<Value> = backends
            .iter()
            .map(|backend| {
                let mut endpoint = json!({
                    "addresses": [backend.ip],
                    "conditions": {
                        "ready": !backend.terminating, "serving": true, "terminating": backend.terminating,
                    },
                    "nodeName": NODE,
                });
                if let Some(target) = backend.target(&self.namespace) {
                    map_mut(&mut endpoint).insert("targetRef".into(), target);
                }
                endpoint
            })
            .collect();
        let name = self.slice_name(number);
        let mut metadata = self.metadata(&name, &pods::uid_of(self.slice_digest(number).as_ref()));
        let owner = json!([{
            "apiVersion": "v1", "kind": "Endpoints", "name": self.name, "uid": self.uid,
            "controller": true, "blockOwnerDeletion": true,
        }]);
        let fields = map_mut(&mut metadata);
        fields.insert("ownerReferences".into(), owner);
        let labels = object::child_mut(&mut metadata, "labels");
        labels.insert(SERVICE_NAME_LABEL.into(), self.name.as_str().into());
        labels.insert(MANAGED_BY_LABEL.into(), KEEPER.into());
        let ports: Vec<Value> = self.ports.iter().map(|port| port.value()).collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata,
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": ports,
        })
    }

    /// The name of one of its slices: the Service's, with an ending of its own.
    pub(super) fn slice_name(&self, number: usize) -> String {
        let digest = self.slice_digest(number);
        let ending: String = digest
            .as_ref()
            .iter()
            .take(3)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        child_name(&self.name, &format!("-{ending}"))
    }

    fn slice_digest(&self, number: usize) -> impl AsRef<[u8]> {
        Sha256::digest(format!("EndpointSlice {} {number}", self.uid))
    }

    fn metadata(&self, name: &str, uid: &str) -> Value {
        let mut metadata = json!({
            "name": name,
            "namespace": self.namespace,
            "uid": uid,
            "creationTimestamp": self.created,
            "labels": self.labels,
        });
        let fields = map_mut(&mut metadata);
        if !self.annotations.is_empty() {
            fields.insert("annotations".into(), self.annotations.clone().into());
        }
        if let Some(owners) = &self.owners {
            fields.insert("ownerReferences".into(), owners.clone());
        }
        metadata
    }
}

#[cfg(test)]
#[path = "object_tests.rs"]
mod tests;
