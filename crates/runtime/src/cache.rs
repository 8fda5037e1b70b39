//! The content-addressed cache on disk.
//!
//! ```text
//! cache/blobs/<sha256>                      a .wasm or its compiled form; the name is the digest of the content
//! cache/images/<sha256 of the pinned name>  { image, wasm, local }: which .wasm a pinned image is
//! cache/compiled/<engine>/<sha256 of wasm>  { blob, checked }: which blob is its compiled form for this engine, and
//!                                           the very file that was found to have the content its name says
//! cache/locks/<sha256 of wasm>              held by the process that compiles it
//! ```
//! Files appear by rename and never change afterwards, so two processes can share a cache without talking: they may
//! do work twice, never read half of it. A blob whose content is not what its name says is dropped and made again. It
//! is read for that when it is another file than the one that was written and checked (by inode, size and time): the
//! first call of a function after a restart need not read all of its code.

use crate::artifact::Program;
use crate::digest::Digest;
use crate::engine::Calls;
use crate::error::BuildError;
use crate::metrics::Metrics;
use kittiwake_core::artifact::FunctionKind;
use kittiwake_core::unit::ByteCount;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

mod evict;

/// Blobs whose check is remembered; beyond it everything is checked again.
const CHECKED_MAX: usize = 16_384;
/// Names of programs that are remembered are no longer, in bytes (Linux' `PATH_MAX`).
const NAME_BYTES_MAX: usize = 4096;
/// Read buffer of a check, in bytes.
const CHECK_BUFFER_BYTES: usize = 128 * 1024;

/// The cache.
pub(crate) struct Cache {
    root: PathBuf,
    engine: String,
    bytes_max: ByteCount,
    metrics: Metrics,
    /// Blobs this process has checked, with the file it was: a later load of the same file need not read it all again.
    checked: Mutex<HashMap<Digest, FileIdentity>>,
    /// Blobs that are mapped into memory, with the number of users.
    held: Mutex<HashMap<Digest, usize>>,
    size: Mutex<evict::Size>,
}

/// An entry counts as used at the time of its last use or up to this long before: most calls need not write that down.
const USE_PRECISION: Duration = Duration::from_secs(3600);

/// Tells whether a path still names the very file that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FileIdentity {
    inode: u64,
    bytes: u64,
    modified: SystemTime,
}

/// What is known of a pinned image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageEntry {
    /// The pinned name, for people who look into the cache.
    pub image: String,
    /// Digest of its `.wasm`.
    pub wasm: String,
    /// Whether it came from this machine's disk: then it may be impossible to fetch again, and is evicted last.
    pub local: bool,
    /// What the image calls its program.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct CompiledEntry {
    blob: String,
    #[serde(default)]
    checked: Option<FileIdentity>,
    /// Absent means one call after the other.
    #[serde(default, skip_serializing_if = "is_false")]
    concurrent: bool,
    /// The name of the kind of program that it is; absent means a component that answers HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// Whether a program that does not answer HTTP by itself is a component; absent means a module.
    #[serde(default, skip_serializing_if = "is_false")]
    component: bool,
    /// Whether only the core module of a component was compiled.
    #[serde(default, skip_serializing_if = "is_false")]
    core: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl CompiledEntry {
    fn blob(&self) -> Option<Digest> {
        Digest::parse(&self.blob)
    }

    /// `None` when a later version wrote a kind that this one does not know.
    fn form(&self) -> Option<Form> {
        let calls = if self.concurrent {
            Calls::Concurrent
        } else {
            Calls::Sequential
        };
        let kind = match &self.kind {
            None => FunctionKind::Component,
            Some(name) => name.parse().ok()?,
        };
        let code = if self.core {
            Code::Core
        } else if self.component || kind == FunctionKind::Component {
            Code::Component
        } else {
            Code::Module
        };
        Some(Form { calls, kind, code })
    }
}

