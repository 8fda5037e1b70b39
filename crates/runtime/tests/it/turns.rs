//! The processor is shared by function: a flood of one keeps no other waiting.

use crate::support::{Rig, report_of, text};
use kittiwake_core::body;
use kittiwake_core::invoke::InvokeError;
use kittiwake_core::revision::{Limits, RevisionSpec};
use kittiwake_testkit::guest;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

const FLOOD: usize = 1000;
const HELLO: &str = "Hello from WebAssembly!\n";

fn rig() -> Rig {
    Rig::with(|config| {
        config.instances_max = 2 * 1000;
        config.threads = NonZeroU32::MIN;
    })
}

/// All calls at once: what came of each, in the order in which they ended.
async fn at_once(
    rig: &Rig,
    revisions: impl Iterator<Item = Arc<RevisionSpec>>,
) -> Vec<(Arc<str>, Result<Duration, InvokeError>)> {
    let ended = Arc::<std::sync::Mutex<Vec<_>>>::default();
    let calls: Vec<_> = revisions
        .map(|revision| {
            let ended = Arc::clone(&ended);
            let runtime = Arc::clone(&rig.runtime);
            tokio::spawn(async move {
                let answer = Rig::call_of(&runtime, &revision, body::empty()).await;
                let came = match answer {
                    Ok(response) => {
                        let queued = report_of(&response).queued;
                        assert_eq!(text(response).await, HELLO);
                        Ok(queued)
                    }
                    Err(error) => Err(error),
                };
                let uid = Arc::clone(&revision.uid);
                ended.lock().unwrap().push((uid, came));
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    std::mem::take(&mut *ended.lock().unwrap())
}

#[tokio::test]
async fn a_call_passes_those_that_wait_for_a_flooded_function() {
    let rig = rig();
    let flooded = rig.deploy_as("flooded", &guest::hello()).await;
    let other = rig.deploy_as("other", &guest::hello()).await;
    for revision in [&flooded, &other] {
        assert_eq!(rig.get(revision).await.unwrap(), HELLO);
    }
    let flood = std::iter::repeat_n(&flooded, FLOOD).chain([&other]);
    let ended = at_once(&rig, flood.cloned()).await;
    let at = ended.iter().position(|(uid, _)| **uid == *other.uid).unwrap();
    assert!(at < FLOOD / 2, "{at} calls went before it, though it came last");
    let waited = ended
        .iter()
        .filter(|(_, came)| came.as_ref().is_ok_and(|queued| !queued.is_zero()));
    assert!(waited.count() > FLOOD / 2, "their wait is in their reports");
    rig.runtime.unload_idle(Duration::ZERO);
    assert_eq!(rig.metric("kittiwake_guests_waiting"), 0);
}

#[tokio::test]
async fn a_call_whose_turn_does_not_come_in_time_is_refused() {
    let rig = rig();
    let warm = rig.deploy_as("flooded", &guest::hello()).await;
    assert_eq!(rig.get(&warm).await.unwrap(), HELLO);
    let hasty = Arc::new(RevisionSpec {
        limits: Limits {
            response_start_timeout: Some(Duration::from_millis(1)),
            ..Limits::default()
        },
        ..RevisionSpec::clone(&warm)
    });
    let ended = at_once(&rig, std::iter::repeat_n(hasty, FLOOD)).await;
    let refused = ended
        .iter()
        .filter(|(_, came)| matches!(came, Err(InvokeError::Overloaded { .. })));
    assert!(refused.count() > 0);
    // One that a tick has interrupted may have begun, and then waited too long for its next turn.
    let known = |came: &Result<_, _>| {
        matches!(
            came,
            Ok(_) | Err(InvokeError::Overloaded { .. } | InvokeError::TimedOut)
        )
    };
    assert!(ended.len() == FLOOD && ended.iter().all(|(_, came)| known(came)));
    assert_eq!(rig.get(&warm).await.unwrap(), HELLO);
}
