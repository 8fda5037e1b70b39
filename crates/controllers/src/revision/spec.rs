//! A Revision object → what the data plane needs of it.

use super::environment::{Surroundings, serving_container, serving_port, sidecars};
use super::probes;
use crate::object::{Meta, ObjectKey};
use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kittiwake_api::autoscaling::annotations::{ACTIVATION_SCALE, Key, MAX_SCALE};
use kittiwake_api::meta;
use kittiwake_api::quantity::parse_bytes;
use kittiwake_api::serving::Revision;
use kittiwake_core::artifact::{FunctionKind, Prepared};
use kittiwake_core::outbound::Outbound;
use kittiwake_core::revision::{Isolation, Limits, Protocol, RevisionKey, RevisionSpec, Scaling};
use kittiwake_core::sidecar::Sidecar;
use kittiwake_core::unit::ByteCount;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// The images of a Revision's containers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Images {
    /// Of the one that takes calls.
    pub serving: Arc<str>,
    /// Of those beside it, in their order.
    pub sidecars: Vec<Arc<str>>,
}

impl Images {
    /// As the user wrote them, or pinned where the digests are known already.
    #[must_use]
    pub fn of(revision: &Revision) -> Self {
        let written = |container: &Container| container.image.as_deref().unwrap_or_default().into();
        Self::pinned(revision).unwrap_or_else(|| Self {
            serving: serving_container(revision).map(written).unwrap_or_default(),
            sidecars: sidecars(revision).map(written).collect(),
        })
    }

    /// Pinned to their digests, once the Revision was ready.
    #[must_use]
    pub fn pinned(revision: &Revision) -> Option<Self> {
        let sidecars = sidecars(revision).map(|container| pinned(revision, container).map(Into::into));
        Some(Self {
            serving: pinned_image(revision)?.into(),
            sidecars: sidecars.collect::<Option<_>>()?,
        })
    }

    /// What they were prepared to.
    #[must_use]
    pub fn prepared(prepared: &Prepared) -> Self {
        Self {
            serving: prepared.image.as_str().into(),
            sidecars: prepared.sidecars.clone(),
        }
    }
}

/// The image of the serving container pinned to its digest, once the Revision was ready.
#[must_use]
pub fn pinned_image(revision: &Revision) -> Option<&str> {
    pinned(revision, serving_container(revision)?)
}

fn pinned<'r>(revision: &'r Revision, container: &Container) -> Option<&'r str> {
    let name = Some(&container.name);
    let statuses = &revision.status.as_ref()?.container_statuses;
    let status = statuses.iter().find(|status| status.name.as_ref() == name)?;
    status.image_digest.as_deref()
}

/// What a Revision and its calls may use.
#[must_use]
pub fn limits(revision: &Revision) -> Limits {
    let spec = &revision.spec;
    let defaults = Limits::default();
    let seconds = |value: Option<i64>| {
        value
            .and_then(|s| u64::try_from(s).ok())
            .filter(|s| *s > 0)
            .map(Duration::from_secs)
    };
    Limits {
        memory: serving_container(revision).map_or(defaults.memory, memory),
        timeout: seconds(spec.timeout_seconds).unwrap_or(defaults.timeout),
        response_start_timeout: seconds(spec.response_start_timeout_seconds),
        idle_timeout: seconds(spec.idle_timeout_seconds),
        request_body: defaults.request_body,
        concurrency: spec
            .container_concurrency
            .and_then(|c| u32::try_from(c).ok())
            .and_then(NonZeroU32::new),
    }
}

/// The memory that a container may have.
fn memory(container: &Container) -> ByteCount {
    let limits = container.resources.as_ref().and_then(|all| all.limits.as_ref());
    let memory = limits.and_then(|limits| bytes(limits.get("memory")?));
    memory.unwrap_or_else(|| Limits::default().memory)
}

/// A quantity in whole bytes, rounded up. `None` for zero and for what cannot be read, which admission refuses.
pub(super) fn bytes(quantity: &Quantity) -> Option<ByteCount> {
    let count = parse_bytes(&quantity.0).ok()?;
    (count > 0).then_some(ByteCount(count))
}

/// What kind of program a Revision runs, once it was ready.
#[must_use]
pub fn kind(revision: &Revision) -> FunctionKind {
    let annotations = revision.status.as_ref().map(|status| &status.annotations);
    let word = annotations.and_then(|annotations| annotations.get(meta::KIND_ANNOTATION));
    word.and_then(|word| word.parse().ok()).unwrap_or_default()
}

/// The kind that its template names. Admission lets only known words through.
#[must_use]
pub fn named_kind(revision: &Revision) -> Option<FunctionKind> {
    revision.annotation(meta::KIND_ANNOTATION)?.parse().ok()
}

