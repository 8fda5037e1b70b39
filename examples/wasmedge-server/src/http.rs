//! As much of HTTP/1.1 (RFC 9112) as a small server needs: heads by the crate `httparse`, bodies with a length and in chunks.

use httparse::{EMPTY_HEADER, Header, Status};

/// Bytes of a head, and fields in it.
const HEAD_MAX: usize = 32 * 1024;
const FIELDS_MAX: usize = 100;
/// Bytes of a body.
const BODY_MAX: usize = 1024 * 1024;

/// A request that came whole.
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    pub body: Vec<u8>,
    /// Whether the connection stays open.
    pub keep_alive: bool,
}

/// What the bytes that came are.
pub enum Parsed {
    /// A request, and how many bytes it has.
    Whole { request: Request, length: usize },
    /// The beginning of one.
    Partial,
    /// No request, and what to answer before closing.
    Bad(Response),
}

/// Looks at the bytes that came.
pub fn parse(received: &[u8]) -> Parsed {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    let start = match head.parse(received) {
        Ok(Status::Complete(start)) => start,
        Ok(Status::Partial) if received.len() < HEAD_MAX => return Parsed::Partial,
        Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => return bad(431, "the head is too large"),
        Err(error) => return bad(400, &format!("this is no request: {error}")),
    };
    let rest = &received[start..];
    let chunked = field(head.headers, "transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    let body = match field(head.headers, "content-length") {
        _ if chunked => read_chunks(rest),
        None => Ok(Some((Vec::new(), 0))),
        Some(text) => match text.parse() {
            Ok(length) if length > BODY_MAX => Err(413),
            Ok(length) => Ok(rest.get(..length).map(|body| (body.to_vec(), length))),
            Err(_) => Err(400),
        },
    };
    let (body, length) = match body {
        Ok(Some(body)) => body,
        Ok(None) => return Parsed::Partial,
        Err(413) => return bad(413, &format!("the body has more than {BODY_MAX} bytes")),
        Err(status) => return bad(status, "the body's length cannot be told"),
    };
    let (path, query) = head.path.unwrap_or("/").split_once('?').unwrap_or((head.path.unwrap_or("/"), ""));
    let connection = field(head.headers, "connection").unwrap_or_default().to_ascii_lowercase();
    let request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        body,
        // HTTP/1.0 closes.
        keep_alive: head.version == Some(1) && !connection.contains("close"),
    };
    Parsed::Whole { request, length: start + length }
}

fn field<'a>(fields: &'a [Header<'a>], name: &str) -> Option<&'a str> {
    let found = fields.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(found.value).ok()
}

/// A body in chunks and how many bytes it takes with their sizes; `None` while its end is missing.
fn read_chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, u16> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let (size_length, size) = match httparse::parse_chunk_size(&bytes[at..]) {
            Ok(Status::Complete(found)) => found,
            Ok(Status::Partial) => return Ok(None),
            Err(_) => return Err(400),
        };
        at += size_length;
        let size = usize::try_from(size).ok().filter(|size| body.len() + size <= BODY_MAX).ok_or(413_u16)?;
        if size == 0 {
            return end_of_trailers(&bytes[at..]).map(|end| end.map(|length| (body, at + length)));
        }
        let Some(chunk) = bytes.get(at..at + size + 2) else {
            return Ok(None);
        };
        body.extend(&chunk[..size]);
        at += size + 2;
    }
}

/// Bytes up to the empty line that ends a body in chunks.
fn end_of_trailers(bytes: &[u8]) -> Result<Option<usize>, u16> {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    match httparse::parse_headers(bytes, &mut fields) {
        Ok(Status::Complete((length, _))) => Ok(Some(length)),
        Ok(Status::Partial) if bytes.len() < HEAD_MAX => Ok(None),
        _ => Err(400),
    }
}

/// An answer.
pub struct Response {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

impl Response {
    /// One of text.
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain", body: text.into().into_bytes() }
    }

    /// What is sent.
    pub fn into_bytes(self, closes: bool) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            413 => "Content Too Large",
            431 => "Request Header Fields Too Large",
            _ => "",
        };
        let connection = if closes { "connection: close\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: {}\r\ncontent-length: {}\r\n{connection}\r\n",
            self.status,
            self.content_type,
            self.body.len()
        );
        let mut bytes = head.into_bytes();
        bytes.extend(self.body);
        bytes
    }
}

fn bad(status: u16, text: &str) -> Parsed {
    Parsed::Bad(Response::text(status, format!("{text}\n")))
}
