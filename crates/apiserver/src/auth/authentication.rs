//! Who makes a request: by client certificate, by bearer token, or nobody known.

use super::Auth;
use super::certificate::Peer;
use super::identity::Identity;
use super::jwt::Token;
use super::service_account;
use crate::status::ApiError;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use kittiwake_store::ObjectStore;

/// Who makes a request. What was shown but is worth nothing is an error, not anonymity
/// (k8s.io/apiserver/pkg/authentication/request/union, `NewFailOnError` before anonymous).
///
/// # Errors
/// 401 without a reason: a stranger is not told what was wrong. The log is.
pub(crate) async fn identify(
    auth: &Auth,
    store: &ObjectStore,
    peer: Option<&Peer>,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<Identity, ApiError> {
    let by_certificate = match peer {
        Some(peer) => auth.certificates.identify(peer, now),
        None => Ok(None),
    };
    let refused = match by_certificate {
        Ok(Some(identity)) => return Ok(identity.authenticated()),
        Ok(None) => None,
        Err(error) => Some(format!("client certificate: {error}")),
    };
    let refused = match bearer(headers) {
        Bearer::None => refused,
        Bearer::Unreadable => Some("the Authorization header holds no bearer token".to_owned()),
        Bearer::Token(token) => match by_token(auth, store, token, &[service_account::ISSUER], now).await {
            Ok((identity, _)) => return Ok(identity.authenticated()),
            Err(error) => Some(format!("bearer token: {error}")),
        },
    };
    match refused {
        None => Ok(Identity::anonymous()),
        Some(why) => {
            let address = peer.and_then(|peer| peer.address);
            tracing::debug!(?address, why, "a request was not authenticated");
            Err(ApiError::unauthorized())
        }
    }
}

/// Who a token proves somebody to be, and for which of `audiences`. Tokens that name none themselves, from the token file
/// or an issuer elsewhere, are for this API alone (k8s.io/apiserver `authenticator.WrapAudienceAgnostic`).
///
/// # Errors
/// Why the token is worth nothing.
pub(crate) async fn by_token(
    auth: &Auth,
    store: &ObjectStore,
    token: &str,
    audiences: &[&str],
    now: Timestamp,
) -> Result<(Identity, Vec<String>), String> {
    let for_us = |identity: Identity| {
        let ours = audiences.contains(&service_account::ISSUER);
        let audience = service_account::ISSUER.to_owned();
        ours.then_some((identity, vec![audience]))
            .ok_or_else(|| format!("the token is not for {audiences:?}"))
    };
    if let Some(identity) = auth.tokens.find(token) {
        return for_us(identity);
    }
    let token = Token::parse(token).ok_or("it is neither in the token file nor a signed token")?;
    if let Some(identity) = auth.service_accounts.identify(&token, audiences, store, now)? {
        let both = token.audiences().into_iter();
        let both = both.filter(|audience| audiences.contains(audience));
        return Ok((identity, both.map(str::to_owned).collect()));
    }
    if let Some(issuer) = &auth.oidc
        && let Some(identity) = issuer.identify(&token).await?
    {
        return for_us(identity);
    }
    Err("nobody whose tokens are believed has issued it".to_owned())
}

enum Bearer<'h> {
    None,
    Unreadable,
    Token(&'h str),
}

/// The token of `Authorization: Bearer …`. Other schemes prove nothing here, and are ignored as in Kubernetes.
fn bearer(headers: &HeaderMap) -> Bearer<'_> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Bearer::None;
    };
    let Ok(text) = value.to_str() else {
        return Bearer::Unreadable;
    };
    let (scheme, token) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    match (scheme.eq_ignore_ascii_case("bearer"), token.trim()) {
        (false, _) => Bearer::None,
        (true, "") => Bearer::Unreadable,
        (true, token) => Bearer::Token(token),
    }
}
