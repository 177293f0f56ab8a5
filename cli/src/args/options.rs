//! The one table of the options of `adit proxy` and `localproxy`.
//!
//! Both command lines, the `--config` file, the environment and both help texts are made from it, so an
//! option is spelled in one place. Wire specification, section 13; rows marked `own` are additions that
//! the `localproxy` personality does not have.

/// One option of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    missing_docs,
    reason = "each variant is described by its row of the table"
)]
pub enum Opt {
    Help,
    Version,
    AccessToken,
    AccessTokenFile,
    ClientToken,
    Region,
    ProxyEndpoint,
    SourceListenPort,
    DestinationApp,
    Mode,
    LocalBindAddress,
    ConfigDir,
    DestinationClientType,
    Capath,
    Pin,
    NoSslHostVerify,
    Config,
    SettingsJson,
    ExportDefaultSettings,
    Io,
    TlsRecords,
    MaxConnections,
    ConnectionBuffer,
    TunnelBuffer,
    StallTimeout,
    HalfCloseGrace,
    PingInterval,
    DrainTimeout,
    Verbose,
    LogFormat,
}

/// How one option is spelled and explained.
#[derive(Debug)]
pub struct Spelling {
    /// Which option this is.
    pub option: Opt,
    /// Long name, without the dashes; also its name in a `--config` file.
    pub long: &'static str,
    /// Short name.
    pub short: Option<char>,
    /// Second long name, in `adit proxy` only.
    pub alias: Option<&'static str>,
    /// What its argument is called; `None` for a switch.
    pub value: Option<&'static str>,
    /// Environment variable that gives it when neither command line nor `--config` does.
    pub variable: Option<&'static str>,
    /// Not an option of the reference.
    pub own: bool,
    /// Heading in the help of `adit proxy`.
    pub heading: &'static str,
    /// One sentence for both help texts.
    pub help: &'static str,
    /// What `adit proxy --help` says beyond it.
    pub more: &'static str,
}

impl Opt {
    /// The option's row.
    pub fn spelling(self) -> &'static Spelling {
        OPTIONS
            .iter()
            .find(|row| row.option == self)
            .expect("every option has a row: a test walks them all")
    }

    /// `--long-name`.
    pub fn flag(self) -> String {
        format!("--{}", self.spelling().long)
    }

    /// The option of that long name, own additions only on request.
    pub fn by_long(name: &str, with_own: bool) -> Option<Self> {
        OPTIONS
            .iter()
            .find(|row| row.long == name && (with_own || !row.own))
            .map(|row| row.option)
    }
}

const TOKENS: &str = "Tokens";
const SERVICE: &str = "Service";
const LOCAL: &str = "Local side";
const FILES: &str = "Files";
const LIMITS: &str = "Limits";
const WORDS: &str = "Output";

const fn row(option: Opt, long: &'static str, heading: &'static str) -> Spelling {
    Spelling {
        option,
        long,
        short: None,
        alias: None,
        value: None,
        variable: None,
        own: false,
        heading,
        help: "",
        more: "",
    }
}

