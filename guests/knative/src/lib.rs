//! What the look-alikes share: a request, an answer, and the clock.
//!
//! Each image in `images/` does what the image of that name in knative/serving's `test/test_images` does, as far as its
//! tests see it, and answers through `wasi:http`.

pub mod info;
pub mod work;

pub use wasip2;
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::exports::http::incoming_handler::{IncomingRequest, ResponseOutparam};
use wasip2::http::types::{ErrorCode, Fields, Method, OutgoingBody, OutgoingResponse, OutputStream};

/// Bytes that one `blocking_write_and_flush` takes, by WASI's rule.
const WRITE_BYTES_MAX: usize = 4096;

/// Makes the component of a function that takes a [`Request`] and an [`Answer`].
#[macro_export]
macro_rules! image {
    ($handle:path) => {
        struct Image;
        impl $crate::wasip2::exports::http::incoming_handler::Guest for Image {
            fn handle(
                request: $crate::wasip2::exports::http::incoming_handler::IncomingRequest,
                answer: $crate::wasip2::exports::http::incoming_handler::ResponseOutparam,
            ) {
                $handle(&$crate::Request::new(&request), $crate::Answer::new(answer));
            }
        }
        $crate::wasip2::http::proxy::export!(Image with_types_in $crate::wasip2);
    };
}

/// What was asked.
pub struct Request {
    /// Such as `GET`.
    pub method: String,
    /// Path with query, as sent.
    pub uri: String,
    /// The host, from the authority.
    pub host: String,
    /// The headers, in order.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// Reads all of a request but its body.
    #[must_use]
    pub fn new(request: &IncomingRequest) -> Self {
        let headers = request.headers().entries().into_iter();
        Self {
            method: method_name(&request.method()).to_owned(),
            uri: request.path_with_query().unwrap_or_default(),
            host: request.authority().unwrap_or_default(),
            headers: headers
                .map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned()))
                .collect(),
        }
    }

    /// The path alone.
    #[must_use]
    pub fn path(&self) -> &str {
        self.uri.split_once('?').map_or(&self.uri, |(path, _)| path)
    }

    /// The first value of a name in the query; percent encoding is left as it is.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.uri.split_once('?')?;
        let mut pairs = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }
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

/// The answer to a request, not yet begun.
pub struct Answer(ResponseOutparam);

/// An answer whose head is sent.
pub struct Body {
    // Before `body`: WASI wants the stream dropped first.
    stream: OutputStream,
    body: OutgoingBody,
}

impl Answer {
    /// Where the answer goes.
    #[must_use]
    pub fn new(to: ResponseOutparam) -> Self {
        Self(to)
    }

    /// A whole answer of plain text.
    pub fn text(self, status: u16, text: &str) {
        if let Some(mut body) = self.begin(status, "text/plain; charset=utf-8") {
            body.write(text.as_bytes());
            body.finish();
        }
    }

    /// Sends status and headers. `None`: the host did not take them, and has been told.
    #[must_use]
    pub fn begin(self, status: u16, content_type: &str) -> Option<Body> {
        let headers = Fields::new();
        let _ = headers.set("content-type", &[content_type.as_bytes().to_vec()]);
        let response = OutgoingResponse::new(headers);
        if response.set_status_code(status).is_err() {
            ResponseOutparam::set(self.0, Err(ErrorCode::InternalError(None)));
            return None;
        }
        let body = response.body().ok()?;
        ResponseOutparam::set(self.0, Ok(response));
        let stream = body.write().ok()?;
        Some(Body { stream, body })
    }
}

impl Body {
    /// Sends bytes. A caller who has gone away is nobody to tell, so errors are dropped.
    pub fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(WRITE_BYTES_MAX) {
            if self.stream.blocking_write_and_flush(piece).is_err() {
                return;
            }
        }
    }

    /// Ends the answer.
    pub fn finish(self) {
        drop(self.stream);
        let _ = OutgoingBody::finish(self.body, None);
    }
}

/// Waits.
pub fn sleep_ms(milliseconds: u64) {
    subscribe_duration(milliseconds.saturating_mul(1_000_000)).block();
}
