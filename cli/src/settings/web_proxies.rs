//! Which hosts are reached through a web proxy: `https_proxy` but for those of `no_proxy`.
//!
//! It is for the commands that call the API. `adit proxy` goes by `https_proxy` alone, as the reference does
//! (wire specification, section 14.4).

use std::net::IpAddr;

use adit_engine::link::WebProxy;

use super::check::web_proxy;
use crate::fault::BadInput;
use crate::world::World;

/// A web proxy and its exceptions; or none.
#[derive(Clone, Debug, Default)]
pub struct WebProxies {
    proxy: Option<WebProxy>,
    /// The variable it came from, for messages.
    variable: &'static str,
    exceptions: Vec<Exception>,
}

impl WebProxies {
    /// Reads the environment.
    ///
    /// # Errors
    /// A variable is not UTF-8, or not the URL of a web proxy; the message names it, and never the URL, which
    /// may hold a password.
    pub(crate) fn from_environment(world: &World) -> Result<Self, BadInput> {
        let Some(found) = web_proxy(world)? else {
            return Ok(Self::default());
        };
        let proxy = WebProxy::parse(found.url.expose()).map_err(|fault| {
            BadInput::usage(
                format!("{}: {fault}", found.variable),
                "write it as [http|https]://[user:password@]host[:port], or leave it empty for none",
            )
        })?;
        Ok(Self {
            proxy: Some(proxy),
            variable: found.variable,
            exceptions: exceptions(world)?,
        })
    }

    /// The one that a host is reached through.
    pub(crate) fn to(&self, host: &str, port: u16) -> Option<&WebProxy> {
        let is_excepted = |exception: &Exception| exception.covers(host, port);
        let proxy = self.proxy.as_ref()?;
        (!self.exceptions.iter().any(is_excepted)).then_some(proxy)
    }

    /// The variable that it came from; empty if there is none.
    pub(crate) fn variable(&self) -> &'static str {
        self.variable
    }
}

/// One word of `no_proxy`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Exception {
    hosts: Hosts,
    /// `None`: every port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    /// A domain and all below it; lower case, no dot in front.
    Domain(String),
    /// Addresses that have the first bits of this one.
    Network(IpAddr, u32),
}

impl Exception {
    /// `*`, `host`, `.domain`, `*.domain`, `address`, `network/bits`, each but the last also with `:port`.
    fn parse(word: &str) -> Self {
        if word == "*" {
            return Self {
                hosts: Hosts::All,
                port: None,
            };
        }
        if let Some(hosts) = network(word) {
            return Self { hosts, port: None };
        }
        let (host, port) = match word.rsplit_once(':') {
            Some((host, port)) => match port.parse() {
                Ok(port) => (host, Some(port)),
                Err(_) => (word, None),
            },
            None => (word, None),
        };
        let bare = host
            .strip_prefix('[')
            .and_then(|inside| inside.strip_suffix(']'))
            .unwrap_or(host);
        let hosts = network(bare).unwrap_or_else(|| {
            let domain = bare.strip_prefix('*').unwrap_or(bare);
            Hosts::Domain(domain.trim_matches('.').to_ascii_lowercase())
        });
        Self { hosts, port }
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        if self.port.is_some_and(|own| own != port) {
            return false;
        }
        match &self.hosts {
            Hosts::All => true,
            Hosts::Domain(domain) => {
                let host = host.trim_end_matches('.').to_ascii_lowercase();
                let below = host.strip_suffix(domain.as_str());
                below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
            }
            Hosts::Network(network, bits) => host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .parse()
                .is_ok_and(|address| is_in(address, *network, *bits)),
        }
    }
}

/// An address, or one with the number of its bits that count.
fn network(text: &str) -> Option<Hosts> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let size = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(size);
    (bits <= size).then_some(Hosts::Network(address, bits))
}

