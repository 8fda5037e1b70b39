//! How controllers ask for an artifact to be made ready, without knowing how that is done.
//!
//! The runtime implements [`Prepare`]; the binary hands it to the Revision controller.

use crate::code::ErrorCode;
use crate::revision::RevisionSpec;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// Credentials for one registry, from an `imagePullSecrets` entry.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryCredential {
    /// Host and port of the registry as in a docker config, for example `ghcr.io` or `127.0.0.1:5000`.
    pub registry: String,
    /// User name.
    pub username: String,
    /// Password or token. Never logged.
    pub password: String,
}

impl std::fmt::Debug for RegistryCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryCredential")
            .field("registry", &self.registry)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// What to make ready.
#[derive(Debug, Clone)]
pub struct PrepareRequest {
    /// The revision it is for, with `image` as the user wrote it (`ghcr.io/me/hello:v1`, `file:///…`, `oci-layout:///…`)
    /// or already pinned, and with a `kind` that means nothing yet. Starting it once at deploy time keeps to its limits.
    pub revision: RevisionSpec,
    /// Credentials to try, in order, before those of the machine's docker configuration.
    pub credentials: Vec<RegistryCredential>,
    /// Time that a function which stays has to become ready (Knative's `progress-deadline`).
    pub progress_deadline: Duration,
}

/// How far a preparation has come; shown in the Revision's conditions and by `kittiwake apply`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreparePhase {
    /// Asking the registry which digest the tag means, then fetching what is missing.
    Pulling,
    /// Compiling the WebAssembly to machine code.
    Compiling,
    /// Starting one instance to see that it can be started.
    Starting,
}

/// What kind of program the artifact is, found from the artifact itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FunctionKind {
    /// A component that exports `wasi:http/incoming-handler` (WASI 0.2) or `wasi:http/handler` (0.3).
    #[default]
    Component,
    /// A module or component that listens on a port by itself, and stays.
    Server,
    /// A module with `_start` that reads a request as a CGI program does, and answers on its standard output: one
    /// instance for each call.
    Command,
}

impl FunctionKind {
    /// Its name, as shown to users and kept in the Revision's status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Server => "server",
            Self::Command => "command",
        }
    }

    /// What a program that was found to be this is taken for where its template names a kind
    /// ([`crate::revision::RevisionSpec::named_kind`]). Only the two kinds that have a `main` are told apart that way: which
    /// functions a program imports does not always say whether it listens.
    #[must_use]
    pub fn taken_for(self, named: Option<Self>) -> Self {
        match (self, named) {
            (Self::Server | Self::Command, Some(named @ (Self::Server | Self::Command))) => named,
            _ => self,
        }
    }

    /// Whether its instances stay between calls and are counted by the autoscaler one by one.
    #[must_use]
    pub fn is_resident(self) -> bool {
        self == Self::Server
    }
}

impl std::str::FromStr for FunctionKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Component, Self::Server, Self::Command]
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| format!("{text:?} is none of component, server, command"))
    }
}

/// An artifact that is on disk, compiled, and was started once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The image pinned to its digest; see [`crate::revision::RevisionSpec::image`].
    pub image: String,
    /// What kind of program it is.
    pub kind: FunctionKind,
    /// The images of the sidecars pinned to their digests, in the order of
    /// [`RevisionSpec::sidecars`].
    pub sidecars: Vec<Arc<str>>,
}

/// Why an artifact could not be made ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} [{code}]")]
pub struct PrepareError {
    /// What kind of failure this is.
    pub code: ErrorCode,
    /// One or two sentences for the function's owner: the cause, and what to do.
    pub message: String,
    /// The guest's exit code where it ended by itself; a trap counts as 134 (SIGABRT), as a container's would.
    pub exit_code: Option<i32>,
    /// The container that failed, where it is a sidecar.
    pub sidecar: Option<Arc<str>>,
}

impl PrepareError {
    /// A failure without an exit code.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            exit_code: None,
            sidecar: None,
        }
    }

    /// The same failure, as that of a sidecar, which the message names.
    #[must_use]
    pub fn of_sidecar(self, name: &Arc<str>) -> Self {
        Self {
            message: format!("container {name:?}: {}", self.message),
            sidecar: Some(Arc::clone(name)),
            ..self
        }
    }

    /// Whether trying again later can help without anyone changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.code, ErrorCode::RegistryUnavailable | ErrorCode::Internal)
    }

    /// The reason of the Revision's condition, in Knative's words: `ExitCode<N>` when it ended by itself,
    /// otherwise `ContainerMissing` (serving `pkg/apis/serving/v1/revision_lifecycle.go`).
    #[must_use]
    pub fn reason(&self) -> String {
        match self.exit_code {
            Some(code) => format!("ExitCode{code}"),
            None => "ContainerMissing".to_owned(),
        }
    }
}

/// Makes artifacts ready to be called.
pub trait Prepare: Send + Sync + 'static {
    /// Fetches, verifies, compiles and starts once, with all sidecars. Doing it again for what is ready is cheap (no network for a
    /// pinned image whose compiled form is on disk).
    /// `progress` is called at each change of phase; it must not block.
    fn prepare(
        &self,
        request: PrepareRequest,
        progress: Arc<dyn Fn(PreparePhase) + Send + Sync>,
    ) -> BoxFuture<'static, Result<Prepared, PrepareError>>;

    /// What a pinned image, without sidecars, was prepared to before, perhaps by an earlier process, if all of it is still
    /// on disk.
    /// Asks nobody and compiles nothing: a few looks at the file system.
    fn recall(&self, image: &str) -> Option<Prepared>;
}
