//! From arguments to what will be done, checked.

use std::path::PathBuf;
use std::time::Duration;

use adit_engine::ring::IoChoice;
use adit_engine::tunnel::endpoint::{Endpoint, Excerpt};
use adit_engine::tunnel::mapping::Mapping;
use adit_proto::{Mode, ServiceId};
use serde_json::{Map, Value, json};

use crate::args::fleet::{
    ConnectArgs, CreateArgs, OpenArgs, RotateArgs, SshArgs, TagArgs, ThingArgs, ThingCommand,
    TunnelArgs, TunnelCommand,
};
use crate::aws::{Api, ApiSettings};
use crate::fault::BadInput;
use crate::settings::quantity::{Time, parse_time};
use crate::settings::service::{ServiceAddress, parse_address};
use crate::world::World;

/// `adit tunnel`.
#[derive(Debug)]
pub struct TunnelSettings {
    pub(super) api: ApiSettings,
    pub(super) is_json: bool,
    pub(super) action: TunnelAction,
}

#[derive(Debug)]
pub(super) enum TunnelAction {
    Open {
        input: Value,
        token_dir: Option<PathBuf>,
    },
    List {
        thing: Option<String>,
        only_open: bool,
    },
    Describe {
        id: String,
    },
    Close {
        ids: Vec<String>,
        delete: bool,
    },
    Rotate {
        input: Value,
        token_dir: Option<PathBuf>,
    },
    Tag {
        id: String,
        /// Key and value.
        set: Vec<(String, String)>,
        remove: Vec<String>,
    },
}

/// `adit thing`.
#[derive(Debug)]
pub struct ThingSettings {
    pub(super) api: ApiSettings,
    pub(super) is_json: bool,
    pub(super) action: ThingAction,
}

#[derive(Debug)]
pub(super) enum ThingAction {
    Create(CreateSettings),
    List,
    Describe { thing: String },
    Delete { thing: String, force: bool },
}

/// A thing to be, and the directory for its bundle.
#[derive(Debug)]
pub(crate) struct CreateSettings {
    pub(crate) thing: String,
    pub(crate) out: PathBuf,
    pub(crate) csr: Option<PathBuf>,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) policy: Option<String>,
    /// Name and place, as they will stand in the file.
    pub(crate) services: Vec<(String, String)>,
    pub(crate) mqtt_endpoint: Option<String>,
}

/// How a tunnel to a thing is come by.
#[derive(Clone, Debug)]
pub(super) struct SessionSettings {
    pub(super) thing: String,
    pub(super) services: Vec<ServiceId>,
    pub(super) lifetime: Duration,
    /// A tunnel that is open may be used.
    pub(super) may_reuse: bool,
    /// It stays open afterwards.
    pub(super) keep: bool,
    /// Where both sides connect to.
    pub(super) tunnel: ServiceAddress,
}

impl SessionSettings {
    /// The device and what is wanted of it, as the API has it.
    pub(super) fn destination(&self) -> Value {
        let services: Vec<&str> = self.services.iter().map(|id| id.as_str()).collect();
        json!({ "thingName": self.thing, "services": services })
    }
}

/// `adit ssh`.
#[derive(Debug)]
pub struct SshSettings {
    pub(super) api: ApiSettings,
    pub(super) session: SessionSettings,
    pub(super) user: Option<String>,
    pub(super) args: Vec<String>,
    pub(super) timeout: Duration,
    pub(super) io: IoChoice,
    pub(super) program: String,
}

/// `adit connect`.
#[derive(Debug)]
pub struct ConnectSettings {
    pub(super) api: ApiSettings,
    pub(super) session: SessionSettings,
    pub(super) mapping: Mapping,
    pub(super) local_host: String,
    pub(super) io: IoChoice,
    pub(super) is_json: bool,
}

