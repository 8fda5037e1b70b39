//! Codes of failures that a user can act on. Each has a page `docs/errors/KWnnnn.md` that says what happened and
//! what to do; a test in `kittiwake` fails when a code has no page.

use std::fmt;

/// A stable name for one kind of user-facing failure. Codes are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The image, file or layout does not exist.
    ArtifactNotFound,
    /// The registry refused the credentials, or wants some.
    RegistryUnauthorized,
    /// The registry did not answer in time, failed, or asked to slow down. Tried again later.
    RegistryUnavailable,
    /// What was received is not what its digest promises.
    DigestMismatch,
    /// The artifact holds no WebAssembly.
    NotWasm,
    /// The WebAssembly is a component or module, but not one that answers HTTP.
    NotHttpHandler,
    /// The component imports something that the platform does not provide.
    MissingImport,
    /// The artifact is WebAssembly by name but is broken, or uses a feature that is switched off.
    CompileFailed,
    /// The instance trapped while it was being started.
    StartFailed,
    /// `file://` images are switched off on this server.
    FileNotAllowed,
    /// The artifact is larger than the configured limit.
    ArtifactTooLarge,
    /// The guest trapped during a call.
    CallTrapped,
    /// The call took longer than its time limit.
    CallTimedOut,
    /// The guest ended without setting a response.
    NoResponse,
    /// The function listens on a port by itself, and closed the connection or sent what is not HTTP.
    InvalidAnswer,
    /// The request body is larger than the limit.
    BodyTooLarge,
    /// All instances are busy and the queue is full.
    Overloaded,
    /// No route has this host name.
    NoRoute,
    /// The route exists, but no revision of it is ready.
    NoReadyRevision,
    /// The artifact is of a kind that this version does not run yet.
    UnsupportedKind,
    /// An instance of a function that stays did not become ready within the progress deadline.
    NotReadyInTime,
    /// The platform itself failed.
    Internal,
}

impl ErrorCode {
    /// Every code, for tests and documents.
    pub const ALL: &'static [Self] = &[
        Self::ArtifactNotFound,
        Self::RegistryUnauthorized,
        Self::RegistryUnavailable,
        Self::DigestMismatch,
        Self::NotWasm,
        Self::NotHttpHandler,
        Self::MissingImport,
        Self::CompileFailed,
        Self::StartFailed,
        Self::FileNotAllowed,
        Self::ArtifactTooLarge,
        Self::CallTrapped,
        Self::CallTimedOut,
        Self::NoResponse,
        Self::InvalidAnswer,
        Self::BodyTooLarge,
        Self::Overloaded,
        Self::NoRoute,
        Self::NoReadyRevision,
        Self::UnsupportedKind,
        Self::NotReadyInTime,
        Self::Internal,
    ];

    /// The code as users see it, for example `KW0101`. 01xx: artifacts; 02xx: calls; 09xx: the platform.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ArtifactNotFound => "KW0101",
            Self::RegistryUnauthorized => "KW0102",
            Self::RegistryUnavailable => "KW0103",
            Self::DigestMismatch => "KW0104",
            Self::NotWasm => "KW0105",
            Self::NotHttpHandler => "KW0106",
            Self::MissingImport => "KW0107",
            Self::CompileFailed => "KW0108",
            Self::StartFailed => "KW0109",
            Self::FileNotAllowed => "KW0110",
            Self::ArtifactTooLarge => "KW0111",
            Self::UnsupportedKind => "KW0112",
            Self::NotReadyInTime => "KW0113",
            Self::CallTrapped => "KW0201",
            Self::CallTimedOut => "KW0202",
            Self::NoResponse => "KW0203",
            Self::BodyTooLarge => "KW0204",
            Self::Overloaded => "KW0205",
            Self::NoRoute => "KW0206",
            Self::NoReadyRevision => "KW0207",
            Self::InvalidAnswer => "KW0208",
            Self::Internal => "KW0901",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_distinct() {
        let names: HashSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), ErrorCode::ALL.len());
    }
}
