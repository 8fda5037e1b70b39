//! What administrators set in ConfigMaps, as admission uses it: read from the store, and again after every change.

use crate::object;
use crate::server::Server;
use arc_swap::{ArcSwap, Guard};
use kittiwake_api::config::{self, Settings, admission, example};
use kittiwake_store::Key;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The plural of ConfigMaps.
const CONFIG_MAPS: &str = "configmaps";

/// The settings now. Cheap to clone; all clones see a change.
#[derive(Clone, Default)]
pub(crate) struct LiveSettings(Arc<ArcSwap<Settings>>);

impl LiveSettings {
    pub(crate) fn load(&self) -> Guard<Arc<Settings>> {
        self.0.load()
    }
}

/// Makes ConfigMaps that are missing, and renews the examples in those that are there.
pub(crate) async fn bootstrap(server: &Server) {
    for name in example::names() {
        server
            .put_own("", "v1", CONFIG_MAPS, config::NAMESPACE, name, |old| {
                example::ensured(name, old)
            })
            .await;
    }
    read(server);
}

/// Follows the ConfigMaps until the server stops.
pub(crate) async fn run(server: Arc<Server>, shutdown: CancellationToken) {
    loop {
        let before = server.store.resource_version();
        read(&server);
        let changed = async {
            // A lost watch only means looking again.
            if let Ok(mut maps) = server.store.watch(CONFIG_MAPS, before) {
                let _ = maps.next().await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = changed => {}
        }
    }
}

/// Reads all of them. One that cannot be used, which admission lets nobody write, leaves its settings as they were.
fn read(server: &Server) {
    let mut settings = Settings::clone(&server.settings.load());
    for name in config::NAMES {
        let stored = server.store.get(&Key::new(CONFIG_MAPS, config::NAMESPACE, name));
        let stored = stored.map(|stored| stored.object.tree());
        let data = stored
            .filter(|map| !object::is_terminating(map))
            .map(|map| admission::data_of(&map));
        if let Err(error) = settings.set(name, data.as_ref()) {
            tracing::warn!(config_map = name, %error, "settings that cannot be used; the last good ones stay");
        }
    }
    if settings != **server.settings.load() {
        server.settings.0.store(Arc::new(settings));
    }
}
