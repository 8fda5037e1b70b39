//! A whole platform in a test: guest components and, with feature `platform`, the services in one process on port 0.

pub mod guest;
#[cfg(feature = "platform")]
pub mod http;
#[cfg(feature = "platform")]
pub mod platform;
