//! Groups `autoscaling.internal.knative.dev` (Knative's own PodAutoscaler, one per Revision) and
//! `autoscaling.knative.dev` (the PodAutoscaler that users write, one per Service), and the annotations of both.

pub mod annotations;
pub mod pod_autoscaler;
pub mod settings;
pub mod user_pod_autoscaler;

/// The group of the internal kind.
pub const INTERNAL_GROUP: &str = "autoscaling.internal.knative.dev";

/// The group of the users' kind, and the prefix of the autoscaling annotations.
pub const GROUP: &str = "autoscaling.knative.dev";
