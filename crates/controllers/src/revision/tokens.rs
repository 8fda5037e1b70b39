//! Tokens of ServiceAccounts in projected volumes: asked for through the API, kept, and renewed before they end
//! (kubernetes `pkg/kubelet/token/token_manager.go`).

use super::references;
use crate::object::ObjectKey;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ServiceAccount, ServiceAccountTokenProjection};
use kittiwake_api::serving::Revision;
use kube::api::PostParams;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Life of a token where the projection does not say (the default of its `expirationSeconds`).
const SECONDS_DEFAULT: i64 = 3600;
/// A token is renewed when this share of its life has passed, in percent.
const RENEWED_PERCENT: i64 = 80;
/// A token is renewed after this long in any case.
const AGE_MAX: SignedDuration = SignedDuration::from_hours(24);
/// Pause after the API gave no token.
const RETRY: SignedDuration = SignedDuration::from_secs(10);

/// The tokens of all Revisions.
#[derive(Default)]
pub struct Tokens(Mutex<HashMap<ObjectKey, HashMap<Asked, Known>>>);

/// What is asked of the API.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Asked {
    account: String,
    /// Empty: the API itself.
    audience: String,
    seconds: i64,
}

/// What came of it.
#[derive(Debug, Clone)]
struct Known {
    token: Option<Token>,
    /// Why there is no other one.
    failure: String,
    /// When to ask again.
    renewed_at: Timestamp,
}

#[derive(Debug, Clone)]
struct Token {
    text: String,
    expires_at: Timestamp,
}

impl Asked {
    fn of(revision: &Revision, projection: &ServiceAccountTokenProjection) -> Self {
        Self {
            account: references::service_account(revision).to_owned(),
            audience: projection.audience.clone().unwrap_or_default(),
            seconds: projection.expiration_seconds.unwrap_or(SECONDS_DEFAULT),
        }
    }

    fn request(&self) -> TokenRequest {
        let audience = Some(self.audience.clone()).filter(|audience| !audience.is_empty());
        TokenRequest {
            spec: TokenRequestSpec {
                audiences: audience.into_iter().collect(),
                expiration_seconds: Some(self.seconds),
                bound_object_ref: None,
            },
            ..TokenRequest::default()
        }
    }
}

impl Known {
    /// What is known once the API has answered at `now`; a token from before is used as long as it is good.
    fn after(
        asked: &Asked,
        before: Option<&Self>,
        answer: Result<TokenRequest, String>,
        now: Timestamp,
    ) -> Self {
        let token = answer.and_then(|answer| {
            let status = answer.status.ok_or("the API gave no token")?;
            Ok(Token {
                text: status.token,
                expires_at: status.expiration_timestamp.0,
            })
        });
        match token {
            Ok(token) => Self {
                renewed_at: renewal(now, token.expires_at),
                token: Some(token),
                failure: String::new(),
            },
            Err(failure) => Self {
                token: before.and_then(|before| before.token.clone()),
                failure: format!(
                    "failed to fetch token for ServiceAccount {}: {failure}",
                    asked.account
                ),
                renewed_at: later(now, RETRY),
            },
        }
    }
}

/// When a token of a life from `now` to `end` is renewed.
fn renewal(now: Timestamp, end: Timestamp) -> Timestamp {
    let millis = end.duration_since(now).as_millis();
    let share = i64::try_from(millis * i128::from(RENEWED_PERCENT) / 100).unwrap_or(i64::MAX);
    later(now, SignedDuration::from_millis(share).min(AGE_MAX))
}

fn later(now: Timestamp, after: SignedDuration) -> Timestamp {
    now.checked_add(after).unwrap_or(Timestamp::MAX)
}

/// The tokens that a Revision wants.
fn projections(revision: &Revision) -> impl Iterator<Item = &ServiceAccountTokenProjection> {
    let volumes = revision.spec.pod_spec.volumes.iter().flatten();
    volumes
        .filter_map(|volume| volume.projected.as_ref())
        .flat_map(|projected| projected.sources.iter().flatten())
        .filter_map(|source| source.service_account_token.as_ref())
}

