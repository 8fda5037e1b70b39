//! Programs that nobody here wrote, from `tests/tools/install`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// A program that `tests/tools/install` knows, installed when it is missing. `None`, said aloud, where it cannot be
/// had; in CI that is a failure.
pub fn find(name: &str) -> Option<PathBuf> {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let find = || {
        let cache = std::env::var("XDG_CACHE_HOME")
            .unwrap_or_else(|_| format!("{}/.cache", std::env::var("HOME").unwrap()));
        let ours = PathBuf::from(cache).join("kittiwake/tools/bin").join(name);
        ours.is_file().then_some(ours)
    };
    let found = find().or_else(|| {
        let _one_at_a_time = INSTALLING.lock().unwrap();
        find().or_else(|| {
            let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tools/install");
            let status = Command::new(install).arg(name).status().unwrap();
            assert!(status.success(), "tests/tools/install {name} failed");
            find()
        })
    });
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "{name} cannot be installed"
        );
        eprintln!("{name} cannot be installed here: nothing was tested with it");
    }
    found
}

/// A port of loopback that was free a moment ago, for a program that cannot be told to take any.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
