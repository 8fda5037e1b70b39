//! Lists that are read page by page: the state that the pages are cut from, and the tokens that lead through it.

use crate::handler::Call;
use crate::status::ApiError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kittiwake_store::{Key, Stored};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// States kept for clients that read page by page; the oldest goes first, and its reader gets 410.
const KEPT_MAX: usize = 64;
/// How long a state is kept.
const KEPT_AGE_MAX: Duration = Duration::from_secs(300);
/// The version that tokens carry, so that a later form can be told from this one.
const TOKEN_VERSION: &str = "kittiwake.dev/v1";
/// Longest token that is looked at, in bytes: two names of 253 bytes, a resource, and base64 around them.
const TOKEN_BYTES_MAX: usize = 2048;
/// Text of the 410 (k8s.io/apiserver `pkg/storage/etcd3/errors.go`): the token in the answer's metadata goes on.
const TOO_OLD: &str = "The provided continue parameter is too old to display a consistent list result. You can start \
    a new list without the continue parameter, or use the continue token in this response to retrieve the remainder \
    of the results. Continuing with the provided token results in an inconsistent list - objects that were created, \
    modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// All objects of a list at one resource version.
#[derive(Clone)]
pub(crate) struct Page {
    pub objects: Arc<Vec<Stored>>,
    pub resource_version: u64,
}

/// A list that is being read page by page.
struct Kept {
    id: u64,
    since: Duration,
    page: Page,
}

/// The lists that are being read page by page.
#[derive(Default)]
pub(crate) struct Snapshots(Mutex<VecDeque<Kept>>);

impl Snapshots {
    /// Keeps a state for the pages to come; the answer is its id, never 0.
    pub(crate) fn keep(&self, page: Page, now: Duration) -> u64 {
        let id = rand::random_range(1..=u64::MAX);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|entry| now.saturating_sub(entry.since) < KEPT_AGE_MAX);
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(Kept { id, since: now, page });
        id
    }

    fn find(&self, id: u64, now: Duration) -> Option<Page> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = kept.iter().find(|entry| entry.id == id)?;
        (now.saturating_sub(entry.since) < KEPT_AGE_MAX).then(|| entry.page.clone())
    }
}

/// Where the next page begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    #[serde(rename = "v")]
    version: String,
    /// The collection: resource, and namespace or nothing for all.
    #[serde(rename = "c")]
    collection: (String, String),
    /// The kept state; 0 goes on in the state as it is then, at the price of consistency.
    #[serde(rename = "s")]
    id: u64,
    /// Namespace and name of the last object that was shown.
    #[serde(rename = "a")]
    after: (String, String),
}

impl Token {
    /// The token that goes on after `last` in the kept state `id`.
    pub(crate) fn new(call: &Call, id: u64, last: &Key) -> Self {
        Self {
            version: TOKEN_VERSION.to_owned(),
            collection: collection(call),
            id,
            after: (last.namespace.to_string(), last.name.to_string()),
        }
    }

    /// The text that clients hand back.
    pub(crate) fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads a token; `None` when no server of ours made it.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        if text.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let token: Self = serde_json::from_slice(&bytes).ok()?;
        (token.version == TOKEN_VERSION).then_some(token)
    }
}

fn collection(call: &Call) -> (String, String) {
    (
        call.served.kind.storage_resource.to_string(),
        call.path.namespace.clone(),
    )
}

/// Where a page is cut.
pub(crate) struct Start {
    pub page: Page,
    /// Index of its first object.
    pub at: usize,
    /// The kept state it belongs to.
    pub kept: Option<u64>,
}

/// The page after a token. `now` is the state as it is, for tokens that gave up on consistency.
pub(crate) fn resume(
    call: &Call,
    text: &str,
    now: impl FnOnce() -> Result<Page, ApiError>,
) -> Result<Start, ApiError> {
    let invalid = |why: &str| ApiError::bad_request(format!("continue key is not valid: {why}"));
    let token = Token::decode(text).ok_or_else(|| {
        invalid("it was not made by this server; start a new list without the continue parameter")
    })?;
    if token.collection != collection(call) {
        return Err(invalid(
            "it belongs to another collection; use each token with the path that it came from",
        ));
    }
    if call
        .query
        .get("resourceVersion")
        .is_some_and(|version| version != "0")
    {
        return Err(ApiError::bad_request(
            "specifying resource version is not allowed when using continue",
        ));
    }
    let kept = Some(token.id).filter(|id| *id > 0);
    let page = match kept {
        None => now()?,
        Some(id) => {
            let found = call.server.snapshots.find(id, call.server.clock.elapsed());
            found.ok_or_else(|| {
                let next = Token {
                    id: 0,
                    ..token.clone()
                };
                ApiError::expired(TOO_OLD).with_continue(next.encode())
            })?
        }
    };
    let after = (token.after.0.as_str(), token.after.1.as_str());
    let at = page
        .objects
        .partition_point(|stored| (&*stored.key.namespace, &*stored.key.name) <= after);
    Ok(Start { page, at, kept })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn states_are_bounded_in_number_and_age() {
        let snapshots = Snapshots::default();
        let page = Page {
            objects: Arc::default(),
            resource_version: 1,
        };
        let first = snapshots.keep(page.clone(), Duration::ZERO);
        assert!(snapshots.find(first, KEPT_AGE_MAX).is_none());
        assert!(snapshots.find(first, Duration::ZERO).is_some());
        for _ in 0..KEPT_MAX {
            snapshots.keep(page.clone(), Duration::ZERO);
        }
        assert!(snapshots.find(first, Duration::ZERO).is_none());
    }

    proptest! {
        #[test]
        fn tokens_survive_the_wire(id: u64, texts in prop::collection::vec("\\PC{0,20}", 4)) {
            let [resource, namespace, a, b] = texts.try_into().unwrap();
            let token = Token { version: TOKEN_VERSION.into(), collection: (resource, namespace), id, after: (a, b) };
            let text = token.encode();
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
            prop_assert_eq!(Token::decode(&text), Some(token));
        }

        #[test]
        fn strangers_are_refused(text in "\\PC*") {
            prop_assert_eq!(Token::decode(&text), None);
        }

        #[test]
        fn a_changed_letter_is_no_other_collection(at in 0_usize..40, letter in "[A-Za-z0-9]") {
            let token = Token { version: TOKEN_VERSION.into(), collection: ("a".into(), "b".into()), id: 1, after: ("b".into(), "c".into()) };
            let mut text = token.encode();
            let at = at.min(text.len() - 1);
            text.replace_range(at..=at, &letter);
            // It may be read, but then it says what it says; nothing panics.
            let _ = Token::decode(&text);
        }
    }
}
