//! AWS's files, found and read.

use std::io;
use std::path::{Path, PathBuf};

use adit_proto::escape::Escaped;
use zeroize::Zeroizing;

use super::profile::{Kind, Profiles};
use crate::fault::BadInput;
use crate::world::{FILE_SIZE_MAX, World, read_text};

/// Both files, and which profile of them counts.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) credentials: Profiles,
    pub(super) config: Profiles,
    /// How messages call them; empty where there is none.
    pub(super) credentials_name: String,
    pub(super) config_name: String,
    pub(super) profile: String,
    is_explicit: bool,
}

impl Sources {
    /// Reads the user's own files. `profile` is that of the option.
    pub(super) fn of_user(world: &World, profile: Option<&str>) -> Result<Self, BadInput> {
        let credentials = place(world, "AWS_SHARED_CREDENTIALS_FILE", "credentials")?;
        let config = place(world, "AWS_CONFIG_FILE", "config")?;
        let named = match profile {
            Some(profile) => Some(profile),
            None => match text(world, "AWS_PROFILE")? {
                Some(profile) => Some(profile),
                None => text(world, "AWS_DEFAULT_PROFILE")?,
            },
        };
        let sources = Self {
            credentials: read(credentials.as_deref(), Kind::Credentials)?,
            config: read(config.as_deref(), Kind::Config)?,
            credentials_name: shown(credentials.as_deref()),
            config_name: shown(config.as_deref()),
            profile: named.unwrap_or("default").to_owned(),
            is_explicit: profile.is_some(),
        };
        Ok(sources)
    }

    /// Reads the file that `adit serve` leaves in its data directory.
    pub(super) fn of_service(dir: &Path, profile: Option<&str>) -> Result<Self, BadInput> {
        let file = dir.join("credentials");
        if !file.exists() {
            let shown = shown(Some(&file));
            return Err(BadInput::fatal(
                format!("--data-dir: there is no {shown}"),
                "give the data directory of an `adit serve` that has been started once; where that takes \
                 unsigned requests, add --no-sign-request",
            ));
        }
        Ok(Self {
            credentials: read(Some(&file), Kind::Credentials)?,
            config: Profiles::default(),
            credentials_name: shown(Some(&file)),
            config_name: String::new(),
            profile: profile.unwrap_or("adit").to_owned(),
            is_explicit: true,
        })
    }

    /// A profile named by an option beats the keys of the environment.
    pub(super) fn is_profile_asked_for(&self) -> bool {
        self.is_explicit
    }

    /// A setting of the profile: of the config file, as with AWS, or of the credentials file, where AWS
    /// takes it too.
    pub(super) fn setting(&self, key: &str) -> Option<&str> {
        let config = self.config.profile(&self.profile);
        let credentials = self.credentials.profile(&self.profile);
        config
            .and_then(|section| section.value(key))
            .or_else(|| credentials.and_then(|section| section.value(key)))
    }

    /// The URL that the profile's `services` have for an API.
    pub(super) fn service_url(&self, api: &str) -> Option<&str> {
        let services = self.config.services(self.setting("services")?)?;
        services.nested(api, "endpoint_url")
    }
}

/// Where a file is: the variable, or `~/.aws/NAME`.
fn place(world: &World, variable: &str, name: &str) -> Result<Option<PathBuf>, BadInput> {
    let home = world.variable("HOME").map(PathBuf::from);
    Ok(match text(world, variable)? {
        Some(path) => match (path.strip_prefix("~/"), &home) {
            (Some(rest), Some(home)) => Some(home.join(rest)),
            _ => Some(world.path(path)),
        },
        None => home.map(|home| home.join(".aws").join(name)),
    })
}

/// A file that does not exist is empty, as for AWS's tools.
fn read(path: Option<&Path>, kind: Kind) -> Result<Profiles, BadInput> {
    let Some(path) = path else {
        return Ok(Profiles::default());
    };
    let text = match read_text(path, FILE_SIZE_MAX) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if is_absent(&error) => return Ok(Profiles::default()),
        Err(error) => {
            return Err(BadInput::fatal(
                format!("{}: {error}", shown(Some(path))),
                "give a file that this user can read, or none",
            )
            .in_file());
        }
    };
    Profiles::parse(&text, kind).map_err(|fault| {
        BadInput::fatal(
            format!("{}:{fault}", shown(Some(path))),
            "a file of AWS's format has [sections] with lines key = value",
        )
        .in_file()
    })
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn shown(path: Option<&Path>) -> String {
    path.map(|path| Escaped(&path.to_string_lossy()).to_string())
        .unwrap_or_default()
}

/// The value of a variable; an empty one counts as unset, as it does for AWS's tools.
pub(super) fn text<'a>(world: &'a World, name: &str) -> Result<Option<&'a str>, BadInput> {
    let Some(value) = world.variable(name) else {
        return Ok(None);
    };
    match value.to_str() {
        Some("") => Ok(None),
        Some(text) => Ok(Some(text)),
        None => Err(BadInput::fatal(
            format!("{name}: the value is not valid UTF-8"),
            "write it in UTF-8, or unset it",
        )),
    }
}
