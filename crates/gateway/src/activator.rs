//! Between route and instance: holds calls while a revision is cold or busy, fairly for all, and hands each to an
//! instance (serving `pkg/activator`, and queue-proxy's breaker).
//!
//! A call needs what its revision has to give ([`throttle`]): for functions that live for one call a slot of the
//! revision and one of this process ([`fair`]), for resident ones a seat in an instance ([`pool`]). Where that is not
//! free it waits in a bounded queue ([`queue`]) until it is, or until its time for an answer has passed. What calls see
//! is told to the autoscaler each second, and at once when one finds its revision at zero; what the autoscaler wants
//! comes back as a table and is passed on to who runs the instances.

mod balance;
mod capacity;
mod fair;
mod meter;
mod pool;
mod queue;
mod throttle;
mod wanted;

pub(crate) use throttle::{Admission, Elsewhere, Throttle};

use fair::FairSlots;
use kittiwake_core::clock::Clock;
use kittiwake_core::instances::InstanceHub;
use kittiwake_core::resident::Residents;
use kittiwake_core::revision::RevisionSpec;
use kittiwake_core::scale::{self, STATS_PERIOD, ScaleTable, Stat, Stats, StatsSender};
use pool::{Counts, Pool};
use queue::Waiting;
use std::collections::HashMap;
use std::sync::Arc;
use throttle::Told;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

/// Slots beyond those that one revision can have, so that a flood of long calls to one leaves some to all others.
pub const SLOTS_FOR_OTHERS: u32 = 64;

/// What the activator works with.
pub struct Inputs {
    /// Runs the instances that stay.
    pub residents: Arc<dyn Residents>,
    /// What the autoscaler wants in this process.
    pub scale: watch::Receiver<Arc<ScaleTable>>,
    /// Takes what is seen here to the autoscaler.
    pub stats: StatsSender,
    /// What functions use, for the autoscaler.
    pub instances: Arc<InstanceHub>,
    /// The number of this process in `instances` and in the stats.
    pub process: u64,
}

/// Shared by all revisions.
pub(crate) struct Activator {
    residents: Arc<dyn Residents>,
    scale: watch::Receiver<Arc<ScaleTable>>,
    stats: StatsSender,
    instances: Arc<InstanceHub>,
    process: u64,
    waiting: Arc<Waiting>,
    slots: Arc<FairSlots>,
    /// Calls of one revision that may run at a time.
    calls_max: usize,
}

impl Activator {
    /// `calls_max` calls of one revision may run at a time, a few more of all, and `waiting_max` may wait.
    pub(crate) fn new(inputs: Inputs, calls_max: usize, waiting_max: usize) -> Self {
        let Inputs {
            residents,
            scale,
            stats,
            instances,
            process,
        } = inputs;
        Self {
            residents,
            scale,
            stats,
            instances,
            process,
            waiting: Arc::new(Waiting::new(waiting_max)),
            slots: Arc::new(FairSlots::new(
                calls_max.saturating_add(SLOTS_FOR_OTHERS as usize),
            )),
            calls_max,
        }
    }

    /// Keeps a pool at what runs, until it is aborted. Must be called within a tokio runtime.
    fn follow(&self, revision: &Arc<RevisionSpec>, pool: Arc<Pool>) -> AbortHandle {
        let mut instances = self.residents.instances(revision);
        let following = async move {
            loop {
                let now = instances.borrow_and_update().clone();
                pool.update(&now);
                if instances.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::spawn(following).abort_handle()
    }

    /// What the autoscaler wants of a revision.
    pub(crate) fn decided(&self, uid: &str) -> Option<scale::Wanted> {
        self.scale.borrow().0.get(uid).copied()
    }

    /// Tells at once that a call came to a revision without instances.
    fn tell_from_zero(&self, revision: &RevisionSpec, counts: Counts) {
        self.stats.send(Stats {
            process: self.process,
            at: None,
            from_zero: true,
            of: vec![Stat {
                concurrency: 1.0,
                ..stat(revision, counts)
            }],
        });
    }
}

/// Says what the autoscaler wants to all revisions, and tells it what they see, for ever.
pub(crate) async fn run(
    activator: &Activator,
    throttles: impl Fn() -> Vec<Arc<Throttle>>,
    clock: Arc<dyn Clock>,
) {
    let mut scale = activator.scale.clone();
    let mut periods = tokio::time::interval(STATS_PERIOD);
    periods.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut following = true;
    loop {
        tokio::select! {
            changed = scale.changed(), if following => {
                // Without an autoscaler its last word stays good.
                following = changed.is_ok();
                let table = Arc::clone(&scale.borrow_and_update());
                for throttle in throttles() {
                    let decided = table.0.get(&*throttle.revision().uid).copied();
                    throttle.decide(decided, activator);
                }
            }
            _ = periods.tick() => tell(activator, &throttles(), &*clock),
        }
    }
}

fn tell(activator: &Activator, throttles: &[Arc<Throttle>], clock: &dyn Clock) {
    let (now, at) = (clock.elapsed(), clock.now());
    let mut used: Option<HashMap<Arc<str>, kittiwake_core::instances::Usage>> = None;
    let mut of = Vec::new();
    for throttle in throttles {
        let Some(Told { busy, counts }) = throttle.tell(activator, now) else {
            continue;
        };
        let revision = throttle.revision();
        let used = used.get_or_insert_with(|| {
            let live = activator.instances.of(activator.process);
            live.into_iter().map(|live| (live.uid, live.usage)).collect()
        });
        let usage = used.get(&revision.uid).copied().unwrap_or_default();
        let window = usage.window.as_secs_f64();
        of.push(Stat {
            concurrency: busy.concurrency,
            requests_per_second: busy.per_second,
            cpu_cores: if window > 0.0 {
                usage.cpu.as_secs_f64() / window
            } else {
                0.0
            },
            memory_bytes: usage.memory.0 as f64,
            ..stat(&revision, counts)
        });
    }
    activator.stats.send(Stats {
        process: activator.process,
        at: Some(at),
        from_zero: false,
        of,
    });
}

/// A stat of a revision without calls.
fn stat(revision: &RevisionSpec, counts: Counts) -> Stat {
    Stat {
        revision: revision.key.clone(),
        uid: Arc::clone(&revision.uid),
        concurrency: 0.0,
        requests_per_second: 0.0,
        ready: counts.ready,
        starting: counts.starting,
        stopping: counts.stopping,
        cpu_cores: 0.0,
        memory_bytes: 0.0,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use kittiwake_core::resident::NoResidents;

    /// Nothing stays, nobody listens.
    pub(crate) fn inputs() -> Inputs {
        Inputs {
            residents: Arc::new(NoResidents),
            scale: watch::channel(Arc::default()).1,
            stats: kittiwake_core::scale::channel().0,
            instances: Arc::default(),
            process: 0,
        }
    }
}
