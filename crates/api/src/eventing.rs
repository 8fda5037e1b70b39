//! Group `eventing.knative.dev`: Brokers, the Triggers that subscribe to them, and the EventTypes that describe events.

pub mod broker;
pub mod event_type;
pub mod filter;
pub mod trigger;

pub use broker::Broker;
pub use event_type::EventType;
pub use trigger::Trigger;

/// The group.
pub const GROUP: &str = "eventing.knative.dev";
