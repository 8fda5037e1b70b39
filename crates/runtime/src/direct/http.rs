//! `wasi:http` 0.2, for core modules: each function reads its arguments, calls that of wasmtime-wasi-http, or the one that
//! stands in its place ([`crate::host`]), and writes the result. The parameters are those of the interface's WIT, flattened.

use super::error_code;
use super::interface::{Interface, Links};
use super::memory::{ByteList, Fault, Layout, Place, Stored, answer_in_room, guest, handle, lent, maybe};
use super::memory::{owned, store_case};
use crate::host::Host;

use wasmtime::{Caller, Result};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types::{
    ErrorCode, HeaderError, Host as _, HostFields, HostFutureIncomingResponse, HostFutureTrailers,
    HostIncomingBody, HostIncomingRequest, HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
    HostRequestOptions, HostResponseOutparam, Method, Scheme,
};
use wasmtime_wasi_http::p2::{HeaderError as HeaderFailure, HttpError};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView as _};

type Guest<'a> = Caller<'a, Host>;

/// All of `wasi:http` that a guest may import.
pub(super) fn add_to_linker(links: &mut Links) -> Result<()> {
    let mut types = Interface::new(links, "wasi:http/types");
    add_fields(&mut types)?;
    add_incoming(&mut types)?;
    add_outgoing_response(&mut types)?;
    add_outgoing_request(&mut types)?;
    add_incoming_response(&mut types)?;
    types.in_room(
        "http-error-code",
        |mut caller: Guest<'_>, error: u32, to: u32, room: i64| {
            answer_in_room(&mut caller, room, to, |guest| {
                guest.host.http().http_error_code(lent(error))
            })
        },
    )?;
    let mut handler = Interface::new(links, "wasi:http/outgoing-handler");
    handler.in_room(
        "handle",
        |mut caller: Guest<'_>, request: u32, is: u32, options: u32, to: u32, room: i64| {
            answer_in_room(&mut caller, room, to, |guest| {
                let options = maybe(is)?.then(|| owned(options));
                let mut http = guest.host.http();
                let sent = http.handle(owned(request), options);
                coded(&mut http, sent)
            })
        },
    )?;
    Ok(())
}

/// The error that a guest is told, unless it is one that ends it.
fn coded<T>(
    http: &mut WasiHttpCtxView<'_>,
    result: std::result::Result<T, HttpError>,
) -> Result<std::result::Result<T, ErrorCode>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => http.convert_error_code(error).map(Err),
    }
}

/// The same for header maps.
fn checked<T>(
    http: &mut WasiHttpCtxView<'_>,
    result: std::result::Result<T, HeaderFailure>,
) -> Result<std::result::Result<T, HeaderError>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => http.convert_header_error(error).map(Err),
    }
}

