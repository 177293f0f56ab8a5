//! Who calls: an access key from the environment or from AWS's files.

use adit_proto::Secret;
use adit_proto::escape::Escaped;
use adit_service::access::sigv4::Credentials;

use super::profile::Section;
use super::sources::{Sources, text};
use crate::fault::BadInput;
use crate::world::World;

/// Finds the access key: environment (unless a profile was asked for by an option), then the profile in
/// the credentials file, then in the config file.
///
/// A profile can get its keys in other ways, too, and each has its place in that order, as AWS's tools have
/// it. They are looked for there: the keys beside a role are those of whoever takes it, in another account
/// maybe, and must not be used in its place.
///
/// # Errors
/// There is none, half of one, or the profile gets its keys in a way that is not supported; the message
/// names every place that was looked at.
pub(super) fn find(world: &World, sources: &Sources) -> Result<Credentials, BadInput> {
    if !sources.is_profile_asked_for()
        && let Some(found) = from_environment(world)?
    {
        return Ok(found);
    }
    let credentials = sources.credentials.profile(&sources.profile);
    let config = sources.config.profile(&sources.profile);
    refuse_ways(&BEFORE_CREDENTIALS, sources)?;
    if let Some(found) = from_section(credentials, &sources.credentials_name, &sources.profile)? {
        return Ok(found);
    }
    refuse_ways(&BEFORE_CONFIG, sources)?;
    if let Some(found) = from_section(config, &sources.config_name, &sources.profile)? {
        return Ok(found);
    }
    refuse_ways(&PARTS_OF_WAYS, sources)?;
    Err(missing(sources))
}

fn from_environment(world: &World) -> Result<Option<Credentials>, BadInput> {
    let id = text(world, ACCESS_KEY_ID)?;
    let secret = text(world, SECRET_ACCESS_KEY)?;
    let token = text(world, SESSION_TOKEN)?;
    match (id, secret) {
        (Some(id), Some(secret)) => {
            check_id(ACCESS_KEY_ID, id)?;
            check_session_token(SESSION_TOKEN, token)?;
            Ok(Some(credentials(id, secret, token)))
        }
        (None, None) => Ok(None),
        (Some(_), None) => Err(half(ACCESS_KEY_ID, SECRET_ACCESS_KEY)),
        (None, Some(_)) => Err(half(SECRET_ACCESS_KEY, ACCESS_KEY_ID)),
    }
}

fn from_section(
    section: Option<&Section>,
    file: &str,
    profile: &str,
) -> Result<Option<Credentials>, BadInput> {
    let value = |key: &str| section?.value(key);
    let half = |there: &str, missing: &str| {
        BadInput::fatal(
            format!(
                "{file}: profile `{}` has {there} and no {missing}",
                Escaped(profile)
            ),
            format!("add the line {missing} = …"),
        )
        .in_file()
    };
    match (value("aws_access_key_id"), value("aws_secret_access_key")) {
        (Some(id), Some(secret)) => {
            let token = value("aws_session_token");
            let place = |key: &str| format!("{file}: profile `{}`: {key}", Escaped(profile));
            check_id(&place("aws_access_key_id"), id).map_err(BadInput::in_file)?;
            check_session_token(&place("aws_session_token"), token).map_err(BadInput::in_file)?;
            Ok(Some(credentials(id, secret, token)))
        }
        (None, None) => Ok(None),
        (Some(_), None) => Err(half("aws_access_key_id", "aws_secret_access_key")),
        (None, Some(_)) => Err(half("aws_secret_access_key", "aws_access_key_id")),
    }
}

/// An id stands among other things in the `Authorization` header, and a `,` or `/` in it would change what
/// they are. The message does not repeat it: where id and secret were swapped, it is the secret.
fn check_id(place: &str, id: &str) -> Result<(), BadInput> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let problem = match id.chars().position(|character| !allowed(character)) {
        Some(at) => format!("character {} is no letter, digit or _", at + 1),
        None if id.len() > ID_SIZE_MAX => {
            format!(
                "it has {} characters, and {ID_SIZE_MAX} is the limit",
                id.len()
            )
        }
        None => return Ok(()),
    };
    Err(BadInput::fatal(
        format!("{place}: this is no access key id: {problem}"),
        "copy it again; it is the shorter one of the two, like AKIAIOSFODNN7EXAMPLE",
    ))
}

