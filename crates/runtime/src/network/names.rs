//! The addresses of hosts, as the system's name servers know them.

use std::net::IpAddr;
use std::time::Duration;

/// Longest time for the name server to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Why no address is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResolveError {
    /// There is none.
    Unknown,
    /// Nobody answered in time.
    TimedOut,
}

/// All addresses of a host, those of IPv4 first: guests of WasmEdge know what to do with those only, often enough, and
/// many networks have no way to the others.
pub(crate) async fn resolve(host: String) -> Result<Vec<IpAddr>, ResolveError> {
    let asked = tokio::time::timeout(ANSWER_MAX, tokio::net::lookup_host((host, 0)));
    let found = asked.await.map_err(|_| ResolveError::TimedOut)?;
    let mut addresses: Vec<IpAddr> = found
        .map_err(|_| ResolveError::Unknown)?
        .map(|found| found.ip())
        .collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.dedup();
    Ok(addresses)
}
