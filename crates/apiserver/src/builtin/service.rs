//! `v1` Service: what other programs look up by name, such as the address of the gateway. Nothing here forwards to one.

use super::{AGE, NAME, core_kind, created, schema_of, version};
use crate::object::{self, child_mut, text};
use crate::registry::{Column, Columns, Hooks, Kind, RegistryError};
use crate::status::Cause;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use serde_json::Value;

/// Ports are numbers from 1 to this.
const PORT_MAX: i64 = 65_535;
/// What `spec.type` may be; the first is the default.
const TYPES: [&str; 4] = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
/// What `spec.ports[].protocol` may be; the first is the default.
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

pub(super) fn kind() -> Result<Kind, RegistryError> {
    const COLUMNS: &[Column] = &[
        NAME,
        column("Type"),
        column("Cluster-IP"),
        column("External-IP"),
        column("Port(s)"),
        AGE,
    ];
    let cells = |service: &Value, now: Timestamp| {
        vec![
            object::name(service).into(),
            text(service, "/spec/type").into(),
            or_none(text(service, "/spec/clusterIP")).into(),
            or_none(&external_address(service)).into(),
            or_none(&ports_cell(service)).into(),
            created(service, now),
        ]
    };
    let mut v1 = version("v1", schema_of::<Service>(), Columns::HandMade(COLUMNS, cells))?;
    v1.selectable_fields = vec!["spec.type".into(), "spec.clusterIP".into()];
    Ok(Kind {
        status: true,
        categories: vec!["all".to_owned()],
        hooks: Hooks {
            default: Some(default),
            validate: Some(check),
            ..Hooks::default()
        },
        ..core_kind("services", "service", "Service", "svc", vec![v1])
    })
}

const fn column(name: &'static str) -> Column {
    Column {
        name,
        kind: "string",
        priority: 0,
    }
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

/// As kubectl's own printer chooses it (kubernetes `pkg/printers/internalversion`).
fn external_address(service: &Value) -> String {
    if text(service, "/spec/type") == "ExternalName" {
        return text(service, "/spec/externalName").to_owned();
    }
    let found = items(service, "/status/loadBalancer/ingress").filter_map(|ingress| {
        let address = |field: &str| ingress.get(field).and_then(Value::as_str);
        address("ip").or_else(|| address("hostname"))
    });
    found.collect::<Vec<_>>().join(",")
}

fn ports_cell(service: &Value) -> String {
    let ports = items(service, "/spec/ports").map(|port| {
        let number = |field: &str| port.get(field).and_then(Value::as_i64);
        let protocol = port
            .get("protocol")
            .and_then(Value::as_str)
            .unwrap_or(PROTOCOLS[0]);
        match number("nodePort") {
            Some(node) => format!("{}:{node}/{protocol}", number("port").unwrap_or_default()),
            None => format!("{}/{protocol}", number("port").unwrap_or_default()),
        }
    });
    ports.collect::<Vec<_>>().join(",")
}

fn items<'a>(service: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    service
        .pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// The defaults of a cluster (kubernetes `pkg/apis/core/v1/defaults.go`) that do not depend on its network.
fn default(service: &mut Value) {
    let spec = child_mut(service, "spec");
    let kind = spec.entry("type").or_insert_with(|| TYPES[0].into()).clone();
    spec.entry("sessionAffinity").or_insert_with(|| "None".into());
    if kind != "ExternalName" {
        spec.entry("internalTrafficPolicy")
            .or_insert_with(|| "Cluster".into());
    }
    let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
        port.entry("protocol").or_insert_with(|| PROTOCOLS[0].into());
        if let Some(number) = port.get("port").cloned() {
            port.entry("targetPort").or_insert(number);
        }
    }
}

/// The rules of a cluster (kubernetes `pkg/apis/core/validation`) for what is set here.
fn check(_old: Option<&Value>, service: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let kind = text(service, "/spec/type");
    if !TYPES.contains(&kind) {
        causes.push(not_supported("spec.type", kind, &TYPES));
    }
    if kind == "ExternalName" {
        if text(service, "/spec/externalName").is_empty() {
            causes.push(Cause::new(
                "spec.externalName",
                "FieldValueRequired",
                "Required value",
            ));
        }
    } else if items(service, "/spec/ports").next().is_none() && text(service, "/spec/clusterIP") != "None" {
        causes.push(Cause::new("spec.ports", "FieldValueRequired", "Required value"));
    }
    let several = items(service, "/spec/ports").count() > 1;
    for (index, port) in items(service, "/spec/ports").enumerate() {
        let field = format!("spec.ports[{index}]");
        let number = port.get("port").and_then(Value::as_i64).unwrap_or_default();
        if !(1..=PORT_MAX).contains(&number) {
            let message = format!("Invalid value: {number}: must be between 1 and {PORT_MAX}, inclusive");
            causes.push(Cause::new(format!("{field}.port"), "FieldValueInvalid", message));
        }
        let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or_default();
        if !PROTOCOLS.contains(&protocol) {
            causes.push(not_supported(&format!("{field}.protocol"), protocol, &PROTOCOLS));
        }
        if several && text(port, "/name").is_empty() {
            causes.push(Cause::new(
                format!("{field}.name"),
                "FieldValueRequired",
                "Required value",
            ));
        }
    }
    causes
}

fn not_supported(field: &str, value: &str, supported: &[&str]) -> Cause {
    let supported: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
    let message = format!(
        "Unsupported value: {value:?}: supported values: {}",
        supported.join(", ")
    );
    Cause::new(field, "FieldValueNotSupported", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cluster_would_default_the_same() {
        let mut service = json!({"spec": {"ports": [{"port": 80}]}});
        default(&mut service);
        assert_eq!(
            service,
            json!({"spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
                "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"}})
        );
        assert!(check(None, &service).is_empty());
    }

    #[test]
    fn rules_name_the_field() {
        let bad = [
            (
                json!({"type": "Other", "ports": [{"port": 80, "protocol": "TCP"}]}),
                "spec.type",
            ),
            (json!({"type": "ClusterIP"}), "spec.ports"),
            (json!({"type": "ExternalName"}), "spec.externalName"),
            (
                json!({"type": "ClusterIP", "ports": [{"port": 0, "protocol": "TCP"}]}),
                "spec.ports[0].port",
            ),
            (
                json!({"type": "ClusterIP", "ports": [{"port": 80, "protocol": "X"}]}),
                "spec.ports[0].protocol",
            ),
        ];
        for (spec, field) in bad {
            let causes = check(None, &json!({"spec": spec}));
            assert_eq!(
                causes.iter().map(|c| c.field.as_str()).collect::<Vec<_>>(),
                [field]
            );
        }
        let two = json!({"port": 80, "protocol": "TCP"});
        let causes = check(None, &json!({"spec": {"type": "ClusterIP", "ports": [two, two]}}));
        assert_eq!(causes[0].field, "spec.ports[0].name");
    }

    #[test]
    fn the_table_shows_addresses_and_ports() {
        let service = json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 31080, "protocol": "TCP"}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}}});
        assert_eq!(
            (external_address(&service).as_str(), ports_cell(&service).as_str()),
            ("127.0.0.1", "80:31080/TCP")
        );
        let named = json!({"spec": {"type": "ExternalName", "externalName": "gateway.example"}});
        assert_eq!(external_address(&named), "gateway.example");
    }
}
