//! Where the service is: `--proxy-endpoint`, or `--region` and a format.

use std::fmt;
use std::net::Ipv6Addr;

use adit_engine::tunnel::endpoint::Excerpt;
use adit_proto::escape::Escaped;

use super::json::JsonSettings;
use crate::args::options::Opt;
use crate::args::{Given, Origin};
use crate::fault::BadInput;
use crate::personality::Personality;

/// Host and port of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAddress {
    /// Lower case; an IPv6 address without its brackets. Certificates are checked against it.
    pub host: String,
    /// 443 unless given.
    pub port: u16,
}

impl fmt::Display for ServiceAddress {
    /// `host:port`, as in a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Reads `--proxy-endpoint`.
pub fn from_endpoint(given: &Given, personality: Personality) -> Result<ServiceAddress, BadInput> {
    let text = given.value.as_str();
    let fault = |problem: String, hint: &str, reference: &str, reason: &'static str| {
        BadInput::value(Opt::ProxyEndpoint, &given.origin, problem, hint)
            .reference(reference)
            .rejected("proxy-endpoint", reason)
    };
    if text.is_empty() {
        return Err(fault(
            "the endpoint is empty".to_owned(),
            ENDPOINT_HINT,
            "Proxy endpoint cannot be empty",
            "empty endpoint",
        ));
    }
    if text.len() > ENDPOINT_SIZE_MAX {
        return Err(fault(
            format!("{} bytes, the limit is {ENDPOINT_SIZE_MAX}", text.len()),
            ENDPOINT_HINT,
            "Proxy endpoint exceeds maximum allowed length",
            "exceeds maximum length",
        ));
    }
    if !text.bytes().all(is_address_byte) {
        let hint = if text.contains("//") {
            "write the host alone, without `wss://` and path, for example tunnels.example.org:443"
        } else {
            ENDPOINT_HINT
        };
        return Err(fault(
            format!("`{}` has a character that no endpoint has", Excerpt(text)),
            hint,
            "Proxy endpoint contains invalid characters",
            "invalid characters",
        ));
    }
    split(text, DEFAULT_PORT, personality).map_err(|problem| {
        let problem = format!("`{}`: {problem}", Excerpt(text));
        BadInput::value(Opt::ProxyEndpoint, &given.origin, problem, ENDPOINT_HINT).reference(
            format!("Invalid endpoint specified: {}", text.to_ascii_lowercase()),
        )
    })
}

/// Makes an endpoint from `--region`: an override of that region, or the format with the region in it.
pub fn from_region(
    given: &Given,
    settings: &JsonSettings,
    personality: Personality,
) -> Result<ServiceAddress, BadInput> {
    let region = given.value.as_str();
    check_region(region, &given.origin)?;
    let endpoint = match settings.region_endpoint_overrides.get(region) {
        Some(endpoint) => endpoint.clone(),
        None => settings.endpoint_format.replacen("%s", region, 1),
    };
    let usable = endpoint.bytes().all(is_address_byte) && endpoint.len() <= ENDPOINT_SIZE_MAX;
    let address = if usable {
        split(&endpoint, DEFAULT_PORT, personality)
    } else {
        Err("not HOST or HOST:PORT".to_owned())
    };
    address.map_err(|problem| {
        let endpoint = Escaped(&endpoint);
        let message = format!(
            "--settings-json: the endpoint of region {region} would be `{endpoint}`: {problem}"
        );
        let hint = "mend endpoint_format (a host with %s where the region goes) or region_endpoint_overrides";
        BadInput::fatal(message, hint)
            .reference(format!("Invalid endpoint specified: {endpoint}"))
            .in_file()
    })
}

/// Reads `HOST`, `HOST:PORT` or `[IPV6]:PORT` from a file of our own.
pub fn parse_address(text: &str, default_port: u16) -> Result<ServiceAddress, String> {
    if text.len() > ENDPOINT_SIZE_MAX {
        let size = text.len();
        return Err(format!("{size} bytes, the limit is {ENDPOINT_SIZE_MAX}"));
    }
    if !text.bytes().all(is_address_byte) {
        return Err("it has a character that no endpoint has".to_owned());
    }
    split(text, default_port, Personality::Adit)
}

