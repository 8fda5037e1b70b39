//! Clients that nobody here wrote: curl, and Python's of WebSockets and of gRPC.

use crate::secure::{Authority, certified, https, in_use};
use crate::support::{HELLO, Server, start_on};
use crate::tool::find;
use kittiwake_gateway::Config;
use std::path::{Path, PathBuf};
use tokio::process::Command;

struct Site {
    server: Server,
    folder: tempfile::TempDir,
}

impl Site {
    async fn start() -> Self {
        let authority = Authority::new();
        let routes = certified(vec![(HELLO, authority.issue(&[HELLO], 2100))]);
        let server = start_on(Config::default(), routes, https());
        in_use(&server, HELLO).await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        Self { server, folder }
    }

    fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn port(&self, is_secure: bool) -> u16 {
        match is_secure {
            true => self.server.handle.https_addr().unwrap().port(),
            false => self.server.handle.local_addr().port(),
        }
    }
}

async fn run(command: &mut Command) -> String {
    let output = command.kill_on_drop(true).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// A script beside those of other tools.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/tools/python")
        .join(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_speaks_all_protocols() {
    let site = Site::start().await;
    let body = "x".repeat(900);
    for (flags, is_secure, wanted) in [
        (&["--http1.1"][..], false, "1.1"),
        (&["--http1.1", "-H", "Expect: 100-continue"], false, "1.1"),
        (&["--http2-prior-knowledge"], false, "2"),
        // Asks for an upgrade, which a server may ignore.
        (&["--http2"], false, "1.1"),
        (&["--http1.1"], true, "1.1"),
        (&["--http2"], true, "2"),
    ] {
        let (scheme, port) = (if is_secure { "https" } else { "http" }, site.port(is_secure));
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--fail", "--max-time", "60"])
            .args(["--write-out", "\n%{http_version} %{http_code}"])
            .args(["--resolve", &format!("{HELLO}:{port}:127.0.0.1")])
            .arg("--cacert")
            .arg(site.ca_file())
            .args(["--data", &body])
            .args(flags)
            .arg(format!("{scheme}://{HELLO}:{port}/collect"));
        let answer = run(&mut command).await;
        assert_eq!(answer, format!("{body}\n{wanted} 200"), "{flags:?} {scheme}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pythons_websockets_are_carried() {
    let Some(python) = find("python-web") else { return };
    let site = Site::start().await;
    for (scheme, is_secure) in [("ws", false), ("wss", true)] {
        let mut command = Command::new(&python);
        command
            .arg(script("websockets.py"))
            .arg(format!("{scheme}://127.0.0.1:{}/switch/ws", site.port(is_secure)))
            .arg(HELLO);
        if is_secure {
            command.arg(site.ca_file());
        }
        assert_eq!(run(&mut command).await, "ok\n", "{scheme}");
    }
    site.server.until_metric("kittiwake_gateway_in_flight 0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pythons_grpc_calls_and_is_refused_in_its_own_words() {
    let Some(python) = find("python-web") else { return };
    let site = Site::start().await;
    let mut command = Command::new(python);
    command
        .arg(script("grpc_calls.py"))
        .arg(format!("127.0.0.1:{}", site.port(false)))
        .arg(HELLO);
    assert_eq!(run(&mut command).await, "ok\n");
}
