//! The request log: a line for each call, in the form that an administrator gives as a template of Go's `text/template`,
//! as far as Knative's request log needs that (serving `pkg/http/request_log.go`): values, `js`, `index` of a header.

use std::fmt::Write as _;
use std::sync::Arc;

/// Longest template, in bytes; a longer one is refused.
pub const TEMPLATE_BYTES_MAX: usize = 16 * 1024;

/// Why a text is no template of the request log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(String);

/// What an administrator wants to know of each call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLog {
    parts: Vec<Part>,
    /// Whether probes are told as well.
    pub probes: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Value { value: Value, js: bool },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Known(Known),
    /// All values of a header, as Go prints a list: `[a b]`.
    Header(String),
    /// The first value of a header.
    FirstHeader(String),
    Response(Response),
}

/// What is known when a call begins. Each is named as in Knative's template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each is named after the field of Go's http.Request or of the Revision"
)]
pub enum Known {
    Method,
    RequestUri,
    Path,
    RawQuery,
    Host,
    Proto,
    RemoteAddr,
    /// The length of the body; -1 where it is not announced.
    ContentLength,
    UserAgent,
    Referer,
    RevisionName,
    RevisionNamespace,
    Service,
    Configuration,
    PodName,
    PodIp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Response {
    Code,
    Size,
    Latency,
}

const KNOWN: [(&str, Known); 16] = [
    (".Request.Method", Known::Method),
    (".Request.RequestURI", Known::RequestUri),
    (".Request.URL.Path", Known::Path),
    (".Request.URL.RawQuery", Known::RawQuery),
    (".Request.Host", Known::Host),
    (".Request.Proto", Known::Proto),
    (".Request.RemoteAddr", Known::RemoteAddr),
    (".Request.ContentLength", Known::ContentLength),
    (".Request.UserAgent", Known::UserAgent),
    (".Request.Referer", Known::Referer),
    (".Revision.Name", Known::RevisionName),
    (".Revision.Namespace", Known::RevisionNamespace),
    (".Revision.Service", Known::Service),
    (".Revision.Configuration", Known::Configuration),
    (".Revision.PodName", Known::PodName),
    (".Revision.PodIP", Known::PodIp),
];
const RESPONSE: [(&str, Response); 3] = [
    (".Response.Code", Response::Code),
    (".Response.Size", Response::Size),
    (".Response.Latency", Response::Latency),
];

/// Where the values of one call come from.
pub trait Source {
    /// One that is known when the call begins.
    fn known(&self, value: Known) -> String;
    /// The values of a header, in order.
    fn header(&self, name: &str) -> Vec<String>;
}

/// The line of a call that has begun.
#[derive(Debug)]
pub struct Line {
    log: Arc<RequestLog>,
    /// Of each part that is no text and does not wait for the response, in order.
    known: Vec<String>,
}

impl RequestLog {
    /// Reads a template.
    ///
    /// # Errors
    /// What in it cannot be read, and what could be written instead.
    pub fn parse(template: &str, probes: bool) -> Result<Self, TemplateError> {
        if template.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError(format!(
                "it is longer than {TEMPLATE_BYTES_MAX} bytes"
            )));
        }
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once("{{") {
            let (action, after) = after
                .split_once("}}")
                .ok_or_else(|| TemplateError(format!("\"{{{{{after}\" has no \"}}}}\"")))?;
            text(&mut parts, before);
            parts.push(self::action(action)?);
            rest = after;
        }
        text(&mut parts, rest);
        Ok(Self { parts, probes })
    }

    /// Takes note of a call that begins.
    #[must_use]
    pub fn begin(self: &Arc<Self>, source: &dyn Source) -> Line {
        let known = self.parts.iter().filter_map(|part| {
            let Part::Value { value, js } = part else {
                return None;
            };
            let text = match value {
                Value::Known(value) => source.known(*value),
                Value::Header(name) => format!("[{}]", source.header(name).join(" ")),
                Value::FirstHeader(name) => source.header(name).into_iter().next().unwrap_or_default(),
                Value::Response(_) => return None,
            };
            Some(if *js { escape_js(&text) } else { text })
        });
        Line {
            known: known.collect(),
            log: Arc::clone(self),
        }
    }
}

impl Line {
    /// The line once the call has ended: its status, the bytes of its answer's body, and its time in seconds.
    #[must_use]
    pub fn end(&self, code: u16, size: u64, latency_seconds: f64) -> String {
        let mut known = self.known.iter();
        let mut line = String::new();
        for part in &self.log.parts {
            match part {
                Part::Text(text) => line.push_str(text),
                Part::Value {
                    value: Value::Response(value),
                    ..
                } => {
                    // Writing to a String cannot fail.
                    let _ = match value {
                        Response::Code => write!(line, "{code}"),
                        Response::Size => write!(line, "{size}"),
                        Response::Latency => write!(line, "{latency_seconds}"),
                    };
                }
                Part::Value { .. } => line.push_str(known.next().map_or("", String::as_str)),
            }
        }
        line
    }
}

