//! Ending: gently (stop accepting, let calls finish), then at once.

use prometheus::IntGauge;
use std::net::SocketAddr;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The signals of ending, shared by the listener and its connections.
#[derive(Debug, Clone)]
pub(crate) struct Drain {
    /// Accept no more; end every connection after the calls it has.
    pub(crate) stop: CancellationToken,
    /// End every connection now.
    pub(crate) cut: CancellationToken,
    /// Connections, and answers whose body nobody reads (HEAD) but whose call still runs.
    pub(crate) tasks: TaskTracker,
    in_flight: IntGauge,
}

impl Drain {
    pub(crate) fn new(in_flight: IntGauge) -> Self {
        Self {
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            tasks: TaskTracker::new(),
            in_flight,
        }
    }
}

/// The running gateway, for those who end it.
#[derive(Debug, Clone)]
pub struct Handle {
    address: SocketAddr,
    drain: Drain,
}

impl Handle {
    pub(crate) fn new(address: SocketAddr, drain: Drain) -> Self {
        Self { address, drain }
    }

    /// Where the gateway listens; the real port when it was bound to port 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Calls being answered now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.drain.in_flight.get()).unwrap_or(0)
    }

    /// Stops accepting, lets calls in flight finish for up to `timeout`, then cuts the rest. Idle connections are
    /// closed at once; HTTP/2 clients are told to go away. Returns how many calls were cut.
    pub async fn drain(&self, timeout: Duration) -> usize {
        self.drain.stop.cancel();
        self.drain.tasks.close();
        if tokio::time::timeout(timeout, self.drain.tasks.wait())
            .await
            .is_ok()
        {
            return 0;
        }
        let cut = self.in_flight();
        self.drain.cut.cancel();
        self.drain.tasks.wait().await;
        cut
    }
}
