//! A redis and a PostgreSQL of the test's own, on their own ports and directories.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use adit_tests::ports;
use adit_tests::process::Process;
use adit_tests::programs;
use adit_tests::scenario::Scenario;
use anyhow::{Result, ensure};

const INITDB_LIMIT: Duration = Duration::from_secs(50);
/// Debian's `nobody`.
const NOBODY: u32 = 65_534;

/// A server that a test has started.
pub(crate) struct Server {
    pub(crate) port: u16,
    _process: Process,
}

impl Server {
    /// A redis that keeps nothing.
    pub(crate) async fn redis(scenario: &Scenario, program: &Path) -> Result<Self> {
        let port = ports::free()?;
        let mut command = programs::command(program);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no", "--dir"]);
        command.arg(scenario.directory());
        let process = Process::start(scenario, "redis-server", command)?;
        ports::listened_on(port).await?;
        Ok(Self {
            port,
            _process: process,
        })
    }

    /// A PostgreSQL whose every user may do everything.
    pub(crate) async fn postgres(
        scenario: &Scenario,
        initdb: &Path,
        postgres: &Path,
    ) -> Result<Self> {
        let port = ports::free()?;
        let data = scenario.path("postgres");
        std::fs::create_dir(&data)?;
        let is_root = programs::user()? == "root";
        if is_root {
            // It refuses to run as root, and nobody must reach its directory.
            use std::os::unix::fs::{PermissionsExt, chown};
            chown(&data, Some(NOBODY), Some(NOBODY))?;
            std::fs::set_permissions(scenario.directory(), PermissionsExt::from_mode(0o711))?;
        }
        let mut command = unprivileged(is_root, initdb);
        command
            .args(["-U", "tester", "-A", "trust", "--no-sync", "-D"])
            .arg(&data);
        command.current_dir("/");
        programs::run(INITDB_LIMIT, command).await?;
        let mut command = unprivileged(is_root, postgres);
        command.arg("-D").arg(&data).args(["-p", &port.to_string()]);
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
        command
            .args(["-c", "unix_socket_directories="])
            .current_dir("/");
        let process = Process::start(scenario, "postgres", command)?;
        process.line("ready to accept connections").await?;
        Ok(Self {
            port,
            _process: process,
        })
    }
}

fn unprivileged(is_root: bool, program: &Path) -> Command {
    if !is_root {
        return programs::command(program);
    }
    let mut command = programs::command("/usr/bin/setpriv".as_ref());
    let id = NOBODY.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]);
    // A change of user ends the promise to die with the test, so it is made once more.
    command
        .arg("/usr/bin/setpriv")
        .args(["--pdeathsig", "KILL", "--"]);
    command.arg(program);
    command
}

/// Makes sure that a program's output has a text in it.
pub(crate) fn expect_output(output: &std::process::Output, text: &str) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said.contains(text), "{text:?} is not in: {said}");
    Ok(())
}