/// It has a header of its own.
fn check_session_token(place: &str, token: Option<&str>) -> Result<(), BadInput> {
    let Some(at) = token.and_then(|token| token.chars().position(|it| !it.is_ascii_graphic()))
    else {
        return Ok(());
    };
    Err(BadInput::fatal(
        format!(
            "{place}: this is no session token: character {} is not visible ASCII",
            at + 1
        ),
        "copy it again, in one line",
    ))
}

fn credentials(id: &str, secret: &str, token: Option<&str>) -> Credentials {
    let secret_of = |text: &str| Secret::new(text.to_owned());
    Credentials {
        access_key_id: id.to_owned(),
        secret_access_key: secret_of(secret),
        session_token: token.map(secret_of),
    }
}

fn half(there: &str, missing: &str) -> BadInput {
    BadInput::usage(
        format!("{there} is set and {missing} is not"),
        format!("set {missing} too, or unset {there} to use the credentials file"),
    )
}

/// Ways to get keys that need a program or a service of AWS: AWS's own tool knows them all. Either file may
/// name them.
fn refuse_ways(ways: &[&str], sources: &Sources) -> Result<(), BadInput> {
    let Some(key) = ways.iter().find(|key| sources.setting(key).is_some()) else {
        return Ok(());
    };
    let profile = Escaped(&sources.profile);
    // Which would still name the profile, and beat what was exported.
    let then = match sources.is_profile_asked_for() {
        true => "; then leave --profile out",
        false => "",
    };
    Err(BadInput::fatal(
        format!("profile `{profile}` gets its keys by {key}, which adit cannot do"),
        format!(
            "let the AWS CLI do it: eval \"$(aws configure export-credentials --profile {profile} --format env)\"{then}"
        ),
    )
    .in_file())
}

fn missing(sources: &Sources) -> BadInput {
    let profile = Escaped(&sources.profile);
    let mut looked = Vec::new();
    if !sources.is_profile_asked_for() {
        looked.push(format!("{ACCESS_KEY_ID} and {SECRET_ACCESS_KEY}"));
    }
    looked.push(format!(
        "profile `{profile}` in {}",
        sources.credentials_name
    ));
    if !sources.config_name.is_empty() {
        looked.push(format!("the same in {}", sources.config_name));
    }
    let message = format!("no access key is found; looked at {}", looked.join(", "));
    let names: Vec<&str> = sources
        .credentials
        .names()
        .chain(sources.config.names())
        .collect();
    let hint = if sources.config.lacks_the_word(&sources.profile) {
        format!(
            "in {} a profile begins with [profile {profile}]",
            sources.config_name
        )
    } else if !names.is_empty() && !names.contains(&sources.profile.as_str()) {
        format!(
            "there are the profiles {}; choose one with --profile",
            Escaped(&names.join(", "))
        )
    } else {
        "give --data-dir DIR of an `adit serve` on this machine, or run `aws configure`".to_owned()
    };
    BadInput::usage(message, hint)
}

/// As AWS and `adit serve` have it.
const ID_SIZE_MAX: usize = 128;

const ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";

/// What counts before the keys of the credentials file (botocore's `ProfileProviderBuilder` has the order).
const BEFORE_CREDENTIALS: [&str; 4] = [
    "role_arn",
    "web_identity_token_file",
    "sso_account_id",
    "sso_role_name",
];

/// What counts behind those, and before the keys of the config file.
const BEFORE_CONFIG: [&str; 2] = ["login_session", "credential_process"];

/// What belongs to one of these ways and is none by itself, so that keys beside it count. Where there are none, it
/// says what was meant.
const PARTS_OF_WAYS: [&str; 3] = ["sso_session", "sso_start_url", "credential_source"];
