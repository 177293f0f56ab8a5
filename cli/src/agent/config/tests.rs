use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::exit::ExitCode;
use crate::world::testing::world;

/// A directory with an identity and, beside it, the key of another.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        let made = rcgen::generate_simple_self_signed(["lamp".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
        bench.write("device.pem", &made.cert.pem(), 0o644);
        bench.write("ca.pem", &made.cert.pem(), 0o644);
        bench.write("device.key", &made.signing_key.serialize_pem(), 0o600);
        bench.write("other.key", &other.signing_key.serialize_pem(), 0o600);
        bench.write("open.key", &made.signing_key.serialize_pem(), 0o640);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), PermissionsExt::from_mode(mode)).unwrap();
    }

    fn read_logged(
        &self,
        text: &str,
        args: AgentArgs,
    ) -> Result<(AgentSettings, LogSettings), BadInput> {
        self.write("agent.toml", text, 0o644);
        let mut log = LogSettings {
            verbosity: Verbosity::DEFAULT,
            format: Format::Text,
        };
        read(args, &world(self.0.path()), &mut log).map(|settings| (settings, log))
    }

    fn read(&self, text: &str) -> Result<AgentSettings, BadInput> {
        self.read_logged(text, args()).map(|(settings, _)| settings)
    }
}

fn args() -> AgentArgs {
    AgentArgs {
        config: "agent.toml".into(),
        check: false,
        on_tunnel: None,
        io: Default::default(),
        verbose: None,
        log_format: None,
    }
}

const SMALLEST: &str = "\
endpoint = \"localhost:8883\"
certificate = \"device.pem\"
key = \"device.key\"
thing = \"lamp\"
ca = \"ca.pem\"
";

#[test]
fn the_smallest_file_has_the_documented_defaults() {
    let bench = Bench::new();
    let settings = bench.read(SMALLEST).unwrap();
    assert_eq!(settings.endpoint.to_string(), "localhost:8883");
    assert_eq!(settings.thing.as_str(), "lamp");
    assert_eq!(settings.services, ServiceMap::default());
    assert_eq!(
        settings.limits,
        AgentLimits {
            tunnels: 20,
            connections: 16_384,
            ..AgentLimits::default()
        }
    );
    assert_eq!(settings.state_dir, bench.path("state"));
    assert_eq!(settings.tunnel_endpoint, None);
    assert_eq!((settings.region, settings.on_tunnel), (None, None));
    assert_eq!(settings.identity.mqtt.alpn_protocols, [] as [Vec<u8>; 0]);
}

#[test]
fn the_example_can_be_used_as_it_is() {
    let bench = Bench::new();
    let settings = bench.read(include_str!("../../../../deploy/agent.toml"));
    let settings = settings.unwrap();
    assert_eq!(settings.services.lines(), ["SSH -> 22"]);
    assert_eq!(settings.limits, AgentLimits::default());
}

#[test]
fn everything_can_be_said() {
    let bench = Bench::new();
    let text = format!(
        "{SMALLEST}region = 'eu-west-1'\ntunnel_endpoint = '[::1]:7443'\nstate_dir = '/var/lib/x'\n\
         on_tunnel = 'bin/hook'\nalpn = 'mqtt'\n\
         services = {{ SSH = 22, 'DB:1' = 'DB.lan:5432', A = 'unix:/run/a.sock', B = 'unix:b.sock', '*' = '9' }}\n\
         [limits]\ntunnels = 1_000\nconnections = 0x10\n[log]\nverbose = 5\nformat = 'json'\n"
    );
    let (settings, log) = bench.read_logged(&text, args()).unwrap();
    assert_eq!(settings.region.unwrap().as_str(), "eu-west-1");
    assert_eq!(settings.tunnel_endpoint.unwrap().to_string(), "[::1]:7443");
    assert_eq!(settings.state_dir, PathBuf::from("/var/lib/x"));
    assert_eq!(settings.on_tunnel, Some(bench.path("bin/hook")));
    assert_eq!(settings.identity.mqtt.alpn_protocols, [b"mqtt"]);
    assert!(settings.identity.tunnels.config.alpn_protocols.is_empty());
    assert_eq!(
        settings.limits,
        AgentLimits {
            tunnels: 1_000,
            connections: 16,
            ..AgentLimits::default()
        }
    );
    assert_eq!((log.verbosity, log.format), (Verbosity(5), Format::Json));
    let unix = format!("B -> {}", bench.path("b.sock").display());
    assert_eq!(
        settings.services.lines(),
        [
            "A -> /run/a.sock",
            &unix,
            "DB:1 -> db.lan:5432",
            "SSH -> 22",
            "* -> 9"
        ]
    );
}

