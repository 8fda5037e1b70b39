//! `v1` Endpoints and `discovery.k8s.io/v1` EndpointSlice: rows of kinds whose objects [`crate::endpoints`] makes.

use super::pod::read_only;
use super::{AGE, NAME, core_kind, created, schema_of, version};
use crate::endpoints;
use crate::object::{self, text};
use crate::registry::{Column, Columns, Kind, RegistryError};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock};

const SLICES_API_VERSION: &str = "discovery.k8s.io/v1";
/// Why none can be written.
const READ_ONLY: &str = "endpoints are made by the platform, for each Revision and the activator; \
     they cannot be written: deploy a Service of serving.knative.dev instead";
/// How many of something a cell shows (kubernetes `pkg/printers/internalversion`).
const SHOWN_MAX: usize = 3;

/// The same for every server of a process.
static ENDPOINTS_SCHEMA: LazyLock<Value> = LazyLock::new(schema_of::<Endpoints>);
/// See [`ENDPOINTS_SCHEMA`].
static SLICES_SCHEMA: LazyLock<Value> = LazyLock::new(schema_of::<EndpointSlice>);

const fn column(name: &'static str) -> Column {
    Column {
        name,
        kind: "string",
        priority: 0,
    }
}

pub(super) fn endpoints() -> Result<Kind, RegistryError> {
    const COLUMNS: &[Column] = &[NAME, column("Endpoints"), AGE];
    let cells = |object: &Value, now: Timestamp| {
        vec![
            object::name(object).into(),
            addresses_cell(object).into(),
            created(object, now),
        ]
    };
    let columns = Columns::HandMade(COLUMNS, cells);
    let v1 = super::Version {
        open_api: ENDPOINTS_SCHEMA.clone(),
        ..version("v1", anything(), columns)?
    };
    let row = core_kind("endpoints", "endpoints", "Endpoints", "ep", vec![v1]);
    Ok(Kind {
        storage_resource: Arc::from(endpoints::ENDPOINTS),
        ..read_only(row, READ_ONLY)
    })
}

pub(super) fn slices() -> Result<Kind, RegistryError> {
    const COLUMNS: &[Column] = &[
        NAME,
        column("AddressType"),
        column("Ports"),
        column("Endpoints"),
        AGE,
    ];
    let cells = |object: &Value, now: Timestamp| {
        let ports = items(object, "/ports").map(|port| number(port).to_string());
        let addresses = items(object, "/endpoints")
            .flat_map(|endpoint| items(endpoint, "/addresses"))
            .map(|address| address.as_str().unwrap_or_default().to_owned());
        vec![
            object::name(object).into(),
            text(object, "/addressType").into(),
            shown(ports, "<unset>").into(),
            shown(addresses, "<unset>").into(),
            created(object, now),
        ]
    };
    let columns = Columns::HandMade(COLUMNS, cells);
    let v1 = super::Version {
        open_api: SLICES_SCHEMA.clone(),
        ..version(SLICES_API_VERSION, anything(), columns)?
    };
    let row = core_kind("endpointslices", "endpointslice", "EndpointSlice", "", vec![v1]);
    Ok(Kind {
        group: "discovery.k8s.io".into(),
        storage_resource: Arc::from(endpoints::SLICES),
        storage_api_version: SLICES_API_VERSION.into(),
        ..read_only(row, READ_ONLY)
    })
}

/// Nobody writes them, so nothing is checked or pruned; the schema is for clients.
fn anything() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// Addresses with ports, as kubectl's own printer has them (`formatEndpoints`).
fn addresses_cell(endpoints: &Value) -> String {
    let all = items(endpoints, "/subsets").flat_map(|subset| {
        items(subset, "/ports").flat_map(move |port| {
            items(subset, "/addresses")
                .map(move |address| format!("{}:{}", text(address, "/ip"), number(port)))
        })
    });
    shown(all, "<none>")
}

/// The first ones, and how many more there are.
fn shown(all: impl Iterator<Item = String>, none: &str) -> String {
    let all: Vec<String> = all.collect();
    if all.is_empty() {
        return none.to_owned();
    }
    let first = all.iter().take(SHOWN_MAX).map(String::as_str);
    let first = first.collect::<Vec<_>>().join(",");
    match all.len().saturating_sub(SHOWN_MAX) {
        0 => first,
        more => format!("{first} + {more} more..."),
    }
}

fn items<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    let list = object.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten()
}

fn number(port: &Value) -> i64 {
    port.get("port").and_then(Value::as_i64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_three_and_counts_the_others() {
        let with = |addresses: &[&str]| {
            let addresses: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
            json!({"subsets": [{"addresses": addresses, "ports": [{"port": 8012}]}]})
        };
        for (endpoints, wanted) in [
            (json!({}), "<none>"),
            (with(&["10.0.0.1"]), "10.0.0.1:8012"),
            (with(&["a", "b", "c"]), "a:8012,b:8012,c:8012"),
            (
                with(&["a", "b", "c", "d", "e"]),
                "a:8012,b:8012,c:8012 + 2 more...",
            ),
        ] {
            assert_eq!(addresses_cell(&endpoints), wanted);
        }
        assert_eq!(shown(std::iter::empty(), "<unset>"), "<unset>");
    }
}
