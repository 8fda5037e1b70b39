//! What an instance finds in its file system: `/tmp` of its own, and the mounts of its revision.
//!
//! Files of ConfigMaps and the like are written once for a revision and shared by its instances, which can only read
//! them. What an instance writes lives in a folder of its own that goes with it. Folders are below `run` in the data
//! directory, one for each process that uses it; what a process left that is gone is removed by the next.

use kittiwake_core::revision::RevisionSpec;
use kittiwake_core::unit::ByteCount;
use kittiwake_core::volume::{Content, Mount};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tempfile::TempDir;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

/// Where every instance may write.
const TMP: &str = "/tmp";
/// The most that an instance may keep in `/tmp`, and in a scratch volume that says nothing else.
pub(crate) const SCRATCH_BYTES_MAX: ByteCount = ByteCount::mib(256);
/// Entries of a folder tree that are counted; a tree that has more is too large.
const ENTRIES_MAX: usize = 16 * 1024;

/// Where the folders of this process are.
pub(crate) struct FileRoot {
    folder: TempDir,
    _lock: File,
    /// Mounted files, by the address of what they were written from.
    written: Mutex<HashMap<usize, Weak<Written>>>,
}

/// Files of a mount that were written, until nobody uses them.
struct Written {
    folder: TempDir,
    /// Keeps the address from being used again.
    files: Arc<BTreeMap<String, bytes::Bytes>>,
}

/// What one instance finds, and what it wrote, which goes with this.
#[derive(Clone)]
pub(crate) struct Files(Arc<Own>);

struct Own {
    /// Its own folder, with one for each place that it may write to.
    folder: TempDir,
    /// Where each folder is, where the instance finds it.
    mounts: Vec<(PathBuf, Arc<str>, Access)>,
    limits: Vec<(PathBuf, ByteCount, Arc<str>)>,
    _written: Vec<Arc<Written>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// An instance keeps more than it may.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{place} holds more than its limit of {limit}: the instance is ended, as a pod would be evicted")]
pub(crate) struct TooMuchKept {
    place: Arc<str>,
    limit: ByteCount,
}

impl FileRoot {
    /// Makes the folder of this process and removes those of processes that are gone.
    pub(crate) fn open(data_dir: &Path) -> io::Result<Self> {
        let run = data_dir.join("run");
        fs::create_dir_all(&run)?;
        for entry in fs::read_dir(&run)?.flatten() {
            let lock = File::open(entry.path().join("lock"));
            if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let folder = tempfile::Builder::new().prefix("process-").tempdir_in(&run)?;
        let lock = File::create(folder.path().join("lock"))?;
        lock.lock()?;
        Ok(Self {
            folder,
            _lock: lock,
            written: Mutex::default(),
        })
    }

    /// What an instance of a revision finds.
    pub(crate) fn instance(&self, revision: &RevisionSpec) -> io::Result<Files> {
        let folder = tempfile::Builder::new()
            .prefix("i-")
            .tempdir_in(self.folder.path())?;
        let mut own = Own {
            folder,
            mounts: Vec::new(),
            limits: Vec::new(),
            _written: Vec::new(),
        };
        let mut scratch: HashMap<Arc<str>, PathBuf> = HashMap::new();
        let mut tmp = true;
        for Mount { path, content } in &revision.mounts {
            tmp &= &**path != TMP;
            match content {
                Content::Files(files) => {
                    let written = self.write(files)?;
                    let at = written.folder.path().to_owned();
                    own.mounts.push((at, Arc::clone(path), Access::Read));
                    own._written.push(written);
                }
                Content::Scratch { volume, limit } => {
                    let at = match scratch.get(volume) {
                        Some(at) => at.clone(),
                        None => {
                            let at = own.folder.path().join(format!("v{}", scratch.len()));
                            fs::create_dir(&at)?;
                            own.limits.push((
                                at.clone(),
                                limit.unwrap_or(SCRATCH_BYTES_MAX),
                                format!("the volume {volume}").into(),
                            ));
                            scratch.insert(Arc::clone(volume), at.clone());
                            at
                        }
                    };
                    own.mounts.push((at, Arc::clone(path), Access::Write));
                }
            }
        }
        if tmp {
            let at = own.folder.path().join("tmp");
            fs::create_dir(&at)?;
            own.limits.push((at.clone(), SCRATCH_BYTES_MAX, TMP.into()));
            own.mounts.push((at, TMP.into(), Access::Write));
        }
        Ok(Files(Arc::new(own)))
    }

    /// The folder with the files of a mount.
    fn write(&self, files: &Arc<BTreeMap<String, bytes::Bytes>>) -> io::Result<Arc<Written>> {
        let key = Arc::as_ptr(files).addr();
        let mut all = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = all.get(&key).and_then(Weak::upgrade)
            && Arc::ptr_eq(&found.files, files)
        {
            return Ok(found);
        }
        all.retain(|_, other| other.strong_count() > 0);
        let folder = tempfile::Builder::new()
            .prefix("m-")
            .tempdir_in(self.folder.path())?;
        for (path, content) in files.iter() {
            let path = folder.path().join(checked(path)?);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, content)?;
        }
        let written = Arc::new(Written {
            folder,
            files: Arc::clone(files),
        });
        all.insert(key, Arc::downgrade(&written));
        Ok(written)
    }
}

/// A path below a mount that does not leave it.
fn checked(path: &str) -> io::Result<&Path> {
    let path = Path::new(path);
    let inside = path
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_)));
    if inside {
        return Ok(path);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("the mounted file {} is outside of its volume", path.display()),
    ))
}

impl Files {
    /// Opens the folders for an instance.
    pub(crate) fn open(&self, builder: &mut WasiCtxBuilder) -> wasmtime::Result<()> {
        for (at, path, access) in &self.0.mounts {
            let permissions = match access {
                Access::Read => FsPerms::ReadOnly,
                Access::Write => FsPerms::ReadWrite,
            };
            builder.preopened_dir(at, &**path, permissions)?;
        }
        Ok(())
    }

    /// Opens a folder that nobody sees, because a socket takes its number.
    pub(crate) fn cover(&self, builder: &mut WasiCtxBuilder) -> wasmtime::Result<()> {
        let covered = self.0.folder.path().join("covered");
        fs::create_dir_all(&covered)?;
        builder.preopened_dir(covered, "/.listener", FsPerms::ReadOnly)?;
        Ok(())
    }

    /// Whether the instance keeps no more than it may.
    pub(crate) fn check(&self) -> Result<(), TooMuchKept> {
        for (folder, limit, place) in &self.0.limits {
            let mut entries = 0;
            if size(folder, &mut entries) > limit.0 || entries > ENTRIES_MAX {
                return Err(TooMuchKept {
                    place: Arc::clone(place),
                    limit: *limit,
                });
            }
        }
        Ok(())
    }
}

/// Bytes below a folder.
fn size(folder: &Path, entries: &mut usize) -> u64 {
    let mut total = 0_u64;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        *entries += 1;
        if *entries > ENTRIES_MAX {
            return total;
        }
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            total = total.saturating_add(size(&entry.path(), entries));
        } else if let Ok(meta) = entry.metadata() {
            total = total.saturating_add(meta.len());
        }
    }
    total
}
