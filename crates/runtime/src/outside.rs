//! What a function reaches of the world outside itself through `wasi:http`: the servers that its template's annotation
//! `kittiwake.dev/allowed-outbound` names, and among them other functions of the platform, which need no socket; and the
//! containers of its own instance, where that stays.
//!
//! Each function has connections of its own. One that is open was checked against this very list when it was made, so
//! whoever finds it may use it; functions never share any.

use crate::network::{Network, resolve};
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use kittiwake_core::inside::{self, CallInside, Hops, Inside};
use kittiwake_core::log::{LogStream, RevisionLog};
use kittiwake_core::outbound::Outbound;
use kittiwake_core::revision::RevisionSpec;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

mod body;
mod client;
mod connector;
mod error;
pub(crate) mod tls;

use body::{RequestBody, ResponseBody};
use client::Client;
use tls::Tls;

/// Requests that one function has under way at a time, their responses' bodies included. More wait as long as it may
/// take to connect, then fail.
const CALLS_MAX: usize = 1024;
/// Time to be connected, where the guest does not say: looking up the name and the handshake of TLS included.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Longest silence of a server, where the guest does not say: as long as the longest call. The call's own time limit
/// ends its requests before.
const SILENCE_MAX: Duration = Duration::from_secs(600);

/// What all functions share on their way out.
#[derive(Default)]
pub(crate) struct World {
    /// The way to the other functions.
    pub inside: Inside,
    /// Whom servers have to be vouched for by.
    pub tls: Tls,
}

/// One function's way out.
pub(crate) struct Outside {
    world: Arc<World>,
    places: Arc<Semaphore>,
    /// The network of the instance that it is the way out of, if it is that of one alone.
    own: Option<Arc<Network>>,
    /// Its connections, and the list that they were checked against. Made with the first request.
    client: Mutex<Option<(Outbound, Client)>>,
}

/// What the guest gets for a request: the response, and a future for what follows it.
pub(crate) type Sent = Result<
    (
        http::Response<WasiBody>,
        Box<dyn Future<Output = Result<(), Error>> + Send>,
    ),
    Error,
>;

/// Who asks.
pub(crate) struct Asking {
    /// Its list is that of the servers that may be asked.
    pub revision: Arc<RevisionSpec>,
    pub log: Arc<RevisionLog>,
    /// Of the call in which it asks.
    pub hops: Hops,
}

/// Whom a request is for.
struct Target {
    /// In lower case, without the brackets of an IPv6 address.
    host: String,
    port: u16,
    is_secure: bool,
}

/// Whether a name is one that is known inside only.
fn is_inner(host: &str) -> bool {
    let rest = host.strip_suffix(inside::CLUSTER_DOMAIN);
    rest.is_some_and(|rest| rest.ends_with('.'))
}

impl Target {
    fn of(uri: &http::Uri) -> Option<Self> {
        let host = uri.host()?;
        let usual = if is_secure(uri) { 443 } else { 80 };
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = bracketed.unwrap_or(host);
        Some(Self {
            host: host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase(),
            port: uri.port_u16().unwrap_or(usual),
            is_secure: is_secure(uri),
        })
    }

    /// Whether a function of the platform may answer, if one has this name.
    ///
    /// Nobody who can make a Service must get calls that are meant for others: `github.com` can be the Service `github`
    /// of a namespace `com`. So a short name counts only where the list has the long one, and where TLS is wanted,
    /// whose certificate nobody checks inside, a name must be one that does not exist outside.
    fn may_be_inside(&self, outbound: &Outbound) -> bool {
        let is_named = |name: &str| outbound.may_name(name, self.port);
        let full = inside::full_name(&self.host);
        if !is_inner(&full) {
            return !self.is_secure && is_named(&self.host);
        }
        let is_plain = is_inner(&self.host) || self.host.ends_with(".svc");
        (is_plain || !self.is_secure) && (is_named(&full) || is_plain && is_named(&self.host))
    }

    /// Whether it is a port of loopback that somebody listens on in a network.
    fn listens_in(&self, network: &Network) -> bool {
        let address = self.host.parse::<IpAddr>();
        let is_loopback = address.map_or(self.host == "localhost", |address| address.is_loopback());
        is_loopback && network.listening().contains(&self.port)
    }

    /// Whether the list lets it be asked for; its addresses, if it has a name, are looked at when they are known.
    fn may_be_asked(&self, outbound: &Outbound) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => outbound.allows(address, self.port, []),
            Err(_) => outbound.may_name(&self.host, self.port),
        }
    }
}

fn is_secure(uri: &http::Uri) -> bool {
    uri.scheme() == Some(&http::uri::Scheme::HTTPS)
}

