//! Who asks: a user with groups, as Kubernetes knows them (k8s.io/apiserver/pkg/authentication/user).

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The group whose members may do everything, whatever roles there are.
pub const MASTERS: &str = "system:masters";
/// The group of all who have proved who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of all who have not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user that everybody is who shows no credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// The name in the administrator's client certificate, as in a kubeconfig made by kubeadm.
pub const ADMINISTRATOR: &str = "kubernetes-admin";
/// The group of all ServiceAccounts.
const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// What the user names of ServiceAccounts start with.
const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
/// The key of `extra` that says by which credential somebody came.
pub(crate) const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Somebody who makes a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// User name.
    pub name: String,
    /// What tells users of the same name apart; may be empty.
    pub uid: String,
    /// Groups that the user is in.
    pub groups: Vec<String>,
    /// More about the user, such as which credential was shown.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// A user with groups and nothing else.
    #[must_use]
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        Self {
            name: name.into(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..Self::default()
        }
    }

    /// Whoever shows no credentials.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::new(ANONYMOUS, &[UNAUTHENTICATED])
    }

    /// The administrator: what runs in the process of the API server, and who holds the certificate of the kubeconfig
    /// that `kittiwake up` writes.
    #[must_use]
    pub fn administrator() -> Self {
        Self::new(ADMINISTRATOR, &[MASTERS, AUTHENTICATED])
    }

    /// A ServiceAccount.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        Self {
            name: service_account_user(namespace, name),
            uid: uid.to_owned(),
            groups: service_account_groups(namespace),
            extra: BTreeMap::new(),
        }
    }

    /// Whether roles do not matter.
    pub(crate) fn is_superuser(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }

    /// The same identity with the group of all who have proved who they are.
    pub(crate) fn authenticated(mut self) -> Self {
        let known = |group: &String| group == AUTHENTICATED || group == UNAUTHENTICATED;
        if !self.groups.iter().any(known) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }

    /// `UserInfo` of authentication.k8s.io/v1.
    pub(crate) fn to_json(&self) -> Value {
        let mut info = Map::new();
        info.insert("username".into(), self.name.as_str().into());
        if !self.uid.is_empty() {
            info.insert("uid".into(), self.uid.as_str().into());
        }
        if !self.groups.is_empty() {
            info.insert("groups".into(), self.groups.clone().into());
        }
        if !self.extra.is_empty() {
            info.insert("extra".into(), json!(self.extra));
        }
        Value::Object(info)
    }
}

/// The user name of a ServiceAccount.
pub(crate) fn service_account_user(namespace: &str, name: &str) -> String {
    format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}")
}

/// The groups of a namespace's ServiceAccounts.
pub(crate) fn service_account_groups(namespace: &str) -> Vec<String> {
    vec![
        SERVICE_ACCOUNTS.to_owned(),
        format!("{SERVICE_ACCOUNTS}:{namespace}"),
    ]
}

/// Namespace and name of the ServiceAccount behind a user name.
pub(crate) fn split_service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_of_service_accounts_are_read_back() {
        let account = Identity::service_account("shop", "bot", "1");
        assert_eq!(account.name, "system:serviceaccount:shop:bot");
        assert_eq!(split_service_account(&account.name), Some(("shop", "bot")));
        for other in [
            "system:serviceaccount:",
            "system:serviceaccount:a",
            "system:serviceaccount:a:b:c",
            "x",
        ] {
            assert_eq!(split_service_account(other), None, "{other}");
        }
    }

    #[test]
    fn nobody_is_both_known_and_unknown() {
        assert_eq!(Identity::anonymous().authenticated(), Identity::anonymous());
        assert_eq!(
            Identity::new("a", &["g"]).authenticated().groups,
            ["g", AUTHENTICATED]
        );
    }
}
