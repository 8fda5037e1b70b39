//! Role-based access control: rules, and what they allow (kubernetes/pkg/registry/rbac, plugin/pkg/auth/authorizer/rbac).

pub(crate) mod aggregation;
pub(crate) mod bootstrap;
pub(crate) mod cover;
pub(crate) mod escalation;
pub(crate) mod index;
pub(crate) mod kinds;
pub(crate) mod validation;

use super::attributes::{Attributes, ResourceAttributes};
use super::identity::Identity;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// API group of roles and bindings.
pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";
/// What stands for everything.
pub(crate) const ALL: &str = "*";

/// One rule of a role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PolicyRule {
    pub verbs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Objects that it is about; all where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

/// The rules in a role object. What cannot be read allows nothing.
pub(crate) fn rules_of(role: &Value) -> Vec<PolicyRule> {
    let rules = role.get("rules").and_then(Value::as_array).into_iter().flatten();
    rules
        .filter_map(|rule| PolicyRule::deserialize(rule).ok())
        .collect()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|entry| entry == ALL || entry == wanted)
}

impl PolicyRule {
    /// Whether the rule allows something. Namespaces are not its business: they are the binding's.
    pub(crate) fn allows(&self, attributes: &Attributes) -> bool {
        match attributes {
            Attributes::Resource(asked) => {
                has(&self.verbs, &asked.verb)
                    && has(&self.api_groups, &asked.group)
                    && self.has_resource(asked)
                    && (self.resource_names.is_empty() || self.resource_names.contains(&asked.name))
            }
            Attributes::Path { verb, path } => {
                has(&self.verbs, verb) && self.non_resource_urls.iter().any(|rule| path_matches(rule, path))
            }
        }
    }

    /// `*`, `things`, `things/part`, and `*/part` for that part of all things.
    fn has_resource(&self, asked: &ResourceAttributes) -> bool {
        self.resources.iter().any(|rule| {
            if rule == ALL {
                return true;
            }
            match rule.split_once('/') {
                None => asked.subresource.is_empty() && *rule == asked.resource,
                Some((resource, part)) => {
                    !asked.subresource.is_empty()
                        && part == asked.subresource
                        && (resource == ALL || resource == asked.resource)
                }
            }
        })
    }
}

/// `*`, a path, or the beginning of one with `*` behind it.
pub(crate) fn path_matches(rule: &str, path: &str) -> bool {
    rule == ALL
        || rule == path
        || rule
            .strip_suffix('*')
            .is_some_and(|beginning| path.starts_with(beginning.trim_end_matches('*')))
}

/// Whom a binding is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    User(String),
    Group(String),
}

impl Subject {
    /// Reads a subject of a binding in `namespace` (empty for a ClusterRoleBinding). A ServiceAccount is a user.
    pub(crate) fn read(subject: &Value, namespace: &str) -> Option<Self> {
        let text = |key: &str| subject.get(key).and_then(Value::as_str).unwrap_or_default();
        let name = text("name");
        match text("kind") {
            "User" => Some(Self::User(name.to_owned())),
            "Group" => Some(Self::Group(name.to_owned())),
            "ServiceAccount" => {
                let own = Some(text("namespace")).filter(|own| !own.is_empty());
                let home = own.unwrap_or(namespace);
                (!home.is_empty()).then(|| Self::User(super::identity::service_account_user(home, name)))
            }
            _ => None,
        }
    }

    /// All subjects that somebody is.
    pub(crate) fn of(identity: &Identity) -> impl Iterator<Item = Self> + '_ {
        std::iter::once(Self::User(identity.name.clone()))
            .chain(identity.groups.iter().map(|group| Self::Group(group.clone())))
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(name) => match super::identity::split_service_account(name) {
                Some((namespace, account)) => {
                    write!(f, "ServiceAccount {:?}", format!("{account}/{namespace}"))
                }
                None => write!(f, "User {name:?}"),
            },
            Self::Group(name) => write!(f, "Group {name:?}"),
        }
    }
}

/// The role that a binding gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoleRef {
    /// Whether it is a ClusterRole; else it is a Role of the binding's namespace.
    pub cluster: bool,
    pub name: String,
}

impl RoleRef {
    pub(crate) fn read(binding: &Value) -> Option<Self> {
        let text = |pointer: &str| crate::object::text(binding, pointer);
        let cluster = match text("/roleRef/kind") {
            "ClusterRole" => true,
            "Role" => false,
            _ => return None,
        };
        Some(Self {
            cluster,
            name: text("/roleRef/name").to_owned(),
        })
    }

    /// `ClusterRole` or `Role`.
    pub(crate) fn kind(&self) -> &'static str {
        if self.cluster { "ClusterRole" } else { "Role" }
    }
}

#[cfg(test)]
mod tests;
