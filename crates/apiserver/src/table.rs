//! `Table` and `PartialObjectMetadata`: what `kubectl get` and metadata watchers ask for instead of objects.

use crate::registry::{Columns, PathColumn, Served};
use crate::status::ApiError;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// What a table row carries of its object (`includeObject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IncludeObject {
    None,
    Metadata,
    Object,
}

impl IncludeObject {
    /// Reads the query parameter; the default is the metadata.
    pub(crate) fn parse(value: Option<&str>) -> Result<Self, ApiError> {
        match value {
            None | Some("Metadata") => Ok(Self::Metadata),
            Some("None") => Ok(Self::None),
            Some("Object") => Ok(Self::Object),
            Some(other) => Err(ApiError::bad_request(format!(
                "includeObject={other:?} is not supported: use None, Metadata or Object"
            ))),
        }
    }
}

/// A table of objects.
pub(crate) fn table<'v>(
    served: &Served,
    version: &str,
    objects: impl IntoIterator<Item = &'v Value>,
    list_metadata: Value,
    include: IncludeObject,
    now: Timestamp,
) -> Value {
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| row(served, object, include, now))
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": list_metadata,
        "columnDefinitions": column_definitions(served),
        "rows": rows,
    })
}

/// `PartialObjectMetadata` of one object.
pub(crate) fn partial_metadata(object: &Value, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| Value::Object(Map::new())),
    })
}

/// Kubernetes' description of the first column; kubectl does not print it, other clients do.
const NAME_DESCRIPTION: &str = "Name must be unique within a namespace. Is required when creating resources.";

fn column_definitions(served: &Served) -> Vec<Value> {
    let definition = |name: &str, kind: &str, format: &str, description: &str, priority: i32| json!({"name": name, "type": kind, "format": format, "description": description, "priority": priority});
    match &served.version.columns {
        Columns::HandMade(columns, _) => columns
            .iter()
            .map(|column| {
                let format = if column.name == "Name" { "name" } else { "" };
                definition(column.name, column.kind, format, "", column.priority)
            })
            .collect(),
        Columns::Paths(columns) => {
            let mut definitions = vec![definition("Name", "string", "name", NAME_DESCRIPTION, 0)];
            if columns.is_empty() {
                definitions.push(definition(
                    "Age",
                    "date",
                    "",
                    "Time since the object was created.",
                    0,
                ));
            }
            definitions.extend(columns.iter().map(|column| {
                definition(
                    &column.name,
                    &column.kind,
                    &column.format,
                    &column.description,
                    column.priority,
                )
            }));
            definitions
        }
    }
}

fn row(served: &Served, object: &Value, include: IncludeObject, now: Timestamp) -> Value {
    let cells = match &served.version.columns {
        Columns::HandMade(_, cells) => cells(object, now),
        Columns::Paths(columns) => {
            let mut cells = vec![Value::from(crate::object::name(object))];
            if columns.is_empty() {
                cells.push(age(crate::object::text(object, "/metadata/creationTimestamp"), now).into());
            }
            cells.extend(columns.iter().map(|column| cell(column, object, now)));
            cells
        }
    };
    match include {
        IncludeObject::None => json!({"cells": cells}),
        IncludeObject::Metadata => json!({"cells": cells, "object": partial_metadata(object, "v1")}),
        IncludeObject::Object => json!({"cells": cells, "object": object}),
    }
}

/// The first value a column's path finds, in the column's type; nothing found is a null cell
/// (apiextensions-apiserver pkg/registry/customresource/tableconvertor).
fn cell(column: &PathColumn, object: &Value, now: Timestamp) -> Value {
    let found = column.path.find(object);
    let Some(value) = found.first() else {
        return Value::Null;
    };
    match (column.kind.as_str(), value) {
        (_, Value::Null) => Value::Null,
        ("date", Value::String(at)) => age(at, now).into(),
        ("integer" | "number", Value::Number(_))
        | ("boolean", Value::Bool(_))
        | ("string", Value::String(_)) => (*value).clone(),
        ("string", other) => other.to_string().into(),
        _ => Value::Null,
    }
}

/// Age of a time as people read it; `<unknown>` when there is none.
pub(crate) fn age(since: &str, now: Timestamp) -> String {
    match since.parse::<Timestamp>() {
        Ok(since) => human_duration(now.duration_since(since).as_secs()),
        Err(_) => "<unknown>".to_owned(),
    }
}

/// `45s`, `3m20s`, `5h`, `2d3h`, `400d`, `3y`: k8s.io/apimachinery/pkg/util/duration, `HumanDuration`.
fn human_duration(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{large}{unit}")
        } else {
            format!("{large}{unit}{small}{small_unit}")
        }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_kubectl() {
        for (seconds, wanted) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (601, "10m"),
            (10_799, "179m"),
            (10_860, "3h1m"),
            (28_800, "8h"),
            (180_000, "2d2h"),
            (864_000, "10d"),
            (63_072_000, "2y"),
            (400_000_000, "12y"),
        ] {
            assert_eq!(human_duration(seconds), wanted, "{seconds}");
        }
    }

    #[test]
    fn a_missing_time_is_unknown() {
        assert_eq!(age("", Timestamp::UNIX_EPOCH), "<unknown>");
    }
}
