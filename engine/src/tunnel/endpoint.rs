//! One local endpoint of a service: where a source listens, or what a destination dials.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use adit_proto::Mode;
use adit_proto::escape::Escaped;

/// Where the local end of a service is (wire specification, section 11.2).
///
/// ```text
/// 22                 a port: a source listens on the bind address, a destination dials this machine
/// name:22            a port of a host, or of one of this machine's addresses for a source
/// 10.0.0.1:22        the same with an address
/// [::1]:22           IPv6 takes brackets, the colons would be ambiguous without
/// /run/app.sock      anything with a `/` is a Unix domain socket
/// stdio:             a source carries one connection over its own standard input and output
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// A TCP port.
    Tcp {
        /// Lower case, an IPv6 address without its brackets. `None` leaves it to the settings: the
        /// bind address of a source, this machine (or `-b`) for a destination.
        host: Option<String>,
        /// Never 0 when it was parsed; 0 in [`Endpoint::ANY_PORT`], where the kernel picks one.
        port: u16,
    },
    /// A Unix domain socket, 1 to [`UNIX_PATH_SIZE_MAX`] bytes.
    Unix(PathBuf),
    /// Standard input and output of this process.
    Stdio,
}

impl Endpoint {
    /// A free port of the bind address, chosen by the kernel (section 11.3: a source without mapping).
    pub const ANY_PORT: Self = Self::Tcp {
        host: None,
        port: 0,
    };

    /// Reads one endpoint as typed, spaces around it ignored.
    ///
    /// Three defects of the reference end here: `host:port` works for a source and leading zeros are
    /// read as a number (Q-23), IPv6 addresses in brackets work (Q-24), and what cannot work is
    /// refused now and not when the first connection comes.
    pub fn parse(text: &str, mode: Mode) -> Result<Self, EndpointError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(EndpointError::Empty);
        }
        if text == "stdio:" {
            return match mode {
                Mode::Source => Ok(Self::Stdio),
                Mode::Destination => Err(EndpointError::StdioIsForSources),
            };
        }
        if text.contains('/') {
            return parse_path(text);
        }
        if is_number(text) {
            let port = parse_port(text)?;
            return Ok(Self::Tcp { host: None, port });
        }
        let (host, port) = split_host(text)?;
        if port.is_empty() {
            return Err(EndpointError::PortMissing { given: text.into() });
        }
        Ok(Self::Tcp {
            host: Some(host),
            port: parse_port(port)?,
        })
    }
}

impl fmt::Display for Endpoint {
    /// In the form in which it is typed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host: None, port } => write!(f, "{port}"),
            Self::Tcp {
                host: Some(host),
                port,
            } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp {
                host: Some(host),
                port,
            } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", Escaped(&path.to_string_lossy())),
            Self::Stdio => f.write_str("stdio:"),
        }
    }
}

fn parse_path(text: &str) -> Result<Endpoint, EndpointError> {
    let size = text.len();
    if size > UNIX_PATH_SIZE_MAX {
        return Err(EndpointError::PathTooLong { size });
    }
    if text.contains('\0') {
        return Err(EndpointError::PathHasNul);
    }
    Ok(Endpoint::Unix(PathBuf::from(text)))
}

