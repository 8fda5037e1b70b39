//! Whether some rules allow all that others allow (k8s.io/component-helpers/auth/rbac/validation/policy_comparator.go):
//! nobody may grant what they do not hold.

use super::{ALL, PolicyRule, path_matches};
use std::fmt;

/// Most single permissions that a role is taken apart into; a role with more is refused to who may not escalate.
const PERMISSIONS_MAX: usize = 100_000;

/// Why rules do not cover others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotCovered {
    /// These permissions are missing.
    Missing(Vec<PolicyRule>),
    /// There are too many permissions to compare.
    TooMany,
}

impl fmt::Display for NotCovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => write!(
                f,
                "the rules name more than {PERMISSIONS_MAX} permissions: write several roles, or use \"*\""
            ),
            Self::Missing(rules) => {
                let texts: Vec<String> = rules.iter().map(compact).collect();
                f.write_str(&texts.join("\n"))
            }
        }
    }
}

/// A rule as Kubernetes prints it in such refusals (`CompactString`).
fn compact(rule: &PolicyRule) -> String {
    let parts = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| {
            let quoted: Vec<String> = list.iter().map(|entry| format!("{entry:?}")).collect();
            format!("{name}:[{}]", quoted.join(", "))
        })
        .collect();
    format!("{{{}}}", parts.join(", "))
}

/// Whether `owner` allows all that `wanted` allows, else what is missing.
pub(crate) fn covers(owner: &[PolicyRule], wanted: &[PolicyRule]) -> Result<(), NotCovered> {
    let mut missing = Vec::new();
    let mut looked_at = 0_usize;
    for rule in wanted {
        // Most roles hold whole rules of others.
        if owner.iter().any(|own| covers_rule(own, rule)) {
            continue;
        }
        looked_at = looked_at.saturating_add(permissions(rule));
        if looked_at > PERMISSIONS_MAX {
            return Err(NotCovered::TooMany);
        }
        missing.extend(uncovered(owner, rule));
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(NotCovered::Missing(missing))
    }
}

fn permissions(rule: &PolicyRule) -> usize {
    let names = rule.resource_names.len().max(1);
    let things = [rule.api_groups.len(), rule.resources.len(), names]
        .iter()
        .fold(1_usize, |all, count| all.saturating_mul(*count));
    rule.verbs
        .len()
        .saturating_mul(things.saturating_add(rule.non_resource_urls.len()))
}

/// The parts of a rule that nothing covers, put together again by verb.
fn uncovered(owner: &[PolicyRule], rule: &PolicyRule) -> Vec<PolicyRule> {
    let one = |text: &String| vec![text.clone()];
    let mut missing: Vec<PolicyRule> = Vec::new();
    let mut look = |part: PolicyRule| {
        if owner.iter().any(|own| covers_rule(own, &part)) {
            return;
        }
        let same_but_verbs = |known: &&mut PolicyRule| {
            known.api_groups == part.api_groups
                && known.resources == part.resources
                && known.resource_names == part.resource_names
                && known.non_resource_urls == part.non_resource_urls
        };
        match missing.last_mut().filter(same_but_verbs) {
            Some(known) => known.verbs.extend(part.verbs),
            None => missing.push(part),
        }
    };
    for url in &rule.non_resource_urls {
        for verb in &rule.verbs {
            look(PolicyRule {
                verbs: one(verb),
                non_resource_urls: one(url),
                ..PolicyRule::default()
            });
        }
    }
    let every_name = [Vec::new()];
    let single_names: Vec<Vec<String>> = rule.resource_names.iter().map(one).collect();
    let names: &[Vec<String>] = if single_names.is_empty() {
        &every_name
    } else {
        &single_names
    };
    for group in &rule.api_groups {
        for resource in &rule.resources {
            for name in names {
                for verb in &rule.verbs {
                    look(PolicyRule {
                        verbs: one(verb),
                        api_groups: one(group),
                        resources: one(resource),
                        resource_names: name.clone(),
                        ..PolicyRule::default()
                    });
                }
            }
        }
    }
    missing
}

/// Whether one rule allows all that another allows.
fn covers_rule(own: &PolicyRule, wanted: &PolicyRule) -> bool {
    has_all(&own.verbs, &wanted.verbs)
        && has_all(&own.api_groups, &wanted.api_groups)
        && wanted
            .resources
            .iter()
            .all(|resource| has_resource(&own.resources, resource))
        && wanted
            .non_resource_urls
            .iter()
            .all(|url| own.non_resource_urls.iter().any(|rule| path_matches(rule, url)))
        && (own.resource_names.is_empty()
            || (!wanted.resource_names.is_empty()
                && wanted
                    .resource_names
                    .iter()
                    .all(|name| own.resource_names.contains(name))))
}

fn has_all(own: &[String], wanted: &[String]) -> bool {
    own.iter().any(|entry| entry == ALL) || wanted.iter().all(|entry| own.contains(entry))
}

fn has_resource(own: &[String], wanted: &str) -> bool {
    own.iter().any(|entry| {
        entry == ALL
            || entry == wanted
            || entry
                .strip_prefix("*/")
                .is_some_and(|part| wanted.split_once('/').is_some_and(|(_, wanted)| wanted == part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::{Value, json};

    fn rules(rules: &Value) -> Vec<PolicyRule> {
        rules
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| PolicyRule::deserialize(rule).unwrap())
            .collect()
    }

    #[test]
    fn a_rule_may_be_covered_by_several() {
        let owner = rules(&json!([
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "secrets"]},
            {"verbs": ["list"], "apiGroups": ["*"], "resources": ["*"]},
            {"verbs": ["get"], "nonResourceURLs": ["/api/*"]},
        ]));
        for (wanted, covered) in [
            (
                json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}]),
                true,
            ),
            (
                json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}]),
                true,
            ),
            (
                json!([{"verbs": ["get"], "nonResourceURLs": ["/api/v1", "/api/x*"]}]),
                true,
            ),
            (json!([{"verbs": ["get"], "nonResourceURLs": ["/api*"]}]), false),
            (
                json!([{"verbs": ["*"], "apiGroups": [""], "resources": ["pods"]}]),
                false,
            ),
            (
                json!([{"verbs": ["get"], "apiGroups": ["*"], "resources": ["pods"]}]),
                false,
            ),
        ] {
            assert_eq!(covers(&owner, &rules(&wanted)).is_ok(), covered, "{wanted}");
        }
    }

    #[test]
    fn what_is_missing_is_said_as_kubernetes_says_it() {
        let owner = rules(&json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]));
        let wanted = rules(
            &json!([{"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["pods", "secrets"]}]),
        );
        let error = covers(&owner, &wanted).unwrap_err().to_string();
        assert_eq!(
            error,
            "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\", \"watch\"]}\n\
             {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\", \"list\", \"watch\"]}"
        );
    }

    #[test]
    fn a_role_of_countless_permissions_is_refused() {
        let many: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let wanted = rules(&json!([{"verbs": many, "apiGroups": many, "resources": many}]));
        assert_eq!(covers(&[], &wanted), Err(NotCovered::TooMany));
    }
}