fn add_fields(types: &mut Interface<'_>) -> Result<()> {
    types.plain("[constructor]fields", |mut caller: Guest<'_>| -> Result<u32> {
        Ok(handle(&HostFields::new(&mut caller.data_mut().http())?))
    })?;
    types.plain(
        "[static]fields.from-list",
        |mut caller: Guest<'_>, list: u32, entries: u32, to: u32| {
            let mut guest = guest(&mut caller)?;
            let words = guest.words::<4>(list, entries)?;
            let read = |[name, length, value, bytes]: [u32; 4]| {
                Ok((guest.string(name, length)?, guest.bytes(value, bytes)?))
            };
            let entries = words
                .into_iter()
                .map(read)
                .collect::<std::result::Result<_, Fault>>()?;
            let mut http = guest.host.http();
            let made = http.from_list(entries);
            let made = checked(&mut http, made)?;
            guest.answer(to, made)
        },
    )?;
    types.in_room(
        "[method]fields.get",
        |mut caller: Guest<'_>, fields: u32, name: u32, length: u32, to: u32, room: i64| {
            answer_in_room(&mut caller, room, to, |guest| {
                let name = guest.string(name, length)?;
                let values = HostFields::get(&mut guest.host.http(), lent(fields), name)?;
                Ok(values.into_iter().map(ByteList).collect::<Vec<_>>())
            })
        },
    )?;
    types.plain(
        "[method]fields.has",
        |mut caller: Guest<'_>, fields: u32, name: u32, length: u32| -> Result<u32> {
            let mut guest = guest(&mut caller)?;
            let name = guest.string(name, length)?;
            Ok(guest.host.http().has(lent(fields), name)?.into())
        },
    )?;
    types.plain(
        "[method]fields.set",
        |mut caller: Guest<'_>, fields: u32, name: u32, length: u32, list: u32, values: u32, to: u32| {
            let mut guest = guest(&mut caller)?;
            let name = guest.string(name, length)?;
            let values = guest.lists(list, values)?;
            let mut http = guest.host.http();
            let set = HostFields::set(&mut http, lent(fields), name, values);
            let set = checked(&mut http, set)?;
            guest.answer(to, set)
        },
    )?;
    types.plain(
        "[method]fields.delete",
        |mut caller: Guest<'_>, fields: u32, name: u32, length: u32, to: u32| {
            let mut guest = guest(&mut caller)?;
            let name = guest.string(name, length)?;
            let mut http = guest.host.http();
            let deleted = http.delete(lent(fields), name);
            let deleted = checked(&mut http, deleted)?;
            guest.answer(to, deleted)
        },
    )?;
    types.plain(
        "[method]fields.append",
        |mut caller: Guest<'_>, fields: u32, name: u32, length: u32, value: u32, bytes: u32, to: u32| {
            let mut guest = guest(&mut caller)?;
            let name = guest.string(name, length)?;
            let value = guest.bytes(value, bytes)?;
            let mut http = guest.host.http();
            let appended = http.append(lent(fields), name, value);
            let appended = checked(&mut http, appended)?;
            guest.answer(to, appended)
        },
    )?;
    types.in_room(
        "[method]fields.entries",
        |mut caller: Guest<'_>, fields: u32, to: u32, room: i64| {
            answer_in_room(&mut caller, room, to, |guest| {
                let entries = guest.host.http().entries(lent(fields))?;
                let entries = entries.into_iter().map(|(name, value)| (name, ByteList(value)));
                Ok(entries.collect::<Vec<_>>())
            })
        },
    )?;
    types.plain(
        "[method]fields.clone",
        |mut caller: Guest<'_>, fields: u32| -> Result<u32> {
            let fields = HostFields::clone(&mut caller.data_mut().http(), lent(fields))?;
            Ok(handle(&fields))
        },
    )?;
    types.plain("[resource-drop]fields", |mut caller: Guest<'_>, fields: u32| {
        HostFields::drop(&mut caller.data_mut().http(), owned(fields))
    })
}

