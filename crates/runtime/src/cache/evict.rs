//! Keeping the cache within its size.

use super::{Cache, CompiledEntry, Digest, ImageEntry, read_json};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::PoisonError;
use std::time::SystemTime;

/// What is known of one blob.
#[derive(Debug, Clone)]
struct Blob {
    digest: Digest,
    bytes: u64,
    used: SystemTime,
    local: bool,
}

/// The size of the cache as far as it is known without looking.
#[derive(Debug, Default)]
pub(super) struct Size {
    /// Bytes at the last look; `None` before the first.
    surveyed: Option<u64>,
    /// Bytes that this process has written since. Another process may have written more.
    grown: u64,
}

/// What this process may write before it looks again how large the cache is, as a part of its limit.
const SURVEY_PART: u64 = 16;

impl Cache {
    /// Takes note of bytes that were written.
    pub(super) fn grown(&self, bytes: usize) {
        self.size.lock().unwrap_or_else(PoisonError::into_inner).grown += bytes as u64;
    }

    /// Drops what was used longest ago until the cache fits. What is held is never dropped; a `.wasm` that came from
    /// this machine's disk goes last, because its source may have changed since.
    pub(super) fn evict(&self) {
        // Held throughout: one at a time.
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(surveyed) = size.surveyed {
            let known = surveyed.saturating_add(size.grown);
            let is_fresh = size.grown < self.bytes_max.0 / SURVEY_PART;
            if is_fresh && known <= self.bytes_max.0 {
                self.metrics
                    .cache_bytes
                    .set(i64::try_from(known).unwrap_or(i64::MAX));
                return;
            }
        }
        let blobs = self.survey();
        let total: u64 = blobs.iter().map(|blob| blob.bytes).sum();
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let victims = choose(blobs, total, self.bytes_max.0, |digest| held.contains_key(digest));
        let mut left = total;
        for victim in victims {
            if fs::remove_file(self.blob_path(&victim.digest)).is_ok() {
                left = left.saturating_sub(victim.bytes);
                self.metrics.cache_evicted.inc();
            }
        }
        *size = Size {
            surveyed: Some(left),
            grown: 0,
        };
        self.metrics
            .cache_bytes
            .set(i64::try_from(left).unwrap_or(i64::MAX));
    }

    /// All blobs, with the last use of whatever points to them.
    fn survey(&self) -> Vec<Blob> {
        let mut uses: HashMap<Digest, (SystemTime, bool)> = HashMap::new();
        let mut note = |digest: Option<Digest>, used: SystemTime, local: bool| {
            let Some(digest) = digest else { return };
            let entry = uses.entry(digest).or_insert((used, local));
            *entry = (entry.0.max(used), entry.1 || local);
        };
        for (path, _, used) in files(&self.images()) {
            if let Some(entry) = read_json::<ImageEntry>(&path) {
                note(Digest::parse(&entry.wasm), used, entry.local);
            }
        }
        for engine in fs::read_dir(self.root.join("compiled"))
            .into_iter()
            .flatten()
            .flatten()
        {
            for (path, _, used) in files(&engine.path()) {
                if let Some(entry) = read_json::<CompiledEntry>(&path) {
                    note(Digest::parse(&entry.blob), used, false);
                }
            }
        }
        let mut blobs = Vec::new();
        for (path, bytes, written) in files(&self.blobs()) {
            let Some(digest) = path
                .file_name()
                .and_then(|n| n.to_str())
                .and_then(Digest::from_hex)
            else {
                continue;
            };
            let (used, local) = uses.get(&digest).copied().unwrap_or((written, false));
            blobs.push(Blob {
                digest,
                bytes,
                used: used.max(written),
                local,
            });
        }
        blobs
    }
}

/// The blobs to drop so that `total` comes down to `bytes_max`.
fn choose(mut blobs: Vec<Blob>, total: u64, bytes_max: u64, held: impl Fn(&Digest) -> bool) -> Vec<Blob> {
    blobs.retain(|blob| !held(&blob.digest));
    blobs.sort_by_key(|blob| (blob.local, blob.used));
    let mut left = total;
    blobs
        .into_iter()
        .take_while(|blob| {
            let over = left > bytes_max;
            left = left.saturating_sub(blob.bytes);
            over
        })
        .collect()
}

/// The files of a folder with size and time; what vanishes meanwhile is left out.
fn files(folder: &Path) -> Vec<(std::path::PathBuf, u64, SystemTime)> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let meta = entry.metadata().ok()?;
            Some((entry.path(), meta.len(), meta.modified().ok()?))
        })
        .collect()
}