/// What has to be known of compiled code before it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// Which engine it was made for.
    pub(crate) calls: Calls,
    /// What kind of program it is.
    pub(crate) kind: FunctionKind,
    /// What was compiled.
    pub(crate) code: Code,
}

/// What compiled code was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// A component.
    Component,
    /// The core module of a component.
    Core,
    /// A module.
    Module,
}

/// The compiled form of a `.wasm`.
pub(crate) struct CompiledForm {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What it is.
    pub(crate) form: Form,
    /// Keeps it there.
    pub(crate) hold: Hold,
}

/// Keeps a compiled form from being evicted.
pub(crate) struct Hold {
    cache: Arc<Cache>,
    blob: Digest,
    /// What it was compiled from.
    wasm: Digest,
    /// Size of its file.
    bytes: u64,
}

impl Hold {
    /// The digest of the `.wasm` that it was compiled from.
    pub(crate) fn wasm(&self) -> &Digest {
        &self.wasm
    }

    /// The size of its file.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.cache.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(users) = held.get_mut(&self.blob) {
            *users = users.saturating_sub(1);
            if *users == 0 {
                held.remove(&self.blob);
            }
        }
    }
}

impl Cache {
    /// Opens the cache below `data_dir`, making what is missing. `engine` names the engine's compiled format.
    pub(crate) fn open(
        data_dir: &Path,
        engine: String,
        bytes_max: ByteCount,
        metrics: Metrics,
    ) -> Result<Self, BuildError> {
        let root = data_dir.join("cache");
        let cache = Self {
            engine,
            bytes_max,
            metrics,
            checked: Mutex::default(),
            held: Mutex::default(),
            size: Mutex::default(),
            root,
        };
        for folder in [cache.blobs(), cache.images(), cache.compiled(), cache.locks()] {
            fs::create_dir_all(&folder).map_err(|source| BuildError::Cache { path: folder, source })?;
        }
        Ok(cache)
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    fn compiled(&self) -> PathBuf {
        self.root.join("compiled").join(&self.engine)
    }

    fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    fn blob_path(&self, blob: &Digest) -> PathBuf {
        self.blobs().join(blob.hex())
    }

    fn image_path(&self, pinned: &str) -> PathBuf {
        self.images().join(Digest::of(pinned.as_bytes()).hex())
    }

    /// Which `.wasm` a pinned image is, if that is known and the `.wasm` or its compiled form is still here.
    pub(crate) fn image(&self, pinned: &str) -> Option<Digest> {
        let path = self.image_path(pinned);
        let entry: ImageEntry = read_json(&path)?;
        let wasm = (entry.image == pinned)
            .then(|| Digest::parse(&entry.wasm))
            .flatten()?;
        let here = self.blob_path(&wasm).exists() || self.compiled_blob(&wasm).is_some();
        here.then(|| {
            touch(&path);
            wasm
        })
    }

    /// What kind of program a pinned image is, if its compiled form is here. Its content is not read.
    pub(crate) fn kind(&self, pinned: &str) -> Option<FunctionKind> {
        let entry: Option<ImageEntry> = read_json(&self.image_path(pinned));
        let wasm = Digest::parse(&entry.filter(|entry| entry.image == pinned)?.wasm)?;
        let (entry, blob) = self.compiled_entry(&wasm)?;
        let form = entry.form()?;
        self.blob_path(&blob).exists().then_some(form.kind)
    }

    /// What a pinned image calls its program, if it is known.
    pub(crate) fn program_names(&self, pinned: &str) -> Vec<String> {
        let entry: Option<ImageEntry> = read_json(&self.image_path(pinned));
        let entry = entry.filter(|entry| entry.image == pinned);
        entry.map(|entry| entry.names).unwrap_or_default()
    }

    /// Stores the `.wasm` of a pinned image.
    pub(crate) fn store_image(&self, pinned: &str, program: &Program, local: bool) -> io::Result<Digest> {
        let digest = self.store_blob(&program.wasm)?;
        let entry = ImageEntry {
            image: pinned.to_owned(),
            wasm: digest.to_string(),
            local,
            names: (program.names.iter())
                .filter(|name| name.len() <= NAME_BYTES_MAX)
                .cloned()
                .collect(),
        };
        self.write_json(&self.image_path(pinned), &entry)?;
        self.evict();
        Ok(digest)
    }

    /// The content of a `.wasm`; `None` when it is not here or damaged.
    pub(crate) fn wasm(&self, wasm: &Digest) -> Option<Vec<u8>> {
        let path = self.blob_path(wasm);
        let content = fs::read(&path).ok()?;
        if Digest::of(&content) == *wasm {
            return Some(content);
        }
        self.drop_corrupt(&path);
        None
    }

    fn compiled_entry(&self, wasm: &Digest) -> Option<(CompiledEntry, Digest)> {
        let entry: CompiledEntry = read_json(&self.compiled().join(wasm.hex()))?;
        let blob = entry.blob()?;
        Some((entry, blob))
    }

    fn compiled_blob(&self, wasm: &Digest) -> Option<Digest> {
        let (_, blob) = self.compiled_entry(wasm)?;
        self.blob_path(&blob).exists().then_some(blob)
    }

    /// The compiled form of a `.wasm` if it is the very file that was checked before: known without reading it.
    pub(crate) fn checked_form(self: &Arc<Self>, wasm: &Digest) -> Option<CompiledForm> {
        let (entry, blob) = self.compiled_entry(wasm)?;
        let (form, mut hold) = (entry.form()?, self.hold(wasm, blob.clone()));
        let path = self.blob_path(&blob);
        let checked = entry.checked?;
        if checked != identity(&path)? {
            return None;
        }
        touch(&self.compiled().join(wasm.hex()));
        hold.bytes = checked.bytes;
        Some(CompiledForm { path, form, hold })
    }

    /// The compiled form of a `.wasm`, checked, and held as long as the [`Hold`] lives.
    pub(crate) fn compiled_form(self: &Arc<Self>, wasm: &Digest) -> Option<CompiledForm> {
        if let Some(checked) = self.checked_form(wasm) {
            return Some(checked);
        }
        let (entry, blob) = self.compiled_entry(wasm)?;
        let (form, mut hold) = (entry.form()?, self.hold(wasm, blob.clone()));
        let path = self.blob_path(&blob);
        let found = identity(&path)?;
        if !self.check(&blob, &path) {
            self.drop_corrupt(&path);
            return None;
        }
        hold.bytes = found.bytes;
        // Perhaps written by an earlier version, or copied from elsewhere: the next start need not read it again.
        let _ = self.record_compiled(wasm, &blob, Some(found), form);
        Some(CompiledForm { path, form, hold })
    }

    fn record_compiled(
        &self,
        wasm: &Digest,
        blob: &Digest,
        checked: Option<FileIdentity>,
        form: Form,
    ) -> io::Result<()> {
        let entry = CompiledEntry {
            blob: blob.to_string(),
            checked,
            concurrent: form.calls == Calls::Concurrent,
            kind: (form.kind != FunctionKind::Component).then(|| form.kind.name().to_owned()),
            component: form.kind != FunctionKind::Component && form.code == Code::Component,
            core: form.code == Code::Core,
        };
        self.write_json(&self.compiled().join(wasm.hex()), &entry)
    }

    /// Stores the compiled form of a `.wasm`.
    pub(crate) fn store_compiled(&self, wasm: &Digest, compiled: &[u8], form: Form) -> io::Result<()> {
        let blob = self.store_blob(compiled)?;
        self.record_compiled(wasm, &blob, identity(&self.blob_path(&blob)), form)?;
        self.evict();
        Ok(())
    }

    /// Forgets a compiled form that the engine refused, so that it is made again.
    pub(crate) fn forget_compiled(&self, wasm: &Digest) {
        let _ = fs::remove_file(self.compiled().join(wasm.hex()));
    }

    /// Waits until no other process compiles `wasm`; the lock is released when the file is dropped.
    pub(crate) fn lock(&self, wasm: &Digest) -> io::Result<File> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.locks().join(wasm.hex()))?;
        file.lock()?;
        Ok(file)
    }

    fn hold(self: &Arc<Self>, wasm: &Digest, blob: Digest) -> Hold {
        *self
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(blob.clone())
            .or_default() += 1;
        Hold {
            cache: Arc::clone(self),
            blob,
            wasm: wasm.clone(),
            bytes: 0,
        }
    }

    /// Whether a file's content has the digest of its name. Each file is read once per process.
    fn check(&self, blob: &Digest, path: &Path) -> bool {
        let Some(identity) = identity(path) else {
            return false;
        };
        let known = |checked: &HashMap<Digest, FileIdentity>| checked.get(blob) == Some(&identity);
        if known(&self.checked.lock().unwrap_or_else(PoisonError::into_inner)) {
            return true;
        }
        if digest_of_file(path).ok().as_ref() != Some(blob) {
            return false;
        }
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.len() >= CHECKED_MAX {
            checked.clear();
        }
        checked.insert(blob.clone(), identity);
        true
    }

    fn drop_corrupt(&self, path: &Path) {
        tracing::warn!(path = %path.display(), "a damaged cache entry is dropped and made again");
        self.metrics.cache_corrupt.inc();
        let _ = fs::remove_file(path);
    }

    fn store_blob(&self, content: &[u8]) -> io::Result<Digest> {
        let digest = Digest::of(content);
        let path = self.blob_path(&digest);
        if !self.check(&digest, &path) {
            write_atomically(&path, content)?;
            self.grown(content.len());
        }
        Ok(digest)
    }

    fn write_json(&self, path: &Path, value: &impl Serialize) -> io::Result<()> {
        write_atomically(path, &serde_json::to_vec(value)?)
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Writes beside, syncs, renames, and syncs the folder: after a crash the file is whole or absent.
fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// Records that an entry was used; eviction goes by this. A failure only makes it look older than it is.
fn touch(path: &Path) {
    let age = |path: &Path| fs::metadata(path).ok()?.modified().ok()?.elapsed().ok();
    if age(path).is_some_and(|age| age < USE_PRECISION) {
        return;
    }
    if let Ok(file) = File::options().write(true).open(path) {
        #[allow(
            clippy::disallowed_methods,
            reason = "compared with the file system's own clock, which no test moves"
        )]
        let now = SystemTime::now();
        let _ = file.set_modified(now);
    }
}