impl Tokens {
    fn all(&self) -> MutexGuard<'_, HashMap<ObjectKey, HashMap<Asked, Known>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the tokens of a Revision that are not there or are to be renewed. Tells after how long to do so again;
    /// `None` where it wants no token.
    pub async fn renew(
        &self,
        client: &kube::Client,
        revision: &Revision,
        now: Timestamp,
    ) -> Option<Duration> {
        let key = ObjectKey::of(revision);
        let mut next = None;
        for projection in projections(revision) {
            let asked = Asked::of(revision, projection);
            let before = self.all().get(&key).and_then(|known| known.get(&asked)).cloned();
            let renewed_at = match before {
                Some(known) if now < known.renewed_at => known.renewed_at,
                before => {
                    let accounts = kube::Api::<ServiceAccount>::namespaced(client.clone(), &key.namespace);
                    let answer = accounts
                        .create_token_request(&asked.account, &PostParams::default(), &asked.request())
                        .await
                        .map_err(|error| error.to_string());
                    let known = Known::after(&asked, before.as_ref(), answer, now);
                    let renewed_at = known.renewed_at;
                    self.all().entry(key.clone()).or_default().insert(asked, known);
                    renewed_at
                }
            };
            next = Some(next.map_or(renewed_at, |other: Timestamp| other.min(renewed_at)));
        }
        let wait = next?.duration_since(now);
        Some(Duration::try_from(wait).unwrap_or_default())
    }

    /// The token of a projection.
    ///
    /// # Errors
    /// Why there is none, in kubelet's words.
    pub fn get(
        &self,
        revision: &Revision,
        projection: &ServiceAccountTokenProjection,
        now: Timestamp,
    ) -> Result<String, String> {
        let all = self.all();
        let known = all
            .get(&ObjectKey::of(revision))
            .and_then(|known| known.get(&Asked::of(revision, projection)));
        let known = known.ok_or("failed to fetch token: it was not asked for yet")?;
        match &known.token {
            Some(token) if now < token.expires_at => Ok(token.text.clone()),
            _ => Err(known.failure.clone()),
        }
    }

    /// Whether a Revision wants tokens.
    #[must_use]
    pub fn are_wanted_by(revision: &Revision) -> bool {
        projections(revision).next().is_some()
    }

    /// Forgets those of a Revision that is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.all().remove(key);
    }

    /// Forgets those of Revisions that are gone.
    pub fn keep(&self, is_there: impl Fn(&ObjectKey) -> bool) {
        self.all().retain(|key, _| is_there(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::authentication::v1::TokenRequestStatus;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn tokens_are_renewed_before_they_end() {
        assert_eq!(renewal(at(1000), at(4600)), at(1000 + 2880));
        assert_eq!(renewal(at(0), at(600)), at(480));
        assert_eq!(
            renewal(at(0), at(1_000_000)),
            at(86_400),
            "after a day in any case"
        );
    }

    #[test]
    fn a_token_is_used_while_no_other_one_is_given() {
        let asked = Asked {
            account: "default".to_owned(),
            audience: "api".to_owned(),
            seconds: 600,
        };
        let given = TokenRequest {
            status: Some(TokenRequestStatus {
                token: "a.b.c".to_owned(),
                expiration_timestamp: Time(at(600)),
            }),
            ..asked.request()
        };
        assert_eq!(asked.request().spec.audiences, ["api"]);
        let first = Known::after(&asked, None, Ok(given), at(0));
        assert_eq!(first.renewed_at, at(480));
        let failed = Known::after(&asked, Some(&first), Err("the API is away".to_owned()), at(480));
        assert_eq!(failed.renewed_at, at(490));
        assert_eq!(failed.token.map(|token| token.text).as_deref(), Some("a.b.c"));
        assert!(
            failed
                .failure
                .ends_with("ServiceAccount default: the API is away")
        );
    }
}
