//! Ending: gently (stop accepting, let calls finish), then at once.

use kittiwake_core::routing_table::RoutingTable;
use prometheus::IntGauge;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

/// The signals of ending, shared by the listener and its connections.
#[derive(Debug, Clone)]
pub(crate) struct Drain {
    /// Accept no more; end every connection after the calls it has.
    pub(crate) stop: CancellationToken,
    /// End every connection now.
    pub(crate) cut: CancellationToken,
    /// Connections, what they were upgraded to, and answers whose body nobody reads (HEAD) but whose call still runs.
    pub(crate) tasks: TaskTracker,
    in_flight: IntGauge,
    /// Set before either token is cancelled.
    ending: Arc<AtomicBool>,
    /// Milliseconds that idle HTTP/1.1 connections get for a last request; set before `ending`.
    linger: Arc<AtomicU64>,
}

/// What a connection has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// End after the calls it has.
    Gently,
    /// End now.
    Now,
}

/// One connection's ear for the signals of ending. Both tokens are shared by all connections and have a lock inside,
/// so they are asked only once, to be woken by them, and again after they have spoken.
pub(crate) struct Signals {
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    ending: Arc<AtomicBool>,
    asked: bool,
    stopped: bool,
}

impl Signals {
    /// The next signal; [`Ending::Gently`] comes once at most. Must be polled by the same task throughout.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        if self.asked && !self.ending.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        self.asked = true;
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ending::Now);
        }
        if !self.stopped && self.stop.as_mut().poll(cx).is_ready() {
            self.stopped = true;
            return Poll::Ready(Ending::Gently);
        }
        Poll::Pending
    }
}

impl Drain {
    /// Accepts no more, and ends every connection after the calls it has.
    pub(crate) fn stop(&self) {
        self.ending.store(true, Ordering::Release);
        self.stop.cancel();
    }

    /// Whether the end has begun, so that an HTTP/1.1 client has to be told to make a new connection next time.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// How long an idle HTTP/1.1 connection is kept open for a last request.
    pub(crate) fn linger(&self) -> Duration {
        Duration::from_millis(self.linger.load(Ordering::Relaxed))
    }

    /// Ends every connection now.
    pub(crate) fn cut(&self) {
        self.ending.store(true, Ordering::Release);
        self.cut.cancel();
    }

    /// An ear for one connection.
    pub(crate) fn signals(&self) -> Signals {
        Signals {
            stop: Box::pin(self.stop.clone().cancelled_owned()),
            cut: Box::pin(self.cut.clone().cancelled_owned()),
            ending: Arc::clone(&self.ending),
            asked: false,
            stopped: false,
        }
    }

    pub(crate) fn new(in_flight: IntGauge) -> Self {
        Self {
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            tasks: TaskTracker::new(),
            in_flight,
            ending: Arc::default(),
            linger: Arc::default(),
        }
    }
}

/// Where a gateway listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) main: SocketAddr,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) cluster_local: Option<SocketAddr>,
}

/// The running gateway, for those who end it.
#[derive(Debug, Clone)]
pub struct Handle {
    addresses: Addresses,
    drain: Drain,
    in_use: watch::Receiver<Arc<RoutingTable>>,
}

impl Handle {
    pub(crate) fn new(
        addresses: Addresses,
        drain: Drain,
        in_use: watch::Receiver<Arc<RoutingTable>>,
    ) -> Self {
        Self {
            addresses,
            drain,
            in_use,
        }
    }

    /// The routing table by which requests are answered now.
    #[must_use]
    pub fn table_in_use(&self) -> watch::Receiver<Arc<RoutingTable>> {
        self.in_use.clone()
    }

    /// Where the gateway listens; the real port when it was bound to port 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addresses.main
    }

    /// Where it listens with TLS, if it does.
    #[must_use]
    pub fn https_addr(&self) -> Option<SocketAddr> {
        self.addresses.https
    }

    /// Where it listens for those inside, if it does.
    #[must_use]
    pub fn cluster_local_addr(&self) -> Option<SocketAddr> {
        self.addresses.cluster_local
    }

    /// Calls being answered now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.drain.in_flight.get()).unwrap_or(0)
    }

    /// [`Handle::drain`] for a gateway whose socket another one goes on accepting from: idle HTTP/1.1 connections stay open for
    /// `linger`, and each answer says that it is the connection's last. So no client finds a connection closed under
    /// the request that it is just sending, as can happen when an idle one is closed at once.
    pub async fn hand_over(&self, timeout: Duration, linger: Duration) -> usize {
        let millis = u64::try_from(linger.as_millis()).unwrap_or(u64::MAX);
        self.drain.linger.store(millis, Ordering::Relaxed);
        self.drain(timeout).await
    }

    /// Stops accepting, lets calls in flight finish for up to `timeout`, then cuts the rest. Idle connections are
    /// closed at once; HTTP/2 clients are told to go away. Returns how many calls were cut.
    pub async fn drain(&self, timeout: Duration) -> usize {
        self.drain.stop();
        self.drain.tasks.close();
        if tokio::time::timeout(timeout, self.drain.tasks.wait())
            .await
            .is_ok()
        {
            return 0;
        }
        let cut = self.in_flight();
        self.drain.cut();
        self.drain.tasks.wait().await;
        cut
    }
}
