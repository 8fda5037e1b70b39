//! The sockets by which workers pass calls on to one another: one for each, in a folder that only this user enters. The
//! supervisor makes them and keeps them open, so that calls wait in the one of a worker that is being replaced.

use anyhow::Context;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// The folder in the data directory.
const FOLDER: &str = "workers";
/// Longest path of a socket, in bytes (unix(7): 108 with the zero at its end).
const PATH_BYTES_MAX: usize = 107;
/// Room for a worker's number.
const NAME_BYTES_MAX: usize = 8;

/// Where the sockets are, for as long as this lives.
pub struct InnerDoors {
    folder: PathBuf,
    /// Open where the folder's own path is too long for sockets: it is entered by way of this.
    _handle: Option<File>,
}

impl InnerDoors {
    /// Those of a data directory, which need not be there yet.
    ///
    /// # Errors
    /// When its folder cannot be made or is not this user's alone.
    pub fn of(data_dir: &Path) -> anyhow::Result<Self> {
        let folder = data_dir.join(FOLDER);
        Self::open(&folder)
            .with_context(|| format!("cannot use {} for the workers' sockets", folder.display()))
    }

    fn open(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let found = fs::symlink_metadata(folder)?;
        if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it is somebody else's",
            ));
        }
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        if folder.as_os_str().len() + NAME_BYTES_MAX <= PATH_BYTES_MAX {
            return Ok(Self {
                folder: folder.to_owned(),
                _handle: None,
            });
        }
        let handle = File::open(folder)?;
        Ok(Self {
            folder: PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd())),
            _handle: Some(handle),
        })
    }

    /// The path of each of `count` workers' sockets.
    #[must_use]
    pub fn paths(&self, count: usize) -> Vec<PathBuf> {
        (0..count)
            .map(|index| self.folder.join(index.to_string()))
            .collect()
    }

    /// Makes the sockets. Those that another program left there are replaced: who connects from now on comes here.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn listen(&self, count: usize) -> anyhow::Result<Vec<UnixListener>> {
        let listen = |path: &PathBuf| {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let listener = UnixListener::bind(path)?;
            fs::set_permissions(path, Permissions::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let paths = self.paths(count);
        let listeners = paths.iter().map(|path| {
            listen(path).with_context(|| format!("cannot make a worker's socket {}", path.display()))
        });
        listeners.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn sockets_are_the_users_alone_and_replaced() {
        for deep in ["data".to_owned(), "d".repeat(60) + "/" + &"e".repeat(60)] {
            let folder = tempfile::tempdir().unwrap();
            let data_dir = folder.path().join(deep);
            let real = data_dir.join(FOLDER);
            fs::create_dir_all(&real).unwrap();
            fs::set_permissions(&real, Permissions::from_mode(0o755)).unwrap();
            let doors = InnerDoors::of(&data_dir).unwrap();
            let old = doors.listen(2).unwrap();
            let new = doors.listen(2).unwrap();
            assert_eq!((mode(&real), mode(&real.join("1"))), (0o700, 0o600));
            // Another process finds them by itself.
            let found = InnerDoors::of(&data_dir).unwrap();
            let _calling = UnixStream::connect(&found.paths(2)[1]).unwrap();
            new[1].accept().unwrap();
            assert!(old[1].accept().is_err());
        }
    }

    #[test]
    fn what_is_no_folder_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FOLDER), "").unwrap();
        assert!(InnerDoors::of(folder.path()).is_err());
    }
}
