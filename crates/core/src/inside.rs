//! Calls from one function to another of this platform: they need no socket. The runtime, where such a call begins,
//! hands it to the gateway of its own process, which treats it as one that came from inside.

use crate::body::Body;
use futures::future::BoxFuture;
use std::borrow::Cow;
use std::sync::{Arc, OnceLock, Weak};

/// The domain of all names that are only for those inside, as Kubernetes' name server has it.
pub const CLUSTER_DOMAIN: &str = "svc.cluster.local";

/// Functions that a call may come through, one calling the next, before it is taken for a loop.
pub const HOPS_MAX: u32 = 16;

/// How many functions a call came through: an extension of its request. Without it, none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Hops(pub u32);

impl Hops {
    /// Of a request.
    #[must_use]
    pub fn of<B>(request: &http::Request<B>) -> Self {
        request.extensions().get().copied().unwrap_or_default()
    }

    /// Those of a call that the function makes while it answers this one; `None` when there were too many.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        let next = self.0.saturating_add(1);
        (next <= HOPS_MAX).then_some(Self(next))
    }
}

/// Answers calls that come from inside.
pub trait CallInside: Send + Sync + 'static {
    /// Whether calls of a host at a port are answered here. A host that the platform gave a Service may be called at any
    /// port that means this platform: those of HTTP, and those that it listens on.
    fn answers(&self, host: &str, port: u16) -> bool;

    /// Answers a request in absolute form, which carries its [`Hops`]. Hosts that are only for those inside are there too.
    /// Dropping the future, or the body of the answer, cancels the call.
    fn call(self: Arc<Self>, request: http::Request<Body>) -> BoxFuture<'static, http::Response<Body>>;
}

/// The way to whoever answers calls from inside. Clones lead to the same; it is closed until [`Inside::open`].
#[derive(Clone, Default)]
pub struct Inside(Arc<OnceLock<Weak<dyn CallInside>>>);

impl Inside {
    /// Opens it; the first to do so counts. It closes when that one is dropped.
    pub fn open(&self, to: &Arc<dyn CallInside>) {
        let _ = self.0.set(Arc::downgrade(to));
    }

    /// Who answers, where it is open.
    #[must_use]
    pub fn get(&self) -> Option<Arc<dyn CallInside>> {
        self.0.get()?.upgrade()
    }
}

impl std::fmt::Debug for Inside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inside")
            .field("open", &self.get().is_some())
            .finish()
    }
}

/// The whole name of a Service whose name was written as short as it may be inside a cluster (`name.namespace`,
/// `name.namespace.svc`); other names as they are.
#[must_use]
pub fn full_name(host: &str) -> Cow<'_, str> {
    let labels = host.split('.').count();
    match host.strip_suffix(".svc") {
        Some(rest) if labels > 2 => Cow::Owned(format!("{rest}.{CLUSTER_DOMAIN}")),
        None if labels == 2 => Cow::Owned(format!("{host}.{CLUSTER_DOMAIN}")),
        _ => Cow::Borrowed(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_mean_long_ones() {
        for (short, full) in [
            ("hello.default", "hello.default.svc.cluster.local"),
            ("hello.default.svc", "hello.default.svc.cluster.local"),
            (
                "hello.default.svc.cluster.local",
                "hello.default.svc.cluster.local",
            ),
            ("api.example.com", "api.example.com"),
            ("localhost", "localhost"),
            ("default.svc", "default.svc"),
        ] {
            assert_eq!(full_name(short), full);
        }
    }

    #[test]
    fn a_call_may_come_through_so_many_functions() {
        let mut hops = Hops::default();
        for _ in 0..HOPS_MAX {
            hops = hops.next().unwrap();
        }
        assert_eq!((hops, hops.next()), (Hops(HOPS_MAX), None));
    }
}
