//! Conditions, and Knative's rules for how they depend on each other (knative/pkg `apis/condition_set.go`).
//!
//! A kind has one happy condition ([`READY`]) and dependents. Marking a dependent recomputes the happy one: True when
//! all are True; otherwise it repeats the status, reason and message of the unhappy dependent that changed last, False
//! before Unknown. Every other condition is informational (severity `Info`) and changes nothing but itself.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Type of the happy condition of everything that lives.
pub const READY: &str = "Ready";

/// The severity of a condition on which the happy one does not depend. The happy one and its dependents have none.
pub const SEVERITY_INFO: &str = "Info";

/// One thing that is, is not, or is not yet known to be the case.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What this is about, such as Ready. Once per object.
    #[serde(rename = "type")]
    pub type_: String,
    /// True, False or Unknown.
    #[serde(default)]
    pub status: ConditionStatus,
    /// Info when Ready does not depend on this condition; empty when it does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub severity: String,
    /// When anything but this time last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// Why, in one CamelCase word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Whether it is the case.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, JsonSchema)]
pub enum ConditionStatus {
    /// It is.
    True,
    /// It is not, and that will not change by waiting.
    False,
    /// It is being worked on.
    #[default]
    Unknown,
}

impl ConditionStatus {
    /// The word in the object.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl Condition {
    /// Whether the status is True.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.status == ConditionStatus::True
    }

    /// Whether the status is False.
    #[must_use]
    pub fn is_false(&self) -> bool {
        self.status == ConditionStatus::False
    }

    /// Whether the status is Unknown.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.status == ConditionStatus::Unknown
    }

    /// Whether the two say the same, whenever they began to.
    fn says_same(&self, other: &Self) -> bool {
        self.type_ == other.type_
            && self.status == other.status
            && self.severity == other.severity
            && self.reason == other.reason
            && self.message == other.message
    }
}

/// The condition of a type, if it is there.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Which conditions a kind has, and on which of them [`READY`] depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConditionSet {
    happy: &'static str,
    dependents: &'static [&'static str],
}

impl ConditionSet {
    /// The set of something that lives, whose [`READY`] depends on `dependents`.
    #[must_use]
    pub const fn living(dependents: &'static [&'static str]) -> Self {
        Self {
            happy: READY,
            dependents,
        }
    }

    /// Works on the conditions of one object. Conditions that change get the time `now`, cut to whole seconds as in
    /// the object's JSON.
    pub fn manage<'a>(&self, conditions: &'a mut Vec<Condition>, now: Timestamp) -> Conditions<'a> {
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        Conditions {
            set: *self,
            conditions,
            now,
        }
    }

    fn is_terminal(&self, type_: &str) -> bool {
        type_ == self.happy || self.dependents.contains(&type_)
    }
}

/// The conditions of one object, changed by the rules of its [`ConditionSet`].
#[derive(Debug)]
pub struct Conditions<'a> {
    set: ConditionSet,
    conditions: &'a mut Vec<Condition>,
    now: Timestamp,
}