/// Splits `host:port`, `host:` and `host`; the port comes back unread, empty when absent.
fn split_host(text: &str) -> Result<(String, &str), EndpointError> {
    if let Some(rest) = text.strip_prefix('[') {
        let bad = || EndpointError::Ipv6 { given: text.into() };
        let (host, port) = rest.split_once(']').ok_or_else(bad)?;
        let host: Ipv6Addr = host.parse().map_err(|_| bad())?;
        let port = match port.strip_prefix(':') {
            Some(port) => port,
            None if port.is_empty() => "",
            None => return Err(bad()),
        };
        return Ok((host.to_string(), port));
    }
    let (host, port) = text.split_once(':').unwrap_or((text, ""));
    if port.contains(':') {
        return Err(EndpointError::Ipv6WithoutBrackets { given: text.into() });
    }
    if host.is_empty() {
        return Err(EndpointError::HostMissing { given: text.into() });
    }
    if host.len() > HOST_SIZE_MAX {
        return Err(EndpointError::HostTooLong { size: host.len() });
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !host.bytes().all(allowed) {
        return Err(EndpointError::HostCharacter { given: text.into() });
    }
    Ok((host.to_ascii_lowercase(), port))
}

fn parse_port(text: &str) -> Result<u16, EndpointError> {
    if !is_number(text) {
        return Err(EndpointError::PortNotANumber { given: text.into() });
    }
    // Leading zeros are part of a number, so `05555` is 5555.
    match text.parse() {
        Ok(0) | Err(_) => Err(EndpointError::PortOutOfRange { given: text.into() }),
        Ok(port) => Ok(port),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Why a text is no endpoint. Texts as given are shown as an [`Excerpt`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Nothing there.
    #[error("the endpoint is empty")]
    Empty,
    /// A port that is no number.
    #[error("port `{}` is not a number", Excerpt(given))]
    PortNotANumber {
        /// The port as given.
        given: String,
    },
    /// A port that no TCP endpoint has.
    #[error("port {} is outside 1 to 65535", Excerpt(given))]
    PortOutOfRange {
        /// The port as given, digits only.
        given: String,
    },
    /// A host alone.
    #[error("`{}` has no port", Excerpt(given))]
    PortMissing {
        /// The endpoint as given.
        given: String,
    },
    /// A colon with nothing in front.
    #[error("`{}` has no host", Excerpt(given))]
    HostMissing {
        /// The endpoint as given.
        given: String,
    },
    /// More than a domain name can have.
    #[error("the host has {size} bytes, the limit is {HOST_SIZE_MAX}")]
    HostTooLong {
        /// Size of the host in bytes.
        size: usize,
    },
    /// A character outside `[a-zA-Z0-9._-]`.
    #[error("`{}` has a character that no host name has", Excerpt(given))]
    HostCharacter {
        /// The endpoint as given.
        given: String,
    },
    /// Brackets around something else than an IPv6 address, or not closed.
    #[error("`{}` is no IPv6 address in brackets with a port", Excerpt(given))]
    Ipv6 {
        /// The endpoint as given.
        given: String,
    },
    /// Several colons: which one starts the port cannot be known.
    #[error("`{}` needs brackets around its IPv6 address", Excerpt(given))]
    Ipv6WithoutBrackets {
        /// The endpoint as given.
        given: String,
    },
    /// The kernel takes no longer path.
    #[error("the socket path has {size} bytes, the limit is {UNIX_PATH_SIZE_MAX}")]
    PathTooLong {
        /// Size of the path in bytes.
        size: usize,
    },
    /// A path cannot contain NUL.
    #[error("the socket path has a NUL byte")]
    PathHasNul,
    /// A destination dials again for each connection; its standard input exists once.
    #[error("`stdio:` works for a source only")]
    StdioIsForSources,
}

/// A text as given, for a message: escaped, and only its start when it is long. Somebody may have put a
/// token in the wrong place.
#[derive(Clone, Copy, Debug)]
pub struct Excerpt<'a>(pub &'a str);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.chars().count();
        if count <= EXCERPT_WHOLE_MAX {
            return write!(f, "{}", Escaped(self.0));
        }
        let start: String = self.0.chars().take(EXCERPT_START).collect();
        write!(f, "{}… ({count} characters)", Escaped(&start))
    }
}

/// Longest text that is shown whole, in characters: any usual host name and port.
const EXCERPT_WHOLE_MAX: usize = 64;
const EXCERPT_START: usize = 16;

/// Longest Unix socket path, in bytes: `sun_path` has 108 and ends in NUL.
pub const UNIX_PATH_SIZE_MAX: usize = 107;

