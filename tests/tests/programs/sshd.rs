//! An `sshd` of the test's own: own port, own keys, own configuration, no privileges.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use adit_tests::ports;
use adit_tests::process::Process;
use adit_tests::programs;
use adit_tests::scenario::Scenario;
use anyhow::Result;

const KEYGEN_LIMIT: Duration = Duration::from_secs(20);

/// A running `sshd`, and the client programs that may log in.
pub(crate) struct Sshd {
    pub(crate) port: u16,
    pub(crate) ssh: PathBuf,
    key: PathBuf,
    user: String,
    _process: Process,
}

impl Sshd {
    /// `None`, with the reason printed, when a program is missing.
    pub(crate) async fn start(scenario: &Scenario) -> Result<Option<Self>> {
        let names = ["sshd", "ssh", "ssh-keygen"];
        let Some([sshd, ssh, keygen]) = programs::find(scenario, names)? else {
            return Ok(None);
        };
        let key = make_key(scenario, &keygen, "client_key").await?;
        let host_key = make_key(scenario, &keygen, "host_key").await?;
        let authorized = key.with_extension("pub");
        let port = ports::free()?;
        let lines = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\n\
             PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             PermitRootLogin yes\nMaxStartups 100\nSubsystem sftp internal-sftp\n\
             SetEnv HOME={}\n",
            host_key.display(),
            authorized.display(),
            // The shell reads its start-up files from there: those of the user may take seconds.
            scenario.binary().home().display()
        );
        let config = scenario.write("sshd_config", lines)?;
        // Run by root it insists on this directory, which Debian makes at boot.
        let _ = std::fs::create_dir("/run/sshd");
        let mut command = programs::command(&sshd);
        command.args(["-D", "-e", "-f"]).arg(config);
        let process = Process::start(scenario, "sshd", command)?;
        ports::listened_on(port).await?;
        Ok(Some(Self {
            port,
            ssh,
            key,
            user: programs::user()?,
            _process: process,
        }))
    }

    /// Where to log in.
    pub(crate) fn login(&self) -> String {
        format!("{}@127.0.0.1", self.user)
    }

    /// The options every client needs: this key, no questions, nothing of the user's own.
    pub(crate) fn options(&self) -> Vec<String> {
        let mut options = vec!["-F".to_owned(), "none".to_owned(), "-i".to_owned()];
        options.push(self.key.display().to_string());
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ConnectTimeout=20",
        ] {
            options.extend(["-o".to_owned(), option.to_owned()]);
        }
        options
    }

    /// `ssh` to a port of the loopback, with what follows still to be added.
    pub(crate) fn client(&self, port: u16) -> Command {
        let mut command = programs::command(&self.ssh);
        command.args(self.options()).args(["-p", &port.to_string()]);
        command
    }
}

async fn make_key(scenario: &Scenario, keygen: &Path, name: &str) -> Result<PathBuf> {
    let path = scenario.path(name);
    let mut command = programs::command(keygen);
    command
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&path);
    programs::run(KEYGEN_LIMIT, command).await?;
    Ok(path)
}
