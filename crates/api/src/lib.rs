//! The Kubernetes resource types Kittiwake serves: fields, defaults, validation, conditions, CRDs.
//!
//! A kind is a Rust struct ([`serving`], [`eventing`], [`gatekeeper`] and so on); its CRD ([`crd::all`]) is made from that struct and is the
//! one source for discovery, columns, OpenAPI, pruning and server-side apply. What a user may write is decided by
//! [`admission::admit`], in Knative's words. Field meanings, defaults and rules are Knative's; where a doc comment
//! names a Go file, that file is the rule's source.

#![deny(missing_docs)]

pub mod admission;
pub mod autoscaling;
pub mod condition;
pub mod config;
pub mod conversion;
pub mod crd;
pub mod cron;
pub mod duck;
pub mod duration;
pub mod eventing;
pub mod flows;
#[doc(hidden)]
pub mod fuzzing;
pub mod gatekeeper;
pub mod messaging;
pub mod meta;
pub mod names;
pub mod networking;
pub mod quantity;
pub mod serving;
pub mod sources;
