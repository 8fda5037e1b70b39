//! Mounted files, written once and shared by the instances that read them.
//!
//! Instances that come and go with one version of their revision share files that never change. Those that stay find
//! new contents while they run: a folder of theirs is laid out as the kubelet's are (kubernetes
//! `pkg/volume/util/atomic_writer.go`), with the files in a folder of their own that the link `..data` names, and a link
//! through `..data` for each name. Exchanging that one link exchanges all files at once.

use super::place::Folder;
use kittiwake_core::revision::RevisionSpec;
use kittiwake_core::volume::{Content, Mount};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Component, Path};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tempfile::TempDir;

/// Looks at which files may be found unused before they are removed: instances that come one after the other need not
/// write them again.
pub(super) const UNUSED_LOOKS_MAX: u32 = 10;
/// The link that names the folder with the files.
const DATA: &str = "..data";
/// What [`DATA`] is called until it takes the place of the one before.
const DATA_NEXT: &str = "..data_tmp";
/// What the platform's own names begin with, in a folder whose files are exchanged.
const OWN_PREFIX: &str = "..";

/// Files by their path.
pub(super) type Tree = BTreeMap<String, bytes::Bytes>;

/// Which instances share the files of a mount.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// Those that have the very same files: by the address of these.
    Same(usize),
    /// Those of a revision that stay: by its uid and the mount's path.
    Renewed(Arc<str>, Arc<str>),
}

impl Key {
    /// The key of a mount of a revision with these files.
    pub(super) fn of(revision: &RevisionSpec, mount: &Mount, tree: &Arc<Tree>) -> Self {
        if revision.kind.is_resident() && !mount.fixed {
            return Self::Renewed(Arc::clone(&revision.uid), Arc::clone(&mount.path));
        }
        Self::Same(Arc::as_ptr(tree).addr())
    }
}

/// Files of a mount that were written.
pub(super) struct Written {
    folder: Folder,
    /// What is in the folder. Of files that never change this keeps the address from being used again.
    current: Mutex<Current>,
    /// How often [`Written::is_kept`] has found it unused.
    unused: AtomicU32,
}

struct Current {
    tree: Arc<Tree>,
    /// Where the files are, if they are exchanged.
    _data: Option<TempDir>,
}

