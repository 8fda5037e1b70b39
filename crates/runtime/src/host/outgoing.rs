//! The bodies that a guest of `wasi:http` 0.2 writes, in place of wasmtime's: there every piece, of 4 KiB as a rule, goes
//! through a channel and wakes a task at its other end. Here pieces are gathered until somebody takes them
//! ([why](../../../../docs/adr/0009-bodies-gathered.md)).
//!
//! Resources keep wasmtime's types towards guests. What is in the table under the number of an `outgoing-body` is an
//! [`OutgoingBody`], which only the functions here look at: they are all that take or make one.

use super::Host;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::p2::DynOutputStream;
use wasmtime_wasi_http::FieldMap;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p2::body::{HostOutgoingBody, HyperOutgoingBody, StreamContext};
use wasmtime_wasi_http::p2::types::{HostOutgoingRequest, HostOutgoingResponse};

mod pipe;

use pipe::{End, Writer};

/// The interface, by the name under which wasmtime-wasi-http links it.
const TYPES: &str = "wasi:http/types@0.2.12";

/// What stands for an `outgoing-body`. One that is dropped unfinished without the guest's doing ends as if it were
/// whole: whoever ends the guest says why.
pub(super) struct OutgoingBody {
    writer: Writer,
    context: StreamContext,
    /// What `Content-Length` announces.
    expected: Option<u64>,
    has_stream: bool,
}

impl OutgoingBody {
    fn new(context: StreamContext, headers: &HeaderMap) -> Result<(Self, HyperOutgoingBody), ()> {
        let expected = content_length(headers)?;
        let (writer, reader) = pipe::pipe();
        let body = Self {
            writer,
            context,
            expected,
            has_stream: false,
        };
        Ok((body, http_body_util::BodyExt::boxed_unsync(reader)))
    }

    fn take_stream(&mut self) -> Option<DynOutputStream> {
        if std::mem::replace(&mut self.has_stream, true) {
            return None;
        }
        let (context, expected) = (self.context, self.expected);
        Some(Box::new(self.writer.stream(context, expected)))
    }

    fn finish(self, trailers: Option<FieldMap>) -> Result<(), ErrorCode> {
        let written = self.writer.written();
        if self.expected.is_some_and(|expected| expected != written) {
            self.writer.end(End::Aborted);
            return Err(self.context.as_body_size_error(written));
        }
        self.writer
            .end(trailers.map_or(End::Whole, |trailers| End::Trailers(trailers.into())));
        Ok(())
    }
}

/// What is announced: a number in decimal digits, said once.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, ()> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().map_err(drop)?;
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match values.next() {
        None if is_number => text.parse().map(Some).map_err(drop),
        _ => Err(()),
    }
}

/// An `outgoing-body` as the table has it.
fn ours(body: &Resource<HostOutgoingBody>) -> Resource<OutgoingBody> {
    Resource::new_borrow(body.rep())
}

impl Host {
    fn outgoing_body(
        &mut self,
        made: Result<OutgoingBody, ()>,
    ) -> wasmtime::Result<Result<Resource<HostOutgoingBody>, ()>> {
        let Ok(body) = made else { return Ok(Err(())) };
        let body = self.table.push(body)?;
        Ok(Ok(Resource::new_own(body.rep())))
    }

    /// `outgoing-request.body`
    pub(crate) fn request_body(
        &mut self,
        request: &Resource<HostOutgoingRequest>,
    ) -> wasmtime::Result<Result<Resource<HostOutgoingBody>, ()>> {
        let request = self.table.get_mut(request)?;
        let made = match &request.body {
            Some(_) => Err(()),
            None => OutgoingBody::new(StreamContext::Request, &request.headers),
        };
        let made = made.map(|(body, reader)| {
            request.body = Some(reader);
            body
        });
        self.outgoing_body(made)
    }

    /// `outgoing-response.body`
    pub(crate) fn response_body(
        &mut self,
        response: &Resource<HostOutgoingResponse>,
    ) -> wasmtime::Result<Result<Resource<HostOutgoingBody>, ()>> {
        let response = self.table.get_mut(response)?;
        let made = match &response.body {
            Some(_) => Err(()),
            None => OutgoingBody::new(StreamContext::Response, &response.headers),
        };
        let made = made.map(|(body, reader)| {
            response.body = Some(reader);
            body
        });
        self.outgoing_body(made)
    }

    /// `outgoing-body.write`
    pub(crate) fn write_body(
        &mut self,
        body: &Resource<HostOutgoingBody>,
    ) -> wasmtime::Result<Result<Resource<DynOutputStream>, ()>> {
        let body = ours(body);
        match self.table.get_mut(&body)?.take_stream() {
            Some(stream) => Ok(Ok(self.table.push_child(stream, &body)?)),
            None => Ok(Err(())),
        }
    }

    /// An `outgoing-body` that is dropped: not finished, so not whole.
    pub(crate) fn drop_body(&mut self, body: &Resource<HostOutgoingBody>) -> wasmtime::Result<()> {
        self.take_body(body.rep())?.writer.end(End::Aborted);
        Ok(())
    }

    fn take_body(&mut self, rep: u32) -> wasmtime::Result<OutgoingBody> {
        Ok(self.table.delete(Resource::<OutgoingBody>::new_own(rep))?)
    }

    /// `outgoing-body.finish`
    pub(crate) fn finish_body(
        &mut self,
        body: &Resource<HostOutgoingBody>,
        trailers: Option<Resource<FieldMap>>,
    ) -> wasmtime::Result<Result<(), ErrorCode>> {
        let body = self.take_body(body.rep())?;
        let trailers = trailers.map(|trailers| self.table.delete(trailers));
        Ok(body.finish(trailers.transpose()?))
    }
}

/// Replaces wasmtime's functions about outgoing bodies by those here.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    types.resource(
        "outgoing-body",
        ResourceType::host::<HostOutgoingBody>(),
        |mut store: StoreContextMut<'_, Host>, rep| store.data_mut().drop_body(&Resource::new_own(rep)),
    )?;
    types.func_wrap(
        "[method]outgoing-request.body",
        |mut store: StoreContextMut<'_, Host>, (request,)| Ok((store.data_mut().request_body(&request)?,)),
    )?;
    types.func_wrap(
        "[method]outgoing-response.body",
        |mut store: StoreContextMut<'_, Host>, (response,)| {
            Ok((store.data_mut().response_body(&response)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-body.write",
        |mut store: StoreContextMut<'_, Host>, (body,)| Ok((store.data_mut().write_body(&body)?,)),
    )?;
    types.func_wrap(
        "[static]outgoing-body.finish",
        |mut store: StoreContextMut<'_, Host>, (body, trailers)| {
            Ok((store.data_mut().finish_body(&body, trailers)?,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}
