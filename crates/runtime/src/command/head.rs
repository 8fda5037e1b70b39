//! What a CGI program prints before its body (RFC 3875 §6).

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};

/// Longest head, in bytes.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The head of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Where the body begins.
    pub body_at: usize,
}

/// Why an output is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    /// A line is no header.
    #[error(
        "its output does not begin with CGI headers: line {line} is {text:?}; print header lines, an empty line, then the body"
    )]
    NoHeader { line: usize, text: String },
    /// The status is none.
    #[error(
        "its Status header is {0:?}; print a number from 200 to 599 and a reason, as in `Status: 404 Not Found`"
    )]
    Status(String),
    /// There is no end.
    #[error("its headers have no end within {HEAD_BYTES_MAX} bytes; print an empty line after them")]
    TooLong,
    /// There is nothing but the empty line.
    #[error("its output has no header; print at least Content-Type, Location or Status")]
    Empty,
}

/// Reads a head; `None` when it has not come whole yet.
pub(crate) fn parse(output: &[u8]) -> Result<Option<Head>, HeadError> {
    let mut status = None;
    let mut headers = HeaderMap::new();
    let mut at = 0;
    for number in 1.. {
        let rest = output.get(at..).unwrap_or_default();
        let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
            break;
        };
        let line = rest.get(..length).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        at += length + 1;
        if at > HEAD_BYTES_MAX {
            return Err(HeadError::TooLong);
        }
        if line.is_empty() {
            if status.is_none() && headers.is_empty() {
                return Err(HeadError::Empty);
            }
            let redirects = headers.contains_key(LOCATION);
            let default = if redirects {
                StatusCode::FOUND
            } else {
                StatusCode::OK
            };
            return Ok(Some(Head {
                status: status.unwrap_or(default),
                headers,
                body_at: at,
            }));
        }
        let (name, value) = header(line).ok_or_else(|| HeadError::NoHeader {
            line: number,
            text: String::from_utf8_lossy(line).chars().take(80).collect(),
        })?;
        if name == "status" {
            status = Some(parse_status(&value)?);
        } else {
            headers.append(name, value);
        }
    }
    if output.len() > HEAD_BYTES_MAX {
        return Err(HeadError::TooLong);
    }
    Ok(None)
}

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(line.get(..colon)?).ok()?;
    let value = line.get(colon + 1..)?.trim_ascii();
    Some((name, HeaderValue::from_bytes(value).ok()?))
}

/// A final status: programs cannot send those of 1xx, which have no body.
fn parse_status(value: &HeaderValue) -> Result<StatusCode, HeadError> {
    let bad = || HeadError::Status(String::from_utf8_lossy(value.as_bytes()).into_owned());
    let number = value
        .as_bytes()
        .split(|byte| *byte == b' ')
        .next()
        .ok_or_else(bad)?;
    let status = StatusCode::from_bytes(number).map_err(|_| bad())?;
    let is_final = (200..600).contains(&status.as_u16());
    is_final.then_some(status).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn status(output: &str) -> Result<Option<u16>, HeadError> {
        parse(output.as_bytes()).map(|head| head.map(|head| head.status.as_u16()))
    }

    #[test]
    fn answers_are_read_as_the_rfc_has_them() {
        for (output, wanted) in [
            ("Content-Type: text/plain\n\nhello", Some(200)),
            ("content-type: text/plain\r\n\r\nhello", Some(200)),
            ("Status: 404 Not Found\nContent-Type: a/b\n\n", Some(404)),
            ("Status: 201\n\n", Some(201)),
            ("Location: /elsewhere\n\n", Some(302)),
            ("Location: /made\nStatus: 201 Created\n\n", Some(201)),
            ("Content-Type: text/plain\n", None),
            ("Content-", None),
            ("", None),
        ] {
            assert_eq!(status(output), Ok(wanted), "{output:?}");
        }
        let head = parse(b"A: 1\nA: 2\n\nrest").unwrap().unwrap();
        assert_eq!(head.headers.get_all("a").iter().count(), 2);
        assert_eq!(head.body_at, 11);
    }

    #[test]
    fn what_is_no_answer_is_named() {
        for (output, word) in [
            ("hello, world\n", "line 1"),
            ("A: b\nhello\n\n", "line 2"),
            ("Status: fine\n\n", "fine"),
            ("Status: 101 Switching\n\n", "101"),
            ("\nhello", "no header"),
        ] {
            let error = status(output).unwrap_err().to_string();
            assert!(error.contains(word), "{output:?}: {error}");
        }
        assert_eq!(status(&"A: b\n".repeat(20_000)), Err(HeadError::TooLong));
        assert_eq!(status(&"x".repeat(HEAD_BYTES_MAX + 1)), Err(HeadError::TooLong));
    }

    proptest! {
        #[test]
        fn nothing_that_a_program_prints_is_too_much(output in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Some(head)) = parse(&output) {
                prop_assert!(head.body_at <= output.len());
            }
        }

        #[test]
        fn a_head_is_the_same_however_it_comes(
            headers in proptest::collection::vec(("[a-z]{1,8}", "[ -~]{0,20}"), 1..5),
            body in "[a-z\n]{0,20}",
            cut in 0_usize..100,
        ) {
            let mut output: String = headers.iter().map(|(name, value)| format!("x-{name}:{value}\n")).collect();
            output.push('\n');
            let body_at = output.len();
            output.push_str(&body);
            let head = parse(output.as_bytes()).unwrap().unwrap();
            prop_assert_eq!(head.body_at, body_at);
            prop_assert_eq!(head.headers.len(), headers.len());
            if cut < body_at {
                prop_assert_eq!(parse(&output.as_bytes()[..cut]), Ok(None));
            }
        }
    }
}
