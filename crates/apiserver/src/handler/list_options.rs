//! Which parameters of a list or watch go together (apimachinery
//! `pkg/apis/meta/internalversion/validation/validation.go`; kubernetes.io/docs/reference/using-api/api-concepts,
//! "Semantics for get and list" and "Semantics for watch").

use crate::query::Query;
use crate::status::{ApiError, Cause};

const EXACT: &str = "Exact";
const NOT_OLDER: &str = "NotOlderThan";

/// How a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WatchStart {
    /// The state as it is, as ADDED events, then changes; `marked` ends the state with a bookmark.
    State { marked: bool },
    /// Changes after this resource version.
    After(u64),
    /// Changes from now on.
    Now,
}

fn forbidden(field: &str, why: &str) -> Cause {
    Cause::new(field, "FieldValueForbidden", format!("Forbidden: {why}"))
}

fn unsupported(rule: &str, supported: &str) -> Cause {
    Cause::new(
        "resourceVersionMatch",
        "FieldValueNotSupported",
        format!("Unsupported value: {rule:?}: supported values: {supported}"),
    )
}

fn refuse(causes: &[Cause]) -> Result<(), ApiError> {
    if causes.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid_options("ListOptions", causes))
}

/// The `resourceVersion` of a request, refused when it is newer than what is there: a client that saw it talked to
/// a server that knows more.
pub(crate) fn not_newer(query: &Query, current: u64) -> Result<Option<u64>, ApiError> {
    match query.number("resourceVersion")? {
        Some(wanted) if wanted > current => Err(ApiError::too_large_resource_version(wanted, current)),
        wanted => Ok(wanted),
    }
}

/// Checks the parameters of a list.
pub(crate) fn check_list(query: &Query) -> Result<(), ApiError> {
    let version = query.get("resourceVersion");
    let mut causes = Vec::new();
    let mut no = |why: &str| causes.push(forbidden("resourceVersionMatch", why));
    if let Some(rule) = query.get("resourceVersionMatch") {
        if version.is_none() {
            no("resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if query.get("continue").is_some() {
            no("resourceVersionMatch is forbidden when continue is provided");
        }
        if rule == EXACT && version == Some("0") {
            no("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
        if rule != EXACT && rule != NOT_OLDER {
            causes.push(unsupported(rule, "\"Exact\", \"NotOlderThan\", \"\""));
        }
    }
    if query.has("sendInitialEvents") {
        causes.push(forbidden(
            "sendInitialEvents",
            "sendInitialEvents is forbidden for list",
        ));
    }
    refuse(&causes)
}

/// Whether a list at `current` is what `resourceVersion` and `resourceVersionMatch` ask for.
pub(crate) fn check_list_version(query: &Query, current: u64) -> Result<(), ApiError> {
    let exact = query.get("resourceVersionMatch") == Some(EXACT);
    match query.number("resourceVersion")? {
        Some(wanted) if exact && wanted < current => Err(ApiError::expired(format!(
            "The resourceVersion for the provided list is too old: {wanted}; the newest is {current}"
        ))),
        _ => not_newer(query, current).map(|_| ()),
    }
}

/// Checks the parameters of a watch and says how it begins.
pub(crate) fn watch_start(query: &Query, current: u64) -> Result<WatchStart, ApiError> {
    let send = query.has("sendInitialEvents");
    let rule = query.get("resourceVersionMatch");
    let mut causes = Vec::new();
    let mut no = |why: &str| causes.push(forbidden("resourceVersionMatch", why));
    if send && rule != Some(NOT_OLDER) {
        no("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if rule.is_some() && !send {
        no("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
    }
    if rule.is_some() && query.get("continue").is_some() {
        no("resourceVersionMatch is forbidden when continue is provided");
    }
    if let Some(other) = rule.filter(|rule| *rule != NOT_OLDER) {
        causes.push(unsupported(other, "\"NotOlderThan\""));
    }
    refuse(&causes)?;
    let version = query.number("resourceVersion")?.filter(|version| *version > 0);
    if send && query.flag("sendInitialEvents") {
        not_newer(query, current)?;
        return Ok(WatchStart::State { marked: true });
    }
    Ok(match version {
        Some(version) => WatchStart::After(version),
        None if send => WatchStart::Now,
        None => WatchStart::State { marked: false },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(&format!("/x?{text}").parse().unwrap()).unwrap()
    }

    #[test]
    fn watches_begin_where_they_are_told_to() {
        let state = |marked| Ok(WatchStart::State { marked });
        for (given, wanted) in [
            ("", state(false)),
            ("resourceVersion=0", state(false)),
            ("resourceVersion=7", Ok(WatchStart::After(7))),
            (
                "sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
                state(true),
            ),
            (
                "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=7",
                state(true),
            ),
            (
                "sendInitialEvents=false&resourceVersionMatch=NotOlderThan",
                Ok(WatchStart::Now),
            ),
            (
                "sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=7",
                Ok(WatchStart::After(7)),
            ),
            (
                "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=99",
                Err(504),
            ),
            ("sendInitialEvents=true", Err(422)),
            ("sendInitialEvents=true&resourceVersionMatch=Exact", Err(422)),
            ("resourceVersionMatch=NotOlderThan", Err(422)),
            ("resourceVersion=x", Err(400)),
        ] {
            assert_eq!(
                watch_start(&query(given), 10).map_err(|error| error.code),
                wanted,
                "{given}"
            );
        }
    }

    #[test]
    fn lists_are_as_new_as_they_are_told_to_be() {
        for (given, wanted) in [
            ("", Ok(())),
            ("resourceVersion=0", Ok(())),
            ("resourceVersion=7", Ok(())),
            ("resourceVersion=10&resourceVersionMatch=Exact", Ok(())),
            ("resourceVersion=7&resourceVersionMatch=Exact", Err(410)),
            ("resourceVersion=7&resourceVersionMatch=NotOlderThan", Ok(())),
            ("resourceVersion=11", Err(504)),
            ("resourceVersion=11&resourceVersionMatch=Exact", Err(504)),
            ("resourceVersionMatch=Exact", Err(422)),
            ("resourceVersion=0&resourceVersionMatch=Exact", Err(422)),
            ("resourceVersion=7&resourceVersionMatch=Newest", Err(422)),
            (
                "resourceVersion=7&resourceVersionMatch=Exact&continue=x",
                Err(422),
            ),
            ("sendInitialEvents=true", Err(422)),
        ] {
            let result = check_list(&query(given)).and_then(|()| check_list_version(&query(given), 10));
            assert_eq!(result.map_err(|error| error.code), wanted, "{given}");
        }
    }
}
