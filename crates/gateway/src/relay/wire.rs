//! What two processes say of a call beside the call itself, in headers that nobody else gets to see.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response, Version};
use hyper::body::Incoming;
use kittiwake_core::artifact::PrepareError;
use kittiwake_core::body::{self, Body};
use kittiwake_core::code::ErrorCode;
use kittiwake_core::inside::Hops;
use kittiwake_core::invoke::{CallReport, InvokeError};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What who takes a connection says first.
pub(super) const GREETING: u8 = b'+';
/// Header fields of a message: those that clients may send, and what is added on the way.
pub(super) const HEADERS_MAX: usize = 512;
/// Size of a head: far more than a client or a function can send.
pub(super) const HEAD_BYTES_MAX: u32 = 1 << 20;
/// Bytes of one call that wait on the way, each direction; then its sender waits.
pub(super) const STREAM_WINDOW_BYTES: u32 = 64 << 10;
/// Bytes of all calls of a connection that wait on the way: the most that HTTP/2 has, so that no call ever waits because
/// others are not read.
pub(super) const WINDOW_BYTES: u32 = (1 << 31) - 1;
/// Calls that one connection carries at a time at most: as many as have room in [`WINDOW_BYTES`].
pub(super) const STREAMS_MAX: u32 = WINDOW_BYTES / STREAM_WINDOW_BYTES;
/// Longest message of a failure; a longer one is cut.
const MESSAGE_CHARS_MAX: usize = 4096;

/// Of a request: the uid of the revision.
const UID: HeaderName = HeaderName::from_static("kittiwake-relay-uid");
/// Of a request: microseconds since it came in.
const AGE: HeaderName = HeaderName::from_static("kittiwake-relay-age");
/// Of a request: functions that it came through.
const HOPS: HeaderName = HeaderName::from_static("kittiwake-relay-hops");
/// Of an answer: what it is. Of a request: that it is [`watch`].
const KIND: HeaderName = HeaderName::from_static("kittiwake-relay-kind");
/// Of an answer of the function: where the time went.
const REPORT: HeaderName = HeaderName::from_static("kittiwake-relay-report");
/// Of an answer that is none of the function: why, as JSON in Base64. Not in a body, which answers to HEAD have not.
const FAILURE: HeaderName = HeaderName::from_static("kittiwake-relay-failure");
const ALL: [HeaderName; 6] = [UID, AGE, HOPS, KIND, REPORT, FAILURE];

const WATCH: HeaderValue = HeaderValue::from_static("watch");
const ANSWERED: HeaderValue = HeaderValue::from_static("answered");
const FAILED: HeaderValue = HeaderValue::from_static("failed");
const STALLED: HeaderValue = HeaderValue::from_static("stalled");
const UNSWITCHED: HeaderValue = HeaderValue::from_static("unswitched");
const REFUSED: HeaderValue = HeaderValue::from_static("refused");

/// What is said of a call that is passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) uid: String,
    pub(super) age: Duration,
    pub(super) hops: Hops,
}

impl Asked {
    /// Says it. What a client may have written in its place is gone.
    pub(super) fn put(&self, headers: &mut HeaderMap) {
        strip(headers);
        // A uid that is no text for a header is no uid: the other side refuses.
        if let Ok(uid) = HeaderValue::from_str(&self.uid) {
            headers.insert(UID, uid);
        }
        let age = u64::try_from(self.age.as_micros()).unwrap_or(u64::MAX);
        headers.insert(AGE, age.into());
        headers.insert(HOPS, self.hops.0.into());
    }

    /// Takes it out of a request.
    pub(super) fn take(headers: &mut HeaderMap) -> Option<Self> {
        let uid = headers.remove(UID)?.to_str().ok()?.to_owned();
        let age = number(&headers.remove(AGE)?)?;
        let hops = number(&headers.remove(HOPS)?)?;
        Some(Self {
            uid,
            age: Duration::from_micros(age),
            hops: Hops(u32::try_from(hops).ok()?),
        })
    }
}

/// Asks to be told when the other side ends. It is answered then, while calls are still taken: who sends calls goes elsewhere
/// with the next one and closes the connection after the last. So none is on its way when HTTP/2 says that it goes away: what
/// crosses that word is lost, and nobody knows whether it was read.
pub(super) fn watch() -> Request<Body> {
    let mut request = Request::new(body::empty());
    *request.version_mut() = Version::HTTP_11;
    request.headers_mut().insert(KIND, WATCH);
    request
}

