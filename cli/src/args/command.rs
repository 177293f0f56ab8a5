//! The command line of `adit`, read by clap.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use adit_engine::ring::IoChoice;
use clap::builder::StyledStr;
use clap::builder::styling::{AnsiColor, Styles};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::broker::BrokerArgs;
use super::fleet::{self, ConnectArgs, SshArgs, ThingArgs, TunnelArgs};
use super::log::LogArgs;
use super::options::{OPTIONS, Opt, Spelling};
use super::{Origin, ProxyArgs, reference};
use crate::fault::BadInput;
use crate::settings::records::Records;

mod complaint;

/// What `adit` was asked to do.
#[derive(Debug)]
pub enum Request {
    /// `adit proxy`.
    Proxy(ProxyArgs),
    /// `adit serve`.
    Serve(ServeArgs),
    /// `adit agent`.
    Agent(AgentArgs),
    /// `adit demo`.
    Demo(DemoArgs),
    /// `adit tunnel`.
    Tunnel(TunnelArgs),
    /// `adit thing`.
    Thing(ThingArgs),
    /// `adit ssh`.
    Ssh(Box<SshArgs>),
    /// `adit connect`.
    Connect(Box<ConnectArgs>),
    /// Help or version: text for standard output.
    Show(StyledStr),
    /// `adit` alone: help, but as an answer to a mistake.
    Lost(StyledStr),
}

/// `adit serve`: the service that both sides of a tunnel connect to, and its API.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Directory for tunnels, tokens and keys; made when it does not exist
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Where tunnels are kept: a file in the data directory, nowhere, or a server
    #[arg(
        long,
        value_name = "sqlite|memory|postgres://…",
        env = "ADIT_STORE",
        hide_env_values = true,
        default_value = "sqlite"
    )]
    pub store: StoreText,
    /// Where the API listens; port 0 picks a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7401")]
    pub api_listen: SocketAddr,
    /// Where both sides of tunnels connect to; port 0 picks a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7443")]
    pub tunnel_listen: SocketAddr,
    /// Where devices wait for notifications, over MQTT with client certificates; port 0 picks a free one
    #[arg(long, value_name = "ADDR:PORT")]
    pub mqtt_listen: Option<SocketAddr>,
    /// A broker that is there already, in place of the service's own
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Name or address by which clients reach this machine, for the server's certificate; repeatable
    #[arg(long = "name", value_name = "NAME")]
    pub names: Vec<String>,
    /// Open tunnels to any thing name, not only to things of the registry
    #[arg(long)]
    pub unregistered_things: bool,
    /// Access keys, a JSON file [default: DIR/access-keys.json, made at the first start]
    #[arg(long, value_name = "FILE", help_heading = "Access")]
    pub access_keys: Option<PathBuf>,
    /// Take requests without a signature, and let them do everything; on loopback only
    #[arg(long, conflicts_with = "access_keys", help_heading = "Access")]
    pub insecure_no_auth: bool,
    /// Region in resource names
    #[arg(
        long,
        value_name = "REGION",
        default_value = "us-east-1",
        help_heading = "Access"
    )]
    pub region: String,
    /// Account in resource names, 12 digits
    #[arg(
        long,
        value_name = "ACCOUNT",
        default_value = "000000000000",
        help_heading = "Access"
    )]
    pub account: String,
    /// Quotas to begin with: adit's own, or those that AWS publishes
    #[arg(long, value_name = "default|aws", default_value = "default", value_parser = ["default", "aws"], hide_possible_values = true, help_heading = "Quotas")]
    pub quotas: String,
    /// One quota, like services-per-tunnel=10; can be repeated, a wrong name lists all
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Quotas")]
    pub quota: Vec<String>,
    /// How long a notification waits for its device [default: 1h]
    #[arg(long, value_name = "TIME", help_heading = "Quotas")]
    pub notify_retention: Option<String>,
    /// How long a closed tunnel stays readable [default: 3h]
    #[arg(long, value_name = "TIME", help_heading = "Quotas")]
    pub tunnel_retention: Option<String>,
    /// Loops that carry tunnels, one thread each [default: one per core]
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u16).range(1..=1024))]
    pub loops: Option<u16>,
    /// Kernel interface of the data path
    #[arg(long, value_name = "auto|uring|epoll", default_value = "auto")]
    pub io: IoChoice,
    /// Who seals TLS 1.3 records: the library, or adit in its own buffer
    #[arg(long, value_name = "library|in-place", default_value = "in-place")]
    pub tls_records: Records,
    /// How and how much to log
    #[command(flatten)]
    pub log: LogArgs,
}

/// `--store` as it was given. Its URL may hold a password, so it is never shown.
#[derive(Clone)]
pub struct StoreText(pub String);

impl std::str::FromStr for StoreText {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Debug for StoreText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreText")
    }
}

