//! Kinds of `networking.internal.knative.dev`: who may use which host name.

pub mod cluster_domain_claim;

pub use cluster_domain_claim::ClusterDomainClaim;

/// The group.
pub const GROUP: &str = "networking.internal.knative.dev";
