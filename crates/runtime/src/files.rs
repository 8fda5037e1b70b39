//! What an instance finds in its file system: `/tmp` of its own, and the mounts of its revision.
//!
//! Files of ConfigMaps and the like are written once for a revision and shared by its instances, which can only read
//! them; instances that stay see what becomes of them ([`mounted`]). They are in memory where the machine has a file system there, since Secrets must not reach the disk, and go a
//! while after the last instance that uses them. What an instance writes lives on disk, in a folder of its own that goes
//! with it.

use kittiwake_core::revision::RevisionSpec;
use kittiwake_core::unit::ByteCount;
use kittiwake_core::volume::Content;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

mod mounted;
mod place;
mod volumes;

use mounted::{Key, Tree, Written};
use place::{Folder, RunFolder};
use volumes::Made;
pub(crate) use volumes::Volumes;

/// Where every instance may write.
const TMP: &str = "/tmp";
/// The most that an instance may keep in `/tmp`, and in a scratch volume that says nothing else.
pub(crate) const SCRATCH_BYTES_MAX: ByteCount = ByteCount::mib(256);
/// How often it is looked at what an instance keeps (the kubelet does so every ten seconds).
const CHECK_PERIOD: Duration = Duration::from_millis(500);
/// Entries of a folder tree that are counted; a tree that has more is too large.
const ENTRIES_MAX: usize = 16 * 1024;

/// Where the folders of this process are; made when the first instance needs some.
pub(crate) struct FileRoot {
    data_dir: PathBuf,
    process: OnceLock<ProcessFolder>,
}

/// The folders of this process.
struct ProcessFolder {
    disk: RunFolder,
    /// Where there is such a place.
    memory: Option<RunFolder>,
    written: Mutex<HashMap<Key, Arc<Written>>>,
}

/// What one instance finds, and what it wrote, which goes with this.
#[derive(Clone)]
pub(crate) struct Files(Arc<Own>);

struct Own {
    /// Its own folder, with one for each place that it may write to.
    folder: Folder,
    /// Where each folder is, where the instance finds it.
    mounts: Vec<(PathBuf, Arc<str>, Access)>,
    limits: Vec<(PathBuf, ByteCount, Arc<str>)>,
    _written: Vec<Arc<Written>>,
    _volumes: Option<Volumes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// Nothing is made yet.
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            process: OnceLock::new(),
        }
    }

    /// What an instance of a revision finds.
    pub(crate) fn instance(&self, revision: &RevisionSpec) -> io::Result<Files> {
        self.container(revision, None)
    }

    /// What one container of an instance finds, whose scratch volumes are `shared` with the others; `None`: its own.
    pub(crate) fn container(&self, revision: &RevisionSpec, shared: Option<&Volumes>) -> io::Result<Files> {
        self.process()?.container(revision, shared)
    }

    /// Scratch volumes that containers share.
    pub(crate) fn volumes(&self) -> io::Result<Volumes> {
        Volumes::make(self.process()?.disk.path())
    }

    fn process(&self) -> io::Result<&ProcessFolder> {
        if let Some(process) = self.process.get() {
            return Ok(process);
        }
        let made = ProcessFolder::open(&self.data_dir)?;
        // Of two that are made at a time, one is kept.
        Ok(self.process.get_or_init(|| made))
    }

    /// Lets the instances that stay find what the newest version of their revision has in its volumes. `newest` is asked
    /// once nobody else does this, so that of two the newer one is what remains.
    pub(crate) fn renew(&self, newest: impl FnOnce() -> Arc<RevisionSpec>) -> io::Result<()> {
        match self.process.get() {
            Some(process) => process.renew(newest),
            None => Ok(()),
        }
    }

    /// Removes the files of mounts that no instance uses any more. To be called now and then.
    pub(crate) fn forget_unused(&self) {
        if let Some(process) = self.process.get() {
            process.forget_unused();
        }
    }
}

impl ProcessFolder {
    fn open(data_dir: &Path) -> io::Result<Self> {
        Ok(Self {
            disk: RunFolder::open(&data_dir.join("run"))?,
            memory: place::in_memory().and_then(|at| RunFolder::open(&at).ok()),
            written: Mutex::default(),
        })
    }

