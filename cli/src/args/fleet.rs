//! The arguments of the commands that call the API: `tunnel`, `thing`, `ssh`, `connect`.

use std::path::PathBuf;

use clap::{Args, Command, Subcommand};

use super::log::LogArgs;
use adit_engine::ring::IoChoice;

/// Which service, and who calls it.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Service")]
pub struct ApiArgs {
    /// URL of the API [env: AWS_ENDPOINT_URL_IOTSECURETUNNELING, AWS_ENDPOINT_URL_IOT, AWS_ENDPOINT_URL] [default: AWS]
    #[arg(long, value_name = "URL", visible_alias = "endpoint-url")]
    pub endpoint: Option<String>,
    /// Data directory of an `adit serve` on this machine: its endpoints, its key and its authority
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Profile of AWS's credentials and config files [env: AWS_PROFILE] [default: default]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Region, like eu-west-1 [env: AWS_REGION, AWS_DEFAULT_REGION]
    #[arg(short, long, value_name = "REGION")]
    pub region: Option<String>,
    /// Authorities to trust besides the system's, PEM [env: AWS_CA_BUNDLE]
    #[arg(long, value_name = "FILE")]
    pub ca_bundle: Option<PathBuf>,
    /// Where both sides of tunnels connect to, if not AWS [env: AWSIOT_TUNNEL_ENDPOINT]
    #[arg(long, value_name = "HOST[:PORT]")]
    pub tunnel_endpoint: Option<String>,
    /// Send requests without a signature
    #[arg(long)]
    pub no_sign_request: bool,
}

/// How an answer is printed.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Output")]
pub struct FormArgs {
    /// Print JSON, the service's own where it has an answer
    #[arg(long)]
    pub json: bool,
}

/// `adit tunnel`.
#[derive(Args, Debug)]
pub struct TunnelArgs {
    /// What to do
    #[command(subcommand)]
    pub command: TunnelCommand,
}

/// What can be done with tunnels.
#[derive(Subcommand, Debug)]
pub enum TunnelCommand {
    /// Open a tunnel, and print its two tokens
    #[command(after_help = OPEN_EXAMPLES)]
    Open(OpenArgs),
    /// List tunnels, newest first
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show one tunnel
    Describe(DescribeArgs),
    /// Close tunnels for good
    #[command(after_help = CLOSE_EXAMPLES)]
    Close(CloseArgs),
    /// Replace the token of a side; whoever is connected with the old one is cut off
    #[command(after_help = ROTATE_EXAMPLES)]
    Rotate(RotateArgs),
    /// Set and remove tags of a tunnel, or show them
    #[command(after_help = TAG_EXAMPLES)]
    Tag(TagArgs),
}

/// `adit tunnel open`.
#[derive(Args, Debug)]
pub struct OpenArgs {
    /// Device that is told of the tunnel
    #[arg(long, value_name = "NAME")]
    pub thing: Option<String>,
    /// Service that the tunnel carries, like SSH; several: give it again
    #[arg(long, value_name = "NAME")]
    pub service: Vec<String>,
    /// Free text for people
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// Time until it is closed, 1m to 12h [default: 12h]
    #[arg(long, value_name = "TIME")]
    pub lifetime: Option<String>,
    /// Tag; several: give it again
    #[arg(long, value_name = "KEY=VALUE")]
    pub tag: Vec<String>,
    /// Write the tokens to DIR/source-token and DIR/destination-token (mode 0600), do not print them
    #[arg(long, value_name = "DIR")]
    pub token_dir: Option<PathBuf>,
    /// Form of the answer
    #[command(flatten)]
    pub form: FormArgs,
    /// The service
    #[command(flatten)]
    pub api: ApiArgs,
}

/// `adit tunnel list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Only tunnels to this device
    #[arg(long, value_name = "NAME")]
    pub thing: Option<String>,
    /// Only tunnels that are open
    #[arg(long)]
    pub open: bool,
    /// Form of the answer
    #[command(flatten)]
    pub form: FormArgs,
    /// The service
    #[command(flatten)]
    pub api: ApiArgs,
}

/// `adit tunnel describe`.
#[derive(Args, Debug)]
pub struct DescribeArgs {
    /// Id of the tunnel
    #[arg(value_name = "ID")]
    pub id: String,
    /// Form of the answer
    #[command(flatten)]
    pub form: FormArgs,
    /// The service
    #[command(flatten)]
    pub api: ApiArgs,
}

