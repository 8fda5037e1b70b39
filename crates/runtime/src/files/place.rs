//! Where the folders of a process are: one folder on disk and one in memory, which go with the process.

use rustix::fs::statfs;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Where Linux has a file system in memory for everyone.
const SHARED_MEMORY: &str = "/dev/shm";
/// The type of such a file system (statfs(2)).
const TMPFS: i64 = 0x0102_1994;
/// The lock of a folder, within it.
const LOCK: &str = "lock";

/// A folder of this process, locked as long as the process lives, and removed at its end.
pub(super) struct RunFolder {
    folder: TempDir,
    _lock: File,
}

impl RunFolder {
    /// Makes a folder below `run`, where those of other processes are, and removes those of processes that are gone.
    pub(super) fn open(run: &Path) -> io::Result<Self> {
        fs::create_dir_all(run)?;
        // So that nobody takes a folder for one that was left while it is made.
        let gate = File::create(run.join(LOCK))?;
        gate.lock()?;
        for entry in fs::read_dir(run)?.flatten() {
            let lock = File::open(entry.path().join(LOCK));
            if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let folder = tempfile::Builder::new()
            .prefix("process-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(run)?;
        let lock = File::create(folder.path().join(LOCK))?;
        lock.lock()?;
        Ok(Self { folder, _lock: lock })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// A folder of this user's in memory, where what is written does not reach the disk; `None` where there is none.
pub(super) fn in_memory() -> Option<PathBuf> {
    let shared = Path::new(SHARED_MEMORY);
    if statfs(shared).ok()?.f_type != TMPFS {
        return None;
    }
    let user = rustix::process::geteuid().as_raw();
    let folder = shared.join(format!("kittiwake-{user}"));
    // Whether it was there or not: all that counts is whose it is.
    let _ = DirBuilder::new().mode(0o700).create(&folder);
    let found = fs::symlink_metadata(&folder).ok()?;
    (found.is_dir() && found.uid() == user && found.mode() & 0o077 == 0).then_some(folder)
}

/// A folder that goes with this. It is removed by another thread where there is one for such work, so that no call waits
/// for it.
pub(super) struct Folder(Option<TempDir>);

impl Folder {
    /// Makes one.
    pub(super) fn make(prefix: &str, parent: &Path) -> io::Result<Self> {
        let made = tempfile::Builder::new().prefix(prefix).tempdir_in(parent)?;
        Ok(Self(Some(made)))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.0.as_ref().map_or(Path::new(""), TempDir::path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let folder = self.0.take();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn_blocking(move || drop(folder)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_left_is_removed_by_the_next() {
        let data = tempfile::tempdir().unwrap();
        let run = data.path().join("run");
        let first = RunFolder::open(&run).unwrap();
        let left = run.join("process-gone");
        fs::create_dir_all(left.join("i-1/tmp")).unwrap();
        fs::write(left.join(LOCK), "").unwrap();
        let _other = RunFolder::open(&run).unwrap();
        assert!(!left.exists() && first.path().exists());
        let seen_by = fs::metadata(first.path()).unwrap().mode() & 0o777;
        assert_eq!(seen_by, 0o700, "the files of Secrets are there");
    }

    #[test]
    fn the_folder_in_memory_is_of_this_user_alone() {
        let Some(folder) = in_memory() else {
            return; // Not every machine has one.
        };
        assert_eq!(in_memory().as_ref(), Some(&folder), "it is found again");
        assert_eq!(fs::metadata(folder).unwrap().mode() & 0o777, 0o700);
    }
}