fn check_region(region: &str, origin: &Origin) -> Result<(), BadInput> {
    let hint = "a region is like eu-west-1; for any other service use --proxy-endpoint";
    let fault = |problem: String, reference: &str, reason: &'static str| {
        Err(BadInput::value(Opt::Region, origin, problem, hint)
            .reference(reference)
            .rejected("region", reason))
    };
    if region.is_empty() {
        return fault(
            "the region is empty".to_owned(),
            "Region cannot be empty",
            "empty region",
        );
    }
    if region.len() > REGION_SIZE_MAX {
        return fault(
            format!("{} bytes, the limit is {REGION_SIZE_MAX}", region.len()),
            "Region exceeds maximum allowed length",
            "exceeds maximum length",
        );
    }
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !region.bytes().all(allowed) {
        return fault(
            format!(
                "`{}` has something else than lower-case letters, digits and hyphens",
                Excerpt(region)
            ),
            "Region must contain only lowercase letters, numbers, and hyphens",
            "invalid format",
        );
    }
    Ok(())
}

/// Splits host and port. The host of the reference ends at the first colon; brackets are ours.
fn split(
    text: &str,
    default_port: u16,
    personality: Personality,
) -> Result<ServiceAddress, String> {
    let text = text.to_ascii_lowercase();
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("the bracket is not closed")?;
            let host: Ipv6Addr = host
                .parse()
                .map_err(|_| "no IPv6 address in the brackets")?;
            match rest.strip_prefix(':') {
                None if rest.is_empty() => (host.to_string(), None),
                None => return Err("only a colon and a port go behind the bracket".to_owned()),
                Some(port) => (host.to_string(), Some(port)),
            }
        }
        None => match text.split_once(':') {
            None => (text.clone(), None),
            Some((_, port)) if port.contains(':') => {
                return Err("an IPv6 address needs brackets".to_owned());
            }
            Some((host, port)) => (host.to_owned(), Some(port)),
        },
    };
    if host.is_empty() || host.contains(['[', ']']) {
        return Err("there is no host".to_owned());
    }
    let port = match port {
        None => default_port,
        Some(port) => parse_port(port, personality)?,
    };
    Ok(ServiceAddress { host, port })
}

/// Port 0 cannot be connected to. The reference takes it and then retries for ever, so it is left to
/// its users; here it is refused.
fn parse_port(text: &str, personality: Personality) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(0) if personality == Personality::Adit => {
            Err("port 0 cannot be connected to".to_owned())
        }
        Ok(port) if digits => Ok(port),
        _ if digits => Err(format!("port {} is above 65535", Excerpt(text))),
        _ => Err(format!("port `{}` is not a number", Excerpt(text))),
    }
}

/// `[a-zA-Z0-9.:[]-]`, the characters of an endpoint and of a bind address (section 13).
pub fn is_address_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".:[]-".contains(&byte)
}

/// Port of the service when none is given.
pub const DEFAULT_PORT: u16 = 443;
/// Longest `--proxy-endpoint`, in bytes (section 13).
pub const ENDPOINT_SIZE_MAX: usize = 253;
/// Longest `--region`, in bytes (section 13).
pub const REGION_SIZE_MAX: usize = 64;

