//! What can go wrong in a handshake and in the record layer after it.

use std::io;

use super::config::NotPinned;

/// Why a record could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Our mistake: more plaintext than one record carries.
    #[error("a plaintext of {size} bytes exceeds the {max} bytes of a TLS record", max = super::MAX_PLAINTEXT)]
    PlaintextTooLarge {
        /// Bytes given.
        size: usize,
    },
    /// Our mistake: the buffer ends too early.
    #[error("sealing needs {needed} bytes from the record's start, the buffer has {size}")]
    NoRoom {
        /// Bytes given.
        size: usize,
        /// Bytes needed.
        needed: usize,
    },
    /// Our mistake: something was sealed after `close_notify`.
    #[error("this side has already said that it sends no more")]
    WriteClosed,
    /// The record was changed, cut, repeated or put out of order on its way.
    #[error("a TLS record was changed on its way, or is out of order")]
    BadRecord,
    /// The record is larger than the protocol allows.
    #[error("a TLS record of {size} bytes exceeds the limit of {max} bytes")]
    TooLarge {
        /// Bytes of the record's content.
        size: usize,
        /// The limit that applies.
        max: usize,
    },
    /// The peer sent what may not come at this point.
    #[error("the peer broke TLS: {0}")]
    Unexpected(&'static str),
    /// The peer sent what cannot be read.
    #[error("the peer sent a malformed TLS message: {0}")]
    Malformed(&'static str),
    /// The peer sent a value that has no meaning.
    #[error("the peer sent a TLS message with an impossible value: {0}")]
    IllegalParameter(&'static str),
    /// The peer ended the connection with an alert.
    #[error("the peer ended the connection with TLS alert {code} ({name})")]
    Alert {
        /// The alert's number (RFC 8446 §6).
        code: u8,
        /// Its name, or `unknown`.
        name: &'static str,
    },
    /// The keys of this side are used up and were not renewed in time.
    #[error("the TLS keys are used up")]
    KeysUsedUp,
    /// The connection failed before; this is only the echo.
    #[error("the TLS connection has failed before")]
    Failed,
    /// The TLS library refused.
    #[error("TLS failed: {0}")]
    Library(rustls::Error),
}

impl From<rustls::Error> for RecordError {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::DecryptError => Self::BadRecord,
            rustls::Error::AlertReceived(alert) => Self::Alert {
                code: u8::from(alert),
                name: super::alert::alert_name(u8::from(alert)),
            },
            other => Self::Library(other),
        }
    }
}

/// Why a TLS handshake did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The socket failed.
    #[error("the connection failed during the TLS handshake: {0}")]
    Io(#[from] io::Error),
    /// The peer closed the connection in the middle.
    #[error("the connection was closed during the TLS handshake")]
    ClosedEarly,
    /// The peer speaks something else, refused us, or its certificate does not hold.
    #[error("{}", describe(.0))]
    Tls(rustls::Error),
    /// The peer's handshake messages do not fit the bound.
    #[error("the peer's TLS handshake exceeds {max} bytes")]
    TooLarge {
        /// The bound.
        max: usize,
    },
    /// The keys cannot be taken over from the library.
    #[error("the TLS keys cannot be taken over: {0}")]
    Keys(RecordError),
    /// The name cannot be in a certificate.
    #[error("`{0}` is neither a host name nor an address that a certificate can hold")]
    BadName(String),
}

impl HandshakeError {
    /// What a person can do about it, if anything is known to help.
    pub fn hint(&self) -> Option<&'static str> {
        use rustls::CertificateError as Cert;
        let Self::Tls(rustls::Error::InvalidCertificate(error)) = self else {
            return None;
        };
        match error {
            Cert::UnknownIssuer => {
                Some("give the authority that signed it with --capath, if you trust it")
            }
            Cert::BadSignature => {
                Some("the authority was made anew; give its present certificate with --capath")
            }
            Cert::Expired | Cert::ExpiredContext { .. } => {
                Some("renew the certificate; if it is not expired, set this machine's clock")
            }
            Cert::NotValidYet | Cert::NotValidYetContext { .. } => {
                Some("set this machine's clock: the certificate begins later than it says")
            }
            Cert::NotValidForName | Cert::NotValidForNameContext { .. } => {
                Some("connect by a name that the certificate holds, or add this name to it")
            }
            Cert::Other(reason) if is_not_pinned(reason) => Some(
                "if the service has a new key, ask its operator for the pin; if not, somebody is in the way",
            ),
            _ => None,
        }
    }

    /// What an async TLS stream has wrapped into an IO error.
    pub(crate) fn from_io(error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|it| it.downcast_ref());
        match inner.cloned() {
            Some(error) => Self::Tls(error),
            None => Self::Io(error),
        }
    }

    /// Whether the peer's certificate is the reason.
    pub fn is_certificate(&self) -> bool {
        matches!(self, Self::Tls(rustls::Error::InvalidCertificate(_)))
    }
}

fn describe(error: &rustls::Error) -> String {
    use rustls::CertificateError as Cert;
    match error {
        rustls::Error::InvalidCertificate(reason) => match reason {
            Cert::UnknownIssuer => "the certificate is signed by an unknown authority".into(),
            Cert::BadSignature => {
                "the certificate is signed by an authority of a trusted name with another key"
                    .into()
            }
            Cert::Expired | Cert::ExpiredContext { .. } => "the certificate has expired".into(),
            Cert::NotValidYet | Cert::NotValidYetContext { .. } => {
                "the certificate is not valid yet".into()
            }
            Cert::NotValidForName | Cert::NotValidForNameContext { .. } => {
                "the certificate is for another host".into()
            }
            Cert::Other(reason) if is_not_pinned(reason) => reason.to_string(),
            other => format!("the certificate does not hold: {other:?}"),
        },
        rustls::Error::InvalidMessage(_) => "the peer does not speak TLS".into(),
        rustls::Error::AlertReceived(alert) => {
            let code = u8::from(*alert);
            let name = super::alert::alert_name(code);
            format!("the peer refused the TLS handshake with alert {code} ({name})")
        }
        other => format!("the TLS handshake failed: {other}"),
    }
}

fn is_not_pinned(reason: &rustls::OtherError) -> bool {
    reason.0.is::<NotPinned>()
}
