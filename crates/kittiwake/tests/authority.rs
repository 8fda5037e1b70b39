//! Who may use the API of a started `kittiwake up`, with the real kubectl: over TLS, by certificate, by token.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "support/program.rs"]
mod program;

use program::{Up, root};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::Value;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The real kubectl: of PATH, else of the folder where tests/tools/install puts it.
fn kubectl() -> PathBuf {
    let find = || {
        let cache = std::env::var("XDG_CACHE_HOME")
            .unwrap_or_else(|_| format!("{}/.cache", std::env::var("HOME").unwrap()));
        let paths = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&paths)
            .chain([PathBuf::from(cache).join("kittiwake/tools/bin")])
            .map(|folder| folder.join("kubectl"))
            .find(|path| path.is_file())
    };
    find().unwrap_or_else(|| {
        let status = Command::new(root().join("tests/tools/install")).status().unwrap();
        assert!(status.success(), "tests/tools/install failed");
        find().expect("kubectl was installed")
    })
}

/// Somebody with a kubectl.
struct User<'a> {
    up: &'a Up,
    /// Flags that say who it is.
    flags: Vec<String>,
}

impl<'a> User<'a> {
    /// The administrator, by the kubeconfig that `up` wrote.
    fn administrator(up: &'a Up) -> Self {
        let kubeconfig = up.folder.path().join("data/kubeconfig").display().to_string();
        Self {
            up,
            flags: vec!["--kubeconfig".to_owned(), kubeconfig],
        }
    }

    /// Somebody who knows where the API is and believes its certificate, and shows what `flags` say.
    fn with(up: &'a Up, flags: &[&str]) -> Self {
        let authority = up.folder.path().join("data/pki/ca.crt").display().to_string();
        let server = format!("--server=https://{}", up.address("Kubernetes API"));
        let mut all = vec!["--kubeconfig=/dev/null".to_owned(), server];
        all.push(format!("--certificate-authority={authority}"));
        all.extend(flags.iter().map(|flag| (*flag).to_owned()));
        Self { up, flags: all }
    }

    fn run(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(kubectl())
            .args(&self.flags)
            .args(arguments)
            .env_remove("KUBECONFIG")
            .env("HOME", self.up.folder.path())
            .current_dir(root())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let (ok, text) = self.run(arguments);
        assert!(ok, "{arguments:?} failed: {text}");
        text
    }

    fn fails(&self, arguments: &[&str]) -> String {
        let (ok, text) = self.run(arguments);
        assert!(!ok, "{arguments:?} should fail: {text}");
        text
    }
}

#[test]
fn the_administrator_and_a_viewer() {
    let up = Up::start(&["--apply", "examples/hello/service.yaml"]);
    let admin = User::administrator(&up);
    assert!(admin.ok(&["get", "ksvc"]).contains("hello"));
    let who = admin.ok(&["auth", "whoami"]);
    assert!(
        who.contains("kubernetes-admin") && who.contains("system:masters"),
        "{who}"
    );
    assert_eq!(admin.ok(&["auth", "can-i", "*", "*"]), "yes\n");
    assert!(admin.ok(&["auth", "can-i", "--list"]).contains("*.*"));
    assert!(admin.ok(&["get", "--raw", "/metrics"]).contains("kittiwake_"));

    admin.ok(&["create", "serviceaccount", "viewer"]);
    admin.ok(&[
        "create",
        "rolebinding",
        "viewer",
        "--clusterrole=view",
        "--serviceaccount=default:viewer",
    ]);
    let token = admin.ok(&["create", "token", "viewer", "--duration=10m"]);
    let token = format!("--token={}", token.trim());
    let viewer = User::with(&up, &[&token]);
    assert!(viewer.ok(&["get", "ksvc"]).contains("hello"));
    assert!(
        viewer
            .ok(&["get", "ksvc,rev,rt,cfg,cm,sa"])
            .contains("hello-00001")
    );
    let who = viewer.ok(&["auth", "whoami"]);
    assert!(
        who.contains("system:serviceaccount:default:viewer") && who.contains("system:serviceaccounts"),
        "{who}"
    );
    let denied = viewer.fails(&["delete", "ksvc", "hello"]);
    assert!(
        denied.contains(
            r#"Error from server (Forbidden): services.serving.knative.dev "hello" is forbidden: User "system:serviceaccount:default:viewer" cannot delete resource "services" in API group "serving.knative.dev" in the namespace "default""#
        ),
        "{denied}"
    );
    assert!(
        viewer
            .fails(&["get", "secrets"])
            .contains("cannot list resource \"secrets\"")
    );
    assert!(
        viewer
            .fails(&["get", "ksvc", "-A"])
            .contains("at the cluster scope")
    );
    assert_eq!(viewer.ok(&["auth", "can-i", "get", "ksvc"]), "yes\n");
    assert_eq!(viewer.fails(&["auth", "can-i", "delete", "ksvc"]), "no\n");
    let list = viewer.ok(&["auth", "can-i", "--list"]);
    assert!(
        list.contains("*.serving.knative.dev")
            && list.contains("[get list watch]")
            && !list.contains("*.*  "),
        "{list}"
    );
    assert_eq!(
        admin.fails(&[
            "auth",
            "can-i",
            "delete",
            "ksvc",
            "--as=system:serviceaccount:default:viewer"
        ]),
        "no\n"
    );

    admin.ok(&["delete", "serviceaccount", "viewer"]);
    let gone = viewer.fails(&["get", "ksvc"]);
    assert!(gone.contains("You must be logged in to the server"), "{gone}");
}

