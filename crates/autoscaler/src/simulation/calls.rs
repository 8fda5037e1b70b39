//! Replays single calls: they wait while no instance can take them, instances take time to start, and what is under way
//! and waiting is what the autoscaler sees each second.

use super::input::Call;
use super::observed::{Course, since};
use super::{Setup, Tick};
use crate::decider::{Decision, TICK};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

/// How often load is recorded.
const SECOND: Duration = Duration::from_secs(1);
/// How long is simulated beyond the last call at most, so that the way back to zero is seen.
const REST_MAX: Duration = Duration::from_secs(2 * 3600);
/// Instances that are simulated at most; a wish for more is cut.
pub const INSTANCES_MAX: u32 = 100_000;

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Each decision.
    pub ticks: Vec<Tick>,
    /// Calls that were made.
    pub calls: usize,
    /// Calls that had to wait.
    pub waited: usize,
    /// The time that each call waited, in seconds, the shortest first.
    pub waits: Vec<f64>,
    /// Instances at the most, those that are being started included.
    pub instances_most: u32,
    /// The time that instances were there, summed over all, in seconds.
    pub instance_seconds: f64,
}

impl Run {
    /// The wait that so many percent of the calls did not exceed, in seconds.
    #[must_use]
    pub fn wait_percentile(&self, percent: usize) -> f64 {
        let rank = (self.waits.len() * percent).div_ceil(100).saturating_sub(1);
        self.waits.get(rank).copied().unwrap_or_default()
    }
}

/// Replays calls, which must be in order of time, and goes on until everything is back at rest.
#[must_use]
pub fn replay(setup: &Setup, calls: &[Call]) -> Run {
    let Some(first) = calls.first() else {
        return World::new(setup, 0.0).run;
    };
    let mut world = World::new(setup, first.time.floor());
    let mut calls = calls.iter().peekable();
    let last = calls.clone().last().map_or(0.0, |call| call.time);
    let end = since(world.begin, last).saturating_add(REST_MAX);
    while world.next_second <= end {
        let arrival = calls.peek().map(|call| since(world.begin, call.time));
        let second = world.next_second;
        match (world.next_event(), arrival) {
            (Some(event), arrival) if event <= second && arrival.is_none_or(|arrival| event <= arrival) => {
                world.happen(event);
            }
            (_, Some(arrival)) if arrival < second => {
                if let Some(call) = calls.next() {
                    world.arrive(arrival, since(0.0, call.duration));
                }
            }
            _ => world.second(calls.peek().is_none()),
        }
        if world.at_rest && calls.peek().is_none() {
            break;
        }
    }
    world.run.waits.sort_by(f64::total_cmp);
    world.run
}

struct World<'a> {
    setup: &'a Setup,
    begin: f64,
    course: Course<'a>,
    /// Until where everything has happened.
    now: Duration,
    next_second: Duration,
    ready: u32,
    /// When instances that are being started are ready, the next one first.
    starting: VecDeque<Duration>,
    /// When calls under way end, the next one first.
    ends: BinaryHeap<Reverse<Duration>>,
    /// When calls that wait came, and how long they take; the first one first.
    waiting: VecDeque<(Duration, Duration)>,
    /// Calls under way and waiting, times seconds, since the last second.
    call_seconds: f64,
    arrivals: f64,
    /// Calls that were told of before the second was over.
    told_already: f64,
    at_rest: bool,
    run: Run,
}

impl<'a> World<'a> {
    fn new(setup: &'a Setup, begin: f64) -> Self {
        Self {
            setup,
            begin,
            course: Course::new(setup, setup.ready),
            now: Duration::ZERO,
            next_second: SECOND,
            ready: setup.ready,
            starting: VecDeque::new(),
            ends: BinaryHeap::new(),
            waiting: VecDeque::new(),
            call_seconds: 0.0,
            arrivals: 0.0,
            told_already: 0.0,
            at_rest: false,
            run: Run {
                ticks: Vec::new(),
                calls: 0,
                waited: 0,
                waits: Vec::new(),
                instances_most: setup.ready,
                instance_seconds: 0.0,
            },
        }
    }

    /// The next end of a call or start of an instance.
    fn next_event(&self) -> Option<Duration> {
        let end = self.ends.peek().map(|Reverse(at)| *at);
        match (end, self.starting.front().copied()) {
            (Some(end), Some(start)) => Some(end.min(start)),
            (end, start) => end.or(start),
        }
    }