fn add_incoming(types: &mut Interface<'_>) -> Result<()> {
    types.in_room(
        "[method]incoming-request.method",
        |mut caller: Guest<'_>, request: u32, to: u32, room: i64| {
            answer_in_room(&mut caller, room, to, |guest| {
                HostIncomingRequest::method(&mut guest.host.http(), lent(request))
            })
        },
    )?;
    types.in_room(
        "[method]incoming-request.path-with-query",
        |mut caller: Guest<'_>, request: u32, to: u32, room: i64| {
            answer_in_room(&mut caller, room, to, |guest| {
                HostIncomingRequest::path_with_query(&mut guest.host.http(), lent(request))
            })
        },
    )?;
    types.in_room(
        "[method]incoming-request.scheme",
        |mut caller: Guest<'_>, request: u32, to: u32, room: i64| {
            answer_in_room(&mut caller, room, to, |guest| {
                HostIncomingRequest::scheme(&mut guest.host.http(), lent(request))
            })
        },
    )?;
    types.in_room(
        "[method]incoming-request.authority",
        |mut caller: Guest<'_>, request: u32, to: u32, room: i64| {
            answer_in_room(&mut caller, room, to, |guest| {
                HostIncomingRequest::authority(&mut guest.host.http(), lent(request))
            })
        },
    )?;
    types.plain(
        "[method]incoming-request.headers",
        |mut caller: Guest<'_>, request: u32| -> Result<u32> {
            let headers = HostIncomingRequest::headers(&mut caller.data_mut().http(), lent(request))?;
            Ok(handle(&headers))
        },
    )?;
    types.plain(
        "[method]incoming-request.consume",
        |mut caller: Guest<'_>, request: u32, to: u32| {
            let guest = guest(&mut caller)?;
            let body = HostIncomingRequest::consume(&mut guest.host.http(), lent(request))?;
            guest.answer(to, body)
        },
    )?;
    types.plain(
        "[resource-drop]incoming-request",
        |mut caller: Guest<'_>, request: u32| {
            HostIncomingRequest::drop(&mut caller.data_mut().http(), owned(request))
        },
    )?;
    types.plain(
        "[method]incoming-body.stream",
        |mut caller: Guest<'_>, body: u32, to: u32| {
            let guest = guest(&mut caller)?;
            let stream = HostIncomingBody::stream(&mut guest.host.http(), lent(body))?;
            guest.answer(to, stream)
        },
    )?;
    types.plain(
        "[static]incoming-body.finish",
        |mut caller: Guest<'_>, body: u32| -> Result<u32> {
            let trailers = HostIncomingBody::finish(&mut caller.data_mut().http(), owned(body))?;
            Ok(handle(&trailers))
        },
    )?;
    types.plain(
        "[resource-drop]incoming-body",
        |mut caller: Guest<'_>, body: u32| HostIncomingBody::drop(&mut caller.data_mut().http(), owned(body)),
    )?;
    types.plain(
        "[method]future-trailers.subscribe",
        |mut caller: Guest<'_>, trailers: u32| -> Result<u32> {
            let ready = HostFutureTrailers::subscribe(&mut caller.data_mut().http(), lent(trailers))?;
            Ok(handle::<DynPollable>(&ready))
        },
    )?;
    types.in_room(
        "[method]future-trailers.get",
        |mut caller: Guest<'_>, trailers: u32, to: u32, room: i64| {
            answer_in_room(&mut caller, room, to, |guest| {
                HostFutureTrailers::get(&mut guest.host.http(), lent(trailers))
            })
        },
    )?;
    types.plain(
        "[resource-drop]future-trailers",
        |mut caller: Guest<'_>, trailers: u32| {
            HostFutureTrailers::drop(&mut caller.data_mut().http(), owned(trailers))
        },
    )
}