#[test]
fn roles_are_made_and_read_with_kubectl() {
    let up = Up::start(&[]);
    let admin = User::administrator(&up);
    admin.ok(&[
        "create",
        "role",
        "reader",
        "--verb=get,list",
        "--resource=configmaps,services.serving.knative.dev",
    ]);
    admin.ok(&[
        "create",
        "clusterrole",
        "urls",
        "--verb=get",
        "--non-resource-url=/metrics",
    ]);
    admin.ok(&["create", "clusterrole", "sum", "--aggregation-rule=sum=yes"]);
    admin.ok(&[
        "create",
        "clusterrolebinding",
        "urls",
        "--clusterrole=urls",
        "--group=ops",
        "--user=ann",
    ]);
    admin.ok(&["create", "rolebinding", "reader", "--role=reader", "--user=ann"]);
    assert!(
        admin
            .ok(&["get", "clusterrole,clusterrolebinding"])
            .contains("system:discovery")
    );
    assert!(
        admin
            .ok(&["describe", "role", "reader"])
            .contains("services.serving.knative.dev")
    );
    let wide = admin.ok(&["get", "rolebinding", "-o", "wide"]);
    assert!(wide.contains("Role/reader") && wide.contains("ann"), "{wide}");
    assert_eq!(admin.ok(&["auth", "can-i", "list", "cm", "--as=ann"]), "yes\n");
    assert_eq!(
        admin.ok(&["auth", "can-i", "get", "/metrics", "--as=x", "--as-group=ops"]),
        "yes\n"
    );
    let refused = admin.fails(&[
        "create",
        "role",
        "more",
        "--verb=get",
        "--resource=secrets",
        "--as=ann",
    ]);
    assert!(refused.contains("forbidden"), "{refused}");
    let file = up.folder.path().join("rbac.yaml");
    std::fs::write(
        &file,
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: reader, namespace: default}\n\
         rules: [{apiGroups: [\"\"], resources: [secrets], verbs: [get]}]\n",
    )
    .unwrap();
    let file = file.display().to_string();
    assert!(
        admin
            .ok(&["auth", "reconcile", "-f", &file])
            .contains("reconciled")
    );
    assert_eq!(
        admin.ok(&["auth", "can-i", "get", "secrets", "--as=ann"]),
        "yes\n"
    );
}

#[test]
fn strangers_and_forgers_are_kept_out() {
    let tokens = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(tokens.path(), "s3cret,ann,1,\"dev,ops\"\n").unwrap();
    let tokens = tokens.path().display().to_string();
    let up = Up::start(&["--token-auth-file", &tokens]);
    let who = User::with(&up, &["--token=s3cret"]).ok(&["auth", "whoami"]);
    assert!(who.contains("ann") && who.contains("ops"), "{who}");
    for token in ["garbage", "eyJhbGciOiJub25lIn0.e30."] {
        let refused = User::with(&up, &[&format!("--token={token}")]).fails(&["get", "ksvc"]);
        assert!(
            refused.contains("You must be logged in to the server"),
            "{refused}"
        );
    }
    let nobody = User::with(&up, &["--username=x", "--password=y"]);
    assert!(nobody.ok(&["get", "--raw", "/version"]).contains("gitVersion"));
    assert!(nobody.fails(&["get", "--raw", "/metrics"]).contains("Forbidden"));

    // Certificates that another authority of the same name signed, and one of ours that has run out.
    let pki = up.folder.path().join("data/pki");
    let authority = |key: KeyPair| {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "kittiwake-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Issuer::new(params, key)
    };
    let ours = authority(KeyPair::from_pem(&read(&pki.join("ca.key"))).unwrap());
    let theirs = authority(KeyPair::generate().unwrap());
    let folder = up.folder.path();
    let good = certificate(folder, "good", &ours, (2020, 2100));
    let text = User::with(&up, &flags(&good)).ok(&["auth", "whoami"]);
    assert!(text.contains("system:masters"), "{text}");
    let foreign = certificate(folder, "foreign", &theirs, (2020, 2100));
    let expired = certificate(folder, "expired", &ours, (2020, 2021));
    for pair in [foreign, expired] {
        let refused = User::with(&up, &flags(&pair)).fails(&["get", "ksvc"]);
        assert!(
            refused.contains("You must be logged in to the server"),
            "{refused}"
        );
    }

    // No TLS, no API; and who says nothing holds up nobody.
    let address = up.address("Kubernetes API");
    let silent: Vec<_> = (0..20)
        .map(|_| std::net::TcpStream::connect(&address).unwrap())
        .collect();
    let mut plain = std::net::TcpStream::connect(&address).unwrap();
    plain
        .write_all(b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(
        !answer.starts_with(b"HTTP"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    User::administrator(&up).ok(&["get", "ns"]);
    drop(silent);
}

#[test]
fn the_audit_log_of_a_platform_tells_who_did_what() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let up = Up::start(&["--audit-log-path", &path.display().to_string()]);
    let admin = User::administrator(&up);
    admin.ok(&["create", "secret", "generic", "pin", "--from-literal=pin=hunter2"]);
    admin.ok(&["get", "secret", "pin"]);
    admin.fails(&["get", "secret", "pin", "--as=ann"]);
    let start = std::time::Instant::now();
    let event = loop {
        assert!(start.elapsed() < program::PATIENCE, "the event is never logged");
        let text = read(&path);
        assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMg"));
        let events = text
            .lines()
            .map_while(|line| serde_json::from_str::<Value>(line).ok());
        let wanted = |event: &Value| {
            event["impersonatedUser"]["username"] == "ann" && event["objectRef"]["resource"] == "secrets"
        };
        if let Some(event) = events.into_iter().find(wanted) {
            break event;
        }
        std::thread::yield_now();
    };
    assert_eq!(event["user"]["username"], "kubernetes-admin");
    assert_eq!(event["objectRef"]["name"], "pin");
    assert_eq!(event["responseStatus"]["code"], 403);
    assert_eq!(event["sourceIPs"], serde_json::json!(["127.0.0.1"]));
}

#[test]
fn huge_heads_are_refused() {
    let up = Up::start(&["--api-insecure"]);
    let address = up.address("Kubernetes API");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let head = format!(
        "GET /version HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n",
        "x".repeat(200_000)
    );
    let _ = stream.write_all(head.as_bytes());
    let mut answer = [0; 12];
    let read = stream.read(&mut answer).unwrap_or(0);
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.is_empty() || answer == "HTTP/1.1 431", "{answer}");
    assert!(up.ok(&["get", "ksvc"]).is_empty());
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// A client certificate of `system:masters` and its key, as files.
fn certificate(
    folder: &Path,
    name: &str,
    issuer: &Issuer<'_, KeyPair>,
    years: (i32, i32),
) -> (PathBuf, PathBuf) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
        .distinguished_name
        .push(DnType::OrganizationName, "system:masters");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    let files = (
        folder.join(format!("{name}.crt")),
        folder.join(format!("{name}.key")),
    );
    std::fs::write(&files.0, params.signed_by(&key, issuer).unwrap().pem()).unwrap();
    std::fs::write(&files.1, key.serialize_pem()).unwrap();
    files
}

fn flags(pair: &(PathBuf, PathBuf)) -> [&'static str; 2] {
    let leak =
        |name: &str, path: &Path| -> &'static str { format!("--client-{name}={}", path.display()).leak() };
    [leak("certificate", &pair.0), leak("key", &pair.1)]
}
