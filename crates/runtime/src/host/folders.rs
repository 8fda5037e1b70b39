//! The folders of a component. They are made when its guest first asks for them, so that those that never do, which are
//! most, do not pay for them.

use super::Host;
use crate::files::{FileRoot, Files, TooMuchKept, Volumes};
use kittiwake_core::revision::RevisionSpec;
use std::io;
use std::sync::{Arc, OnceLock};
use tokio::task::AbortHandle;
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView};
use wasmtime_wasi::{WasiCtx, WasiCtxView, p2, p3};

/// What an instance finds in its file system, or what is needed to make that.
pub(crate) struct Folders {
    revision: Arc<RevisionSpec>,
    file_root: Arc<FileRoot>,
    /// What the programs of one container share.
    shared: Option<SharedFiles>,
    /// What it shares with other containers of its instance.
    volumes: Option<Volumes>,
    made: Option<Made>,
}

/// The files of an instance for which several programs are run, each a component's instance of its own: made by the first
/// that asks for them.
pub(crate) type SharedFiles = Arc<OnceLock<Files>>;

/// The folders of an instance, which go with it.
struct Made {
    _files: Files,
    too_much: Arc<OnceLock<TooMuchKept>>,
    watch: AbortHandle,
}

/// The folders cannot be made, for which the guest is not to blame.
#[derive(Debug, thiserror::Error)]
#[error("the folders of the instance cannot be made: {0}; check the disk of the data directory")]
pub(crate) struct NoFolders(io::Error);

impl Folders {
    /// Nothing is made yet.
    pub(crate) fn new(revision: &Arc<RevisionSpec>, file_root: &Arc<FileRoot>) -> Self {
        Self {
            revision: Arc::clone(revision),
            file_root: Arc::clone(file_root),
            shared: None,
            volumes: None,
            made: None,
        }
    }

    /// Lets the guest have these files, together with other programs of its container. Before it asks for any.
    pub(crate) fn share(&mut self, files: &SharedFiles) {
        self.shared = Some(Arc::clone(files));
    }

    /// Lets the scratch volumes be those of other containers, too. Before the guest begins.
    pub(crate) fn share_volumes(&mut self, volumes: Option<&Volumes>) {
        self.volumes = volumes.cloned();
    }

    /// Whether the instance may go on: it keeps no more than it may.
    pub(crate) fn check(&self) -> Result<(), TooMuchKept> {
        match self.made.as_ref().and_then(|made| made.too_much.get()) {
            None => Ok(()),
            Some(problem) => Err(problem.clone()),
        }
    }

    /// Makes the folders and lets the guest have them, at the first time that it asks.
    fn make(&mut self, wasi: &mut WasiCtx) -> wasmtime::Result<()> {
        if self.made.is_some() {
            return Ok(());
        }
        // Done right here: a few calls of the system, which handing them to another thread and back would double. What
        // is mounted is written once for a revision.
        let files = self.files().map_err(NoFolders)?;
        let mut builder = WasiCtx::builder();
        files.open(&mut builder)?;
        *wasi.filesystem() = builder.build().filesystem().clone();
        let too_much = Arc::<OnceLock<TooMuchKept>>::default();
        let (watched, told) = (files.clone(), Arc::clone(&too_much));
        let watch = tokio::spawn(async move {
            let problem = watched.until_too_much().await;
            // Set once, here.
            let _ = told.set(problem);
        });
        self.made = Some(Made {
            _files: files,
            too_much,
            watch: watch.abort_handle(),
        });
        Ok(())
    }
}

impl Folders {
    fn files(&self) -> io::Result<Files> {
        if let Some(files) = self.shared.as_ref().and_then(|shared| shared.get()) {
            return Ok(files.clone());
        }
        let files = self.file_root.container(&self.revision, self.volumes.as_ref())?;
        Ok(match &self.shared {
            // Of two that are made at a time, one is kept.
            Some(shared) => shared.get_or_init(|| files).clone(),
            None => files,
        })
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// The folders of an instance with what WASI knows of it.
struct View<'a> {
    folders: &'a mut Folders,
    wasi: WasiCtxView<'a>,
}

/// The name of [`View`] for linkers.
struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

fn view(host: &mut Host) -> View<'_> {
    View {
        folders: &mut host.folders,
        wasi: WasiCtxView {
            ctx: &mut host.wasi,
            table: &mut host.table,
        },
    }
}

impl View<'_> {
    fn directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        self.folders.make(self.wasi.ctx)?;
        let mut files = WasiFilesystemCtxView {
            ctx: self.wasi.ctx.filesystem(),
            table: self.wasi.table,
        };
        p2::bindings::filesystem::preopens::Host::get_directories(&mut files)
    }
}

impl p2::bindings::filesystem::preopens::Host for View<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        self.directories()
    }
}

impl p3::bindings::filesystem::preopens::Host for View<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        self.directories()
    }
}

