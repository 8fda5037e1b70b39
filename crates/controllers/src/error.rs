//! Why a reconcile is tried again.

/// Why a reconcile is tried again. Never shown to users: what they can act on is a condition.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API refused or did not answer.
    #[error("the API refused a request: {0}")]
    Api(kube::Error),
    /// The object changed since it was read, or is there already: normal, the next read sees why.
    #[error("the object changed meanwhile")]
    Conflict,
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 409 => Self::Conflict,
            other => Self::Api(other),
        }
    }
}

/// Whether the object is no longer there (404, or 410 for a collection that expired).
#[must_use]
pub fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404 || status.code == 410)
}
