//! A revision as the data plane sees it: everything needed to answer one call, and nothing that is not.

use crate::artifact::FunctionKind;
use crate::outbound::Outbound;
use crate::probe::Probes;
use crate::share::Owners;
use crate::sidecar::Sidecar;
use crate::unit::ByteCount;
use crate::volume::Mount;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// The name of a Revision object within the platform.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RevisionKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name, for example `hello-00001`.
    pub name: Arc<str>,
}

impl RevisionKey {
    /// The revision `name` in `namespace`.
    #[must_use]
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for RevisionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What a revision may use. Each is enforced by the runtime for every single call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one instance: `resources.limits.memory`, or the platform's default.
    pub memory: ByteCount,
    /// Total time of one call: `timeoutSeconds`. Knative's default is 300 s, its maximum 600 s.
    pub timeout: Duration,
    /// Time until the first byte of the response: `responseStartTimeoutSeconds`. `None`: only `timeout` counts.
    pub response_start_timeout: Option<Duration>,
    /// Longest silence between two writes of the response: `idleTimeoutSeconds`. `None`: no such limit.
    pub idle_timeout: Option<Duration>,
    /// Largest request body; a longer one is refused with 413, also when its length was not announced.
    pub request_body: ByteCount,
    /// Calls that one instance takes at a time: `containerConcurrency`. `None`: as many as come.
    pub concurrency: Option<NonZeroU32>,
}

impl Limits {
    /// Time until the head of the response must be known: the least of the three limits.
    #[must_use]
    pub fn head_limit(&self) -> Duration {
        [self.response_start_timeout, self.idle_timeout]
            .into_iter()
            .flatten()
            .fold(self.timeout, Duration::min)
    }
}

impl Default for Limits {
    /// What a revision gets that says nothing (Knative's defaults where Knative has one).
    fn default() -> Self {
        Self {
            memory: ByteCount::mib(256),
            timeout: Duration::from_secs(300),
            response_start_timeout: None,
            idle_timeout: None,
            request_body: ByteCount::mib(64),
            concurrency: None,
        }
    }
}

/// How calls share instances: the annotation `kittiwake.dev/isolation` of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Isolation {
    /// A fresh instance for each call.
    #[default]
    Request,
    /// Instances are kept and take one call at a time.
    Serial,
    /// Instances are kept and take many calls at a time, where their interface can: that of `wasi:http` 0.3. That of 0.2
    /// cannot, so its components are served as by [`Isolation::Serial`].
    Concurrent,
}

impl Isolation {
    /// Whether an instance may serve more than one call.
    #[must_use]
    pub fn keeps_instances(self) -> bool {
        self != Self::Request
    }
}

impl std::str::FromStr for Isolation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "request" => Ok(Self::Request),
            "serial" => Ok(Self::Serial),
            "concurrent" => Ok(Self::Concurrent),
            other => Err(format!("{other:?} is none of request, serial, concurrent")),
        }
    }
}

/// The protocol that a resident function speaks on its port: the name of its `containerPort`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// HTTP/1.1: `http1`, or no name.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge: `h2c`. What gRPC needs.
    H2c,
}

/// What the request path has to know of a revision's scaling; the rest is the autoscaler's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scaling {
    /// The most instances in this process: its part of `autoscaling.knative.dev/max-scale`. `None`: no limit. Where there
    /// are `owners`, only those of them have it.
    pub max: Option<NonZeroU32>,
    /// Set where there may be fewer instances than there are processes that answer calls: then some have none, and pass
    /// calls on to one that has.
    pub owners: Option<Owners>,
    /// The least that a start from zero begins with: `autoscaling.knative.dev/activation-scale`. `None`: 1.
    pub activation: Option<NonZeroU32>,
}

/// One immutable revision, ready to be called. Built by the routing table's controller, read by gateway and runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionSpec {
    /// Which revision this is.
    pub key: RevisionKey,
    /// The object's uid: two revisions of one name at different times are not the same revision.
    pub uid: Arc<str>,
    /// The Knative Service that owns it; empty when a Configuration stands alone. Label `service_name` of metrics.
    pub service: Arc<str>,
    /// The Configuration that owns it. Label `configuration_name` of metrics.
    pub configuration: Arc<str>,
    /// The image pinned to a digest, as in the Revision's `status.containerStatuses[].imageDigest`:
    /// `registry/repository@sha256:…`, `file:///path/x.wasm@sha256:…` or `oci-layout:///path@sha256:…`.
    pub image: Arc<str>,
    /// What kind of program the image holds.
    pub kind: FunctionKind,
    /// The kind that its template names for a program that could be either (`kittiwake.dev/kind`): see
    /// [`FunctionKind::taken_for`].
    pub named_kind: Option<FunctionKind>,
    /// The `command` of its container, which replaces the program's name (its `argv[0]`) and, where it has more, stands
    /// before `args`. Empty: the image's own.
    pub command: Vec<String>,
    /// The `args` of its container, after the program's name.
    pub args: Vec<String>,
    /// The `workingDir` of its container.
    pub working_dir: Option<Arc<str>>,
    /// Environment variables in order, with `PORT`, `K_SERVICE`, `K_CONFIGURATION` and `K_REVISION` included.
    pub env: Vec<(String, String)>,
    /// Folders that an instance finds, besides `/tmp`.
    pub mounts: Vec<Mount>,
    /// The port on which a resident function listens, as it believes: its `containerPort`, or 8080. 0 for one that takes
    /// no calls ([`Sidecar::alone`]).
    pub port: u16,
    /// What it speaks there.
    pub protocol: Protocol,
    /// How a resident function is asked whether it is ready and alive.
    pub probes: Probes,
    /// Which other servers it may reach.
    pub outbound: Outbound,
    /// What one instance and one call may use.
    pub limits: Limits,
    /// Whether calls share instances.
    pub isolation: Isolation,
    /// How many instances there may be.
    pub scaling: Scaling,
    /// The containers that run beside the one that takes calls, in the order of the template. Only a resident function has
    /// some.
    pub sidecars: Vec<Sidecar>,
}

/// The port of a container that names none (Knative's default).
pub const PORT_DEFAULT: u16 = 8080;

impl RevisionSpec {
    /// A revision of which nothing is said but what it runs: everything else as Knative defaults it.
    #[must_use]
    pub fn new(key: RevisionKey, uid: impl Into<Arc<str>>, image: impl Into<Arc<str>>) -> Self {
        Self {
            key,
            uid: uid.into(),
            service: Arc::default(),
            configuration: Arc::default(),
            image: image.into(),
            kind: FunctionKind::default(),
            named_kind: None,
            command: Vec::new(),
            args: Vec::new(),
            working_dir: None,
            env: Vec::new(),
            mounts: Vec::new(),
            port: PORT_DEFAULT,
            protocol: Protocol::default(),
            probes: Probes::default(),
            outbound: Outbound::default(),
            limits: Limits::default(),
            isolation: Isolation::default(),
            scaling: Scaling::default(),
            sidecars: Vec::new(),
        }
    }
}