fn identity(path: &Path) -> Option<FileIdentity> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = fs::metadata(path).ok()?;
    Some(FileIdentity {
        inode: meta.ino(),
        bytes: meta.len(),
        modified: meta.modified().ok()?,
    })
}

fn digest_of_file(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHECK_BUFFER_BYTES];
    loop {
        let count = file.read(&mut buffer)?;
        let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else {
            break;
        };
        hasher.update(part);
    }
    Ok(Digest::from_hasher(hasher))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPONENT: Form = Form {
        calls: Calls::Sequential,
        kind: FunctionKind::Component,
        code: Code::Component,
    };

    fn open(path: &Path, bytes_max: ByteCount) -> Arc<Cache> {
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        Arc::new(Cache::open(path, "e".into(), bytes_max, metrics).unwrap())
    }

    #[test]
    fn images_and_compiled_forms_are_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let cache = open(dir.path(), ByteCount::mib(1));
        let wasm = cache
            .store_image("r/a@sha256:1", &b"wasm".to_vec().into(), false)
            .unwrap();
        cache.store_compiled(&wasm, b"code", COMPONENT).unwrap();
        let again = open(dir.path(), ByteCount::mib(1));
        assert_eq!(again.image("r/a@sha256:1"), Some(wasm.clone()));
        assert_eq!(again.image("r/a@sha256:2"), None);
        assert_eq!(again.kind("r/a@sha256:1"), Some(FunctionKind::Component));
        assert_eq!(again.kind("r/a@sha256:2"), None);
        assert_eq!(again.wasm(&wasm).unwrap(), b"wasm");
        let CompiledForm { path, form, .. } = again.compiled_form(&wasm).unwrap();
        assert_eq!(form, COMPONENT);
        assert_eq!(fs::read(path).unwrap(), b"code");
    }

    #[test]
    fn every_form_is_read_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let cache = open(dir.path(), ByteCount::mib(1));
        for (kind, code) in [
            (FunctionKind::Component, Code::Component),
            (FunctionKind::Component, Code::Core),
            (FunctionKind::Command, Code::Component),
            (FunctionKind::Command, Code::Module),
            (FunctionKind::Server, Code::Component),
            (FunctionKind::Server, Code::Module),
        ] {
            for calls in [Calls::Sequential, Calls::Concurrent] {
                let wasm = cache
                    .store_image("r/a@sha256:1", &b"wasm".to_vec().into(), false)
                    .unwrap();
                let form = Form { calls, kind, code };
                cache.store_compiled(&wasm, b"code", form).unwrap();
                assert_eq!(cache.compiled_form(&wasm).unwrap().form, form);
            }
        }
    }

    #[test]
    fn damaged_entries_are_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let cache = open(dir.path(), ByteCount::mib(1));
        let wasm = cache
            .store_image("r/a@sha256:1", &b"wasm".to_vec().into(), false)
            .unwrap();
        cache.store_compiled(&wasm, b"code", COMPONENT).unwrap();
        for entry in fs::read_dir(cache.blobs()).unwrap() {
            fs::write(entry.unwrap().path(), b"rubbish").unwrap();
        }
        let again = open(dir.path(), ByteCount::mib(1));
        assert!(again.compiled_form(&wasm).is_none());
        assert!(again.wasm(&wasm).is_none());
        assert_eq!(again.metrics.cache_corrupt.get(), 2);
        assert_eq!(again.image("r/a@sha256:1"), None);
        again
            .store_image("r/a@sha256:1", &b"wasm".to_vec().into(), false)
            .unwrap();
        assert_eq!(again.wasm(&wasm).unwrap(), b"wasm");
    }

    #[test]
    fn the_oldest_goes_first_local_files_last_and_held_blobs_never() {
        let dir = tempfile::tempdir().unwrap();
        let cache = open(dir.path(), ByteCount(30));
        let local = cache
            .store_image("file:///a@sha256:1", &vec![1; 10].into(), true)
            .unwrap();
        let old = cache
            .store_image("r/old@sha256:1", &vec![2; 10].into(), false)
            .unwrap();
        let server = Form {
            calls: Calls::Concurrent,
            kind: FunctionKind::Server,
            code: Code::Module,
        };
        cache.store_compiled(&local, &[3; 10], server).unwrap();
        let CompiledForm { path, form, hold } = cache.compiled_form(&local).unwrap();
        assert_eq!(form, server);
        let new = cache
            .store_image("r/new@sha256:1", &vec![4; 10].into(), false)
            .unwrap();
        assert_eq!((cache.image("r/old@sha256:1"), cache.wasm(&old)), (None, None));
        assert!(cache.wasm(&local).is_some() && path.exists() && cache.wasm(&new).is_some());
        drop(hold);
        cache
            .store_image("r/newer@sha256:1", &vec![5; 10].into(), false)
            .unwrap();
        assert!(cache.wasm(&local).is_some(), "local files go last");
        assert_eq!(cache.metrics.cache_evicted.get(), 2);
        assert_eq!(cache.metrics.cache_bytes.get(), 30);
    }
}
