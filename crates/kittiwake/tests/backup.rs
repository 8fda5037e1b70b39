//! Secrets on the disk, backups, restores and damage, through the program.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support {
    pub mod program;
}

use std::path::Path;
use std::process::Output;
use support::program::{Up, kittiwake, up_command};

const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: correct horse}\n---\n\
     apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {seen: by everybody}\n";

fn run(arguments: &[&str], paths: &[(&str, &Path)]) -> Output {
    let mut command = kittiwake();
    command.args(arguments);
    for (flag, path) in paths {
        if !flag.is_empty() {
            command.arg(flag);
        }
        command.arg(path);
    }
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn contains(path: &Path, text: &str) -> bool {
    let bytes = std::fs::read(path).unwrap();
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Ends a server and keeps its folder.
fn stop(mut up: Up) -> tempfile::TempDir {
    up.signal("-INT");
    up.child.wait().unwrap();
    std::mem::replace(&mut up.folder, tempfile::tempdir().unwrap())
}

#[test]
fn a_server_comes_back_on_another_machine_from_its_backup_and_key() {
    let up = Up::start(&[]);
    let manifest = up.folder.path().join("objects.yaml");
    std::fs::write(&manifest, SECRET).unwrap();
    up.ok(&["apply", "-f", manifest.to_str().unwrap()]);
    let backup = up.folder.path().join("backup");
    let told = up.ok(&["backup", backup.to_str().unwrap()]);
    assert!(told.contains("bytes. Secrets in it are encrypted"), "{told}");
    let piped = up.client(&["backup", "-"]);
    assert!(piped.status.success() && piped.stdout.starts_with(b"KITTIWAKE-BACKUP 1\n"));
    let data = up.folder.path().join("data");
    let running = run(&["check"], &[("--data-dir", &data)]);
    assert!(
        text(&running).contains("another kittiwake is using"),
        "{}",
        text(&running)
    );

    let folder = stop(up);
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
    let objects = data.join("objects.redb");
    for file in [&objects, &backup] {
        assert!(contains(file, "by everybody"));
        for secret in ["correct horse", "Y29ycmVjdCBob3JzZQ"] {
            assert!(!contains(file, secret), "{}", file.display());
        }
    }
    let checked = run(&["check"], &[("--data-dir", &data)]);
    assert!(
        checked.status.success() && text(&checked).contains("Everything is as it was written"),
        "{}",
        text(&checked)
    );

    // Another machine: a new folder, and the key carried over by hand.
    let other = tempfile::tempdir().unwrap();
    let there = other.path().join("data");
    let to = ("--data-dir", there.as_path());
    let without_key = run(&["restore"], &[("", &backup), to]);
    let told = text(&without_key);
    assert!(
        !without_key.status.success()
            && told.contains("--encryption-key-file")
            && told.contains("encrypted with key"),
        "{told}"
    );
    std::fs::copy(data.join("encryption.key"), there.join("encryption.key")).unwrap();
    let restored = run(&["restore"], &[("", &backup), to]);
    assert!(restored.status.success(), "{}", text(&restored));
    let again = run(&["restore"], &[("", &backup), to]);
    assert!(text(&again).contains("--force"), "{}", text(&again));
    let up = Up::start_in(other, &[]);
    assert!(
        up.ok(&["get", "secret", "s", "-o", "yaml"])
            .contains("Y29ycmVjdCBob3JzZQ")
    );
    assert!(
        up.ok(&["get", "configmap", "c", "-o", "yaml"])
            .contains("by everybody")
    );
    stop(up);
}

#[test]
fn damage_and_lost_keys_are_told_at_the_start_with_what_to_do() {
    let up = Up::start(&[]);
    let manifest = up.folder.path().join("objects.yaml");
    std::fs::write(&manifest, SECRET).unwrap();
    up.ok(&["apply", "-f", manifest.to_str().unwrap()]);
    let folder = stop(up);
    let data = folder.path().join("data");
    let start = || {
        let output = up_command(&data).output().unwrap();
        assert!(!output.status.success());
        text(&output)
    };

    std::fs::rename(data.join("encryption.key"), data.join("elsewhere")).unwrap();
    let told = start();
    assert!(told.contains("encryption.key is missing; put it back"), "{told}");
    std::fs::write(
        data.join("encryption.key"),
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
    )
    .unwrap();
    let told = start();
    assert!(
        told.contains("which is not among the keys given") && told.contains("--encryption-key-file"),
        "{told}"
    );
    std::fs::rename(data.join("elsewhere"), data.join("encryption.key")).unwrap();

    let objects = data.join("objects.redb");
    let mut bytes = std::fs::read(&objects).unwrap();
    let place = bytes
        .windows(12)
        .position(|window| window == b"by everybody")
        .unwrap();
    bytes[place] ^= 4;
    std::fs::write(&objects, bytes).unwrap();
    let told = start();
    assert!(
        told.contains("objects.redb is damaged") && told.contains("kittiwake restore BACKUP --force"),
        "{told}"
    );
}
