//! The address of a web proxy, as the environment gives it (wire specification, section 14.4).

use std::fmt;
use std::net::Ipv6Addr;

use adit_proto::Secret;
use adit_proto::handshake::ConnectRequest;

/// A web proxy that connections to the service go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebProxy {
    /// How to speak to it.
    pub scheme: ProxyScheme,
    /// Host name or address; IPv6 without brackets.
    pub host: String,
    /// Port; 3128 unless given, whatever the scheme.
    pub port: u16,
    /// User and password for it.
    pub credentials: Option<ProxyCredentials>,
}

/// How to speak to a web proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyScheme {
    /// In the clear; what goes through is TLS all the same.
    Http,
    /// In TLS, verified against the proxy's name.
    Https,
}

/// User and password, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyCredentials {
    /// The user; never empty.
    pub user: String,
    /// The password; empty only if the URL had none at all.
    pub password: Secret,
}

impl WebProxy {
    /// The proxy that the environment asks for, from the values of `https_proxy` and
    /// `HTTPS_PROXY`.
    ///
    /// The lower-case one counts if it is set, even when it is empty: that means "none".
    ///
    /// # Errors
    ///
    /// [`ProxyUrlError`] when the value that counts is not a proxy's URL.
    pub fn from_environment(
        lower: Option<&str>,
        upper: Option<&str>,
    ) -> Result<Option<Self>, ProxyUrlError> {
        match lower.or(upper) {
            None | Some("") => Ok(None),
            Some(url) => Self::parse(url).map(Some),
        }
    }

    /// Reads `[http|https]://[user[:password]@]host[:port][/...]`; without a scheme, `http` is
    /// meant.
    ///
    /// # Errors
    ///
    /// [`ProxyUrlError`], which never repeats the URL: it may hold a password.
    pub fn parse(url: &str) -> Result<Self, ProxyUrlError> {
        let (scheme, rest) = match url.split_once("://") {
            None => (ProxyScheme::Http, url),
            Some((scheme, rest)) => (parse_scheme(scheme)?, rest),
        };
        // What may follow the authority has no meaning for a proxy.
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (credentials, address) = match authority.rsplit_once('@') {
            None => (None, authority),
            Some((credentials, address)) => (Some(parse_credentials(credentials)?), address),
        };
        let (host, port) = split_port(address)?;
        Ok(Self {
            scheme,
            host: parse_host(host)?,
            port: match port {
                None => DEFAULT_PORT,
                Some(port) => parse_port(port)?,
            },
            credentials,
        })
    }
}

/// `host:port`, IPv6 in brackets; without the credentials.
impl fmt::Display for WebProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Why a text is not the URL of a web proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyUrlError {
    /// A scheme that we do not speak.
    #[error("unsupported web proxy protocol: use http:// or https://")]
    Scheme,
    /// No host, or characters that no host has.
    #[error("the web proxy URL has no valid host name or address")]
    Host,
    /// Not a number from 0 to 65535.
    #[error("the web proxy URL has an invalid port; allowed are 0 to 65535")]
    Port,
    /// User or password empty, or wrongly escaped.
    #[error(
        "the web proxy URL has an invalid user or password; escape special characters as %40 for @"
    )]
    Credentials,
}

fn parse_scheme(scheme: &str) -> Result<ProxyScheme, ProxyUrlError> {
    if scheme.eq_ignore_ascii_case("http") {
        Ok(ProxyScheme::Http)
    } else if scheme.eq_ignore_ascii_case("https") {
        Ok(ProxyScheme::Https)
    } else {
        Err(ProxyUrlError::Scheme)
    }
}

fn parse_credentials(text: &str) -> Result<ProxyCredentials, ProxyUrlError> {
    let (user, password) = match text.split_once(':') {
        None => (text, None),
        Some((user, password)) => (user, Some(password)),
    };
    if user.is_empty() || password.is_some_and(str::is_empty) {
        return Err(ProxyUrlError::Credentials);
    }
    Ok(ProxyCredentials {
        user: decode(user)?,
        password: Secret::new(decode(password.unwrap_or_default())?),
    })
}

