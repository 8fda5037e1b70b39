//! Roles made of roles: the rules of a ClusterRole with `aggregationRule` are those of all that its selectors choose
//! (kubernetes/pkg/controller/clusterroleaggregation).

use super::{GROUP, PolicyRule, rules_of};
use crate::object::{self, text};
use crate::server::Server;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The kind in the store.
const RESOURCE: &str = "clusterroles.rbac.authorization.k8s.io";
/// Rounds until aggregated roles that choose each other have all rules; each round carries a rule one role further.
const ROUNDS_MAX: usize = 16;

/// Keeps aggregated roles up to date until the server stops.
pub(crate) async fn run(server: Arc<Server>, shutdown: CancellationToken) {
    loop {
        let before = server.store.list(RESOURCE, None).resource_version;
        sweep(&server).await;
        let changed = async {
            // A lost watch only means looking again.
            if let Ok(mut watcher) = server.store.watch(RESOURCE, before) {
                let _ = watcher.next().await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = changed => {}
        }
    }
}

/// Writes the rules of all aggregated roles that are out of date.
pub(crate) async fn sweep(server: &Server) {
    for _ in 0..ROUNDS_MAX {
        let roles: Vec<Arc<Value>> = server
            .store
            .list(RESOURCE, None)
            .items
            .iter()
            .map(|stored| stored.object.tree())
            .collect();
        let mut changed = false;
        for role in &roles {
            let Some(rules) = wanted(role, &roles).filter(|rules| *rules != rules_of(role)) else {
                continue;
            };
            changed = true;
            let put = |old: Option<&Value>| {
                let mut new = old?.clone();
                object::map_mut(&mut new).insert("rules".into(), json!(rules));
                Some(new)
            };
            server
                .put_own(GROUP, "v1", "clusterroles", "", object::name(role), put)
                .await;
        }
        if !changed {
            return;
        }
    }
}

/// The rules that an aggregated role should have; `None` for one that is not aggregated.
fn wanted(role: &Value, roles: &[Arc<Value>]) -> Option<Vec<PolicyRule>> {
    let selectors = role
        .pointer("/aggregationRule/clusterRoleSelectors")?
        .as_array()?;
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors {
        for other in roles {
            if object::name(other) == object::name(role) || !selects(selector, other) {
                continue;
            }
            for rule in rules_of(other) {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
    }
    Some(rules)
}

/// Whether a `LabelSelector` chooses an object. The empty selector chooses everything.
fn selects(selector: &Value, object: &Value) -> bool {
    let label = |key: &str| object.pointer("/metadata/labels")?.get(key)?.as_str();
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    labels
        .into_iter()
        .flatten()
        .all(|(key, value)| label(key) == value.as_str())
        && expressions.into_iter().flatten().all(|expression| {
            let value = label(text(expression, "/key"));
            let values = expression.get("values").and_then(Value::as_array);
            let listed = values
                .into_iter()
                .flatten()
                .any(|listed| value.is_some() && listed.as_str() == value);
            match text(expression, "/operator") {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_choose_by_labels() {
        let object = json!({"metadata": {"labels": {"a": "1"}}});
        for (selector, wanted) in [
            (json!({}), true),
            (json!({"matchLabels": {"a": "1"}}), true),
            (json!({"matchLabels": {"a": "2"}}), false),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["1"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "b", "operator": "Exists"}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "Is"}]}),
                false,
            ),
        ] {
            assert_eq!(selects(&selector, &object), wanted, "{selector}");
        }
    }
}