/// `adit agent`: a device that waits for tunnels.
#[derive(Args, Debug)]
pub struct AgentArgs {
    /// Who this device is, where it hears of tunnels, and which services it has; TOML
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Read the configuration and every file that it names, say what it means, and end
    #[arg(long)]
    pub check: bool,
    /// Program to run when a tunnel is opened, connected and closed; wins over the file
    #[arg(long, value_name = "PROGRAM")]
    pub on_tunnel: Option<PathBuf>,
    /// Kernel interface of the data path
    #[arg(long, value_name = "auto|uring|epoll", default_value = "auto")]
    pub io: IoChoice,
    /// 0 off, 1 fatal, 2 error, 3 warning, 4 info, 5 debug, 6 trace; wins over the file [default: 4]
    #[arg(short, long, value_name = "LEVEL", help_heading = "Output")]
    pub verbose: Option<u16>,
    /// Form of the log on standard error; wins over the file [default: text]
    #[arg(long, value_name = "text|json", help_heading = "Output")]
    pub log_format: Option<crate::log::Format>,
}

/// `adit demo`: service, both sides and an application in one process, on loopback.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Carry some bytes both ways, compare them, and end with 0 if all is well
    #[arg(long)]
    pub check: bool,
    /// Kernel interface of the data path
    #[arg(long, value_name = "auto|uring|epoll", default_value = "auto")]
    pub io: IoChoice,
    /// How and how much to log
    #[command(flatten)]
    pub log: LogArgs,
}

/// Reads the arguments behind the program's name.
pub fn parse(arguments: &[OsString]) -> Result<Request, BadInput> {
    let program = OsString::from("adit");
    let expanded = expand_prefixes(arguments);
    let matches = match command().try_get_matches_from([program].into_iter().chain(expanded)) {
        Ok(matches) => matches,
        Err(error) => return complaint::translate(&error),
    };
    match matches.subcommand() {
        Some(("proxy", matches)) => proxy_args(matches).map(Request::Proxy),
        Some(("serve", matches)) => from_matches(matches).map(Request::Serve),
        Some(("agent", matches)) => from_matches(matches).map(Request::Agent),
        Some(("demo", matches)) => from_matches(matches).map(Request::Demo),
        Some(("tunnel", matches)) => from_matches(matches).map(Request::Tunnel),
        Some(("thing", matches)) => from_matches(matches).map(Request::Thing),
        Some(("ssh", matches)) => from_matches(matches).map(|args| Request::Ssh(Box::new(args))),
        Some(("connect", matches)) => {
            from_matches(matches).map(|args| Request::Connect(Box::new(args)))
        }
        _ => Ok(Request::Lost(command().render_help())),
    }
}

