use std::ffi::OsString;
use std::path::Path;

use super::*;
use crate::agent::config::read_services;
use crate::agent::services::ServiceMap;
use crate::args::command::{Request, parse};
use crate::fleet::bundle::{AGENT, Agent, Bundle};
use crate::world::testing::world;

fn asked(line: &str) -> Result<Request, BadInput> {
    let words = line.split(' ').filter(|word| !word.is_empty());
    let words = words.map(|word| OsString::from(word.replace('_', " ")));
    parse(&words.collect::<Vec<_>>())
}

const AWS: &str = "--region eu-west-1 --no-sign-request";

fn tunnel_action(line: &str) -> Result<TunnelAction, BadInput> {
    match asked(&format!("tunnel {line} {AWS}"))? {
        Request::Tunnel(args) => Ok(tunnel(args, &world(Path::new("/w")))?.action),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn every_member_of_open_is_reached() {
    let line = "open --thing lamp --service SSH --service WEB --description two_words --lifetime 30m \
                --tag k=v --tag a=b=c --tag empty=";
    let Ok(TunnelAction::Open { input, token_dir }) = tunnel_action(line) else {
        panic!("open");
    };
    assert_eq!(token_dir, None);
    let expected = json!({
        "description": "two words",
        "destinationConfig": { "thingName": "lamp", "services": ["SSH", "WEB"] },
        "timeoutConfig": { "maxLifetimeTimeoutMinutes": 30 },
        "tags": [
            { "key": "k", "value": "v" }, { "key": "a", "value": "b=c" }, { "key": "empty", "value": "" },
        ],
    });
    assert_eq!(input, expected);
    let Ok(TunnelAction::Open { input, token_dir }) = tunnel_action("open --token-dir d") else {
        panic!("open");
    };
    assert_eq!((input, token_dir), (json!({}), Some(PathBuf::from("/w/d"))));
}

#[test]
fn rotation_names_its_side_and_where_to() {
    let Ok(TunnelAction::Rotate { input, .. }) = tunnel_action("rotate t1 --side all") else {
        panic!("rotate");
    };
    assert_eq!(input, json!({ "tunnelId": "t1", "clientMode": "ALL" }));
    let line = "rotate t1 --side destination --thing lamp --service SSH";
    let Ok(TunnelAction::Rotate { input, .. }) = tunnel_action(line) else {
        panic!("rotate");
    };
    assert_eq!(input["destinationConfig"]["thingName"], "lamp");
}

#[test]
fn mistakes_are_named_before_anybody_is_called() {
    for (line, message) in [
        (
            "tunnel open --thing lamp",
            "--thing is given and no --service",
        ),
        (
            "tunnel open --thing a/b --service SSH",
            "`a/b` is no name of a thing",
        ),
        ("tunnel open --service a_b", "--service: `a b`"),
        (
            "tunnel open --lifetime 13h",
            "--lifetime: 13h is not allowed",
        ),
        (
            "tunnel open --lifetime 30",
            "--lifetime: 30s is not allowed",
        ),
        (
            "tunnel open --lifetime soon",
            "--lifetime: `soon` is no time",
        ),
        ("tunnel open --tag novalue", "--tag: `novalue`"),
        ("tunnel describe a/b", "`a/b` is no id"),
        ("tunnel close", "<ID>... is missing"),
        ("tunnel rotate t1", "--side is missing"),
        ("tunnel rotate t1 --side both", "--side: `both`"),
        (
            "tunnel rotate t1 --side source --service SSH",
            "--side source does not go with",
        ),
        ("tunnel opne", "there is no command `opne`"),
        ("thing describe lämp", "`lämp` is no name"),
        ("thing create lamp --service SSH=0", "--service SSH:"),
        (
            "thing create lamp --service SSH=22 --service SSH=2222",
            "--service SSH is given more than once",
        ),
        (
            "thing create lamp --mqtt-endpoint wss://h",
            "--mqtt-endpoint: `wss://h`",
        ),
        ("ssh -- x", "<[USER@]THING> is missing"),
        (
            "ssh @lamp",
            "the device or user begins with a dash or is empty",
        ),
        ("ssh -oProxyCommand=x@lamp", "there is no option"),
        ("ssh u@-lamp", "the device or user begins with a dash"),
        ("ssh lamp --timeout x", "--timeout: `x` is no time"),
        ("connect lamp", "<SERVICE=PORT>... is missing"),
        ("connect lamp 2222", "SERVICE=PORT: `2222` has no `=`"),
        ("connect lamp SSH=1 SSH=2", "SSH is given more than once"),
        ("connect lamp SSH=0", "port 0"),
        ("connect lamp SSH=stdio:", "`stdio:` is no place"),
    ] {
        let world = world(Path::new("/w"));
        let fault = asked(&format!("{line} {AWS}")).and_then(|request| match request {
            Request::Tunnel(args) => tunnel(args, &world).map(drop),
            Request::Thing(args) => thing(args, &world).map(drop),
            Request::Ssh(args) => ssh(*args, &world).map(drop),
            Request::Connect(args) => connect(*args, &world).map(drop),
            other => panic!("{line}: {other:?}"),
        });
        let fault = fault.expect_err(line);
        assert!(fault.message().contains(message), "{line}: {fault:?}");
        assert!(!fault.hint().is_empty(), "{line}: {fault:?}");
    }
}

/// However a place was typed, it is one that the agent takes.
#[test]
fn what_is_written_for_the_agent_is_what_it_reads() {
    let line = "thing create lamp --service SSH=022 --service WEB=_80_ --service DB=db.lan:05432 \
                --service APP=unix:/run/\"\u{7f}\\.sock";
    let Ok(Request::Thing(args)) = asked(&format!("{line} {AWS}")) else {
        panic!("{line}");
    };
    let settings = thing(args, &world(Path::new("/w"))).unwrap();
    let ThingAction::Create(settings) = settings.action else {
        panic!("{line}");
    };
    let directory = tempfile::tempdir().unwrap();
    let agent = Agent {
        thing: &settings.thing,
        endpoint: Some("localhost:8883"),
        services: &settings.services,
        ..Agent::default()
    };
    let bundle = Bundle::open(directory.path()).unwrap();
    assert!(bundle.keep_agent(&agent).unwrap());
    let read = read_services(&bundle.path(AGENT), &ServiceMap::default()).unwrap();
    let app = r#"APP -> /run/"\u{7f}\.sock"#;
    let expected = [app, "DB -> db.lan:5432", "SSH -> 22", "WEB -> 80"];
    assert_eq!(read.lines(), expected);
}

#[test]
fn ssh_gets_everything_behind_the_dashes() {
    let Ok(Request::Ssh(args)) = asked(&format!("ssh root@lamp {AWS} -- -p 1 uptime")) else {
        panic!("ssh");
    };
    let settings = ssh(*args, &world(Path::new("/w"))).unwrap();
    assert_eq!(settings.user.as_deref(), Some("root"));
    assert_eq!(settings.session.thing, "lamp");
    assert_eq!(settings.args, ["-p", "1", "uptime"]);
    assert_eq!(settings.timeout, Duration::from_secs(60));
    let carried = settings.session.tunnel.to_string();
    assert_eq!(carried, "data.tunneling.iot.eu-west-1.amazonaws.com:443");
}

#[test]
fn another_service_has_to_say_where_it_carries_tunnels() {
    let line = "ssh lamp --no-sign-request --endpoint https://h:1";
    let Ok(Request::Ssh(args)) = asked(line) else {
        panic!("ssh");
    };
    let fault = ssh(*args, &world(Path::new("/w"))).unwrap_err();
    assert!(fault.hint().contains("--tunnel-endpoint"), "{fault:?}");
    let Ok(Request::Ssh(args)) = asked(&format!("{line} --tunnel-endpoint h:2")) else {
        panic!("ssh");
    };
    let settings = ssh(*args, &world(Path::new("/w"))).unwrap();
    assert_eq!(settings.session.tunnel.to_string(), "h:2");
}