/// Checks `adit tunnel`.
pub fn tunnel(args: TunnelArgs, world: &World) -> Result<TunnelSettings, BadInput> {
    let (action, is_json, api) = match args.command {
        TunnelCommand::Open(args) => {
            let token_dir = args.token_dir.as_ref().map(|dir| world.path(dir));
            let input = open_input(&args)?;
            (
                TunnelAction::Open { input, token_dir },
                args.form.json,
                args.api,
            )
        }
        TunnelCommand::List(args) => {
            let thing = args.thing.map(check_thing).transpose()?;
            let only_open = args.open;
            (
                TunnelAction::List { thing, only_open },
                args.form.json,
                args.api,
            )
        }
        TunnelCommand::Describe(args) => {
            let id = check_id(args.id)?;
            (TunnelAction::Describe { id }, args.form.json, args.api)
        }
        TunnelCommand::Close(args) => {
            let ids = args
                .id
                .into_iter()
                .map(check_id)
                .collect::<Result<_, _>>()?;
            let delete = args.delete;
            (
                TunnelAction::Close { ids, delete },
                args.form.json,
                args.api,
            )
        }
        TunnelCommand::Rotate(args) => {
            let token_dir = args.token_dir.as_ref().map(|dir| world.path(dir));
            let input = rotate_input(&args)?;
            (
                TunnelAction::Rotate { input, token_dir },
                args.form.json,
                args.api,
            )
        }
        TunnelCommand::Tag(args) => {
            let TagArgs {
                id,
                set,
                remove,
                form,
                api,
            } = args;
            let id = if id.starts_with("arn:") {
                id
            } else {
                check_id(id)?
            };
            let set = pairs("KEY=VALUE", &set)?;
            (TunnelAction::Tag { id, set, remove }, form.json, api)
        }
    };
    Ok(TunnelSettings {
        api: ApiSettings::resolve(&api, Api::Tunneling, world)?,
        is_json,
        action,
    })
}

/// Checks `adit thing`.
pub fn thing(args: ThingArgs, world: &World) -> Result<ThingSettings, BadInput> {
    let (action, is_json, api) = match args.command {
        ThingCommand::Create(args) => {
            let (is_json, api) = (args.form.json, args.api.clone());
            (ThingAction::Create(create(*args, world)?), is_json, api)
        }
        ThingCommand::List(args) => (ThingAction::List, args.form.json, args.api),
        ThingCommand::Describe(args) => {
            let thing = check_thing(args.thing)?;
            (ThingAction::Describe { thing }, args.form.json, args.api)
        }
        ThingCommand::Delete(args) => {
            let (thing, force) = (check_thing(args.thing)?, args.force);
            (
                ThingAction::Delete { thing, force },
                args.form.json,
                args.api,
            )
        }
    };
    Ok(ThingSettings {
        api: ApiSettings::resolve(&api, Api::Iot, world)?,
        is_json,
        action,
    })
}

/// Checks `adit ssh`.
pub fn ssh(args: SshArgs, world: &World) -> Result<SshSettings, BadInput> {
    let (user, thing) = match args.target.rsplit_once('@') {
        Some((user, thing)) => (Some(user.to_owned()), thing.to_owned()),
        None => (None, args.target),
    };
    // ssh would take it for an option, and options of ssh run programs.
    let is_option = |text: &str| text.is_empty() || text.starts_with('-');
    if user.as_deref().is_some_and(is_option) || thing.starts_with('-') {
        return Err(BadInput::usage(
            "the device or user begins with a dash or is empty, which ssh would take for an option",
            "write it like root@lamp-17",
        ));
    }
    let api = ApiSettings::resolve(&args.api, Api::Tunneling, world)?;
    let session = SessionSettings {
        thing: check_thing(thing)?,
        services: vec![service_id("--service", &args.service)?],
        lifetime: lifetime(&args.lifetime)?,
        may_reuse: !args.new,
        keep: args.keep,
        tunnel: tunnel_endpoint(&api)?,
    };
    Ok(SshSettings {
        session,
        api,
        user,
        args: args.args,
        timeout: time("--timeout", &args.timeout)?,
        io: args.io,
        program: args.ssh,
    })
}

