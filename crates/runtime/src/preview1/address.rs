//! Addresses as guests write them: `__wasi_address_t` of WasmEdge, `{ buf: u32, len: u32 }`, of 4, 16 or 128 bytes.
//!
//! The first version of WasmEdge's functions takes the bytes of an IPv4 or IPv6 address, the second one 128 bytes that
//! begin with the family. All lengths are taken everywhere: none can be mistaken for another.

use super::memory::{Errno, Memory, offset};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Address families (WasmEdge `api.hpp`, `__wasi_address_family_t`).
pub(crate) const INET4: u16 = 1;
/// See [`INET4`].
pub(crate) const INET6: u16 = 2;

const WITH_FAMILY_BYTES: u32 = 128;

/// Reads the address whose description is at `at`.
pub(crate) fn read(memory: &Memory<'_>, at: u32) -> Result<IpAddr, Errno> {
    let buffer = memory.u32(at)?;
    match memory.u32(offset(at, 4)?)? {
        4 => Ok(IpAddr::V4(Ipv4Addr::from(memory.array::<4>(buffer)?))),
        16 => Ok(IpAddr::V6(Ipv6Addr::from(memory.array::<16>(buffer)?))),
        WITH_FAMILY_BYTES => {
            let address = offset(buffer, 2)?;
            match memory.u16(buffer)? {
                INET4 => Ok(IpAddr::V4(Ipv4Addr::from(memory.array::<4>(address)?))),
                INET6 => Ok(IpAddr::V6(Ipv6Addr::from(memory.array::<16>(address)?))),
                _ => Err(Errno::AFNOSUPPORT),
            }
        }
        _ => Err(Errno::INVAL),
    }
}

/// Writes an address into the place whose description is at `at`. An IPv4 address fills the first four bytes of a longer
/// place.
pub(crate) fn write(memory: &mut Memory<'_>, at: u32, address: IpAddr) -> Result<(), Errno> {
    let buffer = memory.u32(at)?;
    let room = memory.u32(offset(at, 4)?)?;
    let bytes = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    if room == WITH_FAMILY_BYTES {
        memory.put_u16(buffer, family(address))?;
        return memory.put(offset(buffer, 2)?, &bytes);
    }
    if (room as usize) < bytes.len() {
        return Err(Errno::INVAL);
    }
    memory.put(buffer, &bytes)
}

/// The family's number.
pub(crate) fn family(address: IpAddr) -> u16 {
    if address.is_ipv4() { INET4 } else { INET6 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_length_is_read_and_written() {
        for (len, address) in [
            (4, "1.2.3.4"),
            (16, "2001:db8::1"),
            (128, "1.2.3.4"),
            (128, "2001:db8::1"),
        ] {
            let mut bytes = vec![0; 256];
            let mut memory = Memory(&mut bytes);
            memory.put_u32(0, 16).unwrap();
            memory.put_u32(4, len).unwrap();
            let address: IpAddr = address.parse().unwrap();
            write(&mut memory, 0, address).unwrap();
            assert_eq!(read(&memory, 0), Ok(address), "{len}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let mut bytes = vec![0; 64];
        let mut memory = Memory(&mut bytes);
        assert_eq!(read(&memory, 62), Err(Errno::FAULT));
        memory.put_u32(4, 5).unwrap();
        assert_eq!(read(&memory, 0), Err(Errno::INVAL));
        memory.put_u32(4, 128).unwrap();
        assert_eq!(read(&memory, 0), Err(Errno::AFNOSUPPORT), "no family");
        memory.put_u32(0, 62).unwrap();
        memory.put_u32(4, 4).unwrap();
        assert_eq!(read(&memory, 0), Err(Errno::FAULT));
    }

    proptest! {
        #[test]
        fn any_place_is_read_or_refused(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            at in prop_oneof![0_u32..200, any::<u32>()],
            len in prop_oneof![Just(4_u32), Just(16), Just(128), any::<u32>()],
            address in any::<IpAddr>(),
        ) {
            let mut memory = Memory(&mut bytes);
            let _ = read(&memory, at);
            if let Ok(place) = offset(at, 4) {
                let _ = memory.put_u32(place, len);
            }
            if write(&mut memory, at, address).is_ok() && (len == 16 || len == 128) && address.is_ipv6() {
                // Unless it was written over its own description.
                let found = read(&memory, at);
                prop_assert!(found == Ok(address) || memory.u32(at).is_ok_and(|buffer| buffer.abs_diff(at) < 128));
            }
        }
    }
}
