//! A real client: found or installed, and run with a HOME of its own against a platform.

use kittiwake_testkit::platform::TestPlatform;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tokio::process::Command;

pub struct Program {
    path: PathBuf,
    kubeconfig: PathBuf,
    folder: PathBuf,
}

/// What a command came to: both of its outputs, the first one first.
pub struct Output {
    pub ok: bool,
    pub text: String,
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// A client that `tests/tools/install` knows, installed when it is missing; `None` where it cannot be had.
fn find(name: &str) -> Option<PathBuf> {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let find = || {
        let cache = std::env::var("XDG_CACHE_HOME")
            .unwrap_or_else(|_| format!("{}/.cache", std::env::var("HOME").unwrap()));
        let ours = PathBuf::from(cache).join("kittiwake/tools/bin").join(name);
        ours.is_file().then_some(ours)
    };
    find().or_else(|| {
        let _one_at_a_time = INSTALLING.lock().unwrap();
        find().or_else(|| {
            let install = root().join("tests/tools/install");
            let status = std::process::Command::new(install).arg(name).status().unwrap();
            assert!(status.success(), "tests/tools/install {name} failed");
            find()
        })
    })
}

impl Program {
    /// The client, for this platform. `None`, said aloud, where it cannot be had; in CI that is a failure.
    pub fn new(name: &str, platform: &TestPlatform) -> Option<Self> {
        let Some(path) = find(name) else {
            assert!(
                std::env::var_os("CI").is_none_or(|ci| ci != "true"),
                "{name} cannot be installed"
            );
            eprintln!("{name} cannot be installed here: nothing was tested with it");
            return None;
        };
        let folder = platform.folder().join("home");
        std::fs::create_dir_all(&folder).unwrap();
        Some(Self {
            path,
            kubeconfig: platform.kubeconfig().unwrap(),
            folder,
        })
    }

    pub fn kubeconfig(&self) -> String {
        self.kubeconfig.display().to_string()
    }

    /// The folder in which the client runs; also its HOME.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn command(&self, arguments: &[impl AsRef<std::ffi::OsStr>]) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(arguments)
            .env("HOME", &self.folder)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBE_EDITOR", "sed -i s/blue/red/")
            .current_dir(&self.folder)
            .kill_on_drop(true);
        command
    }

    pub async fn run(&self, arguments: &[impl AsRef<std::ffi::OsStr>]) -> Output {
        let output = self.command(arguments).output().await.unwrap();
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Output {
            ok: output.status.success(),
            text,
        }
    }
}
