//! Which other servers a function may reach: the annotation `kittiwake.dev/allowed-outbound` of a template.
//!
//! A list of entries with commas between them; nothing that no entry names can be reached.
//!
//! | entry | what may be reached |
//! |---|---|
//! | `api.example.com:443` | this host at this port |
//! | `*.example.com:443` | every host below the domain, not the domain itself |
//! | `10.1.2.3:5432`, `[2001:db8::1]:5432` | this address |
//! | `10.0.0.0/8:5432`, `[2001:db8::]/32:443` | every address of the network |
//! | `*:443`, `*` | everything at this port, everything |
//!
//! A function reaches other functions of the platform by the names that they have inside it: `*.svc.cluster.local:80`
//! lets it call all of them, `hello.default.svc.cluster.local:80` one.
//!
//! `*` also stands for a port. This machine itself (loopback) and the local link, where clouds keep the credentials of
//! the machine (169.254.169.254), can only be reached by an entry that names them: a name, a network that is larger, or
//! `*` is not enough, whatever a name server says.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Entries of one list.
pub const ENTRIES_MAX: usize = 256;

/// See the module's documentation. Empty: nothing may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outbound(Vec<Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    target: Target,
    /// `None`: every port.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Everything,
    /// In lower case.
    Host(String),
    /// What a host's name has to end with, in lower case, with the dot.
    Below(String),
    Network {
        first: IpAddr,
        bits: u8,
    },
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{entry:?} {problem}")]
pub struct OutboundError {
    /// The entry as written.
    pub entry: String,
    /// What is wrong, and what to write.
    pub problem: &'static str,
}

impl Outbound {
    /// Whether nothing may be reached.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the addresses of a host may be asked for: some entry could let it be reached.
    #[must_use]
    pub fn may_resolve(&self, host: &str) -> bool {
        let host = normalize(host);
        self.0.iter().any(|entry| entry.names(&host))
    }

    /// Whether some entry could let a host be reached at a port, whatever its addresses are.
    #[must_use]
    pub fn may_name(&self, host: &str, port: u16) -> bool {
        let host = normalize(host);
        let of_port = |entry: &&Entry| entry.port.is_none_or(|allowed| allowed == port);
        self.0.iter().filter(of_port).any(|entry| entry.names(&host))
    }

    /// Whether a connection to `address` is allowed, that this function was told for the hosts `names`.
    #[must_use]
    pub fn allows<'a>(&self, address: IpAddr, port: u16, names: impl IntoIterator<Item = &'a str>) -> bool {
        let address = address.to_canonical();
        let names: Vec<String> = names.into_iter().map(normalize).collect();
        let of_port = |entry: &&Entry| entry.port.is_none_or(|allowed| allowed == port);
        self.0.iter().filter(of_port).any(|entry| {
            if is_near(address) {
                return entry.is_about_near()
                    && (entry.contains(address) || entry.names_exactly(&names, address));
            }
            entry.contains(address) || names.iter().any(|name| entry.names(name))
        })
    }
}

impl Entry {
    /// Whether it lets a host of this name be reached, whatever its address.
    fn names(&self, host: &str) -> bool {
        match &self.target {
            Target::Everything => true,
            Target::Host(name) => name == host,
            Target::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
            Target::Network { .. } => false,
        }
    }

    /// Whether it lets an address be reached, whatever its name.
    fn contains(&self, address: IpAddr) -> bool {
        match &self.target {
            Target::Everything => true,
            Target::Network { first, bits } => is_in(address, *first, *bits),
            Target::Host(_) | Target::Below(_) => false,
        }
    }

    /// Whether it speaks of this machine or the local link alone.
    fn is_about_near(&self) -> bool {
        match &self.target {
            Target::Network { first, bits } => near(*first).is_some_and(|least| *bits >= least),
            Target::Host(name) => name == "localhost",
            Target::Everything | Target::Below(_) => false,
        }
    }

    /// `localhost` names loopback, not the local link.
    fn names_exactly(&self, names: &[String], address: IpAddr) -> bool {
        address.is_loopback() && names.iter().any(|name| self.names(name))
    }
}

