//! The socket of the Kubernetes API: TLS, client certificates, limits on connections and handshakes.
//!
//! A client certificate is asked for and not demanded; whether it is to be believed is decided with each request, where
//! a refusal is a 401 that clients understand.

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use kittiwake_apiserver::auth::Peer;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Connections at a time; more wait in the socket's queue.
const CONNECTIONS_MAX: usize = 4096;
/// Handshakes that have begun and not ended; more wait in the socket's queue.
const HANDSHAKES_MAX: usize = 256;
/// Longest time for a handshake, and for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest head of a request, in bytes; a longer one gets 431.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Requests at a time on one HTTP/2 connection, as in Kubernetes.
const STREAMS_MAX: u32 = 250;
/// How often an idle HTTP/2 connection is asked whether it is still there.
const PING_PERIOD: Duration = Duration::from_secs(30);
/// How long answers that have begun get to end at shutdown; watches end by themselves.
const END_TIMEOUT: Duration = Duration::from_millis(200);
/// Pause after the system refused a connection, for example because no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a listener works with.
pub struct Inputs {
    /// The socket.
    pub listener: TcpListener,
    /// What it serves.
    pub app: Router,
    /// How it speaks TLS; `None`: not at all.
    pub tls: Option<Arc<ServerConfig>>,
    /// Ends it.
    pub shutdown: CancellationToken,
}

/// Serves until shutdown.
pub async fn serve(inputs: Inputs) {
    let listener = match tokio::net::TcpListener::from_std(inputs.listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot serve the API"),
    };
    let server = Arc::new(Server {
        app: inputs.app,
        tls: inputs.tls.map(TlsAcceptor::from),
        builder: builder(),
        handshakes: Semaphore::new(HANDSHAKES_MAX),
    });
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            let permit = Arc::clone(&connections).acquire_owned().await;
            // Waits while too many handshakes are under way, so that those do not become too many connections.
            drop(server.handshakes.acquire().await);
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            () = inputs.shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, address)) => {
                let (server, watcher) = (Arc::clone(&server), graceful.watcher());
                tokio::spawn(async move {
                    let _permit = permit;
                    if let Err(error) = server.connection(stream, address, watcher).await {
                        tracing::debug!(%address, error, "a connection to the API failed");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the API was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(END_TIMEOUT) => {}
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_PERIOD);
    builder
}

struct Server {
    app: Router,
    tls: Option<TlsAcceptor>,
    builder: auto::Builder<TokioExecutor>,
    handshakes: Semaphore,
}

impl Server {
    /// Serves one connection to its end.
    async fn connection(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        watcher: hyper_util::server::graceful::Watcher,
    ) -> Result<(), String> {
        let _ = stream.set_nodelay(true);
        // So that peers that vanish give their place back.
        let _ = socket2::SockRef::from(&stream).set_keepalive(true);
        let Some(tls) = &self.tls else {
            let peer = Peer {
                address: Some(address),
                ..Peer::default()
            };
            return self.requests(stream, peer, false, watcher).await;
        };
        let handshake = self.handshakes.acquire().await;
        let stream = tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream))
            .await
            .map_err(|_| "the TLS handshake took too long".to_owned())?
            .map_err(|error| format!("the TLS handshake failed: {error}"))?;
        drop(handshake);
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let peer = Peer {
            address: Some(address),
            certificates: certificates
                .iter()
                .map(|certificate| certificate.clone().into_owned())
                .collect(),
        };
        self.requests(stream, peer, is_http2, watcher).await
    }

    async fn requests(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
        is_http2: bool,
        watcher: hyper_util::server::graceful::Watcher,
    ) -> Result<(), String> {
        let app = self.app.clone();
        let service = tower::ServiceExt::map_request(app, move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            request.map(axum::body::Body::new)
        });
        // Not by the first bytes: waiting for those has no time limit.
        let builder = self.builder.clone();
        let builder = if is_http2 {
            builder.http2_only()
        } else {
            builder.http1_only()
        };
        let connection = builder
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
            .into_owned();
        watcher.watch(connection).await.map_err(|error| error.to_string())
    }
}

/// How the API speaks TLS: HTTP/2 or HTTP/1.1, and asking for certificates of `authority`.
///
/// # Errors
/// When the certificate and its key do not belong together.
pub fn tls(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    authority: &CertificateDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let subject = rustls::RootCertStore {
        roots: vec![rustls_authority(authority)?],
    };
    let verifier = AnyCertificate {
        authorities: subject.subjects(),
        provider: Arc::clone(&provider),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn rustls_authority(
    authority: &CertificateDer<'static>,
) -> Result<rustls::pki_types::TrustAnchor<'static>, rustls::Error> {
    let mut store = rustls::RootCertStore::empty();
    store.add(authority.clone())?;
    store
        .roots
        .pop()
        .ok_or_else(|| rustls::Error::General("the authority is no certificate".to_owned()))
}

/// Takes any certificate whose key the client has: whom it names is decided with each request.
#[derive(Debug)]
struct AnyCertificate {
    authorities: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.authorities
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
