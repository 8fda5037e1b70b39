//! One order, from the wish to the certificate (RFC 8555 §7.4).

use super::VaultError;
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewOrder, OrderStatus, RetryPolicy,
};
use kittiwake_core::routing_table::Certificate;
use std::time::Duration;

/// Longest time until the authority has seen our answer, and again until it has signed.
const PATIENCE: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .timeout(Duration::from_secs(120));

/// Orders a certificate for one host.
pub(super) async fn order(account: &Account, host: &str) -> Result<Certificate, VaultError> {
    let names = [Identifier::Dns(host.to_owned())];
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            // Proven earlier; authorities remember for a while.
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status => return Err(format!("the authorization is {status:?}").into()),
        }
        let mut challenge = authorization
            .challenge(ChallengeType::Http01)
            .ok_or("the authority offers no HTTP-01 challenge")?;
        challenge.set_ready().await?;
    }
    match order.poll_ready(&PATIENCE).await? {
        OrderStatus::Ready => {}
        _ => return Err(refused(&mut order).await.into()),
    }
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&PATIENCE).await?;
    Ok(Certificate {
        chain: chain.into_bytes().into(),
        key: key.into_bytes().into(),
    })
}

/// What the authority says of a challenge that failed.
async fn refused(order: &mut instant_acme::Order) -> String {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        // What is known is from before the challenge.
        let Ok(state) = authorization.refresh().await else {
            continue;
        };
        if let Some(problem) = state
            .challenges
            .iter()
            .find_map(|challenge| challenge.error.as_ref())
        {
            return format!("the authority could not see our answer to its challenge: {problem}");
        }
    }
    "the authority refused the order".to_owned()
}