fn add_outgoing_response(types: &mut Interface<'_>) -> Result<()> {
    types.plain(
        "[constructor]outgoing-response",
        |mut caller: Guest<'_>, headers: u32| -> Result<u32> {
            let response = HostOutgoingResponse::new(&mut caller.data_mut().http(), owned(headers))?;
            Ok(handle(&response))
        },
    )?;
    types.plain(
        "[method]outgoing-response.status-code",
        |mut caller: Guest<'_>, response: u32| -> Result<u32> {
            Ok(caller.data_mut().http().status_code(lent(response))?.into())
        },
    )?;
    types.plain(
        "[method]outgoing-response.set-status-code",
        |mut caller: Guest<'_>, response: u32, status: u32| -> Result<u32> {
            let status = u16::try_from(status & 0xffff).map_err(|_| Fault::NoSuchCase)?;
            let set = caller.data_mut().http().set_status_code(lent(response), status)?;
            Ok(set.is_err().into())
        },
    )?;
    types.plain(
        "[method]outgoing-response.headers",
        |mut caller: Guest<'_>, response: u32| -> Result<u32> {
            let headers = HostOutgoingResponse::headers(&mut caller.data_mut().http(), lent(response))?;
            Ok(handle(&headers))
        },
    )?;
    types.plain(
        "[method]outgoing-response.body",
        |mut caller: Guest<'_>, response: u32, to: u32| {
            let guest = guest(&mut caller)?;
            let body = guest.host.response_body(&lent(response))?;
            guest.answer(to, body)
        },
    )?;
    types.plain(
        "[resource-drop]outgoing-response",
        |mut caller: Guest<'_>, response: u32| {
            HostOutgoingResponse::drop(&mut caller.data_mut().http(), owned(response))
        },
    )?;
    types.plain(
        "[method]outgoing-body.write",
        |mut caller: Guest<'_>, body: u32, to: u32| {
            let guest = guest(&mut caller)?;
            let stream = guest.host.write_body(&lent(body))?;
            guest.answer(to, stream)
        },
    )?;
    types.in_room(
        "[static]outgoing-body.finish",
        |mut caller: Guest<'_>, body: u32, is: u32, trailers: u32, to: u32, room: i64| {
            answer_in_room(&mut caller, room, to, |guest| {
                let trailers = maybe(is)?.then(|| owned(trailers));
                guest.host.finish_body(&owned(body), trailers)
            })
        },
    )?;
    types.plain(
        "[resource-drop]outgoing-body",
        |mut caller: Guest<'_>, body: u32| caller.data_mut().drop_body(&owned(body)),
    )?;
    types.plain(
        "[static]response-outparam.set",
        |mut caller: Guest<'_>,
         outparam: u32,
         is_error: u32,
         response_or_case: u32,
         a: u32,
         b: u64,
         c: u32,
         d: u32,
         e: u32,
         f: u32| {
            let mut guest = guest(&mut caller)?;
            let response = if maybe(is_error)? {
                Err(error_code::read(
                    &mut guest,
                    response_or_case,
                    (a, b, c, d, e, f),
                )?)
            } else {
                Ok(owned(response_or_case))
            };
            HostResponseOutparam::set(&mut guest.host.http(), owned(outparam), response)
        },
    )?;
    types.plain(
        "[resource-drop]response-outparam",
        |mut caller: Guest<'_>, outparam: u32| {
            HostResponseOutparam::drop(&mut caller.data_mut().http(), owned(outparam))
        },
    )
}

