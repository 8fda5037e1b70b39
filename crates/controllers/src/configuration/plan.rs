//! Which Revision a Configuration needs, and which is its latest ready one.

use crate::events::Notice;
use crate::object::{Map, Meta, child_meta, is_controlled_by, keep_times};
use crate::runner::Next;
use jiff::Timestamp;
use kittiwake_api::condition::{self, ConditionStatus, Conditions, READY};
use kittiwake_api::serving::configuration::{CONDITIONS, reason};
use kittiwake_api::serving::{Configuration, ConfigurationStatus, Revision, RevisionSpec};
use kittiwake_api::{meta, names};
use std::sync::Arc;
use std::time::Duration;

/// Pause before a taken revision name is looked at again, in case the one that has it goes away.
const NAME_TAKEN_PAUSE: Duration = Duration::from_secs(10);

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The Revision to make.
    pub create: Option<Box<Revision>>,
    /// The new status, when it differs.
    pub status: Option<ConfigurationStatus>,
    /// What to tell once the status is written.
    pub notices: Vec<Notice>,
    /// When to look again.
    pub next: Next,
}

/// Whether the revision name that a template asks for can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameCheck {
    /// The template asks for none, or nobody has it.
    Free,
    /// The Revision of that name is this generation's, or has the same spec.
    Ours,
    /// It belongs to something else, or to another spec.
    Taken,
}

/// Compares the template's revision name with who has that name (`CheckNameAvailability` of
/// `pkg/reconciler/configuration/configuration.go`).
#[must_use]
pub fn check_name(configuration: &Configuration, named: Option<&Revision>) -> NameCheck {
    let (Some(_), Some(revision)) = (template_name(configuration), named) else {
        return NameCheck::Free;
    };
    if !is_controlled_by(revision, configuration) {
        return NameCheck::Taken;
    }
    if generation_of(revision) == configuration.metadata.generation
        || same_spec(&revision.spec, &configuration.spec.template.spec)
    {
        return NameCheck::Ours;
    }
    NameCheck::Taken
}

/// Whether both run the same. `enableServiceLinks` is filled in when an object is made, but not when its spec is replaced
/// later (`SetDefaults` of `revision_defaults.go`), so one that says nothing of it says the default.
fn same_spec(one: &RevisionSpec, other: &RevisionSpec) -> bool {
    let links = |spec: &RevisionSpec| spec.pod_spec.enable_service_links.unwrap_or(false);
    if links(one) != links(other) {
        return false;
    }
    let filled = |spec: &RevisionSpec| {
        let mut spec = spec.clone();
        spec.pod_spec.enable_service_links = None;
        spec
    };
    filled(one) == filled(other)
}

/// The name of the Revision of the newest generation.
#[must_use]
pub fn wanted_name(configuration: &Configuration) -> String {
    template_name(configuration).map_or_else(
        || {
            names::revision_name(
                configuration.name_str(),
                configuration.metadata.generation.unwrap_or_default(),
            )
        },
        str::to_owned,
    )
}

fn template_name(configuration: &Configuration) -> Option<&str> {
    let meta = configuration.spec.template.metadata.as_ref()?;
    meta.name.as_deref().filter(|name| !name.is_empty())
}

fn generation_of(revision: &Revision) -> Option<i64> {
    revision.label(meta::CONFIGURATION_GENERATION_LABEL)?.parse().ok()
}