fn normalize(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Whether an address is of this machine or of the local link.
fn is_near(address: IpAddr) -> bool {
    near(address).is_some()
}

/// The length of the network's prefix, where an address belongs to one of this machine or the local link.
fn near(address: IpAddr) -> Option<u8> {
    const NETWORKS: [(IpAddr, u8); 7] = [
        (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8),
        (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
        (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
        (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128),
        (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
        (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
        // Where a cloud keeps the same credentials as at 169.254.169.254.
        (
            IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
            128,
        ),
    ];
    let found = NETWORKS
        .iter()
        .find(|(first, bits)| is_in(address, *first, *bits));
    found.map(|(_, bits)| *bits)
}

fn is_in(address: IpAddr, first: IpAddr, bits: u8) -> bool {
    match (address, first) {
        (IpAddr::V4(address), IpAddr::V4(first)) => {
            let differing = u32::from(address) ^ u32::from(first);
            differing.checked_shr(32 - u32::from(bits.min(32))).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), IpAddr::V6(first)) => {
            let differing = u128::from(address) ^ u128::from(first);
            differing.checked_shr(128 - u32::from(bits.min(128))).unwrap_or(0) == 0
        }
        _ => false,
    }
}

impl FromStr for Outbound {
    type Err = OutboundError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let entries: Vec<Entry> = entries
            .map(|entry| {
                Entry::parse(entry).map_err(|problem| OutboundError {
                    entry: entry.to_owned(),
                    problem,
                })
            })
            .collect::<Result<_, _>>()?;
        if entries.len() > ENTRIES_MAX {
            return Err(OutboundError {
                entry: format!("{} entries", entries.len()),
                problem: "are too many: 256 are allowed",
            });
        }
        Ok(Self(entries))
    }
}

impl Entry {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "*" {
            let target = Target::Everything;
            return Ok(Self { target, port: None });
        }
        let (target, port) = text
            .rsplit_once(':')
            .ok_or("has no port: write host:port, or host:* for every port")?;
        let port = match port {
            "*" => None,
            number => match number.parse() {
                Ok(0) | Err(_) => {
                    return Err("has no port: it ends with a number from 1 to 65535, or with *");
                }
                Ok(port) => Some(port),
            },
        };
        let target = Target::parse(target)?;
        Ok(Self { target, port })
    }
}

impl Target {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "*" {
            return Ok(Self::Everything);
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let bracketed = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let first: Option<IpAddr> = match bracketed {
            Some(inner) => Some(IpAddr::V6(
                inner
                    .parse()
                    .map_err(|_| "has no IPv6 address between its brackets")?,
            )),
            None => address.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        };
        match (first, bits) {
            (Some(first), bits) => {
                let most = if first.is_ipv4() { 32 } else { 128 };
                let bits = match bits {
                    None => most,
                    Some(bits) => bits
                        .parse()
                        .ok()
                        .filter(|bits| *bits <= most)
                        .ok_or("has no length of a prefix after its slash: write 10.0.0.0/8:443")?,
                };
                Ok(Self::Network { first, bits })
            }
            (None, Some(_)) => Err("has no address before its slash: write 10.0.0.0/8:443"),
            (None, None) => match address.strip_prefix("*.") {
                Some(domain) => Ok(Self::Below(format!(".{}", host(domain)?))),
                None => Ok(Self::Host(host(address)?)),
            },
        }
    }
}

fn host(text: &str) -> Result<String, &'static str> {
    let name = normalize(text);
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if text.contains(':') {
        return Err("has an IPv6 address without brackets: write [2001:db8::1]:443");
    }
    if name.len() > crate::host::HOST_BYTES_MAX || !name.split('.').all(is_label) {
        return Err(
            "is no host, address or network: write api.example.com:443, *.example.com:443, 10.0.0.0/8:443 or *",
        );
    }
    Ok(name)
}

impl fmt::Display for Outbound {
    /// As it is written in the annotation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, entry) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match &entry.target {
                Target::Everything => f.write_str("*")?,
                Target::Host(name) => f.write_str(name)?,
                Target::Below(suffix) => write!(f, "*{suffix}")?,
                Target::Network {
                    first: IpAddr::V4(first),
                    bits,
                } => write!(f, "{first}/{bits}")?,
                Target::Network {
                    first: IpAddr::V6(first),
                    bits,
                } => write!(f, "[{first}]/{bits}")?,
            }
            match entry.port {
                Some(port) => write!(f, ":{port}")?,
                None => f.write_str(":*")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(list: &str, address: &str, port: u16, names: &[&str]) -> bool {
        let outbound: Outbound = list.parse().unwrap();
        outbound.allows(address.parse().unwrap(), port, names.iter().copied())
    }

    #[test]
    fn entries_let_through_what_they_name() {
        for (list, address, port, names, allowed) in [
            ("", "1.2.3.4", 443, &[][..], false),
            ("api.example.com:443", "1.2.3.4", 443, &["API.example.com."], true),
            ("api.example.com:443", "1.2.3.4", 80, &["api.example.com"], false),
            ("api.example.com:443", "1.2.3.4", 443, &[], false),
            ("*.example.com:443", "1.2.3.4", 443, &["a.b.example.com"], true),
            ("*.example.com:443", "1.2.3.4", 443, &["example.com"], false),
            ("*.example.com:443", "1.2.3.4", 443, &["badexample.com"], false),
            ("10.0.0.0/8:5432", "10.9.8.7", 5432, &[], true),
            ("10.0.0.0/8:5432", "11.9.8.7", 5432, &[], false),
            ("10.0.0.0/8:5432", "::ffff:10.1.1.1", 5432, &[], true),
            ("[2001:db8::]/32:*", "2001:db8:1::1", 7, &[], true),
            ("*:443", "1.2.3.4", 443, &[], true),
            ("*", "1.2.3.4", 1, &[], true),
            ("0.0.0.0/0:443", "1.2.3.4", 443, &[], true),
        ] {
            assert_eq!(
                allows(list, address, port, names),
                allowed,
                "{list} {address}:{port} {names:?}"
            );
        }
    }

    #[test]
    fn this_machine_and_the_local_link_have_to_be_named() {
        for near in [
            "127.0.0.1",
            "169.254.169.254",
            "::1",
            "fe80::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "::",
            "fd00:ec2::254",
        ] {
            for list in [
                "*",
                "*:80",
                "0.0.0.0/0:80",
                "[::]/0:80",
                "rebind.example.com:80",
                "*.example.com:80",
            ] {
                assert!(!allows(list, near, 80, &["rebind.example.com"]), "{list} {near}");
            }
        }
        assert!(allows("127.0.0.1:5432", "127.0.0.1", 5432, &[]));
        assert!(allows("127.0.0.0/8:*", "127.0.0.53", 53, &[]));
        assert!(allows("localhost:5432", "127.0.0.1", 5432, &["localhost"]));
        assert!(!allows("localhost:5432", "169.254.169.254", 5432, &["localhost"]));
        assert!(allows("169.254.169.254:80", "169.254.169.254", 80, &[]));
        assert!(allows("[fe80::]/10:80", "fe80::1", 80, &[]));
        assert!(allows("[::1]:80", "::1", 80, &[]));
    }

    #[test]
    fn names_are_resolved_only_where_an_entry_could_let_them_through() {
        let outbound: Outbound = "api.example.com:443, 10.0.0.0/8:1".parse().unwrap();
        assert!(outbound.may_resolve("Api.Example.com") && !outbound.may_resolve("evil.example.com"));
        assert!(outbound.may_name("Api.Example.com", 443) && !outbound.may_name("api.example.com", 80));
    }

    #[test]
    fn nonsense_is_named() {
        for (entry, word) in [
            ("example.com", "port"),
            ("example.com:0", "port"),
            ("example.com:70000", "port"),
            ("exa mple.com:1", "host"),
            ("*.:1", "host"),
            ("2001:db8::1:443", "brackets"),
            ("10.0.0.0/33:1", "prefix"),
            ("example.com/8:1", "slash"),
            ("[x]:1", "brackets"),
            ("a.*.com:1", "host"),
        ] {
            let error = format!("ok.example.com:1,{entry}")
                .parse::<Outbound>()
                .unwrap_err();
            assert_eq!(error.entry, entry);
            assert!(error.problem.contains(word), "{entry}: {}", error.problem);
        }
    }

    #[test]
    fn a_list_is_read_as_it_is_shown() {
        let list = "a.example.com:443, *.b.example:*,10.0.0.0/8:1,[2001:db8::1]:2,*";
        let outbound: Outbound = list.parse().unwrap();
        assert_eq!(outbound.to_string().parse::<Outbound>().unwrap(), outbound);
    }
}
