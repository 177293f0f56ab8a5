//! Tokens: where they come from and what they may look like.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use adit_proto::escape::Escaped;
use adit_proto::limits::MAX_ACCESS_TOKEN_SIZE;
use adit_proto::{AccessToken, ClientToken, InvalidToken};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::args::options::Opt;
use crate::args::{Given, Origin, ProxyArgs};
use crate::fault::BadInput;
use crate::personality::Personality;
use crate::world::World;

/// Finds the access token. The strongest of these counts: `-t` or `--access-token-file` (not both), the
/// same in the `--config` file, the environment variable, the systemd credential `access-token`.
///
/// What the kernel shows of the command line and of the environment is overwritten before ([`World`]); other
/// users can read a token of the command line until then. Parsers' copies on the heap are not wiped.
pub fn access_token(
    args: &mut ProxyArgs,
    world: &mut World,
    personality: Personality,
    warnings: &mut Vec<String>,
) -> Result<AccessToken, BadInput> {
    let file = args.take(Opt::AccessTokenFile);
    let direct = args.take(Opt::AccessToken);
    let (option, mut given) = match (direct, file) {
        (Some(direct), Some(file)) => match rank(&direct.origin).cmp(&rank(&file.origin)) {
            Ordering::Less => (Opt::AccessToken, direct),
            // A file that was named beats the variable, which may be left over from something else.
            Ordering::Greater => (Opt::AccessTokenFile, file),
            Ordering::Equal => {
                return Err(BadInput::usage(
                    "--access-token and --access-token-file are both given",
                    "keep one of them, best the file",
                ));
            }
        },
        (Some(direct), None) => (Opt::AccessToken, direct),
        (None, Some(file)) => (Opt::AccessTokenFile, file),
        (None, None) => return credential(world, personality),
    };
    if option == Opt::AccessTokenFile {
        return from_file(&given, world);
    }
    if given.origin == Origin::CommandLine {
        warnings.push(
            "Found access token supplied via CLI arg, where other users of this machine can read it while this starts. \
             Consider using environment variable AWSIOT_TUNNEL_ACCESS_TOKEN instead"
                .to_owned(),
        );
    }
    let text = std::mem::take(&mut *given.value);
    check(text, &given.origin.name(option), &given.origin)
}

/// Whether any access token is in sight, without reading it.
pub fn is_given(args: &ProxyArgs, world: &World, personality: Personality) -> bool {
    args.has(Opt::AccessToken)
        || args.has(Opt::AccessTokenFile)
        || (personality == Personality::Adit && credential_path(world).is_some())
}

/// What to say when there is none.
pub fn missing(personality: Personality) -> BadInput {
    let hint = match personality {
        Personality::Adit => {
            "set AWSIOT_TUNNEL_ACCESS_TOKEN, or give --access-token-file FILE (`-` for standard input)"
        }
        Personality::Localproxy => "set AWSIOT_TUNNEL_ACCESS_TOKEN, or give --access-token",
    };
    BadInput::usage("no access token is given", hint)
        .reference("the option '--access-token' is required but missing")
}

/// Reads the client token, or makes one: the same for the same access token on the same machine, so that
/// a lost connection comes back, also after this process was killed and started again.
pub fn client_token(
    args: &mut ProxyArgs,
    access_token: &AccessToken,
    personality: Personality,
    warnings: &mut Vec<String>,
) -> Result<ClientToken, BadInput> {
    let given = args.take(Opt::ClientToken);
    let Some(given) = given.filter(|given| !given.value.is_empty()) else {
        return make_client_token(access_token);
    };
    let strict = ClientToken::strict(given.value.to_string());
    let problem = match (strict, personality) {
        (Ok(token), _) => return Ok(token),
        (Err(problem), Personality::Adit) => problem,
        (Err(_), Personality::Localproxy) => match ClientToken::lenient(given.value.to_string()) {
            Ok(token) => {
                warnings.push(
                    "the client token has other characters than letters, digits and hyphens; \
                     AWS will refuse it"
                        .to_owned(),
                );
                return Ok(token);
            }
            Err(problem) => problem,
        },
    };
    let (reference, reason) = match problem {
        InvalidToken::Size { .. } => (
            "Client token must be between 32 and 128 characters",
            "invalid length (must be 32-128 chars)",
        ),
        _ => (
            "Client token contains invalid control characters",
            "contains control characters",
        ),
    };
    let hint = "allowed are 32 to 128 letters, digits and hyphens, or leave it out and one is made";
    Err(
        BadInput::value(Opt::ClientToken, &given.origin, problem.to_string(), hint)
            .reference(reference)
            .rejected("client-token", reason),
    )
}

/// Smaller is stronger.
fn rank(origin: &Origin) -> u8 {
    match origin {
        Origin::CommandLine => 0,
        Origin::File { .. } => 1,
        Origin::Environment(_) => 2,
    }
}

fn from_file(given: &Given, world: &mut World) -> Result<AccessToken, BadInput> {
    let name = given.origin.name(Opt::AccessTokenFile);
    let path = given.value.as_str();
    let fault = |problem: String, hint: &str| {
        BadInput::value(Opt::AccessTokenFile, &given.origin, problem, hint)
    };
    let text = if path == "-" {
        read_token(&mut world.stdin)
            .map_err(|error| fault(format!("standard input: {error}"), TOKEN_HINT))?
    } else {
        let shown = Escaped(path);
        let unreadable =
            |error: io::Error| fault(format!("cannot read `{shown}`: {error}"), hint_of(&error));
        let mut file = File::open(world.path(path)).map_err(unreadable)?;
        let data = file.metadata().map_err(unreadable)?;
        let mode = data.permissions().mode() & 0o7777;
        // A terminal belongs to its group by custom; everything else is asked.
        if !data.file_type().is_char_device() && mode & 0o077 != 0 {
            return Err(fault(
                format!("`{shown}` can be accessed by others (mode {mode:04o})"),
                &format!("chmod 600 {shown}"),
            ));
        }
        read_token(&mut file).map_err(unreadable)?
    };
    check(text, &name, &given.origin)
}

