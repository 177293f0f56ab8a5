//! Where an API is.

use std::fmt;

use adit_engine::tunnel::endpoint::Excerpt;
use hyper::Uri;

/// The APIs that commands call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Secure tunnelling, AWS JSON 1.1.
    Tunneling,
    /// The registry of devices, REST with JSON.
    Iot,
}

impl Api {
    /// In the scope of a signature (control-plane specification, section 2).
    pub fn signing_name(self) -> &'static str {
        match self {
            Self::Tunneling => "IoTSecuredTunneling",
            Self::Iot => "iot",
        }
    }

    /// The variable that AWS's tools read for this API alone.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::Tunneling => "AWS_ENDPOINT_URL_IOTSECURETUNNELING",
            Self::Iot => "AWS_ENDPOINT_URL_IOT",
        }
    }

    /// Its key in a `[services …]` section.
    pub(crate) fn config_key(self) -> &'static str {
        match self {
            Self::Tunneling => "iotsecuretunneling",
            Self::Iot => "iot",
        }
    }

    /// AWS's own endpoint in a region (section 1).
    pub(crate) fn of_aws(self, region: &str) -> Endpoint {
        let front = match self {
            Self::Tunneling => "api.tunneling.iot",
            Self::Iot => "iot",
        };
        Endpoint {
            host: format!("{front}.{region}.{}", aws_suffix(region)),
            port: 443,
            is_tls: true,
            path: String::new(),
        }
    }
}

/// What names of AWS in a region end with.
pub(crate) fn aws_suffix(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else {
        "amazonaws.com"
    }
}

/// A URL of an API, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address; an IPv6 address without its brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// `false` on this machine only.
    pub(crate) is_tls: bool,
    /// In front of every path, without a slash at its end; mostly empty.
    pub(crate) path: String,
}

impl Endpoint {
    /// Reads `https://HOST[:PORT][/PATH]`. `http` is for this machine only: answers hold tokens.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let shown = Excerpt(text);
        let uri: Uri = text.parse().map_err(|_| format!("`{shown}` is no URL"))?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => {
                return Err(format!(
                    "`{shown}` begins with neither https:// nor http://"
                ));
            }
            None => return Err(format!("`{shown}` does not begin with https://")),
        };
        let authority = uri
            .authority()
            .ok_or_else(|| format!("`{shown}` has no host"))?;
        if authority.as_str().contains('@') {
            // Not repeated: it may be a password.
            return Err("the URL has a user; credentials do not go into it".to_owned());
        }
        if uri.query().is_some() {
            return Err(format!("`{shown}` has a query"));
        }
        let whole = authority.host();
        let bare = whole
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(whole).to_ascii_lowercase();
        if host.is_empty() {
            return Err(format!("`{shown}` has no host"));
        }
        // What stands there is asked for, too: a port that is too large reads as none.
        let behind = authority.as_str().strip_prefix(whole).unwrap_or_default();
        let port = match (behind, authority.port_u16()) {
            ("", _) if is_tls => 443,
            ("", _) => 80,
            (_, Some(port)) if port != 0 => port,
            (_, _) => return Err(format!("`{shown}` has no port from 1 to 65535")),
        };
        if !is_tls && !is_loopback(&host) {
            return Err(format!(
                "`{shown}` would send tokens in the clear; http is for this machine only"
            ));
        }
        Ok(Self {
            host,
            port,
            is_tls,
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// The region in the name of an endpoint of AWS; `None` for others.
    pub(crate) fn region_at_aws(&self) -> Option<&str> {
        let (front, suffix) = self.host.split_once(".amazonaws.com")?;
        let is_aws = suffix.is_empty() || suffix == ".cn";
        let (_, region) = front.rsplit_once('.')?;
        is_aws.then_some(region)
    }

    /// As the `host` header has it: without a port that goes without saying.
    pub(crate) fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match (self.is_tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, shown, authority) in [
            ("https://H.example", "https://h.example", "h.example"),
            ("https://h:443/", "https://h", "h"),
            ("https://h:7401/api/", "https://h:7401/api", "h:7401"),
            ("https://[::1]:1", "https://[::1]:1", "[::1]:1"),
            ("http://localhost", "http://localhost", "localhost"),
            ("http://127.0.0.1:80", "http://127.0.0.1", "127.0.0.1"),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(
                (endpoint.to_string(), endpoint.authority()),
                (shown.into(), authority.into())
            );
        }
    }

    #[test]
    fn others_are_not_taken_for_aws() {
        for url in [
            "https://h",
            "https://iot.eu-west-1.amazonaws.com.evil",
            "https://amazonaws.com",
        ] {
            assert_eq!(Endpoint::parse(url).unwrap().region_at_aws(), None, "{url}");
        }
    }

    #[test]
    fn bad_urls_say_why() {
        for (text, problem) in [
            ("", "no URL"),
            ("localhost:7401", "https://"),
            ("h", "does not begin with https://"),
            ("wss://h", "neither https:// nor http://"),
            ("https://u:canary@h", "has a user"),
            ("https://h?x", "has a query"),
            ("https://h:0", "no port"),
            ("https://h:70000", "no"),
            ("http://h", "in the clear"),
            ("https://h /", "no URL"),
        ] {
            let fault = Endpoint::parse(text).unwrap_err();
            assert!(
                fault.contains(problem) && !fault.contains("canary"),
                "{text}: {fault}"
            );
        }
    }

    #[test]
    fn endpoints_of_aws_are_named_by_region() {
        for (api, region, url) in [
            (
                Api::Tunneling,
                "eu-west-1",
                "https://api.tunneling.iot.eu-west-1.amazonaws.com",
            ),
            (Api::Iot, "eu-west-1", "https://iot.eu-west-1.amazonaws.com"),
            (
                Api::Iot,
                "cn-north-1",
                "https://iot.cn-north-1.amazonaws.com.cn",
            ),
        ] {
            assert_eq!(api.of_aws(region).to_string(), url);
            assert_eq!(api.of_aws(region).region_at_aws(), Some(region));
        }
    }
}
