//! From options, environment and files to everything that a call needs.
//!
//! | | first that is there |
//! | --- | --- |
//! | endpoint | `--endpoint`; `--data-dir`; `AWS_ENDPOINT_URL_…` of the API; `AWS_ENDPOINT_URL`; the profile's `services`; its `endpoint_url`; AWS's own of the region |
//! | key | `--data-dir` or `--profile`; environment; the profile `AWS_PROFILE` or `default` |
//! | region | `--region`; `AWS_REGION`; `AWS_DEFAULT_REGION`; the profile; for endpoints that are not AWS's: `us-east-1` |
//! | authority | `--ca-bundle`; `--data-dir`; `AWS_CA_BUNDLE`; the profile's `ca_bundle` |
//! | web proxy | `https_proxy`, but for the hosts of `no_proxy` |

use std::path::{Path, PathBuf};

use adit_engine::tunnel::endpoint::Excerpt;
use adit_proto::escape::Escaped;
use adit_service::access::sigv4::Credentials;
use serde::Deserialize;

use super::credentials;
use super::endpoint::{Api, Endpoint, aws_suffix};
use super::sources::{Sources, text};
use crate::args::fleet::ApiArgs;
use crate::fault::BadInput;
use crate::settings::service::{DEFAULT_PORT, REGION_SIZE_MAX, ServiceAddress, parse_address};
use crate::settings::web_proxies::WebProxies;
use crate::world::{FILE_SIZE_MAX, World, read_text};

/// Everything that calls of the APIs need.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// Of the tunnelling API.
    pub(crate) tunneling: Endpoint,
    /// Of the registry.
    pub(crate) iot: Endpoint,
    /// In the scope of signatures.
    pub(crate) region: String,
    /// Who calls; `None`: requests are not signed.
    pub(crate) credentials: Option<Credentials>,
    /// Trusted besides the system's authorities.
    pub(crate) ca: Option<PathBuf>,
    /// Where both sides of a tunnel connect to, if that is known without being told.
    pub(crate) tunnel: Option<ServiceAddress>,
    /// Where devices hear of tunnels, if a service on this machine said so.
    pub(crate) mqtt: Option<String>,
    /// The way there.
    pub(crate) web_proxies: WebProxies,
}

impl ApiSettings {
    /// Finds everything out, for a command that calls `api`. Reads files, calls nobody.
    ///
    /// # Errors
    /// Something cannot be used or is missing; every place that was looked at is named.
    pub fn resolve(args: &ApiArgs, api: Api, world: &World) -> Result<Self, BadInput> {
        let local = args
            .data_dir
            .as_deref()
            .map(|dir| Local::read(&world.path(dir)));
        let local = local.transpose()?;
        let profile = args.profile.as_deref();
        let user = match &local {
            None => Some(Sources::of_user(world, profile)?),
            Some(_) => None,
        };
        let given = Given {
            args,
            world,
            local: local.as_ref(),
            sources: user.as_ref(),
        };
        let (tunneling, iot) = (given.endpoint(Api::Tunneling)?, given.endpoint(Api::Iot)?);
        let is_aws = match api {
            Api::Tunneling => tunneling.is_none(),
            Api::Iot => iot.is_none(),
        };
        let region = given.region(is_aws)?;
        let carries_at_aws = is_aws && tunneling.is_none();
        let credentials = match (&local, &user) {
            _ if args.no_sign_request => None,
            (Some(local), _) => {
                let sources = Sources::of_service(&local.dir, profile)?;
                Some(credentials::find(world, &sources)?)
            }
            (None, Some(sources)) => Some(credentials::find(world, sources)?),
            (None, None) => None,
        };
        Ok(Self {
            tunneling: tunneling.unwrap_or_else(|| Api::Tunneling.of_aws(&region)),
            iot: iot.unwrap_or_else(|| Api::Iot.of_aws(&region)),
            credentials,
            ca: given.ca()?,
            tunnel: given.tunnel(carries_at_aws.then_some(region.as_str()))?,
            mqtt: local.and_then(|local| local.mqtt),
            web_proxies: WebProxies::from_environment(world)?,
            region,
        })
    }

    /// Whether AWS carries the tunnels; agents know its endpoint without being told.
    pub(crate) fn carries_at_aws(&self) -> bool {
        self.tunnel.as_ref() == Some(&carried_by_aws(&self.region))
    }
}

/// AWS's data plane of a region (control-plane specification, section 1).
fn carried_by_aws(region: &str) -> ServiceAddress {
    ServiceAddress {
        host: format!("data.tunneling.iot.{region}.{}", aws_suffix(region)),
        port: DEFAULT_PORT,
    }
}

/// The sources, while they are asked one after the other.
struct Given<'a> {
    args: &'a ApiArgs,
    world: &'a World,
    local: Option<&'a Local>,
    /// Absent where a local service says everything.
    sources: Option<&'a Sources>,
}

