//! Host → revisions. The routing table is an immutable snapshot: a controller builds a new one on every change, the
//! gateway reads the latest without a lock and never asks anyone.

use crate::request_log::RequestLog;
use crate::revision::RevisionSpec;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Traffic shares are whole percents and sum to this.
pub const PERCENT_TOTAL: u32 = 100;

/// One revision and its share of a host's traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTarget {
    /// Who answers.
    pub revision: Arc<RevisionSpec>,
    /// Its share in percent, 0 to 100.
    pub percent: u32,
}

/// What one host name leads to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteEntry {
    /// Namespace of the Route.
    pub namespace: Arc<str>,
    /// Name of the Route.
    pub name: Arc<str>,
    /// The tag whose host this is; `None` for the Route's main host.
    pub tag: Option<Arc<str>>,
    /// The revisions behind it, shares summing to [`PERCENT_TOTAL`]. Empty when none is ready yet.
    pub targets: Vec<RouteTarget>,
    /// Why `targets` is empty, for the caller's error message.
    pub unready: Option<Arc<str>>,
    /// On a main host, who answers a request that names a tag in its header `Knative-Serving-Tag`. Empty where the
    /// feature `tag-header-based-routing` is off.
    pub by_tag: BTreeMap<Arc<str>, RouteTarget>,
    /// Who may call this host.
    pub visibility: Visibility,
    /// What a request without TLS is told.
    pub http: HttpOption,
    /// Of a DomainMapping the Route's host inside that it leads to. The function sees the name that was called all the
    /// same: Knative's ingress calls it by the inner name, and its queue-proxy puts the called one back
    /// (`K-Original-Host`).
    pub mapped_to: Option<Arc<str>>,
}

/// Who may call a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Visibility {
    /// Everyone.
    #[default]
    External,
    /// Who is inside: other functions, and callers of the cluster-local address.
    ClusterLocal,
}

/// What a request without TLS is told (networking `http-protocol`, `HTTPOption` of an Ingress).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HttpOption {
    /// It is answered.
    #[default]
    Enabled,
    /// To come again with TLS.
    Redirected,
}

/// A certificate with its key, for names that end with TLS here.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, in PEM, the host's own first.
    pub chain: Arc<[u8]>,
    /// Its private key, in PEM.
    pub key: Arc<[u8]>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificate(…)")
    }
}

impl RouteEntry {
    /// The target for a draw in `0..PERCENT_TOTAL`; `None` when there is no target.
    #[must_use]
    pub fn pick(&self, draw: u32) -> Option<&RouteTarget> {
        let mut below = 0;
        for target in &self.targets {
            below += target.percent;
            if draw < below {
                return Some(target);
            }
        }
        self.targets.last()
    }

    /// A number that tells apart whom two entries send calls to: the Route, and each revision (name, uid, image) with
    /// its share. Equal in every process that runs this program.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        // The standard hasher with its fixed keys; only a seeded one differs from process to process.
        let mut hasher = std::hash::DefaultHasher::new();
        (&self.namespace, &self.name, &self.tag).hash(&mut hasher);
        for RouteTarget { revision, percent } in &self.targets {
            (&revision.key, &revision.uid, &revision.image, percent).hash(&mut hasher);
        }
        for (tag, RouteTarget { revision, .. }) in &self.by_tag {
            (tag, &revision.key, &revision.uid, &revision.image).hash(&mut hasher);
        }
        (self.visibility, self.http, &self.mapped_to).hash(&mut hasher);
        hasher.finish()
    }
}

/// Whoever carries out the routing table, in this process or in others.
pub trait Gateways: Send + Sync + 'static {
    /// Whether every gateway that takes calls sends those to `host` where `entry` says.
    fn have(&self, host: &str, entry: &RouteEntry) -> bool;
}

/// The gateway of this process: it takes a new routing table as soon as there is one.
#[derive(Debug, Clone, Copy, Default)]
pub struct InThisProcess;

impl Gateways for InThisProcess {
    fn have(&self, _: &str, _: &RouteEntry) -> bool {
        true
    }
}

