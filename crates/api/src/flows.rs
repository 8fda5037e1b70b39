//! Group `flows.knative.dev`: Sequences and Parallels, which are Channels and Subscriptions in a row and side by side.

pub mod parallel;
pub mod sequence;

pub use parallel::Parallel;
pub use sequence::Sequence;

/// The group.
pub const GROUP: &str = "flows.knative.dev";