impl Given<'_> {
    /// `None`: AWS's own.
    fn endpoint(&self, api: Api) -> Result<Option<Endpoint>, BadInput> {
        let read = |name: &str, url: &str| {
            Endpoint::parse(url).map(Some).map_err(|problem| {
                let hint = "write it like https://tunnels.example.org:7401";
                BadInput::usage(format!("{name}: {problem}"), hint)
            })
        };
        if let Some(url) = &self.args.endpoint {
            return read("--endpoint", url);
        }
        if let Some(local) = self.local {
            return read("--data-dir: endpoints.json", &local.api);
        }
        if self.ignores_configured()? {
            return Ok(None);
        }
        for variable in [api.variable(), "AWS_ENDPOINT_URL"] {
            if let Some(url) = text(self.world, variable)? {
                return read(variable, url);
            }
        }
        let Some(sources) = self.sources else {
            return Ok(None);
        };
        let url = sources.service_url(api.config_key());
        match url.or_else(|| sources.setting("endpoint_url")) {
            Some(url) => read(&format!("{}: endpoint_url", sources.config_name), url),
            None => Ok(None),
        }
    }

    fn ignores_configured(&self) -> Result<bool, BadInput> {
        let variable = text(self.world, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")?;
        let setting = || self.sources?.setting("ignore_configured_endpoint_urls");
        Ok(variable
            .or_else(setting)
            .is_some_and(|word| word.eq_ignore_ascii_case("true")))
    }

    fn region(&self, names_aws: bool) -> Result<String, BadInput> {
        let mut found = self
            .args
            .region
            .as_deref()
            .map(|region| ("--region", region));
        for variable in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
            if found.is_none() {
                found = text(self.world, variable)?.map(|region| (variable, region));
            }
        }
        let setting = || Some(("the profile's region", self.sources?.setting("region")?));
        let Some((name, region)) = found.or_else(setting) else {
            if !names_aws {
                return Ok(DEFAULT_REGION.to_owned());
            }
            return Err(BadInput::usage(
                "no region is given, and no endpoint",
                "give --data-dir DIR of an `adit serve` on this machine, --endpoint URL of another one, or \
                 --region REGION for AWS",
            ));
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if region.len() > REGION_SIZE_MAX || !region.bytes().all(allowed) || region.is_empty() {
            return Err(BadInput::usage(
                format!("{name}: `{}` is no region", Excerpt(region)),
                "a region is like eu-west-1",
            ));
        }
        Ok(region.to_owned())
    }

    fn ca(&self) -> Result<Option<PathBuf>, BadInput> {
        if let Some(path) = &self.args.ca_bundle {
            return Ok(Some(self.world.path(path)));
        }
        if let Some(local) = self.local {
            return Ok(Some(local.dir.join("ca.pem")));
        }
        let variable = text(self.world, "AWS_CA_BUNDLE")?;
        let path = variable.or_else(|| self.sources?.setting("ca_bundle"));
        Ok(path.map(|path| self.world.path(path)))
    }

    fn tunnel(&self, aws_region: Option<&str>) -> Result<Option<ServiceAddress>, BadInput> {
        let named = match &self.args.tunnel_endpoint {
            Some(text) => Some(("--tunnel-endpoint", text.as_str())),
            None => match self.local {
                Some(local) => Some(("--data-dir: endpoints.json", local.tunnel.as_str())),
                None => text(self.world, TUNNEL_VARIABLE)?.map(|text| (TUNNEL_VARIABLE, text)),
            },
        };
        let Some((name, text)) = named else {
            return Ok(aws_region.map(carried_by_aws));
        };
        let address = parse_address(text, DEFAULT_PORT).map_err(|problem| {
            BadInput::usage(
                format!("{name}: `{}`: {problem}", Excerpt(text)),
                "write HOST, HOST:PORT or [IPV6]:PORT, for example tunnels.example.org:7443",
            )
        })?;
        Ok(Some(address))
    }
}

/// What a service on this machine left in its data directory.
struct Local {
    dir: PathBuf,
    api: String,
    tunnel: String,
    mqtt: Option<String>,
}

impl Local {
    fn read(dir: &Path) -> Result<Self, BadInput> {
        #[derive(Deserialize)]
        struct Document {
            api: String,
            tunnel: String,
            mqtt: Option<String>,
        }
        let file = dir.join("endpoints.json");
        let shown = file.to_string_lossy().into_owned();
        let fault = |problem: String| {
            BadInput::fatal(
                format!("--data-dir: {}: {problem}", Escaped(&shown)),
                format!(
                    "the file is there while the service runs; start it: adit serve --data-dir {}",
                    Escaped(&dir.to_string_lossy())
                ),
            )
        };
        let text = read_text(&file, FILE_SIZE_MAX).map_err(|error| fault(error.to_string()))?;
        let Document { api, tunnel, mqtt } = serde_json::from_str(&text)
            .map_err(|_| fault("not what `adit serve` writes".to_owned()))?;
        Ok(Self {
            dir: dir.to_owned(),
            api,
            tunnel,
            mqtt,
        })
    }
}

/// Where endpoints are not AWS's, a region is a label.
const DEFAULT_REGION: &str = "us-east-1";

/// As the proxies of AWS read it.
const TUNNEL_VARIABLE: &str = "AWSIOT_TUNNEL_ENDPOINT";

#[cfg(test)]
mod tests;
