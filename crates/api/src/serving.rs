//! Group `serving.knative.dev/v1`: what users write to run a function.

pub mod configuration;
pub mod revision;
pub mod route;
pub mod service;

pub use configuration::{Configuration, ConfigurationSpec, ConfigurationStatus};
pub use revision::{ContainerStatus, Revision, RevisionSpec, RevisionStatus, RevisionTemplate};
pub use route::{Addressable, Route, RouteSpec, RouteStatus, TrafficTarget};
pub use service::{Service, ServiceSpec, ServiceStatus};

/// The group of the four serving kinds.
pub const GROUP: &str = "serving.knative.dev";