/// Decides what a Configuration needs. `revisions` are those that carry its label, `named` the one that has the name
/// that the newest generation's will get.
#[must_use]
pub fn plan(
    configuration: &Configuration,
    revisions: &[Arc<Revision>],
    named: Option<&Revision>,
    now: Timestamp,
) -> Plan {
    let old = configuration.status.clone().unwrap_or_default();
    let mut status = old.clone();
    let mut conditions = std::mem::take(&mut status.conditions);
    let mut manager = CONDITIONS.manage(&mut conditions, now);
    manager.initialize();
    let mut plan = Plan {
        create: None,
        status: None,
        notices: Vec::new(),
        next: Next::OnChange,
    };
    let generation = configuration.metadata.generation;
    let by_generation = revisions
        .iter()
        .find(|r| generation_of(r) == generation && is_controlled_by(&***r, configuration));
    let name_taken = match template_name(configuration) {
        Some(_) => check_name(configuration, named) == NameCheck::Taken,
        None => by_generation.is_none() && named.is_some_and(|r| !is_controlled_by(r, configuration)),
    };
    let latest = match template_name(configuration) {
        Some(_) => named,
        None => by_generation.map(|r| &**r),
    };
    if name_taken {
        let message = format!(
            "revisions.serving.knative.dev {:?} already exists",
            wanted_name(configuration)
        );
        let message = format!("Revision creation failed with message: {message}.");
        manager.mark_false(READY, reason::REVISION_FAILED, &message);
        plan.next = Next::After(NAME_TAKEN_PAUSE);
    } else {
        let name = latest.map_or_else(|| wanted_name(configuration), |r| r.name_str().to_owned());
        if latest.is_none() {
            plan.create = Some(Box::new(new_revision(configuration, now)));
        }
        set_latest_created(&mut status, &mut manager, name);
        follow_latest_created(&mut plan, &status, &mut manager, latest);
        follow_latest_ready(&mut plan, &mut status, &mut manager, revisions);
    }
    status.observed_generation = generation;
    keep_times(&old.conditions, &mut conditions);
    status.conditions = conditions;
    plan.notices.extend(readiness_notice(&old, &status));
    plan.status = (status != old).then_some(status);
    if plan.status.is_none() {
        plan.notices.clear();
    }
    plan
}

fn set_latest_created(status: &mut ConfigurationStatus, conditions: &mut Conditions<'_>, name: String) {
    let changed = status.latest_created_revision_name.as_deref() != Some(&name);
    if changed && status.latest_ready_revision_name.as_deref() != Some(&name) {
        conditions.mark_unknown(READY, "", "");
    }
    status.latest_created_revision_name = Some(name);
}

/// Repeats the failure of the newest Revision, and its recovery.
fn follow_latest_created(
    plan: &mut Plan,
    status: &ConfigurationStatus,
    conditions: &mut Conditions<'_>,
    latest: Option<&Revision>,
) {
    let Some(revision) = latest else { return };
    let ready = revision
        .status
        .as_ref()
        .and_then(|s| condition::find(&s.conditions, READY));
    let Some(ready) = ready else { return };
    match ready.status {
        ConditionStatus::False => {
            let dot = if ready.message.ends_with('.') { "" } else { "." };
            let name = revision.name_str();
            let message = format!("Revision {name:?} failed with message: {}{dot}", ready.message);
            conditions.mark_false(READY, reason::REVISION_FAILED, &message);
            plan.notices.push(Notice::warning(
                "LatestCreatedFailed",
                format!("Latest created revision {name:?} has failed"),
            ));
        }
        ConditionStatus::Unknown => {
            // A Revision that failed and is being tried again has not failed for good.
            if conditions
                .get(READY)
                .is_some_and(|c| c.is_false() && c.reason == reason::REVISION_FAILED)
            {
                conditions.mark_unknown(READY, &ready.reason, &ready.message);
            }
        }
        ConditionStatus::True => {
            if status.latest_ready_revision_name.as_deref() == Some(revision.name_str()) {
                conditions.mark_true(READY);
            }
        }
    }
}

