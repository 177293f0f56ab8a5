//! Why an MQTT client has no connection, in words. The agent and the notifier for other brokers are such
//! clients.

use std::error::Error;
use std::io;

use rumqttc::mqttbytes::Error as PacketError;
use rumqttc::{ConnectReturnCode, ConnectionError, StateError};
use rustls::Error as TlsError;

/// What happened; `peer` is what the other end is called.
pub fn reason(fault: &ConnectionError, peer: &str) -> String {
    if let Some(fault) = tls_error(fault) {
        return format!("TLS: {fault}");
    }
    match fault {
        ConnectionError::ConnectionRefused(code) => {
            let why = match code {
                ConnectReturnCode::RefusedProtocolVersion => "it does not speak MQTT 3.1.1",
                ConnectReturnCode::BadClientId => "the client id is not allowed",
                ConnectReturnCode::ServiceUnavailable => "it is not available",
                ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
                    "not authorised"
                }
                ConnectReturnCode::Success => "without a reason",
            };
            format!("{peer} refused the connection: {why}")
        }
        ConnectionError::MqttState(StateError::Deserialization(
            PacketError::InvalidConnectReturnCode(code),
        )) => format!("{peer} refused the connection with code {code}"),
        ConnectionError::MqttState(StateError::ConnectionAborted) => {
            format!("{peer} closed the connection")
        }
        ConnectionError::MqttState(StateError::AwaitPingResp) => {
            format!("{peer} does not answer any more")
        }
        ConnectionError::NetworkTimeout => "no answer in time".to_owned(),
        other => match io_error(other) {
            // TLS without its own end: the library's text is a link to its manual.
            Some(fault) if fault.kind() == io::ErrorKind::UnexpectedEof => {
                format!("{peer} was stopped, or something on the way cut the connection")
            }
            Some(fault) => fault.to_string(),
            None => other.to_string(),
        },
    }
}

/// The kernel's error, wherever it was wrapped.
pub fn io_error(fault: &ConnectionError) -> Option<&io::Error> {
    match fault {
        ConnectionError::Io(fault)
        | ConnectionError::MqttState(
            StateError::Io(fault) | StateError::Deserialization(PacketError::Io(fault)),
        ) => Some(fault),
        _ => None,
    }
}

/// The TLS library's error, wherever it was wrapped.
pub fn tls_error<'a>(fault: &'a (dyn Error + 'static)) -> Option<&'a TlsError> {
    let mut next = Some(fault);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<TlsError>() {
            return Some(found);
        }
        // An IO error shows what it carries here, and only that one's source by `source`.
        if let Some(io) = error.downcast_ref::<io::Error>()
            && let Some(inner) = io.get_ref()
        {
            next = Some(inner);
            continue;
        }
        next = error.source();
    }
    None
}
