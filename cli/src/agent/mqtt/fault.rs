//! What may help when MQTT does not work.

use adit_service::mqtt::fault::tls_error;
use rumqttc::mqttbytes::Error as PacketError;
use rumqttc::{ConnectReturnCode, ConnectionError, StateError};
use rustls::{CertificateError, Error as TlsError};

/// What a person can do about it, if anything is known to help.
pub(super) fn hint(fault: &ConnectionError, was_connected: bool) -> Option<&'static str> {
    match tls_error(fault) {
        Some(TlsError::AlertReceived(_)) => return Some(CERTIFICATE_HINT),
        Some(TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => return Some("give the endpoint by the name that its certificate has"),
        Some(TlsError::InvalidCertificate(_)) => {
            return Some(
                "ca must be the authority that certified the endpoint, and this device's clock be right",
            );
        }
        Some(_) | None => {}
    }
    match fault {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::BadClientId
            | ConnectReturnCode::BadUserNamePassword
            | ConnectReturnCode::NotAuthorized,
        )
        // AWS answers with code 7, which no version of MQTT has (control-plane specification, section 9).
        | ConnectionError::MqttState(StateError::Deserialization(
            PacketError::InvalidConnectReturnCode(_),
        )) => Some(CONNECT_HINT),
        // A service may also hang up without a word.
        ConnectionError::MqttState(StateError::ConnectionAborted) if !was_connected => Some(CONNECT_HINT),
        _ => None,
    }
}

const CONNECT_HINT: &str = "the client id is the thing's name: is `thing` the one that the certificate is attached to, \
    is the certificate ACTIVE, and does its policy allow iot:Connect?";

const CERTIFICATE_HINT: &str =
    "the endpoint does not take this certificate: is it registered there, and ACTIVE?";

/// For a subscription that was refused.
pub(super) const SUBSCRIBE_HINT: &str = "the certificate's policy must allow iot:Subscribe and iot:Receive on the thing's own tunnels/notify topic";

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::io;

    use adit_service::mqtt::fault::reason;
    use rustls::AlertDescription;

    use super::*;

    fn io(fault: impl Into<Box<dyn Error + Send + Sync>>) -> ConnectionError {
        ConnectionError::Io(io::Error::other(fault))
    }

    #[test]
    fn each_failure_says_what_to_look_at() {
        let refused = ConnectionError::ConnectionRefused;
        let alert = TlsError::AlertReceived(AlertDescription::CertificateUnknown);
        let issuer = TlsError::InvalidCertificate(CertificateError::UnknownIssuer);
        let name = TlsError::InvalidCertificate(CertificateError::NotValidForName);
        let code = PacketError::InvalidConnectReturnCode(7);
        for (fault, said, helps) in [
            (
                refused(ConnectReturnCode::NotAuthorized),
                "not authorised",
                Some("ACTIVE"),
            ),
            (
                refused(ConnectReturnCode::BadClientId),
                "client id",
                Some("thing's name"),
            ),
            (
                refused(ConnectReturnCode::ServiceUnavailable),
                "not available",
                None,
            ),
            (
                StateError::Deserialization(code).into(),
                "code 7",
                Some("thing's name"),
            ),
            (
                StateError::ConnectionAborted.into(),
                "closed",
                Some("thing's name"),
            ),
            (io(alert.clone()), "CertificateUnknown", Some("registered")),
            (
                StateError::Io(io::Error::other(alert)).into(),
                "CertificateUnknown",
                Some("registered"),
            ),
            (io(issuer), "UnknownIssuer", Some("ca must be")),
            (io(name), "NotValidForName", Some("by the name")),
            (io("no route"), "no route", None),
            (
                StateError::Io(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "peer closed connection: https://docs.rs",
                ))
                .into(),
                "cut the connection",
                None,
            ),
        ] {
            let reason = reason(&fault, "the service");
            assert!(reason.contains(said), "{reason}");
            let hint = hint(&fault, false);
            match helps {
                Some(word) => assert!(
                    hint.unwrap_or_default().contains(word),
                    "{reason}: {hint:?}"
                ),
                None => assert_eq!(hint, None, "{reason}"),
            }
        }
    }

    #[test]
    fn a_connection_that_worked_is_not_blamed_on_the_certificate() {
        let fault = StateError::ConnectionAborted.into();
        assert_eq!(hint(&fault, true), None);
    }
}
