//! The real kubectl, as a user runs it, against a platform on free ports. Installs kubectl when it is missing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use kittiwake_testkit::guest;
use kittiwake_testkit::platform::{TestPlatform, service};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A kubectl of its own: own HOME and cache, so that nothing of this machine's user is read or written.
struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
}

/// What a command came to.
struct Output {
    ok: bool,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// The path of a real client, installed once for each run of the tests where it is missing.
fn program(name: &str) -> PathBuf {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    let find = || {
        let cache = std::env::var("XDG_CACHE_HOME")
            .unwrap_or_else(|_| format!("{}/.cache", std::env::var("HOME").unwrap()));
        let ours = PathBuf::from(cache).join("kittiwake/tools/bin").join(name);
        let paths = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&paths)
            .map(|folder| folder.join(name))
            .chain([ours])
            .find(|path| path.is_file())
    };
    find().unwrap_or_else(|| {
        INSTALLED.get_or_init(|| {
            let status = Command::new(root().join("tests/tools/install")).status().unwrap();
            assert!(status.success(), "tests/tools/install failed");
        });
        find().unwrap_or_else(|| panic!("{name} is neither on PATH nor could it be installed"))
    })
}

impl Kubectl {
    fn of(platform: &TestPlatform) -> Self {
        Self::named("kubectl", platform)
    }

    fn named(name: &str, platform: &TestPlatform) -> Self {
        let home = platform.folder().join("home");
        std::fs::create_dir_all(&home).unwrap();
        Self {
            program: program(name),
            kubeconfig: platform.kubeconfig().unwrap(),
            home,
        }
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(arguments)
            .env("HOME", &self.home)
            .env("KUBECONFIG", &self.kubeconfig)
            .current_dir(root());
        let output = command.output().await.unwrap();
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Output {
            ok: output.status.success(),
            text,
        }
    }

    async fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert!(
            output.ok,
            "{} {arguments:?} failed:\n{}",
            self.program.display(),
            output.text
        );
        output.text
    }

    async fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert!(
            !output.ok,
            "{} {arguments:?} should have failed:\n{}",
            self.program.display(),
            output.text
        );
        output.text
    }
}

