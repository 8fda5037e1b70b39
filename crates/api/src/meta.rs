//! Keys of labels and annotations (serving `pkg/apis/serving/register.go`, networking `pkg/apis/networking/register.go`).
//!
//! Autoscaling annotations are in [`crate::autoscaling::annotations`].

/// Label: the Service that something belongs to.
pub const SERVICE_LABEL: &str = "serving.knative.dev/service";
/// Label: the uid of that Service.
pub const SERVICE_UID_LABEL: &str = "serving.knative.dev/serviceUID";
/// Label: the Configuration that something belongs to.
pub const CONFIGURATION_LABEL: &str = "serving.knative.dev/configuration";
/// Label: the uid of that Configuration.
pub const CONFIGURATION_UID_LABEL: &str = "serving.knative.dev/configurationUID";
/// Label: the `metadata.generation` of the Configuration that a Revision was made for.
pub const CONFIGURATION_GENERATION_LABEL: &str = "serving.knative.dev/configurationGeneration";
/// Label: the Revision that something belongs to.
pub const REVISION_LABEL: &str = "serving.knative.dev/revision";
/// Label: the uid of that Revision.
pub const REVISION_UID_LABEL: &str = "serving.knative.dev/revisionUID";
/// Label: the Route that something belongs to.
pub const ROUTE_LABEL: &str = "serving.knative.dev/route";
/// Label: the namespace of that Route.
pub const ROUTE_NAMESPACE_LABEL: &str = "serving.knative.dev/routeNamespace";
/// Label: whether a Route leads to a Revision: one of the `ROUTING_STATE_` values.
pub const ROUTING_STATE_LABEL: &str = "serving.knative.dev/routingState";
/// [`ROUTING_STATE_LABEL`]: just made, not yet known.
pub const ROUTING_STATE_PENDING: &str = "pending";
/// [`ROUTING_STATE_LABEL`]: a Route leads to it.
pub const ROUTING_STATE_ACTIVE: &str = "active";
/// [`ROUTING_STATE_LABEL`]: no Route leads to it; it may be collected.
pub const ROUTING_STATE_RESERVE: &str = "reserve";
/// Label: the Revision's name, for those who select by `app`.
pub const APP_LABEL: &str = "app";

/// Annotation: the Routes that lead to a Revision, comma separated.
pub const ROUTES_ANNOTATION: &str = "serving.knative.dev/routes";
/// Annotation: when the routing state last changed, RFC 3339.
pub const ROUTING_STATE_MODIFIED_ANNOTATION: &str = "serving.knative.dev/routingStateModified";
/// Annotation: `"true"` keeps a Revision from being collected.
pub const NO_GC_ANNOTATION: &str = "serving.knative.dev/no-gc";
/// Annotation: who made the object. Set by admission, never changes.
pub const CREATOR_ANNOTATION: &str = "serving.knative.dev/creator";
/// Annotation: who last changed its spec. Set by admission.
pub const LAST_MODIFIER_ANNOTATION: &str = "serving.knative.dev/lastModifier";
/// Annotation: how long a change of the latest revision takes to get all traffic, such as `"60s"`.
pub const ROLLOUT_DURATION_ANNOTATION: &str = "serving.knative.dev/rollout-duration";
/// An older spelling of [`ROLLOUT_DURATION_ANNOTATION`].
pub const ROLLOUT_DURATION_ANNOTATION_CAMEL: &str = "serving.knative.dev/rolloutDuration";
/// Annotation in the status of a Route: how far its rollouts are. Knative has it on its Ingress.
pub const ROLLOUT_ANNOTATION: &str = "networking.internal.knative.dev/rollout";
/// Annotation in the status of a DomainMapping: the Route that its name leads to. Kittiwake's own.
pub const MAPPED_ROUTE_ANNOTATION: &str = "kittiwake.dev/route";
/// Annotation of a ClusterDomainClaim that was made for a DomainMapping, and goes with it. Kittiwake's own.
pub const AUTOCREATED_ANNOTATION: &str = "kittiwake.dev/autocreated";
/// Annotations that keep a host from getting a certificate, the newest spelling first.
pub const DISABLE_TLS_ANNOTATIONS: [&str; 3] = [
    "networking.knative.dev/disable-external-domain-tls",
    "networking.knative.dev/disable-auto-tls",
    "networking.knative.dev/disableAutoTLS",
];
/// Annotations that say what is done with HTTP without TLS, the newest spelling first.
pub const HTTP_PROTOCOL_ANNOTATIONS: [&str; 2] = [
    "networking.knative.dev/http-protocol",
    "networking.knative.dev/httpOption",
];
/// Annotation of a Service or Configuration: `enabled` or `strict` has the pod of its template tried before the template
/// is accepted.
pub const POD_DRY_RUN_ANNOTATION: &str = "features.knative.dev/podspec-dryrun";
/// Annotation: how long a Revision may take to become ready, such as `"600s"`.
pub const PROGRESS_DEADLINE_ANNOTATION: &str = "serving.knative.dev/progress-deadline";
/// Label: `cluster-local` keeps a Service or Route away from the outside.
pub const VISIBILITY_LABEL: &str = "networking.knative.dev/visibility";
/// The only value of [`VISIBILITY_LABEL`].
pub const VISIBILITY_CLUSTER_LOCAL: &str = "cluster-local";
/// What `kubectl apply` writes: the manifest as applied. Not copied to children.
pub const LAST_APPLIED_ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Annotation on a template: how calls share instances: `request` (a fresh instance for each call, the default),
/// `serial` (one call at a time, instances kept) or `concurrent` (many calls at a time, instances kept). Kittiwake's own.
pub const ISOLATION_ANNOTATION: &str = "kittiwake.dev/isolation";
/// Annotation on a template: which other servers the function may reach, as `kittiwake_core::outbound` reads it. None
/// where it is absent. Kittiwake's own.
pub const OUTBOUND_ANNOTATION: &str = "kittiwake.dev/allowed-outbound";
/// Annotation in the status of a Revision: what kind of program its image holds: `component`, `server` or `command`. On a
/// template it says which of the last two a program is that could be either. Kittiwake's own.
pub const KIND_ANNOTATION: &str = "kittiwake.dev/kind";
/// Annotation in the status of a PodAutoscaler: how many instances there shall be, as `spec.replicas` of Knative's
/// Deployment. Kittiwake's own. It differs from `status.desiredScale` while the last instance waits to go.
pub const REPLICAS_ANNOTATION: &str = "kittiwake.dev/replicas";
/// Annotation in the status of a PodAutoscaler: whether calls pass the activator, as `spec.mode` of Knative's
/// ServerlessService: `Proxy` or `Serve`. Kittiwake's own.
pub const MODE_ANNOTATION: &str = "kittiwake.dev/serving-mode";
/// Annotation in the status of a PodAutoscaler: how many activators it has, as `spec.numActivators` of Knative's
/// ServerlessService. Kittiwake's own.
pub const ACTIVATORS_ANNOTATION: &str = "kittiwake.dev/activators";
/// Annotation of a CustomResourceDefinition whose objects the platform makes from others: clients only read them.
/// Kittiwake's own.
pub const MADE_ANNOTATION: &str = "kittiwake.dev/made";
/// The values of [`KIND_ANNOTATION`] on a template.
pub const KIND_VALUES: [&str; 2] = ["command", "server"];
/// The values of [`ISOLATION_ANNOTATION`].
pub const ISOLATION_VALUES: [&str; 3] = ["request", "serial", "concurrent"];
