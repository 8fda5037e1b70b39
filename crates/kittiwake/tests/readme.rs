//! The README's two commands, as written, in a clean clone of what is committed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// A first release build takes many minutes on two cores.
const BUILD_PATIENCE: Duration = Duration::from_secs(60 * 60);
const PATIENCE: Duration = Duration::from_secs(120);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// The shell commands of the README's section `title`.
fn commands(title: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let section = readme
        .split(&format!("## {title}\n"))
        .nth(1)
        .expect("the section exists");
    let block = section
        .split("```sh\n")
        .nth(1)
        .expect("a shell block")
        .split("```")
        .next()
        .unwrap();
    block
        .lines()
        .map(str::to_owned)
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn the_test_command_is_what_ci_runs() {
    let [command] = commands("Test it").try_into().expect("one command");
    let ci = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(
        ci.lines().any(|line| line == format!("step {command}")),
        ".ci/run does not run {command:?}"
    );
}

/// The platform as the README starts it, and the lines it prints.
struct Up {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Drop for Up {
    fn drop(&mut self) {
        // Only reached alive when the test failed. cargo passes the signal on by ending with its child's group.
        let _ = signal(&self.child, "-KILL");
        let _ = self.child.wait();
    }
}

fn signal(child: &Child, name: &str) -> std::io::Result<ExitStatus> {
    Command::new("kill")
        .args([name, "--", &format!("-{}", child.id())])
        .stderr(Stdio::null())
        .status()
}

impl Up {
    fn start(folder: &Path, command: &str) -> Self {
        use std::os::unix::process::CommandExt;
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec {command}")]).current_dir(folder);
        // Free ports, so that the test needs none of this machine's; everything else is as a reader would have it.
        shell
            .env("KITTIWAKE_API_LISTEN", "127.0.0.1:0")
            .env("KITTIWAKE_HTTP_LISTEN", "127.0.0.1:0");
        shell
            .env("CARGO_TARGET_DIR", target_dir())
            .stdout(Stdio::piped())
            .process_group(0);
        for variable in ["CARGO", "CARGO_MANIFEST_DIR", "RUST_LOG", "LD_LIBRARY_PATH"] {
            shell.env_remove(variable);
        }
        let mut child = shell.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    fn read_until(&self, marker: &str, patience: Duration) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(patience) {
                Ok(line) => {
                    let found = line.contains(marker);
                    seen.push(line);
                    if found {
                        return seen;
                    }
                }
                Err(error) => panic!("{marker:?} was not printed ({error}); seen:\n{}", seen.join("\n")),
            }
        }
    }
}

/// The target directory of this very build, so that the clone's build finds the dependencies compiled.
fn target_dir() -> PathBuf {
    let executable = std::env::current_exe().unwrap();
    executable.ancestors().nth(3).unwrap().to_owned()
}

/// The clone's build goes where this checkout's own goes, and cargo tells the two apart by file times only. So that
/// the next build of this checkout is not taken for done, what cargo knows of our crates there is removed.
struct Invalidate;

impl Drop for Invalidate {
    fn drop(&mut self) {
        let fingerprints = target_dir().join("release/.fingerprint");
        for entry in std::fs::read_dir(fingerprints).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("kittiwake") {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

fn get(url: &str) -> String {
    let (authority, path) = url
        .strip_prefix("http://")
        .unwrap()
        .split_once('/')
        .unwrap_or((url.strip_prefix("http://").unwrap(), ""));
    let (_, port) = authority.split_once(':').unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_first_command_serves_the_examples_and_stops_cleanly() {
    let [command] = commands("Run it").try_into().expect("one command");
    // Always at the same place, so that the builds of many runs do not pile up in the target directory.
    let clone = std::env::temp_dir().join("kittiwake-readme-clone");
    let _invalidate = Invalidate;
    if clone.exists() {
        std::fs::remove_dir_all(&clone).unwrap();
    }
    let cloned = Command::new("git")
        .args(["clone", "--quiet", "--no-hardlinks"])
        .arg(root())
        .arg(&clone)
        .status()
        .unwrap();
    assert!(cloned.success());

    let mut up = Up::start(&clone, &command);
    up.read_until("is up", BUILD_PATIENCE);
    let lines = up.read_until("Press Ctrl-C", PATIENCE);
    assert!(!lines.iter().any(|line| line.contains("not ready")), "{lines:#?}");
    let urls: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split("is ready at ").nth(1))
        .collect();
    assert!(urls.len() >= 3, "too few URLs to call: {lines:#?}");
    for url in &urls {
        // Answered by the function, be it that it has nothing at `/`; the platform's own errors carry a code.
        let answer = get(url);
        assert!(
            answer.starts_with("HTTP/1.1 ") && !answer.contains("[KW"),
            "{url}: {answer}"
        );
    }
    let hello = urls
        .iter()
        .find(|url| url.contains("//hello.default"))
        .expect("the hello example");
    assert!(
        get(hello).contains("Hello World!"),
        "the README promises this text"
    );

    signal(&up.child, "-INT").unwrap();
    let status = up.child.wait().unwrap();
    assert!(status.success(), "Ctrl-C must end it with 0, not {status}");
}
