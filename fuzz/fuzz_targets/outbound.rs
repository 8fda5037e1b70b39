//! See `kittiwake_core::outbound`: a list, and what it lets a function reach.
#![no_main]

use kittiwake_core::outbound::Outbound;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(outbound) = std::str::from_utf8(bytes).unwrap_or_default().parse::<Outbound>() else {
        return;
    };
    let _ = outbound.may_resolve("a.example.com");
    for address in [
        IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    ] {
        let _ = outbound.allows(address, 443, ["a.example.com"]);
    }
    // The credentials of a cloud's machine are reached by an entry that names the local link, and no other way.
    let metadata = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
    if outbound.allows(metadata, 80, ["a.example.com"]) {
        assert!(outbound.allows(metadata, 80, []));
    }
});
