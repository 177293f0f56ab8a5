//! What may help when the broker does not take us.

use rumqttc::{ConnectReturnCode, ConnectionError, StateError};
use rustls::{CertificateError, Error as TlsError};

use crate::mqtt::fault::{io_error, tls_error};

/// What a person can do about it, if anything is known to help.
pub(super) fn hint(
    fault: &ConnectionError,
    is_secure: bool,
    was_connected: bool,
) -> Option<&'static str> {
    match tls_error(fault) {
        Some(TlsError::AlertReceived(_)) => return Some(CERTIFICATE_HINT),
        Some(TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => return Some("give the broker in --mqtt-broker by the name that its certificate has"),
        Some(TlsError::InvalidCertificate(_)) => {
            return Some("--mqtt-broker-ca must be the authority that certified the broker");
        }
        Some(TlsError::InvalidMessage(_)) => {
            return Some("does the broker speak TLS on this port?");
        }
        Some(_) | None => {}
    }
    match fault {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::BadClientId
            | ConnectReturnCode::BadUserNamePassword
            | ConnectReturnCode::NotAuthorized,
        ) => Some(LOGIN_HINT),
        // Some brokers, AWS's among them, hang up at a publication that they forbid.
        fault if has_hung_up(fault) && was_connected => Some(ACL_HINT),
        fault if has_hung_up(fault) && is_secure => Some(LOGIN_HINT),
        fault if has_hung_up(fault) => {
            Some("does the broker want TLS on this port? Then write mqtts://")
        }
        ConnectionError::Io(_) | ConnectionError::NetworkTimeout if !was_connected => {
            Some("does the broker run, and are name and port in --mqtt-broker right?")
        }
        _ => None,
    }
}

fn has_hung_up(fault: &ConnectionError) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    let aborted = matches!(
        fault,
        ConnectionError::MqttState(StateError::ConnectionAborted)
    );
    let kind = io_error(fault).map(std::io::Error::kind);
    aborted || matches!(kind, Some(BrokenPipe | ConnectionReset | UnexpectedEof))
}

const CERTIFICATE_HINT: &str = "the broker does not take our certificate: --mqtt-broker-cert must be signed by an authority that \
     it trusts";

const LOGIN_HINT: &str = "the broker must let us in by the certificate of --mqtt-broker-cert or by the password of \
     --mqtt-broker-credentials";

const ACL_HINT: &str =
    "if this comes again: the broker must let us publish to $aws/things/+/tunnels/notify";

#[cfg(test)]
mod tests {
    use std::io;

    use rustls::{AlertDescription, InvalidMessage};

    use super::*;

    #[test]
    fn each_failure_says_what_to_look_at() {
        let tls = |fault: TlsError| ConnectionError::Io(io::Error::other(fault));
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        for (fault, was_connected, word) in [
            (refused.into(), false, "run"),
            (
                tls(TlsError::AlertReceived(AlertDescription::UnknownCA)),
                false,
                "--mqtt-broker-cert",
            ),
            (
                StateError::Io(io::Error::other(TlsError::AlertReceived(
                    AlertDescription::CertificateRequired,
                )))
                .into(),
                false,
                "--mqtt-broker-cert",
            ),
            (
                tls(CertificateError::UnknownIssuer.into()),
                false,
                "--mqtt-broker-ca",
            ),
            (
                tls(CertificateError::NotValidForName.into()),
                false,
                "by the name",
            ),
            (
                tls(InvalidMessage::InvalidContentType.into()),
                false,
                "TLS on this port",
            ),
            (
                ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized),
                false,
                "--mqtt-broker-credentials",
            ),
            (StateError::ConnectionAborted.into(), true, "publish to"),
            (StateError::ConnectionAborted.into(), false, "let us in"),
        ] {
            let hint = hint(&fault, true, was_connected).unwrap_or_default();
            assert!(hint.contains(word), "{fault}: {hint}");
        }
        assert_eq!(hint(&ConnectionError::NetworkTimeout, true, true), None);
    }
}
