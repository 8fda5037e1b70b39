//! HTTPS to a server that is trusted, and the protocol that it chooses. What guests see of all this is in `tests/it`.

use super::*;
use http_body_util::{BodyExt, Full};
use kittiwake_core::clock::SystemClock;
use kittiwake_core::log::LogHub;
use kittiwake_core::revision::RevisionKey;
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;

/// Tells by which protocol it was asked. Returns its port, and who vouches for it.
async fn secure_server(protocols: &[&[u8]]) -> (u16, RootCertStore) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let told = |request: Request<hyper::body::Incoming>| async move {
                    let text = format!("{:?} {}", request.version(), request.uri().path());
                    Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(Bytes::from(text))))
                };
                let server =
                    hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
                let io = hyper_util::rt::TokioIo::new(stream);
                let _ = server
                    .serve_connection(io, hyper::service::service_fn(told))
                    .await;
            });
        }
    });
    (port, roots)
}

async fn get(outside: &Arc<Outside>, outbound: &str, url: &str) -> Result<String, Error> {
    let mut revision = RevisionSpec::new(RevisionKey::new("default", "a"), "uid", "image");
    revision.outbound = outbound.parse().unwrap();
    let asking = Asking {
        log: LogHub::new(Arc::new(SystemClock::new())).revision(&revision.key),
        revision: Arc::new(revision),
        hops: Hops::default(),
    };
    let body = http_body_util::Empty::new()
        .map_err(|never| match never {})
        .boxed_unsync();
    let request = Request::get(url).body(body).unwrap();
    let (response, _) = Arc::clone(outside).send(asking, request, None).await?;
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

#[test]
fn names_inside_are_told_from_those_outside() {
    const ALL: &str = "*.svc.cluster.local:80,*.svc.cluster.local:443";
    for (list, url, wanted) in [
        (ALL, "http://hello.default.svc.cluster.local/", true),
        (ALL, "https://hello.default.svc.cluster.local/", true),
        (ALL, "http://Hello.Default.svc/", true),
        (ALL, "http://hello.default", true),
        (ALL, "https://hello.default", false),
        (ALL, "http://hello.default:8080", false),
        ("hello.default.svc:80", "http://hello.default.svc/", true),
        ("github.com:80,github.com:443", "http://github.com/", false),
        ("github.com:80,github.com:443", "https://github.com/", false),
        ("*.example.com:80", "http://hello.default.example.com/", true),
        ("*.example.com:443", "https://hello.default.example.com/", false),
        ("*", "http://hello.default/", true),
        ("", "http://hello.default.svc.cluster.local/", false),
    ] {
        let target = Target::of(&url.parse().unwrap()).unwrap();
        assert_eq!(
            target.may_be_inside(&list.parse().unwrap()),
            wanted,
            "{list} {url}"
        );
    }
}

#[tokio::test]
async fn the_server_chooses_the_protocol() {
    for (protocols, wanted) in [
        (&[b"h2".as_slice(), b"http/1.1"][..], "HTTP/2.0 /a"),
        (&[b"http/1.1"], "HTTP/1.1 /a"),
        (&[], "HTTP/1.1 /a"),
    ] {
        let (port, roots) = secure_server(protocols).await;
        let world = World {
            tls: Tls::trusting(roots),
            ..World::default()
        };
        let outside = Arc::new(Outside::new(&Arc::new(world)));
        let (entry, url) = (
            format!("localhost:{port}"),
            format!("https://localhost:{port}/a?b"),
        );
        for _ in 0..2 {
            assert_eq!(get(&outside, &entry, &url).await.unwrap(), wanted);
        }
        let by_address = format!("https://127.0.0.1:{port}/");
        let refused = get(&outside, &format!("127.0.0.1:{port}"), &by_address).await;
        assert!(
            matches!(refused, Err(Error::TlsCertificateError)),
            "the certificate names another: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_function_has_so_many_requests_under_way_and_no_more() {
    let outside = Arc::new(Outside::new(&Arc::default()));
    let all = outside.places.clone().acquire_many_owned(CALLS_MAX as u32).await;
    let mut revision = RevisionSpec::new(RevisionKey::new("default", "a"), "uid", "image");
    revision.outbound = "127.0.0.1:9".parse().unwrap();
    let asking = Asking {
        log: LogHub::new(Arc::new(SystemClock::new())).revision(&revision.key),
        revision: Arc::new(revision),
        hops: Hops::default(),
    };
    let body = http_body_util::Empty::new()
        .map_err(|never| match never {})
        .boxed_unsync();
    let request = Request::get("http://127.0.0.1:9/").body(body).unwrap();
    let options = RequestOptions {
        connect_timeout: Some(Duration::from_millis(1)),
        ..RequestOptions::default()
    };
    let refused = outside.send(asking, request, Some(options)).await;
    assert!(matches!(refused.err(), Some(Error::ConnectionLimitReached)));
    drop(all);
}

#[tokio::test]
async fn what_listens_in_the_same_instance_is_reached_without_being_named() {
    let network = Arc::<Network>::default();
    let listener = network.listen(8882, 8).unwrap();
    let serving = tokio::spawn(async move {
        loop {
            let end = std::future::poll_fn(|cx| listener.poll_accept(cx)).await;
            let told = |request: Request<hyper::body::Incoming>| async move {
                let text = format!("beside {}", request.uri().path());
                Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(Bytes::from(text))))
            };
            let io = hyper_util::rt::TokioIo::new(end);
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(io, hyper::service::service_fn(told)));
        }
    });
    let (alone, beside) = (
        Arc::new(Outside::new(&Arc::default())),
        Arc::new(Outside::of_instance(&Arc::default(), &network)),
    );
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let url = format!("http://{host}:8882/a");
        assert_eq!(get(&beside, "", &url).await.unwrap(), "beside /a");
        let denied = get(&alone, "", &url).await;
        assert!(matches!(denied, Err(Error::HttpRequestDenied)), "{denied:?}");
    }
    for url in [
        "http://127.0.0.1:8883/",
        "https://127.0.0.1:8882/",
        "http://192.0.2.1:8882/",
    ] {
        let denied = get(&beside, "", url).await;
        assert!(
            matches!(denied, Err(Error::HttpRequestDenied)),
            "{url}: {denied:?}"
        );
    }
    serving.abort();
}
