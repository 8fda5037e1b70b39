//! The keys and certificates of the API, in the data directory: its own authority, the certificate that it shows, the
//! administrator's, and the key of ServiceAccounts' tokens.
//!
//! They are made at the first start and kept. At each start what is about to run out is made anew, and the shown
//! certificate also when the names change under which the API is reached.

use anyhow::{Context, bail};
use jiff::{SignedDuration, Timestamp};
use kittiwake_apiserver::auth::x509;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const DAY: SignedDuration = SignedDuration::from_hours(24);
/// How long the authority is valid, in days; when it is renewed, every kubeconfig has to be.
const AUTHORITY_DAYS: i32 = 3650;
/// How long the certificates that it signs are valid, in days.
const CERTIFICATE_DAYS: i32 = 365;
/// What has less left at a start is made anew, in days.
const RENEWAL_DAYS: i32 = 90;
/// How far the clocks of clients may be behind, in days.
const CLOCK_SKEW_DAYS: i32 = 1;
/// The authority's name. It must stay: certificates are found to be an authority's by its name.
const AUTHORITY_NAME: &str = "kittiwake-ca";

/// A client certificate with its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCredentials {
    /// The certificate.
    pub certificate_pem: String,
    /// Its key.
    pub key_pem: String,
}

impl std::fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientCredentials(…)")
    }
}

/// Everything that is in the folder.
pub struct Pki {
    authority: Issuer<'static, KeyPair>,
    /// The authority's certificate in PEM, for clients.
    pub authority_pem: String,
    /// The same in DER, for checking client certificates.
    pub authority_der: CertificateDer<'static>,
    /// The certificate that the API shows.
    pub server: CertificateDer<'static>,
    /// Its key.
    pub server_key: PrivateKeyDer<'static>,
    /// The administrator's credentials.
    pub administrator: ClientCredentials,
    /// The key of ServiceAccounts' tokens: PKCS#8 in DER.
    pub service_account_key: Vec<u8>,
    now: Timestamp,
}

impl Pki {
    /// Reads the folder, and makes what is missing in it or running out. `names` are those under which the API is
    /// reached: host names and addresses.
    ///
    /// # Errors
    /// When the folder cannot be used, or a file in it is damaged; the message names the file.
    pub fn open(folder: &Path, names: &BTreeSet<String>, now: Timestamp) -> anyhow::Result<Self> {
        make_folder(folder).with_context(|| format!("cannot use {}", folder.display()))?;
        let file = |name: &str| Pair {
            certificate: folder.join(format!("{name}.crt")),
            key: folder.join(format!("{name}.key")),
        };
        let (authority, is_new) = authority(&file("ca"), &[file("apiserver"), file("admin")], now)?;
        let authority_pem = read(&file("ca").certificate)?;
        // What a signer needs of its certificate is its name and its key; the name is always the same.
        let issuer = Issuer::new(authority_params(now)?, authority);
        let sign = |pair: &Pair, wanted: CertificateParams, fits: &dyn Fn(&x509::Fields) -> bool| {
            if !is_new && pair.is_good(now, fits)? {
                return Ok(());
            }
            let key = KeyPair::generate()?;
            let certificate = wanted.signed_by(&key, &issuer)?;
            pair.write(&certificate.pem(), &key)
        };
        let server = file("apiserver");
        sign(&server, server_params(names, now)?, &|fields| {
            fields.names == *names
        })?;
        let administrator = file("admin");
        let params = client_params(
            kittiwake_apiserver::auth::ADMINISTRATOR,
            kittiwake_apiserver::auth::MASTERS,
            now,
        );
        sign(&administrator, params?, &|_| true)?;
        let accounts = folder.join("sa.key");
        if !accounts.exists() {
            write(&accounts, &KeyPair::generate()?.serialize_pem(), 0o600)?;
        }
        Ok(Self {
            authority: issuer,
            authority_der: der(&file("ca").certificate)?,
            authority_pem,
            server: der(&server.certificate)?,
            server_key: PrivateKeyDer::from_pem_file(&server.key)
                .with_context(|| format!("{} is damaged", server.key.display()))?,
            administrator: ClientCredentials {
                certificate_pem: read(&administrator.certificate)?,
                key_pem: read(&administrator.key)?,
            },
            service_account_key: key(&accounts)?.serialize_der(),
            now,
        })
    }

