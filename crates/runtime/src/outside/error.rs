//! Why a request that goes out has no response, and what the guest is told of it: the codes are those of RFC 9209.

use crate::network::ResolveError;
use hyper_util::client::legacy;
use std::error::Error as StdError;
use std::io;
use std::net::IpAddr;
use wasmtime_wasi_http::Error;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The URL has no host that could be asked for.
    #[error("the URL names no host")]
    NoHost,
    /// The name has no address.
    #[error("the name has no address")]
    Unresolved,
    /// Nobody told the addresses in time.
    #[error("no name server answered")]
    ResolvedTooLate,
    /// All its addresses are forbidden ones.
    #[error(
        "was denied: the name has the address {0}, which kittiwake.dev/allowed-outbound does not let through by a name alone"
    )]
    Prohibited(IpAddr),
    /// The function has too many connections.
    #[error("was not sent: the function has too many connections")]
    TooMany,
    /// No connection was made in time.
    #[error("the connection took too long")]
    TimedOut,
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[source] io::Error),
    /// The handshake failed.
    #[error("failed: TLS: {0}")]
    Tls(#[source] io::Error),
    /// This machine is not set up for TLS.
    #[error("failed: {0}")]
    Setup(String),
}

impl From<ResolveError> for ConnectError {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Unknown => Self::Unresolved,
            ResolveError::TimedOut => Self::ResolvedTooLate,
        }
    }
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// There is no connection yet.
    #[error("the connection took too long")]
    NotConnectedInTime,
    /// The server did not answer in time.
    #[error("the server did not answer in time")]
    Silent,
    /// What the client says.
    #[error(transparent)]
    Client(#[from] legacy::Error),
}

/// The first cause of a type.
fn cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut error = Some(error);
    while let Some(this) = error {
        if let Some(found) = this.downcast_ref() {
            return Some(found);
        }
        error = this.source();
    }
    None
}

impl Failure {
    fn connect_error(&self) -> Option<&ConnectError> {
        match self {
            Self::Client(error) => cause(error),
            Self::NotConnectedInTime | Self::Silent => None,
        }
    }

    /// What the function's owner has to know, where the code that the guest gets does not say it.
    pub(super) fn remark(&self) -> Option<String> {
        let error = self.connect_error()?;
        match error {
            ConnectError::Prohibited(_)
            | ConnectError::TooMany
            | ConnectError::Tls(_)
            | ConnectError::Setup(_) => Some(error.to_string()),
            _ => None,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        if let Some(error) = failure.connect_error() {
            return connect_code(error);
        }
        let error = match &failure {
            Failure::NotConnectedInTime => return Self::ConnectionTimeout,
            Failure::Silent => return Self::ConnectionReadTimeout,
            Failure::Client(error) => error,
        };
        // What the guest's own body broke with.
        if let Some(Self::HttpRequestBodySize(size)) = cause::<Self>(error) {
            return Self::HttpRequestBodySize(*size);
        }
        match cause::<hyper::Error>(error) {
            Some(error) if error.is_timeout() => Self::HttpResponseTimeout,
            Some(error) if error.is_incomplete_message() => Self::HttpResponseIncomplete,
            Some(error) if error.is_canceled() || error.is_closed() => Self::ConnectionTerminated,
            Some(_) => match cause::<io::Error>(error) {
                Some(_) => Self::ConnectionTerminated,
                None => Self::HttpProtocolError,
            },
            None => Self::HttpProtocolError,
        }
    }
}

fn connect_code(error: &ConnectError) -> Error {
    match error {
        ConnectError::NoHost => Error::HttpRequestUriInvalid,
        ConnectError::Unresolved => Error::DnsError {
            rcode: Some("NXDOMAIN".to_owned()),
            info_code: None,
        },
        ConnectError::ResolvedTooLate => Error::DnsTimeout,
        ConnectError::Prohibited(_) => Error::DestinationIpProhibited,
        ConnectError::TooMany => Error::ConnectionLimitReached,
        ConnectError::TimedOut => Error::ConnectionTimeout,
        ConnectError::Io(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
            io::ErrorKind::TimedOut => Error::ConnectionTimeout,
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
                Error::DestinationIpUnroutable
            }
            _ => Error::DestinationUnavailable,
        },
        ConnectError::Tls(error) => tls_code(error),
        ConnectError::Setup(_) => Error::ConfigurationError,
    }
}

fn tls_code(error: &io::Error) -> Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            Error::TlsCertificateError
        }
        Some(rustls::Error::AlertReceived(alert)) => Error::TlsAlertReceived {
            alert_id: Some((*alert).into()),
            alert_message: Some(format!("{alert:?}")),
        },
        Some(_) => Error::TlsProtocolError,
        None => Error::ConnectionTerminated,
    }
}