/// Every option, in the order of the help texts.
pub static OPTIONS: &[Spelling] = &[
    Spelling {
        short: Some('h'),
        help: "Show help message",
        ..row(Opt::Help, "help", WORDS)
    },
    Spelling {
        short: Some('V'),
        help: "Show version and end",
        ..row(Opt::Version, "version", WORDS)
    },
    Spelling {
        short: Some('t'),
        value: Some("TOKEN"),
        variable: Some("AWSIOT_TUNNEL_ACCESS_TOKEN"),
        help: "Client access token of this side of the tunnel",
        more: "Other users of this machine can read a command line; \
               prefer the environment variable or --access-token-file.",
        ..row(Opt::AccessToken, "access-token", TOKENS)
    },
    Spelling {
        value: Some("FILE"),
        own: true,
        help: "Read the access token from a file, `-` for standard input",
        more: "The file must not be accessible to group or others. Without any token given, \
               $CREDENTIALS_DIRECTORY/access-token is read (systemd LoadCredential=).",
        ..row(Opt::AccessTokenFile, "access-token-file", TOKENS)
    },
    Spelling {
        short: Some('i'),
        value: Some("TOKEN"),
        variable: Some("AWSIOT_TUNNEL_CLIENT_TOKEN"),
        help: "Client token, which lets the access token be used again",
        more: "32 to 128 letters, digits and hyphens. When none is given, one is made from \
               the access token and this machine's id, so that a lost connection can come back.",
        ..row(Opt::ClientToken, "client-token", TOKENS)
    },
    Spelling {
        short: Some('r'),
        value: Some("REGION"),
        variable: Some("AWSIOT_TUNNEL_REGION"),
        help: "AWS region of the tunnel; instead of --proxy-endpoint",
        ..row(Opt::Region, "region", SERVICE)
    },
    Spelling {
        short: Some('e'),
        value: Some("HOST[:PORT]"),
        variable: Some("AWSIOT_TUNNEL_ENDPOINT"),
        help: "Service to connect to, port 443 unless given; instead of --region",
        ..row(Opt::ProxyEndpoint, "proxy-endpoint", SERVICE)
    },
    Spelling {
        short: Some('c'),
        value: Some("PATH"),
        help: "Also trust the certificate authorities in this PEM file, or directory of such files",
        ..row(Opt::Capath, "capath", SERVICE)
    },
    Spelling {
        value: Some("PIN[;PIN]"),
        own: true,
        help: "Public key that the service must have, as sha256//BASE64; several for its next one",
        more: "As curl's --pinnedpubkey: openssl x509 -in server.pem -pubkey -noout | openssl pkey -pubin \
               -outform der | openssl dgst -sha256 -binary | base64. The certificate is checked as well.",
        ..row(Opt::Pin, "pin", SERVICE)
    },
    Spelling {
        short: Some('k'),
        help: "Turn off every certificate check (only for tests: anyone can listen in)",
        ..row(Opt::NoSslHostVerify, "no-ssl-host-verify", SERVICE)
    },
    Spelling {
        short: Some('s'),
        alias: Some("source"),
        value: Some("MAPPING"),
        help: "Source: where to listen. 5555, or per service: SSH=5555,RDP=10.0.0.1:5556",
        more: "An endpoint is PORT, HOST:PORT, [IPV6]:PORT, the path of a Unix socket, or `stdio:` \
               to carry one connection over standard input and output.",
        ..row(Opt::SourceListenPort, "source-listen-port", LOCAL)
    },
    Spelling {
        short: Some('d'),
        alias: Some("destination"),
        value: Some("MAPPING"),
        help: "Destination: what to dial. 22, or per service: SSH=22,DB=db.lan:5432",
        more: "An endpoint is PORT (on this machine), HOST:PORT, [IPV6]:PORT, or the path of a Unix \
               socket. A service id may contain colons; it ends at the first `=`.",
        ..row(Opt::DestinationApp, "destination-app", LOCAL)
    },
    Spelling {
        short: Some('m'),
        value: Some("MODE"),
        help: "Side of the tunnel when neither -s nor -d says it: src, source, dst, destination",
        ..row(Opt::Mode, "mode", LOCAL)
    },
    Spelling {
        short: Some('b'),
        value: Some("ADDRESS"),
        help: "Source: address to listen on [localhost]. Destination: host of a port-only endpoint",
        ..row(Opt::LocalBindAddress, "local-bind-address", LOCAL)
    },
    Spelling {
        value: Some("DIR"),
        help: "Directory of files with `service = endpoint` lines, used without -s and -d [./config]",
        more: "All files below it are read once, at start. The default is `config` in the directory \
               that the command is started in.",
        ..row(Opt::ConfigDir, "config-dir", LOCAL)
    },
    Spelling {
        short: Some('y'),
        value: Some("V1|V2"),
        help: "Version of the destination's client, when it cannot be recognised by itself",
        ..row(Opt::DestinationClientType, "destination-client-type", LOCAL)
    },
    Spelling {
        value: Some("FILE"),
        help: "Read options from a file of `name = value` lines; the command line wins",
        ..row(Opt::Config, "config", FILES)
    },
    Spelling {
        value: Some("FILE"),
        help: "Read fine-grained settings from a JSON file",
        ..row(Opt::SettingsJson, "settings-json", FILES)
    },
    Spelling {
        value: Some("FILE"),
        help: "Write the default settings as JSON and end",
        ..row(Opt::ExportDefaultSettings, "export-default-settings", FILES)
    },
    Spelling {
        value: Some("COUNT"),
        own: true,
        help: "Most local connections open at a time, over all services [16384]",
        ..row(Opt::MaxConnections, "max-connections", LIMITS)
    },
    Spelling {
        value: Some("SIZE"),
        own: true,
        help: "Bytes held for one connection that does not take its data [4MiB]",
        ..row(Opt::ConnectionBuffer, "connection-buffer", LIMITS)
    },
    Spelling {
        value: Some("SIZE"),
        own: true,
        help: "Bytes held for all connections of the tunnel together [8MiB]",
        ..row(Opt::TunnelBuffer, "tunnel-buffer", LIMITS)
    },
    Spelling {
        value: Some("TIME"),
        own: true,
        help: "Reset a connection that takes nothing for so long while others wait for it [10s]",
        ..row(Opt::StallTimeout, "stall-timeout", LIMITS)
    },
    Spelling {
        value: Some("TIME"),
        own: true,
        help: "After a local application stopped sending, how long the other side may be quiet [2s]",
        ..row(Opt::HalfCloseGrace, "half-close-grace", LIMITS)
    },
    Spelling {
        value: Some("TIME"),
        own: true,
        help: "Time between WebSocket pings to the service [20s]",
        ..row(Opt::PingInterval, "ping-interval", LIMITS)
    },
    Spelling {
        value: Some("TIME"),
        own: true,
        help: "After SIGTERM, wait so long for open connections to end [10s]",
        ..row(Opt::DrainTimeout, "drain-timeout", LIMITS)
    },
    Spelling {
        value: Some("auto|uring|epoll"),
        own: true,
        help: "Kernel interface of the data path [auto]",
        ..row(Opt::Io, "io", LIMITS)
    },
    Spelling {
        value: Some("library|in-place"),
        own: true,
        help: "Who seals TLS 1.3 records: the library, or adit in its buffer [in-place]",
        ..row(Opt::TlsRecords, "tls-records", LIMITS)
    },
    Spelling {
        short: Some('v'),
        value: Some("LEVEL"),
        help: "0 off, 1 fatal, 2 error, 3 warning, 4 info, 5 debug, 6 trace [4]",
        ..row(Opt::Verbose, "verbose", WORDS)
    },
    Spelling {
        value: Some("text|json"),
        own: true,
        help: "Form of the log on standard error [text]",
        ..row(Opt::LogFormat, "log-format", WORDS)
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_every_option_has_its_row() {
        let mut names = BTreeSet::new();
        let mut shorts = BTreeSet::new();
        for row in OPTIONS {
            assert!(names.insert(row.long), "{}", row.long);
            assert!(row.short.is_none_or(|short| shorts.insert(short)));
            assert!(row.alias.is_none_or(|alias| names.insert(alias)));
            assert!(!row.help.is_empty(), "{}", row.long);
            assert_eq!(row.option.spelling().long, row.long);
            assert!(!(row.own && row.short.is_some()), "{}", row.long);
        }
        assert_eq!(OPTIONS.len(), Opt::LogFormat as usize + 1);
    }

    #[test]
    fn the_reference_has_these_and_no_more() {
        let reference: BTreeSet<&str> = OPTIONS
            .iter()
            .filter(|row| !row.own)
            .map(|row| row.long)
            .collect();
        let expected = [
            "access-token",
            "capath",
            "client-token",
            "config",
            "config-dir",
            "destination-app",
            "destination-client-type",
            "export-default-settings",
            "help",
            "local-bind-address",
            "mode",
            "no-ssl-host-verify",
            "proxy-endpoint",
            "region",
            "settings-json",
            "source-listen-port",
            "verbose",
            "version",
        ];
        assert_eq!(reference, expected.into());
        assert_eq!(Opt::by_long("io", false), None);
        assert_eq!(Opt::by_long("io", true), Some(Opt::Io));
    }
}
