//! How many instances of each Revision there shall be, for the request path: from what PodAutoscalers say
//! ([`kittiwake_api::meta::REPLICAS_ANNOTATION`] in their status).

use crate::object::{Meta, ObjectKey};
use kittiwake_api::autoscaling::pod_autoscaler::PodAutoscaler;
use kittiwake_api::meta;
use kittiwake_core::scale::{ScaleTable, Wanted};
use kittiwake_core::share::Share;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// How long after a change more are awaited: a burst of changes then costs few tables, and the first is out at once.
const PAUSE_MIN: Duration = Duration::from_millis(2);

/// The uid of the Revision that a PodAutoscaler scales, and how many instances it shall have.
#[must_use]
pub fn wanted(object: &PodAutoscaler) -> Option<(Arc<str>, u32)> {
    let replicas = replicas(object)?;
    let uid = object.label(meta::REVISION_UID_LABEL)?;
    Some((uid.into(), replicas))
}

/// How many instances there shall be, once that was decided.
#[must_use]
pub fn replicas(object: &PodAutoscaler) -> Option<u32> {
    let annotations = &object.status.as_ref()?.annotations;
    annotations.get(meta::REPLICAS_ANNOTATION)?.parse().ok()
}

/// What all PodAutoscalers say, kept from change to change.
#[derive(Debug, Default)]
pub struct Scales {
    by_key: Mutex<HashMap<ObjectKey, (Arc<str>, u32)>>,
    changed: Notify,
}

impl Scales {
    /// Takes note of a PodAutoscaler as it is now; `None` when it is gone.
    pub fn set(&self, key: &ObjectKey, now: Option<&PodAutoscaler>) {
        let new = now.filter(|object| !object.is_being_deleted()).and_then(wanted);
        let mut by_key = self.lock();
        if by_key.get(key) == new.as_ref() {
            return;
        }
        match new {
            Some(new) => by_key.insert(key.clone(), new),
            None => by_key.remove(key),
        };
        drop(by_key);
        self.changed.notify_one();
    }

    /// Publishes the share of this process after each change, for ever. Without a share there is nothing.
    pub async fn publish(
        &self,
        mut share: watch::Receiver<Option<Share>>,
        table: watch::Sender<Arc<ScaleTable>>,
    ) {
        loop {
            let began = Instant::now();
            let current = *share.borrow_and_update();
            let new = current.map(|share| self.table(share)).unwrap_or_default();
            table.send_if_modified(|old| {
                let differs = **old != new;
                if differs {
                    *old = Arc::new(new);
                }
                differs
            });
            tokio::time::sleep(crate::routing_table::pause(PAUSE_MIN, began.elapsed())).await;
            tokio::select! {
                () = self.changed.notified() => {}
                Ok(()) = share.changed() => {}
            }
        }
    }

    fn table(&self, share: Share) -> ScaleTable {
        let by_key = self.lock();
        let entries = by_key.values().map(|(uid, replicas)| {
            let wanted = Wanted {
                here: share.of(uid, *replicas),
                all: *replicas,
            };
            (Arc::clone(uid), wanted)
        });
        ScaleTable(entries.collect())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, (Arc<str>, u32)>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(replicas: &str) -> PodAutoscaler {
        serde_json::from_value(json!({
            "apiVersion": "autoscaling.internal.knative.dev/v1alpha1", "kind": "PodAutoscaler",
            "metadata": { "name": "r", "labels": { "serving.knative.dev/revisionUID": "u" } },
            "spec": {},
            "status": { "annotations": { "kittiwake.dev/replicas": replicas } },
        }))
        .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_follows_objects_and_shares() {
        let scales = Arc::new(Scales::default());
        let key = ObjectKey::new("default", "r");
        let (share, share_receiver) = watch::channel(None);
        let (sender, mut table) = watch::channel(Arc::default());
        let publisher = Arc::clone(&scales);
        tokio::spawn(async move { publisher.publish(share_receiver, sender).await });
        scales.set(&key, Some(&object("5")));
        let of = |index| Share {
            index,
            count: 2,
            joined: true,
        };
        let (one, other) = (of(0).of("u", 5), of(1).of("u", 5));
        assert_eq!((one + other, one.abs_diff(other)), (5, 1));
        share.send_replace(Some(of(1)));
        let has = |here, all| move |table: &Arc<ScaleTable>| table.0.get("u") == Some(&Wanted { here, all });
        table.wait_for(has(other, 5)).await.unwrap();
        share.send_replace(Some(of(0)));
        table.wait_for(has(one, 5)).await.unwrap();
        scales.set(&key, Some(&object("0")));
        table.wait_for(has(0, 0)).await.unwrap();
        scales.set(&key, Some(&object("many")));
        table.wait_for(|table| table.0.is_empty()).await.unwrap();
    }
}