/// Undoes percent-encoding; a plus is a space. Control characters have no place in a header.
fn decode(text: &str) -> Result<String, ProxyUrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        bytes.push(match (byte, rest) {
            (b'%', &[high, low, ref behind @ ..]) => {
                rest = behind;
                hex(high)? << 4 | hex(low)?
            }
            (b'%', _) => return Err(ProxyUrlError::Credentials),
            (b'+', _) => b' ',
            (byte, _) => byte,
        });
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) => Ok(text),
        _ => Err(ProxyUrlError::Credentials),
    }
}

fn hex(digit: u8) -> Result<u8, ProxyUrlError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(ProxyUrlError::Credentials),
    }
}

/// Host and port of an authority; brackets stay with the host.
fn split_port(address: &str) -> Result<(&str, Option<&str>), ProxyUrlError> {
    if !address.starts_with('[') {
        return Ok(match address.split_once(':') {
            None => (address, None),
            Some((host, port)) => (host, Some(port)),
        });
    }
    let end = address.find(']').ok_or(ProxyUrlError::Host)? + 1;
    match address.split_at(end) {
        (host, "") => Ok((host, None)),
        (host, behind) => match behind.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None => Err(ProxyUrlError::Host),
        },
    }
}

fn parse_host(host: &str) -> Result<String, ProxyUrlError> {
    if let Some(inside) = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        return match inside.parse::<Ipv6Addr>() {
            Ok(_) => Ok(inside.to_owned()),
            Err(_) => Err(ProxyUrlError::Host),
        };
    }
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    match !host.is_empty() && host.len() <= HOST_MAX && host.bytes().all(is_host) {
        true => Ok(host.to_owned()),
        false => Err(ProxyUrlError::Host),
    }
}

fn parse_port(port: &str) -> Result<u16, ProxyUrlError> {
    // The parser of numbers would take a sign.
    match port.bytes().all(|byte| byte.is_ascii_digit()) {
        true => port.parse().map_err(|_| ProxyUrlError::Port),
        false => Err(ProxyUrlError::Port),
    }
}

/// Reads the URL of a web proxy from any bytes, and asks that proxy for a way: whatever the URL says,
/// the request is one request, and nothing that is shown holds the password or a control character.
pub fn fuzz_web_proxy(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let proxy = match WebProxy::parse(&text) {
        Ok(proxy) => proxy,
        Err(error) => return assert!(!error.to_string().contains(char::is_control)),
    };
    let shown = proxy.to_string();
    assert!(!shown.contains(char::is_control) && !proxy.host.is_empty());
    let again = WebProxy::parse(&shown).expect("what is shown can be typed");
    assert_eq!((again.host, again.port), (proxy.host, proxy.port));
    let credentials = proxy.credentials.as_ref();
    let request = ConnectRequest {
        host: "service.example",
        port: 443,
        credentials: credentials.map(|it| (it.user.as_str(), &it.password)),
    };
    let mut written = Vec::new();
    match request.encode(&mut written) {
        Ok(()) => {
            let lines = written.iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(lines, 3 + usize::from(credentials.is_some()));
        }
        // A colon in a user's name cannot be said (RFC 7617 §2).
        Err(_) => assert!(credentials.is_some_and(|it| it.user.contains(':'))),
    }
}

const DEFAULT_PORT: u16 = 3128;