fn add_outgoing_request(types: &mut Interface<'_>) -> Result<()> {
    types.plain(
        "[constructor]outgoing-request",
        |mut caller: Guest<'_>, headers: u32| -> Result<u32> {
            let request = HostOutgoingRequest::new(&mut caller.data_mut().http(), owned(headers))?;
            Ok(handle(&request))
        },
    )?;
    types.plain(
        "[method]outgoing-request.body",
        |mut caller: Guest<'_>, request: u32, to: u32| {
            let guest = guest(&mut caller)?;
            let body = guest.host.request_body(&lent(request))?;
            guest.answer(to, body)
        },
    )?;
    types.in_room(
        "[method]outgoing-request.method",
        |mut caller: Guest<'_>, request: u32, to: u32, room: i64| {
            answer_in_room(&mut caller, room, to, |guest| {
                HostOutgoingRequest::method(&mut guest.host.http(), lent(request))
            })
        },
    )?;
    types.plain(
        "[method]outgoing-request.set-method",
        |mut caller: Guest<'_>, request: u32, case: u32, text: u32, length: u32| -> Result<u32> {
            let mut guest = guest(&mut caller)?;
            let method = match case {
                0 => Method::Get,
                1 => Method::Head,
                2 => Method::Post,
                3 => Method::Put,
                4 => Method::Delete,
                5 => Method::Connect,
                6 => Method::Options,
                7 => Method::Trace,
                8 => Method::Patch,
                9 => Method::Other(guest.string(text, length)?),
                _ => return Err(Fault::NoSuchCase.into()),
            };
            Ok(guest
                .host
                .http()
                .set_method(lent(request), method)?
                .is_err()
                .into())
        },
    )?;
    types.in_room(
        "[method]outgoing-request.path-with-query",
        |mut caller: Guest<'_>, request: u32, to: u32, room: i64| {
            answer_in_room(&mut caller, room, to, |guest| {
                HostOutgoingRequest::path_with_query(&mut guest.host.http(), lent(request))
            })
        },
    )?;
    types.plain(
        "[method]outgoing-request.set-path-with-query",
        |mut caller: Guest<'_>, request: u32, is: u32, text: u32, length: u32| -> Result<u32> {
            let mut guest = guest(&mut caller)?;
            let path = guest.maybe_string(is, text, length)?;
            let set = guest.host.http().set_path_with_query(lent(request), path)?;
            Ok(set.is_err().into())
        },
    )?;
    types.in_room(
        "[method]outgoing-request.scheme",
        |mut caller: Guest<'_>, request: u32, to: u32, room: i64| {
            answer_in_room(&mut caller, room, to, |guest| {
                HostOutgoingRequest::scheme(&mut guest.host.http(), lent(request))
            })
        },
    )?;
    types.plain(
        "[method]outgoing-request.set-scheme",
        |mut caller: Guest<'_>, request: u32, is: u32, case: u32, text: u32, length: u32| -> Result<u32> {
            let mut guest = guest(&mut caller)?;
            let scheme = match (maybe(is)?, case) {
                (false, _) => None,
                (true, 0) => Some(Scheme::Http),
                (true, 1) => Some(Scheme::Https),
                (true, 2) => Some(Scheme::Other(guest.string(text, length)?)),
                (true, _) => return Err(Fault::NoSuchCase.into()),
            };
            Ok(guest
                .host
                .http()
                .set_scheme(lent(request), scheme)?
                .is_err()
                .into())
        },
    )?;
    types.in_room(
        "[method]outgoing-request.authority",
        |mut caller: Guest<'_>, request: u32, to: u32, room: i64| {
            answer_in_room(&mut caller, room, to, |guest| {
                HostOutgoingRequest::authority(&mut guest.host.http(), lent(request))
            })
        },
    )?;
    types.plain(
        "[method]outgoing-request.set-authority",
        |mut caller: Guest<'_>, request: u32, is: u32, text: u32, length: u32| -> Result<u32> {
            let mut guest = guest(&mut caller)?;
            let authority = guest.maybe_string(is, text, length)?;
            let set = guest.host.http().set_authority(lent(request), authority)?;
            Ok(set.is_err().into())
        },
    )?;
    types.plain(
        "[method]outgoing-request.headers",
        |mut caller: Guest<'_>, request: u32| -> Result<u32> {
            let headers = HostOutgoingRequest::headers(&mut caller.data_mut().http(), lent(request))?;
            Ok(handle(&headers))
        },
    )?;
    types.plain(
        "[resource-drop]outgoing-request",
        |mut caller: Guest<'_>, request: u32| {
            HostOutgoingRequest::drop(&mut caller.data_mut().http(), owned(request))
        },
    )?;
    add_request_options(types)
}

/// Defines how a time limit of `request-options` is asked and set.
macro_rules! add_time_limit {
    ($types:ident, $get:ident, $get_name:literal, $set:ident, $set_name:literal) => {
        $types.plain($get_name, |mut caller: Guest<'_>, options: u32, to: u32| {
            let guest = guest(&mut caller)?;
            let limit = guest.host.http().$get(lent(options))?;
            guest.answer(to, limit)
        })?;
        $types.plain(
            $set_name,
            |mut caller: Guest<'_>, options: u32, is: u32, nanos: u64| -> Result<u32> {
                let limit = maybe(is)?.then_some(nanos);
                let set = caller.data_mut().http().$set(lent(options), limit)?;
                Ok(set.is_err().into())
            },
        )?;
    };
}

