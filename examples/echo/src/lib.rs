//! Sends requests back to where they came from, to see what a function sees and to try streaming.
//!
//! | path | answer |
//! |---|---|
//! | `/headers` | method, path and headers of the request, one a line |
//! | `/status/418` | the status code asked for |
//! | `/drip?n=5&delay_ms=200` | n lines, one by one |
//! | any other | the request's body, chunk by chunk, then its trailers and `echo-bytes` |

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, InputStream, Method, OutgoingBody, OutgoingResponse,
    OutputStream, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

/// Bytes that one read takes at most; what has come is passed on at once, however little it is.
const CHUNK_BYTES_MAX: u64 = 64 * 1024;
/// Bytes that one `blocking_write_and_flush` takes, by WASI's rule.
const WRITE_BYTES_MAX: usize = 4096;
const DRIP_LINES_MAX: u32 = 1000;
const DRIP_DELAY_MS_MAX: u32 = 10_000;

struct Echo;

wasip2::http::proxy::export!(Echo);

impl Guest for Echo {
    fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/headers" => text(response_out, 200, &describe(&request, &target)),
            "/drip" => drip(response_out, query),
            _ => match path.strip_prefix("/status/") {
                Some(code) => status(response_out, code),
                None => echo(request, response_out),
            },
        }
    }
}

/// The request's body, forwarded as it comes: the first byte goes out before the last one is in.
fn echo(request: IncomingRequest, response_out: ResponseOutparam) {
    let headers = Fields::new();
    let content_type = request.headers().get("content-type").into_iter().next();
    let content_type = content_type.unwrap_or_else(|| b"application/octet-stream".to_vec());
    let _ = headers.set("content-type", &[content_type]);
    // Over HTTP/1.1 a server sends only those trailers that were announced.
    let _ = headers.set("trailer", &[b"echo-bytes".to_vec()]);
    let Some(answer) = Answer::start(response_out, 200, headers) else {
        return;
    };
    let Ok(body) = request.consume() else { return };
    let Ok(source) = body.stream() else { return };
    // Not finishing the answer tells the caller that it is cut short.
    let Ok(copied) = copy(&source, &answer.stream) else {
        return;
    };
    drop(source);
    let trailers = request_trailers(body);
    let _ = trailers.set("echo-bytes", &[copied.to_string().into_bytes()]);
    answer.finish(Some(trailers));
}

fn copy(source: &InputStream, sink: &OutputStream) -> Result<u64, StreamError> {
    let mut copied = 0;
    loop {
        match source.blocking_read(CHUNK_BYTES_MAX) {
            Ok(chunk) => {
                write_all(sink, &chunk)?;
                copied += chunk.len() as u64;
            }
            Err(StreamError::Closed) => return Ok(copied),
            Err(error) => return Err(error),
        }
    }
}

/// A copy of the request's trailers; empty when it has none.
fn request_trailers(body: IncomingBody) -> Fields {
    let future = IncomingBody::finish(body);
    future.subscribe().block();
    match future.get() {
        Some(Ok(Ok(Some(trailers)))) => {
            Fields::from_list(&trailers.entries()).unwrap_or_else(|_| Fields::new())
        }
        _ => Fields::new(),
    }
}

fn describe(request: &IncomingRequest, target: &str) -> String {
    let mut text = format!("{} {target}\n", method_name(&request.method()));
    if let Some(authority) = request.authority() {
        text += &format!("authority: {authority}\n");
    }
    for (name, value) in request.headers().entries() {
        text += &format!("{name}: {}\n", String::from_utf8_lossy(&value));
    }
    text
}

fn method_name(method: &Method) -> &str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => name,
    }
}

fn status(response_out: ResponseOutparam, code: &str) {
    match code.parse::<u16>() {
        Ok(204) => text(response_out, 204, ""),
        Ok(304) => text(response_out, 304, ""),
        Ok(code @ 200..=599) => text(response_out, code, &format!("status {code}\n")),
        _ => text(
            response_out,
            400,
            &format!("no status code from 200 to 599: {code:?}\n"),
        ),
    }
}

fn drip(response_out: ResponseOutparam, query: &str) {
    let (lines, delay_ms) = match (
        number(query, "n", 5, DRIP_LINES_MAX),
        number(query, "delay_ms", 200, DRIP_DELAY_MS_MAX),
    ) {
        (Ok(lines), Ok(delay_ms)) => (lines, delay_ms),
        (Err(problem), _) | (_, Err(problem)) => return text(response_out, 400, &problem),
    };
    let Some(answer) = Answer::start(response_out, 200, plain_text()) else {
        return;
    };
    for line in 1..=lines {
        if line > 1 {
            subscribe_duration(u64::from(delay_ms) * 1_000_000).block();
        }
        if write_all(&answer.stream, format!("drip {line} of {lines}\n").as_bytes()).is_err() {
            return;
        }
    }
    answer.finish(None);
}

/// The number that `name` has in the query, or `default` when it is not there.
fn number(query: &str, name: &str, default: u32, max: u32) -> Result<u32, String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let Some((_, value)) = pairs.find(|(key, _)| *key == name) else {
        return Ok(default);
    };
    match value.parse() {
        Ok(value) if value <= max => Ok(value),
        _ => Err(format!(
            "{name}: expected a number from 0 to {max}, got {value:?}\n"
        )),
    }
}

fn text(response_out: ResponseOutparam, code: u16, text: &str) {
    let Some(answer) = Answer::start(response_out, code, plain_text()) else {
        return;
    };
    if write_all(&answer.stream, text.as_bytes()).is_ok() {
        answer.finish(None);
    }
}

fn plain_text() -> Fields {
    let headers = Fields::new();
    let _ = headers.set("content-type", &[b"text/plain; charset=utf-8".to_vec()]);
    headers
}

fn write_all(sink: &OutputStream, bytes: &[u8]) -> Result<(), StreamError> {
    bytes
        .chunks(WRITE_BYTES_MAX)
        .try_for_each(|piece| sink.blocking_write_and_flush(piece))
}

/// An answer whose head is sent and whose body is being written.
struct Answer {
    // Before `body`: WASI wants the stream dropped first.
    stream: OutputStream,
    body: OutgoingBody,
}

impl Answer {
    /// Sends the head. `None`: the host did not take it, and has already been told.
    fn start(response_out: ResponseOutparam, code: u16, headers: Fields) -> Option<Self> {
        let response = OutgoingResponse::new(headers);
        if response.set_status_code(code).is_err() {
            ResponseOutparam::set(
                response_out,
                Err(ErrorCode::InternalError(Some(format!("status code {code}")))),
            );
            return None;
        }
        let body = response.body().ok()?;
        ResponseOutparam::set(response_out, Ok(response));
        let stream = body.write().ok()?;
        Some(Self { stream, body })
    }

    fn finish(self, trailers: Option<Fields>) {
        drop(self.stream);
        let _ = OutgoingBody::finish(self.body, trailers);
    }
}