/// Checks `adit connect`.
pub fn connect(args: ConnectArgs, world: &World) -> Result<ConnectSettings, BadInput> {
    let items = pairs("SERVICE=PORT", &args.service)?;
    let mut services = Vec::new();
    for (name, _) in &items {
        let id = service_id("SERVICE=PORT", name)?;
        if services.contains(&id) {
            return Err(BadInput::usage(
                format!("{id} is given more than once"),
                "give each service one place to listen",
            ));
        }
        services.push(id);
    }
    let mapping = Mapping::parse(&args.service.join(","), Mode::Source).map_err(|problem| {
        BadInput::usage(
            problem.to_string(),
            "write SERVICE=PORT, SERVICE=HOST:PORT or SERVICE=/path/of/a/socket",
        )
    })?;
    if mapping.is_stdio() {
        return Err(BadInput::usage(
            "`stdio:` is no place to listen for several connections",
            "give a port, or see `adit proxy --help`",
        ));
    }
    let api = ApiSettings::resolve(&args.api, Api::Tunneling, world)?;
    let session = SessionSettings {
        thing: check_thing(args.thing)?,
        services,
        lifetime: lifetime(&args.lifetime)?,
        may_reuse: !args.new,
        keep: args.keep,
        tunnel: tunnel_endpoint(&api)?,
    };
    Ok(ConnectSettings {
        api,
        session,
        mapping,
        local_host: args.local_bind_address,
        io: args.io,
        is_json: args.form.json,
    })
}

fn create(args: CreateArgs, world: &World) -> Result<CreateSettings, BadInput> {
    let thing = check_thing(args.thing)?;
    let mut services: Vec<(String, String)> = Vec::new();
    for (name, place) in pairs("--service", &args.service)? {
        service_id("--service", &name)?;
        if services.iter().any(|(earlier, _)| *earlier == name) {
            return Err(BadInput::usage(
                format!("--service {name} is given more than once"),
                "give each service one place, which the agent connects to",
            ));
        }
        let endpoint = Endpoint::parse(&place, Mode::Destination).map_err(|problem| {
            BadInput::usage(
                format!("--service {name}: {problem}"),
                "write NAME=PORT, NAME=HOST:PORT or NAME=unix:/path",
            )
        })?;
        services.push((name, as_written(&endpoint, &place)));
    }
    if let Some(text) = &args.mqtt_endpoint {
        parse_address(text, 8883).map_err(|problem| {
            BadInput::usage(
                format!("--mqtt-endpoint: `{}`: {problem}", Excerpt(text)),
                "write HOST or HOST:PORT, for example mqtt.example.org:8883",
            )
        })?;
    }
    Ok(CreateSettings {
        out: world.path(args.out.unwrap_or_else(|| PathBuf::from(&thing))),
        thing,
        csr: args.csr.map(|file| world.path(file)),
        attributes: pairs("--attribute", &args.attribute)?,
        policy: args.policy,
        services,
        mqtt_endpoint: args.mqtt_endpoint,
    })
}

/// A port as a number of TOML, which has no leading zeros, and any other place as it was typed.
fn as_written(endpoint: &Endpoint, typed: &str) -> String {
    match endpoint {
        Endpoint::Tcp { host: None, port } => port.to_string(),
        Endpoint::Tcp { .. } | Endpoint::Unix(_) | Endpoint::Stdio => typed.trim().to_owned(),
    }
}

fn open_input(args: &OpenArgs) -> Result<Value, BadInput> {
    let mut input = Map::new();
    if let Some(text) = &args.description {
        input.insert("description".into(), json!(text));
    }
    if let Some(text) = &args.lifetime {
        let minutes = minutes(lifetime(text)?);
        input.insert(
            "timeoutConfig".into(),
            json!({ "maxLifetimeTimeoutMinutes": minutes }),
        );
    }
    let tags = pairs("--tag", &args.tag)?;
    if !tags.is_empty() {
        input.insert("tags".into(), tag_list(&tags));
    }
    if let Some(config) = destination_config(args.thing.as_deref(), &args.service)? {
        input.insert("destinationConfig".into(), config);
    }
    Ok(Value::Object(input))
}