fn add_request_options(types: &mut Interface<'_>) -> Result<()> {
    types.plain(
        "[constructor]request-options",
        |mut caller: Guest<'_>| -> Result<u32> {
            Ok(handle(&HostRequestOptions::new(&mut caller.data_mut().http())?))
        },
    )?;
    add_time_limit!(
        types,
        connect_timeout,
        "[method]request-options.connect-timeout",
        set_connect_timeout,
        "[method]request-options.set-connect-timeout"
    );
    add_time_limit!(
        types,
        first_byte_timeout,
        "[method]request-options.first-byte-timeout",
        set_first_byte_timeout,
        "[method]request-options.set-first-byte-timeout"
    );
    add_time_limit!(
        types,
        between_bytes_timeout,
        "[method]request-options.between-bytes-timeout",
        set_between_bytes_timeout,
        "[method]request-options.set-between-bytes-timeout"
    );
    types.plain(
        "[resource-drop]request-options",
        |mut caller: Guest<'_>, options: u32| {
            HostRequestOptions::drop(&mut caller.data_mut().http(), owned(options))
        },
    )
}

fn add_incoming_response(types: &mut Interface<'_>) -> Result<()> {
    types.plain(
        "[method]future-incoming-response.subscribe",
        |mut caller: Guest<'_>, response: u32| -> Result<u32> {
            let mut http = caller.data_mut().http();
            let ready = HostFutureIncomingResponse::subscribe(&mut http, lent(response))?;
            Ok(handle::<DynPollable>(&ready))
        },
    )?;
    types.in_room(
        "[method]future-incoming-response.get",
        |mut caller: Guest<'_>, response: u32, to: u32, room: i64| {
            answer_in_room(&mut caller, room, to, |guest| {
                HostFutureIncomingResponse::get(&mut guest.host.http(), lent(response))
            })
        },
    )?;
    types.plain(
        "[resource-drop]future-incoming-response",
        |mut caller: Guest<'_>, response: u32| {
            HostFutureIncomingResponse::drop(&mut caller.data_mut().http(), owned(response))
        },
    )?;
    types.plain(
        "[method]incoming-response.status",
        |mut caller: Guest<'_>, response: u32| -> Result<u32> {
            let status = HostIncomingResponse::status(&mut caller.data_mut().http(), lent(response))?;
            Ok(status.into())
        },
    )?;
    types.plain(
        "[method]incoming-response.headers",
        |mut caller: Guest<'_>, response: u32| -> Result<u32> {
            let headers = HostIncomingResponse::headers(&mut caller.data_mut().http(), lent(response))?;
            Ok(handle(&headers))
        },
    )?;
    types.plain(
        "[method]incoming-response.consume",
        |mut caller: Guest<'_>, response: u32, to: u32| {
            let guest = guest(&mut caller)?;
            let body = HostIncomingResponse::consume(&mut guest.host.http(), lent(response))?;
            guest.answer(to, body)
        },
    )?;
    types.plain(
        "[resource-drop]incoming-response",
        |mut caller: Guest<'_>, response: u32| {
            HostIncomingResponse::drop(&mut caller.data_mut().http(), owned(response))
        },
    )
}

impl Stored for HeaderError {
    const SIZE: usize = 1;
    const ALIGN: usize = 1;

    fn store(self, layout: &mut Layout, place: Place) {
        let case: u8 = match self {
            Self::InvalidSyntax => 0,
            Self::Forbidden => 1,
            Self::Immutable => 2,
        };
        case.store(layout, place);
    }
}

impl Stored for Method {
    const SIZE: usize = 12;
    const ALIGN: usize = 4;

    fn store(self, layout: &mut Layout, place: Place) {
        let case: u8 = match self {
            Self::Get => 0,
            Self::Head => 1,
            Self::Post => 2,
            Self::Put => 3,
            Self::Delete => 4,
            Self::Connect => 5,
            Self::Options => 6,
            Self::Trace => 7,
            Self::Patch => 8,
            Self::Other(name) => return store_case(layout, place, 9, name, Self::ALIGN),
        };
        case.store(layout, place);
    }
}

impl Stored for Scheme {
    const SIZE: usize = 12;
    const ALIGN: usize = 4;

    fn store(self, layout: &mut Layout, place: Place) {
        match self {
            Self::Http => 0_u8.store(layout, place),
            Self::Https => 1_u8.store(layout, place),
            Self::Other(name) => store_case(layout, place, 2, name, Self::ALIGN),
        }
    }
}
