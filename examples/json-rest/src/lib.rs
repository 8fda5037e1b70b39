//! A small JSON API: a price list and quotes for baskets. `api.rs` decides what to answer and knows nothing of
//! WASI, so `cargo test` tries it natively; this file reads the request and writes the answer.

mod api;

use api::{Answer, Request};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

/// Longer bodies are refused with 413.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes that one `blocking_write_and_flush` takes, by WASI's rule.
const WRITE_BYTES_MAX: usize = 4096;

struct JsonRest;

wasip2::http::proxy::export!(JsonRest);

impl Guest for JsonRest {
    fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
        let method = method_name(request.method());
        let target = request.path_with_query().unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        let answer = match read_body(&request) {
            Ok(body) => api::answer(&Request {
                method: &method,
                path,
                body: &body,
            }),
            Err(answer) => answer,
        };
        send(response_out, &answer);
    }
}

fn read_body(request: &IncomingRequest) -> Result<Vec<u8>, Answer> {
    let unreadable = || Answer::error(400, "the request's body could not be read");
    let incoming = request.consume().map_err(|()| unreadable())?;
    let stream = incoming.stream().map_err(|()| unreadable())?;
    let mut body = Vec::new();
    loop {
        match stream.blocking_read(BODY_BYTES_MAX as u64) {
            Ok(chunk) => body.extend_from_slice(&chunk),
            Err(StreamError::Closed) => return Ok(body),
            Err(StreamError::LastOperationFailed(_)) => return Err(unreadable()),
        }
        if body.len() > BODY_BYTES_MAX {
            return Err(Answer::error(
                413,
                &format!("the body may have {BODY_BYTES_MAX} bytes at most"),
            ));
        }
    }
}

fn method_name(method: Method) -> String {
    match method {
        Method::Get => "GET".to_owned(),
        Method::Head => "HEAD".to_owned(),
        Method::Post => "POST".to_owned(),
        Method::Put => "PUT".to_owned(),
        Method::Delete => "DELETE".to_owned(),
        Method::Connect => "CONNECT".to_owned(),
        Method::Options => "OPTIONS".to_owned(),
        Method::Trace => "TRACE".to_owned(),
        Method::Patch => "PATCH".to_owned(),
        Method::Other(name) => name,
    }
}

fn send(response_out: ResponseOutparam, answer: &Answer) {
    let headers = Fields::new();
    let _ = headers.set("content-type", &[b"application/json".to_vec()]);
    if let Some(allow) = answer.allow {
        let _ = headers.set("allow", &[allow.as_bytes().to_vec()]);
    }
    let response = OutgoingResponse::new(headers);
    let _ = response.set_status_code(answer.status);
    let Ok(body) = response.body() else { return };
    ResponseOutparam::set(response_out, Ok(response));

    // From here on the caller may go away at any time; there is nobody left to tell, so errors end the work.
    let Ok(stream) = body.write() else { return };
    let text = format!("{}\n", answer.body);
    let written = text
        .as_bytes()
        .chunks(WRITE_BYTES_MAX)
        .try_for_each(|piece| stream.blocking_write_and_flush(piece));
    drop(stream);
    if written.is_ok() {
        let _ = OutgoingBody::finish(body, None);
    }
}
