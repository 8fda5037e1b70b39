//! TLS: which certificate, which protocol, and certificates that are no good.

use crate::support::{HELLO, Server, bind, routes, start_on, table, text, try_start};
use http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kittiwake_core::body;
use kittiwake_core::routing_table::{Certificate, RoutingTable};
use kittiwake_gateway::{CertificateFiles, Config, Listeners};
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// An authority for tests.
pub struct Authority {
    /// `None` for one that others run.
    issuer: Option<Issuer<'static, KeyPair>>,
    pub certificate: CertificateDer<'static>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Another name than that of what it issues: else OpenSSL takes that for self-signed.
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "authority");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: Some(Issuer::new(params, key)),
            certificate,
        }
    }

    /// One that others run, by its certificate in PEM.
    pub fn known(pem: &[u8]) -> Self {
        Self {
            issuer: None,
            certificate: CertificateDer::from_pem_slice(pem).unwrap(),
        }
    }

    pub fn pem(&self) -> String {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(&self.certificate);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    }

    pub fn issue(&self, names: &[&str], year: i32) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, self.issuer.as_ref().unwrap()).unwrap();
        Certificate {
            chain: certificate.pem().into_bytes().into(),
            key: key.serialize_pem().into_bytes().into(),
        }
    }

    /// Connects with TLS, checking the server's certificate for `name`.
    async fn connect(
        &self,
        server: &Server,
        name: &str,
        protocol: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(server.handle.https_addr().unwrap()).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

pub fn certified(certificates: Vec<(&str, Certificate)>) -> Arc<RoutingTable> {
    let mut table = Arc::unwrap_or_clone(table(routes()));
    for (host, certificate) in certificates {
        table.insert_certificate(host, certificate);
    }
    Arc::new(table)
}

pub fn https() -> Listeners {
    Listeners {
        https: Some(bind()),
        ..Listeners::default()
    }
}

/// The names of the certificate that a client gets, which must have been issued by `authority`.
pub async fn served(authority: &Authority, server: &Server, name: &str) -> String {
    let stream = authority.connect(server, name, "h2").await.unwrap();
    let certificates = stream.get_ref().1.peer_certificates().unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificates[0]).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    let names = names.value.general_names.iter().map(ToString::to_string);
    names.collect::<Vec<_>>().join(",")
}

fn write(folder: &Path, name: &str, certificate: &Certificate) -> CertificateFiles {
    let files = CertificateFiles {
        chain: folder.join(format!("{name}.crt")),
        key: folder.join(format!("{name}.key")),
    };
    std::fs::write(&files.chain, &certificate.chain).unwrap();
    std::fs::write(&files.key, &certificate.key).unwrap();
    files
}

/// Waits until the gateway has taken the table over.
pub async fn in_use(server: &Server, host: &str) {
    server
        .until_metric(&format!(
            "kittiwake_gateway_certificate_expiry_seconds{{host=\"{host}\"}}"
        ))
        .await;
}

#[tokio::test]
async fn both_protocols_are_spoken_and_the_function_knows_of_tls() {
    let authority = Authority::new();
    let routes = certified(vec![(HELLO, authority.issue(&[HELLO], 2100))]);
    let server = start_on(Config::default(), routes, https());
    in_use(&server, HELLO).await;

    let mut stream = authority.connect(&server, HELLO, "http/1.1").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let head = format!("GET /head HTTP/1.1\r\nHost: {HELLO}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("x-forwarded-proto: https\n"), "{answer}");
    assert!(answer.contains(";proto=https\n"), "{answer}");

    let stream = authority.connect(&server, HELLO, "h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let asked = Request::get(format!("https://{HELLO}/"))
        .body(body::empty())
        .unwrap();
    let (status, said) = text(client.send_request(asked).await.unwrap()).await;
    assert_eq!((status.as_u16(), &*said), (200, "hello-00001"));
}

#[tokio::test]
async fn the_certificate_is_chosen_by_name() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let first = write(
        folder.path(),
        "first",
        &authority.issue(&["first.example", "other.example"], 2100),
    );
    let second = write(
        folder.path(),
        "second",
        &authority.issue(&["second.example", HELLO], 2100),
    );
    let config = Config {
        certificates: vec![first, second],
        ..Config::default()
    };
    let routes = certified(vec![
        (HELLO, authority.issue(&[HELLO], 2100)),
        ("*.apps.example", authority.issue(&["*.apps.example"], 2100)),
    ]);
    let server = start_on(config, routes, https());
    in_use(&server, "*.apps.example").await;
    for (name, wanted) in [
        (HELLO, format!("DNSName({HELLO})")),
        ("a.apps.example", "DNSName(*.apps.example)".to_owned()),
        ("A.Apps.Example", "DNSName(*.apps.example)".to_owned()),
        (
            "second.example",
            format!("DNSName(second.example),DNSName({HELLO})"),
        ),
        (
            "other.example",
            "DNSName(first.example),DNSName(other.example)".to_owned(),
        ),
    ] {
        assert_eq!(served(&authority, &server, name).await, wanted, "{name}");
    }
    // Nobody has this one: the default is served, and the client says that it is of other names.
    let error = authority
        .connect(&server, "a.b.apps.example", "h2")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("first.example"), "{error}");
}