/// Whether a request is [`watch`].
pub(super) fn is_watch(headers: &HeaderMap) -> bool {
    headers.get(KIND).is_some_and(|kind| kind == WATCH)
}

/// The answer to [`watch`].
pub(super) fn leaving() -> Response<Body> {
    only(WATCH)
}

/// Removes all that only the two processes say.
pub(super) fn strip(headers: &mut HeaderMap) {
    for name in &ALL {
        headers.remove(name);
    }
}

fn number(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.parse().ok()
}

/// Marks an answer as one of the function.
pub(super) fn answered(headers: &mut HeaderMap, report: CallReport) {
    strip(headers);
    headers.insert(KIND, ANSWERED);
    let micros = |time: Duration| time.as_micros();
    let cold = report
        .cold_start
        .map(micros)
        .map_or_else(String::new, |cold| cold.to_string());
    let (queued, instantiated) = (micros(report.queued), micros(report.instantiated));
    let text = format!("{cold},{queued},{instantiated},{}", u8::from(report.reused));
    if let Ok(text) = HeaderValue::try_from(text) {
        headers.insert(REPORT, text);
    }
}

fn report(value: &HeaderValue) -> Option<CallReport> {
    let micros = |text: &str| text.parse().ok().map(Duration::from_micros);
    let mut parts = value.to_str().ok()?.split(',');
    Some(CallReport {
        cold_start: micros(parts.next()?),
        queued: micros(parts.next()?)?,
        instantiated: micros(parts.next()?)?,
        reused: parts.next()? == "1",
    })
}

/// The client sent nothing for too long while the function waited for it.
pub(super) fn stalled() -> Response<Body> {
    only(STALLED)
}

/// The function says that it goes on with another protocol, and does not or was not asked to.
pub(super) fn unswitched() -> Response<Body> {
    only(UNSWITCHED)
}

/// This process has no instance of that revision, and may have none.
pub(super) fn refused() -> Response<Body> {
    only(REFUSED)
}

/// There is no answer of the function.
pub(super) fn failed(error: &InvokeError) -> Response<Body> {
    let mut answer = only(FAILED);
    // Text and numbers are always JSON, and Base64 always fits a header.
    let text = serde_json::to_vec(&Failure::from(error)).unwrap_or_default();
    if let Ok(text) = HeaderValue::try_from(BASE64.encode(text)) {
        answer.headers_mut().insert(FAILURE, text);
    }
    answer
}

fn failure(value: &HeaderValue) -> Option<InvokeError> {
    let text = BASE64.decode(value).ok()?;
    serde_json::from_slice::<Failure>(&text)
        .ok()
        .map(InvokeError::from)
}

fn only(kind: HeaderValue) -> Response<Body> {
    let mut answer = Response::new(body::empty());
    answer.headers_mut().insert(KIND, kind);
    answer
}

/// What came back of a call that was passed on.
#[derive(Debug)]
pub(super) enum Back {
    /// The function's answer, with its [`CallReport`] in the extensions.
    Answered(Response<Incoming>),
    Failed(InvokeError),
    Stalled,
    Unswitched,
    Refused,
}

/// Understands what came back.
pub(super) fn understand(mut answer: Response<Incoming>) -> Back {
    let kind = answer.headers_mut().remove(KIND);
    let said = answer.headers_mut().remove(REPORT);
    match kind {
        Some(kind) if kind == ANSWERED => {
            if let Some(report) = said.as_ref().and_then(report) {
                answer.extensions_mut().insert(report);
            }
            Back::Answered(answer)
        }
        Some(kind) if kind == STALLED => Back::Stalled,
        Some(kind) if kind == UNSWITCHED => Back::Unswitched,
        Some(kind) if kind == REFUSED => Back::Refused,
        Some(kind) if kind == FAILED => {
            let failure = answer.headers().get(FAILURE).and_then(failure);
            Back::Failed(failure.unwrap_or_else(|| {
                InvokeError::Internal("another worker says no failure that is known here".to_owned())
            }))
        }
        _ => Back::Failed(InvokeError::Internal(
            "what another worker says is not understood".to_owned(),
        )),
    }
}

/// An [`InvokeError`] on its way.
#[derive(Debug, Serialize, Deserialize)]
enum Failure {
    Trapped(String),
    TimedOut,
    NoResponse,
    BadGateway(String),
    BodyTooLarge,
    Overloaded {
        retry_after: Duration,
    },
    NotStarted {
        code: String,
        message: String,
        exit_code: Option<i32>,
    },
    Internal(String),
}

/// A message, cut so that it surely arrives.
fn cut(text: &str) -> String {
    text.chars().take(MESSAGE_CHARS_MAX).collect()
}

