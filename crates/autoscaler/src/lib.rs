//! How many instances a revision needs: the arithmetic of Knative's autoscaler (KPA), and of Kubernetes' (HPA).
//!
//! ```text
//! stats ─► metric (windows) ─► decider (every 2 s) ─► follow: scale_to_zero (bounds, grace) ─► instances
//!                                                          └─► activity (condition), serving_mode
//! ```
//! Rules and names are those of serving `pkg/autoscaler/{aggregation,metrics,scaling}` and
//! `pkg/reconciler/autoscaling/kpa`, at the state of August 2026; where 1.12 differs, the place says so.
//!
//! Architecture invariant: nothing here reads a clock, waits, or draws random numbers. Times are a [`Duration`] since
//! any moment that the caller keeps to, and never go back. The same calls give the same answers.
//!
//! [`Duration`]: std::time::Duration

#![deny(missing_docs)]

pub mod activity;
pub mod decider;
pub mod follow;
pub mod hpa;
pub mod max_window;
pub mod metric;
pub mod scale_to_zero;
pub mod serving_mode;
pub mod simulation;
pub mod target;
pub mod window;
