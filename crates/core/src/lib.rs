//! The platform's nouns without Kubernetes.
//!
//! Every other crate speaks in these words: which revision, which host, how large, how long, what failed.
//! The data plane (`gateway`, `runtime`) compiles with nothing but this crate, so it can be tested without an
//! API server and never waits on one.
//!
//! Architecture invariant: this crate depends on nothing of ours, knows no Kubernetes type, no Wasm engine and no disk.

#![deny(missing_docs)]

pub mod artifact;
pub mod body;
pub mod clock;
pub mod code;
pub mod fair;
pub mod host;
pub mod inside;
pub mod instances;
pub mod invoke;
pub mod log;
pub mod outbound;
pub mod probe;
pub mod program;
pub mod report;
pub mod request_log;
pub mod resident;
pub mod revision;
pub mod routing_table;
pub mod scale;
pub mod share;
pub mod sidecar;
pub mod unit;
pub mod volume;
