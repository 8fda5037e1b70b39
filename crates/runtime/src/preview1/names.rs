//! `sock_getaddrinfo`: which addresses a host has. Only hosts are asked for that the list of allowed servers names.

use super::address;
use super::calls::{Arguments, Scene};
use super::memory::{Errno, Memory, offset};
use crate::network::{ResolveError, may_resolve, resolve};
use futures::FutureExt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::task::{Context, Poll};

/// Longest host or service name that is looked at.
const NAME_BYTES_MAX: u32 = 256;
/// Bytes of an address with its port and what else a `sockaddr` has: of IPv4 and of IPv6.
const DATA_BYTES: [u32; 2] = [14, 26];

/// Services whose ports are known (IANA); others are given by number.
const SERVICES: [(&str, u16); 6] = [
    ("http", 80),
    ("https", 443),
    ("domain", 53),
    ("postgresql", 5432),
    ("mysql", 3306),
    ("redis", 6379),
];

struct Question {
    host: Option<String>,
    port: u16,
    family: u16,
    flags: u16,
}

/// Lets the call go on: see [`super::calls::poll`].
pub(super) fn poll(
    arguments: &Arguments,
    scene: &mut Scene<'_, '_>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Errno>> {
    let [.., list_at, max, count_at] = arguments.0;
    let question = Question::read(&scene.memory, arguments)?;
    let addresses = match question.known() {
        Some(addresses) => addresses,
        None => {
            let host = question.host.clone().unwrap_or_default();
            if scene.sockets.resolving.is_none() {
                if !may_resolve(&scene.sockets.outbound, &host, scene.log) {
                    return Poll::Ready(Err(Errno::AI_NONAME));
                }
                scene.sockets.resolving =
                    Some(resolve(host.clone()).map(|found| found.map_err(errno)).boxed());
            }
            let Some(resolving) = &mut scene.sockets.resolving else {
                return Poll::Ready(Err(Errno::AI_AGAIN));
            };
            let resolved = std::task::ready!(resolving.as_mut().poll(cx));
            scene.sockets.resolving = None;
            let addresses = resolved?;
            scene.sockets.reach.remember(&host, &addresses);
            addresses
        }
    };
    let addresses: Vec<IpAddr> = addresses
        .into_iter()
        .filter(|ip| question.family == 0 || question.family == address::family(*ip))
        .take(usize::try_from(max).unwrap_or_default())
        .collect();
    if addresses.is_empty() {
        return Poll::Ready(Err(Errno::AI_NONAME));
    }
    let mut entry = scene.memory.u32(list_at)?;
    for ip in &addresses {
        entry = write(&mut scene.memory, entry, *ip, &question)?;
    }
    Poll::Ready(
        scene
            .memory
            .put_u32(count_at, u32::try_from(addresses.len()).unwrap_or_default()),
    )
}

fn errno(error: ResolveError) -> Errno {
    match error {
        ResolveError::Unknown => Errno::AI_NONAME,
        ResolveError::TimedOut => Errno::AI_AGAIN,
    }
}

impl Question {
    fn read(memory: &Memory<'_>, arguments: &Arguments) -> Result<Self, Errno> {
        let [node, node_len, service, service_len, hints, ..] = arguments.0;
        let text = |at: u32, len: u32| -> Result<String, Errno> {
            if len > NAME_BYTES_MAX {
                return Err(Errno::AI_NONAME);
            }
            let bytes = memory.bytes(at, len)?;
            let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8(bytes.to_vec()).map_err(|_| Errno::AI_NONAME)
        };
        let host = text(node, node_len)?;
        let service = text(service, service_len)?;
        let by_name = |name: &str| {
            SERVICES
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, port)| *port)
        };
        let port = match service.as_str() {
            "" => 0,
            name => name
                .parse()
                .ok()
                .or_else(|| by_name(name))
                .ok_or(Errno::AI_SERVICE)?,
        };
        let (flags, family) = match hints {
            0 => (0, 0),
            at => (memory.u16(at)?, u16::from(memory.u8(offset(at, 2)?)?)),
        };
        Ok(Self {
            host: (!host.is_empty()).then_some(host),
            port,
            family,
            flags,
        })
    }

    /// The answer where nobody has to be asked.
    fn known(&self) -> Option<Vec<IpAddr>> {
        /// `AI_PASSIVE`, as a bit.
        const PASSIVE: u16 = 1;
        match self.host.as_deref() {
            None if self.flags & PASSIVE != 0 => {
                Some(vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()])
            }
            None | Some("localhost") => Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]),
            Some(host) => host.parse().ok().map(|ip| vec![ip]),
        }
    }
}

/// Fills one entry of the list that the guest has prepared; returns where the next one is.
fn write(memory: &mut Memory<'_>, entry: u32, ip: IpAddr, question: &Question) -> Result<u32, Errno> {
    if entry == 0 {
        return Err(Errno::FAULT);
    }
    let [v4_bytes, v6_bytes] = DATA_BYTES;
    let family = u8::try_from(address::family(ip)).unwrap_or_default();
    let len = if ip.is_ipv4() { v4_bytes } else { v6_bytes };
    memory.put(offset(entry, 2)?, &[family])?;
    memory.put_u32(offset(entry, 8)?, len)?;
    memory.put_u32(offset(entry, 20)?, 0)?;
    let socket_address = memory.u32(offset(entry, 12)?)?;
    memory.put(socket_address, &[family])?;
    memory.put_u32(offset(socket_address, 4)?, len)?;
    let data = memory.u32(offset(socket_address, 8)?)?;
    // As in C's `sockaddr`: the port in network order, for IPv6 the flow label, the address.
    let mut bytes = question.port.to_be_bytes().to_vec();
    match ip {
        IpAddr::V4(ip) => bytes.extend(ip.octets()),
        IpAddr::V6(ip) => {
            bytes.extend([0; 4]);
            bytes.extend(ip.octets());
        }
    }
    memory.put(data, &bytes)?;
    memory.u32(offset(entry, 24)?)
}
