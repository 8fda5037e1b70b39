//! `error-code` of `wasi:http/types`, as it is passed to a guest and by one.

use super::memory::{Fault, Guest, Layout, Place, Stored, maybe, store_case};
use wasmtime_wasi_http::p2::bindings::http::types::{
    DnsErrorPayload, ErrorCode, FieldSizePayload, TlsAlertReceivedPayload,
};

/// The payload of a case, flattened: what the cases have in common.
pub(super) type Flat = (u32, u64, u32, u32, u32, u32);

/// The case that a guest hands over.
pub(super) fn read(guest: &mut Guest<'_>, case: u32, flat: Flat) -> Result<ErrorCode, Fault> {
    let (a, wide, c, d, e, f) = flat;
    let b = (wide & u64::from(u32::MAX)) as u32;
    let number = || Ok::<_, Fault>(maybe(a)?.then_some(b));
    let mut text = || guest.maybe_string(a, b, c);
    Ok(match case {
        0 => ErrorCode::DnsTimeout,
        1 => ErrorCode::DnsError(DnsErrorPayload {
            rcode: text()?,
            info_code: maybe(d)?.then_some((e & 0xffff) as u16),
        }),
        2 => ErrorCode::DestinationNotFound,
        3 => ErrorCode::DestinationUnavailable,
        4 => ErrorCode::DestinationIpProhibited,
        5 => ErrorCode::DestinationIpUnroutable,
        6 => ErrorCode::ConnectionRefused,
        7 => ErrorCode::ConnectionTerminated,
        8 => ErrorCode::ConnectionTimeout,
        9 => ErrorCode::ConnectionReadTimeout,
        10 => ErrorCode::ConnectionWriteTimeout,
        11 => ErrorCode::ConnectionLimitReached,
        12 => ErrorCode::TlsProtocolError,
        13 => ErrorCode::TlsCertificateError,
        14 => ErrorCode::TlsAlertReceived(TlsAlertReceivedPayload {
            alert_id: number()?.map(|id| (id & 0xff) as u8),
            alert_message: guest.maybe_string(c, d, e)?,
        }),
        15 => ErrorCode::HttpRequestDenied,
        16 => ErrorCode::HttpRequestLengthRequired,
        17 => ErrorCode::HttpRequestBodySize(maybe(a)?.then_some(wide)),
        18 => ErrorCode::HttpRequestMethodInvalid,
        19 => ErrorCode::HttpRequestUriInvalid,
        20 => ErrorCode::HttpRequestUriTooLong,
        21 => ErrorCode::HttpRequestHeaderSectionSize(number()?),
        22 => ErrorCode::HttpRequestHeaderSize(if maybe(a)? {
            Some(field_size(guest, (b, c, d, e, f))?)
        } else {
            None
        }),
        23 => ErrorCode::HttpRequestTrailerSectionSize(number()?),
        24 => ErrorCode::HttpRequestTrailerSize(field_size(guest, (a, b, c, d, e))?),
        25 => ErrorCode::HttpResponseIncomplete,
        26 => ErrorCode::HttpResponseHeaderSectionSize(number()?),
        27 => ErrorCode::HttpResponseHeaderSize(field_size(guest, (a, b, c, d, e))?),
        28 => ErrorCode::HttpResponseBodySize(maybe(a)?.then_some(wide)),
        29 => ErrorCode::HttpResponseTrailerSectionSize(number()?),
        30 => ErrorCode::HttpResponseTrailerSize(field_size(guest, (a, b, c, d, e))?),
        31 => ErrorCode::HttpResponseTransferCoding(text()?),
        32 => ErrorCode::HttpResponseContentCoding(text()?),
        33 => ErrorCode::HttpResponseTimeout,
        34 => ErrorCode::HttpUpgradeFailed,
        35 => ErrorCode::HttpProtocolError,
        36 => ErrorCode::LoopDetected,
        37 => ErrorCode::ConfigurationError,
        38 => ErrorCode::InternalError(text()?),
        _ => return Err(Fault::NoSuchCase),
    })
}

