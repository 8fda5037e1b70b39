//! Answering the authority's HTTP-01 challenges (RFC 8555 §8.3).

use crate::response;
use http::{Response, StatusCode};
use kittiwake_core::body::Body;

/// Where the authority asks, with a token after it.
const PATH: &str = "/.well-known/acme-challenge/";
/// Longest token; Let's Encrypt's have 43 characters.
const TOKEN_BYTES_MAX: usize = 256;

/// The token that a request target asks about, if it is a challenge.
pub(crate) fn token(target: &str) -> Option<&str> {
    let token = target.strip_prefix(PATH)?;
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_token = !token.is_empty() && token.len() <= TOKEN_BYTES_MAX && token.bytes().all(is_base64url);
    is_token.then_some(token)
}

/// The answer for a token: the key authorization (§8.1). It is given for any token; what it proves, that whoever has
/// the account's key answers here, is true of all.
pub(crate) fn answer(token: &str, thumbprint: &str) -> Response<Body> {
    response::exactly(StatusCode::OK, format!("{token}.{thumbprint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tokens_are_answered() {
        for (target, wanted) in [
            ("/.well-known/acme-challenge/aB-_9", Some("aB-_9")),
            ("/.well-known/acme-challenge/", None),
            ("/.well-known/acme-challenge/a/b", None),
            ("/.well-known/acme-challenge/a?b", None),
            ("/.well-known/acme-challenge/<script>", None),
            ("/", None),
        ] {
            assert_eq!(token(target), wanted, "{target}");
        }
        let long = format!("{PATH}{}", "a".repeat(TOKEN_BYTES_MAX + 1));
        assert_eq!(token(&long), None);
    }
}
