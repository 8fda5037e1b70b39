//! Which certificate is ordered next, and when.

use kittiwake_core::routing_table::{Certificate, RoutingTable, Visibility};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// An hour, in seconds.
const HOUR: i64 = 60 * 60;
/// Pause after the first failure for a host, in seconds; it doubles with each. Let's Encrypt takes five in an hour.
const FAILURE_PAUSE: i64 = 5 * 60;
/// Longest such pause, in seconds.
const FAILURE_PAUSE_MAX: i64 = 24 * HOUR;
/// Ends of names that no public authority knows (RFC 6761, RFC 6762, RFC 9476 and what ICANN reserved).
const PRIVATE_ENDS: [&str; 6] = ["localhost", "local", "internal", "svc", "alt", "onion"];

/// From when to when a certificate is good, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lifetime {
    pub(super) from: i64,
    pub(super) to: i64,
}

impl Lifetime {
    /// When it is renewed: with a third of its time left.
    fn renewal(self) -> i64 {
        self.to - self.to.saturating_sub(self.from).max(0) / 3
    }
}

/// What is known of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Known {
    certificate: Option<Lifetime>,
    /// Failures since the last certificate.
    failures: u32,
    /// No try before this Unix time.
    not_before: i64,
}

impl Known {
    pub(super) fn issued(lifetime: Lifetime) -> Self {
        Self {
            certificate: Some(lifetime),
            ..Self::default()
        }
    }

    pub(super) fn failed(&mut self, now: i64) {
        let doublings = self.failures.min(20);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + (FAILURE_PAUSE << doublings).min(FAILURE_PAUSE_MAX);
    }

    /// Time until the next try.
    pub(super) fn pause(&self, now: i64) -> Duration {
        let due = self.certificate.map_or(i64::MIN, Lifetime::renewal);
        let wait = due.max(self.not_before).saturating_sub(now);
        Duration::from_secs(u64::try_from(wait).unwrap_or(0))
    }
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Order a certificate for a host of a Route in this namespace.
    Order { host: Box<str>, namespace: Arc<str> },
    /// Nothing for so long.
    Wait(Duration),
}

/// The hosts that need a certificate, with their namespaces: those that the world calls, with a name that an authority
/// can know, for which nobody gave one.
pub(super) fn wanted(table: &RoutingTable) -> BTreeMap<Box<str>, Arc<str>> {
    let given: Vec<&str> = table.certificates().map(|(host, _)| host).collect();
    let is_given = |host: &str| {
        given.iter().any(|given| match given.strip_prefix("*.") {
            Some(beside) => host.split_once('.').is_some_and(|(_, rest)| rest == beside),
            None => *given == host,
        })
    };
    table
        .iter()
        .filter(|(host, entry)| {
            entry.visibility == Visibility::External && is_public(host) && !is_given(host)
        })
        .map(|(host, entry)| (host.into(), Arc::clone(&entry.namespace)))
        .collect()
}

fn is_public(host: &str) -> bool {
    let Some((_, end)) = host.rsplit_once('.') else {
        return false;
    };
    host.parse::<IpAddr>().is_err() && !host.starts_with(['*', '[']) && !PRIVATE_ENDS.contains(&end)
}

/// The host whose turn it is, or how long there is nothing to do. Of several that are due, the one goes first that
/// failed least often, so that those that always fail are not in the others' way.
pub(super) fn next(
    wanted: &BTreeMap<Box<str>, Arc<str>>,
    known: &BTreeMap<Box<str>, Known>,
    recent: &VecDeque<i64>,
    per_hour_max: usize,
    now: i64,
) -> Next {
    let of = |host: &str| known.get(host).copied().unwrap_or_default();
    let pause = |host: &str| of(host).pause(now);
    let soonest = wanted
        .iter()
        .min_by_key(|(host, _)| (pause(host), of(host).failures));
    let Some((host, namespace)) = soonest else {
        return Next::Wait(Duration::MAX);
    };
    let pause = pause(host);
    if !pause.is_zero() {
        return Next::Wait(pause);
    }
    if recent.len() >= per_hour_max.max(1) {
        let free = recent.front().map_or(0, |oldest| oldest + HOUR - now);
        return Next::Wait(Duration::from_secs(u64::try_from(free).unwrap_or(0).max(1)));
    }
    Next::Order {
        host: host.clone(),
        namespace: Arc::clone(namespace),
    }
}

