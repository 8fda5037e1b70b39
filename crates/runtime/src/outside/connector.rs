//! Makes one connection: looks the name up, checks each address against the function's list, and connects to the very
//! address that was checked.

use super::error::ConnectError;
use super::{Network, Target, World, resolve};
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use kittiwake_core::outbound::Outbound;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Open connections of one function, those that wait included.
const CONNECTIONS_MAX: usize = 2048;
/// Longest time to be connected that a guest can ask for.
const CONNECT_MAX: Duration = Duration::from_secs(120);

/// See the module's documentation. Clones count their connections together.
#[derive(Clone)]
pub(super) struct Connector(Arc<Inner>);

struct Inner {
    outbound: Outbound,
    world: Arc<World>,
    own: Option<Arc<Network>>,
    places: Arc<Semaphore>,
}

/// A connection to a server.
pub(super) struct Link {
    io: Pin<Box<dyn Io>>,
    is_http2: bool,
    _place: OwnedSemaphorePermit,
}

trait Io: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

impl Connector {
    /// Connects to what listens in its `own` network, and to what the list lets through.
    pub(super) fn new(outbound: Outbound, world: &Arc<World>, own: Option<&Arc<Network>>) -> Self {
        Self(Arc::new(Inner {
            outbound,
            world: Arc::clone(world),
            own: own.map(Arc::clone),
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        }))
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Link>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let connected = tokio::time::timeout(CONNECT_MAX, inner.connect(&uri));
            let link = connected.await.map_err(|_| ConnectError::TimedOut)?;
            link.map(TokioIo::new)
        })
    }
}

impl Inner {
    async fn connect(&self, uri: &Uri) -> Result<Link, ConnectError> {
        let place = Arc::clone(&self.places);
        let place = place.try_acquire_owned().map_err(|_| ConnectError::TooMany)?;
        let target = Target::of(uri).ok_or(ConnectError::NoHost)?;
        let own = self.own.as_ref().filter(|own| target.listens_in(own));
        if let Some(own) = own
            && !target.is_secure
        {
            let refused = |_| ConnectError::Io(io::ErrorKind::ConnectionRefused.into());
            return Ok(Link {
                io: Box::pin(own.connect(target.port).await.map_err(refused)?),
                is_http2: false,
                _place: place,
            });
        }
        let stream = connect_to_one_of(&self.addresses(&target).await?).await?;
        // What is sent is complete; waiting for more only delays it.
        let _ = stream.set_nodelay(true);
        if !target.is_secure {
            return Ok(Link {
                io: Box::pin(stream),
                is_http2: false,
                _place: place,
            });
        }
        let secured = self.world.tls.secure(&target.host, stream).await?;
        let is_http2 = secured.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Link {
            io: Box::pin(secured),
            is_http2,
            _place: place,
        })
    }

    /// The addresses that may be connected to.
    async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, ConnectError> {
        let Target { host, port, .. } = target;
        let found = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => resolve(host.clone()).await?,
        };
        if found.is_empty() {
            return Err(ConnectError::Unresolved);
        }
        let prohibited = found.first().copied();
        let allowed = |address: &IpAddr| self.outbound.allows(*address, *port, [host.as_str()]);
        let allowed: Vec<_> = found.into_iter().filter(allowed).collect();
        match prohibited.filter(|_| allowed.is_empty()) {
            Some(address) => Err(ConnectError::Prohibited(address)),
            None => Ok(allowed
                .into_iter()
                .map(|address| SocketAddr::new(address, *port))
                .collect()),
        }
    }
}

/// Tries one address after the other; each of several gets its share of the time.
async fn connect_to_one_of(addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
    /// An address that does not answer must not take the time of the next one.
    const SHARE: Duration = Duration::from_secs(3);
    let mut failure = ConnectError::Unresolved;
    for (index, address) in addresses.iter().enumerate() {
        let is_last = index + 1 == addresses.len();
        let share = if is_last { CONNECT_MAX } else { SHARE };
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = ConnectError::Io(error),
            Err(_) => failure = ConnectError::TimedOut,
        }
    }
    Err(failure)
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.is_http2 {
            connected.negotiated_h2()
        } else {
            connected
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.io.as_mut().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io.as_mut().poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_shutdown(cx)
    }
}
