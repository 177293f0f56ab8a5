//! `adit ssh`: runs ssh over a tunnel, without any port.
//!
//! ssh starts `adit proxy -s stdio:` as its ProxyCommand. The token goes there in a file of its own
//! directory (0600 in 0700): what is on a command line, others can read, and the environment of ssh may
//! be sent along to the other end (`SendEnv`). The file goes when ssh ends.

use std::fs::DirBuilder;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use adit_process::core_files;
use tokio::process::{Child, Command};
use tokio::signal::unix::SignalKind;
use uuid::Uuid;

use super::arrival::{Arrival, Waiting, again};
use super::custody::Custody;
use super::files::write_secret;
use super::session::Session;
use super::settings::SshSettings;
use super::table::span;
use super::trouble::Trouble;
use crate::aws::Client;
use crate::exit::ExitCode;
use crate::run::Stop;
use crate::settings::service::ServiceAddress;

/// Runs ssh. How it ended is how this ends.
pub(crate) async fn ssh(settings: SshSettings) -> Result<ExitCode, Trouble> {
    let mut stop = Stop::of_command().map_err(Trouble::signals)?;
    let custody = Custody::new(Arc::new(Client::new(settings.api.clone())?));
    let outcome = attend(&custody, &settings, &mut stop).await;
    if matches!(outcome, Ok(End::AtOnce)) || settings.session.keep {
        return outcome.map(End::code);
    }
    stop.ends_at_once();
    custody.end().await;
    outcome.map(End::code)
}

/// How it ended, where nothing went wrong.
enum End {
    /// A signal came before ssh was run.
    Interrupted,
    Ssh(ExitStatus),
    /// Two signals came: nothing is waited for any more.
    AtOnce,
}

impl End {
    fn code(self) -> ExitCode {
        ExitCode::Program(match self {
            // As a shell counts a program that Ctrl-C has ended.
            Self::Interrupted | Self::AtOnce => 130,
            Self::Ssh(status) => number(status),
        })
    }
}

async fn attend(
    custody: &Custody,
    settings: &SshSettings,
    stop: &mut Stop,
) -> Result<End, Trouble> {
    let Some(session) = stop.unless_requested(reach(custody, settings)).await else {
        return Ok(End::Interrupted);
    };
    let session = session?;
    let directory = PrivateDir::new()?;
    let token = directory.0.join("token");
    write_secret(&token, session.token.expose())?;
    let program = std::env::current_exe()
        .map_err(|fault| Trouble::failure(format_args!("cannot find this program: {fault}")))?;
    let command = proxy_command(&program, &token, settings)?;
    run(settings, &command, stop).await
}

/// A tunnel with the device at its other end.
async fn reach(custody: &Custody, settings: &SshSettings) -> Result<Session, Trouble> {
    let session = Session::get(custody, &settings.session).await?;
    let arrival = Arrival {
        client: &custody.client(),
        tunnel: &session.id,
        settings: &settings.session,
    };
    let thing = &settings.session.thing;
    let mut line = Line::new(thing);
    let has_come = arrival
        .within(settings.timeout, |waiting| line.tell(waiting))
        .await;
    drop(line);
    match has_come? {
        true => Ok(session),
        false => Err(absent(thing, settings.timeout)),
    }
}

fn absent(thing: &str, timeout: Duration) -> Trouble {
    let waited = span(i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX));
    Trouble::new(
        format_args!("{thing} did not connect within {waited}"),
        format!(
            "is `adit agent` running there and online? `adit thing describe {thing}` shows whether its \
             certificate is active; --timeout waits longer"
        ),
        ExitCode::Unreachable,
    )
}

async fn run(settings: &SshSettings, proxy_command: &str, stop: &mut Stop) -> Result<End, Trouble> {
    let mut command = Command::new(&settings.program);
    command.args(arguments(settings, proxy_command));
    for variable in TUNNEL_VARIABLES {
        command.env_remove(variable);
    }
    // `adit proxy` knows no exceptions; an empty variable means no web proxy at all.
    let ServiceAddress { host, port } = &settings.session.tunnel;
    if settings.api.web_proxies.to(host, *port).is_none() {
        command.env("https_proxy", "");
    }
    let trouble = |fault: io::Error| {
        let message = format!("cannot run {}: {fault}", settings.program);
        let hint = "install the OpenSSH client, or name another with --ssh";
        Trouble::new(message, hint, ExitCode::Failure)
    };
    let mut child = command.spawn().map_err(trouble)?;
    child.id().into_iter().for_each(core_files::restore);
    let status = tokio::select! {
        status = child.wait() => return status.map(End::Ssh).map_err(trouble),
        kind = stop.next() => {
            pass_on(&mut child, kind).await;
            tokio::select! {
                status = child.wait() => status,
                _ = stop.next() => {
                    let _ = child.start_kill();
                    return Ok(End::AtOnce);
                }
            }
        }
    };
    status.map(End::Ssh).map_err(trouble)
}

/// Asks ssh to end, so that it puts the terminal in order; if that cannot be said, ends it. Where Ctrl-C has
/// reached ssh already, another does no harm: ssh ends at the first, or has made it a character.
async fn pass_on(child: &mut Child, kind: SignalKind) {
    let Some(id) = child.id() else {
        return;
    };
    let option = if kind == SignalKind::interrupt() {
        "-INT"
    } else {
        "-TERM"
    };
    let told = Command::new("kill")
        .args([option, &id.to_string()])
        .status()
        .await;
    if !told.is_ok_and(|status| status.success()) {
        let _ = child.start_kill();
    }
}

