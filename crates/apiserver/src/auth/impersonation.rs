//! Acting as somebody else: the headers `Impersonate-*`
//! (k8s.io/apiserver/pkg/endpoints/filters/impersonation.go).

use super::Auth;
use super::attributes::{Attributes, ResourceAttributes};
use super::identity::{ANONYMOUS, Identity, service_account_groups, split_service_account};
use crate::status::ApiError;
use http::HeaderMap;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
/// Most headers of this kind in one request.
const HEADERS_MAX: usize = 128;

/// Takes the headers off a request and returns whom it acts as; `None` when it acts as nobody else.
///
/// # Errors
/// When the headers are malformed, or the identity may not act as that user, group, uid or extra value.
pub(crate) fn take(
    auth: &Auth,
    identity: &Identity,
    headers: &mut HeaderMap,
) -> Result<Option<Identity>, ApiError> {
    let ours = |name: &str| name == USER || name == GROUP || name == UID || name.starts_with(EXTRA);
    let asked: Vec<(String, String)> = headers
        .iter()
        .filter(|(name, _)| ours(name.as_str()))
        .map(|(name, value)| {
            (
                name.as_str().to_owned(),
                value.to_str().unwrap_or_default().to_owned(),
            )
        })
        .collect();
    if asked.is_empty() {
        return Ok(None);
    }
    if asked.len() > HEADERS_MAX {
        return Err(ApiError::bad_request(format!(
            "more than {HEADERS_MAX} Impersonate headers"
        )));
    }
    for (name, _) in &asked {
        headers.remove(name.as_str());
    }
    let may = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let asked = Attributes::Resource(ResourceAttributes {
            verb: "impersonate".to_owned(),
            group: group.to_owned(),
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        });
        let decision = auth.rbac.decide(identity, &asked);
        if decision.allowed {
            Ok(())
        } else {
            Err(asked.denied(identity, &decision.reason))
        }
    };
    let mut user = Identity::default();
    for (header, value) in asked {
        if value.is_empty() {
            return Err(ApiError::bad_request(format!(
                "the header {header} is empty or not plain text"
            )));
        }
        match header.as_str() {
            USER => {
                match split_service_account(&value) {
                    Some((namespace, name)) => may("", "serviceaccounts", "", namespace, name)?,
                    None => may("", "users", "", "", &value)?,
                }
                user.name = value;
            }
            GROUP => {
                may("", "groups", "", "", &value)?;
                user.groups.push(value);
            }
            UID => {
                may("authentication.k8s.io", "uids", "", "", &value)?;
                user.uid = value;
            }
            extra => {
                let key = extra
                    .trim_start_matches(EXTRA)
                    .replace("%2f", "/")
                    .replace("%2F", "/");
                may("authentication.k8s.io", "userextras", &key, "", &value)?;
                user.extra.entry(key).or_default().push(value);
            }
        }
    }
    if user.name.is_empty() {
        return Err(ApiError::bad_request(
            "Impersonate-Group, -Uid and -Extra need Impersonate-User: whose groups would they be?",
        ));
    }
    if user.groups.is_empty()
        && let Some((namespace, _)) = split_service_account(&user.name)
    {
        user.groups = service_account_groups(namespace);
    }
    if user.name == ANONYMOUS && user.groups.is_empty() {
        return Ok(Some(Identity {
            groups: Identity::anonymous().groups,
            ..user
        }));
    }
    Ok(Some(if user.name == ANONYMOUS {
        user
    } else {
        user.authenticated()
    }))
}
