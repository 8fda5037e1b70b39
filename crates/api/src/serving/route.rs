//! Route: a host name and the revisions behind it.

use crate::admission::{FieldErrors, Request, json, metadata, syntax};
use crate::condition::{Condition, ConditionSet};
use crate::meta;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Condition types of a Route (`pkg/apis/serving/v1/route_types.go`).
pub mod condition {
    /// Everything below is True.
    pub const READY: &str = crate::condition::READY;
    /// Every traffic target was found.
    pub const ALL_TRAFFIC_ASSIGNED: &str = "AllTrafficAssigned";
    /// The gateway routes the host.
    pub const INGRESS_READY: &str = "IngressReady";
    /// The host has the certificate that it needs, if it needs one.
    pub const CERTIFICATE_PROVISIONED: &str = "CertificateProvisioned";
}

/// Reasons of a Route (`pkg/apis/serving/v1/route_lifecycle.go`).
pub mod reason {
    /// A Revision that traffic names does not exist.
    pub const REVISION_MISSING: &str = "RevisionMissing";
    /// A Configuration that traffic names does not exist.
    pub const CONFIGURATION_MISSING: &str = "ConfigurationMissing";
    /// A Revision that traffic names belongs to another Service.
    pub const REVISION_NOT_OWNED: &str = "RevisionNotOwned";
    /// Something that the Route needs belongs to something else.
    pub const NOT_OWNED: &str = "NotOwned";
    /// Traffic is moving to a new Revision step by step.
    pub const ROLLOUT_IN_PROGRESS: &str = "RolloutInProgress";
    /// A setting of the platform does not work for this Route.
    pub const ERROR_CONFIG: &str = "ErrorConfig";
    /// A certificate is missing, and HTTP without TLS is not served instead.
    pub const CERTIFICATE_NOT_READY: &str = "CertificateNotReady";
    /// The gateway has not seen the newest state.
    pub const INGRESS_NOT_CONFIGURED: &str = "IngressNotConfigured";
    /// The gateway is not ready.
    pub const UNINITIALIZED: &str = "Uninitialized";
    /// CertificateProvisioned is True because TLS is off.
    pub const TLS_NOT_ENABLED: &str = "TLSNotEnabled";
    /// The Route is served over HTTP until its certificate comes.
    pub const HTTP_DOWNGRADE: &str = "HTTPDowngrade";
}

/// How a Route's conditions depend on each other.
pub const CONDITIONS: ConditionSet = ConditionSet::living(&[
    condition::ALL_TRAFFIC_ASSIGNED,
    condition::INGRESS_READY,
    condition::CERTIFICATE_PROVISIONED,
]);

/// What the user wants: how traffic is split.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "serving.knative.dev",
    version = "v1",
    kind = "Route",
    plural = "routes",
    singular = "route",
    namespaced,
    status = "RouteStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "all",
    category = "knative",
    category = "serving",
    shortname = "rt",
    label("duck.knative.dev/addressable", "true"),
    doc = "Route gives a host name to a set of Revisions and splits its traffic over them. A target that names a Configuration follows its latest ready Revision. Users normally write a Service, which makes its Route.",
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".status.url"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct RouteSpec {
    /// How requests are split. Percents sum to 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<TrafficTarget>,
}

/// What is known about the Route.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// The `metadata.generation` that the controller processed last. Conditions speak of that generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, AllTrafficAssigned, IngressReady, CertificateProvisioned, sorted by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Free-form facts left by controllers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Where the Route is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The address inside the platform, for events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Addressable>,
    /// The traffic as it is split now; each entry names a Revision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<TrafficTarget>,
}

/// One share of the traffic.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrafficTarget {
    /// Gives this target a host of its own, `<tag>-<route>`. A DNS label, once per Route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The Revision that gets this share. Not together with configurationName.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_name: Option<String>,
    /// The Configuration whose latest ready Revision gets this share. Routes only, never in a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_name: Option<String>,
    /// Whether this share follows the latest ready Revision: true without a revisionName, false with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_revision: Option<bool>,
    /// The share in percent, 0 to 100. All shares of a Route sum to 100. Not set is 0: reachable by its tag only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<i64>,
    /// Where this tag is called. In status only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// Where something can be called from inside the platform.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Addressable {
    /// Name of the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// PEM certificates of the authorities that the URL's certificate is checked against.
    #[serde(default, rename = "CACerts", skip_serializing_if = "Option::is_none")]
    pub ca_certs: Option<String>,
    /// The audience that tokens for this address must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
}

