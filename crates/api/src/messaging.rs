//! Group `messaging.knative.dev`: Channels that hold events, and the Subscriptions that get them.

pub mod channel;
pub mod in_memory_channel;
pub mod subscription;

pub use channel::Channel;
pub use in_memory_channel::InMemoryChannel;
pub use subscription::Subscription;

/// The group.
pub const GROUP: &str = "messaging.knative.dev";
