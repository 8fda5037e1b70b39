//! The gateway's sockets beside its main one: made once, shared by all workers, and handed from program to program.

use crate::config::Gateway;
use kittiwake_gateway::Listeners;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Sockets of which each process accepts; the system hands a connection to one that waits.
#[derive(Debug, Default)]
pub struct Doors {
    /// Where TLS is spoken.
    pub https: Option<TcpListener>,
    /// Where those inside come in.
    pub cluster_local: Option<TcpListener>,
}

/// Which of them there are, for whom they are sent to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    https: bool,
    cluster_local: bool,
}

impl Doors {
    /// Makes the sockets that the settings ask for, out of those that were handed over where they are the same.
    pub(crate) fn open(
        settings: &Gateway,
        handed: Self,
        bind: impl Fn(SocketAddr, &str, &str) -> anyhow::Result<TcpListener>,
    ) -> anyhow::Result<Self> {
        let open = |address: Option<SocketAddr>, handed: Option<TcpListener>, what, flag| {
            let Some(address) = address else { return Ok(None) };
            // Port 0 was a free one then, and stays that one.
            let is_same = |listener: &TcpListener| {
                listener.local_addr().is_ok_and(|there| {
                    there.ip() == address.ip() && (address.port() == 0 || there.port() == address.port())
                })
            };
            match handed.filter(is_same) {
                Some(listener) => Ok(Some(listener)),
                None => bind(address, what, flag).map(Some),
            }
        };
        Ok(Self {
            https: open(
                settings.https_listen,
                handed.https,
                "functions with TLS",
                "--https-listen",
            )?,
            cluster_local: open(
                settings.cluster_local_listen,
                handed.cluster_local,
                "cluster-local functions",
                "--cluster-local-listen",
            )?,
        })
    }

    /// The sockets for a gateway in this process.
    pub(crate) fn listeners(self) -> Listeners {
        Listeners {
            https: self.https,
            cluster_local: self.cluster_local,
        }
    }

    /// Where TLS is spoken; the real port when it was bound to port 0.
    pub(crate) fn https_addr(&self) -> Option<SocketAddr> {
        self.https.as_ref()?.local_addr().ok()
    }

    /// Where those inside come in.
    pub(crate) fn cluster_local_addr(&self) -> Option<SocketAddr> {
        self.cluster_local.as_ref()?.local_addr().ok()
    }

    /// A second handle of each.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        let copy = |listener: &Option<TcpListener>| listener.as_ref().map(TcpListener::try_clone).transpose();
        Ok(Self {
            https: copy(&self.https)?,
            cluster_local: copy(&self.cluster_local)?,
        })
    }

    /// Which there are, and the sockets in the order in which [`Doors::received`] takes them.
    pub(crate) fn to_send(&self) -> (Names, Vec<BorrowedFd<'_>>) {
        let names = Names {
            https: self.https.is_some(),
            cluster_local: self.cluster_local.is_some(),
        };
        let sockets = [&self.https, &self.cluster_local];
        (names, sockets.into_iter().flatten().map(AsFd::as_fd).collect())
    }

    /// Takes what [`Doors::to_send`] gave from the end of what was received.
    pub(crate) fn received(names: Names, sockets: &mut Vec<OwnedFd>) -> Self {
        let mut take = |is_there: bool| is_there.then(|| sockets.pop()).flatten().map(TcpListener::from);
        let cluster_local = take(names.cluster_local);
        Self {
            https: take(names.https),
            cluster_local,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(address: SocketAddr, _: &str, _: &str) -> anyhow::Result<TcpListener> {
        Ok(TcpListener::bind(address)?)
    }

    #[test]
    fn sockets_are_told_apart_and_kept() {
        let settings = Gateway {
            https_listen: Some("127.0.0.1:0".parse().unwrap()),
            cluster_local_listen: Some("127.0.0.1:0".parse().unwrap()),
            ..Gateway::default()
        };
        let doors = Doors::open(&settings, Doors::default(), bind).unwrap();
        let addresses = (doors.https_addr(), doors.cluster_local_addr());
        let (names, sockets) = doors.to_send();
        let mut sockets: Vec<OwnedFd> = sockets
            .into_iter()
            .map(|socket| socket.try_clone_to_owned().unwrap())
            .collect();
        let received = Doors::received(names, &mut sockets);
        assert!(sockets.is_empty());
        assert_eq!((received.https_addr(), received.cluster_local_addr()), addresses);
        let again = Doors::open(&settings, received, bind).unwrap();
        assert_eq!((again.https_addr(), again.cluster_local_addr()), addresses);
        let none = Doors::open(&Gateway::default(), again, bind).unwrap();
        assert_eq!(none.to_send().0, Names::default());
    }
}