/// Forgets orders that are older than an hour.
pub(super) fn forget(recent: &mut VecDeque<i64>, now: i64) {
    while recent.front().is_some_and(|oldest| oldest + HOUR <= now) {
        recent.pop_front();
    }
}

/// From when to when a certificate is good; `None` when it cannot be served at all.
pub(super) fn lifetime(certificate: &Certificate) -> Option<Lifetime> {
    let loaded = crate::tls::load(certificate).ok()?;
    Some(Lifetime {
        from: loaded.not_before,
        to: loaded.not_after,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kittiwake_core::routing_table::RouteEntry;

    const DAY: i64 = 24 * HOUR;

    #[test]
    fn public_hosts_without_a_certificate_of_their_own_are_wanted() {
        let mut table = RoutingTable::default();
        for (host, visibility) in [
            ("a.example.com", Visibility::External),
            ("inside.example.com", Visibility::ClusterLocal),
            ("given.example.com", Visibility::External),
            ("a.wild.example.com", Visibility::External),
            ("b.a.wild.example.com", Visibility::External),
            ("hello.default.localhost", Visibility::External),
            ("hello.default.svc.cluster.local", Visibility::External),
            ("192.0.2.1", Visibility::External),
            ("single", Visibility::External),
        ] {
            let entry = RouteEntry {
                namespace: "ns".into(),
                visibility,
                ..RouteEntry::default()
            };
            assert!(table.insert(host, Arc::new(entry)));
        }
        let certificate = Certificate {
            chain: [].into(),
            key: [].into(),
        };
        table.insert_certificate("given.example.com", certificate.clone());
        table.insert_certificate("*.wild.example.com", certificate);
        let wanted: Vec<_> = wanted(&table).into_keys().collect();
        assert_eq!(
            wanted.iter().map(|host| &**host).collect::<Vec<_>>(),
            ["a.example.com", "b.a.wild.example.com"]
        );
    }

    fn hosts(names: &[&str]) -> BTreeMap<Box<str>, Arc<str>> {
        names.iter().map(|name| ((*name).into(), "ns".into())).collect()
    }

    fn order(host: &str) -> Next {
        Next::Order {
            host: host.into(),
            namespace: "ns".into(),
        }
    }

    #[test]
    fn renewal_is_due_with_a_third_left() {
        let lifetime = Lifetime {
            from: 0,
            to: 90 * DAY,
        };
        let known = BTreeMap::from([("a".into(), Known::issued(lifetime))]);
        let at = |now| next(&hosts(&["a"]), &known, &VecDeque::new(), 50, now);
        assert_eq!(at(0), Next::Wait(Duration::from_secs(60 * 24 * 3600)));
        assert_eq!(at(60 * DAY - 1), Next::Wait(Duration::from_secs(1)));
        assert_eq!(at(60 * DAY), order("a"));
        assert_eq!(at(100 * DAY), order("a"));
    }

    #[test]
    fn failures_back_off_and_do_not_keep_others_waiting() {
        let mut known = Known::default();
        let mut pauses = Vec::new();
        for _ in 0..40 {
            known.failed(0);
            pauses.push(known.pause(0).as_secs());
        }
        assert_eq!(pauses[..4], [300, 600, 1200, 2400]);
        assert_eq!(pauses[39], 24 * 3600);

        let mut failed = Known::default();
        failed.failed(-1000);
        let known = BTreeMap::from([("a".into(), failed)]);
        let first = next(&hosts(&["a", "b"]), &known, &VecDeque::new(), 50, 0);
        assert_eq!(first, order("b"), "both are due");
    }

    #[test]
    fn orders_in_an_hour_are_limited() {
        let mut recent = VecDeque::from([100, 200]);
        let at = |recent: &VecDeque<i64>, now| next(&hosts(&["a"]), &BTreeMap::new(), recent, 2, now);
        assert_eq!(at(&recent, 300), Next::Wait(Duration::from_secs(3400)));
        forget(&mut recent, 3700);
        assert_eq!(recent, [200]);
        assert_eq!(at(&recent, 3700), order("a"));
        assert_eq!(
            next(&hosts(&[]), &BTreeMap::new(), &recent, 2, 0),
            Next::Wait(Duration::MAX)
        );
    }
}