impl Written {
    /// Writes the files of a mount below `place`.
    pub(super) fn new(key: &Key, tree: &Arc<Tree>, place: &Path) -> io::Result<Self> {
        let folder = Folder::make("m-", place)?;
        let data = match key {
            Key::Same(_) => {
                write_all(folder.path(), tree)?;
                None
            }
            Key::Renewed(..) => {
                let data = put(folder.path(), tree)?;
                link_names(folder.path(), tree)?;
                Some(data)
            }
        };
        Ok(Self {
            folder,
            current: Mutex::new(Current {
                tree: Arc::clone(tree),
                _data: data,
            }),
            unused: AtomicU32::new(0),
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Exchanges the files for others, all at once. Whoever has one open still reads that.
    pub(super) fn renew(&self, tree: &Arc<Tree>) -> io::Result<()> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if *current.tree == **tree {
            return Ok(());
        }
        // The folder of those before goes with what knew of it.
        *current = Current {
            _data: Some(put(self.folder.path(), tree)?),
            tree: Arc::clone(tree),
        };
        link_names(self.folder.path(), tree)
    }

    /// Whether it is to be kept: an instance uses it, or did so lately. To be asked now and then.
    pub(super) fn is_kept(this: &Arc<Self>) -> bool {
        if Arc::strong_count(this) > 1 {
            this.unused.store(0, Ordering::Relaxed);
            return true;
        }
        this.unused.fetch_add(1, Ordering::Relaxed) < UNUSED_LOOKS_MAX
    }
}

/// The mounts of a revision with the files that are in them.
pub(super) fn trees(revision: &RevisionSpec) -> impl Iterator<Item = (&Mount, &Arc<Tree>)> {
    revision.mounts.iter().filter_map(|mount| match &mount.content {
        Content::Files(tree) => Some((mount, tree)),
        Content::Scratch { .. } => None,
    })
}

fn write_all(folder: &Path, tree: &Tree) -> io::Result<()> {
    for (path, content) in tree {
        let path = folder.join(checked(path)?);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, content)?;
    }
    Ok(())
}

/// Puts files into a folder in the place of those that are there; gives where they are.
fn put(folder: &Path, tree: &Tree) -> io::Result<TempDir> {
    let data = tempfile::Builder::new().prefix(OWN_PREFIX).tempdir_in(folder)?;
    write_all(data.path(), tree)?;
    let name = data.path().file_name().unwrap_or_default();
    let next = folder.join(DATA_NEXT);
    // Left by one that was cut short, if any.
    let _ = fs::remove_file(&next);
    symlink(name, &next)?;
    fs::rename(&next, folder.join(DATA))?;
    Ok(data)
}

/// Makes a link for each name that a guest finds in a folder, and removes those of files that are not there any more.
fn link_names(folder: &Path, tree: &Tree) -> io::Result<()> {
    let mut names = BTreeSet::new();
    for path in tree.keys() {
        if let Some(Component::Normal(name)) = Path::new(path).components().next() {
            names.insert(name);
        }
    }
    for name in &names {
        let link = folder.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), link)?;
        }
    }
    for entry in fs::read_dir(folder)?.flatten() {
        let name = entry.file_name();
        let is_own = name.as_encoded_bytes().starts_with(OWN_PREFIX.as_bytes());
        if !is_own && !names.contains(name.as_os_str()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// A path below a mount that does not leave it.
fn checked(path: &str) -> io::Result<&Path> {
    let inside = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if inside && !path.starts_with(OWN_PREFIX) {
        return Ok(Path::new(path));
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("the mounted file {path} is outside of its volume"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn tree(files: &[(&str, &str)]) -> Arc<Tree> {
        let files = files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), Bytes::from((*text).to_owned())));
        Arc::new(files.collect())
    }

    /// The files that a guest finds by name, and what is in them.
    fn found(folder: &Path) -> BTreeMap<String, String> {
        let names = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| name.into_string().unwrap());
        let seen = names.filter(|name| !name.starts_with(OWN_PREFIX));
        seen.map(|name| {
            let text = fs::read_to_string(folder.join(&name)).unwrap_or_else(|_| "a folder".to_owned());
            (name, text)
        })
        .collect()
    }

    fn texts(files: &[(&str, &str)]) -> BTreeMap<String, String> {
        let files = files.iter();
        files
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect()
    }

    #[test]
    fn files_are_exchanged_all_at_once() {
        let place = tempfile::tempdir().unwrap();
        let key = Key::Renewed("uid".into(), "/m".into());
        let first = tree(&[("a", "1"), ("gone", "1"), ("d/x", "1")]);
        let written = Written::new(&key, &first, place.path()).unwrap();
        let folder = written.path();
        assert_eq!(
            found(folder),
            texts(&[("a", "1"), ("d", "a folder"), ("gone", "1")])
        );
        assert_eq!(fs::read_to_string(folder.join("d/x")).unwrap(), "1");
        let before = fs::read_link(folder.join(DATA)).unwrap();
        let open = fs::File::open(folder.join("a")).unwrap();
        written
            .renew(&tree(&[("a", "2"), ("new", "2"), ("d/y", "2")]))
            .unwrap();
        assert_eq!(
            found(folder),
            texts(&[("a", "2"), ("d", "a folder"), ("new", "2")])
        );
        assert_eq!(fs::read_to_string(folder.join("d/y")).unwrap(), "2");
        assert!(!folder.join("d/x").exists() && !folder.join(&before).exists());
        assert_eq!(io::read_to_string(open).unwrap(), "1", "it was open");
        let now = fs::read_link(folder.join(DATA)).unwrap();
        written
            .renew(&tree(&[("a", "2"), ("new", "2"), ("d/y", "2")]))
            .unwrap();
        assert_eq!(
            fs::read_link(folder.join(DATA)).unwrap(),
            now,
            "they are the same"
        );
        written.renew(&tree(&[])).unwrap();
        assert_eq!(found(folder), texts(&[]));
    }

    #[test]
    fn an_exchange_that_fails_leaves_what_was_there() {
        let place = tempfile::tempdir().unwrap();
        let key = Key::Renewed("uid".into(), "/m".into());
        let written = Written::new(&key, &tree(&[("a", "1")]), place.path()).unwrap();
        for bad in ["../x", "..data", "..x", "/etc/x"] {
            assert!(written.renew(&tree(&[("a", "2"), (bad, "2")])).is_err(), "{bad}");
            assert_eq!(found(written.path()), texts(&[("a", "1")]), "{bad}");
        }
        let own = fs::read_dir(written.path()).unwrap().count();
        assert_eq!(
            own, 3,
            "the link, the folder that it names, and the file's own link"
        );
    }
}
