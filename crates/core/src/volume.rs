//! What an instance finds in its file system: folders of files from ConfigMaps, Secrets and the like, and scratch space.

use crate::unit::ByteCount;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A folder that an instance finds at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where: absolute, normalized, not `/`.
    pub path: Arc<str>,
    /// What is there.
    pub content: Content,
    /// Whether an instance keeps the files that it has found: of a part of a volume (`subPath`) Kubernetes shows a running
    /// container nothing new.
    pub fixed: bool,
}

/// What is in a mounted folder.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// Files that cannot be changed, by their path below the folder (`/` between parts; no part is `.`, `..` or empty).
    Files(Arc<BTreeMap<String, Bytes>>),
    /// An empty folder of the instance's own that can be written to, and is gone with the instance: `emptyDir`. Mounts
    /// of one volume have one name and share it.
    Scratch {
        /// Name of the volume.
        volume: Arc<str>,
        /// The most that it may hold; `None`: what the platform allows.
        limit: Option<ByteCount>,
    },
}

impl std::fmt::Debug for Content {
    /// Names files without what they hold, which may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Files(files) => f
                .debug_tuple("Files")
                .field(&files.keys().collect::<Vec<_>>())
                .finish(),
            Self::Scratch { volume, limit } => f
                .debug_struct("Scratch")
                .field("volume", volume)
                .field("limit", limit)
                .finish(),
        }
    }
}