/// Fills in what the user left out (`route_defaults.go`).
pub(crate) fn default(request: &Request<'_>, object: &mut Value) {
    if let Some(spec) = json::fill(object, "spec") {
        json::remove_nulls(spec);
        default_traffic(spec, false);
    }
    if !metadata::is_owned(object) {
        metadata::set_user_info(request, object);
    }
}

/// Fills in `traffic`. In a Service it goes to the latest revision unless the user says otherwise.
pub(crate) fn default_traffic(spec: &mut Value, in_service: bool) {
    if in_service {
        json::default_unset(
            spec,
            "traffic",
            serde_json::json!([{"latestRevision": true, "percent": 100}]),
        );
    }
    for target in spec
        .get_mut("traffic")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let latest = json::text(target, "revisionName").is_empty();
        json::default(target, "latestRevision", latest);
        json::default(target, "percent", 0);
    }
}

/// What is wrong with a Route (`route_validation.go`).
pub(crate) fn validate(request: &Request<'_>, object: &Value) -> FieldErrors {
    let mut errors = metadata::object(object);
    errors.also(metadata::not_on_template(object));
    errors.also(metadata::owner_label(object, meta::SERVICE_LABEL, "Service"));
    errors.also(metadata::routing(object));
    errors.also(validate_traffic(object, false));
    if !metadata::is_owned(object) {
        errors.also(metadata::creator_and_modifier(request, object));
    }
    errors
}

/// What is wrong with `spec.traffic` of a Service or a Route.
pub(crate) fn validate_traffic(object: &Value, in_service: bool) -> FieldErrors {
    let targets = object
        .get("spec")
        .map(|spec| json::items(spec, "traffic"))
        .unwrap_or_default();
    let mut errors = FieldErrors::none();
    let mut tags = BTreeMap::new();
    for (index, target) in targets.iter().enumerate() {
        errors.also(validate_target(target, in_service).via(&format!("[{index}]")));
        let tag = json::text(target, "tag");
        if tag.is_empty() {
            continue;
        }
        let wrong = syntax::dns_1035_label(tag);
        if !wrong.is_empty() {
            let value = format!("not a DNS 1035 label: {}", syntax::list(&wrong));
            errors.also(FieldErrors::invalid(value, &format!("[{index}].tag")));
        }
        if let Some(first) = tags.get(tag) {
            let paths = [format!("[{index}].tag"), format!("[{first}].tag")];
            let paths = paths.each_ref().map(String::as_str);
            errors.also(FieldErrors::generic(
                format!("Multiple definitions for {tag:?}"),
                &paths,
            ));
        } else {
            tags.insert(tag, index);
        }
    }
    // In i128 no list of percents can overflow the sum.
    let sum: i128 = targets
        .iter()
        .filter_map(|t| json::integer(t, "percent"))
        .map(i128::from)
        .sum();
    if sum != 100 {
        errors.also(FieldErrors::generic(
            format!("Traffic targets sum to {sum}, want 100"),
            &[""],
        ));
    }
    errors.via("spec.traffic")
}

fn validate_target(target: &Value, in_service: bool) -> FieldErrors {
    let revision = json::text(target, "revisionName");
    let configuration = json::text(target, "configurationName");
    let mut errors = FieldErrors::none();
    if let Some(latest) = target.get("latestRevision").and_then(Value::as_bool)
        && latest != revision.is_empty()
    {
        let message = format!("may not set revisionName {revision:?} when latestRevision is {latest}");
        errors.also(FieldErrors::generic(message, &["latestRevision"]));
    }
    if in_service && !configuration.is_empty() {
        errors.also(FieldErrors::disallowed(&["configurationName"]));
    } else if !revision.is_empty() && !configuration.is_empty() {
        errors.also(FieldErrors::multiple_one_of(&[
            "revisionName",
            "configurationName",
        ]));
    } else if revision.is_empty() && configuration.is_empty() && !in_service {
        errors.also(FieldErrors::missing_one_of(&[
            "revisionName",
            "configurationName",
        ]));
    } else {
        for (field, name) in [("revisionName", revision), ("configurationName", configuration)] {
            let wrong = if name.is_empty() {
                Vec::new()
            } else {
                syntax::qualified_name(name)
            };
            if !wrong.is_empty() {
                errors.also(FieldErrors::invalid_key(name, field, wrong.join(", ")));
            }
        }
    }
    if let Some(percent) = json::integer(target, "percent").filter(|percent| !(0..=100).contains(percent)) {
        errors.also(FieldErrors::out_of_bounds(percent, 0, 100, "percent"));
    }
    if !json::text(target, "url").is_empty() {
        errors.also(FieldErrors::disallowed(&["url"]));
    }
    errors
}