fn rotate_input(args: &RotateArgs) -> Result<Value, BadInput> {
    let mut input = Map::new();
    input.insert("tunnelId".into(), json!(check_id(args.id.clone())?));
    input.insert("clientMode".into(), json!(args.side.to_ascii_uppercase()));
    let config = destination_config(args.thing.as_deref(), &args.service)?;
    if let Some(config) = config {
        if args.side == "source" {
            return Err(BadInput::usage(
                "--side source does not go with --thing and --service",
                "they are about the destination: give --side destination or all",
            ));
        }
        input.insert("destinationConfig".into(), config);
    }
    Ok(Value::Object(input))
}

fn destination_config(thing: Option<&str>, services: &[String]) -> Result<Option<Value>, BadInput> {
    for service in services {
        service_id("--service", service)?;
    }
    let thing = thing
        .map(|thing| check_thing(thing.to_owned()))
        .transpose()?;
    Ok(match (thing, services) {
        (None, []) => None,
        (Some(_), []) => {
            return Err(BadInput::usage(
                "--thing is given and no --service",
                "say what the device shall offer, for example --service SSH",
            ));
        }
        (None, services) => Some(json!({ "services": services })),
        (Some(thing), services) => Some(json!({ "thingName": thing, "services": services })),
    })
}

/// As the API wants tags.
pub(super) fn tag_list(tags: &[(String, String)]) -> Value {
    let tags = tags
        .iter()
        .map(|(key, value)| json!({ "key": key, "value": value }));
    tags.collect()
}

/// Whole minutes of a lifetime.
pub(super) fn minutes(lifetime: Duration) -> u64 {
    lifetime.as_secs() / 60
}

fn pairs(option: &str, texts: &[String]) -> Result<Vec<(String, String)>, BadInput> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(BadInput::usage(
            format!("{option}: `{}` has no `=` behind a name", Excerpt(text)),
            format!(
                "write it like {}",
                if option == "SERVICE=PORT" {
                    "SSH=2222"
                } else {
                    "name=value"
                }
            ),
        )),
    };
    texts.iter().map(pair).collect()
}

fn check_thing(text: String) -> Result<String, BadInput> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":_-".contains(&byte);
    if (1..=128).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(text);
    }
    Err(BadInput::usage(
        format!("`{}` is no name of a thing", Excerpt(&text)),
        "a thing has 1 to 128 letters, digits, `:`, `_` and `-`; `adit thing list` shows them",
    ))
}

fn check_id(text: String) -> Result<String, BadInput> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-+=:".contains(&byte);
    if (1..=128).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(text);
    }
    Err(BadInput::usage(
        format!("`{}` is no id of a tunnel", Excerpt(&text)),
        "`adit tunnel list` shows the ids",
    ))
}

fn service_id(option: &str, text: &str) -> Result<ServiceId, BadInput> {
    text.parse().map_err(|problem| {
        BadInput::usage(
            format!("{option}: `{}`: {problem}", Excerpt(text)),
            "a service is named like SSH: 1 to 128 letters, digits, `:`, `_` and `-`",
        )
    })
}

fn time(option: &str, text: &str) -> Result<Duration, BadInput> {
    parse_time(text).ok_or_else(|| {
        BadInput::usage(
            format!("{option}: `{}` is no time", Excerpt(text)),
            "write it like 30s, 5m or 2h",
        )
    })
}

fn lifetime(text: &str) -> Result<Duration, BadInput> {
    let found = time("--lifetime", text)?;
    let is_whole = found.subsec_nanos() == 0 && found.as_secs().is_multiple_of(60);
    if is_whole && (1..=LIFETIME_MINUTES_MAX).contains(&minutes(found)) {
        return Ok(found);
    }
    Err(BadInput::usage(
        format!("--lifetime: {} is not allowed", Time(found)),
        "allowed are whole minutes from 1m to 12h",
    ))
}

fn tunnel_endpoint(api: &ApiSettings) -> Result<ServiceAddress, BadInput> {
    api.tunnel.clone().ok_or_else(|| {
        BadInput::usage(
            "where tunnels are carried is not known: the endpoint of the API does not say it",
            "add --tunnel-endpoint HOST:PORT, what `adit serve` prints as `tunnel`",
        )
    })
}

const LIFETIME_MINUTES_MAX: u64 = 720;

#[cfg(test)]
mod tests;
