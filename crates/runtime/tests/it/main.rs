//! The runtime through its public face: artifacts from every source, calls under every limit.

mod cache;
mod invoke;
mod local;
mod registry;
mod support;