fn write(platform: &TestPlatform, name: &str, text: &str) -> String {
    let path = platform.folder().join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// What only users write of an object, with the record of when they did: controllers may write status at any time.
fn users_part(object: &serde_json::Value) -> serde_json::Value {
    let mut part = object.clone();
    part.as_object_mut().unwrap().remove("status");
    let metadata = part["metadata"].as_object_mut().unwrap();
    metadata.remove("resourceVersion");
    let managed = metadata["managedFields"].as_array_mut().unwrap();
    managed.retain(|entry| entry["subresource"] != "status");
    assert!(!managed.is_empty());
    part
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_from_apply_to_delete() {
    let platform = TestPlatform::start().await.unwrap();
    let kubectl = Kubectl::of(&platform);
    let image = platform.image("hello.wasm", &guest::hello()).unwrap();
    let file = write(&platform, "hello.yaml", &service("hello", &image, ""));

    assert_eq!(
        kubectl.ok(&["apply", "-f", &file]).await,
        "service.serving.knative.dev/hello created\n"
    );
    assert!(
        kubectl
            .ok(&["wait", "--for=condition=Ready", "ksvc/hello", "--timeout=60s"])
            .await
            .contains("condition met")
    );
    let table = kubectl.ok(&["get", "ksvc"]).await;
    let header: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        header,
        ["NAME", "URL", "LATESTCREATED", "LATESTREADY", "READY", "REASON"]
    );
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    let url = format!("http://hello.default.localhost:{}", platform.gateway().port());
    assert_eq!(row, ["hello", &url, "hello-00001", "hello-00001", "True"]);
    assert_eq!(
        platform.get("hello.default.localhost", "/").await.unwrap().status,
        200
    );

    // Applied again: nothing changes, although kubectl says `configured`: containers are one value to it, and the
    // stored ones hold defaults (so it is with Knative itself). A changed template: a second revision, the first kept.
    let before = platform.object("services/hello").await.unwrap();
    kubectl.ok(&["apply", "-f", &file]).await;
    let after = platform.object("services/hello").await.unwrap();
    assert_eq!(users_part(&after), users_part(&before));
    let file = write(
        &platform,
        "hello.yaml",
        &service("hello", &image, "          env: [{name: A, value: b}]\n"),
    );
    assert!(kubectl.ok(&["apply", "-f", &file]).await.contains("configured"));
    platform
        .until("services/hello", |s| {
            s["status"]["latestReadyRevisionName"] == "hello-00002"
        })
        .await
        .unwrap();
    let revisions = kubectl.ok(&["get", "rev", "-o", "name"]).await;
    assert_eq!(
        revisions,
        "revision.serving.knative.dev/hello-00001\nrevision.serving.knative.dev/hello-00002\n"
    );

    for output in ["wide", "yaml", "json"] {
        let text = kubectl.ok(&["get", "ksvc,rev,rt,cfg", "-o", output]).await;
        assert!(text.contains("hello-00002"), "{output}: {text}");
    }
    let described = kubectl.ok(&["describe", "ksvc", "hello"]).await;
    assert!(
        described.contains("Latest Ready Revision Name:") && described.contains("Events:"),
        "{described}"
    );

    assert!(
        kubectl
            .ok(&["delete", "ksvc", "hello", "--timeout=60s"])
            .await
            .contains("deleted")
    );
    assert!(
        kubectl
            .fails(&["get", "ksvc", "hello"])
            .await
            .contains("NotFound")
    );
    let connection = platform.connection().await.unwrap();
    for kind in ["configurations", "revisions", "routes"] {
        let path = format!("/apis/serving.knative.dev/v1/namespaces/default/{kind}");
        let gone = async {
            while !connection.get(&path).await.unwrap()["items"]
                .as_array()
                .unwrap()
                .is_empty()
            {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), gone)
            .await
            .unwrap_or_else(|_| panic!("{kind} stay"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_is_watched_while_it_becomes_ready() {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let platform = TestPlatform::start_with(|config| config.working_dir = root())
        .await
        .unwrap();
    let kubectl = Kubectl::of(&platform);
    let mut watch = tokio::process::Command::new(&kubectl.program);
    watch
        .args(["get", "ksvc", "-w"])
        .env("HOME", &kubectl.home)
        .env("KUBECONFIG", &kubectl.kubeconfig);
    let mut watch = watch
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    kubectl.ok(&["apply", "-f", "examples/hello/service.yaml"]).await;
    let ready = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let cells: Vec<&str> = line.split_whitespace().collect();
            if cells.last() == Some(&"True") {
                return;
            }
        }
        panic!("the watch ended before the Service was ready");
    };
    tokio::time::timeout(kittiwake_testkit::platform::PATIENCE, ready)
        .await
        .unwrap();
    let answer = platform.get("hello.default.localhost", "/").await.unwrap();
    assert_eq!(answer.text(), "Hello World!\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_side_apply_and_edits() {
    let platform = TestPlatform::start().await.unwrap();
    let kubectl = Kubectl::of(&platform);
    let image = platform.image("hello.wasm", &guest::hello()).unwrap();
    let file = write(&platform, "hello.yaml", &service("hello", &image, ""));

    assert!(
        kubectl
            .ok(&["apply", "--server-side", "-f", &file])
            .await
            .contains("serverside-applied")
    );
    assert!(
        kubectl
            .ok(&["apply", "--server-side", "-f", &file])
            .await
            .contains("serverside-applied")
    );
    kubectl
        .ok(&["wait", "--for=condition=Ready", "ksvc/hello", "--timeout=60s"])
        .await;
    assert!(
        kubectl
            .ok(&["label", "ksvc", "hello", "team=birds"])
            .await
            .contains("labeled")
    );
    assert!(
        kubectl
            .ok(&["annotate", "ksvc", "hello", "note=x"])
            .await
            .contains("annotated")
    );
    assert!(
        kubectl
            .ok(&["get", "ksvc", "-l", "team=birds", "-o", "name"])
            .await
            .contains("hello")
    );
    let patch = r#"[{"op":"test","path":"/metadata/labels/team","value":"birds"},{"op":"remove","path":"/metadata/labels/team"}]"#;
    assert!(
        kubectl
            .ok(&["patch", "ksvc", "hello", "--type=json", "-p", patch])
            .await
            .contains("patched")
    );
    assert!(
        kubectl
            .ok(&[
                "patch",
                "ksvc",
                "hello",
                "--type=merge",
                "-p",
                r#"{"metadata":{"labels":{"a":"b"}}}"#
            ])
            .await
            .contains("patched")
    );
    // Labels of the Service make no new revision.
    assert_eq!(kubectl.ok(&["get", "rev", "-o", "name"]).await.lines().count(), 1);

    // A second writer of the same field is told, and may insist.
    let other = write(
        &platform,
        "other.yaml",
        &service("hello", &image, "          env: [{name: A, value: b}]\n"),
    );
    let conflict = kubectl
        .fails(&["apply", "--server-side", "--field-manager=other", "-f", &other])
        .await;
    assert!(conflict.contains("conflict with \"kubectl\""), "{conflict}");
    kubectl
        .ok(&[
            "apply",
            "--server-side",
            "--field-manager=other",
            "--force-conflicts",
            "-f",
            &other,
        ])
        .await;
    platform
        .until("services/hello", |s| {
            s["status"]["latestReadyRevisionName"] == "hello-00002"
        })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_explained() {
    let platform = TestPlatform::start().await.unwrap();
    let kubectl = Kubectl::of(&platform);
    let image = platform.image("hello.wasm", &guest::hello()).unwrap();

    let misspelt = service("hello", &image, "").replace("template:", "tempalte:");
    let file = write(&platform, "misspelt.yaml", &misspelt);
    let text = kubectl.fails(&["apply", "-f", &file]).await;
    assert!(text.contains(r#"unknown field "spec.tempalte""#), "{text}");

    for (name, extra, part) in [
        (
            "reserved",
            "          env: [{name: K_SERVICE, value: x}]\n",
            "K_SERVICE",
        ),
        ("port", "          ports: [{containerPort: 8012}]\n", "8012"),
    ] {
        let file = write(&platform, "bad.yaml", &service(name, &image, extra));
        let text = kubectl.fails(&["apply", "-f", &file]).await;
        assert!(
            text.contains(part) && text.contains("spec.template.spec.containers[0]"),
            "{text}"
        );
    }
    let traffic = format!(
        "{}  traffic: [{{latestRevision: true, percent: 99}}]\n",
        service("half", &image, "")
    );
    let text = kubectl
        .fails(&["apply", "-f", &write(&platform, "half.yaml", &traffic)])
        .await;
    assert!(
        text.contains("Traffic targets sum to 99, want 100: spec.traffic"),
        "{text}"
    );

    let file = write(
        &platform,
        "gone.yaml",
        &service("gone", "file:///no/such/file.wasm", ""),
    );
    kubectl.ok(&["apply", "-f", &file]).await;
    let service = platform
        .until("services/gone", |s| {
            kittiwake_testkit::platform::condition(s, "Ready").0 == "False"
        })
        .await
        .unwrap();
    let (_, reason, message) = kittiwake_testkit::platform::condition(&service, "Ready");
    assert_eq!(reason, "RevisionFailed");
    assert!(message.contains("/no/such/file.wasm"), "{message}");
    let table = kubectl.ok(&["get", "ksvc", "gone"]).await;
    assert!(
        table.contains("False") && table.contains("RevisionFailed"),
        "{table}"
    );
    assert!(
        kubectl
            .ok(&["describe", "rev", "gone-00001"])
            .await
            .contains("ContainerMissing")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_dry_runs_and_explanations() {
    let platform = TestPlatform::start().await.unwrap();
    let kubectl = Kubectl::of(&platform);
    let image = platform.image("hello.wasm", &guest::hello()).unwrap();
    let file = write(&platform, "hello.yaml", &service("hello", &image, ""));

    assert!(
        kubectl
            .ok(&["apply", "--dry-run=server", "-f", &file])
            .await
            .contains("server dry run")
    );
    assert!(
        kubectl
            .fails(&["get", "ksvc", "hello"])
            .await
            .contains("NotFound")
    );
    assert!(
        kubectl
            .ok(&["explain", "ksvc.spec.template"])
            .await
            .contains("template")
    );
    assert!(
        kubectl
            .ok(&["api-resources", "--api-group=serving.knative.dev"])
            .await
            .contains("ksvc")
    );
    assert!(
        kubectl
            .fails(&["apply", "-n", "shop", "-f", &file])
            .await
            .contains("namespaces \"shop\" not found")
    );
    assert!(
        kubectl
            .ok(&["create", "namespace", "shop"])
            .await
            .contains("created")
    );
    kubectl.ok(&["apply", "-n", "shop", "-f", &file]).await;
    kubectl
        .ok(&[
            "wait",
            "-n",
            "shop",
            "--for=condition=Ready",
            "ksvc/hello",
            "--timeout=60s",
        ])
        .await;
    assert_eq!(
        platform.get("hello.shop.localhost", "/").await.unwrap().status,
        200
    );
    kubectl
        .ok(&["delete", "namespace", "shop", "--timeout=60s"])
        .await;
    assert_eq!(
        platform.get("hello.shop.localhost", "/").await.unwrap().status,
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn kn_creates_updates_splits_and_deletes() {
    let platform = TestPlatform::start().await.unwrap();
    let kn = Kubectl::named("kn", &platform);
    let image = platform.image("hello.wasm", &guest::hello()).unwrap();

    assert!(
        kn.ok(&[
            "service",
            "create",
            "hello",
            "--image",
            &image,
            "--env",
            "TARGET=kn"
        ])
        .await
        .contains("ready")
    );
    assert!(
        kn.ok(&["service", "list"])
            .await
            .contains("hello.default.localhost")
    );
    assert!(
        kn.ok(&[
            "service",
            "update",
            "hello",
            "--env",
            "TARGET=two",
            "--tag",
            "hello-00001=old"
        ])
        .await
        .contains("ready")
    );
    kn.ok(&["service", "update", "hello", "--traffic", "old=10,@latest=90"])
        .await;
    let described = kn.ok(&["service", "describe", "hello"]).await;
    assert!(
        described.contains("90%") && described.contains("10%") && described.contains("old"),
        "{described}"
    );
    assert_eq!(
        platform
            .get("old-hello.default.localhost", "/")
            .await
            .unwrap()
            .status,
        200
    );
    assert!(kn.ok(&["revision", "list"]).await.contains("hello-00002"));
    assert!(kn.ok(&["route", "list"]).await.contains("hello"));
    assert!(
        kn.ok(&["service", "delete", "hello", "--wait"])
            .await
            .contains("deleted")
    );
}
