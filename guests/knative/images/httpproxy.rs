//! `httpproxy`: answers with what another server answers, whom the environment names: `TARGET_HOST`, a host with or without
//! a scheme. Requests and responses are passed on as they come, both ways at once.
//!
//! Unlike Knative's: `CONNECT_TIMEOUT`, `FIRST_BYTE_TIMEOUT` and `BETWEEN_BYTES_TIMEOUT` (`300ms`, `2s`) limit the
//! request, and where there is no response, the answer is 502 with the error's code as its text.

use kittiwake_knative_images::wasip2::exports::http::incoming_handler::{
    Guest, IncomingRequest, ResponseOutparam,
};
use kittiwake_knative_images::wasip2::http::outgoing_handler;
use kittiwake_knative_images::wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, InputStream, OutgoingBody, OutgoingRequest,
    OutgoingResponse, OutputStream, RequestOptions, Scheme,
};
use kittiwake_knative_images::wasip2::io::poll::{Pollable, poll};
use kittiwake_knative_images::wasip2::io::streams::StreamError;
use kittiwake_knative_images::work::milliseconds;
use kittiwake_knative_images::{Answer, wasip2};

/// Bytes that are carried at a time.
const PIECE_BYTES: u64 = 64 * 1024;

struct Image;

wasip2::http::proxy::export!(Image with_types_in wasip2);

impl Guest for Image {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        match Exchange::begin(&request) {
            Ok(exchange) => exchange.run(answer),
            Err(error) => Answer::new(answer).text(502, &format!("{error:?}")),
        }
    }
}

/// A request on its way to the target.
struct Exchange {
    upload: Option<Pipe>,
    response: FutureIncomingResponse,
}

impl Exchange {
    fn begin(request: &IncomingRequest) -> Result<Self, ErrorCode> {
        let target = std::env::var("TARGET_HOST").unwrap_or_default();
        let (scheme, host) = match target.split_once("://") {
            Some(("https", host)) => (Scheme::Https, host),
            Some((_, host)) => (Scheme::Http, host),
            None => (Scheme::Http, target.as_str()),
        };
        let outgoing = OutgoingRequest::new(copied(&request.headers()));
        let parts = [
            outgoing.set_method(&request.method()),
            outgoing.set_scheme(Some(&scheme)),
            outgoing.set_authority(Some(host)),
            outgoing.set_path_with_query(request.path_with_query().as_deref()),
        ];
        if parts.iter().any(Result::is_err) {
            return Err(ErrorCode::HttpRequestUriInvalid);
        }
        let internal = |()| ErrorCode::InternalError(None);
        let upload = Pipe::new(request.consume().map_err(internal)?, outgoing.body().map_err(internal)?);
        let response = outgoing_handler::handle(outgoing, Some(options()))?;
        Ok(Self {
            upload: Some(upload),
            response,
        })
    }

    fn run(mut self, answer: ResponseOutparam) {
        let response = loop {
            if let Some(response) = self.response.get() {
                break response;
            }
            let mut waits = vec![self.response.subscribe()];
            advance(&mut self.upload, &mut waits);
            if !waits.is_empty() {
                wait(waits);
            }
        };
        let incoming = match response {
            Ok(Ok(incoming)) => incoming,
            Ok(Err(error)) => return Answer::new(answer).text(502, &format!("{error:?}")),
            Err(()) => return Answer::new(answer).text(502, "the response was taken"),
        };
        let outgoing = OutgoingResponse::new(copied(&incoming.headers()));
        let _ = outgoing.set_status_code(incoming.status());
        let (Ok(from), Ok(to)) = (incoming.consume(), outgoing.body()) else {
            return Answer::new(answer).text(502, "the response has no body");
        };
        ResponseOutparam::set(answer, Ok(outgoing));
        let mut download = Some(Pipe::new(from, to));
        while download.is_some() {
            let mut waits = Vec::new();
            advance(&mut download, &mut waits);
            if download.is_some() {
                advance(&mut self.upload, &mut waits);
                wait(waits);
            }
        }
    }
}

fn wait(pollables: Vec<Pollable>) {
    let all: Vec<&Pollable> = pollables.iter().collect();
    poll(&all);
}

/// The headers that a guest may set; those about one connection are not among them.
fn copied(headers: &Fields) -> Fields {
    let copy = Fields::new();
    for (name, value) in headers.entries() {
        let _ = copy.append(&name, &value);
    }
    copy
}

fn options() -> RequestOptions {
    let options = RequestOptions::new();
    let nanos = |name| {
        let text = std::env::var(name).ok()?;
        milliseconds(&text)?.checked_mul(1_000_000)
    };
    let _ = options.set_connect_timeout(nanos("CONNECT_TIMEOUT"));
    let _ = options.set_first_byte_timeout(nanos("FIRST_BYTE_TIMEOUT"));
    let _ = options.set_between_bytes_timeout(nanos("BETWEEN_BYTES_TIMEOUT"));
    options
}

/// Lets a pipe go on as far as it can, and says what it waits for. It is gone at its end.
fn advance(pipe: &mut Option<Pipe>, waits: &mut Vec<Pollable>) {
    let Some(going) = pipe else { return };
    match going.go_on() {
        Step::Waits(pollable) => waits.push(pollable),
        Step::Ended => {
            if let Some(pipe) = pipe.take() {
                pipe.finish();
            }
        }
        Step::Broken => *pipe = None,
    }
}

/// Carries a body.
struct Pipe {
    // Streams before what they are of: WASI wants them dropped first.
    from: InputStream,
    to: OutputStream,
    piece: Vec<u8>,
    incoming: IncomingBody,
    outgoing: OutgoingBody,
}

enum Step {
    Waits(Pollable),
    Ended,
    Broken,
}

impl Pipe {
    fn new(incoming: IncomingBody, outgoing: OutgoingBody) -> Self {
        Self {
            from: incoming.stream().expect("asked for once"),
            to: outgoing.write().expect("asked for once"),
            piece: Vec::new(),
            incoming,
            outgoing,
        }
    }

    fn go_on(&mut self) -> Step {
        loop {
            if self.piece.is_empty() {
                match self.from.read(PIECE_BYTES) {
                    Ok(piece) if piece.is_empty() => return Step::Waits(self.from.subscribe()),
                    Ok(piece) => self.piece = piece,
                    Err(StreamError::Closed) => return Step::Ended,
                    Err(StreamError::LastOperationFailed(_)) => return Step::Broken,
                }
            }
            let room = match self.to.check_write() {
                Ok(0) => return Step::Waits(self.to.subscribe()),
                Ok(room) => self.piece.len().min(usize::try_from(room).unwrap_or(usize::MAX)),
                Err(_) => return Step::Broken,
            };
            let rest = self.piece.split_off(room);
            let piece = std::mem::replace(&mut self.piece, rest);
            if self.to.write(&piece).is_err() {
                return Step::Broken;
            }
        }
    }

    fn finish(self) {
        let Self {
            from,
            to,
            incoming,
            outgoing,
            ..
        } = self;
        drop(from);
        drop(to);
        let _ = OutgoingBody::finish(outgoing, None);
        drop(incoming);
    }
}
