//! Rules and defaults of one container (serving `pkg/apis/serving/{fieldmask,k8s_validation}.go`,
//! `v1/revision_defaults.go`).

use super::{FieldErrors, image, json, probe, volume};
use crate::config::features::{self, Features};
use crate::quantity::Quantity;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const ALLOWED: [&str; 17] = [
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "livenessProbe",
    "name",
    "ports",
    "readinessProbe",
    "resources",
    "securityContext",
    "startupProbe",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "volumeMounts",
    "workingDir",
];

const SECURITY_CONTEXT_ALLOWED: [&str; 7] = [
    "allowPrivilegeEscalation",
    "capabilities",
    "readOnlyRootFilesystem",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "seccompProfile",
];

/// The name of Knative's own container.
const RESERVED_NAME: &str = "queue-proxy";
/// Environment variables that the platform sets (knative/specs `runtime-contract.md`).
const RESERVED_ENV: [&str; 4] = ["PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"];
/// Ports that Knative's own container listens on.
const RESERVED_PORTS: [i64; 6] = [8012, 8013, 8022, 9090, 9091, 8008];
/// What a port may be called; the name says which protocol is spoken.
const PORT_NAMES: [&str; 3] = ["", "h2c", "http1"];
/// Greatest user and group id.
const ID_MAX: i64 = i32::MAX as i64;

/// What a container is for.
#[derive(Clone, Copy)]
pub enum Role<'a> {
    /// It answers calls.
    Serving {
        /// The name of its port.
        port_name: &'a str,
    },
    /// It runs beside the one that answers.
    Sidecar,
}

/// Fills in one container. `alone`: there is no other. `writable`: volumes that may be mounted to be written.
/// `quantities`: default requests and limits.
pub fn default(
    container: &mut Value,
    alone: bool,
    writable: &BTreeSet<String>,
    quantities: &[(&'static str, &'static str, String)],
) {
    json::default(container, "resources", json!({}));
    for (list, resource, quantity) in quantities {
        let resources = container.get_mut("resources");
        if let Some(list) = resources.and_then(|resources| json::fill(resources, list)) {
            json::default(list, resource, quantity.as_str());
        }
    }
    let serves = alone || !json::items(container, "ports").is_empty();
    if serves {
        json::default(container, "readinessProbe", json!({}));
    }
    probe::default(container, serves);
    for port in members(container, "ports") {
        json::default_unset(port, "protocol", "TCP");
    }
    for mount in members(container, "volumeMounts") {
        if !writable.contains(json::text(mount, "name"))
            && let Some(mount) = mount.as_object_mut()
        {
            mount.insert("readOnly".to_owned(), Value::Bool(true));
        }
    }
}

fn members<'a>(container: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    container
        .get_mut(key)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

/// Numbers are allowed where quantities are wanted (`cpu: 1`), and stored as text, as Kubernetes does.
pub fn write_quantities_as_text(spec: &mut Value) {
    let to_text = |value: &mut Value| {
        if let Value::Number(number) = value {
            *value = Value::String(number.to_string());
        }
    };
    for container in members(spec, "containers") {
        for list in ["limits", "requests"] {
            let quantities = container
                .get_mut("resources")
                .and_then(|resources| resources.get_mut(list));
            quantities
                .and_then(Value::as_object_mut)
                .into_iter()
                .flat_map(|map| map.values_mut())
                .for_each(to_text);
        }
    }
    for volume in members(spec, "volumes") {
        volume
            .pointer_mut("/emptyDir/sizeLimit")
            .into_iter()
            .for_each(to_text);
    }
}

