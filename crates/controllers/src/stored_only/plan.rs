//! What the status of an object says that nothing carries out yet.

use jiff::Timestamp;
use kittiwake_api::condition::{Condition, ConditionSet, ConditionStatus, READY};
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Why such an object is not ready.
pub const NOT_SERVED_YET: &str = "NotServedYet";
/// The enforcing program, as Gatekeeper's status names it: there a pod, here the platform.
pub const ENFORCER: &str = "kittiwake";

/// The form of a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Knative's: a condition Ready.
    Conditions,
    /// A ConstraintTemplate's: whether its kind is there, and what each enforcing program says.
    Template,
    /// A constraint's: what each enforcing program says.
    Constraint,
}

/// The new status, when it differs.
#[must_use]
pub fn plan(kind: &str, form: Form, object: &DynamicObject, now: Timestamp) -> Option<Value> {
    let old = object.data.get("status").cloned().unwrap_or_else(|| json!({}));
    let mut status = old.as_object().cloned().unwrap_or_default();
    match form {
        Form::Conditions => conditions(kind, object, &mut status, now),
        Form::Template => {
            status.insert("created".to_owned(), true.into());
            let message = format!(
                "{kind} is stored and validated, and its kind is served; this version of Kittiwake does not enforce policies yet."
            );
            let said = by_pod("templateUID", object, &message);
            status.insert("byPod".to_owned(), json!([said]));
        }
        Form::Constraint => {
            let message = format!(
                "{kind} is stored and validated; this version of Kittiwake does not enforce policies yet."
            );
            let mut said = by_pod("constraintUID", object, &message);
            if let Some(said) = said.as_object_mut() {
                said.insert("enforced".to_owned(), false.into());
            }
            status.insert("byPod".to_owned(), json!([said]));
        }
    }
    let status = Value::Object(status);
    (status != old).then_some(status)
}

fn conditions(kind: &str, object: &DynamicObject, status: &mut Map<String, Value>, now: Timestamp) {
    let old = status.get("conditions").cloned().unwrap_or_default();
    let mut conditions = Vec::<Condition>::deserialize(&old).unwrap_or_default();
    let message = format!("{kind} is stored and validated; this version of Kittiwake does not serve it yet.");
    ConditionSet::living(&[])
        .manage(&mut conditions, now)
        .set(Condition {
            type_: READY.to_owned(),
            status: ConditionStatus::False,
            reason: NOT_SERVED_YET.to_owned(),
            message,
            ..Condition::default()
        });
    status.insert("conditions".to_owned(), json!(conditions));
    if let Some(generation) = object.metadata.generation {
        status.insert("observedGeneration".to_owned(), generation.into());
    }
}

fn by_pod(uid_field: &str, object: &DynamicObject, message: &str) -> Value {
    json!({
        "id": ENFORCER,
        "observedGeneration": object.metadata.generation,
        uid_field: object.uid(),
        "errors": [{"code": "not_enforced_yet", "message": message}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(status: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "eventing.knative.dev/v1", "kind": "Broker",
            "metadata": {"name": "a", "uid": "u", "generation": 2}, "spec": {}, "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn an_object_is_told_once_per_generation() {
        let now = Timestamp::UNIX_EPOCH;
        let status = plan("Broker", Form::Conditions, &object(json!({"address": {}})), now).unwrap();
        assert_eq!(
            status,
            json!({
                "address": {},
                "observedGeneration": 2,
                "conditions": [{
                    "type": "Ready", "status": "False", "reason": "NotServedYet", "lastTransitionTime": "1970-01-01T00:00:00Z",
                    "message": "Broker is stored and validated; this version of Kittiwake does not serve it yet.",
                }],
            })
        );
        let later = Timestamp::from_second(100).unwrap();
        assert_eq!(plan("Broker", Form::Conditions, &object(status), later), None);
    }

    #[test]
    fn gatekeepers_kinds_are_told_in_its_form() {
        let now = Timestamp::UNIX_EPOCH;
        let status = plan("ConstraintTemplate", Form::Template, &object(json!(null)), now).unwrap();
        assert_eq!(status["created"], true);
        assert_eq!(status["byPod"][0]["observedGeneration"], 2);
        assert_eq!(
            plan("ConstraintTemplate", Form::Template, &object(status), now),
            None
        );
        let status = plan("RequiredLabels", Form::Constraint, &object(json!({})), now).unwrap();
        assert_eq!(status["byPod"][0]["enforced"], false);
        assert_eq!(status["byPod"][0]["constraintUID"], "u");
    }
}