/// All hosts at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoutingTable {
    hosts: HashMap<Box<str>, Arc<RouteEntry>>,
    /// By host name, lower case; `*.example.com` stands for all names one label longer.
    certificates: BTreeMap<Box<str>, Certificate>,
    /// The line that is written for each call, where administrators want one.
    pub request_log: Option<Arc<RequestLog>>,
    standing_by: Vec<Arc<RevisionSpec>>,
}

impl RoutingTable {
    /// The entry of a host in the form of [`crate::host::normalize_host`].
    #[must_use]
    pub fn lookup(&self, host: &str) -> Option<&Arc<RouteEntry>> {
        self.hosts.get(host)
    }

    /// Adds a host. The first entry of a host wins; `false` says that it was taken.
    pub fn insert(&mut self, host: impl Into<Box<str>>, entry: Arc<RouteEntry>) -> bool {
        match self.hosts.entry(host.into()) {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(entry);
                true
            }
        }
    }

    /// Every host with its entry, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<RouteEntry>)> {
        self.hosts.iter().map(|(host, entry)| (&**host, entry))
    }

    /// Adds the certificate of a host, or of all names one label below one (`*.example.com`). The last one counts.
    pub fn insert_certificate(&mut self, host: impl Into<Box<str>>, certificate: Certificate) {
        self.certificates.insert(host.into(), certificate);
    }

    /// Every certificate with the host that it is for.
    pub fn certificates(&self) -> impl Iterator<Item = (&str, &Certificate)> {
        self.certificates
            .iter()
            .map(|(host, certificate)| (&**host, certificate))
    }

    /// Adds a revision whose instances run also while no host leads to it: those of a new one are ready before it gets
    /// calls.
    pub fn stand_by(&mut self, revision: Arc<RevisionSpec>) {
        self.standing_by.push(revision);
    }

    /// The revisions of [`RoutingTable::stand_by`].
    pub fn standing_by(&self) -> impl Iterator<Item = &Arc<RevisionSpec>> {
        self.standing_by.iter()
    }

    /// How many hosts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether there is no host.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revision::RevisionKey;

    fn target(name: &str, percent: u32) -> RouteTarget {
        let revision = RevisionSpec::new(RevisionKey::new("default", name), "u", "file:///x@sha256:0");
        RouteTarget {
            revision: Arc::new(revision),
            percent,
        }
    }

    fn entry(targets: Vec<RouteTarget>) -> RouteEntry {
        RouteEntry {
            namespace: "default".into(),
            name: "s".into(),
            targets,
            ..RouteEntry::default()
        }
    }

    #[test]
    fn every_draw_lands_in_its_share() {
        let entry = entry(vec![target("a", 10), target("zero", 0), target("b", 90)]);
        let mut counts = HashMap::<String, u32>::new();
        for draw in 0..PERCENT_TOTAL {
            *counts
                .entry(entry.pick(draw).unwrap().revision.key.name.to_string())
                .or_default() += 1;
        }
        assert_eq!(
            counts,
            HashMap::from([("a".to_owned(), 10), ("b".to_owned(), 90)])
        );
    }

    #[test]
    fn fingerprints_tell_whom_calls_go_to() {
        let of = |targets: &[(&str, u32)]| {
            entry(targets.iter().map(|(name, share)| target(name, *share)).collect()).fingerprint()
        };
        assert_eq!(of(&[("a", 100)]), of(&[("a", 100)]));
        let all = [
            of(&[]),
            of(&[("a", 100)]),
            of(&[("b", 100)]),
            of(&[("a", 50), ("b", 50)]),
        ];
        let different: std::collections::HashSet<_> = all.into_iter().collect();
        assert_eq!(different.len(), all.len());
    }

    #[test]
    fn no_targets_no_pick() {
        assert_eq!(entry(vec![]).pick(0), None);
    }

    #[test]
    fn the_first_owner_of_a_host_keeps_it() {
        let mut table = RoutingTable::default();
        assert!(table.insert("a.b", Arc::new(entry(vec![]))));
        assert!(!table.insert("a.b", Arc::new(entry(vec![target("x", 100)]))));
        assert!(table.lookup("a.b").unwrap().targets.is_empty());
    }
}
