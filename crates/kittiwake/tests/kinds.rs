//! The real kubectl and kn with kinds beyond those of Serving: pods and their logs, Eventing, DomainMapping, constraints.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "support/program.rs"]
mod program;

use program::{PATIENCE, Up, root};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The path of a real client, installed where it is missing.
fn find(name: &str) -> PathBuf {
    let look = || {
        let cache = std::env::var("XDG_CACHE_HOME")
            .unwrap_or_else(|_| format!("{}/.cache", std::env::var("HOME").unwrap()));
        let ours = PathBuf::from(cache).join("kittiwake/tools/bin").join(name);
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&paths).map(|folder| folder.join(name));
        folders.chain([ours]).find(|path| path.is_file())
    };
    look().unwrap_or_else(|| {
        let status = Command::new(root().join("tests/tools/install")).status().unwrap();
        assert!(status.success(), "tests/tools/install failed");
        look().unwrap_or_else(|| panic!("{name} is neither on PATH nor could it be installed"))
    })
}

/// A client of a running platform, with a HOME of its own.
fn client(up: &Up, words: &[&str]) -> Command {
    let (name, arguments) = words.split_first().unwrap();
    let home = up.folder.path().join("home");
    std::fs::create_dir_all(&home).unwrap();
    let mut command = Command::new(find(name));
    command
        .args(arguments)
        .env("HOME", home)
        .env("KUBECONFIG", up.folder.path().join("data/kubeconfig"))
        .current_dir(root());
    command
}

