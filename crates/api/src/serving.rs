//! Group `serving.knative.dev`: what users write to run a function.

pub mod configuration;
pub mod domain_mapping;
pub mod revision;
pub mod route;
pub mod service;

pub use configuration::{Configuration, ConfigurationSpec, ConfigurationStatus};
pub use domain_mapping::DomainMapping;
pub use revision::{ContainerStatus, Revision, RevisionSpec, RevisionStatus, RevisionTemplate};
pub use route::{Addressable, Route, RouteSpec, RouteStatus, TrafficTarget};
pub use service::{Service, ServiceSpec, ServiceStatus};

/// The group.
pub const GROUP: &str = "serving.knative.dev";