    fn advance(&mut self, to: Duration) {
        let passed = to.saturating_sub(self.now).as_secs_f64();
        self.call_seconds += passed * (self.ends.len() + self.waiting.len()) as f64;
        self.run.instance_seconds += passed * f64::from(self.instances());
        self.now = self.now.max(to);
    }

    fn instances(&self) -> u32 {
        self.ready
            .saturating_add(u32::try_from(self.starting.len()).unwrap_or(u32::MAX))
    }

    fn happen(&mut self, at: Duration) {
        self.advance(at);
        while self.ends.peek().is_some_and(|Reverse(end)| *end <= at) {
            self.ends.pop();
        }
        while self.starting.front().is_some_and(|ready| *ready <= at) {
            self.starting.pop_front();
            self.ready += 1;
        }
        self.hand_out();
    }

    fn arrive(&mut self, at: Duration, duration: Duration) {
        self.advance(at);
        self.run.calls += 1;
        self.arrivals += 1.0;
        self.waiting.push_back((at, duration));
        self.hand_out();
        if !self.waiting.is_empty()
            && self
                .course
                .decider
                .latest()
                .desired
                .is_none_or(|desired| desired == 0)
        {
            // The activator tells of the first call at once, and leaves it out of what it tells next.
            self.course.decider.record(at, 1.0, 1.0);
            self.told_already += 1.0;
            let _ = self.decide(at);
        }
    }

    /// Gives waiting calls to instances that have room.
    fn hand_out(&mut self) {
        let room = match u64::from(self.setup.container_concurrency) {
            0 if self.ready > 0 => u64::MAX,
            each => each.saturating_mul(u64::from(self.ready)),
        };
        while (self.ends.len() as u64) < room {
            let Some((came, duration)) = self.waiting.pop_front() else {
                return;
            };
            let wait = self.now.saturating_sub(came);
            self.run.waited += usize::from(!wait.is_zero());
            self.run.waits.push(wait.as_secs_f64());
            self.ends.push(Reverse(self.now.saturating_add(duration)));
        }
    }

    fn second(&mut self, no_more_calls: bool) {
        let at = self.next_second;
        self.advance(at);
        let told = std::mem::take(&mut self.told_already);
        let concurrency = std::mem::take(&mut self.call_seconds) - told;
        let arrivals = std::mem::take(&mut self.arrivals) - told;
        self.course.decider.record(at, concurrency, arrivals);
        self.next_second = at + SECOND;
        if !at.as_secs().is_multiple_of(TICK.as_secs()) {
            self.apply(at);
            return;
        }
        let quiet = no_more_calls && self.ends.is_empty() && self.waiting.is_empty();
        let calm = self
            .decide(at)
            .is_none_or(|decision| decision.stable == 0.0 && !decision.panicking);
        // At the least that is allowed, without load: nothing will change any more.
        let least = self
            .setup
            .rules
            .min()
            .max(u32::from(!self.setup.rules.enable_scale_to_zero));
        self.at_rest = quiet && calm && self.instances() <= least;
    }

    fn decide(&mut self, at: Duration) -> Option<Decision> {
        let decision = self.course.decider.decide(at, self.ready)?;
        let (ready, starting, waiting) = (self.ready, self.instances() - self.ready, self.waiting.len());
        let scale = self.apply(at);
        self.run.ticks.push(Tick {
            starting,
            waiting: waiting as u64,
            ..Tick::of(&decision, self.begin + at.as_secs_f64(), ready, scale)
        });
        Some(decision)
    }

    /// Starts and stops instances. Those that are too many go at once; of those that are being started the last first.
    /// Calls that they have are finished.
    fn apply(&mut self, at: Duration) -> u32 {
        let wanted = self.course.follow(at, self.ready).min(INSTANCES_MAX);
        while self.instances() < wanted {
            self.starting.push_back(at.saturating_add(self.setup.startup));
        }
        while self.instances() > wanted && self.starting.pop_back().is_some() {}
        self.ready = self.ready.min(wanted);
        self.run.instances_most = self.run.instances_most.max(self.instances());
        if self.setup.startup.is_zero() {
            self.happen(at);
        }
        wanted
    }
}

#[cfg(test)]
#[path = "calls_tests.rs"]
mod tests;