/// `adit tunnel close`.
#[derive(Args, Debug)]
pub struct CloseArgs {
    /// Ids of the tunnels
    #[arg(value_name = "ID", required = true)]
    pub id: Vec<String>,
    /// Forget them at once, instead of some hours later
    #[arg(long)]
    pub delete: bool,
    /// Form of the answer
    #[command(flatten)]
    pub form: FormArgs,
    /// The service
    #[command(flatten)]
    pub api: ApiArgs,
}

/// `adit tunnel rotate`.
#[derive(Args, Debug)]
pub struct RotateArgs {
    /// Id of the tunnel
    #[arg(value_name = "ID")]
    pub id: String,
    /// Whose token is replaced
    #[arg(long, value_name = "source|destination|all", value_parser = ["source", "destination", "all"])]
    pub side: String,
    /// Device that is told of the new destination token, if it is to be another
    #[arg(long, value_name = "NAME")]
    pub thing: Option<String>,
    /// Service of the tunnel, with --thing; several: give it again [default: those it has]
    #[arg(long, value_name = "NAME")]
    pub service: Vec<String>,
    /// Write the tokens to DIR/source-token and DIR/destination-token (mode 0600), do not print them
    #[arg(long, value_name = "DIR")]
    pub token_dir: Option<PathBuf>,
    /// Form of the answer
    #[command(flatten)]
    pub form: FormArgs,
    /// The service
    #[command(flatten)]
    pub api: ApiArgs,
}

/// `adit tunnel tag`.
#[derive(Args, Debug)]
pub struct TagArgs {
    /// Id or ARN of the tunnel
    #[arg(value_name = "ID")]
    pub id: String,
    /// Tags to set
    #[arg(value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Tag to remove; several: give it again
    #[arg(long, value_name = "KEY")]
    pub remove: Vec<String>,
    /// Form of the answer
    #[command(flatten)]
    pub form: FormArgs,
    /// The service
    #[command(flatten)]
    pub api: ApiArgs,
}

/// `adit thing`.
#[derive(Args, Debug)]
pub struct ThingArgs {
    /// What to do
    #[command(subcommand)]
    pub command: ThingCommand,
}

/// What can be done with things.
#[derive(Subcommand, Debug)]
pub enum ThingCommand {
    /// Register a device: thing, key, certificate, and a directory with all that its agent needs
    #[command(after_help = CREATE_EXAMPLES)]
    Create(Box<CreateArgs>),
    /// List the devices
    List(ListThingsArgs),
    /// Show one device and its certificates
    Describe(DescribeThingArgs),
    /// Remove a device and its certificates; tunnels that it is in go on
    #[command(after_help = DELETE_HELP)]
    Delete(DeleteThingArgs),
}

/// `adit thing create`.
#[derive(Args, Debug)]
pub struct CreateArgs {
    /// Name of the device
    #[arg(value_name = "THING")]
    pub thing: String,
    /// Directory for certificate, key and configuration [default: ./THING]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Certificate request that was made on the device; its key stays there
    #[arg(long, value_name = "FILE")]
    pub csr: Option<PathBuf>,
    /// Attribute of the thing; several: give it again
    #[arg(long, value_name = "KEY=VALUE")]
    pub attribute: Vec<String>,
    /// Policy for the certificate; AWS lets no device connect without one, adit has a built-in one
    #[arg(long, value_name = "NAME")]
    pub policy: Option<String>,
    /// Service of the device, like SSH=22 or DB=db.lan:5432; several: give it again [default: SSH=22]
    #[arg(long, value_name = "NAME=PLACE")]
    pub service: Vec<String>,
    /// Where the device hears of tunnels [default: what the service says]
    #[arg(long, value_name = "HOST[:PORT]")]
    pub mqtt_endpoint: Option<String>,
    /// Form of the answer
    #[command(flatten)]
    pub form: FormArgs,
    /// The service
    #[command(flatten)]
    pub api: ApiArgs,
}

/// `adit thing list`.
#[derive(Args, Debug)]
pub struct ListThingsArgs {
    /// Form of the answer
    #[command(flatten)]
    pub form: FormArgs,
    /// The service
    #[command(flatten)]
    pub api: ApiArgs,
}