fn text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
}

/// What stands between braces.
fn action(action: &str) -> Result<Part, TemplateError> {
    let unknown = || {
        let values: Vec<&str> = KNOWN
            .iter()
            .map(|(name, _)| *name)
            .chain(RESPONSE.iter().map(|(name, _)| *name))
            .collect();
        TemplateError(format!(
            "{{{{{action}}}}} cannot be read; there are the values {}, index .Request.Header \"NAME\", .Request.Header.Get \"NAME\", \
             and js before one of them",
            values.join(", ")
        ))
    };
    let trimmed = action.trim();
    // `js VALUE` and `VALUE | js` are the same.
    let (inner, js) = match (trimmed.strip_prefix("js "), trimmed.rsplit_once('|')) {
        (Some(inner), _) => (inner.trim(), true),
        (None, Some((inner, function))) if function.trim() == "js" => (inner.trim(), true),
        _ => (trimmed, false),
    };
    let inner = inner
        .strip_prefix('(')
        .and_then(|inner| inner.strip_suffix(')'))
        .unwrap_or(inner)
        .trim();
    let named = |prefix: &str| {
        let name = inner.strip_prefix(prefix)?.trim();
        let name = name.strip_prefix('"')?.strip_suffix('"')?;
        (!name.is_empty() && !name.contains('"')).then(|| name.to_owned())
    };
    let value = if let Some((_, known)) = KNOWN.iter().find(|(name, _)| *name == inner) {
        Value::Known(*known)
    } else if let Some((_, response)) = RESPONSE.iter().find(|(name, _)| *name == inner) {
        Value::Response(*response)
    } else if let Some(name) = named("index .Request.Header ") {
        Value::Header(name)
    } else if let Some(name) = named(".Request.Header.Get ") {
        Value::FirstHeader(name)
    } else {
        return Err(unknown());
    };
    Ok(Part::Value { value, js })
}

/// As Go's `template.JSEscapeString`: what could end a string, a tag or a line of JavaScript is written by its number.
fn escape_js(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '\'' | '"' => {
                escaped.push('\\');
                escaped.push(c);
            }
            '<' | '>' | '&' | '=' | '\0'..='\x1f' | '\x7f'..='\u{9f}' => {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "\\u{:04X}", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Call;

    impl Source for Call {
        fn known(&self, value: Known) -> String {
            match value {
                Known::Method => "GET".to_owned(),
                Known::RequestUri => "/a?b=\"c\"".to_owned(),
                Known::ContentLength => "-1".to_owned(),
                other => format!("{other:?}"),
            }
        }

        fn header(&self, name: &str) -> Vec<String> {
            match name {
                "X-Twice" => vec!["one".to_owned(), "two".to_owned()],
                _ => Vec::new(),
            }
        }
    }

    fn line(template: &str) -> String {
        let log = Arc::new(RequestLog::parse(template, false).unwrap());
        log.begin(&Call).end(204, 7, 0.25)
    }

    #[test]
    fn a_line_says_what_the_template_asks_for() {
        for (template, wanted) in [
            ("no value", "no value"),
            ("{{.Request.Method}} {{.Response.Code}}", "GET 204"),
            ("{{ .Response.Size }} in {{.Response.Latency}}s", "7 in 0.25s"),
            ("{{.Request.RequestURI}}", "/a?b=\"c\""),
            ("{{js .Request.RequestURI}}", "/a?b\\u003D\\\"c\\\""),
            ("{{.Request.RequestURI | js}}", "/a?b\\u003D\\\"c\\\""),
            ("{{index .Request.Header \"X-Twice\"}}", "[one two]"),
            ("{{index .Request.Header \"X-B3-Traceid\"}}", "[]"),
            ("{{.Request.Header.Get \"X-Twice\"}}", "one"),
            ("{{js (index .Request.Header \"X-Twice\")}}", "[one two]"),
            ("{{.Revision.Name}}/{{.Request.ContentLength}}", "RevisionName/-1"),
        ] {
            assert_eq!(line(template), wanted, "{template}");
        }
        assert_eq!(escape_js("<a\n\u{7f}é>"), "\\u003Ca\\u000A\\u007Fé\\u003E");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (template, why) in [
            ("{{.Request.Method", "has no \"}}\""),
            (
                "{{.Request.Body}}",
                "{{.Request.Body}} cannot be read; there are the values .Request.Method,",
            ),
            ("{{if .Request}}{{end}}", "{{if .Request}} cannot be read"),
            ("{{index .Request.Header}}", "cannot be read"),
            ("{{index .Request.Header \"\"}}", "cannot be read"),
            (&"x".repeat(TEMPLATE_BYTES_MAX + 1), "longer than 16384 bytes"),
        ] {
            let error = RequestLog::parse(template, false).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