    /// Credentials of a client that gets them from this process: nothing is written.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn client(&self, name: &str, group: &str) -> anyhow::Result<ClientCredentials> {
        let key = KeyPair::generate()?;
        let mut params = client_params(name, group, self.now)?;
        // It must not run out before the process that hands it on is restarted.
        set_validity(&mut params, self.now, AUTHORITY_DAYS)?;
        Ok(ClientCredentials {
            certificate_pem: params.signed_by(&key, &self.authority)?.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

/// The names under which an API that listens on `address` is reached, with those that were said.
#[must_use]
pub fn names(address: SocketAddr, more: &[String]) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    .map(str::to_owned)
    .into();
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    if address.ip().is_unspecified() {
        addresses.extend(own_addresses());
    } else {
        addresses.push(address.ip());
    }
    names.extend(addresses.iter().map(IpAddr::to_string));
    names.extend(host_name());
    names.extend(more.iter().map(|name| name.to_ascii_lowercase()));
    names
}

/// The addresses from which this machine would reach others; nothing is sent to find them.
fn own_addresses() -> Vec<IpAddr> {
    // Addresses for documentation (RFC 5737, RFC 3849): no host has them.
    [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")]
        .iter()
        .filter_map(|(from, to)| {
            let socket = UdpSocket::bind(from).ok()?;
            socket.connect(to).ok()?;
            Some(socket.local_addr().ok()?.ip())
        })
        .collect()
}

/// This machine's name, if it can be in a certificate.
fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim().to_ascii_lowercase();
    (!name.is_empty() && san(&name).is_ok()).then_some(name)
}

/// A certificate and its key on disk.
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

impl Pair {
    /// Whether both are there, long enough valid, and as wanted.
    fn is_good(&self, now: Timestamp, fits: &dyn Fn(&x509::Fields) -> bool) -> anyhow::Result<bool> {
        if !self.certificate.exists() || !self.key.exists() {
            return Ok(false);
        }
        let der = der(&self.certificate)?;
        let fields =
            x509::read(&der).with_context(|| format!("{} is damaged", self.certificate.display()))?;
        let enough = now.as_second() + i64::from(RENEWAL_DAYS) * DAY.as_secs();
        Ok(fields.not_after > enough && fits(&fields))
    }

    /// The key first: a certificate whose key is missing is made again, a key alone as well.
    fn write(&self, certificate: &str, key: &KeyPair) -> anyhow::Result<()> {
        let _ = fs::remove_file(&self.certificate);
        write(&self.key, &key.serialize_pem(), 0o600)?;
        write(&self.certificate, certificate, 0o644)
    }
}

/// The authority's key, and whether it is a new one.
fn authority(pair: &Pair, signed: &[Pair], now: Timestamp) -> anyhow::Result<(KeyPair, bool)> {
    if pair.is_good(now, &|_| true)? {
        return Ok((key(&pair.key)?, false));
    }
    let key = KeyPair::generate()?;
    // First goes what the old one has signed: should this end half-way, it must not be taken for good.
    for Pair { certificate, .. } in signed {
        match fs::remove_file(certificate) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", certificate.display()));
            }
            _ => {}
        }
    }
    let params = authority_params(now)?;
    pair.write(&params.self_signed(&key)?.pem(), &key)?;
    Ok((key, true))
}

fn authority_params(now: Timestamp) -> anyhow::Result<CertificateParams> {
    let mut params = params(AUTHORITY_NAME, now, AUTHORITY_DAYS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    Ok(params)
}

fn params(name: &str, now: Timestamp, days: i32) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    set_validity(&mut params, now, days)?;
    Ok(params)
}

