//! What is read of an X.509 certificate (RFC 5280): whom it names, until when, under which names.
//!
//! Signatures and chains are rustls' business; this reads certificates that were verified, or that this program made.
//! It is a reader of so few fields because x509-parser brings a feature of syn with it that rebuilds half the workspace.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use std::collections::BTreeSet;
use std::net::IpAddr;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// UTF-8, printable, Teletex and IA5 text; others are not read.
const TEXTS: [u8; 4] = [0x0c, 0x13, 0x14, 0x16];
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// `dNSName` and `iPAddress` of a `GeneralName`.
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;
/// 2.5.4.3, 2.5.4.10 and 2.5.29.17.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

/// The fields of a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// `CN` of the subject, in order.
    pub common_names: Vec<String>,
    /// `O` of the subject, in order.
    pub organizations: Vec<String>,
    /// `notAfter`, in seconds since 1970.
    pub not_after: i64,
    /// Host names and addresses among the subject's alternative names.
    pub names: BTreeSet<String>,
}

/// Reads a certificate in DER; `None` for what is none.
#[must_use]
pub fn read(der: &[u8]) -> Option<Fields> {
    let mut fields = Fields::default();
    let mut certificate = Elements(Elements(der).expect(SEQUENCE)?);
    let mut body = Elements(certificate.expect(SEQUENCE)?);
    if body.peek() == Some(VERSION) {
        body.next()?;
    }
    let _serial = body.next()?;
    let _algorithm = body.expect(SEQUENCE)?;
    let _issuer = body.expect(SEQUENCE)?;
    let mut validity = Elements(body.expect(SEQUENCE)?);
    let _not_before = validity.next()?;
    fields.not_after = time(validity.next()?)?;
    read_subject(body.expect(SEQUENCE)?, &mut fields)?;
    let _key = body.expect(SEQUENCE)?;
    while let Some((tag, content)) = body.next() {
        if tag == EXTENSIONS {
            let mut extensions = Elements(Elements(content).expect(SEQUENCE)?);
            while let Some((_, extension)) = extensions.next() {
                read_extension(extension, &mut fields)?;
            }
        }
    }
    Some(fields)
}

fn read_subject(subject: &[u8], fields: &mut Fields) -> Option<()> {
    let mut names = Elements(subject);
    while !names.0.is_empty() {
        let mut attributes = Elements(names.expect(SET)?);
        while !attributes.0.is_empty() {
            let mut attribute = Elements(attributes.expect(SEQUENCE)?);
            let kind = attribute.expect(OBJECT_ID)?;
            let (tag, value) = attribute.next()?;
            let list = match kind {
                COMMON_NAME => &mut fields.common_names,
                ORGANIZATION => &mut fields.organizations,
                _ => continue,
            };
            if TEXTS.contains(&tag) {
                list.push(str::from_utf8(value).ok()?.to_owned());
            }
        }
    }
    Some(())
}

fn read_extension(extension: &[u8], fields: &mut Fields) -> Option<()> {
    let mut parts = Elements(extension);
    if parts.expect(OBJECT_ID)? != ALTERNATIVE_NAMES {
        return Some(());
    }
    while let Some((tag, content)) = parts.next() {
        // A boolean before the value says whether the extension is critical.
        if tag != OCTETS {
            continue;
        }
        let mut names = Elements(Elements(content).expect(SEQUENCE)?);
        while let Some((tag, value)) = names.next() {
            match tag {
                DNS_NAME => drop(fields.names.insert(str::from_utf8(value).ok()?.to_owned())),
                IP_ADDRESS => drop(fields.names.insert(address(value)?.to_string())),
                _ => {}
            }
        }
    }
    Some(())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match <[u8; 4]>::try_from(bytes) {
        Ok(four) => Some(four.into()),
        Err(_) => Some(<[u8; 16]>::try_from(bytes).ok()?.into()),
    }
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280 §4.1.2.5).
fn time((tag, content): (u8, &[u8])) -> Option<i64> {
    let text = str::from_utf8(content).ok()?;
    let text = match tag {
        GENERALIZED_TIME => text.to_owned(),
        UTC_TIME => {
            let year: u8 = text.get(..2)?.parse().ok()?;
            let century = if year >= 50 { 19 } else { 20 };
            format!("{century}{text}")
        }
        _ => return None,
    };
    let civil = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

/// The elements of DER that are still to be read: tag, length, content.
struct Elements<'d>(&'d [u8]);

impl<'d> Elements<'d> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next element; `None` at the end and where it is malformed.
    fn next(&mut self) -> Option<(u8, &'d [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (first, mut rest) = rest.split_first()?;
        let mut length = usize::from(*first);
        if *first >= 0x80 {
            let digits = usize::from(*first & 0x7f);
            // No certificate is longer than four bytes of length can say; 0x80 has no length at all.
            if !(1..=4).contains(&digits) {
                return None;
            }
            let (bytes, behind) = rest.split_at_checked(digits)?;
            length = bytes
                .iter()
                .fold(0, |length, byte| (length << 8) | usize::from(*byte));
            rest = behind;
        }
        let (content, behind) = rest.split_at_checked(length)?;
        self.0 = behind;
        Some((*tag, content))
    }

    /// The content of the next element, which must have this tag.
    fn expect(&mut self, wanted: u8) -> Option<&'d [u8]> {
        let (tag, content) = self.next()?;
        (tag == wanted).then_some(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    fn certificate(names: &[&str], years: (i32, i32)) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "ann");
        params.distinguished_name.push(DnType::OrganizationName, "dev");
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        params
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap()
            .der()
            .to_vec()
    }

    #[test]
    fn fields_are_read() {
        // Times before 2050 are written in two digits of the year, later ones in four.
        for (end, seconds) in [(2030, 1_893_456_000), (2060, 2_840_140_800)] {
            let fields = read(&certificate(&["a.example", "10.0.0.1", "::1"], (2026, end))).unwrap();
            assert_eq!(
                fields,
                Fields {
                    common_names: vec!["ann".to_owned()],
                    organizations: vec!["dev".to_owned()],
                    not_after: seconds,
                    names: ["10.0.0.1", "::1", "a.example"].map(str::to_owned).into(),
                }
            );
        }
    }

    proptest! {
        #[test]
        fn damage_is_answered(at in 0_usize..400, byte in any::<u8>(), length in 0_usize..400) {
            let mut der = certificate(&["a.example"], (2026, 2030));
            if let Some(place) = der.get_mut(at) {
                *place = byte;
            }
            let _ = read(&der);
            let _ = read(der.get(..length).unwrap_or_default());
        }
    }
}