/// Moves the latest ready name to the newest Revision that is ready, never back.
fn follow_latest_ready(
    plan: &mut Plan,
    status: &mut ConfigurationStatus,
    conditions: &mut Conditions<'_>,
    revisions: &[Arc<Revision>],
) {
    let by_name = |name: &str| revisions.iter().find(|r| r.name_str() == name);
    let current = status.latest_ready_revision_name.clone();
    let floor = current
        .as_deref()
        .and_then(by_name)
        .and_then(|r| generation_of(r));
    let usable = |r: &&Arc<Revision>| is_ready(r) && !r.is_being_deleted();
    // A template may go back to a name that it had before: that Revision is the newest again, whatever its number.
    let created = status.latest_created_revision_name.as_deref();
    let newest = created.and_then(by_name).filter(usable).or_else(|| {
        let candidates = revisions.iter().filter(usable);
        candidates
            .filter(|r| generation_of(r) >= floor)
            .max_by_key(|r| generation_of(r))
    });
    match (newest, current) {
        (Some(newest), current) if current.as_deref() != Some(newest.name_str()) => {
            let name = newest.name_str().to_owned();
            plan.notices.push(Notice::normal(
                "LatestReadyUpdate",
                format!("LatestReadyRevisionName updated to {name:?}"),
            ));
            if status.latest_created_revision_name.as_deref() == Some(&name) {
                conditions.mark_true(READY);
            }
            status.latest_ready_revision_name = Some(name);
        }
        (None, Some(current)) if by_name(&current).is_none() => {
            let message = format!("Revision {current:?} was deleted.");
            conditions.mark_false(READY, reason::REVISION_DELETED, &message);
        }
        _ => {}
    }
}

fn is_ready(revision: &Revision) -> bool {
    let conditions = revision
        .status
        .as_ref()
        .map(|s| s.conditions.as_slice())
        .unwrap_or_default();
    condition::find(conditions, READY).is_some_and(condition::Condition::is_true)
}

fn readiness_notice(old: &ConfigurationStatus, new: &ConfigurationStatus) -> Option<Notice> {
    let ready = |s: &ConfigurationStatus| condition::find(&s.conditions, READY).is_some_and(|c| c.is_true());
    (ready(new) && !ready(old)).then(|| Notice::normal("ConfigurationReady", "Configuration becomes ready"))
}

/// The Revision of the newest generation (`pkg/reconciler/configuration/resources/revision.go`).
fn new_revision(configuration: &Configuration, now: Timestamp) -> Revision {
    let template = configuration.spec.template.metadata.clone().unwrap_or_default();
    let mut labels = template.labels.unwrap_or_default();
    let mut label = |key: &str, value: Option<&str>| {
        if let Some(value) = value {
            labels.insert(key.to_owned(), value.to_owned());
        }
    };
    let generation = configuration.metadata.generation.unwrap_or_default().to_string();
    label(meta::SERVICE_LABEL, configuration.label(meta::SERVICE_LABEL));
    label(
        meta::SERVICE_UID_LABEL,
        configuration.label(meta::SERVICE_UID_LABEL),
    );
    label(meta::CONFIGURATION_LABEL, Some(configuration.name_str()));
    label(meta::CONFIGURATION_UID_LABEL, Some(configuration.uid_str()));
    label(meta::CONFIGURATION_GENERATION_LABEL, Some(&generation));
    label(meta::ROUTING_STATE_LABEL, Some(meta::ROUTING_STATE_PENDING));
    let mut annotations: Map = template.annotations.unwrap_or_default();
    annotations.insert(
        meta::ROUTING_STATE_MODIFIED_ANNOTATION.to_owned(),
        whole_seconds(now),
    );
    let creator = [meta::LAST_MODIFIER_ANNOTATION, meta::CREATOR_ANNOTATION]
        .iter()
        .find_map(|key| configuration.annotation(key));
    if let Some(creator) = creator {
        annotations.insert(meta::CREATOR_ANNOTATION.to_owned(), creator.to_owned());
    }
    Revision {
        metadata: child_meta(configuration, wanted_name(configuration), labels, annotations),
        spec: configuration.spec.template.spec.clone(),
        status: None,
    }
}

/// RFC 3339 in whole seconds, as in [`meta::ROUTING_STATE_MODIFIED_ANNOTATION`].
#[must_use]
pub fn whole_seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