fn client_params(name: &str, group: &str, now: Timestamp) -> anyhow::Result<CertificateParams> {
    let mut params = params(name, now, CERTIFICATE_DAYS)?;
    params.distinguished_name.push(DnType::OrganizationName, group);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn server_params(names: &BTreeSet<String>, now: Timestamp) -> anyhow::Result<CertificateParams> {
    let mut params = params("kittiwake-apiserver", now, CERTIFICATE_DAYS)?;
    params.subject_alt_names = names
        .iter()
        .map(|name| san(name))
        .collect::<anyhow::Result<_>>()?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn san(name: &str) -> anyhow::Result<SanType> {
    if let Ok(address) = name.parse() {
        return Ok(SanType::IpAddress(address));
    }
    let fine = rustls::pki_types::DnsName::try_from(name).is_ok();
    if !fine {
        bail!("{name:?} is neither a host name nor an address; it cannot be in the API's certificate");
    }
    Ok(SanType::DnsName(name.try_into()?))
}

/// Makes a certificate valid from yesterday until so many days from now.
fn set_validity(params: &mut CertificateParams, now: Timestamp, days: i32) -> anyhow::Result<()> {
    let date = |days: i32| {
        let then = now
            .checked_add(DAY * days)
            .context("the clock is beyond all calendars")?;
        let date = then.to_zoned(jiff::tz::TimeZone::UTC).date();
        anyhow::Ok((
            i32::from(date.year()),
            u8::try_from(date.month())?,
            u8::try_from(date.day())?,
        ))
    };
    let (year, month, day) = date(-CLOCK_SKEW_DAYS)?;
    params.not_before = rcgen::date_time_ymd(year, month, day);
    let (year, month, day) = date(days)?;
    params.not_after = rcgen::date_time_ymd(year, month, day);
    Ok(())
}

fn make_folder(folder: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn key(path: &Path) -> anyhow::Result<KeyPair> {
    KeyPair::from_pem(&read(path)?).with_context(|| format!("{} is damaged", path.display()))
}

fn der(path: &Path) -> anyhow::Result<CertificateDer<'static>> {
    CertificateDer::from_pem_file(path).with_context(|| format!("{} is damaged", path.display()))
}

/// Writes a file whole or not at all.
fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let _ = fs::remove_file(&temporary);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path, names: &[&str], now: &str) -> Pki {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Pki::open(folder, &names, now.parse().unwrap()).unwrap()
    }

    #[test]
    fn what_is_good_is_kept_and_what_is_not_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pki");
        let first = open(&path, &["127.0.0.1", "localhost"], "2026-01-01T00:00:00Z");
        for entry in fs::read_dir(&path).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            let is_key = entry.path().extension().unwrap() == "key";
            assert_eq!(mode, if is_key { 0o600 } else { 0o644 }, "{:?}", entry.path());
        }
        let same = open(&path, &["127.0.0.1", "localhost"], "2026-02-01T00:00:00Z");
        assert_eq!(same.server, first.server);
        assert_eq!(same.administrator, first.administrator);
        assert_eq!(same.service_account_key, first.service_account_key);

        let moved = open(&path, &["10.0.0.1", "localhost"], "2026-02-01T00:00:00Z");
        assert_ne!(moved.server, first.server, "other names");
        assert_eq!(moved.administrator, first.administrator);
        assert_eq!(moved.authority_pem, first.authority_pem);

        let later = open(&path, &["10.0.0.1", "localhost"], "2026-12-01T00:00:00Z");
        assert_ne!(later.server, moved.server, "about to run out");
        assert_ne!(later.administrator, first.administrator);
        assert_eq!(later.authority_pem, first.authority_pem);

        let much_later = open(&path, &["10.0.0.1", "localhost"], "2035-12-31T00:00:00Z");
        assert_ne!(much_later.authority_pem, first.authority_pem);
        assert_ne!(much_later.server, later.server);
        assert_eq!(much_later.service_account_key, first.service_account_key);
    }

    #[test]
    fn damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), &["localhost"], "2026-01-01T00:00:00Z");
        fs::write(folder.path().join("apiserver.crt"), "x").unwrap();
        let error = Pki::open(folder.path(), &BTreeSet::new(), Timestamp::now())
            .err()
            .unwrap();
        assert!(
            format!("{error:#}").contains("apiserver.crt is damaged"),
            "{error:#}"
        );
    }

    #[test]
    fn names_are_those_under_which_the_api_is_reached() {
        let here = names("127.0.0.1:6443".parse().unwrap(), &["Api.Example.com".to_owned()]);
        for name in [
            "localhost",
            "127.0.0.1",
            "::1",
            "kubernetes.default.svc",
            "api.example.com",
        ] {
            assert!(here.contains(name), "{name}: {here:?}");
        }
        let there = names("10.1.2.3:6443".parse().unwrap(), &[]);
        assert!(there.contains("10.1.2.3") && there.contains("127.0.0.1"));
        assert!(san("not a name").is_err());
    }
}