/// Longest host name in the DNS (RFC 1035 §2.3.4).
const HOST_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> (ProxyScheme, String, u16, Option<(String, String)>) {
        let proxy = WebProxy::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        let credentials = proxy
            .credentials
            .map(|it| (it.user, it.password.expose().to_owned()));
        (proxy.scheme, proxy.host, proxy.port, credentials)
    }

    #[test]
    fn good_urls_are_read() {
        use ProxyScheme::{Http, Https};
        let cases = [
            ("http://proxy", Http, "proxy", 3128),
            ("https://proxy", Https, "proxy", 3128),
            ("HTTPS://proxy:443", Https, "proxy", 443),
            ("http://proxy:0", Http, "proxy", 0),
            ("http://proxy:65535", Http, "proxy", 65535),
            ("http://10.0.0.1:3129", Http, "10.0.0.1", 3129),
            ("http://[::1]", Http, "::1", 3128),
            ("https://[2001:db8::1]:99", Https, "2001:db8::1", 99),
            // What lies behind the address has no meaning, and many write the slash.
            ("http://proxy/", Http, "proxy", 3128),
            ("http://proxy:99/some/path?a=b#c", Http, "proxy", 99),
            // without a scheme nothing is lost.
            ("proxy", Http, "proxy", 3128),
            ("proxy.example:99", Http, "proxy.example", 99),
            ("[::1]:99", Http, "::1", 99),
        ];
        for (url, scheme, host, port) in cases {
            assert_eq!(parsed(url), (scheme, host.to_owned(), port, None), "{url}");
        }
    }

    #[test]
    fn credentials_are_decoded() {
        let cases = [
            ("http://user:password@h", "user", "password"),
            ("user:password@h:1", "user", "password"),
            ("http://user@h", "user", ""),
            ("http://a%40b:p%3a%2F%25@h", "a@b", "p:/%"),
            ("http://a+b:c+d@h", "a b", "c d"),
            ("http://user:pass:word@h", "user", "pass:word"),
            ("http://user:p@ss@h", "user", "p@ss"),
            ("http://%C3%BCser:x@h", "üser", "x"),
        ];
        for (url, user, password) in cases {
            let expected = Some((user.to_owned(), password.to_owned()));
            assert_eq!(parsed(url).3, expected, "{url}");
        }
    }

    #[test]
    fn bad_urls_are_refused() {
        use ProxyUrlError::{Credentials, Host, Port, Scheme};
        let cases = [
            ("", Host),
            ("://h", Scheme),
            ("tcp://:3128", Scheme),
            ("socks5://h", Scheme),
            ("http://", Host),
            ("http://:3128", Host),
            ("http:///path", Host),
            ("http://@h", Credentials),
            ("http://:@h", Credentials),
            ("http://:1@h", Credentials),
            ("http://1:@h", Credentials),
            ("http://a%00:b@h", Credentials),
            ("http://a%0d%0ab:c@h", Credentials),
            ("http://a%4:b@h", Credentials),
            ("http://a%:b@h", Credentials),
            ("http://a%zz:b@h", Credentials),
            ("http://a%ff:b@h", Credentials),
            ("http://h:", Port),
            ("http://h:x", Port),
            ("http://h:+1", Port),
            ("http://h:-1", Port),
            ("http://h:65536", Port),
            ("http://h:99999999999999999999", Port),
            ("http://h:1:2", Port),
            ("http://[::1", Host),
            ("http://[::1]x", Host),
            ("http://[h]", Host),
            ("http://::1", Host),
            ("http://h h", Host),
            ("http://h\r\nx: y", Host),
            ("http://h\u{e9}", Host),
        ];
        for (url, error) in cases {
            assert_eq!(WebProxy::parse(url), Err(error), "{url:?}");
        }
    }

    #[test]
    fn the_lower_case_variable_wins_even_if_empty() {
        let host = |lower, upper| {
            WebProxy::from_environment(lower, upper)
                .unwrap()
                .map(|proxy| proxy.host)
        };
        assert_eq!(host(None, None), None);
        assert_eq!(host(Some("http://low"), None).as_deref(), Some("low"));
        assert_eq!(host(None, Some("http://up")).as_deref(), Some("up"));
        assert_eq!(
            host(Some("http://low"), Some("http://up")).as_deref(),
            Some("low")
        );
        assert_eq!(host(Some(""), Some("http://up")), None);
        assert_eq!(host(None, Some("")), None);
        assert!(WebProxy::from_environment(Some("tcp://x"), Some("http://up")).is_err());
    }

    #[test]
    fn nothing_shows_the_password() {
        let proxy = WebProxy::parse("https://user:hunter2@[::1]:99").unwrap();
        assert_eq!(proxy.to_string(), "[::1]:99");
        assert!(!format!("{proxy:?}").contains("hunter2"));
        let error = WebProxy::parse("http://user:hunter2%@h").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
