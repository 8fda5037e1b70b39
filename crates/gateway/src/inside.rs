//! Calls that functions of this process make to one another. They are routed, counted, held and limited as those that come
//! over a socket inside; only the socket is spared.

use crate::connection::Connection;
use crate::proxy::Gateway;
use crate::router::Host;
use futures::future::BoxFuture;
use http::uri::Scheme;
use http::{Request, Response};
use kittiwake_core::body::Body;
use kittiwake_core::host::normalize_host;
use kittiwake_core::inside::CallInside;
use std::sync::Arc;

/// Where HTTP is listened for when a URL says nothing.
const USUAL_PORTS: [u16; 2] = [80, 443];

impl CallInside for Gateway {
    fn answers(&self, host: &str, port: u16) -> bool {
        // Domains that were mapped are names of the outside, which may be someone else's there.
        let is_own = |host: &Arc<Host>| host.entry.mapped_to.is_none();
        (USUAL_PORTS.contains(&port) || self.ports.contains(&port))
            && normalize_host(host)
                .is_some_and(|host| self.router.lookup(&host).is_some_and(|host| is_own(&host)))
    }

    fn call(self: Arc<Self>, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            let is_secure = request.uri().scheme() == Some(&Scheme::HTTPS);
            let connection = Arc::new(Connection::inside(is_secure));
            self.answer(&connection, request).await
        })
    }
}