impl Conditions<'_> {
    /// The condition of a type, if it is there.
    #[must_use]
    pub fn get(&self, type_: &str) -> Option<&Condition> {
        find(self.conditions, type_)
    }

    /// The happy condition.
    #[must_use]
    pub fn top_level(&self) -> Option<&Condition> {
        self.get(self.set.happy)
    }

    /// Whether the happy condition is True.
    #[must_use]
    pub fn is_happy(&self) -> bool {
        self.top_level().is_some_and(Condition::is_true)
    }

    /// Sets one condition and touches no other. Its time moves only when it says something new.
    pub fn set(&mut self, mut condition: Condition) {
        if self
            .get(&condition.type_)
            .is_some_and(|old| old.says_same(&condition))
        {
            return;
        }
        condition.last_transition_time = Some(Time(self.now));
        self.conditions.retain(|old| old.type_ != condition.type_);
        self.conditions.push(condition);
        self.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    }

    /// Removes an informational condition. Dependents and the happy condition stay.
    pub fn clear(&mut self, type_: &str) {
        if !self.set.is_terminal(type_) {
            self.conditions.retain(|condition| condition.type_ != type_);
        }
    }

    /// Marks `type_` True; the happy condition too when nothing else is unhappy.
    pub fn mark_true(&mut self, type_: &str) {
        self.mark_true_with_reason(type_, "", "");
    }

    /// Marks `type_` True and says why; the happy condition becomes True, without reason, when nothing is unhappy.
    pub fn mark_true_with_reason(&mut self, type_: &str, reason: &str, message: &str) {
        self.put(type_, ConditionStatus::True, reason, message);
        self.recompute_happiness(type_);
    }

    /// Marks `type_` Unknown; the happy condition too when `type_` is a dependent and no dependent is False.
    pub fn mark_unknown(&mut self, type_: &str, reason: &str, message: &str) {
        self.put(type_, ConditionStatus::Unknown, reason, message);
        let failed = self
            .set
            .dependents
            .iter()
            .any(|d| self.get(d).is_some_and(Condition::is_false));
        if failed {
            if !self.top_level().is_some_and(Condition::is_false) {
                self.put(self.set.happy, ConditionStatus::False, reason, message);
            }
        } else if self.set.dependents.contains(&type_) {
            self.put(self.set.happy, ConditionStatus::Unknown, reason, message);
        }
    }

    /// Marks `type_` False; the happy condition too when `type_` is a dependent.
    pub fn mark_false(&mut self, type_: &str, reason: &str, message: &str) {
        self.put(type_, ConditionStatus::False, reason, message);
        if self.set.dependents.contains(&type_) {
            self.put(self.set.happy, ConditionStatus::False, reason, message);
        }
    }

    /// Adds what is missing: True where the happy condition is True, otherwise Unknown.
    pub fn initialize(&mut self) {
        if self.top_level().is_none() {
            self.put(self.set.happy, ConditionStatus::Unknown, "", "");
        }
        let status = if self.is_happy() {
            ConditionStatus::True
        } else {
            ConditionStatus::Unknown
        };
        for dependent in self.set.dependents {
            if self.get(dependent).is_none() {
                self.put(dependent, status, "", "");
            }
        }
    }

    fn put(&mut self, type_: &str, status: ConditionStatus, reason: &str, message: &str) {
        let severity = if self.set.is_terminal(type_) {
            ""
        } else {
            SEVERITY_INFO
        };
        self.set(Condition {
            type_: type_.to_owned(),
            status,
            severity: severity.to_owned(),
            last_transition_time: None,
            reason: reason.to_owned(),
            message: message.to_owned(),
        });
    }

    fn recompute_happiness(&mut self, changed: &str) {
        if let Some((status, reason, message)) = self.unhappy_dependent() {
            self.put(self.set.happy, status, &reason, &message);
        } else if changed != self.set.happy {
            self.put(self.set.happy, ConditionStatus::True, "", "");
        }
    }

    /// What makes the happy condition unhappy: of the dependents the False one that changed last, else the Unknown one
    /// that changed last, else one that is missing.
    fn unhappy_dependent(&self) -> Option<(ConditionStatus, String, String)> {
        if self.set.dependents.is_empty() {
            return None;
        }
        let mut dependents: Vec<&Condition> = self
            .conditions
            .iter()
            .filter(|c| c.severity.is_empty() && c.type_ != self.set.happy)
            .collect();
        let changed = |c: &Condition| c.last_transition_time.as_ref().map(|time| time.0);
        dependents.sort_by_key(|c| std::cmp::Reverse(changed(c)));
        let unhappy = dependents
            .iter()
            .find(|c| c.is_false())
            .or_else(|| dependents.iter().find(|c| c.is_unknown()))
            .map(|c| (c.status, c.reason.clone(), c.message.clone()));
        if unhappy.is_none() && self.set.dependents.len() > dependents.len() {
            return Some((ConditionStatus::Unknown, String::new(), String::new()));
        }
        unhappy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: ConditionSet = ConditionSet::living(&["A", "B"]);

    /// Conditions as `Type=Status/Reason`, in order.
    fn shown(conditions: &[Condition]) -> Vec<String> {
        conditions
            .iter()
            .map(|c| format!("{}={}/{}", c.type_, c.status.as_str(), c.reason))
            .collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn changed_at(conditions: &[Condition], type_: &str) -> i64 {
        find(conditions, type_)
            .unwrap()
            .last_transition_time
            .as_ref()
            .unwrap()
            .0
            .as_second()
    }

    #[test]
    fn ready_is_true_when_all_dependents_are() {
        let mut conditions = Vec::new();
        let mut manager = SET.manage(&mut conditions, at(1));
        manager.initialize();
        assert!(!manager.is_happy());
        manager.mark_true("A");
        assert!(!manager.is_happy());
        manager.mark_true_with_reason("B", "TLSNotEnabled", "no TLS");
        assert!(manager.is_happy());
        assert_eq!(
            shown(&conditions),
            ["A=True/", "B=True/TLSNotEnabled", "Ready=True/"]
        );
    }

    #[test]
    fn false_comes_before_unknown_and_says_why() {
        let mut conditions = Vec::new();
        let mut manager = SET.manage(&mut conditions, at(1));
        manager.initialize();
        manager.mark_false("A", "Broken", "it broke");
        manager.mark_unknown("B", "Working", "");
        assert_eq!(
            shown(&conditions),
            ["A=False/Broken", "B=Unknown/Working", "Ready=False/Broken"]
        );
        let mut manager = SET.manage(&mut conditions, at(2));
        manager.mark_true("B");
        assert_eq!(manager.top_level().unwrap().reason, "Broken");
        manager.mark_unknown("A", "Again", "once more");
        assert_eq!(
            shown(&conditions),
            ["A=Unknown/Again", "B=True/", "Ready=Unknown/Again"]
        );
    }

    #[test]
    fn of_several_false_ones_the_newest_speaks() {
        let mut conditions = Vec::new();
        SET.manage(&mut conditions, at(1)).mark_false("A", "Old", "");
        SET.manage(&mut conditions, at(2)).mark_false("B", "New", "");
        let mut manager = SET.manage(&mut conditions, at(3));
        manager.mark_true("C");
        assert_eq!(manager.top_level().unwrap().reason, "New");
    }

    #[test]
    fn a_dependent_that_is_missing_keeps_ready_unknown() {
        let mut conditions = Vec::new();
        SET.manage(&mut conditions, at(1)).mark_true("A");
        assert_eq!(shown(&conditions), ["A=True/", "Ready=Unknown/"]);
    }

    #[test]
    fn others_are_informational() {
        let mut conditions = Vec::new();
        let mut manager = SET.manage(&mut conditions, at(1));
        manager.mark_true("A");
        manager.mark_true("B");
        manager.mark_false("Active", "NoTraffic", "nobody calls");
        assert!(manager.is_happy());
        assert_eq!(manager.get("Active").unwrap().severity, SEVERITY_INFO);
        assert_eq!(manager.get("A").unwrap().severity, "");
        manager.clear("A");
        manager.clear("Active");
        assert_eq!(shown(&conditions), ["A=True/", "B=True/", "Ready=True/"]);
    }

    #[test]
    fn a_set_without_dependents_is_marked_itself() {
        const ALONE: ConditionSet = ConditionSet::living(&[]);
        let mut conditions = Vec::new();
        let mut manager = ALONE.manage(&mut conditions, at(1));
        manager.initialize();
        manager.mark_false(READY, "RevisionFailed", "why");
        assert_eq!(manager.top_level().unwrap().reason, "RevisionFailed");
        manager.mark_unknown(READY, "", "");
        assert!(manager.top_level().unwrap().is_unknown());
        manager.mark_true(READY);
        assert!(manager.is_happy());
    }

    #[test]
    fn what_is_missing_beside_a_true_ready_is_true() {
        let mut conditions = vec![Condition {
            type_: READY.into(),
            status: ConditionStatus::True,
            ..Condition::default()
        }];
        SET.manage(&mut conditions, at(1)).initialize();
        assert_eq!(shown(&conditions), ["A=True/", "B=True/", "Ready=True/"]);
    }

    #[test]
    fn times_move_only_with_the_words() {
        let mut conditions = Vec::new();
        SET.manage(&mut conditions, "2026-01-02T03:04:05.678Z".parse().unwrap())
            .mark_false("A", "X", "x");
        let first = changed_at(&conditions, "A");
        assert_eq!(
            conditions[0]
                .last_transition_time
                .as_ref()
                .unwrap()
                .0
                .subsec_nanosecond(),
            0
        );
        SET.manage(&mut conditions, at(first + 10))
            .mark_false("A", "X", "x");
        assert_eq!(
            (changed_at(&conditions, "A"), changed_at(&conditions, READY)),
            (first, first)
        );
        SET.manage(&mut conditions, at(first + 20))
            .mark_false("A", "X", "y");
        assert_eq!(
            (changed_at(&conditions, "A"), changed_at(&conditions, READY)),
            (first + 20, first + 20)
        );
    }

    #[test]
    fn conditions_are_written_without_noise() {
        let mut conditions = Vec::new();
        SET.manage(&mut conditions, at(0)).mark_true("A");
        let written = serde_json::to_value(&conditions).unwrap();
        assert_eq!(
            written,
            serde_json::json!([
                {"type": "A", "status": "True", "lastTransitionTime": "1970-01-01T00:00:00Z"},
                {"type": "Ready", "status": "Unknown", "lastTransitionTime": "1970-01-01T00:00:00Z"},
            ])
        );
        assert_eq!(
            serde_json::from_value::<Vec<Condition>>(written).unwrap(),
            conditions
        );
    }
}