impl From<&InvokeError> for Failure {
    fn from(error: &InvokeError) -> Self {
        match error {
            InvokeError::Trapped(why) => Self::Trapped(cut(why)),
            InvokeError::TimedOut => Self::TimedOut,
            InvokeError::NoResponse => Self::NoResponse,
            InvokeError::BadGateway(why) => Self::BadGateway(cut(why)),
            InvokeError::BodyTooLarge => Self::BodyTooLarge,
            InvokeError::Overloaded { retry_after } => Self::Overloaded {
                retry_after: *retry_after,
            },
            InvokeError::NotStarted(error) => Self::NotStarted {
                code: error.code.as_str().to_owned(),
                message: cut(&error.message),
                exit_code: error.exit_code,
            },
            InvokeError::Internal(why) => Self::Internal(cut(why)),
        }
    }
}

impl From<Failure> for InvokeError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Trapped(why) => Self::Trapped(why),
            Failure::TimedOut => Self::TimedOut,
            Failure::NoResponse => Self::NoResponse,
            Failure::BadGateway(why) => Self::BadGateway(why),
            Failure::BodyTooLarge => Self::BodyTooLarge,
            Failure::Overloaded { retry_after } => Self::Overloaded { retry_after },
            Failure::NotStarted {
                code,
                message,
                exit_code,
            } => {
                let known = ErrorCode::ALL.iter().find(|known| known.as_str() == code);
                Self::NotStarted(PrepareError {
                    code: known.copied().unwrap_or(ErrorCode::Internal),
                    message,
                    exit_code,
                    // The message names it; only the controllers ask for more.
                    sidecar: None,
                })
            }
            Failure::Internal(why) => Self::Internal(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_said_of_a_call_arrives_and_no_client_says_it() {
        let asked = Asked {
            uid: "b1946ac9-2492-4d23-8c1d-0e5e9a5b0f2a".to_owned(),
            age: Duration::from_micros(1_234_567),
            hops: Hops(3),
        };
        let mut headers = HeaderMap::new();
        for name in &ALL {
            headers.append(name, HeaderValue::from_static("a client's"));
            headers.append(name, HeaderValue::from_static("twice"));
        }
        headers.insert("x-other", HeaderValue::from_static("stays"));
        asked.put(&mut headers);
        assert_eq!(headers.get_all(UID).iter().count(), 1);
        assert_eq!(Asked::take(&mut headers), Some(asked));
        assert_eq!(headers.len(), 1);
        assert_eq!(Asked::take(&mut headers), None);
    }

    #[test]
    fn reports_arrive() {
        for sent in [
            CallReport::default(),
            CallReport {
                cold_start: Some(Duration::from_micros(250)),
                queued: Duration::from_secs(3),
                instantiated: Duration::from_micros(20),
                reused: true,
            },
        ] {
            let mut headers = HeaderMap::new();
            answered(&mut headers, sent);
            assert_eq!(report(&headers[REPORT]), Some(sent));
        }
    }

    #[test]
    fn failures_arrive_as_they_were() {
        let not_started = PrepareError {
            exit_code: Some(3),
            ..PrepareError::new(ErrorCode::StartFailed, "é\n\"quoted\"")
        };
        for error in [
            InvokeError::Trapped("t".into()),
            InvokeError::TimedOut,
            InvokeError::NoResponse,
            InvokeError::BadGateway("b".into()),
            InvokeError::BodyTooLarge,
            InvokeError::Overloaded {
                retry_after: Duration::from_millis(1500),
            },
            InvokeError::NotStarted(not_started),
            InvokeError::Internal("i".into()),
        ] {
            let back = failure(&failed(&error).headers()[FAILURE]).unwrap();
            assert_eq!(format!("{back:?}"), format!("{error:?}"));
        }
        let long = failed(&InvokeError::Trapped("\u{1}".repeat(1 << 20)));
        assert!(long.headers()[FAILURE].len() < HEAD_BYTES_MAX as usize / 8);
    }

    proptest! {
        #[test]
        fn anything_is_read(text in "[ -~]{0,40}", uid in "[ -~]{0,40}", age in "[ -~]{0,20}") {
            let value = |text: &str| HeaderValue::from_str(text).unwrap();
            let _ = (report(&value(&text)), failure(&value(&text)), failure(&value(&BASE64.encode(&text))));
            let mut headers: HeaderMap = [(UID, value(&uid)), (AGE, value(&age)), (HOPS, value(&text))].into_iter().collect();
            let _ = Asked::take(&mut headers);
        }
    }
}