/// `adit thing describe`.
#[derive(Args, Debug)]
pub struct DescribeThingArgs {
    /// Name of the device
    #[arg(value_name = "THING")]
    pub thing: String,
    /// Form of the answer
    #[command(flatten)]
    pub form: FormArgs,
    /// The service
    #[command(flatten)]
    pub api: ApiArgs,
}

/// `adit thing delete`.
#[derive(Args, Debug)]
pub struct DeleteThingArgs {
    /// Name of the device
    #[arg(value_name = "THING")]
    pub thing: String,
    /// Also delete certificates that other things or policies still hold
    #[arg(long)]
    pub force: bool,
    /// Form of the answer
    #[command(flatten)]
    pub form: FormArgs,
    /// The service
    #[command(flatten)]
    pub api: ApiArgs,
}

/// `adit ssh`.
#[derive(Args, Debug)]
pub struct SshArgs {
    /// Device, and the user to log in as if not this one
    #[arg(value_name = "[USER@]THING")]
    pub target: String,
    /// For ssh: options, then the command to run
    #[arg(value_name = "ARGS", last = true)]
    pub args: Vec<String>,
    /// Service of the device that leads to its sshd
    #[arg(long, value_name = "NAME", default_value = "SSH")]
    pub service: String,
    /// How long to wait for the device to connect
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub timeout: String,
    /// Time until a new tunnel is closed, 1m to 12h
    #[arg(long, value_name = "TIME", default_value = "12h")]
    pub lifetime: String,
    /// Open a new tunnel even if there is one that could be used
    #[arg(long)]
    pub new: bool,
    /// Leave the tunnel open afterwards, for the next time
    #[arg(long)]
    pub keep: bool,
    /// Kernel interface of the data path
    #[arg(long, value_name = "auto|uring|epoll", default_value = "auto")]
    pub io: IoChoice,
    /// Program to run
    #[arg(long, value_name = "PROGRAM", default_value = "ssh")]
    pub ssh: String,
    /// The service
    #[command(flatten)]
    pub api: ApiArgs,
    /// The log
    #[command(flatten)]
    pub log: LogArgs,
}

/// `adit connect`.
#[derive(Args, Debug)]
pub struct ConnectArgs {
    /// Device
    #[arg(value_name = "THING")]
    pub thing: String,
    /// Services, and where to listen for them: a port, HOST:PORT, or a path
    #[arg(value_name = "SERVICE=PORT", required = true)]
    pub service: Vec<String>,
    /// Address to listen on, for services with a port alone
    #[arg(short = 'b', long, value_name = "ADDRESS", default_value = "localhost")]
    pub local_bind_address: String,
    /// Time until a tunnel is closed and the next one is opened, 1m to 12h
    #[arg(long, value_name = "TIME", default_value = "12h")]
    pub lifetime: String,
    /// Open a new tunnel even if there is one that could be used
    #[arg(long)]
    pub new: bool,
    /// Leave the tunnel open afterwards
    #[arg(long)]
    pub keep: bool,
    /// Kernel interface of the data path
    #[arg(long, value_name = "auto|uring|epoll", default_value = "auto")]
    pub io: IoChoice,
    /// Form of the lines about what is listening
    #[command(flatten)]
    pub form: FormArgs,
    /// The service
    #[command(flatten)]
    pub api: ApiArgs,
    /// The log
    #[command(flatten)]
    pub log: LogArgs,
}

/// The commands, to stand beside the others.
pub(super) fn commands() -> [Command; 4] {
    let quiet = |command: Command| command.mut_arg("verbose", |arg| arg.default_value("3"));
    [
        TunnelArgs::augment_args(Command::new("tunnel"))
            .about("Open, list, describe, close, rotate and tag tunnels")
            .after_help(ACCESS_HELP)
            .arg_required_else_help(true),
        ThingArgs::augment_args(Command::new("thing"))
            .about("Create, list, describe and delete devices")
            .after_help(ACCESS_HELP)
            .arg_required_else_help(true),
        quiet(
            SshArgs::augment_args(Command::new("ssh"))
                .about("Run ssh to a device, through a tunnel that is opened for it")
                .after_help(SSH_EXAMPLES),
        ),
        ConnectArgs::augment_args(Command::new("connect"))
            .about("Hold ports open that lead to services of a device")
            .after_help(CONNECT_EXAMPLES),
    ]
}

