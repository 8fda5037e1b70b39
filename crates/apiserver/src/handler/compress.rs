//! The body of a reply on its way out: gzip for long ones, none for HEAD. Ten thousand Services are megabytes of JSON
//! that shrink to a twentieth (k8s.io/apiserver `pkg/endpoints/handlers/responsewriters/writers.go`).

use axum::body::Body;
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, VARY};
use http::{HeaderMap, HeaderValue};
use http_body::Body as _;
use http_body_util::BodyExt;
use std::io::Write;

/// Shortest reply that is compressed, in bytes.
const REPLY_BYTES_MIN: u64 = 128 * 1024;

/// Whether a client reads gzip (`Accept-Encoding`).
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter();
    let mut codings = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings.any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"))
            && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// The response, compressed where that pays. Streams are left alone: their length is not known.
pub(crate) async fn compress(response: Response) -> Response {
    let length = response.body().size_hint().exact().unwrap_or(0);
    if length <= REPLY_BYTES_MIN || response.headers().contains_key(CONTENT_ENCODING) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    // A body of known length is in memory already: this neither waits nor fails.
    let Ok(whole) = body.collect().await else {
        return Response::from_parts(head, Body::empty());
    };
    let bytes = whole.to_bytes();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let packed = encoder.write_all(&bytes).and_then(|()| encoder.finish());
    let Ok(packed) = packed else {
        return Response::from_parts(head, bytes.into());
    };
    set_gzip(&mut head.headers);
    Response::from_parts(head, packed.into())
}

/// The same for a body that is made piece by piece.
pub(crate) struct GzipPieces<P> {
    pieces: P,
    /// `None` once the end is written.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl<P: Iterator<Item = Vec<u8>>> GzipPieces<P> {
    /// The pieces, compressed as one stream.
    pub(crate) fn new(pieces: P) -> Self {
        let encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
        Self { pieces, encoder }
    }
}

impl<P: Iterator<Item = Vec<u8>>> Iterator for GzipPieces<P> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let encoder = self.encoder.as_mut()?;
        // Writing to memory cannot fail.
        match self.pieces.next() {
            Some(piece) => {
                encoder.write_all(&piece).ok()?;
                Some(std::mem::take(encoder.get_mut()))
            }
            None => self.encoder.take()?.finish().ok(),
        }
    }
}

/// Says that a body is compressed.
pub(crate) fn set_gzip(headers: &mut HeaderMap) {
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
}

/// The reply to HEAD: what GET would get, without the body. Dropping it also ends a watch that nobody would read.
pub(crate) fn head_only(response: Response) -> Response {
    let length = response.body().size_hint().exact();
    let mut response = response.map(|_| Body::empty());
    if let Some(length) = length {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_must_be_asked_for() {
        for (given, wanted) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("br", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, given.parse().unwrap())]);
            assert_eq!(accepts_gzip(&headers), wanted, "{given}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
