//! Programs of the machine that tests run through a tunnel: ssh, redis and friends.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

use crate::deadline::within_limit;
use crate::process::contained;
use crate::scenario::Scenario;

/// Places beside `PATH` where Debian keeps servers.
const SERVER_PLACES: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// Looks for programs. `None`, with the reason printed, when one is missing.
///
/// # Errors
/// One is missing, and `ADIT_REQUIRE_PROGRAMS=1` says that none may be.
pub fn find<const N: usize>(scenario: &Scenario, names: [&str; N]) -> Result<Option<[PathBuf; N]>> {
    let found = names.map(|name| (name, locate(name)));
    let missing: Vec<&str> = found
        .iter()
        .filter(|(_, path)| path.is_none())
        .map(|(name, _)| *name)
        .collect();
    if !missing.is_empty() {
        return lacking(scenario, &missing.join(", "));
    }
    Ok(Some(found.map(|(_, path)| path.unwrap_or_default())))
}

/// Skips a scenario that lacks a program or a permission, or fails it where they are required: a
/// test that is skipped without anybody's knowledge shows nothing.
///
/// # Errors
/// `ADIT_REQUIRE_PROGRAMS=1` is set.
pub fn lacking<T>(scenario: &Scenario, what: &str) -> Result<Option<T>> {
    let are_required = std::env::var("ADIT_REQUIRE_PROGRAMS").is_ok_and(|value| value == "1");
    ensure!(
        !are_required,
        "ADIT_REQUIRE_PROGRAMS=1 is set and this machine lacks {what}"
    );
    scenario.skip(&format!("this machine lacks {what}"));
    Ok(None)
}

/// A command for a program of the machine, without the test's own environment.
#[must_use]
pub fn command(program: &Path) -> Command {
    let mut command = contained(program);
    command.env_clear().env("LC_ALL", "C.UTF-8");
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// `wrapper` with `inner` behind it as its arguments, in the environment of `inner`: for
/// programs that become another one after changing something, such as `strace`.
#[must_use]
pub fn wrapped(mut wrapper: Command, inner: &Command) -> Command {
    wrapper.arg(inner.get_program()).args(inner.get_args());
    let variables = inner.get_envs();
    wrapper.envs(variables.filter_map(|(name, value)| Some((name, value?))));
    if let Some(directory) = inner.get_current_dir() {
        wrapper.current_dir(directory);
    }
    wrapper
}

/// Runs a command to its end within `limit`; it must succeed.
///
/// # Errors
/// It fails, or takes too long. What it wrote is in the error.
pub async fn run(limit: std::time::Duration, command: Command) -> Result<Output> {
    // Without the environment, where a token may be.
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let shown = words.join(" ");
    let mut command = tokio::process::Command::from(command);
    command
        .kill_on_drop(true)
        .stdin(std::process::Stdio::null());
    let output = within_limit(limit, &shown, async { Ok(command.output().await?) }).await?;
    ensure!(
        output.status.success(),
        "{shown}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}

/// The name of the user who runs the tests.
///
/// # Errors
/// The system does not know it.
pub fn user() -> Result<String> {
    let output = Command::new("id").arg("-un").output().context("id")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn locate(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(SERVER_PLACES.map(PathBuf::from));
    let postgres = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let postgres = postgres.flatten().map(|entry| entry.path().join("bin"));
    let mut candidates = places.chain(postgres).map(|place| place.join(name));
    candidates.find(|candidate| candidate.is_file())
}
