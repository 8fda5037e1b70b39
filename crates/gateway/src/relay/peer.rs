//! One of the other processes, and the connections to it.

use super::wire::{self, GREETING, HEAD_BYTES_MAX, HEADERS_MAX, STREAM_WINDOW_BYTES, WINDOW_BYTES};
use crate::config::Config;
use arc_swap::ArcSwapOption;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kittiwake_core::body::Body;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::Mutex;

/// Pause after a door that cannot be opened at all, before the next try.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// Calls that are sent over a new connection before the other side has said how many it takes.
const FIRST_STREAMS_MAX: usize = 1024;

/// Sends calls over a connection that all share.
type Sender = http2::SendRequest<Body>;

/// A way to send one call.
pub(super) enum Way {
    /// Over the connection that all calls share.
    Shared(Sender),
    /// Over one of its own, which may go on with another protocol.
    Own(http1::SendRequest<Body>),
}

impl Way {
    /// Sends the call. What was not sent comes back with the error.
    pub(super) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Body>>> {
        match self {
            Self::Shared(sender) => sender.try_send_request(request).await,
            Self::Own(sender) => sender.try_send_request(request).await,
        }
    }
}

/// See the module's documentation.
pub(super) struct Peer {
    door: PathBuf,
    sender: Arc<ArcSwapOption<Sender>>,
    /// Held by who opens a connection; the others wait for it.
    opening: Mutex<()>,
}

impl Peer {
    /// The process behind a door.
    pub(super) fn new(door: PathBuf) -> Self {
        Self {
            door,
            sender: Arc::new(ArcSwapOption::empty()),
            opening: Mutex::new(()),
        }
    }

    /// A way to send a call: one of its own where it may go on with another protocol. Waits for as long as nobody takes the
    /// call at the other end; then nothing of it was sent.
    pub(super) async fn way(&self, may_switch: bool, config: &Config) -> Way {
        match may_switch {
            true => Way::Own(self.sender_of_one().await),
            false => Way::Shared(self.sender(config).await),
        }
    }

    /// The open connection, if there is one.
    fn open_sender(&self) -> Option<Sender> {
        let sender = self.sender.load();
        sender.as_deref().filter(|sender| sender.is_ready()).cloned()
    }

    /// The open connection, or a new one once somebody takes it at the other end.
    async fn sender(&self, config: &Config) -> Sender {
        loop {
            if let Some(sender) = self.open_sender() {
                return sender;
            }
            let opening = self.opening.lock().await;
            if let Some(sender) = self.open_sender() {
                return sender;
            }
            match self.open(config).await {
                Ok(mut sender) => {
                    let kept = Arc::new(sender.clone());
                    self.sender.store(Some(Arc::clone(&kept)));
                    let watch = sender.send_request(wire::watch());
                    tokio::spawn(give_up(watch, kept, Arc::clone(&self.sender)));
                    return sender;
                }
                Err(error) => {
                    drop(opening);
                    self.rest(&error).await;
                }
            }
        }
    }

    async fn open(&self, config: &Config) -> io::Result<Sender> {
        let stream = self.greeted().await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .initial_max_send_streams(FIRST_STREAMS_MAX)
            .max_header_list_size(HEAD_BYTES_MAX)
            .keep_alive_interval(config.http2_ping_interval)
            .keep_alive_timeout(config.http2_ping_timeout)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // It ends when the other side does, or nobody sends any more.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the connection to another worker broke"
                );
            }
        });
        Ok(sender)
    }

    /// A connection for one call that may go on with another protocol.
    async fn sender_of_one(&self) -> http1::SendRequest<Body> {
        loop {
            let opened = async {
                let stream = self.greeted().await?;
                http1::Builder::new()
                    .max_headers(HEADERS_MAX)
                    .handshake(TokioIo::new(stream))
                    .await
                    .map_err(io::Error::other)
            };
            match opened.await {
                Ok((sender, connection)) => {
                    // It ends with the call.
                    tokio::spawn(connection.with_upgrades());
                    return sender;
                }
                Err(error) => self.rest(&error).await,
            }
        }
    }

    /// A connection that somebody has taken: until then nothing is sent, and the call can go elsewhere.
    async fn greeted(&self) -> io::Result<UnixStream> {
        let mut stream = UnixStream::connect(&self.door).await?;
        match stream.read_u8().await? {
            GREETING => Ok(stream),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    async fn rest(&self, error: &io::Error) {
        tracing::debug!(door = %self.door.display(), %error, "another worker cannot be reached");
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Gives up a connection when the other side says that it ends, or is gone: it is closed once the calls on it are over.
async fn give_up(
    watch: impl Future<Output = hyper::Result<Response<Incoming>>> + Send,
    kept: Arc<Sender>,
    sender: Arc<ArcSwapOption<Sender>>,
) {
    // Either way.
    let _ = watch.await;
    let kept = Some(kept);
    // Unless another has taken its place already.
    sender.compare_and_swap(&kept, None);
}