/// What is wrong with one container. `volumes`: those of the pod, by name.
pub fn validate(
    features: &Features,
    container: &Value,
    role: Role<'_>,
    volumes: &BTreeMap<&str, &Value>,
) -> FieldErrors {
    let mut errors = probes(features, container, role);
    let beyond = json::set_beyond(container, &ALLOWED);
    if !beyond.is_empty() {
        errors.also(FieldErrors::disallowed(&beyond));
    }
    if json::text(container, "name") == RESERVED_NAME {
        let message = format!("{RESERVED_NAME:?} is a reserved container name");
        errors.also(FieldErrors::generic(message, &["name"]));
    }
    for (index, variable) in json::items(container, "env").iter().enumerate() {
        errors.also(env(features, variable, role).via_index("env", index));
    }
    for (index, source) in json::items(container, "envFrom").iter().enumerate() {
        errors.also(env_from(source).via_index("envFrom", index));
    }
    errors.also(image_reference(json::text(container, "image")));
    if let Some(port) = json::items(container, "ports").first() {
        errors.also(serving_port(port).via("ports"));
    }
    if let Some(wanted) = container.get("resources") {
        errors.also(resources(wanted).via("resources"));
    }
    if let Some(context) = json::object(container, "securityContext") {
        errors.also(security_context(features, context).via("securityContext"));
    }
    let policy = json::text(container, "terminationMessagePolicy");
    if !["", "File", "FallbackToLogsOnError"].contains(&policy) {
        errors.also(FieldErrors::invalid(policy, "terminationMessagePolicy"));
    }
    errors.also(volume::validate_mounts(json::items(container, "volumeMounts"), volumes).via("volumeMounts"));
    errors
}

fn probes(features: &Features, container: &Value, role: Role<'_>) -> FieldErrors {
    let mut errors = FieldErrors::none();
    for field in probe::FIELDS {
        let Some(probe) = json::object(container, field) else {
            continue;
        };
        let wrong = match role {
            Role::Serving { port_name } => probe::validate(probe, port_name, field == probe::READINESS),
            Role::Sidecar if features.has(features::MULTI_CONTAINER_PROBING) => {
                probe::validate(probe, "", field == probe::READINESS)
            }
            Role::Sidecar => match json::set_beyond(probe, &[]) {
                set if set.is_empty() => FieldErrors::none(),
                set => FieldErrors::disallowed(&set),
            },
        };
        errors.also(wrong.via(field));
    }
    errors
}

fn env(features: &Features, variable: &Value, role: Role<'_>) -> FieldErrors {
    let mut errors = FieldErrors::none();
    let name = json::text(variable, "name");
    let reserved = RESERVED_ENV.contains(&name) && !(name == "PORT" && matches!(role, Role::Sidecar));
    if name.is_empty() {
        errors.also(FieldErrors::missing(&["name"]));
    } else if reserved {
        errors.also(FieldErrors::generic(
            format!("{name:?} is a reserved environment variable"),
            &["name"],
        ));
    } else if name.chars().any(|c| c == '=' || c.is_control()) {
        let why = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        errors.also(FieldErrors::invalid_because(format!("{name:?}"), "name", why));
    }
    if json::text(variable, "value").contains('\0') {
        errors.also(FieldErrors::generic(
            "must not contain a NUL character",
            &["value"],
        ));
    }
    if let Some(source) = json::object(variable, "valueFrom") {
        let mut allowed = vec!["configMapKeyRef", "secretKeyRef"];
        if features.has(features::FIELD_REF) {
            allowed.extend(["fieldRef", "resourceFieldRef"]);
        }
        let beyond = json::set_beyond(source, &allowed);
        if !beyond.is_empty() {
            errors.also(FieldErrors::disallowed(&beyond).via("valueFrom"));
        }
    }
    errors
}

fn env_from(source: &Value) -> FieldErrors {
    let mut errors = FieldErrors::none();
    let fields = ["configMapRef", "secretRef"];
    let beyond = json::set_beyond(source, &["prefix", "configMapRef", "secretRef"]);
    if !beyond.is_empty() {
        errors.also(FieldErrors::disallowed(&beyond));
    }
    match fields
        .iter()
        .filter(|field| json::object(source, field).is_some())
        .count()
    {
        0 => errors.also(FieldErrors::missing_one_of(&fields)),
        1 => {}
        _ => errors.also(FieldErrors::multiple_one_of(&fields)),
    }
    errors
}

