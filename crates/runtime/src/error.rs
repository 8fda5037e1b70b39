//! Why the runtime could not be built.

use std::path::PathBuf;

/// A failure at start-up.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The cache directory cannot be made or written.
    #[error(
        "the cache directory {path} cannot be used; choose another data directory or correct its permissions"
    )]
    Cache {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The WebAssembly engine refuses its configuration on this machine.
    #[error("the WebAssembly engine cannot start: {0}")]
    Engine(String),
    /// A metric of the same name is registered already.
    #[error("a metric cannot be registered")]
    Metrics(#[from] prometheus::Error),
    /// The HTTP client for registries cannot be made.
    #[error("the registry client cannot start")]
    Client(#[source] reqwest::Error),
    /// A thread cannot be started.
    #[error("the epoch thread cannot start")]
    Thread(#[source] std::io::Error),
}
