//! The addresses of one host, when they come.

use crate::network::{ResolveError, resolve};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::sync::Semaphore;
use wasmtime_wasi::p2::Pollable;
use wasmtime_wasi::p2::bindings::sockets::network::ErrorCode;

pub(super) use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::ResolveAddressStream;

/// What a guest asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// What is known without asking anybody.
    Known(Vec<IpAddr>),
    /// A host, in the form that name servers know.
    Host(String),
}

/// What a name means.
pub(super) fn question(name: &str) -> Result<Question, ErrorCode> {
    if let Ok(address) = name.parse::<Ipv6Addr>() {
        return Ok(Question::Known(vec![address.into()]));
    }
    match url::Host::parse(name) {
        Ok(url::Host::Ipv4(address)) => Ok(Question::Known(vec![address.into()])),
        Ok(url::Host::Ipv6(address)) => Ok(Question::Known(vec![address.into()])),
        Ok(url::Host::Domain(host)) if host == "localhost" => Ok(Question::Known(vec![
            Ipv4Addr::LOCALHOST.into(),
            Ipv6Addr::LOCALHOST.into(),
        ])),
        Ok(url::Host::Domain(host)) => Ok(Question::Host(host)),
        Err(_) => Err(ErrorCode::InvalidArgument),
    }
}

/// See the module's documentation.
pub(super) struct Lookup {
    host: String,
    state: State,
}

enum State {
    Asked(BoxFuture<'static, Result<Vec<IpAddr>, ErrorCode>>),
    /// With how many were told.
    Answered(Vec<IpAddr>, usize),
    Failed(ErrorCode),
}

impl Lookup {
    /// Nobody has to be asked.
    pub(super) fn known(addresses: Vec<IpAddr>) -> Self {
        Self {
            host: String::new(),
            state: State::Answered(addresses, 0),
        }
    }

    /// Asks when it is its turn.
    pub(super) fn begin(host: String, turns: Arc<Semaphore>) -> Self {
        let asked = host.clone();
        let asking = async move {
            let _turn = turns.acquire_owned().await;
            resolve(asked).await.map_err(|error| match error {
                ResolveError::Unknown => ErrorCode::NameUnresolvable,
                ResolveError::TimedOut => ErrorCode::TemporaryResolverFailure,
            })
        };
        Self {
            host,
            state: State::Asked(asking.boxed()),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let State::Asked(asking) = &mut self.state {
            self.state = match std::task::ready!(asking.as_mut().poll(cx)) {
                // IPv4 addresses never come in the form of IPv6 ones.
                Ok(found) => State::Answered(found.iter().map(IpAddr::to_canonical).collect(), 0),
                Err(error) => State::Failed(error),
            };
        }
        Poll::Ready(())
    }

    /// The host and its addresses, when they were asked for and have come.
    pub(super) fn found(&mut self) -> Option<(&str, &[IpAddr])> {
        let _ = self.poll(&mut Context::from_waker(Waker::noop()));
        match &self.state {
            State::Answered(addresses, 0) if !self.host.is_empty() => Some((&self.host, addresses)),
            _ => None,
        }
    }

    /// The next address; `None` behind the last.
    pub(super) fn next(&mut self) -> Result<Option<IpAddr>, ErrorCode> {
        let _ = self.poll(&mut Context::from_waker(Waker::noop()));
        match &mut self.state {
            State::Asked(_) => Err(ErrorCode::WouldBlock),
            State::Failed(error) => Err(*error),
            State::Answered(addresses, told) => {
                let next = addresses.get(*told).copied();
                *told = told.saturating_add(usize::from(next.is_some()));
                Ok(next)
            }
        }
    }
}

impl Pollable for Lookup {
    /// `async fn ready` as the `async_trait` macro writes it.
    fn ready<'life, 'future>(&'life mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(std::future::poll_fn(|cx| self.poll(cx)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_told_apart() {
        let known = |text: &str| Ok(Question::Known(vec![text.parse().unwrap()]));
        assert_eq!(question("203.0.113.7"), known("203.0.113.7"));
        assert_eq!(question("2001:db8::1"), known("2001:db8::1"));
        assert_eq!(question("[2001:db8::1]"), known("2001:db8::1"));
        assert!(matches!(question("LOCALHOST"), Ok(Question::Known(both)) if both.len() == 2));
        assert_eq!(
            question("Bücher.example"),
            Ok(Question::Host("xn--bcher-kva.example".into()))
        );
        for wrong in ["", "a b", "a/b", "1.2.3.4.5.6:80"] {
            assert_eq!(question(wrong), Err(ErrorCode::InvalidArgument), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn what_is_known_is_told_at_once_and_lookups_wait_for_their_turn() {
        let address: IpAddr = "203.0.113.7".parse().unwrap();
        let mut known = Lookup::known(vec![address]);
        assert_eq!(known.found(), None, "nothing was asked");
        assert_eq!(
            [known.next(), known.next(), known.next()],
            [Ok(Some(address)), Ok(None), Ok(None)]
        );
        let turns = Arc::new(Semaphore::new(1));
        let held = Arc::clone(&turns).acquire_owned().await.unwrap();
        let mut waits = Lookup::begin("localhost".into(), turns);
        assert_eq!(waits.next(), Err(ErrorCode::WouldBlock));
        drop(held);
        waits.ready().await;
        let (host, addresses) = waits.found().unwrap();
        assert_eq!(host, "localhost");
        assert!(addresses.iter().all(IpAddr::is_loopback));
        assert!(waits.next().unwrap().is_some());
    }
}
