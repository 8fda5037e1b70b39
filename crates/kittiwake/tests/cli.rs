//! The `kittiwake` program, as a stranger runs it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "support/program.rs"]
mod program;

use program::{Up, kittiwake, root, up_command};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;
#[test]
fn help_and_version_say_what_it_is() {
    let help = kittiwake().arg("--help").output().unwrap();
    let text = String::from_utf8_lossy(&help.stdout);
    for verb in [
        "up",
        "apply",
        "get",
        "describe",
        "delete",
        "invoke",
        "logs",
        "doctor",
        "version",
        "completion",
    ] {
        assert!(
            text.contains(&format!("\n  {verb} ")),
            "{verb} is missing in:\n{text}"
        );
    }
    assert!(text.contains("kittiwake up --apply examples/"));
    let version = kittiwake().args(["version", "--client"]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&version.stdout),
        concat!("Client: kittiwake ", env!("CARGO_PKG_VERSION"), "\n")
    );
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            !kittiwake()
                .args(["completion", shell])
                .output()
                .unwrap()
                .stdout
                .is_empty()
        );
    }
}

#[test]
fn the_doctor_says_what_to_set() {
    let fine = kittiwake().args(["doctor", "--max-calls", "1"]).output().unwrap();
    let text = String::from_utf8_lossy(&fine.stdout);
    assert!(text.contains("memory mappings: vm.max_map_count is"), "{text}");
    let many = kittiwake()
        .args(["doctor", "--max-calls", "1000000"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&many.stdout);
    assert!(!many.status.success(), "{text}");
    assert!(
        text.contains("LOW   address space") && text.contains("503"),
        "{text}"
    );
}

#[test]
fn without_a_server_the_error_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let output = kittiwake()
        .args(["get", "ksvc"])
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && text.contains("kittiwake up"),
        "{text}"
    );

    let kubeconfig = folder.path().join("config");
    let nowhere = kittiwake::kubeconfig::Access::plain("http://127.0.0.1:1");
    kittiwake::kubeconfig::write(&kubeconfig, &nowhere).unwrap();
    let output = kittiwake()
        .args(["get", "ksvc", "--kubeconfig"])
        .arg(&kubeconfig)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("cannot reach the API server at http://127.0.0.1:1"),
        "{text}"
    );
}

#[test]
fn a_function_from_apply_to_delete_without_kubectl() {
    let up = Up::start(&[]);
    let applied = up.ok(&["apply", "-f", "examples/hello/service.yaml"]);
    assert!(
        applied.contains("service.serving.knative.dev/hello created"),
        "{applied}"
    );
    assert!(
        applied.contains("hello is ready at http://hello.default.localhost:"),
        "{applied}"
    );
    assert!(
        up.ok(&["apply", "-f", "examples/hello/service.yaml"])
            .contains("unchanged")
    );

    let table = up.ok(&["get", "ksvc"]);
    assert!(
        table.starts_with("NAME    URL") && table.contains("hello-00001"),
        "{table}"
    );
    assert!(
        up.ok(&["get", "rev,rt", "-o", "name"])
            .contains("revision.serving.knative.dev/hello-00001")
    );
    assert!(
        up.ok(&["get", "ksvc/hello", "-o", "yaml"])
            .contains("kind: Service")
    );
    assert!(
        up.ok(&["get", "ksvc", "hello", "-o", "json"])
            .contains("\"kind\": \"Service\"")
    );
    let described = up.ok(&["describe", "hello"]);
    assert!(
        described.contains("100%  @latest (hello-00001)") && described.contains("++  Ready"),
        "{described}"
    );

    assert_eq!(up.ok(&["invoke", "hello"]), "Hello World!\n");
    assert!(up.ok(&["invoke", "hello", "-i"]).contains("200 OK"));
    up.ok(&["logs", "hello"]);
    assert!(up.ok(&["version"]).contains("Server: v"));

    assert_eq!(
        up.ok(&["delete", "ksvc", "hello"]),
        "service.serving.knative.dev/hello deleted\n"
    );
    assert!(up.fails(&["get", "ksvc", "hello"]).contains("NotFound"));
    assert!(up.fails(&["delete", "ksvc", "hello"]).contains("not found"));
    up.ok(&["delete", "ksvc", "hello", "--ignore-not-found"]);
    assert!(
        up.fails(&["get", "unicorns"])
            .contains("the server doesn't have a resource type \"unicorns\"")
    );
}