/// An optional name, and an optional size.
fn field_size(
    guest: &mut Guest<'_>,
    (named, at, bytes, sized, size): (u32, u32, u32, u32, u32),
) -> Result<FieldSizePayload, Fault> {
    Ok(FieldSizePayload {
        field_name: guest.maybe_string(named, at, bytes)?,
        field_size: maybe(sized)?.then_some(size),
    })
}

impl Stored for FieldSizePayload {
    const SIZE: usize = <(Option<String>, Option<u32>)>::SIZE;
    const ALIGN: usize = 4;

    fn store(self, layout: &mut Layout, place: Place) {
        (self.field_name, self.field_size).store(layout, place);
    }
}

impl Stored for ErrorCode {
    const SIZE: usize = 32;
    const ALIGN: usize = 8;

    fn store(self, layout: &mut Layout, place: Place) {
        let mut with = Case { layout, place };
        match self {
            Self::DnsTimeout => with.case(0, ()),
            Self::DnsError(error) => with.case(1, (error.rcode, error.info_code)),
            Self::DestinationNotFound => with.case(2, ()),
            Self::DestinationUnavailable => with.case(3, ()),
            Self::DestinationIpProhibited => with.case(4, ()),
            Self::DestinationIpUnroutable => with.case(5, ()),
            Self::ConnectionRefused => with.case(6, ()),
            Self::ConnectionTerminated => with.case(7, ()),
            Self::ConnectionTimeout => with.case(8, ()),
            Self::ConnectionReadTimeout => with.case(9, ()),
            Self::ConnectionWriteTimeout => with.case(10, ()),
            Self::ConnectionLimitReached => with.case(11, ()),
            Self::TlsProtocolError => with.case(12, ()),
            Self::TlsCertificateError => with.case(13, ()),
            Self::TlsAlertReceived(alert) => with.case(14, (alert.alert_id, alert.alert_message)),
            Self::HttpRequestDenied => with.case(15, ()),
            Self::HttpRequestLengthRequired => with.case(16, ()),
            Self::HttpRequestBodySize(size) => with.case(17, size),
            Self::HttpRequestMethodInvalid => with.case(18, ()),
            Self::HttpRequestUriInvalid => with.case(19, ()),
            Self::HttpRequestUriTooLong => with.case(20, ()),
            Self::HttpRequestHeaderSectionSize(size) => with.case(21, size),
            Self::HttpRequestHeaderSize(field) => with.case(22, field),
            Self::HttpRequestTrailerSectionSize(size) => with.case(23, size),
            Self::HttpRequestTrailerSize(field) => with.case(24, field),
            Self::HttpResponseIncomplete => with.case(25, ()),
            Self::HttpResponseHeaderSectionSize(size) => with.case(26, size),
            Self::HttpResponseHeaderSize(field) => with.case(27, field),
            Self::HttpResponseBodySize(size) => with.case(28, size),
            Self::HttpResponseTrailerSectionSize(size) => with.case(29, size),
            Self::HttpResponseTrailerSize(field) => with.case(30, field),
            Self::HttpResponseTransferCoding(coding) => with.case(31, coding),
            Self::HttpResponseContentCoding(coding) => with.case(32, coding),
            Self::HttpResponseTimeout => with.case(33, ()),
            Self::HttpUpgradeFailed => with.case(34, ()),
            Self::HttpProtocolError => with.case(35, ()),
            Self::LoopDetected => with.case(36, ()),
            Self::ConfigurationError => with.case(37, ()),
            Self::InternalError(message) => with.case(38, message),
        }
    }
}

/// Where an `error-code` is put.
struct Case<'a> {
    layout: &'a mut Layout,
    place: Place,
}

impl Case<'_> {
    fn case<T: Stored>(&mut self, case: u8, payload: T) {
        store_case(self.layout, self.place, case, payload, ErrorCode::ALIGN);
    }
}