    fn container(&self, revision: &RevisionSpec, shared: Option<&Volumes>) -> io::Result<Files> {
        let mut own = Own {
            folder: Folder::make("i-", self.disk.path())?,
            mounts: Vec::new(),
            limits: Vec::new(),
            _written: Vec::new(),
            _volumes: shared.cloned(),
        };
        let mut scratch = Made::default();
        let mut tmp = true;
        for mount in &revision.mounts {
            let path = &mount.path;
            tmp &= &**path != TMP;
            match &mount.content {
                Content::Files(tree) => {
                    let written = self.write(Key::of(revision, mount, tree), tree)?;
                    let at = written.path().to_owned();
                    own.mounts.push((at, Arc::clone(path), Access::Read));
                    own._written.push(written);
                }
                Content::Scratch { volume, limit } => {
                    let at = match shared {
                        Some(shared) => shared.folder(volume)?,
                        None => scratch.folder(volume, own.folder.path())?,
                    };
                    if own.limits.iter().all(|(known, ..)| *known != at) {
                        own.limits.push((
                            at.clone(),
                            limit.unwrap_or(SCRATCH_BYTES_MAX),
                            format!("the volume {volume}").into(),
                        ));
                    }
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
        if let Some(folder) = &revision.working_dir {
            own.start_in(folder);
        }
        Ok(Files(Arc::new(own)))
    }

    /// The folder with the files of a mount.
    fn write(&self, key: Key, tree: &Arc<Tree>) -> io::Result<Arc<Written>> {
        let mut all = self.written();
        if let Some(found) = all.get(&key) {
            if let Key::Renewed(..) = key {
                found.renew(tree)?;
            }
            return Ok(Arc::clone(found));
        }
        let place = self.memory.as_ref().unwrap_or(&self.disk);
        let written = Arc::new(Written::new(&key, tree, place.path())?);
        all.insert(key, Arc::clone(&written));
        Ok(written)
    }

    fn renew(&self, newest: impl FnOnce() -> Arc<RevisionSpec>) -> io::Result<()> {
        let all = self.written();
        let revision = newest();
        let sidecars: Vec<RevisionSpec> = revision.sidecars.iter().map(|one| one.alone(&revision)).collect();
        for container in std::iter::once(&*revision).chain(&sidecars) {
            for (mount, tree) in mounted::trees(container) {
                let key = Key::of(container, mount, tree);
                if let (Key::Renewed(..), Some(written)) = (&key, all.get(&key)) {
                    written.renew(tree)?;
                }
            }
        }
        Ok(())
    }

    fn forget_unused(&self) {
        self.written().retain(|_, written| Written::is_kept(written));
    }

    fn written(&self) -> MutexGuard<'_, HashMap<Key, Arc<Written>>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Own {
    /// Lets paths that are relative begin at a folder, where it is within one that there is.
    fn start_in(&mut self, folder: &str) {
        let inside = |path: &str| Path::new(folder).strip_prefix(path).ok().map(Path::to_owned);
        let found = self
            .mounts
            .iter()
            .filter_map(|(at, path, access)| Some((at.join(inside(path)?), path.len(), *access)))
            .max_by_key(|(_, length, _)| *length);
        if let Some((at, _, access)) = found {
            let is_there = match access {
                Access::Read => at.is_dir(),
                Access::Write => fs::create_dir_all(&at).is_ok(),
            };
            if is_there {
                self.mounts.push((at, ".".into(), access));
            }
        }
    }
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

    /// Resolves once the instance keeps more than it may. As the kubelet does it, this is looked at now and then.
    pub(crate) async fn until_too_much(&self) -> TooMuchKept {
        loop {
            tokio::time::sleep(CHECK_PERIOD).await;
            let this = self.clone();
            if let Ok(Err(problem)) = tokio::task::spawn_blocking(move || this.check()).await {
                return problem;
            }
        }
    }

    /// Whether the instance keeps no more than it may.
    fn check(&self) -> Result<(), TooMuchKept> {
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

/// Resolves once the instance keeps more than it may.
pub(crate) async fn until_too_much(files: Option<Files>) -> TooMuchKept {
    match files {
        Some(files) => files.until_too_much().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use kittiwake_core::artifact::FunctionKind;
    use kittiwake_core::revision::RevisionKey;
    use kittiwake_core::volume::Mount;
    use mounted::UNUSED_LOOKS_MAX;

    fn revision(mounts: Vec<Mount>) -> RevisionSpec {
        RevisionSpec {
            mounts,
            ..RevisionSpec::new(RevisionKey::new("default", "a"), "uid", "image")
        }
    }

    fn config(files: &[(&str, &str)]) -> Content {
        let files = files
            .iter()
            .map(|(path, content)| ((*path).to_owned(), Bytes::from((*content).to_owned())));
        Content::Files(Arc::new(files.collect()))
    }

    fn scratch(volume: &str, limit: u64) -> Content {
        Content::Scratch {
            volume: volume.into(),
            limit: Some(ByteCount(limit)),
        }
    }

    fn mount(path: &str, content: Content) -> Mount {
        Mount {
            path: path.into(),
            content,
            fixed: false,
        }
    }

    #[test]
    fn instances_share_what_they_read_and_own_what_they_write() {
        let data = tempfile::tempdir().unwrap();
        let root = FileRoot::new(data.path());
        let revision = RevisionSpec {
            working_dir: Some("/cache/deep".into()),
            ..revision(vec![
                mount("/etc/config", config(&[("a/b.txt", "hello")])),
                mount("/cache", scratch("v", 10)),
                mount("/again", scratch("v", 10)),
            ])
        };
        let (one, other) = (
            root.instance(&revision).unwrap(),
            root.instance(&revision).unwrap(),
        );
        let at = |files: &Files, path: &str| {
            let mut found = files.0.mounts.iter().filter(|(_, known, _)| &**known == path);
            found.next().map(|(at, _, access)| (at.clone(), *access)).unwrap()
        };
        let (folder, access) = at(&one, "/etc/config");
        assert_eq!(
            (at(&other, "/etc/config").0, access),
            (folder.clone(), Access::Read)
        );
        assert_eq!(fs::read_to_string(folder.join("a/b.txt")).unwrap(), "hello");
        assert_eq!(at(&one, "/cache"), at(&one, "/again"));
        assert_ne!(at(&one, "/cache"), at(&other, "/cache"));
        assert_ne!(at(&one, "/tmp"), at(&other, "/tmp"));
        assert_eq!(at(&one, ".").0, at(&one, "/cache").0.join("deep"));
        one.check().unwrap();
        fs::write(at(&one, "/cache").0.join("file"), [0; 11]).unwrap();
        let problem = one.check().unwrap_err().to_string();
        assert!(
            problem.contains("the volume v") && problem.contains("limit"),
            "{problem}"
        );
        other.check().unwrap();
        let own = at(&one, "/tmp").0;
        drop((one, other));
        assert!(!own.exists(), "it goes with the instance");
        for _ in 0..UNUSED_LOOKS_MAX {
            root.forget_unused();
            assert!(folder.exists(), "the next instance will want it");
        }
        root.forget_unused();
        assert!(!folder.exists());
    }

    /// Where an instance finds the mount at a path.
    fn place_of(files: &Files, path: &str) -> PathBuf {
        let mut found = files.0.mounts.iter().filter(|(_, known, _)| &**known == path);
        found.next().unwrap().0.clone()
    }

    #[test]
    fn containers_of_one_instance_share_scratch_volumes_and_nothing_else() {
        let data = tempfile::tempdir().unwrap();
        let root = FileRoot::new(data.path());
        let (one, other) = (
            revision(vec![
                mount("/a", scratch("v", 10)),
                mount("/own", scratch("w", 10)),
            ]),
            revision(vec![mount("/b", scratch("v", 10))]),
        );
        let volumes = root.volumes().unwrap();
        let files = [&one, &other].map(|one| root.container(one, Some(&volumes)).unwrap());
        drop(volumes);
        let shared = place_of(&files[0], "/a");
        assert_eq!(shared, place_of(&files[1], "/b"));
        assert_ne!(shared, place_of(&files[0], "/own"));
        assert_ne!(place_of(&files[0], "/tmp"), place_of(&files[1], "/tmp"));
        fs::write(shared.join("file"), [0; 11]).unwrap();
        assert!(files.iter().all(|files| files.check().is_err()));
        let [first, last] = files;
        drop(first);
        assert!(shared.join("file").exists(), "the other container has it");
        drop(last);
        assert!(!shared.exists());
    }

    #[test]
    fn those_that_stay_see_new_contents_of_whole_volumes() {
        let data = tempfile::tempdir().unwrap();
        let root = FileRoot::new(data.path());
        let version = |kind, text: &str| {
            let part = mount("/part", config(&[("f", text)]));
            let mounts = vec![
                mount("/whole", config(&[("f", text)])),
                Mount { fixed: true, ..part },
            ];
            let spec = RevisionSpec {
                kind,
                ..revision(mounts)
            };
            Arc::new(spec)
        };
        for (kind, renewed) in [(FunctionKind::Server, "new"), (FunctionKind::Command, "old")] {
            let (old, new) = (version(kind, "old"), version(kind, "new"));
            let instance = root.instance(&old).unwrap();
            let text = |files: &Files, path| fs::read_to_string(place_of(files, path).join("f")).unwrap();
            root.renew(|| Arc::clone(&new)).unwrap();
            assert_eq!(text(&instance, "/whole"), renewed, "{kind:?}");
            assert_eq!(text(&instance, "/part"), "old", "{kind:?}");
            let next = root.instance(&new).unwrap();
            assert_eq!(
                (text(&next, "/whole"), text(&next, "/part")),
                ("new".into(), "new".into())
            );
        }
    }

    #[test]
    fn files_cannot_leave_their_volume() {
        let data = tempfile::tempdir().unwrap();
        let root = FileRoot::new(data.path());
        for path in ["../x", "/etc/passwd", "a/../../x"] {
            let revision = revision(vec![mount("/m", config(&[(path, "")]))]);
            assert!(root.instance(&revision).is_err(), "{path}");
        }
    }
}
