//! `postgres://…`: which server, and how it is reached.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use crate::store::StoreError;

/// Where the server is and who we are there. Neither `Debug` nor `Display` shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    pub(super) config: Config,
    /// Authorities to trust in addition to the system's.
    pub(super) root_certificates: Option<PathBuf>,
    shown: String,
}

impl PostgresUrl {
    /// Reads the URL that `psql` takes, with its parameters. `sslmode` is `disable` or `require`; without
    /// it, TLS is required unless the server is on this machine. With TLS the server's certificate and
    /// name are always checked, against the system's authorities and those of `sslrootcert=FILE`;
    /// `verify-full` is another word for `require`. Of several hosts, the first is taken that can be written.
    ///
    /// # Errors
    /// What is wrong, without the URL, which may hold a password.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        let fault = |problem: String| StoreError::Choice {
            shown: "postgres://…".to_owned(),
            problem,
        };
        let (url, own) = take_own_parameters(url);
        let parsed = Config::from_str(&url);
        let mut config = parsed.map_err(|error| fault(with_causes(&error)))?;
        if config.get_hosts().is_empty() {
            return Err(fault("it names no host".to_owned()));
        }
        // Addresses beside the names are what is connected to.
        let is_local = config.get_hosts().iter().all(is_on_this_machine)
            && config.get_hostaddrs().iter().all(IpAddr::is_loopback);
        let mode = match own.mode.as_deref() {
            None if is_local => SslMode::Disable,
            Some("disable") => SslMode::Disable,
            None | Some("require" | "verify-full") => SslMode::Require,
            Some(other) => {
                let other = adit_proto::escape::Escaped(other);
                return Err(fault(format!("sslmode={other} is not disable or require")));
            }
        };
        config.ssl_mode(mode);
        // One that only copies another refuses every change, and what it answers may be of yesterday.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        bound_waits(&mut config);
        set_options(&mut config);
        Ok(Self {
            shown: shown(&config),
            root_certificates: own.root_certificates,
            config,
        })
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Parameters that the library does not know, or not as we mean them.
#[derive(Default)]
struct OwnParameters {
    mode: Option<String>,
    root_certificates: Option<PathBuf>,
}

fn take_own_parameters(url: &str) -> (String, OwnParameters) {
    let mut own = OwnParameters::default();
    let Some((front, query)) = url.split_once('?') else {
        return (url.to_owned(), own);
    };
    let mut rest = Vec::new();
    for parameter in query.split('&') {
        match parameter.split_once('=') {
            Some(("sslmode", mode)) => own.mode = Some(mode.to_owned()),
            Some(("sslrootcert", path)) => own.root_certificates = Some(decoded(path).into()),
            _ => rest.push(parameter),
        }
    }
    let query = if rest.is_empty() { "" } else { "?" };
    (format!("{front}{query}{}", rest.join("&")), own)
}

/// A path in a URL, with its `%2F`.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let hex = others.get(..2).filter(|_| *first == b'%');
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            bytes.push(byte);
            rest = &others[2..];
        } else {
            bytes.push(*first);
            rest = others;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_on_this_machine(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            let address = name.parse::<IpAddr>();
            name == "localhost" || address.is_ok_and(|address| address.is_loopback())
        }
    }
}

/// Nobody waits for ever for a server that is gone: neither here nor there.
fn bound_waits(config: &mut Config) {
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(5));
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(15));
    }
    config
        .keepalives_idle(Duration::from_secs(15))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3);
    if config.get_application_name().is_none() {
        config.application_name("adit");
    }
}

/// What every session goes by, whatever the server, the database and the role are set to.
fn set_options(config: &mut Config) {
    let options = match config.get_options() {
        // The later ones win, so that an operator can set others.
        Some(given) => format!("{OPTIONS} {given}"),
        None => OPTIONS.to_owned(),
    };
    config.options(options);
}

/// What was answered survives a crash of the server; and it bounds its waits as well.
const OPTIONS: &str = "-c synchronous_commit=on -c statement_timeout=8s -c lock_timeout=8s \
                       -c idle_in_transaction_session_timeout=10s";

fn shown(config: &Config) -> String {
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    let hosts: Vec<_> = hosts.collect();
    let database = config.get_dbname().or(config.get_user());
    format!("{}/{}", hosts.join(","), database.unwrap_or_default())
}

/// An error with what is behind it: the library's own text is often only "db error".
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_required_unless_the_server_is_on_this_machine() {
        for (url, mode) in [
            ("postgres://u@db.example/d", SslMode::Require),
            ("postgres://u@192.0.2.1/d", SslMode::Require),
            (
                "postgres://u@db.example/d?sslmode=verify-full",
                SslMode::Require,
            ),
            (
                "postgres://u@db.example/d?sslmode=disable",
                SslMode::Disable,
            ),
            ("postgres://u@localhost/d", SslMode::Disable),
            ("postgres://u@127.0.0.1:5433/d", SslMode::Disable),
            ("postgresql://u@%2Frun%2Fpostgresql/d", SslMode::Disable),
            ("postgres://u@localhost/d?sslmode=require", SslMode::Require),
            ("postgres://u@localhost,db.example/d", SslMode::Require),
            (
                "postgres://u@localhost/d?hostaddr=192.0.2.1",
                SslMode::Require,
            ),
            (
                "postgres://u@localhost/d?hostaddr=127.0.0.2",
                SslMode::Disable,
            ),
        ] {
            let parsed = PostgresUrl::parse(url).unwrap();
            assert_eq!(parsed.config.get_ssl_mode(), mode, "{url}");
        }
    }

    #[test]
    fn parameters_reach_the_library_and_ours_do_not() {
        let url =
            "postgres://u@h/d?sslrootcert=%2Fetc%2Fa%20ca.pem&application_name=x&sslmode=require";
        let parsed = PostgresUrl::parse(url).unwrap();
        let roots = parsed.root_certificates.unwrap();
        assert_eq!(roots, PathBuf::from("/etc/a ca.pem"));
        assert_eq!(parsed.config.get_application_name(), Some("x"));
        let options = parsed.config.get_options().unwrap();
        assert!(options.contains("statement_timeout"), "{options}");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (url, problem) in [
            (
                "postgres://u:tweet@h/d?sslmode=prefer",
                "not disable or require",
            ),
            ("postgres://u:tweet@h:port/d", "port"),
            ("postgres:///d?user=tweet", "no host"),
            ("postgres://u:tweet@h/d?no_such=1", "no_such"),
        ] {
            let text = PostgresUrl::parse(url).unwrap_err().to_string();
            assert!(text.contains(problem), "{text}");
            assert!(!text.contains("tweet"), "{text}");
        }
        let url = PostgresUrl::parse("postgres://me:tweet@h.example/d").unwrap();
        assert_eq!(format!("{url} {url:?}"), "h.example/d h.example/d");
    }
}