#[test]
fn a_function_that_cannot_run_says_why() {
    let up = Up::start(&[]);
    let file = up.folder.path().join("broken.yaml");
    let wasm = up.folder.path().join("broken.wasm");
    std::fs::write(&wasm, "#!/bin/sh\necho no wasm here\n").unwrap();
    let yaml = kittiwake_testkit::platform::service("broken", &format!("file://{}", wasm.display()), "");
    std::fs::write(&file, yaml).unwrap();
    let text = up.fails(&["apply", "-f", &file.display().to_string()]);
    assert!(
        text.contains("broken is not ready: RevisionFailed") && text.contains("KW0105"),
        "{text}"
    );
    let described = up.ok(&["describe", "rev/broken-00001"]);
    assert!(
        described.contains("!!  ContainerHealthy") && described.contains("KW0105"),
        "{described}"
    );
    let text = up.fails(&["invoke", "broken"]);
    assert!(text.contains("503") || text.contains("404"), "{text}");
}

#[test]
fn malformed_files_name_the_place() {
    let up = Up::start(&[]);
    let file = up.folder.path().join("bad.yaml");
    std::fs::write(&file, "apiVersion: v1\nkind: [").unwrap();
    assert!(
        up.fails(&["apply", "-f", &file.display().to_string()])
            .contains("bad.yaml is not valid YAML")
    );
    std::fs::write(
        &file,
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: x}\nspec: {tmplate: {}}\n",
    )
    .unwrap();
    let text = up.fails(&["apply", "-f", &file.display().to_string()]);
    assert!(text.contains("tmplate"), "{text}");
}