#[tokio::test]
async fn nonsense_leaves_the_last_good_certificate() {
    let authority = Authority::new();
    let good = authority.issue(&[HELLO], 2100);
    let server = start_on(Config::default(), certified(vec![(HELLO, good.clone())]), https());
    in_use(&server, HELLO).await;
    let nonsense = Certificate {
        chain: b"nonsense".as_slice().into(),
        key: good.key.clone(),
    };
    let unfit = Certificate {
        key: authority.issue(&[HELLO], 2100).key,
        ..good
    };
    for (mark, bad) in [("1.example", nonsense), ("2.example", unfit)] {
        let marked = authority.issue(&[mark], 2100);
        let routes = certified(vec![(HELLO, bad), (mark, marked)]);
        server.routes.send_replace(routes);
        in_use(&server, mark).await;
        assert_eq!(
            served(&authority, &server, HELLO).await,
            format!("DNSName({HELLO})")
        );
    }
    // Taken out of the table it is gone, with its series.
    server.routes.send_replace(certified(vec![(
        "3.example",
        authority.issue(&["3.example"], 2100),
    )]));
    in_use(&server, "3.example").await;
    assert!(authority.connect(&server, HELLO, "h2").await.is_err());
    assert!(
        !server
            .metrics()
            .contains(&format!("expiry_seconds{{host=\"{HELLO}\"}}"))
    );
    server
        .until_metric("kittiwake_gateway_tls_handshake_failures_total 1")
        .await;
}

#[tokio::test]
async fn an_expired_certificate_is_seen_and_served() {
    let authority = Authority::new();
    let server = start_on(
        Config::default(),
        certified(vec![(HELLO, authority.issue(&[HELLO], 2001))]),
        https(),
    );
    // 2001-01-01
    server
        .until_metric(&format!(
            "kittiwake_gateway_certificate_expiry_seconds{{host=\"{HELLO}\"}} 978307200\n"
        ))
        .await;
    let error = authority.connect(&server, HELLO, "h2").await.unwrap_err();
    assert!(
        error.to_string().contains("expired"),
        "the client judges: {error}"
    );
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_at_the_start() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let mut files = write(folder.path(), "a", &authority.issue(&["a.example"], 2100));
    let other = write(folder.path(), "b", &authority.issue(&["b.example"], 2100));
    files.key = other.key;
    let missing = CertificateFiles {
        chain: folder.path().join("none.crt"),
        key: folder.path().join("none.key"),
    };
    for (files, wanted) in [
        (
            files,
            "a.crt cannot be used: the key does not fit the certificate",
        ),
        (missing, "none.crt cannot be read: No such file"),
    ] {
        let config = Config {
            certificates: vec![files],
            ..Config::default()
        };
        let Err(error) = try_start(bind(), config, table(routes()), https()) else {
            panic!("{wanted}");
        };
        let mut chain = vec![error.to_string()];
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            chain.push(error.to_string());
            source = error.source();
        }
        let chain = chain.join(": ");
        assert!(chain.contains(wanted), "{chain}");
    }
}

#[tokio::test]
async fn handshakes_have_a_time_limit() {
    let authority = Authority::new();
    let config = Config {
        tls_handshake_timeout: Duration::from_millis(50),
        ..Config::default()
    };
    let routes = certified(vec![(HELLO, authority.issue(&[HELLO], 2100))]);
    let server = start_on(config, routes, https());
    let address = server.handle.https_addr().unwrap();
    let mut silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    let mut garbage = TcpStream::connect(address).await.unwrap();
    garbage
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = garbage.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    server
        .until_metric("kittiwake_gateway_tls_handshake_failures_total 2")
        .await;
}
