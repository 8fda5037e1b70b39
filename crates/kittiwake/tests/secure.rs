//! `kittiwake up` with TLS, as curl sees it: certificates from files with workers and over a replacement of the program,
//! and certificates that an ACME authority issues.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "support/program.rs"]
mod program;
#[path = "../../gateway/tests/gateway/tool.rs"]
mod tool;

use kittiwake_testkit::guest;
use kittiwake_testkit::platform::service;
use program::{PATIENCE, Up};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tool::{find, free_port};

const GLANCE: Duration = Duration::from_millis(50);

/// Puts a certificate for `names` into the folder, with its key, and the authority's own beside it.
fn certify(folder: &Path, names: &[&str]) -> [PathBuf; 3] {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    // Another name than that of what it issues: else OpenSSL takes that for self-signed.
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names)
        .unwrap()
        .signed_by(&own, &issuer)
        .unwrap();
    let paths = ["tls.crt", "tls.key", "ca.crt"].map(|name| folder.join(name));
    std::fs::write(&paths[0], certificate.pem()).unwrap();
    std::fs::write(&paths[1], own.serialize_pem()).unwrap();
    std::fs::write(&paths[2], authority.pem()).unwrap();
    paths
}

/// What curl gets, or why it does not.
fn curl(address: &str, url: &str, ca: &Path, flags: &[&str]) -> Result<String, String> {
    let url: http::Uri = url.parse().unwrap();
    let (host, ip) = (url.host().unwrap(), address.rsplit_once(':').unwrap());
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "30"])
        .args(["--write-out", " %{http_version} %{http_code}"])
        .args(["--resolve", &format!("{host}:{}:{}", ip.1, ip.0)])
        .arg("--cacert")
        .arg(ca)
        .args(flags)
        .arg(url.to_string())
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn until(what: &str, mut look: impl FnMut() -> Result<(), String>) {
    let start = Instant::now();
    while let Err(why) = look() {
        assert!(start.elapsed() < PATIENCE, "{what}: never; {why}");
        std::thread::sleep(GLANCE);
    }
}

fn deploy(up: &Up, name: &str) {
    let path = up.folder.path().join(format!("{name}.wasm"));
    std::fs::write(&path, guest::hello()).unwrap();
    let manifest = up.folder.path().join(format!("{name}.yaml"));
    let text = service(name, &format!("file://{}", path.display()), "");
    std::fs::write(&manifest, text).unwrap();
    up.ok(&["apply", "-f", &manifest.display().to_string()]);
}

/// Waits until the metrics have this in them.
fn shows(up: &Up, wanted: &str) {
    until(wanted, || {
        let shown = up.metrics();
        shown.contains(wanted).then_some(()).ok_or(shown)
    });
}

#[test]
fn workers_share_the_sockets_and_hand_them_on() {
    let host = "hello.default.localhost";
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key, ca] = certify(folder.path(), &[host]);
    let up = Up::start(&[
        "--workers",
        "2",
        "--https-listen",
        "127.0.0.1:0",
        "--cluster-local-listen",
        "127.0.0.1:0",
        "--tls-cert",
        certificate.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
    ]);
    deploy(&up, "hello");
    let (secure, inside) = (up.address("with TLS"), up.address("cluster-local"));
    let url = format!("https://{host}:{}/", secure.rsplit_once(':').unwrap().1);
    let all_answer = || {
        for (flags, version) in [(&["--http2"], "2"), (&["--http1.1"], "1.1")] {
            let answer = curl(&secure, &url, &ca, flags).unwrap();
            assert!(answer.ends_with(&format!(" {version} 200")), "{answer}");
        }
        let url = format!("http://{host}:{}/", inside.rsplit_once(':').unwrap().1);
        let answer = curl(&inside, &url, &ca, &[]).unwrap();
        assert!(answer.ends_with(" 1.1 200"), "{answer}");
    };
    all_answer();
    up.signal("-USR2");
    up.read_until("has taken over");
    all_answer();
    shows(
        &up,
        &format!("kittiwake_gateway_certificate_expiry_seconds{{worker=\"1\",host=\"{host}\""),
    );
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(program: &Path, arguments: &[&str], folder: &Path) -> Killed {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(folder)
        .env("PEBBLE_VA_NOSLEEP", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Killed(command.spawn().unwrap())
}

#[test]
fn hosts_get_certificates_by_themselves() {
    let (Some(pebble), Some(names)) = (find("pebble"), find("pebble-challtestsrv")) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let [_, _, ca] = certify(folder, &["127.0.0.1", "localhost"]);
    let (listen, management, dns) = (free_port(), free_port(), free_port());
    let up = Up::start(&[
        "--https-listen",
        "127.0.0.1:0",
        "--domain",
        "apps.example.com",
        "--acme-directory",
        &format!("https://127.0.0.1:{listen}/dir"),
        "--acme-email",
        "ops@example.com",
        "--acme-ca-file",
        ca.to_str().unwrap(),
    ]);
    deploy(&up, "hello");
    let gateway = up.address("Functions");
    let gateway_port = gateway.rsplit_once(':').unwrap().1;
    let config = format!(
        r#"{{"pebble": {{"listenAddress": "127.0.0.1:{listen}", "managementListenAddress": "127.0.0.1:{management}",
            "certificate": "tls.crt", "privateKey": "tls.key", "httpPort": {gateway_port}, "tlsPort": 1,
            "profiles": {{"default": {{"description": "90 days", "validityPeriod": 7776000}}}}}}}}"#
    );
    std::fs::write(folder.join("config.json"), config).unwrap();
    let dns = format!("127.0.0.1:{dns}");
    let control = format!("127.0.0.1:{}", free_port());
    let _resolver = run(
        &names,
        &[
            "-defaultIPv6",
            "",
            "-dnsserver",
            &dns,
            "-doh",
            "",
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
            "-management",
            &control,
        ],
        folder,
    );
    let _pebble = run(&pebble, &["-config", "config.json", "-dnsserver", &dns], folder);
    let roots = format!("https://localhost:{management}/roots/0");
    let issuer = folder.join("issuer.crt");
    until("the authority answers", || {
        let answer = curl(&format!("127.0.0.1:{management}"), &roots, &ca, &[])?;
        let pem = answer
            .rsplit_once(' ')
            .and_then(|(rest, _)| rest.rsplit_once(' '));
        std::fs::write(&issuer, pem.ok_or("no PEM")?.0).map_err(|error| error.to_string())
    });
    let secure = up.address("with TLS");
    let host = "hello.default.apps.example.com";
    let url = format!("https://{host}:{}/", secure.rsplit_once(':').unwrap().1);
    until("the certificate is served", || {
        let answer = curl(&secure, &url, &issuer, &["--http2"])?;
        assert!(answer.ends_with(" 2 200"), "{answer}");
        Ok(())
    });
    let kept = up.ok(&["get", "secret", "-o", "yaml"]);
    assert!(
        kept.contains(&format!("networking.kittiwake.dev/host: {host}"))
            && kept.contains("type: kubernetes.io/tls"),
        "{kept}"
    );
    shows(&up, "kittiwake_acme_orders_total{result=\"issued\"} ");
}
