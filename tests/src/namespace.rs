//! A test that is run once more, in namespaces of its own: what it mounts and what becomes of its network is nobody
//! else's matter.

use std::time::Duration;

use crate::programs;
use crate::scenario::{Io, Scenario};
use anyhow::{Result, ensure};

/// Tells the test in the namespaces that it is there.
const INSIDE: &str = "ADIT_IN_A_NAMESPACE";

/// Whether this is the inner run of a test. The outer one, in which the inner one has been run by now or which cannot
/// have it, has nothing more to do.
///
/// # Errors
/// The inner run fails.
pub async fn is_inside(
    scenario: &Scenario,
    test: &str,
    kind: &str,
    limit: Duration,
) -> Result<bool> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(true);
    }
    let Some([unshare]) = programs::find(scenario, ["unshare"])? else {
        return Ok(false);
    };
    let mut probe = programs::command(&unshare);
    if !probe.args([kind, "true"]).status()?.success() {
        let nothing = programs::lacking::<()>(scenario, &format!("leave to unshare {kind}"))?;
        return Ok(nothing.is_some());
    }
    let mut command = std::process::Command::new(&unshare);
    command.arg(kind).arg(std::env::current_exe()?);
    let io = match scenario.io() {
        Io::Auto => "auto",
        Io::Epoll => "epoll",
        Io::Uring => "uring",
    };
    command.args(["--exact", &format!("{test}::{io}"), "--nocapture"]);
    command.env(INSIDE, "1");
    let output = programs::run(limit, command).await?;
    // What it measured.
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said.contains("1 passed"), "no inner run of {test}: {said}");
    Ok(false)
}