const ENDPOINT_HINT: &str =
    "write HOST, HOST:PORT or [IPV6]:PORT, for example tunnels.example.org:443";

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn given(text: &str) -> Given {
        Given {
            value: Zeroizing::new(text.to_owned()),
            origin: Origin::CommandLine,
        }
    }

    fn endpoint(text: &str) -> Result<String, BadInput> {
        from_endpoint(&given(text), Personality::Adit).map(|address| address.to_string())
    }

    #[test]
    fn endpoints_with_and_without_port() {
        for (text, shown) in [
            ("Example.ORG", "example.org:443"),
            ("example.org:8443", "example.org:8443"),
            ("127.0.0.1:08443", "127.0.0.1:8443"),
            ("[::1]:8443", "[::1]:8443"),
            ("[::1]", "[::1]:443"),
            ("[2001:DB8::0:1]:1", "[2001:db8::1]:1"),
        ] {
            assert_eq!(endpoint(text).unwrap(), shown, "{text}");
        }
    }

    #[test]
    fn bad_endpoints_say_why() {
        for (text, problem, reference) in [
            ("", "empty", "Proxy endpoint cannot be empty"),
            (
                "wss://h",
                "character",
                "Proxy endpoint contains invalid characters",
            ),
            (
                "h o",
                "character",
                "Proxy endpoint contains invalid characters",
            ),
            (
                "hé",
                "character",
                "Proxy endpoint contains invalid characters",
            ),
            ("h:", "not a number", "Invalid endpoint specified: h:"),
            ("h:x", "not a number", "Invalid endpoint specified: h:x"),
            (
                "h:70000",
                "above 65535",
                "Invalid endpoint specified: h:70000",
            ),
            ("h:0", "port 0", "Invalid endpoint specified: h:0"),
            (":443", "no host", "Invalid endpoint specified: :443"),
            ("::1:443", "brackets", "Invalid endpoint specified: ::1:443"),
            (
                "[::1:443",
                "not closed",
                "Invalid endpoint specified: [::1:443",
            ),
            (
                "[::1]443",
                "behind the bracket",
                "Invalid endpoint specified: [::1]443",
            ),
            (
                "[10.0.0.1]",
                "no IPv6",
                "Invalid endpoint specified: [10.0.0.1]",
            ),
            ("H]:1", "no host", "Invalid endpoint specified: h]:1"),
        ] {
            let fault = endpoint(text).unwrap_err();
            assert!(
                fault.message().starts_with("--proxy-endpoint: "),
                "{fault:?}"
            );
            assert!(fault.message().contains(problem), "{text}: {fault:?}");
            assert_eq!(fault.reference_text(), reference);
        }
        let long = "a".repeat(254);
        let fault = endpoint(&long).unwrap_err();
        assert_eq!(
            fault.reference_text(),
            "Proxy endpoint exceeds maximum allowed length"
        );
        assert!(endpoint(&long[1..]).is_ok());
        assert!(from_endpoint(&given("h:0"), Personality::Localproxy).is_ok());
    }

    #[test]
    fn addresses_of_our_own_files_have_a_default_port_of_their_own() {
        for (text, shown) in [
            ("Example.ORG", "example.org:8883"),
            ("[::1]", "[::1]:8883"),
            ("h:1", "h:1"),
        ] {
            assert_eq!(parse_address(text, 8_883).unwrap().to_string(), shown);
        }
        for text in ["", "wss://h", "h:0", "h:1:2", &"h".repeat(254)] {
            assert!(parse_address(text, 8_883).is_err(), "{text}");
        }
    }

    #[test]
    fn regions_go_through_format_and_overrides() {
        let mut settings = JsonSettings::default();
        let region = |text: &str, settings: &JsonSettings| {
            from_region(&given(text), settings, Personality::Adit)
                .map(|address| address.to_string())
        };
        assert_eq!(
            region("eu-west-1", &settings).unwrap(),
            "data.tunneling.iot.eu-west-1.amazonaws.com:443"
        );
        for china in ["cn-north-1", "cn-northwest-1"] {
            assert_eq!(
                region(china, &settings).unwrap(),
                format!("data.tunneling.iot.{china}.amazonaws.com.cn:443")
            );
        }
        settings.endpoint_format = "%s.tunnels.example.org:8443".into();
        assert_eq!(
            region("x-1", &settings).unwrap(),
            "x-1.tunnels.example.org:8443"
        );
        settings
            .region_endpoint_overrides
            .insert("x-1".into(), "[::1]:1".into());
        assert_eq!(region("x-1", &settings).unwrap(), "[::1]:1");
        settings.endpoint_format = "wss://%s".into();
        let fault = region("x-2", &settings).unwrap_err();
        assert!(fault.message().contains("wss://x-2"), "{fault:?}");
        assert!(fault.hint().contains("endpoint_format"));
    }

    #[test]
    fn bad_regions_say_why() {
        let settings = JsonSettings::default();
        let long = "a".repeat(65);
        for (text, reference) in [
            ("", "Region cannot be empty"),
            (
                "EU-WEST-1",
                "Region must contain only lowercase letters, numbers, and hyphens",
            ),
            (
                "eu.west",
                "Region must contain only lowercase letters, numbers, and hyphens",
            ),
            (long.as_str(), "Region exceeds maximum allowed length"),
        ] {
            let fault = from_region(&given(text), &settings, Personality::Adit).unwrap_err();
            assert_eq!(fault.reference_text(), reference);
            assert!(fault.message().starts_with("--region: "), "{fault:?}");
            assert!(fault.hint().contains("eu-west-1"));
        }
    }
}