/// ssh takes options behind the host as well, up to the first word that is none: the command.
fn arguments(settings: &SshSettings, proxy_command: &str) -> Vec<String> {
    let thing = &settings.session.thing;
    let mut arguments = Vec::new();
    for option in [
        format!("ProxyCommand={proxy_command}"),
        // The key of a device is known by its name, whatever the way to it.
        format!("HostKeyAlias={thing}"),
        "CheckHostIP=no".to_owned(),
    ] {
        arguments.extend(["-o".to_owned(), option]);
    }
    if let Some(user) = &settings.user {
        arguments.extend(["-l".to_owned(), user.clone()]);
    }
    arguments.push(thing.clone());
    arguments.extend(settings.args.iter().cloned());
    arguments
}

fn proxy_command(program: &Path, token: &Path, settings: &SshSettings) -> Result<String, Trouble> {
    let mut words = vec![
        text(program)?,
        "proxy".to_owned(),
        "--source".to_owned(),
        "stdio:".to_owned(),
        "--proxy-endpoint".to_owned(),
        settings.session.tunnel.to_string(),
        "--access-token-file".to_owned(),
        text(token)?,
        "--io".to_owned(),
        settings.io.to_string(),
        "--verbose".to_owned(),
        "3".to_owned(),
    ];
    if let Some(ca) = &settings.api.ca {
        words.extend(["--capath".to_owned(), text(ca)?]);
    }
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    // ssh puts an `exec` in front by itself.
    Ok(words.join(" "))
}

fn text(path: &Path) -> Result<String, Trouble> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        let shown = path.to_string_lossy();
        Trouble::failure(format_args!(
            "{} is not UTF-8, so ssh cannot be told of it",
            adit_proto::escape::Escaped(&shown)
        ))
    })
}

/// One word for the shell; and for ssh before it, which reads `%` as the start of a name of its own.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''").replace('%', "%%"))
}

/// As a shell counts: a signal is 128 and its number.
fn number(status: ExitStatus) -> u8 {
    let number = status.code().or_else(|| Some(128 + status.signal()?));
    number
        .and_then(|number| u8::try_from(number).ok())
        .unwrap_or(255)
}

/// Says on standard error what is waited for, once the waiting is long enough to be felt.
struct Line<'a> {
    thing: &'a str,
    is_live: bool,
    is_open: bool,
}

impl<'a> Line<'a> {
    fn new(thing: &'a str) -> Self {
        Self {
            thing,
            is_live: io::stderr().is_terminal(),
            is_open: false,
        }
    }

    fn tell(&mut self, waiting: Waiting) {
        let waited = match waiting {
            Waiting::Still(waited) => waited,
            Waiting::Again(waited, number) => {
                return self.say(&format!("{}\n", again(self.thing, waited, number)));
            }
            Waiting::Mute(fault) => {
                return self.say(&format!("{} cannot be told again: {fault}\n", self.thing));
            }
        };
        if waited < FELT || (self.is_open && !self.is_live) {
            return;
        }
        let text = format!("waiting for {} to connect", self.thing);
        let text = match self.is_live {
            true => format!("\r{text} … {} s ", waited.as_secs()),
            false => format!("{text}\n"),
        };
        self.is_open = true;
        let _ = io::stderr().write_all(text.as_bytes());
    }

    /// A line of its own.
    fn say(&mut self, line: &str) {
        self.end();
        let _ = io::stderr().write_all(line.as_bytes());
    }

    fn end(&mut self) {
        if self.is_open && self.is_live {
            // Back to an empty line.
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

/// However the waiting ends.
impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// A directory of this run alone; it goes with the value.
struct PrivateDir(PathBuf);

impl PrivateDir {
    fn new() -> Result<Self, Trouble> {
        let parent = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let parent = parent
            .filter(|path| path.is_dir())
            .unwrap_or_else(std::env::temp_dir);
        let path = parent.join(format!("adit-ssh-{}", Uuid::new_v4().simple()));
        // Fails if it is there already, whoever made it.
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| Trouble::file("make the directory", &path, &error))?;
        Ok(Self(path))
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// They would contradict the arguments of the proxy.
const TUNNEL_VARIABLES: [&str; 4] = [
    "AWSIOT_TUNNEL_ACCESS_TOKEN",
    "AWSIOT_TUNNEL_CLIENT_TOKEN",
    "AWSIOT_TUNNEL_ENDPOINT",
    "AWSIOT_TUNNEL_REGION",
];

const FELT: Duration = Duration::from_millis(700);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_proxy_as_they_are() {
        for word in [
            "plain",
            "two words",
            "it's",
            "100%h",
            "$HOME `x` \"y\" \\",
            "",
        ] {
            // What ssh makes of it, then what the shell makes of that.
            let expanded = quoted(word).replace("%%", "%");
            let output = std::process::Command::new("/bin/sh")
                .args(["-c", &format!("printf %s {expanded}")])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }

    #[test]
    fn statuses_are_those_of_a_shell() {
        for (raw, expected) in [(0, 0), (7 << 8, 7), (255 << 8, 255), (15, 143)] {
            assert_eq!(number(ExitStatus::from_raw(raw)), expected);
        }
    }

    #[test]
    fn the_directory_of_the_token_goes_with_the_run() {
        let directory = PrivateDir::new().unwrap();
        let path = directory.0.clone();
        write_secret(&path.join("token"), "x").unwrap();
        drop(directory);
        assert!(!path.exists());
    }
}
