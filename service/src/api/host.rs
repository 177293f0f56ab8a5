//! Which requests an API without signatures answers: only those that were meant for this machine.
//!
//! A web page can make a browser send requests to `127.0.0.1` under a name of its own (DNS rebinding).
//! The name it used stands in the request, and it is not one of ours. Or under ours: it cannot read the
//! answer then, but a POST without a header that the browser would ask about first is carried out. With
//! every one of those comes the page's origin.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Uri};

use super::error::ApiError;

pub(super) fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    if !is_local(uri, headers) {
        return Err(ApiError::access_denied(
            "requests are not signed here, so only those whose Host header is localhost or a loopback \
             address are answered",
        ));
    }
    if !headers.get_all(ORIGIN).iter().all(is_local_origin) {
        return Err(ApiError::access_denied(
            "requests are not signed here, so those that a page from another machine makes are not answered",
        ));
    }
    Ok(())
}

/// Whether a page is of this machine. Without the header it is no page that asks, or one that only reads.
fn is_local_origin(origin: &HeaderValue) -> bool {
    let origin = origin.to_str().unwrap_or_default();
    let authority = ["http://", "https://"]
        .iter()
        .find_map(|scheme| origin.strip_prefix(scheme));
    authority.is_some_and(is_loopback)
}

fn is_local(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    // RFC 9112 §3.2.2: the authority of an absolute target counts, but then both have to be ours.
    let authority_is_local = uri.authority().is_none_or(|a| is_loopback(a.as_str()));
    authority_is_local && host.to_str().is_ok_and(is_loopback)
}

/// Whether `name[:port]` is `localhost` or a loopback address.
fn is_loopback(authority: &str) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return false;
    }
    if let Some(v6) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return v6.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback());
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    name.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_names_and_addresses_only() {
        for good in [
            "localhost",
            "LocalHost:8443",
            "localhost.:1",
            "127.0.0.1",
            "127.0.0.1:443",
            "127.9.8.7",
            "[::1]",
            "[::1]:8443",
            "[0:0:0:0:0:0:0:1]",
        ] {
            assert!(is_loopback(good), "{good}");
        }
        for bad in [
            "",
            ":443",
            "example.com",
            "localhost.example.com",
            "xlocalhost",
            "localhost:x",
            "localhost:",
            "localhost:1:2",
            "user@localhost",
            "128.0.0.1",
            "127.0.0.1.nip.io",
            "127.1",
            "0.0.0.0",
            "::1",
            "[::2]",
            "[::1",
            "[::ffff:127.0.0.1]",
            "[fe80::1]",
        ] {
            assert!(!is_loopback(bad), "{bad}");
        }
    }

    #[test]
    fn exactly_one_host_header_and_no_other_authority() {
        let check = |uri: &str, hosts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(HOST, host.parse().unwrap());
            }
            is_local(&uri.parse().unwrap(), &headers)
        };
        assert!(check("/", &["localhost"]));
        assert!(check("https://127.0.0.1/", &["localhost"]));
        assert!(!check("/", &[]));
        assert!(!check("/", &["localhost", "localhost"]));
        assert!(!check("https://example.com/", &["localhost"]));
        assert!(!check("https://localhost/", &["example.com"]));
    }
}
