//! The certificates there are, and the choice among them by the name that a client asks for (SNI, RFC 6066 §3).

use super::pem::{CertificateError, Loaded, load};
use arc_swap::ArcSwap;
use kittiwake_core::clock::Clock;
use kittiwake_core::routing_table::Certificate;
use prometheus::IntGaugeVec;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Time before the end of a certificate from which on it is warned about, in seconds: two weeks.
const WARNING_SECONDS: i64 = 14 * 24 * 60 * 60;

/// What handshakes read.
#[derive(Debug, Default)]
struct Names {
    exact: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// By what stands after `*.`.
    wildcard: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// For clients that name no host, or one that nobody has: the first file's.
    default: Option<Arc<CertifiedKey>>,
}

/// Where they come from; touched by changes only.
#[derive(Debug, Default)]
struct Sources {
    files: BTreeMap<PathBuf, Loaded>,
    /// The file that was first on the command line.
    first_file: Option<PathBuf>,
    issued: BTreeMap<Box<str>, Loaded>,
    routed: BTreeMap<Box<str>, Loaded>,
    /// Names that have a series.
    shown: BTreeSet<Box<str>>,
}

/// All certificates. Handshakes read a snapshot.
pub(crate) struct Certificates {
    names: ArcSwap<Names>,
    sources: Mutex<Sources>,
    clock: Arc<dyn Clock>,
    expiry: IntGaugeVec,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates(…)")
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name())
    }
}

impl Certificates {
    pub(crate) fn new(clock: Arc<dyn Clock>, expiry: IntGaugeVec) -> Self {
        Self {
            names: ArcSwap::default(),
            sources: Mutex::default(),
            clock,
            expiry,
        }
    }

    /// The certificate for a name: its own, else one for all names beside it, else the default.
    pub(crate) fn choose(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let names = self.names.load();
        let own = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let beside = || names.wildcard.get(name.split_once('.')?.1);
            names.exact.get(&*name).or_else(beside)
        });
        own.or(names.default.as_ref()).cloned()
    }

    /// Takes in a file, or says why it cannot be used; then its last good one stays.
    pub(crate) fn add_file(&self, path: &Path, certificate: &Certificate) -> Result<(), CertificateError> {
        let loaded = load(certificate)?;
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.first_file.get_or_insert_with(|| path.to_owned());
        self.warn_of_date(&path.display(), &loaded);
        sources.files.insert(path.to_owned(), loaded);
        self.rebuild(&mut sources);
        Ok(())
    }

    /// [`Certificates::add_file`] for a file that has changed.
    pub(crate) fn set_file(&self, path: &Path, certificate: &Certificate) {
        match self.add_file(path, certificate) {
            Ok(()) => tracing::info!(file = %path.display(), "a certificate was read again"),
            Err(error) => tracing::warn!(
                file = %path.display(),
                error = &error as &dyn std::error::Error,
                "the changed certificate cannot be used; the one before it stays in use"
            ),
        }
    }

    /// Takes over the certificates of the routing table.
    pub(crate) fn set_routed<'a>(&self, certificates: impl Iterator<Item = (&'a str, &'a Certificate)>) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let mut routed = std::mem::take(&mut sources.routed);
        let is_changed = self.take_over(&mut routed, certificates);
        sources.routed = routed;
        if is_changed {
            self.rebuild(&mut sources);
        }
    }

    /// Takes over the certificates that were issued by themselves.
    pub(crate) fn set_issued<'a>(&self, certificates: impl Iterator<Item = (&'a str, &'a Certificate)>) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let mut issued = std::mem::take(&mut sources.issued);
        let is_changed = self.take_over(&mut issued, certificates);
        sources.issued = issued;
        if is_changed {
            self.rebuild(&mut sources);
        }
    }

    /// Makes `loaded` what `certificates` are, and tells whether that changed anything. Of one that cannot be used the
    /// last good one stays.
    fn take_over<'a>(
        &self,
        loaded: &mut BTreeMap<Box<str>, Loaded>,
        certificates: impl Iterator<Item = (&'a str, &'a Certificate)>,
    ) -> bool {
        let mut old = std::mem::take(loaded);
        let mut is_changed = false;
        for (host, certificate) in certificates {
            let host: Box<str> = host.to_ascii_lowercase().into();
            let new = match old.remove(&host) {
                Some(known) if known.source == *certificate => Some(known),
                known => {
                    is_changed = true;
                    self.loaded(&host, certificate).or(known)
                }
            };
            if let Some(new) = new {
                loaded.insert(host, new);
            }
        }
        is_changed || !old.is_empty()
    }

    fn loaded(&self, host: &str, certificate: &Certificate) -> Option<Loaded> {
        match load(certificate) {
            Ok(loaded) => {
                self.warn_of_date(&host, &loaded);
                Some(loaded)
            }
            Err(error) => {
                tracing::warn!(
                    host,
                    error = &error as &dyn std::error::Error,
                    "the certificate of a host cannot be used; the one before it, if there was one, stays in use"
                );
                None
            }
        }
    }

    /// Makes the snapshot that handshakes read, and shows when each certificate ends.
    fn rebuild(&self, sources: &mut Sources) {
        let mut names = Names::default();
        let mut ends = BTreeMap::<Box<str>, i64>::new();
        let files = sources.files.values();
        let of_files = files.flat_map(|file| file.names.iter().map(move |name| (name, file)));
        // The last one of a name counts.
        for (name, loaded) in of_files.chain(&sources.issued).chain(&sources.routed) {
            let key = Arc::clone(&loaded.key);
            match name.strip_prefix("*.") {
                Some(beside) => names.wildcard.insert(beside.into(), key),
                None => names.exact.insert(name.clone(), key),
            };
            ends.insert(name.clone(), loaded.not_after);
        }
        let first = sources
            .first_file
            .as_ref()
            .and_then(|path| sources.files.get(path));
        names.default = first.map(|file| Arc::clone(&file.key));
        for gone in sources.shown.iter().filter(|name| !ends.contains_key(*name)) {
            // A series that is not there needs no removal.
            let _ = self.expiry.remove_label_values(&[gone]);
        }
        for (name, end) in &ends {
            self.expiry.with_label_values(&[name]).set(*end);
        }
        sources.shown = ends.into_keys().collect();
        self.names.store(Arc::new(names));
    }

    /// Warns of every certificate that ends soon or has ended.
    pub(crate) fn warn_of_dates(&self) {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        for (path, loaded) in &sources.files {
            self.warn_of_date(&path.display(), loaded);
        }
        for (host, loaded) in sources.issued.iter().chain(&sources.routed) {
            self.warn_of_date(host, loaded);
        }
    }

    fn warn_of_date(&self, of: &dyn fmt::Display, loaded: &Loaded) {
        let left = loaded.not_after.saturating_sub(self.clock.now().as_second());
        if left <= 0 {
            tracing::warn!(certificate = %of, "a certificate has expired; clients that check it refuse it");
        } else if left < WARNING_SECONDS {
            tracing::warn!(certificate = %of, hours_left = left / 3600, "a certificate expires soon");
        }
    }
}
