//! What the autoscaler would have done: a recorded or made-up load is replayed in virtual time.
//!
//! [`input`] reads the load, [`observed`] replays what was seen of a revision, [`calls`] replays single calls against
//! instances that take time to start.

pub mod calls;
pub mod input;
pub mod observed;

use crate::decider::{DeciderSpec, Decision};
use crate::scale_to_zero::Rules;
use std::time::Duration;

/// What is simulated.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    /// By which it is decided.
    pub decider: DeciderSpec,
    /// By which decisions are applied.
    pub rules: Rules,
    /// Calls that one instance takes at a time; 0 is no limit.
    pub container_concurrency: u32,
    /// Instances that are ready when the load begins.
    pub ready: u32,
    /// How long an instance takes from its start until it takes calls.
    pub startup: Duration,
}

/// One decision with what it was made on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tick {
    /// When, in seconds as the load counts them.
    pub time: f64,
    /// Instances that take calls.
    pub ready: u32,
    /// Instances that are being started.
    pub starting: u32,
    /// Calls that wait for an instance.
    pub waiting: u64,
    /// The metric over the stable window.
    pub stable: f64,
    /// The metric over the panic window.
    pub panic: f64,
    /// Instances that the load asks for.
    pub desired: u32,
    /// Instances that there shall be, within bounds and by the rules of going to zero.
    pub scale: u32,
    /// Whether it panics.
    pub panicking: bool,
    /// See [`Decision::excess_burst_capacity`].
    pub excess_burst_capacity: i32,
}

impl Tick {
    fn of(decision: &Decision, time: f64, ready: u32, scale: u32) -> Self {
        Self {
            time,
            ready,
            starting: 0,
            waiting: 0,
            stable: decision.stable,
            panic: decision.panic,
            desired: decision.desired,
            scale,
            panicking: decision.panicking,
            excess_burst_capacity: decision.excess_burst_capacity,
        }
    }
}
