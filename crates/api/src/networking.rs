//! Kinds of `networking.internal.knative.dev`: who may use which host name, and where calls of a Revision go.

pub mod cluster_domain_claim;
pub mod serverless_service;

pub use cluster_domain_claim::ClusterDomainClaim;
pub use serverless_service::ServerlessService;

/// The group.
pub const GROUP: &str = "networking.internal.knative.dev";
