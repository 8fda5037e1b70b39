//! Which kinds are admitted by which functions, in all their versions.

use super::{FieldErrors, Request};
use crate::{autoscaling, eventing, flows, gatekeeper, messaging, networking, serving, sources};
use serde::Deserialize;
use serde_json::Value;

/// How one kind is admitted.
pub(super) struct Rules {
    group: &'static str,
    kind: &'static str,
    pub default: fn(&Request<'_>, &mut Value),
    pub validate: fn(&Request<'_>, &Value) -> FieldErrors,
    pub decode: fn(&Value) -> Result<(), serde_json::Error>,
}

/// The rules of a kind; `None` for a kind that has none.
pub(super) fn find(api_version: &str, kind: &str) -> Option<&'static Rules> {
    let (group, _) = api_version.split_once('/')?;
    if group == gatekeeper::CONSTRAINTS_GROUP {
        return Some(&CONSTRAINT);
    }
    RULES
        .iter()
        .find(|rules| rules.group == group && rules.kind == kind)
}

/// Every kind of the group that ConstraintTemplates make kinds in.
static CONSTRAINT: Rules = Rules {
    group: gatekeeper::CONSTRAINTS_GROUP,
    kind: "",
    default: gatekeeper::constraint::default,
    validate: gatekeeper::constraint::validate,
    decode: |_| Ok(()),
};

static RULES: [Rules; 21] = [
    Rules {
        group: serving::GROUP,
        kind: "Service",
        default: serving::service::default,
        validate: serving::service::validate,
        decode: decode::<serving::Service>,
    },
    Rules {
        group: serving::GROUP,
        kind: "Configuration",
        default: serving::configuration::default,
        validate: serving::configuration::validate,
        decode: decode::<serving::Configuration>,
    },
    Rules {
        group: serving::GROUP,
        kind: "Revision",
        default: serving::revision::default,
        validate: serving::revision::validate,
        decode: decode::<serving::Revision>,
    },
    Rules {
        group: serving::GROUP,
        kind: "Route",
        default: serving::route::default,
        validate: serving::route::validate,
        decode: decode::<serving::Route>,
    },
    Rules {
        group: serving::GROUP,
        kind: "DomainMapping",
        default: serving::domain_mapping::default,
        validate: serving::domain_mapping::validate,
        decode: decode::<serving::DomainMapping>,
    },
    Rules {
        group: networking::GROUP,
        kind: "ClusterDomainClaim",
        default: networking::cluster_domain_claim::default,
        validate: networking::cluster_domain_claim::validate,
        decode: decode::<networking::ClusterDomainClaim>,
    },
    Rules {
        group: autoscaling::INTERNAL_GROUP,
        kind: "PodAutoscaler",
        default: autoscaling::pod_autoscaler::default,
        validate: autoscaling::pod_autoscaler::validate,
        decode: decode::<autoscaling::pod_autoscaler::PodAutoscaler>,
    },
    Rules {
        group: autoscaling::GROUP,
        kind: "PodAutoscaler",
        default: autoscaling::user_pod_autoscaler::default,
        validate: autoscaling::user_pod_autoscaler::validate,
        decode: decode::<autoscaling::user_pod_autoscaler::PodAutoscaler>,
    },
    Rules {
        group: eventing::GROUP,
        kind: "Broker",
        default: eventing::broker::default,
        validate: eventing::broker::validate,
        decode: decode::<eventing::Broker>,
    },
    Rules {
        group: eventing::GROUP,
        kind: "Trigger",
        default: eventing::trigger::default,
        validate: eventing::trigger::validate,
        decode: decode::<eventing::Trigger>,
    },
    Rules {
        group: eventing::GROUP,
        kind: "EventType",
        default: eventing::event_type::default,
        validate: eventing::event_type::validate,
        decode: decode::<eventing::EventType>,
    },
    Rules {
        group: messaging::GROUP,
        kind: "Channel",
        default: messaging::channel::default,
        validate: messaging::channel::validate,
        decode: decode::<messaging::Channel>,
    },
    Rules {
        group: messaging::GROUP,
        kind: "InMemoryChannel",
        default: messaging::in_memory_channel::default,
        validate: messaging::in_memory_channel::validate,
        decode: decode::<messaging::InMemoryChannel>,
    },
    Rules {
        group: messaging::GROUP,
        kind: "Subscription",
        default: messaging::subscription::default,
        validate: messaging::subscription::validate,
        decode: decode::<messaging::Subscription>,
    },
    Rules {
        group: flows::GROUP,
        kind: "Sequence",
        default: flows::sequence::default,
        validate: flows::sequence::validate,
        decode: decode::<flows::Sequence>,
    },
    Rules {
        group: flows::GROUP,
        kind: "Parallel",
        default: flows::parallel::default,
        validate: flows::parallel::validate,
        decode: decode::<flows::Parallel>,
    },
    Rules {
        group: sources::GROUP,
        kind: "PingSource",
        default: sources::ping_source::default,
        validate: sources::ping_source::validate,
        decode: decode::<sources::PingSource>,
    },
    Rules {
        group: sources::GROUP,
        kind: "ApiServerSource",
        default: sources::api_server_source::default,
        validate: sources::api_server_source::validate,
        decode: decode::<sources::ApiServerSource>,
    },
    Rules {
        group: sources::GROUP,
        kind: "ContainerSource",
        default: sources::container_source::default,
        validate: sources::container_source::validate,
        decode: decode::<sources::ContainerSource>,
    },
    Rules {
        group: sources::GROUP,
        kind: "SinkBinding",
        default: sources::sink_binding::default,
        validate: sources::sink_binding::validate,
        decode: decode::<sources::SinkBinding>,
    },
    Rules {
        group: gatekeeper::TEMPLATES_GROUP,
        kind: "ConstraintTemplate",
        default: gatekeeper::constraint_template::default,
        validate: gatekeeper::constraint_template::validate,
        decode: decode::<gatekeeper::ConstraintTemplate>,
    },
];

fn decode<T: for<'de> Deserialize<'de>>(object: &Value) -> Result<(), serde_json::Error> {
    T::deserialize(object).map(drop)
}
