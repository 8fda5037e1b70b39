//! The autoscaler's loop: takes in what the request path saw, and decides every two seconds, and at once from zero, how
//! many instances each Revision needs (serving `pkg/autoscaler/{statserver,metrics,scaling}`).
//!
//! The loop only decides. What follows from a decision is applied by the PodAutoscaler's reconciler
//! ([`crate::pod_autoscaler`]), which finds the newest decision in [`deciders::Deciders`].
//!
//! Architecture invariant: a Revision without instances and without calls costs nothing per tick.

pub mod deciders;
pub mod metrics;
pub mod rules;
mod seconds;

use crate::context::Context;
use crate::object::ObjectKey;
use kittiwake_core::clock::Clock;
use kittiwake_core::scale::Stats;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

/// Listens to the request path and decides, for ever. Reconcilers make the deciders; before that there is nothing to do.
pub async fn run(context: Arc<Context>, mut stats: mpsc::Receiver<Stats>) {
    let mut config = context.autoscaler.subscribe();
    let mut ticks = tokio::time::interval_at(
        Instant::now() + kittiwake_autoscaler::decider::TICK,
        kittiwake_autoscaler::decider::TICK,
    );
    // After a pause of the machine one decision makes up for those that were missed.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut listening = true;
    loop {
        let concerned = tokio::select! {
            batch = stats.recv(), if listening => match batch {
                Some(batch) => {
                    let at = seen_at(&batch, &*context.clock);
                    context.deciders.take(batch, at)
                }
                None => {
                    listening = false;
                    continue;
                }
            },
            _ = ticks.tick() => context.deciders.tick(context.clock.elapsed()),
            () = changed(&mut config) => keys(&context),
        };
        for key in concerned {
            context.queues.pod_autoscaler.add(key);
        }
    }
}

/// When a batch was seen, by the clock that decisions go by: it may have waited for a processor on its way, and so may this
/// loop, whose threads are preferred less than those that answer calls.
fn seen_at(batch: &Stats, clock: &dyn Clock) -> Duration {
    let waited = batch.at.map(|at| clock.now().duration_since(at));
    // Less than none where the wall clock was set back meanwhile.
    let waited = waited.and_then(|waited| Duration::try_from(waited).ok());
    let waited = waited.unwrap_or_default().min(deciders::PROCESS_SILENT_MAX);
    clock.elapsed().saturating_sub(waited)
}

/// Whom new settings concern: everyone.
fn keys(context: &Context) -> Vec<ObjectKey> {
    let objects = context.stores.pod_autoscalers.all();
    objects.iter().map(|object| ObjectKey::of(&**object)).collect()
}

/// Resolves after a change of the settings; never once nobody can change them.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
