//! The probes of a Revision's containers → what the runtime asks (serving `pkg/queue/readiness`).

use k8s_openapi::api::core::v1::{Container, Probe as KubernetesProbe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kittiwake_core::probe::{Handler, Probe, Probes};
use std::time::Duration;

/// Kubernetes' defaults, where a probe says nothing.
const PERIOD_SECONDS: i32 = 10;
const TIMEOUT_SECONDS: i32 = 1;
const FAILURE_THRESHOLD: i32 = 3;

/// The probes of a container, where they ask at `port` unless they say otherwise; `None` for a container that takes no
/// calls.
#[must_use]
pub fn of(container: Option<&Container>, port: Option<u16>) -> Probes {
    let probe = |probe: Option<&KubernetesProbe>, period_default: i32| {
        probe.and_then(|probe| one(probe, period_default, port.unwrap_or(0)))
    };
    Probes {
        startup: probe(container.and_then(|c| c.startup_probe.as_ref()), PERIOD_SECONDS),
        // No period means Knative's own way of asking.
        readiness: probe(container.and_then(|c| c.readiness_probe.as_ref()), 0),
        liveness: probe(container.and_then(|c| c.liveness_probe.as_ref()), PERIOD_SECONDS),
    }
}

fn one(probe: &KubernetesProbe, period_default: i32, serving_port: u16) -> Option<Probe> {
    let seconds = |value: Option<i32>, default: i32| {
        let value = value.filter(|value| *value > 0).unwrap_or(default);
        Duration::from_secs(u64::try_from(value).unwrap_or_default())
    };
    let count = |value: Option<i32>, default: i32| {
        u32::try_from(value.filter(|value| *value > 0).unwrap_or(default)).unwrap_or(1)
    };
    Some(Probe {
        handler: handler(probe, serving_port)?,
        initial_delay: seconds(probe.initial_delay_seconds, 0),
        period: seconds(probe.period_seconds, period_default),
        timeout: seconds(probe.timeout_seconds, TIMEOUT_SECONDS),
        success_threshold: count(probe.success_threshold, 1),
        failure_threshold: count(probe.failure_threshold, FAILURE_THRESHOLD),
    })
}

fn handler(probe: &KubernetesProbe, serving_port: u16) -> Option<Handler> {
    let number = |port: i32| {
        u16::try_from(port)
            .ok()
            .filter(|port| *port != 0 && *port != serving_port)
    };
    // Admission lets only the serving port's name through.
    let port = |port: &IntOrString| match port {
        IntOrString::Int(port) => number(*port),
        IntOrString::String(text) => text.parse().ok().and_then(number),
    };
    if let Some(get) = &probe.http_get {
        let headers = get.http_headers.iter().flatten();
        let path = get.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
        return Some(Handler::Http {
            path: if path.starts_with('/') {
                path.to_owned()
            } else {
                format!("/{path}")
            },
            port: port(&get.port),
            headers: headers
                .map(|header| (header.name.clone(), header.value.clone()))
                .collect(),
        });
    }
    if let Some(grpc) = &probe.grpc {
        return Some(Handler::Grpc {
            port: number(grpc.port),
            service: grpc.service.clone().unwrap_or_default(),
        });
    }
    if let Some(exec) = &probe.exec {
        return Some(Handler::Exec {
            command: exec.command.clone().unwrap_or_default(),
        });
    }
    let tcp = probe.tcp_socket.as_ref()?;
    Some(Handler::Tcp {
        port: port(&tcp.port),
    })
}

#[cfg(test)]
mod tests {
    use super::super::environment::{serving_container, serving_port};
    use super::*;
    use kittiwake_api::serving::Revision;
    use serde_json::{Value, json};

    fn probes(fields: Value) -> Probes {
        let mut container = json!({ "image": "i", "ports": [{ "containerPort": 9000 }] });
        for (key, value) in fields.as_object().unwrap() {
            container[key] = value.clone();
        }
        let revision: Revision = serde_json::from_value(json!({
            "apiVersion": "serving.knative.dev/v1", "kind": "Revision", "metadata": { "name": "r" },
            "spec": { "containers": [container] },
        }))
        .unwrap();
        of(serving_container(&revision), Some(serving_port(&revision)))
    }

    #[test]
    fn what_admission_fills_in_is_knatives_own_way() {
        let probes =
            probes(json!({ "readinessProbe": { "tcpSocket": { "port": 0 }, "successThreshold": 1 } }));
        let readiness = probes.readiness.unwrap();
        assert_eq!(readiness.handler, Handler::Tcp { port: None });
        assert_eq!(
            (readiness.period, readiness.success_threshold),
            (Duration::ZERO, 1)
        );
        assert_eq!((probes.liveness, probes.startup), (None, None));
    }

    #[test]
    fn every_handler_is_understood() {
        let probes = probes(json!({
            "readinessProbe": {
                "httpGet": { "path": "ready?x=1", "port": 9000, "httpHeaders": [{ "name": "Host", "value": "a" }] },
                "periodSeconds": 5, "failureThreshold": 2, "timeoutSeconds": 3, "initialDelaySeconds": 4,
            },
            "livenessProbe": { "grpc": { "port": 9001, "service": "s" } },
            "startupProbe": { "exec": { "command": ["/bin/true"] } },
        }));
        assert_eq!(
            probes.readiness,
            Some(Probe {
                handler: Handler::Http {
                    path: "/ready?x=1".to_owned(),
                    port: None,
                    headers: vec![("Host".to_owned(), "a".to_owned())],
                },
                initial_delay: Duration::from_secs(4),
                period: Duration::from_secs(5),
                timeout: Duration::from_secs(3),
                success_threshold: 1,
                failure_threshold: 2,
            })
        );
        let liveness = probes.liveness.unwrap();
        assert_eq!(
            liveness.handler,
            Handler::Grpc {
                port: Some(9001),
                service: "s".to_owned()
            }
        );
        assert_eq!(
            (liveness.period, liveness.failure_threshold),
            (Duration::from_secs(10), 3)
        );
        assert_eq!(
            probes.startup.unwrap().handler,
            Handler::Exec {
                command: vec!["/bin/true".to_owned()]
            }
        );
    }
}