#[test]
fn the_command_line_wins() {
    let bench = Bench::new();
    let text = format!("{SMALLEST}on_tunnel = 'file'\n[log]\nverbose = 5\nformat = 'json'\n");
    let args = AgentArgs {
        on_tunnel: Some("typed".into()),
        verbose: Some(2),
        log_format: Some(Format::Text),
        ..args()
    };
    let (settings, log) = bench.read_logged(&text, args).unwrap();
    assert_eq!(settings.on_tunnel, Some(bench.path("typed")));
    assert_eq!((log.verbosity, log.format), (Verbosity(2), Format::Text));
}

#[test]
fn port_443_is_asked_for_mqtt_by_its_name_at_aws() {
    let bench = Bench::new();
    let text = SMALLEST.replace("localhost:8883", "abc-ats.iot.eu-west-1.amazonaws.com:443");
    let settings = bench.read(&text).unwrap();
    assert_eq!(settings.identity.mqtt.alpn_protocols, [b"x-amzn-mqtt-ca"]);
    let settings = bench.read(&SMALLEST.replace(":8883", "")).unwrap();
    assert_eq!(settings.endpoint.port, 8_883);
}

/// Each with what the message and the hint have to say.
#[test]
fn mistakes_name_file_line_and_key() {
    let bench = Bench::new();
    let with = |line: &str| format!("{SMALLEST}{line}\n");
    let replaced = |from: &str, to: &str| SMALLEST.replace(from, to);
    for (text, message, hint) in [
        (
            with("endpont = 'x'"),
            "agent.toml:6: there is no key `endpont`",
            "`endpoint`",
        ),
        (
            with("password = 'x'"),
            "agent.toml:6: there is no key `password`",
            "the keys here are endpoint, ",
        ),
        (
            with("[limits]\ntunels = 3"),
            "agent.toml:7: there is no key `limits.tunels`",
            "`limits.tunnels`",
        ),
        (
            with("[limits]\ntunnels = 0"),
            "agent.toml:7: limits.tunnels: 0 is out of range",
            "1 to 1000",
        ),
        (
            with("[limits]\ntunnels = '3'"),
            "agent.toml:7: limits.tunnels: a number is wanted, not a text",
            "without quotes",
        ),
        (
            with("[limits]\nconnections = -1"),
            "agent.toml:7: limits.connections: -1",
            "1 to 1000000",
        ),
        (
            with("limits = 3"),
            "agent.toml:6: limits: a table is wanted, not a number",
            "[limits]",
        ),
        (
            with("[services]"),
            "agent.toml:6: services: no service is named",
            "SSH = 22",
        ),
        (
            with("[services]\nSSH = 0"),
            "agent.toml:7: services.SSH: `0`: port 0 is outside",
            "host:port",
        ),
        (
            with("[services]\nSSH = 'stdio:'"),
            "agent.toml:7: services.SSH: `stdio:`",
            "host:port",
        ),
        (
            with("[services]\nSSH = 'unix:'"),
            "agent.toml:7: services.SSH: there is no path",
            "unix:",
        ),
        (
            with("[services]\nSSH = true"),
            "agent.toml:7: services.SSH: a text is wanted, not true or false",
            "quotes",
        ),
        (
            with("[services]\n'a b' = 1"),
            "agent.toml:7: services.a b: service id has a character",
            "letters",
        ),
        (
            with("region = 'EU'"),
            "agent.toml:6: region: a region has",
            "eu-west-1",
        ),
        (
            with("alpn = ''"),
            "agent.toml:6: alpn: the text is empty",
            "leave the line out",
        ),
        (
            with("alpn = 'a b'"),
            "agent.toml:6: alpn: `a b` is no name",
            "x-amzn-mqtt-ca",
        ),
        (
            with("tunnel_endpoint = 'wss://x'"),
            "agent.toml:6: tunnel_endpoint: `wss://x`",
            "HOST:PORT",
        ),
        (
            with("[log]\nverbose = 7"),
            "agent.toml:7: log.verbose: 7 is out of range",
            "0 to 6",
        ),
        (
            with("[log]\nformat = 'xml'"),
            "agent.toml:7: log.format: `xml`",
            "json",
        ),
        (
            with("pin = 'sha1//x'"),
            "agent.toml:6: pin: the pin of key 1 does not begin with `sha256//`",
            "base64",
        ),
        (
            with("thing = 'twice'"),
            "agent.toml:6: not TOML: duplicate key",
            "",
        ),
        (with("ca"), "agent.toml:6: not TOML: ", "quotes"),
        (
            replaced("endpoint", "# "),
            "agent.toml: endpoint is missing",
            "endpoint = \"mqtt",
        ),
        (
            replaced("localhost:8883", "localhost:x"),
            "agent.toml:1: endpoint: `localhost:x`: port `x`",
            "HOST:PORT",
        ),
        (
            replaced("lamp", "lamp/#"),
            "agent.toml:4: thing: `lamp/#` is no name of a thing",
            "created",
        ),
        (
            replaced("device.pem", "none.pem"),
            "agent.toml:2: certificate: cannot read",
            "configuration file's",
        ),
        (
            replaced("device.pem", "device.key"),
            "agent.toml:2: certificate: ",
            "PEM file",
        ),
        (
            replaced("device.key", "open.key"),
            "agent.toml:3: key: ",
            "run: chmod 600 ",
        ),
        (
            replaced("device.key", "other.key"),
            "agent.toml:3: key: it is not the key of the certificate",
            "together",
        ),
        (
            replaced("ca.pem", "device.key"),
            "agent.toml:5: ca: ",
            "authority",
        ),
    ] {
        let fault = bench.read(&text).unwrap_err();
        assert!(fault.message().starts_with(message), "{message}: {fault:?}");
        assert!(fault.hint().contains(hint), "{hint}: {fault:?}");
        assert_eq!(fault.code(), ExitCode::BadConfiguration, "{fault:?}");
        assert!(!fault.message().contains('\n'), "{fault:?}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let bench = Bench::new();
    let args = AgentArgs {
        config: "none.toml".into(),
        ..args()
    };
    let mut log = LogSettings {
        verbosity: Verbosity::DEFAULT,
        format: Format::Text,
    };
    let fault = read(args, &world(bench.0.path()), &mut log).unwrap_err();
    assert!(
        fault.message().starts_with("--config: `none.toml`: "),
        "{fault:?}"
    );
}

#[test]
fn keys_of_a_hostile_file_move_no_cursor() {
    let bench = Bench::new();
    let fault = bench.read("\"\\u001b[2J\" = 1").unwrap_err();
    assert!(!fault.message().contains('\u{1b}'), "{fault:?}");
}

/// As a running agent does that was not told which services there are.
fn read_again(bench: &Bench, text: &str) -> Result<ServiceMap, BadInput> {
    bench.write("agent.toml", text, 0o644);
    read_services(&bench.path("agent.toml"), &ServiceMap::default())
}

#[test]
fn services_are_read_again_alone() {
    let bench = Bench::new();
    fs::remove_file(bench.path("device.key")).unwrap();
    let map = read_again(&bench, &format!("{SMALLEST}[services]\nX = 1")).unwrap();
    assert_eq!(map.names(), "X");
    assert!(read_again(&bench, &format!("{SMALLEST}[services]\nX = 0")).is_err());
}

/// An editor or a full disk may leave a part of a file, which names no service and means no change.
#[test]
fn services_of_a_file_that_was_cut_off_are_not_taken() {
    let bench = Bench::new();
    let (needed, _) = SMALLEST.split_once("ca =").unwrap();
    let mut text = needed.to_owned();
    while let Some(end) = text.trim_end().rfind('\n') {
        text.truncate(end + 1);
        let fault = read_again(&bench, &text).unwrap_err();
        assert!(fault.message().contains(" is missing"), "{fault:?}");
    }
    assert!(read_again(&bench, "").is_err());
    // What else is wrong would keep the next agent from starting.
    assert!(read_again(&bench, &format!("{SMALLEST}[limits]\ntunnels = 0")).is_err());
}

/// Whole by itself: only what was in force before tells it from a file that never had any.
#[test]
fn services_that_a_file_has_lost_are_not_taken_for_those_of_every_agent() {
    let bench = Bench::new();
    let whole = format!("{SMALLEST}[services]\nSSH = 2222\n");
    let in_force = bench.read(&whole).unwrap().services;
    let again = |text: &str, in_force: &ServiceMap| {
        bench.write("agent.toml", text, 0o644);
        read_services(&bench.path("agent.toml"), in_force)
    };
    let fault = again(SMALLEST, &in_force).unwrap_err();
    let message = fault.message();
    assert!(
        message.contains("agent.toml: [services] is missing"),
        "{message}"
    );
    assert!(fault.hint().contains("send SIGHUP again"), "{fault:?}");
    // Said in so many words, the same is taken, and can be lost as well.
    let said = format!("{SMALLEST}[services]\nSSH = 22\nVNC = 5900\n");
    let in_force = again(&said, &in_force).unwrap();
    assert_eq!(in_force.lines(), ServiceMap::default().lines());
    assert!(again(SMALLEST, &in_force).is_err());
    // A short file is as good as ever where none was in force, also at a reload.
    let in_force = bench.read(SMALLEST).unwrap().services;
    assert_eq!(again(SMALLEST, &in_force).unwrap(), ServiceMap::default());
    assert_eq!(again(&whole, &in_force).unwrap().names(), "SSH");
}