const ACCESS_HELP: &str = "\
Each of these works with `adit serve` and with AWS. Which service it is and who calls it:
  adit serve on this machine   --data-dir DIR, all that it takes
  another one                  --endpoint URL --ca-bundle FILE, and a key as for AWS
  AWS                          --region REGION; keys as `aws` takes them
Behind a web proxy: https_proxy=http://[USER:PASSWORD@]HOST:PORT, and no_proxy for exceptions.";

const OPEN_EXAMPLES: &str = "\
Examples:
  A tunnel to the sshd of a device, for half an hour:
    adit tunnel open --thing lamp-17 --service SSH --lifetime 30m

  Tokens into files, for `adit proxy --access-token-file`:
    adit tunnel open --service SSH --service WEB --token-dir ~/tunnel";

const LIST_EXAMPLES: &str = "\
Examples:
  adit tunnel list --open --thing lamp-17
  adit tunnel list --json | jq -r '.tunnelSummaries[].tunnelId'";

const CLOSE_EXAMPLES: &str = "\
Examples:
  adit tunnel close 6a63c1a8-3f20-4d6c-9cf8-39d1a1f1b6d7
  adit tunnel close --delete ID1 ID2";

const ROTATE_EXAMPLES: &str = "\
Examples:
  A new token for this end; the device stays connected:
    adit tunnel rotate ID --side source

  Tell the device again, which has missed it:
    adit tunnel rotate ID --side destination";

const TAG_EXAMPLES: &str = "\
Examples:
  adit tunnel tag ID owner=ada ticket=1815
  adit tunnel tag ID --remove ticket
  adit tunnel tag ID";

const CREATE_EXAMPLES: &str = "\
The key is made here and never sent anywhere. The directory gets certificate.pem, private.key
(mode 0600), ca.pem where the service has an authority of its own, and agent.toml for `adit
agent --config`. A create that was interrupted is repeated by the same command: what is there is
kept. A certificate.pem for another key than that of --csr is an error: move it away to get one.

Examples:
  adit thing create lamp-17 --data-dir /var/lib/adit --service SSH=22
  openssl req -new -key device.key -subj /CN=lamp-17 -out lamp.csr    (on the device)
  adit thing create lamp-17 --csr lamp.csr";

const DELETE_HELP: &str = "\
Each certificate of the thing is detached, made inactive, and deleted: a device that waits for
tunnels with it loses its MQTT connection. Tunnels that it is in go on, for tokens let into them and
no certificate: `adit tunnel list --open --thing THING` shows them, `adit tunnel close` ends them.

One that is also attached to another thing is only detached, and one that has policies of its own
stops the command, unless --force is given: that takes it from the others and detaches the
policies first.";

const SSH_EXAMPLES: &str = "\
Examples:
  adit ssh lamp-17
  adit ssh root@lamp-17 -- uptime
  adit ssh lamp-17 --keep -- -L 8080:localhost:80 -N

An open tunnel to the device is used if it has the service, a quarter of an hour left, nobody at
its source, and no other `adit ssh` or `adit connect` that will close it. A device that does not
come is told again after 4, 12, 28 and 60 seconds, by a new token: what was said before its first
subscription reaches nobody. A tunnel that was opened here is closed at the end, also after
Ctrl-C, SIGTERM or SIGHUP; a second signal ends at once and may leave it open. The exit status is
that of ssh; before ssh is run it is 4 refused, 5 not reachable or no device, 2 usage. The name of
the device is what ssh sees: `Host lamp-17` in ~/.ssh/config applies, known_hosts knows it so.";

const CONNECT_EXAMPLES: &str = "\
Examples:
  adit connect lamp-17 SSH=2222
  adit connect lamp-17 WEB=8080 DB=/run/user/1000/lamp-db.sock -b 127.0.0.1

When the tunnel ends, or its token is replaced by somebody, the next one is taken and the ports
stay the same. A device that does not come is told again after 4, 12, 28 and 60 seconds, by a
new token. Ctrl-C ends it, and closes the tunnels that it opened; so does every other end, but for
a second signal, which ends at once.";