/// The whole command tree, for parsing, help, completions and manual pages.
pub fn command() -> Command {
    Command::new("adit")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Secure tunnels to devices behind firewalls, speaking AWS IoT Secure Tunneling")
        .after_help(
            "Called as `localproxy` (a link to this program), it takes the place of the AWS local proxy.",
        )
        .styles(STYLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .propagate_version(true)
        .infer_long_args(true)
        .disable_help_subcommand(true)
        .subcommand(proxy_command())
        .subcommand(
            ServeArgs::augment_args(Command::new("serve"))
                .about("Run the service: the API that opens tunnels, the relay that carries them"),
        )
        .subcommand(agent_command())
        .subcommand(
            DemoArgs::augment_args(Command::new("demo"))
                // It speaks for itself on standard output.
                .mut_arg("verbose", |verbose| verbose.default_value("3"))
                .about("Show a tunnel at work, with everything it takes, on this machine only"),
        )
        .subcommands(fleet::commands())
}

fn agent_command() -> Command {
    AgentArgs::augment_args(Command::new("agent"))
        .about("Wait on a device for tunnels, and carry them to its services")
        .after_long_help(AGENT_HELP)
}

fn proxy_command() -> Command {
    let arguments = OPTIONS
        .iter()
        .filter(|row| !matches!(row.option, Opt::Help | Opt::Version))
        .map(argument);
    Command::new("proxy")
        .about("Connect one side of a tunnel to local applications")
        .long_about(
            "Connect one side of a tunnel to local applications.\n\n\
             The source (-s) listens here and sends what it gets into the tunnel; the destination (-d) \
             dials an application for each connection that comes out of it. Every option can also stand \
             in a --config file as `name = value`. The command line wins over that file, the file over \
             the environment.",
        )
        .after_long_help(PROXY_EXAMPLES)
        .after_help("`adit proxy --help` says more and has examples.")
        .args(arguments)
}

fn argument(row: &'static Spelling) -> Arg {
    let mut argument = Arg::new(row.long)
        .long(row.long)
        .help(row.help)
        .help_heading(row.heading);
    if let Some(short) = row.short {
        argument = argument.short(short);
    }
    if let Some(alias) = row.alias {
        argument = argument.visible_alias(alias);
    }
    let mut long_help = row.help.to_owned();
    if !row.more.is_empty() {
        long_help = format!("{long_help}.\n\n{}", row.more);
    }
    if let Some(variable) = row.variable {
        long_help = format!("{long_help}\n\n[env: {variable}]");
    }
    argument = argument.long_help(long_help);
    match row.value {
        Some(name) => argument
            .value_name(name)
            .value_parser(value_parser!(OsString))
            .action(ArgAction::Set),
        None => argument.action(ArgAction::SetTrue),
    }
}

fn proxy_args(matches: &ArgMatches) -> Result<ProxyArgs, BadInput> {
    let mut args = ProxyArgs::default();
    for row in OPTIONS {
        if matches!(row.option, Opt::Help | Opt::Version) {
            continue;
        }
        if row.value.is_none() {
            if matches.get_flag(row.long) {
                args.insert(row.option, String::new(), Origin::CommandLine);
            }
            continue;
        }
        let Some(value) = matches.get_one::<OsString>(row.long) else {
            continue;
        };
        let value = value.to_str().ok_or_else(|| {
            BadInput::value(
                row.option,
                &Origin::CommandLine,
                "the value is not valid UTF-8",
                "write it in UTF-8",
            )
        })?;
        args.insert(row.option, value.to_owned(), Origin::CommandLine);
    }
    Ok(args)
}

fn from_matches<T: FromArgMatches>(matches: &ArgMatches) -> Result<T, BadInput> {
    // Cannot fail: the arguments of `matches` were made by the same type.
    T::from_arg_matches(matches)
        .map_err(|error| BadInput::usage(error.kind().to_string(), "see `adit --help`"))
}

/// Writes out prefixes that are unambiguous among the reference's options (`--acc` for
/// `--access-token`), which clap would find ambiguous because of our additions. Safe without knowing
/// which words are values: clap takes no separate value that starts with `--`.
fn expand_prefixes(arguments: &[OsString]) -> Vec<OsString> {
    let is_proxy = arguments.first().is_some_and(|word| word == "proxy");
    let mut ended = !is_proxy;
    let expand = |word: &OsString| -> Option<OsString> {
        let body = word.to_str()?.strip_prefix("--")?;
        let (name, rest) = body.split_at(body.find('=').unwrap_or(body.len()));
        let exact = |row: &Spelling| row.long == name || row.alias == Some(name);
        if OPTIONS.iter().any(exact) {
            return None;
        }
        match reference::candidates(name)[..] {
            [row] => Some(format!("--{}{rest}", row.long).into()),
            _ => None,
        }
    };
    arguments
        .iter()
        .map(|word| {
            ended |= word == "--";
            if ended { None } else { expand(word) }.unwrap_or_else(|| word.clone())
        })
        .collect()
}

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const AGENT_HELP: &str = "\
The configuration; paths start at the file's own directory:
  endpoint = \"mqtt.example.org:8883\"             thing = \"lamp-17\"
  certificate = \"device.pem\"                     key = \"device.key\"    (mode 0600)
  ca = \"ca.pem\"                                  leave out for the system's authorities
  tunnel_endpoint = \"tunnels.example.org:7443\"   leave out for AWS's
  state_dir = \"/var/lib/adit-agent\"              where tunnels outlive a restart
  [services]                                      leave out for SSH on 22 and VNC on 5900
  SSH = 22
  DB = \"db.lan:5432\"
  APP = \"unix:/run/app.sock\"

SIGHUP reads [services] again; where they were and are not any more, nothing changes. The program
of --on-tunnel gets no arguments and no token. What happened is in ADIT_EVENT (opened, connected,
closed), ADIT_TUNNEL, ADIT_THING, ADIT_SERVICES, ADIT_REGION, ADIT_TUNNEL_ENDPOINT and ADIT_REASON.";

const PROXY_EXAMPLES: &str = "\
Examples:
  Reach the one service of a tunnel on port 5555 of this machine, against AWS:
    AWSIOT_TUNNEL_ACCESS_TOKEN=... adit proxy -r eu-west-1 -s 5555

  The device's end of it, token from a file, several services:
    adit proxy -r eu-west-1 -d SSH=22,DB=db.lan:5432 --access-token-file /run/token

  ssh without any port, as a ProxyCommand:
    adit proxy -e tunnels.example.org:7443 -s stdio: --access-token-file ~/.tunnel-token

Exit status:
  0 ended well    3 mapping does not fit    6 bad configuration file
  1 failure       4 refused by the service  7 cannot listen
  2 bad usage     5 not reachable           8 cannot connect, now or later";

#[cfg(test)]
mod tests;
