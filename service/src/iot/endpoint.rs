//! `DescribeEndpoint`: where devices connect.

use serde::Serialize;

use super::error::invalid;
use super::{Answer, Iot, authorize, everything};
use crate::api::call::Call;
use crate::api::outcome::Outcome;
use crate::notify::BrokerAddress;
use crate::registry::Registry;

/// The MQTT listener, as devices reach it.
///
/// AWS answers with a bare host name, and scripts put the port behind it: 8883, or 443 with ALPN. So
/// ours is bare too when the listener has one of these ports. On any other port the bare name would
/// lead such a script to somebody else's listener, or to a refusal that explains nothing: then the
/// answer is `host:port`, which `adit agent` takes as it is and other programs visibly stumble over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DataEndpoint(String);

impl DataEndpoint {
    /// `host` is a name or an IPv4 address, or an IPv6 address in brackets.
    pub(crate) fn new(host: &str, port: u16) -> Self {
        Self(match port {
            8883 | 443 => host.to_owned(),
            _ => format!("{host}:{port}"),
        })
    }

    /// A broker of somebody else's, as this service reaches it: devices are thought to do the same.
    pub(crate) fn of(broker: &BrokerAddress) -> Self {
        Self::new(&broker.bracketed_host(), broker.port())
    }
}

impl<R: Registry> Iot<R> {
    pub(super) fn describe_endpoint(&self, call: &Call) -> Answer {
        let kind = call.target.parameter("endpointType").unwrap_or("iot:Data");
        authorize(call, "iot:DescribeEndpoint", everything())?;
        let served = match kind {
            // One listener with one certificate; which authority signed it is AWS's distinction.
            "iot:Data" | "iot:Data-ATS" | "iot:Data-Beta" => &self.endpoint,
            "iot:CredentialProvider" | "iot:Jobs" => {
                return Err(invalid(
                    "this service has endpoints of the types iot:Data and iot:Data-ATS only",
                ));
            }
            _ => {
                return Err(invalid(
                    "endpointType is none of iot:Data, iot:Data-ATS, iot:CredentialProvider, iot:Jobs",
                ));
            }
        };
        let Some(DataEndpoint(address)) = served else {
            return Err(invalid(
                "this service has no MQTT listener; start it with --mqtt-listen or --mqtt-broker",
            ));
        };
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Output<'a> {
            endpoint_address: &'a str,
        }
        Ok(Outcome::json(&Output {
            endpoint_address: address,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_said_unless_scripts_know_it() {
        for (host, port, expected) in [
            ("iot.example.com", 8883, "iot.example.com"),
            ("iot.example.com", 443, "iot.example.com"),
            ("localhost", 40001, "localhost:40001"),
            ("[2001:db8::1]", 1883, "[2001:db8::1]:1883"),
        ] {
            let endpoint = DataEndpoint::new(host, port);
            assert_eq!(endpoint, DataEndpoint(expected.to_owned()));
        }
    }
}
