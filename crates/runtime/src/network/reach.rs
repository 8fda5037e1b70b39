//! Which other servers an instance may connect to: those that the list of its template names, by address or by a name
//! that it was told the addresses of.

use kittiwake_core::log::{LogStream, RevisionLog};
use kittiwake_core::outbound::Outbound;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// Names that an instance asked for and that are remembered with their addresses; beyond it all are forgotten.
const NAMES_MAX: usize = 1024;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// The hosts that an address was given for.
    names: HashMap<IpAddr, Vec<String>>,
    /// Whether the log was told of a refused connection.
    refusal_told: bool,
}

impl Reach {
    /// Remembers that a host has these addresses.
    pub(crate) fn remember(&mut self, host: &str, addresses: &[IpAddr]) {
        if self.names.len() > NAMES_MAX {
            self.names.clear();
        }
        for address in addresses {
            let names = self.names.entry(address.to_canonical()).or_default();
            if !names.iter().any(|name| name == host) {
                names.push(host.to_owned());
            }
        }
    }

    /// The log was told of a refusal, or not, by another such instance.
    pub(crate) fn set_refusal_told(&mut self, told: bool) {
        self.refusal_told = told;
    }

    /// Whether a connection to an address is allowed; the first refusal is told in the log.
    pub(crate) fn may_connect(&mut self, allowed: &Outbound, peer: SocketAddr, log: &RevisionLog) -> bool {
        let names = self.names.get(&peer.ip().to_canonical());
        let names = names.into_iter().flatten().map(String::as_str);
        if allowed.allows(peer.ip(), peer.port(), names) {
            return true;
        }
        if !std::mem::replace(&mut self.refusal_told, true) {
            log.write(
                LogStream::Platform,
                &format!(
                    "a connection to {peer} was denied: name it in the annotation kittiwake.dev/allowed-outbound of the template (said once for each instance)"
                ),
            );
        }
        false
    }
}

/// Whether the addresses of a host may be asked for; a refusal is told in the log.
pub(crate) fn may_resolve(allowed: &Outbound, host: &str, log: &RevisionLog) -> bool {
    let may = allowed.may_resolve(host);
    if !may {
        log.write(
            LogStream::Platform,
            &format!(
                "the addresses of {host:?} were not looked up: name it in the annotation kittiwake.dev/allowed-outbound of the template"
            ),
        );
    }
    may
}

#[cfg(test)]
mod tests {
    use super::*;
    use kittiwake_core::clock::SystemClock;
    use kittiwake_core::log::LogHub;
    use kittiwake_core::revision::RevisionKey;
    use std::sync::Arc;

    #[test]
    fn a_name_opens_the_addresses_that_were_told_for_it_and_refusals_are_told_once() {
        let log = LogHub::new(Arc::new(SystemClock::new())).revision(&RevisionKey::new("default", "a"));
        let allowed: Outbound = "db.example.com:5432".parse().unwrap();
        let mut reach = Reach::default();
        let peer: SocketAddr = "203.0.113.7:5432".parse().unwrap();
        assert!(!reach.may_connect(&allowed, peer, &log) && !reach.may_connect(&allowed, peer, &log));
        assert_eq!(log.lines().len(), 1);
        assert!(!may_resolve(&allowed, "other.example.com", &log));
        assert!(may_resolve(&allowed, "db.example.com", &log));
        reach.remember("db.example.com", &[peer.ip()]);
        assert!(reach.may_connect(&allowed, peer, &log));
        assert!(!reach.may_connect(&allowed, SocketAddr::new(peer.ip(), 80), &log));
        assert_eq!(log.lines().len(), 2);
    }
}
