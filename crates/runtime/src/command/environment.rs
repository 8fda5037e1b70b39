//! What a CGI program is told of its request: in its environment (RFC 3875 §4.1) and, as WAGI does it, its arguments.

use crate::preview1::Program;
use crate::server::launch;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderMap};
use kittiwake_core::revision::RevisionSpec;

/// What a program is started with for a request whose body has `length` bytes, where that is known.
pub(super) fn program(revision: &RevisionSpec, parts: &http::request::Parts, length: Option<u64>) -> Program {
    let mut arguments = launch::arguments(revision);
    let raw_path = parts.uri.path();
    if revision.command.is_empty()
        && let Some(name) = arguments.first_mut()
    {
        raw_path.clone_into(name);
    }
    let query = parts.uri.query().unwrap_or_default();
    arguments.extend(
        query
            .split('&')
            .filter(|part| !part.is_empty())
            .map(str::to_owned),
    );
    let mut env = revision.env.clone();
    env.extend(meta_variables(parts, length));
    env.extend(header_variables(&parts.headers));
    Program {
        arguments: arguments
            .into_iter()
            .map(|argument| argument.replace('\0', ""))
            .collect(),
        env,
        expects_listener: false,
    }
}

fn meta_variables(
    parts: &http::request::Parts,
    length: Option<u64>,
) -> impl Iterator<Item = (String, String)> {
    let text = |value: Option<&http::HeaderValue>| {
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let authority = parts.uri.authority().map(ToString::to_string);
    let authority = authority.unwrap_or_else(|| text(parts.headers.get(HOST)));
    let (name, named_port) = match authority.rsplit_once(':') {
        Some((name, named)) if named.parse::<u16>().is_ok() => (name.to_owned(), named.to_owned()),
        _ => (authority.clone(), String::new()),
    };
    let scheme = text(parts.headers.get("x-forwarded-proto"));
    let scheme = if scheme.is_empty() {
        "http".to_owned()
    } else {
        scheme
    };
    let default_port = if scheme == "https" { "443" } else { "80" };
    let forwarded = text(parts.headers.get("x-forwarded-for"));
    let remote = forwarded.split(',').next().unwrap_or_default().trim().to_owned();
    let raw_path = parts.uri.path();
    let query = parts.uri.query().unwrap_or_default();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let variables = [
        ("GATEWAY_INTERFACE", "CGI/1.1".to_owned()),
        (
            "SERVER_SOFTWARE",
            concat!("kittiwake/", env!("CARGO_PKG_VERSION")).to_owned(),
        ),
        ("SERVER_PROTOCOL", "HTTP/1.1".to_owned()),
        ("SERVER_NAME", name),
        (
            "SERVER_PORT",
            if named_port.is_empty() {
                default_port.to_owned()
            } else {
                named_port
            },
        ),
        ("REQUEST_METHOD", parts.method.to_string()),
        ("SCRIPT_NAME", String::new()),
        ("PATH_INFO", decode(raw_path)),
        ("PATH_TRANSLATED", decode(raw_path)),
        ("QUERY_STRING", query.to_owned()),
        ("REMOTE_ADDR", remote.clone()),
        ("REMOTE_HOST", remote),
        ("REMOTE_USER", String::new()),
        ("AUTH_TYPE", String::new()),
        ("CONTENT_TYPE", text(parts.headers.get(CONTENT_TYPE))),
        (
            "CONTENT_LENGTH",
            length.map(|length| length.to_string()).unwrap_or_default(),
        ),
        // WAGI's own.
        ("X_FULL_URL", format!("{scheme}://{authority}{target}")),
        ("X_RAW_PATH_INFO", raw_path.to_owned()),
        ("X_MATCHED_ROUTE", "/...".to_owned()),
    ];
    variables
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.replace('\0', "")))
}

/// Header fields as `HTTP_NAME`. Not `Proxy`, which programs would take for a setting of theirs (CVE-2016-5385), and not
/// those that have a variable of their own.
fn header_variables(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .keys()
        .filter(|name| **name != CONTENT_TYPE && **name != CONTENT_LENGTH && *name != "proxy")
        .map(|name| {
            let separator = if *name == COOKIE { "; " } else { ", " };
            let values: Vec<_> = headers
                .get_all(name)
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()))
                .collect();
            let variable = name.as_str().to_ascii_uppercase().replace('-', "_");
            (format!("HTTP_{variable}"), values.join(separator))
        })
        .collect()
}

/// A path without its percent signs; what is no text then stays as it is.
fn decode(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let decoded = (*first == b'%').then(|| after.get(..2)).flatten();
        let decoded = decoded.and_then(|digits| std::str::from_utf8(digits).ok());
        let decoded = decoded.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match decoded.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kittiwake_core::revision::RevisionKey;

    #[test]
    fn a_program_is_told_of_its_request() {
        let mut revision = RevisionSpec::new(RevisionKey::new("default", "a"), "uid", "image");
        revision.env.push(("GREETING".into(), "hi".into()));
        revision.args.push("fixed".into());
        let request = http::Request::post("/a%20b/c?x=1&y&z=%20")
            .header("host", "hello.default.localhost:8081")
            .header("content-type", "text/plain")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("proxy", "evil:80")
            .header("x-forwarded-for", "1.2.3.4, 5.6.7.8")
            .header("x-color", "blue")
            .body(())
            .unwrap();
        let told = program(&revision, &request.into_parts().0, Some(5));
        assert_eq!(told.arguments, ["/a%20b/c", "fixed", "x=1", "y", "z=%20"]);
        let value = |name: &str| {
            let mut found = told.env.iter().filter(|(known, _)| known == name);
            found.next().map(|(_, value)| value.as_str())
        };
        for (name, wanted) in [
            ("GREETING", Some("hi")),
            ("REQUEST_METHOD", Some("POST")),
            ("PATH_INFO", Some("/a b/c")),
            ("X_RAW_PATH_INFO", Some("/a%20b/c")),
            ("QUERY_STRING", Some("x=1&y&z=%20")),
            ("SERVER_NAME", Some("hello.default.localhost")),
            ("SERVER_PORT", Some("8081")),
            ("CONTENT_TYPE", Some("text/plain")),
            ("CONTENT_LENGTH", Some("5")),
            ("REMOTE_ADDR", Some("1.2.3.4")),
            ("HTTP_COOKIE", Some("a=1; b=2")),
            ("HTTP_X_COLOR", Some("blue")),
            ("HTTP_PROXY", None),
            ("HTTP_CONTENT_TYPE", None),
            (
                "X_FULL_URL",
                Some("http://hello.default.localhost:8081/a%20b/c?x=1&y&z=%20"),
            ),
        ] {
            assert_eq!(value(name), wanted, "{name}");
        }
    }

    #[test]
    fn paths_are_decoded_where_they_can_be() {
        for (path, wanted) in [
            ("/a%2Fb", "/a/b"),
            ("/%", "/%"),
            ("/%4", "/%4"),
            ("/%zz", "/%zz"),
            ("/%ff", "/%ff"),
            ("/%+1", "/%+1"),
        ] {
            assert_eq!(decode(path), wanted);
        }
    }
}