fn is_in(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let (differing, size) = match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (u128::from(one.to_bits() ^ other.to_bits()), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits(), 128),
        _ => return false,
    };
    // With no bit that counts, every address is in it.
    differing.checked_shr(size - bits).unwrap_or_default() == 0
}

/// As other programs read it: the lower-case variable counts if it is set, words stand between commas or
/// blanks, and what is no host excepts nothing.
fn exceptions(world: &World) -> Result<Vec<Exception>, BadInput> {
    let found = ["no_proxy", "NO_PROXY"]
        .into_iter()
        .find_map(|variable| Some((variable, world.variable(variable)?)));
    let Some((variable, value)) = found else {
        return Ok(Vec::new());
    };
    let text = value.to_str().ok_or_else(|| {
        BadInput::fatal(
            format!("{variable}: the value is not valid UTF-8"),
            "write hosts, with commas between them, or unset it",
        )
    })?;
    let words = text.split(|letter: char| letter == ',' || letter.is_whitespace());
    let words = words.filter(|word| !word.is_empty());
    Ok(words.map(Exception::parse).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::world::testing;

    fn covers(no_proxy: &str, host: &str, port: u16) -> bool {
        let mut words = no_proxy.split(',').map(Exception::parse);
        words.any(|exception| exception.covers(host, port))
    }

    #[test]
    fn exceptions_are_hosts_domains_and_networks() {
        for (no_proxy, host, expected) in [
            ("*", "h", true),
            ("example.org", "example.org", true),
            ("example.org", "API.Example.Org.", true),
            (".example.org", "api.example.org", true),
            ("*.example.org", "api.example.org", true),
            ("example.org", "badexample.org", false),
            ("example.org", "example.org.evil", false),
            ("localhost,h", "h", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("10.0.0.0/8", "10.255.3.4", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "h10", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("fd00::/8", "fd12::1", true),
            ("::1", "::1", true),
            ("[::1]", "::1", true),
            ("10.0.0.0/33", "10.0.0.0", false),
        ] {
            assert_eq!(covers(no_proxy, host, 443), expected, "{no_proxy} {host}");
        }
    }

    #[test]
    fn an_exception_may_be_for_one_port() {
        for (no_proxy, port, expected) in [
            ("h:7401", 7401, true),
            ("h:7401", 443, false),
            ("[::1]:7401", 443, false),
        ] {
            assert_eq!(covers(no_proxy, "h", port), expected, "{no_proxy} {port}");
        }
        assert!(covers("[::1]:7401", "::1", 7401));
    }

    #[test]
    fn the_environment_says_which_hosts_go_through_which_proxy() {
        let through = |variables: &[(&str, &str)], host: &str| {
            let mut world = testing::world(Path::new(""));
            for (name, value) in variables {
                world.variables.insert((*name).to_owned(), value.into());
            }
            let proxies = WebProxies::from_environment(&world).unwrap();
            proxies.to(host, 443).map(ToString::to_string)
        };
        let proxy = ("https_proxy", "http://p:1");
        assert_eq!(through(&[], "h"), None);
        assert_eq!(through(&[proxy], "h").as_deref(), Some("p:1"));
        assert_eq!(through(&[proxy, ("no_proxy", "a, h")], "h"), None);
        assert_eq!(through(&[proxy, ("NO_PROXY", "a h")], "h"), None);
        let both = [proxy, ("no_proxy", ""), ("NO_PROXY", "h")];
        assert_eq!(through(&both, "h").as_deref(), Some("p:1"));
    }

    #[test]
    fn a_url_that_is_none_is_named_and_not_shown() {
        let mut world = testing::world(Path::new(""));
        let url = "tcp://user:canary@h".into();
        world.variables.insert("HTTPS_PROXY".to_owned(), url);
        let fault = WebProxies::from_environment(&world).unwrap_err();
        let text = format!("{} {}", fault.message(), fault.hint());
        assert!(
            text.starts_with("HTTPS_PROXY: ") && !text.contains("canary"),
            "{text}"
        );
    }
}
