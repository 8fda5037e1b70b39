//! Probes of a container (serving `pkg/apis/serving/k8s_validation.go`, `v1/revision_defaults.go`).

use super::{FieldErrors, json};
use kittiwake_core::program;
use serde_json::{Value, json};

/// The probe that decides whether a revision is ready.
pub const READINESS: &str = "readinessProbe";
/// All probes of a container.
pub const FIELDS: [&str; 3] = ["livenessProbe", READINESS, "startupProbe"];

const HANDLERS: [&str; 4] = ["httpGet", "tcpSocket", "exec", "grpc"];

const ALLOWED: [&str; 10] = [
    "exec",
    "failureThreshold",
    "grpc",
    "httpGet",
    "initialDelaySeconds",
    "periodSeconds",
    "successThreshold",
    "tcpSocket",
    "terminationGracePeriodSeconds",
    "timeoutSeconds",
];

/// What each handler may hold, in the order of [`HANDLERS`].
const HANDLER_FIELDS: [&[&str]; 4] = [
    &["host", "httpHeaders", "path", "port", "scheme"],
    &["host", "port"],
    &["command"],
    &["port", "service"],
];

/// Fills in the probes of a container. `serves`: without a handler its readiness is that its port is open.
pub fn default(container: &mut Value, serves: bool) {
    if let Some(readiness) = container.get_mut(READINESS).filter(|probe| probe.is_object()) {
        if serves
            && HANDLERS
                .iter()
                .all(|handler| readiness.get(handler).is_none_or(Value::is_null))
        {
            json::default(readiness, "tcpSocket", json!({}));
        }
        json::default_unset(readiness, "successThreshold", 1);
        if readiness.get("periodSeconds").is_some_and(json::is_set) {
            json::default_unset(readiness, "failureThreshold", 3);
            json::default_unset(readiness, "timeoutSeconds", 1);
        }
    }
    for field in FIELDS {
        let Some(probe) = container.get_mut(field) else {
            continue;
        };
        for handler in ["httpGet", "tcpSocket"] {
            // Port 0 is the port that calls come to.
            probe
                .get_mut(handler)
                .into_iter()
                .for_each(|action| json::default(action, "port", 0));
        }
        probe.get_mut("grpc").into_iter().for_each(|action| {
            json::default(action, "port", 0);
            json::default(action, "service", "");
        });
    }
}

/// What is wrong with a probe of the container that serves at the port called `port_name`.
pub fn validate(probe: &Value, port_name: &str, is_readiness: bool) -> FieldErrors {
    let mut errors = FieldErrors::none();
    let beyond = json::set_beyond(probe, &ALLOWED);
    if !beyond.is_empty() {
        errors.also(FieldErrors::disallowed(&beyond));
    }
    let mut handlers = Vec::new();
    for (handler, fields) in HANDLERS.into_iter().zip(HANDLER_FIELDS) {
        let Some(action) = json::object(probe, handler) else {
            continue;
        };
        handlers.push(handler);
        let beyond = json::set_beyond(action, fields);
        if !beyond.is_empty() {
            errors.also(FieldErrors::disallowed(&beyond).via(handler));
        }
        errors.also(port(action, port_name).via(handler));
    }
    match handlers.len() {
        0 => errors.also(FieldErrors::missing_one_of(&HANDLERS)),
        1 => {}
        _ => errors.also(FieldErrors::multiple_one_of(&handlers)),
    }
    if is_readiness {
        errors.also(readiness_numbers(probe));
    }
    errors
}

/// Warnings for the client about the probes of an object that was admitted. A probe that runs a command is valid, but an
/// image of WebAssembly holds one program, so the command has to be that one.
pub fn warnings(object: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    for (pointer, path) in [
        ("/spec/template/spec/containers", "spec.template.spec.containers"),
        ("/spec/containers", "spec.containers"),
    ] {
        let containers = object.pointer(pointer).and_then(Value::as_array);
        for (index, container) in containers.into_iter().flatten().enumerate() {
            for field in FIELDS {
                let action = container.get(field).and_then(|probe| json::object(probe, "exec"));
                if let Some(problem) = action.and_then(|action| foreign_command(action, container)) {
                    warnings.push(format!("{path}[{index}].{field}.exec.command: {problem}"));
                }
            }
        }
    }
    warnings
}

/// Why a command will hardly run, as far as that can be told without the image.
fn foreign_command(action: &Value, container: &Value) -> Option<String> {
    let words = |object: &Value, field: &str| -> Vec<String> {
        let words = object.get(field).and_then(Value::as_array).into_iter().flatten();
        words
            .filter_map(|word| word.as_str().map(str::to_owned))
            .collect()
    };
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let (command, own) = (words(action, "command"), words(container, "command"));
    let Some(word) = command.first() else {
        return Some("it is empty, so the probe fails: name the program and its arguments".to_owned());
    };
    (!program::is_meant(word, image, &own, &[])).then(|| {
        format!(
            "a WebAssembly image holds one program, and unless the image calls it {word:?} the probe fails: name it as the \
             container's command or the image's entrypoint does (here {:?}), or use httpGet, tcpSocket or grpc",
            own.first().map_or(program::name_of(image), String::as_str)
        )
    })
}

fn port(action: &Value, port_name: &str) -> FieldErrors {
    match action.get("port") {
        Some(Value::String(name)) if !name.is_empty() && name != port_name => {
            FieldErrors::invalid_because(name, "port", "Probe port must match container port")
        }
        Some(Value::Number(number)) if number.as_i64().is_none_or(|port| !(0..=65535).contains(&port)) => {
            FieldErrors::out_of_bounds(number, 0, 65535, "port")
        }
        _ => FieldErrors::none(),
    }
}

fn readiness_numbers(probe: &Value) -> FieldErrors {
    let number = |field: &str| json::integer(probe, field).unwrap_or_default();
    let mut errors = FieldErrors::none();
    let mut at_least = |field: &str, min: i64| {
        if !(min..=i64::from(i32::MAX)).contains(&number(field)) {
            errors.also(FieldErrors::out_of_bounds(number(field), min, i32::MAX, field));
        }
    };
    at_least("periodSeconds", 0);
    at_least("initialDelaySeconds", 0);
    at_least("successThreshold", 1);
    if number("periodSeconds") != 0 {
        at_least("timeoutSeconds", 1);
        at_least("failureThreshold", 1);
        return errors;
    }
    // No period means that Knative probes by itself, as often as it takes.
    for field in ["failureThreshold", "timeoutSeconds"] {
        if number(field) != 0 {
            let message = format!("{field} is disallowed when periodSeconds is zero");
            errors.also(FieldErrors::generic(message, &[field]));
        }
    }
    errors
}
