//! ServerlessService: whether calls of a Revision pass the activator, and how many activators it has (networking
//! `pkg/apis/networking/v1alpha1/serverlessservice_*.go`). Made by the platform, one per Revision.

use crate::condition::{Condition, ConditionSet};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Condition types of a ServerlessService.
pub mod condition {
    /// Instances take calls.
    pub const ENDPOINTS_POPULATED: &str = "EndpointsPopulated";
    /// Calls pass the activator. Ready does not depend on it.
    pub const ACTIVATOR_ENDPOINTS_POPULATED: &str = "ActivatorEndpointsPopulated";
}

/// Reasons and messages of a ServerlessService (`serverlessservice_lifecycle.go`).
pub mod reason {
    /// EndpointsPopulated is Unknown: no instance takes calls.
    pub const NO_HEALTHY_BACKENDS: &str = "NoHealthyBackends";
    /// The message with [`NO_HEALTHY_BACKENDS`].
    pub const NO_HEALTHY_BACKENDS_MESSAGE: &str = "K8s Service is not ready";
    /// Of ActivatorEndpointsPopulated, whether True or False.
    pub const ACTIVATOR_ENDPOINTS_POPULATED: &str = "ActivatorEndpointsPopulated";
    /// The message with [`ACTIVATOR_ENDPOINTS_POPULATED`].
    pub const ACTIVATOR_ENDPOINTS_POPULATED_MESSAGE: &str = "Revision is backed by Activator";
}

/// How a ServerlessService's conditions depend on each other.
pub const CONDITIONS: ConditionSet = ConditionSet::living(&[condition::ENDPOINTS_POPULATED]);

/// [`ServerlessServiceSpec::mode`]: calls pass the activator.
pub const MODE_PROXY: &str = "Proxy";
/// [`ServerlessServiceSpec::mode`]: calls go to the instances.
pub const MODE_SERVE: &str = "Serve";

/// Where calls of a Revision go.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "networking.internal.knative.dev",
    version = "v1alpha1",
    kind = "ServerlessService",
    plural = "serverlessservices",
    singular = "serverlessservice",
    namespaced,
    status = "ServerlessServiceStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "knative-internal",
    category = "networking",
    shortname = "sks",
    annotation("kittiwake.dev/made", "true"),
    doc = "ServerlessService says whether calls of a Revision pass the activator, as its target burst capacity and its instances ask for. It is made by the platform, one per Revision, from the Revision's PodAutoscaler.",
    printcolumn = r#"{"name":"Mode","type":"string","jsonPath":".spec.mode"}"#,
    printcolumn = r#"{"name":"Activators","type":"integer","jsonPath":".spec.numActivators"}"#,
    printcolumn = r#"{"name":"ServiceName","type":"string","jsonPath":".status.serviceName"}"#,
    printcolumn = r#"{"name":"PrivateServiceName","type":"string","jsonPath":".status.privateServiceName"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ServerlessServiceSpec {
    /// Proxy: calls pass the activator, which holds them while no instance is free. Serve: the instances have room for the
    /// target burst. Kittiwake's activator is part of its gateway and always in the path; this is what the rules say.
    #[serde(default)]
    pub mode: String,
    /// How many activators carry the Revision, by the rules; 0 is all of them.
    #[serde(default)]
    pub num_activators: i32,
    /// What is called.
    #[serde(default)]
    pub object_ref: ObjectRef,
    /// http1 or h2c.
    #[serde(default)]
    pub protocol_type: String,
}

/// An object in the same namespace.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// Its group and version.
    #[serde(default)]
    pub api_version: String,
    /// Its kind.
    #[serde(default)]
    pub kind: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
}

/// Whether it can be called.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerlessServiceStatus {
    /// The `metadata.generation` of which the conditions speak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, EndpointsPopulated, ActivatorEndpointsPopulated, sorted by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The service through which the Revision is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// The service of its instances alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_service_name: Option<String>,
}
