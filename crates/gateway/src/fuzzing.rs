//! Entry points for the fuzz targets in `fuzz/`. Not part of the API. Each function takes any bytes and must return.

use crate::proxy::called::Called;
use crate::proxy::{headers, host};
use crate::{acme, grpc, probe, tls};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version};
use kittiwake_core::routing_table::Certificate;
use std::net::{IpAddr, Ipv4Addr};

/// The first line as a request target, the others as headers, as far as they can be some.
fn head(bytes: &[u8]) -> (Option<Uri>, HeaderMap) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let target = lines.next().and_then(|line| Uri::try_from(line).ok());
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = line.split_at(colon);
        let name = HeaderName::from_bytes(name);
        let value = HeaderValue::from_bytes(value.get(1..).unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    (target, headers)
}

/// A request's head: which host it is for, and what the function sees of it.
///
/// # Panics
/// When the function would see what is not meant for it.
pub fn request_head(bytes: &[u8]) {
    let (target, mut fields) = head(bytes);
    let _ = (
        grpc::is_call(&fields),
        probe::probe(&fields),
        probe::is_prober(&fields),
    );
    let target = target.unwrap_or_default();
    let _ = acme::challenge::token(target.path());
    for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
        let Ok(called) = host::authority(version, &target, &fields) else {
            continue;
        };
        let Ok(called) = Called::new(&called, IpAddr::V4(Ipv4Addr::LOCALHOST), false) else {
            continue;
        };
        headers::prepare(&mut fields, &called, false);
        let internal = fields
            .keys()
            .find(|name| name.as_str().starts_with("k-") || *name == "connection");
        assert_eq!(internal, None, "it is not meant for functions");
    }
}

/// A chain and a key, which a zero byte parts, as a Secret may hold them.
pub fn certificate(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default().to_vec();
    let _ = tls::load(&Certificate {
        chain: part().into(),
        key: part().into(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_head_is_read_or_refused(
            target in "[ -~]{0,40}",
            fields in proptest::collection::vec(
                (prop_oneof![
                    Just("host"), Just("connection"), Just("te"), Just("forwarded"), Just("x-forwarded-for"),
                    Just("x-forwarded-proto"), Just("k-network-probe"), Just("knative-serving-tag"), Just("content-type"),
                ], "[ -~]{0,30}|k-[a-z]{1,8}|application/grpc"), 0..8),
        ) {
            let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
            request_head(format!("{target}\n{lines}").as_bytes());
        }

        #[test]
        fn any_certificate_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            certificate(&bytes);
            let framed = [b"-----BEGIN CERTIFICATE-----\n", &bytes[..], b"\n-----END CERTIFICATE-----\n"].concat();
            certificate(&framed);
        }
    }
}