impl Outside {
    /// A way out on which nothing is open.
    pub(crate) fn new(world: &Arc<World>) -> Self {
        Self {
            world: Arc::clone(world),
            places: Arc::new(Semaphore::new(CALLS_MAX)),
            own: None,
            client: Mutex::default(),
        }
    }

    /// The way out of one instance, which has this network.
    pub(crate) fn of_instance(world: &Arc<World>, network: &Arc<Network>) -> Self {
        Self {
            own: Some(Arc::clone(network)),
            ..Self::new(world)
        }
    }

    /// Sends a request of a guest in absolute form. Dropping the future, or the response's body, cancels it.
    pub(crate) async fn send(
        self: Arc<Self>,
        asking: Asking,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Sent {
        let options = options.unwrap_or_default();
        let target = Target::of(request.uri()).ok_or(Error::HttpRequestUriInvalid)?;
        let outbound = &asking.revision.outbound;
        let inside = self
            .world
            .inside
            .get()
            .filter(|inside| target.may_be_inside(outbound) && inside.answers(&target.host, target.port));
        let own = self.own.as_ref().filter(|_| !target.is_secure);
        let is_own = own.is_some_and(|own| target.listens_in(own));
        if inside.is_none() && !is_own && !target.may_be_asked(outbound) {
            asking.say(
                &target,
                "was denied: name it in the annotation kittiwake.dev/allowed-outbound of the template",
            );
            return Err(Error::HttpRequestDenied);
        }
        let connected_by = Instant::now() + options.connect_timeout.unwrap_or(CONNECT_MAX);
        let place = match timeout_at(connected_by, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(place)) => place,
            Ok(Err(_)) | Err(_) => {
                let why = format!("was not sent: {CALLS_MAX} requests of the function are under way");
                asking.say(&target, &why);
                return Err(Error::ConnectionLimitReached);
            }
        };
        let (body_done, io) = oneshot::channel();
        let request = request.map(|body| RequestBody::new(body, body_done));
        let response = match inside {
            Some(inside) => call_inside(inside, &asking, &target, request, &options, place).await,
            None => {
                let answered = self.client(outbound).send(request, &options, connected_by).await;
                answered
                    .map(|response| response.map(|body| silenced(body, Error::from, &options, place)))
                    .map_err(|error| {
                        if let Some(remark) = error.remark() {
                            asking.say(&target, &remark);
                        }
                        error.into()
                    })
            }
        }?;
        // Ends when the request's body is sent, or nobody wants more of it.
        let io = async move {
            let _ = io.await;
            Ok(())
        };
        Ok((response, Box::new(io)))
    }

    /// The connections for this list. There is another one only when the Revision's annotation was changed.
    fn client(&self, outbound: &Outbound) -> Client {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        match &*client {
            Some((list, client)) if list == outbound => client.clone(),
            _ => {
                let made = Client::new(outbound.clone(), &self.world, self.own.as_ref());
                *client = Some((outbound.clone(), made.clone()));
                made
            }
        }
    }
}

impl Asking {
    fn say(&self, target: &Target, what: &str) {
        let Target { host, port, .. } = target;
        self.log.write(
            LogStream::Platform,
            &format!("outbound HTTP to {host}:{port} {what}"),
        );
    }
}

/// Has another function of the platform answer.
async fn call_inside(
    inside: Arc<dyn CallInside>,
    asking: &Asking,
    target: &Target,
    mut request: Request<RequestBody>,
    options: &RequestOptions,
    place: OwnedSemaphorePermit,
) -> Result<http::Response<WasiBody>, Error> {
    let Some(hops) = asking.hops.next() else {
        let why = format!(
            "was denied: the call came through {} functions already, each called by the one before; look for a loop",
            inside::HOPS_MAX
        );
        asking.say(target, &why);
        return Err(Error::LoopDetected);
    };
    request.extensions_mut().insert(hops);
    let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
    let patience = options.first_byte_timeout.unwrap_or(SILENCE_MAX);
    let response = tokio::time::timeout(patience, inside.call(request)).await;
    let response = response.map_err(|_| Error::ConnectionReadTimeout)?;
    // What a body of ours breaks with is said in the log of the function that it came from.
    Ok(response.map(|body| silenced(body, |_| Error::HttpResponseIncomplete, options, place)))
}

/// The response's body, which ends with an error when nothing comes for too long.
fn silenced<B>(
    body: B,
    broken: fn(B::Error) -> Error,
    options: &RequestOptions,
    place: OwnedSemaphorePermit,
) -> WasiBody
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
{
    let limit = options.between_bytes_timeout.unwrap_or(SILENCE_MAX);
    ResponseBody::new(body, broken, limit, place).boxed_unsync()
}

#[cfg(test)]
mod tests;