fn run(up: &Up, words: &[&str]) -> (bool, String) {
    let output = client(up, words).output().unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

fn ok(up: &Up, words: &[&str]) -> String {
    let (ok, text) = run(up, words);
    assert!(ok, "{words:?}: {text}");
    text
}

fn fails(up: &Up, words: &[&str]) -> String {
    let (ok, text) = run(up, words);
    assert!(!ok, "{words:?} should have failed: {text}");
    text
}

/// Runs a command again until it prints what is wanted.
fn until(up: &Up, words: &[&str], wanted: &str) -> String {
    let begun = Instant::now();
    loop {
        let (_, text) = run(up, words);
        if text.contains(wanted) {
            return text;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{words:?} never printed {wanted:?}: {text}"
        );
    }
}

#[test]
fn pods_are_what_is_in_memory_and_have_logs() {
    let up = Up::start(&[]);
    let wasm = up.folder.path().join("lines.wasm");
    std::fs::write(&wasm, kittiwake_testkit::guest::lines()).unwrap();
    let manifest = up.folder.path().join("lines.yaml");
    let image = format!("file://{}", wasm.display());
    let service = kittiwake_testkit::platform::service("lines", &image, "");
    std::fs::write(&manifest, service).unwrap();
    ok(&up, &["kubectl", "apply", "-f", &manifest.display().to_string()]);
    ok(
        &up,
        &[
            "kubectl",
            "wait",
            "--for=condition=Ready",
            "ksvc/lines",
            "--timeout=120s",
        ],
    );
    assert!(
        ok(&up, &["kubectl", "get", "pods"]).contains("No resources found"),
        "at zero"
    );

    up.ok(&["invoke", "lines"]);
    let pods = until(&up, &["kubectl", "get", "pods"], "lines-00001-deployment-");
    assert!(
        pods.starts_with("NAME ") && pods.contains("2/2     Running   0"),
        "{pods}"
    );
    let selector = "serving.knative.dev/service=lines";
    let log = ok(
        &up,
        &[
            "kubectl",
            "logs",
            "-l",
            selector,
            "-c",
            "user-container",
            "--tail=-1",
        ],
    );
    assert!(
        log.lines().any(|line| line == "one") && log.lines().any(|line| line == "oh no"),
        "{log}"
    );
    let name = ok(&up, &["kubectl", "get", "pods", "-o", "name"]);
    assert_eq!(
        ok(&up, &["kubectl", "logs", name.trim(), "--tail=1"])
            .lines()
            .count(),
        1,
        "the default container"
    );
    let refused = fails(&up, &["kubectl", "logs", name.trim(), "-c", "other"]);
    assert!(
        refused.contains("container other is not valid for pod"),
        "{refused}"
    );

    let follow = [
        "kubectl",
        "logs",
        "-l",
        selector,
        "-c",
        "user-container",
        "-f",
        "--tail=0",
    ];
    let mut follow = client(&up, &follow).stdout(Stdio::piped()).spawn().unwrap();
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

    until(&up, &["kubectl", "top", "pod"], "lines-00001-deployment-");
    let refused = fails(&up, &["kubectl", "label", "pods", "--all", "a=b"]);
    assert!(refused.contains("change the Service instead"), "{refused}");
    // Its revision begins anew: what is called next has another pod.
    let deleted = ok(&up, &["kubectl", "delete", "pods", "--all"]);
    assert!(deleted.contains("deleted"), "{deleted}");
    up.ok(&["invoke", "lines"]);
    let pods = until(&up, &["kubectl", "get", "pods", "-o", "name"], "pod/");
    assert!(!pods.contains(name.trim()), "{pods}");
    ok(&up, &["kubectl", "delete", "ksvc", "lines"]);
    until(&up, &["kubectl", "get", "pods"], "No resources found");
}

#[test]
fn kn_works_with_every_kind_of_eventing() {
    let up = Up::start(&[]);
    let types = ok(&up, &["kn", "source", "list-types"]);
    for kind in ["ApiServerSource", "ContainerSource", "PingSource", "SinkBinding"] {
        assert!(types.contains(kind), "{types}");
    }
    assert!(ok(&up, &["kn", "channel", "list-types"]).contains("InMemoryChannel"));
    ok(
        &up,
        &[
            "kn",
            "service",
            "create",
            "hello",
            "--image",
            "file://examples/hello/hello.wasm",
            "--no-wait",
        ],
    );
    for (words, list, wanted) in [
        ("broker create default", "broker list", "NotServedYet"),
        (
            "trigger create paid --broker default --filter type=paid --sink ksvc:hello",
            "trigger list",
            "ksvc:hello",
        ),
        ("channel create orders", "channel list", "NotServedYet"),
        (
            "subscription create ship --channel orders --sink ksvc:hello",
            "subscription list",
            "Channel:orders",
        ),
        (
            "source ping create nightly --schedule @daily --sink broker:default",
            "source list",
            "PingSource",
        ),
        (
            "eventtype create paid --type paid --source /orders --broker default",
            "eventtype list",
            "paid",
        ),
        (
            "domain create shop.example.com --ref hello",
            "domain list",
            "shop.example.com",
        ),
    ] {
        let split =
            |words: &'static str| -> Vec<&str> { ["kn"].into_iter().chain(words.split(' ')).collect() };
        ok(&up, &split(words));
        until(&up, &split(list), wanted);
    }
    until(&up, &["kn", "broker", "describe", "default"], "NotServedYet");
    until(
        &up,
        &["kn", "domain", "describe", "shop.example.com"],
        "DomainAlreadyClaimed",
    );
    let refused = fails(
        &up,
        &[
            "kn",
            "source",
            "ping",
            "create",
            "bad",
            "--schedule",
            "0 3 * *",
            "--sink",
            "broker:default",
        ],
    );
    assert!(
        refused.contains("expected 5 to 6 fields, found 4: [0 3 * *]: spec.schedule"),
        "{refused}"
    );
    ok(&up, &["kn", "broker", "delete", "default"]);

    let explained = ok(&up, &["kubectl", "explain", "broker.spec"]);
    assert!(
        explained.contains("delivery") && explained.contains("config"),
        "{explained}"
    );
    let all = ok(&up, &["kubectl", "get", "all"]);
    for kind in [
        "trigger.eventing",
        "channel.messaging",
        "pingsource.sources",
        "domainmapping.serving",
    ] {
        assert!(all.contains(kind), "{kind}: {all}");
    }
}

#[test]
fn constraints_are_a_kind_as_soon_as_their_template_is_there() {
    let up = Up::start(&[]);
    let samples = "crates/apiserver/tests/samples";
    let template = format!("{samples}/constrainttemplate.yaml");
    ok(&up, &["kubectl", "apply", "-f", &template]);
    ok(
        &up,
        &["kubectl", "apply", "-f", &format!("{samples}/constraint.yaml")],
    );
    let table = ok(&up, &["kubectl", "get", "constraints"]);
    assert!(
        table.contains("ENFORCEMENT-ACTION") && table.contains("services-have-an-owner   warn"),
        "{table}"
    );
    let parameters = ok(&up, &["kubectl", "explain", "k8srequiredlabels.spec.parameters"]);
    assert!(
        parameters.contains("Labels that an object must have."),
        "{parameters}"
    );
    let refused = fails(
        &up,
        &[
            "kubectl",
            "apply",
            "-f",
            &format!("{samples}/bad/constraint.yaml"),
        ],
    );
    assert!(refused.contains("validation.gatekeeper.sh"), "{refused}");
    ok(&up, &["kubectl", "delete", "-f", &template]);
    let gone = fails(
        &up,
        &[
            "kubectl",
            "get",
            "--raw",
            "/apis/constraints.gatekeeper.sh/v1beta1",
        ],
    );
    assert!(
        gone.contains("NotFound") || gone.contains("could not find"),
        "{gone}"
    );
}