/// How many instances a Revision may have, and begins with. Admission lets only numbers through.
fn scaling(revision: &Revision) -> Scaling {
    let annotations = revision.metadata.annotations.as_ref();
    let number = |key: Key| annotations.and_then(|all| key.get(all)?.parse::<u32>().ok());
    Scaling {
        max: number(MAX_SCALE).and_then(NonZeroU32::new),
        // 1 is what every start begins with.
        activation: number(ACTIVATION_SCALE)
            .and_then(NonZeroU32::new)
            .filter(|scale| scale.get() > 1),
        owners: None,
    }
}

/// The Revision as the data plane sees it, running these images; that of the serving container is a `kind` of program.
#[must_use]
pub fn revision_spec(
    revision: &Revision,
    images: &Images,
    kind: FunctionKind,
    surroundings: Surroundings,
) -> RevisionSpec {
    let container = serving_container(revision);
    let port = container.and_then(|container| container.ports.as_ref()?.first());
    RevisionSpec {
        service: revision.label(meta::SERVICE_LABEL).unwrap_or_default().into(),
        configuration: revision
            .label(meta::CONFIGURATION_LABEL)
            .unwrap_or_default()
            .into(),
        kind,
        named_kind: named_kind(revision),
        command: container.and_then(|c| c.command.clone()).unwrap_or_default(),
        args: container.and_then(|c| c.args.clone()).unwrap_or_default(),
        working_dir: container.and_then(|c| c.working_dir.as_deref().map(Into::into)),
        sidecars: beside(revision, images, surroundings.sidecars),
        env: surroundings.env,
        mounts: surroundings.mounts,
        probes: probes::of(container, Some(serving_port(revision))),
        scaling: scaling(revision),
        port: serving_port(revision),
        protocol: match port.and_then(|port| port.name.as_deref()) {
            Some("h2c") => Protocol::H2c,
            _ => Protocol::Http1,
        },
        outbound: outbound(revision),
        limits: limits(revision),
        isolation: isolation(revision),
        ..RevisionSpec::new(
            revision_key(revision),
            revision.uid_str(),
            Arc::clone(&images.serving),
        )
    }
}

/// The containers beside the serving one.
fn beside(revision: &Revision, images: &Images, surroundings: Vec<Surroundings>) -> Vec<Sidecar> {
    let containers = sidecars(revision).zip(&images.sidecars).zip(surroundings);
    containers
        .map(|((container, image), surroundings)| Sidecar {
            command: container.command.clone().unwrap_or_default(),
            args: container.args.clone().unwrap_or_default(),
            working_dir: container.working_dir.as_deref().map(Into::into),
            env: surroundings.env,
            mounts: surroundings.mounts,
            probes: probes::of(Some(container), None),
            memory: memory(container),
            ..Sidecar::new(container.name.as_str(), Arc::clone(image))
        })
        .collect()
}

/// Which servers may be reached. Admission lets only lists through that can be read.
fn outbound(revision: &Revision) -> Outbound {
    let list = revision.annotation(meta::OUTBOUND_ANNOTATION);
    list.and_then(|list| list.parse().ok()).unwrap_or_default()
}

/// Whether calls share instances. Admission lets only known words through.
fn isolation(revision: &Revision) -> Isolation {
    let word = revision.annotation(meta::ISOLATION_ANNOTATION);
    word.and_then(|word| word.parse().ok()).unwrap_or_default()
}

/// The key of a Revision for the data plane.
#[must_use]
pub fn key_for_data_plane(key: &ObjectKey) -> RevisionKey {
    RevisionKey::new(Arc::clone(&key.namespace), Arc::clone(&key.name))
}

/// The name of a Revision for the data plane.
#[must_use]
pub fn revision_key(revision: &Revision) -> RevisionKey {
    RevisionKey::new(
        revision.metadata.namespace.as_deref().unwrap_or_default(),
        revision.name_str(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_reach_the_request_path() {
        let of = |annotations: &[(&str, &str)]| {
            let mut revision = Revision::default();
            revision.metadata.annotations = Some(
                annotations
                    .iter()
                    .map(|(key, value)| (format!("autoscaling.knative.dev/{key}"), (*value).to_owned()))
                    .collect(),
            );
            let scaling = scaling(&revision);
            (
                scaling.max.map(NonZeroU32::get),
                scaling.activation.map(NonZeroU32::get),
            )
        };
        assert_eq!(of(&[]), (None, None));
        assert_eq!(
            of(&[("maxScale", "9"), ("activation-scale", "3")]),
            (Some(9), Some(3))
        );
        assert_eq!(of(&[("max-scale", "0"), ("activation-scale", "1")]), (None, None));
    }

    #[test]
    fn quantities_become_bytes() {
        for (text, wanted) in [
            ("128Mi", Some(128 << 20)),
            ("1.5Gi", Some(3 << 29)),
            ("1e6", Some(1_000_000)),
            ("500m", Some(1)),
            ("2000m", Some(2)),
            ("1.1", Some(2)),
            ("0", None),
            ("lots", None),
            ("", None),
            ("é", None),
        ] {
            assert_eq!(
                bytes(&Quantity(text.to_owned())),
                wanted.map(ByteCount),
                "{text:?}"
            );
        }
    }
}