#[test]
fn a_taken_port_is_an_error_that_helps() {
    let up = Up::start(&[]);
    let (api, http) = (up.address("Kubernetes API"), up.address("Functions"));
    let free = "127.0.0.1:0";
    for (flag, api, http, taken) in [
        ("--http-listen", free, http.as_str(), &http),
        ("--api-listen", api.as_str(), free, &api),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut second = kittiwake();
        second.args(["up", "--api-listen", api, "--http-listen", http, "--data-dir"]);
        let output = second.arg(folder.path()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{text}");
        assert!(text.contains(taken.as_str()) && text.contains(flag), "{text}");
    }
}

#[test]
fn a_second_server_on_the_same_state_is_refused() {
    let up = Up::start(&[]);
    let output = up_command(&up.folder.path().join("data")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && text.contains("another kittiwake"),
        "{text}"
    );
}

#[test]
fn ctrl_c_ends_it_with_success() {
    let mut up = Up::start(&["--apply", "examples/hello/service.yaml"]);
    assert!(
        up.first
            .iter()
            .any(|line| line.contains("hello is ready at http://")),
        "{:#?}",
        up.first
    );
    up.signal("-INT");
    assert!(up.child.wait().unwrap().success());
}

#[test]
fn data_goes_in_and_logs_come_out() {
    let up = Up::start(&["--apply", "examples/echo/service.yaml"]);
    assert_eq!(up.ok(&["invoke", "echo", "--data", "ping"]), "ping");
    let file = up.folder.path().join("body");
    std::fs::write(&file, "from a file").unwrap();
    assert_eq!(
        up.ok(&["invoke", "echo", "--data", &format!("@{}", file.display())]),
        "from a file"
    );
    assert!(
        up.fails(&["invoke", "echo", "--path", "/status/404"])
            .contains("HTTP 404")
    );

    let wasm = up.folder.path().join("lines.wasm");
    std::fs::write(&wasm, kittiwake_testkit::guest::lines()).unwrap();
    let manifest = up.folder.path().join("lines.yaml");
    let image = format!("file://{}", wasm.display());
    std::fs::write(
        &manifest,
        kittiwake_testkit::platform::service("lines", &image, ""),
    )
    .unwrap();
    up.ok(&["apply", "-f", &manifest.display().to_string()]);
    up.ok(&["invoke", "lines"]);
    let log = up.ok(&["logs", "lines"]);
    assert!(
        log.lines().any(|line| line == "one") && log.lines().any(|line| line == "oh no"),
        "{log}"
    );
    assert_eq!(up.ok(&["logs", "lines", "--tail", "1"]).lines().count(), 1);

    let mut follow = kittiwake();
    follow
        .args(["logs", "lines", "-f", "--tail", "0"])
        .env("KUBECONFIG", up.folder.path().join("data/kubeconfig"));
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    let mut followed = BufReader::new(follow.stdout.take().unwrap()).lines();
    // Called until the follower, which takes a moment to connect, has printed something.
    let (sender, printed) = mpsc::channel();
    std::thread::spawn(move || sender.send(followed.next()));
    let line = loop {
        up.ok(&["invoke", "lines"]);
        if let Ok(line) = printed.recv_timeout(Duration::from_millis(200)) {
            break line.unwrap().unwrap();
        }
    };
    assert!(
        ["one", "two", "oh no", "unfinished"].contains(&line.as_str()),
        "{line}"
    );
    follow.kill().unwrap();
    follow.wait().unwrap();
}

#[test]
fn ctrl_c_lets_a_call_in_flight_finish() {
    let mut up = Up::start(&["--apply", "examples/echo/service.yaml"]);
    let mut call = kittiwake();
    call.args(["invoke", "echo", "--path", "/drip?n=4&delay_ms=500"]);
    call.env("KUBECONFIG", up.folder.path().join("data/kubeconfig"))
        .stdout(Stdio::piped());
    let call = call.spawn().unwrap();
    while !up.metrics().contains("kittiwake_gateway_in_flight 1") {
        std::thread::yield_now();
    }
    up.signal("-INT");
    assert!(up.child.wait().unwrap().success());
    let answer = call.wait_with_output().unwrap();
    assert!(answer.status.success());
    assert!(
        String::from_utf8_lossy(&answer.stdout).contains("drip 4 of 4"),
        "the call was cut off"
    );
}

#[test]
fn a_second_ctrl_c_does_not_wait_for_calls_in_flight() {
    let mut up = Up::start(&[]);
    let wasm = up.folder.path().join("asleep.wasm");
    std::fs::write(&wasm, kittiwake_testkit::guest::asleep()).unwrap();
    let file = up.folder.path().join("asleep.yaml");
    let image = format!("file://{}", wasm.display());
    std::fs::write(&file, kittiwake_testkit::platform::service("asleep", &image, "")).unwrap();
    up.ok(&["apply", "-f", &file.display().to_string()]);
    let mut call = kittiwake();
    call.args(["invoke", "asleep"])
        .env("KUBECONFIG", up.folder.path().join("data/kubeconfig"));
    let mut call = call.stderr(Stdio::null()).spawn().unwrap();
    while !up.metrics().contains("kittiwake_gateway_in_flight 1") {
        std::thread::yield_now();
    }
    up.signal("-INT");
    up.read_until("Ctrl-C again stops at once");
    up.signal("-INT");
    assert_eq!(
        up.child.wait().unwrap().code(),
        Some(130),
        "as a program that was interrupted"
    );
    assert!(!call.wait().unwrap().success());
}

#[test]
fn what_was_acknowledged_survives_kill_9_and_serves_without_its_source() {
    let mut up = Up::start(&[]);
    // The image is a copy, so that it can be taken away: after the restart everything must come from the cache.
    let wasm = up.folder.path().join("hello.wasm");
    std::fs::copy(root().join("examples/hello/hello.wasm"), &wasm).unwrap();
    let file = up.folder.path().join("hello.yaml");
    let image = format!("file://{}", wasm.display());
    std::fs::write(&file, kittiwake_testkit::platform::service("hello", &image, "")).unwrap();
    up.ok(&["apply", "-f", &file.display().to_string()]);
    up.child.kill().unwrap();
    up.child.wait().unwrap();
    std::fs::remove_file(&wasm).unwrap();

    let folder = std::mem::replace(&mut up.folder, tempfile::tempdir().unwrap());
    let up = Up::start_in(folder, &["--apply", &file.display().to_string()]);
    assert!(
        up.first.iter().any(|line| line.contains("hello unchanged")),
        "{:#?}",
        up.first
    );
    assert!(up.ok(&["invoke", "hello"]).starts_with("Hello"));
    let metrics = up.metrics();
    assert!(metrics.contains("revision_request_count"), "{metrics}");
}