fn image_reference(reference: &str) -> FieldErrors {
    if reference.is_empty() {
        return FieldErrors::missing(&["image"]);
    }
    match image::check(reference) {
        Ok(()) => FieldErrors::none(),
        Err(why) => FieldErrors::detailed(
            "Failed to parse image reference",
            &["image"],
            format!("image: {reference:?}, error: {why}"),
        ),
    }
}

fn serving_port(port: &Value) -> FieldErrors {
    let mut errors = FieldErrors::none();
    let beyond = json::set_beyond(port, &["containerPort", "name", "protocol"]);
    if !beyond.is_empty() {
        errors.also(FieldErrors::disallowed(&beyond));
    }
    let number = json::integer(port, "containerPort").unwrap_or_default();
    if RESERVED_PORTS.contains(&number) {
        let message = format!("{number} is a reserved port");
        let why = format!("{number} is a reserved port, please use a different value");
        errors.also(FieldErrors::invalid_because(message, "containerPort", why));
    }
    if !(0..=65535).contains(&number) {
        errors.also(FieldErrors::out_of_bounds(number, 0, 65535, "containerPort"));
    }
    let protocol = json::text(port, "protocol");
    if !["", "TCP"].contains(&protocol) {
        errors.also(FieldErrors::invalid(protocol, "protocol"));
    }
    let name = json::text(port, "name");
    if !PORT_NAMES.contains(&name) {
        let message = format!("Port name {name} is not allowed");
        errors.also(FieldErrors::detailed(
            message,
            &[""],
            "Name must be empty, or one of: 'h2c', 'http1'",
        ));
    }
    errors
}

/// Quantities must be quantities, and nobody may ask for more than they are limited to. Knative leaves both to the pod
/// that it makes; here there is no pod to refuse them later.
fn resources(resources: &Value) -> FieldErrors {
    let mut errors = FieldErrors::none();
    let beyond = json::set_beyond(resources, &["limits", "requests"]);
    if !beyond.is_empty() {
        errors.also(FieldErrors::disallowed(&beyond));
    }
    for list in ["limits", "requests"] {
        for (name, value) in json::texts(resources, list) {
            let path = format!("{list}.{name}");
            match value.parse::<Quantity>() {
                Err(why) => errors.also(FieldErrors::invalid_because(value, &path, why.to_string())),
                Ok(quantity) if quantity.is_negative() => {
                    errors.also(FieldErrors::invalid_because(
                        value,
                        &path,
                        "must be greater than or equal to 0",
                    ));
                }
                Ok(_) => {}
            }
        }
    }
    let limits: BTreeMap<&str, &str> = json::texts(resources, "limits").collect();
    for (name, request) in json::texts(resources, "requests") {
        let Some(limit) = limits.get(name) else { continue };
        if let (Ok(wanted), Ok(allowed)) = (request.parse::<Quantity>(), limit.parse::<Quantity>())
            && wanted > allowed
        {
            let why = format!("must be less than or equal to {name} limit of {limit}");
            errors.also(FieldErrors::invalid_because(
                request,
                &format!("requests.{name}"),
                why,
            ));
        }
    }
    errors
}

fn security_context(features: &Features, context: &Value) -> FieldErrors {
    let mut errors = FieldErrors::none();
    // `privileged: false` may be said, `true` not.
    let beyond = json::set_beyond(context, &SECURITY_CONTEXT_ALLOWED);
    if !beyond.is_empty() {
        errors.also(FieldErrors::disallowed(&beyond));
    }
    if let Some(capabilities) = json::object(context, "capabilities") {
        let allowed: &[&str] = if features.has(features::ADD_CAPABILITIES) {
            &["add", "drop"]
        } else {
            &["drop"]
        };
        let beyond = json::set_beyond(capabilities, allowed);
        if !beyond.is_empty() {
            errors.also(FieldErrors::disallowed(&beyond).via("capabilities"));
        }
    }
    for field in ["runAsUser", "runAsGroup"] {
        if let Some(id) = json::integer(context, field).filter(|id| !(0..=ID_MAX).contains(id)) {
            errors.also(FieldErrors::out_of_bounds(id, 0, ID_MAX, field));
        }
    }
    errors
}