/// systemd hands credentials over in a directory of the service's own. Their mode is not checked: where
/// systemd grants access by an access list, its mask shows as a group permission.
fn credential(world: &World, personality: Personality) -> Result<AccessToken, BadInput> {
    let path = match credential_path(world) {
        Some(path) if personality == Personality::Adit => path,
        _ => return Err(missing(personality)),
    };
    let shown = path.to_string_lossy().into_owned();
    let name = format!("credential {}", Escaped(&shown));
    let text = File::open(&path)
        .and_then(|mut file| read_token(&mut file))
        .map_err(|error| BadInput::fatal(format!("{name}: {error}"), hint_of(&error)))?;
    check(text, &name, &Origin::Environment("CREDENTIALS_DIRECTORY"))
}

fn credential_path(world: &World) -> Option<std::path::PathBuf> {
    let directory: &OsStr = world.variable("CREDENTIALS_DIRECTORY")?;
    let path = Path::new(directory).join("access-token");
    path.is_file().then_some(path)
}

/// One line, at most: a token has no line break, and a terminal sends one. What follows is not used.
fn read_token(source: &mut dyn Read) -> io::Result<String> {
    let mut bytes = Zeroizing::new([0; READ_SIZE_MAX]);
    let mut filled = 0;
    while filled < bytes.len() && !bytes[..filled].contains(&b'\n') {
        match source.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let line = bytes[..filled].split(|byte| *byte == b'\n').next();
    match std::str::from_utf8(line.unwrap_or_default()) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "is not text")),
    }
}

fn check(text: String, name: &str, origin: &Origin) -> Result<AccessToken, BadInput> {
    let size = text.len();
    let control = text.bytes().any(|byte| byte.is_ascii_control());
    let error = match AccessToken::new(text) {
        Ok(token) => return Ok(token),
        Err(error) => error,
    };
    let (problem, reference, reason) = match error {
        InvalidToken::Size { .. } if size == 0 => (
            "the access token is empty".to_owned(),
            "Access token cannot be empty",
            "empty token",
        ),
        InvalidToken::Size { .. } => (
            format!("{size} bytes, the limit is {MAX_ACCESS_TOKEN_SIZE}"),
            "Access token exceeds maximum allowed length",
            "exceeds maximum length",
        ),
        _ if control => (
            "the access token has a control character".to_owned(),
            "Access token contains invalid control characters",
            "contains control characters",
        ),
        _ => (
            "the access token has a space at an end or a character outside ASCII".to_owned(),
            "Access token contains invalid control characters",
            "contains control characters",
        ),
    };
    let fault = BadInput::fatal(format!("{name}: {problem}"), TOKEN_HINT)
        .reference(reference)
        .rejected("access-token", reason);
    Err(match origin {
        Origin::File { .. } => fault.in_file(),
        Origin::CommandLine | Origin::Environment(_) => fault,
    })
}

/// A keyed hash of the access token: 64 hexadecimal digits.
///
/// The key is the machine's id, so that somebody who has only got hold of the access token cannot make
/// the client token that goes with it, which is what client tokens are for (specification 1.3).
fn make_client_token(access_token: &AccessToken) -> Result<ClientToken, BadInput> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, machine_id().as_bytes());
    let mut message = Zeroizing::new(CLIENT_TOKEN_LABEL.to_vec());
    message.extend_from_slice(access_token.expose().as_bytes());
    let hash = hmac::sign(&key, &message);
    let digits: String = hash
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let token = ClientToken::strict(digits);
    token.map_err(|error| {
        BadInput::fatal(
            format!("no client token can be made: {error}"),
            "give one with --client-token",
        )
    })
}

/// A token and a line break of two bytes; a token that is too long is still seen to be.
const READ_SIZE_MAX: usize = MAX_ACCESS_TOKEN_SIZE + 2;

const TOKEN_HINT: &str = "copy the whole client access token that opening the tunnel returned: 1 to 4096 printable characters";

/// A file of other content is another mistake than one that cannot be had.
fn hint_of(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::InvalidData => TOKEN_HINT,
        _ => {
            "give a file that this user can read; opening the tunnel returned what belongs into it"
        }
    }
}

/// What tells this machine from others, as far as the system says: its id, else that of this boot. An
/// empty text where it says neither leaves the client token guessable for holders of the access token.
fn machine_id() -> Zeroizing<String> {
    let found = MACHINE_ID_FILES.iter().find_map(|path| {
        let text = Zeroizing::new(std::fs::read_to_string(path).ok()?);
        (!text.trim().is_empty()).then(|| Zeroizing::new(text.trim().to_owned()))
    });
    found.unwrap_or_default()
}

/// Where systems keep it, the most lasting first (machine-id(5)).
const MACHINE_ID_FILES: [&str; 3] = [
    "/etc/machine-id",
    "/var/lib/dbus/machine-id",
    "/proc/sys/kernel/random/boot_id",
];

/// Keeps this use of the machine's id apart from others, as machine-id(5) asks.
const CLIENT_TOKEN_LABEL: &[u8] = b"adit client token 1\0";

#[cfg(test)]
mod tests;
