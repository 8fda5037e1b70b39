//! Objects that are made from others and kept in memory: when that begins, and how they are written.

use crate::server::Server;
use crate::{endpoints, scaled};
use kittiwake_store::{Change, Key, Stored};
use serde_json::Value;
use std::convert::Infallible;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Whether somebody asked for objects that nobody needs before, and whether they are there.
#[derive(Debug)]
pub(crate) struct OnDemand {
    asked: watch::Sender<bool>,
    made: watch::Sender<bool>,
}

impl Default for OnDemand {
    fn default() -> Self {
        Self {
            asked: watch::Sender::new(false),
            made: watch::Sender::new(false),
        }
    }
}

impl OnDemand {
    /// Asks for them, and resolves once they are there.
    async fn ask(&self, shutdown: &CancellationToken) {
        self.asked.send_replace(true);
        let mut made = self.made.subscribe();
        tokio::select! {
            _ = made.wait_for(|made| *made) => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// Resolves once somebody has asked.
    pub(crate) async fn asked(&self) {
        // The sender lives as long as the server.
        let _ = self.asked.subscribe().wait_for(|asked| *asked).await;
    }

    /// They are there.
    pub(crate) fn done(&self) {
        self.made.send_replace(true);
    }
}

/// Resolves once all objects of a kind are there; at once for a kind that is not made on demand. `resource` is where
/// they are in the store.
pub(crate) async fn wait_for(server: &Server, resource: &str) {
    if scaled::RESOURCES.contains(&resource) {
        server.scaled.ask(&server.shutdown).await;
    } else if endpoints::RESOURCES.contains(&resource) {
        server.endpoints.ask(&server.shutdown).await;
    }
}

/// Puts what is made of the old object, where it differs; deletes it where nothing is made.
pub(crate) async fn write(
    server: &Server,
    key: Key,
    make: impl FnOnce(Option<&Value>) -> Option<Value> + Send,
) {
    let decide = |old: Option<&Stored>| {
        let old = old.map(|stored| {
            let mut tree = (*stored.object.tree()).clone();
            crate::object::metadata_mut(&mut tree).shift_remove("resourceVersion");
            tree
        });
        let change = match make(old.as_ref()) {
            None => Change::Delete,
            Some(new) if Some(&new) == old.as_ref() => Change::Keep,
            Some(new) => Change::Put(new),
        };
        Ok::<_, Infallible>((change, ()))
    };
    if let Err(error) = server.made.write(key, decide).await {
        tracing::debug!(%error, "an object that is made from others is not shown");
    }
}
