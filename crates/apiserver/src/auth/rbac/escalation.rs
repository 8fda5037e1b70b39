//! Nobody grants what they do not hold: roles and bindings are written only by those who have all that these allow, or
//! the verbs `escalate` and `bind` (kubernetes/pkg/registry/rbac/{role,rolebinding,…}/policybased).

use super::{ALL, GROUP, PolicyRule, RoleRef, cover, rules_of};
use crate::auth::attributes::{Attributes, ResourceAttributes};
use crate::auth::identity::Identity;
use crate::auth::rbac::index::Rbac;
use crate::object;
use crate::registry::Served;
use crate::status::{ApiError, Names};
use serde_json::Value;

/// A role or a binding that is about to be written.
pub(crate) struct Grant<'a> {
    pub served: &'a Served,
    pub namespace: &'a str,
    /// The object as it is; `None` on create.
    pub old: Option<&'a Value>,
    pub new: &'a Value,
}

/// Refuses a grant of what the writer does not hold. Other kinds are no concern of it.
pub(crate) fn check(rbac: &Rbac, writer: &Identity, grant: &Grant<'_>) -> Result<(), ApiError> {
    let kind = &grant.served.kind;
    if kind.group != GROUP || writer.is_superuser() {
        return Ok(());
    }
    match kind.plural.as_str() {
        "roles" | "clusterroles" => role(rbac, writer, grant),
        _ => binding(rbac, writer, grant),
    }
}

fn role(rbac: &Rbac, writer: &Identity, grant: &Grant<'_>) -> Result<(), ApiError> {
    let same = |old: &Value| {
        old.get("rules") == grant.new.get("rules")
            && old.get("aggregationRule") == grant.new.get("aggregationRule")
    };
    let kind = &grant.served.kind.plural;
    if grant.old.is_some_and(same)
        || may(
            rbac,
            writer,
            grant.namespace,
            "escalate",
            kind,
            object::name(grant.new),
        )
    {
        return Ok(());
    }
    let names = grant.served.names();
    let aggregated = |object: &Value| object.get("aggregationRule").is_some_and(|rule| !rule.is_null());
    if aggregated(grant.new) || grant.old.is_some_and(aggregated) {
        let all = || vec![ALL.to_owned()];
        let everything = [
            PolicyRule {
                verbs: all(),
                api_groups: all(),
                resources: all(),
                ..PolicyRule::default()
            },
            PolicyRule {
                verbs: all(),
                non_resource_urls: all(),
                ..PolicyRule::default()
            },
        ];
        if cover::covers(&rbac.rules(writer, ""), &everything).is_err() {
            let why = "must have cluster-admin privileges to use the aggregationRule";
            return Err(ApiError::forbidden(names, object::name(grant.new), why, &[]));
        }
    }
    confirm(rbac, writer, grant, names, &rules_of(grant.new))
}

fn binding(rbac: &Rbac, writer: &Identity, grant: &Grant<'_>) -> Result<(), ApiError> {
    let same = |old: &Value| {
        old.get("roleRef") == grant.new.get("roleRef") && old.get("subjects") == grant.new.get("subjects")
    };
    if grant.old.is_some_and(same) {
        return Ok(());
    }
    // A binding without a readable role is refused by validation.
    let Some(role) = RoleRef::read(grant.new) else {
        return Ok(());
    };
    let plural = if role.cluster { "clusterroles" } else { "roles" };
    if may(rbac, writer, grant.namespace, "bind", plural, &role.name) {
        return Ok(());
    }
    let Some(rules) = rbac.role(&role, grant.namespace) else {
        let names = Names {
            group: GROUP,
            plural,
            kind: role.kind(),
        };
        return Err(ApiError::not_found(names, &role.name));
    };
    confirm(rbac, writer, grant, grant.served.names(), &rules)
}

fn may(rbac: &Rbac, writer: &Identity, namespace: &str, verb: &str, resource: &str, name: &str) -> bool {
    let asked = ResourceAttributes {
        verb: verb.to_owned(),
        group: GROUP.to_owned(),
        version: "v1".to_owned(),
        resource: resource.to_owned(),
        subresource: String::new(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    rbac.decide(writer, &Attributes::Resource(asked)).allowed
}

/// Whether the writer holds all of `rules` where they are granted.
fn confirm(
    rbac: &Rbac,
    writer: &Identity,
    grant: &Grant<'_>,
    names: Names<'_>,
    rules: &[PolicyRule],
) -> Result<(), ApiError> {
    let Err(missing) = cover::covers(&rbac.rules(writer, grant.namespace), rules) else {
        return Ok(());
    };
    let groups: Vec<String> = writer.groups.iter().map(|group| format!("{group:?}")).collect();
    let why = format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{missing}",
        writer.name,
        groups.join(" ")
    );
    Err(ApiError::forbidden(names, object::name(grant.new), &why, &[]))
}