/// Puts `wasi:filesystem/preopens` of 0.2 in the place of wasmtime's, which knows the folders from the start.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    p2::bindings::filesystem::preopens::add_to_linker::<Host, HasView>(linker, view)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The same of 0.3.
pub(crate) fn add_to_linker_p3(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    p3::bindings::filesystem::preopens::add_to_linker::<Host, HasView>(linker, view)?;
    linker.allow_shadowing(false);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::engine::{Resets, WasmEngine};
    use crate::host::linker;
    use crate::outside::Outside;
    use crate::prepare::is_guests_fault;
    use kittiwake_core::clock::SystemClock;
    use kittiwake_core::log::LogHub;
    use kittiwake_core::revision::RevisionKey;
    use kittiwake_core::unit::ByteCount;
    use kittiwake_core::volume::{Content, Mount};
    use std::path::{Path, PathBuf};
    use wasmtime::component::{Component, Val};

    /// `directories` passes on what `get-directories` says; `spin` computes for ever.
    fn guest(version: &str) -> String {
        format!(
            r#"(component
              (import "wasi:filesystem/types@{version}" (instance $types
                (export "descriptor" (type (sub resource)))))
              (alias export $types "descriptor" (type $descriptor))
              (import "wasi:filesystem/preopens@{version}" (instance $preopens
                (alias outer 1 $descriptor (type $outer))
                (export "descriptor" (type $d (eq $outer)))
                (export "get-directories" (func (result (list (tuple (own $d) string)))))))
              (core module $memory
                (memory (export "memory") 1)
                (global $next (mut i32) (i32.const 1024))
                (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                  (local $at i32)
                  (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
                  (global.set $next (i32.add (local.get $at) (local.get 3)))
                  (local.get $at)))
              (core instance $memory (instantiate $memory))
              (alias core export $memory "memory" (core memory $m))
              (alias core export $memory "realloc" (core func $realloc))
              (core func $get (canon lower (func $preopens "get-directories") (memory $m) (realloc $realloc)))
              (core module $main
                (import "" "get" (func $get (param i32)))
                (func (export "directories") (result i32) (call $get (i32.const 16)) (i32.const 16))
                (func (export "spin") (loop (br 0))))
              (core instance $main (instantiate $main (with "" (instance (export "get" (func $get))))))
              (func (export "directories") (result (list (tuple (own $descriptor) string)))
                (canon lift (core func $main "directories") (memory $m) (realloc $realloc)))
              (func (export "spin") (canon lift (core func $main "spin"))))"#
        )
    }

    /// The folders that instances have of their own.
    fn own_folders(data_dir: &Path) -> Vec<PathBuf> {
        let processes = std::fs::read_dir(data_dir.join("run"));
        let processes = processes.into_iter().flatten();
        processes
            .flat_map(|process| std::fs::read_dir(process.unwrap().path()).into_iter().flatten())
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("i-"))
            .collect()
    }

    async fn check(engine: &WasmEngine, version: &str) {
        let data = tempfile::tempdir().unwrap();
        let revision = Arc::new(RevisionSpec {
            working_dir: Some("/cache".into()),
            mounts: vec![Mount {
                path: "/cache".into(),
                content: Content::Scratch {
                    volume: "v".into(),
                    limit: Some(ByteCount(10)),
                },
                fixed: false,
            }],
            ..RevisionSpec::new(RevisionKey::new("default", "a"), "uid", "image")
        });
        let log = LogHub::new(Arc::new(SystemClock::new())).revision(&revision.key);
        let file_root = Arc::new(FileRoot::new(data.path()));
        let outside = Arc::new(Outside::new(&Arc::default()));
        let mut wasm_store = Host::new(&revision, &file_root, &log, &outside).into_store(engine.engine());
        let component = Component::new(engine.engine(), guest(version)).unwrap();
        let linker = linker(engine).unwrap();
        let instance = linker
            .instantiate_async(&mut wasm_store, &component)
            .await
            .unwrap();
        assert!(own_folders(data.path()).is_empty(), "nobody asked yet");
        let directories = instance.get_func(&mut wasm_store, "directories").unwrap();
        for _ in 0..2 {
            let mut told = [Val::Bool(false)];
            directories
                .call_async(&mut wasm_store, &[], &mut told)
                .await
                .unwrap();
            let Val::List(pairs) = &told[0] else {
                panic!("{told:?}")
            };
            let names = pairs.iter().map(|pair| match pair {
                Val::Tuple(pair) => match &pair[1] {
                    Val::String(name) => name.as_str(),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            });
            assert_eq!(names.collect::<Vec<_>>(), ["/cache", "/tmp", "."]);
        }
        let own = own_folders(data.path());
        assert_eq!(own.len(), 1, "they are made once");
        std::fs::write(own[0].join("v0/large"), [0; 11]).unwrap();
        let spin = instance.get_func(&mut wasm_store, "spin").unwrap();
        let ended = spin.call_async(&mut wasm_store, &[], &mut []).await.unwrap_err();
        assert!(ended.is::<TooMuchKept>() && is_guests_fault(&ended), "{ended:#}");
        assert!(wasm_store.data().folders.check().is_err());
        drop(wasm_store);
        while own[0].exists() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn folders_are_made_when_a_guest_asks_for_them_and_hold_it_to_their_limits() {
        let config = Config {
            instances_max: 4,
            ..Config::default()
        };
        let engine = WasmEngine::new(&config, Resets::AllPages).unwrap();
        check(&engine, "0.2.0").await;
        let engine = engine.concurrent().unwrap();
        check(&engine, "0.2.6").await;
        check(&engine, "0.3.0").await;
    }
}