/// Longest host, in bytes: a domain name (RFC 1035 §2.3.4, without the root label).
pub const HOST_SIZE_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp {
            host: (!host.is_empty()).then(|| host.to_owned()),
            port,
        }
    }

    #[test]
    fn every_form_is_read_and_printed_back() {
        let cases = [
            ("5555", tcp("", 5555), "5555"),
            (" 5555 ", tcp("", 5555), "5555"),
            ("05555", tcp("", 5555), "5555"),
            ("0000000000000000000022", tcp("", 22), "22"),
            ("1", tcp("", 1), "1"),
            ("65535", tcp("", 65535), "65535"),
            ("localhost:22", tcp("localhost", 22), "localhost:22"),
            ("LOCALHOST:22", tcp("localhost", 22), "localhost:22"),
            (
                "my_db.internal:080",
                tcp("my_db.internal", 80),
                "my_db.internal:80",
            ),
            ("10.0.0.1:80", tcp("10.0.0.1", 80), "10.0.0.1:80"),
            ("[::1]:22", tcp("::1", 22), "[::1]:22"),
            ("[FE80:0::1]:22", tcp("fe80::1", 22), "[fe80::1]:22"),
            (
                "[::ffff:10.0.0.1]:1",
                tcp("::ffff:10.0.0.1", 1),
                "[::ffff:10.0.0.1]:1",
            ),
            (
                "/run/app.sock",
                Endpoint::Unix("/run/app.sock".into()),
                "/run/app.sock",
            ),
            ("./a:b", Endpoint::Unix("./a:b".into()), "./a:b"),
            ("/run/Caps", Endpoint::Unix("/run/Caps".into()), "/run/Caps"),
        ];
        for (text, endpoint, shown) in cases {
            for mode in [Mode::Source, Mode::Destination] {
                assert_eq!(
                    Endpoint::parse(text, mode),
                    Ok(endpoint.clone()),
                    "{text:?}"
                );
            }
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(Endpoint::parse(shown, Mode::Source), Ok(endpoint));
        }
    }

    #[test]
    fn stdio_is_for_sources() {
        assert_eq!(Endpoint::parse("stdio:", Mode::Source), Ok(Endpoint::Stdio));
        assert_eq!(
            Endpoint::parse("stdio:", Mode::Destination),
            Err(EndpointError::StdioIsForSources)
        );
        assert_eq!(Endpoint::Stdio.to_string(), "stdio:");
    }

    #[test]
    fn what_cannot_work_is_refused_now() {
        use EndpointError::*;
        let given = |text: &str| text.to_owned();
        let long_host = format!("{}:22", "a".repeat(254));
        let long_path = format!("/{}", "a".repeat(UNIX_PATH_SIZE_MAX));
        let cases = [
            ("", Empty),
            ("  ", Empty),
            ("0", PortOutOfRange { given: given("0") }),
            (
                "65536",
                PortOutOfRange {
                    given: given("65536"),
                },
            ),
            (
                "99999999999999999999",
                PortOutOfRange {
                    given: given("99999999999999999999"),
                },
            ),
            ("host:0", PortOutOfRange { given: given("0") }),
            (
                "host:ssh",
                PortNotANumber {
                    given: given("ssh"),
                },
            ),
            ("host:-1", PortNotANumber { given: given("-1") }),
            ("host:+1", PortNotANumber { given: given("+1") }),
            (
                "host",
                PortMissing {
                    given: given("host"),
                },
            ),
            (
                "host:",
                PortMissing {
                    given: given("host:"),
                },
            ),
            (
                "[::1]",
                PortMissing {
                    given: given("[::1]"),
                },
            ),
            (
                "[::1]:",
                PortMissing {
                    given: given("[::1]:"),
                },
            ),
            (
                ":22",
                HostMissing {
                    given: given(":22"),
                },
            ),
            (
                "::1:22",
                Ipv6WithoutBrackets {
                    given: given("::1:22"),
                },
            ),
            (
                "a:b:22",
                Ipv6WithoutBrackets {
                    given: given("a:b:22"),
                },
            ),
            (
                "[::1:22",
                Ipv6 {
                    given: given("[::1:22"),
                },
            ),
            (
                "[::1]22",
                Ipv6 {
                    given: given("[::1]22"),
                },
            ),
            (
                "[10.0.0.1]:22",
                Ipv6 {
                    given: given("[10.0.0.1]:22"),
                },
            ),
            (
                "[]:22",
                Ipv6 {
                    given: given("[]:22"),
                },
            ),
            (
                "ho st:22",
                HostCharacter {
                    given: given("ho st:22"),
                },
            ),
            (
                "hö:22",
                HostCharacter {
                    given: given("hö:22"),
                },
            ),
            (
                "a=b:22",
                HostCharacter {
                    given: given("a=b:22"),
                },
            ),
            (
                "h\x1b[2J:22",
                HostCharacter {
                    given: given("h\x1b[2J:22"),
                },
            ),
            (&long_host, HostTooLong { size: 254 }),
            (&long_path, PathTooLong { size: 108 }),
            ("/a\0b", PathHasNul),
        ];
        for (text, error) in cases {
            assert_eq!(
                Endpoint::parse(text, Mode::Destination),
                Err(error),
                "{text:?}"
            );
        }
    }

    #[test]
    fn errors_show_no_control_characters() {
        let error = Endpoint::parse("h\x1b[2J:22", Mode::Source).unwrap_err();
        assert!(!error.to_string().contains('\x1b'), "{error}");
        let endpoint = Endpoint::parse("/run/\x1b[2J", Mode::Source).unwrap();
        assert!(!endpoint.to_string().contains('\x1b'), "{endpoint}");
    }

    #[test]
    fn errors_repeat_no_long_text() {
        let long = "canary".repeat(20);
        let error = Endpoint::parse(&long, Mode::Source).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`canarycanarycana… (120 characters)` has no port"
        );
        let whole = "é".repeat(EXCERPT_WHOLE_MAX);
        assert_eq!(Excerpt(&whole).to_string(), whole);
    }

    #[test]
    fn longest_path_and_host_pass() {
        let path = format!("/{}", "a".repeat(UNIX_PATH_SIZE_MAX - 1));
        assert!(Endpoint::parse(&path, Mode::Source).is_ok());
        let host = format!("{}:22", "a".repeat(HOST_SIZE_MAX));
        assert!(Endpoint::parse(&host, Mode::Source).is_ok());
    }
}
