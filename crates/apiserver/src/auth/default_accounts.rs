//! The ServiceAccount `default` of every namespace (kubernetes/pkg/controller/serviceaccount).

use crate::object;
use crate::server::Server;
use kittiwake_store::Key;
use serde_json::json;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The account that is in every namespace.
const DEFAULT: &str = "default";

/// Makes missing ones until the server stops. One that is deleted comes back, with another uid: its tokens are void.
pub(crate) async fn run(server: Arc<Server>, shutdown: CancellationToken) {
    loop {
        let before = server.store.resource_version();
        sweep(&server).await;
        let changed = async {
            // A lost watch only means looking again.
            let watches = (
                server.store.watch("namespaces", before),
                server.store.watch("serviceaccounts", before),
            );
            if let (Ok(mut namespaces), Ok(mut accounts)) = watches {
                tokio::select! {
                    _ = namespaces.next() => {}
                    _ = accounts.next() => {}
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = changed => {}
        }
    }
}

/// Makes those that are missing now.
pub(crate) async fn sweep(server: &Server) {
    for namespace in server.store.list("namespaces", None).items {
        let name = &namespace.key.name;
        let there = server
            .store
            .get(&Key::new("serviceaccounts", Arc::clone(name), DEFAULT));
        if there.is_some() || object::is_terminating(&namespace.object.tree()) {
            continue;
        }
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": DEFAULT}});
        server
            .put_own("", "v1", "serviceaccounts", name, DEFAULT, |old| match old {
                Some(_) => None,
                None => Some(account),
            })
            .await;
    }
}
