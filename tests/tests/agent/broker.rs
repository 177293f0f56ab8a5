//! A Mosquitto of the test's own: mTLS, and an access list by the certificate's name.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use adit_tests::ports;
use adit_tests::process::Process;
use adit_tests::programs;
use adit_tests::scenario::Scenario;
use anyhow::Result;

/// Whose certificate may publish notifications.
const CONTROL: &str = "control";

/// For one message.
const PUBLISH_LIMIT: Duration = Duration::from_secs(20);

/// A device reads its own notifications; the control plane writes everybody's.
const ACCESS: &str = "\
user control
topic write $aws/things/#
pattern read $aws/things/%u/tunnels/notify
";

/// A running broker.
pub(crate) struct Broker {
    scenario: Scenario,
    publisher: PathBuf,
    subscriber: PathBuf,
    program: PathBuf,
    pub(crate) port: u16,
    pub(crate) process: Process,
}

impl Broker {
    /// Starts one; `None` where it is not installed.
    pub(crate) async fn start(scenario: &Scenario) -> Result<Option<Self>> {
        let names = ["mosquitto", "mosquitto_pub", "mosquitto_sub"];
        let Some([program, publisher, subscriber]) = programs::find(scenario, names)? else {
            return Ok(None);
        };
        let port = ports::free()?;
        let write = |name: &str, text: &str| scenario.write(name, text);
        let pair = scenario.pki().named("broker", &["localhost"])?;
        write("broker.pem", &pair.certificate)?;
        write("broker.key", &pair.key)?;
        let pair = scenario.pki().named(CONTROL, &[])?;
        write("control.pem", &pair.certificate)?;
        write("control.key", &pair.key)?;
        write("access", ACCESS)?;
        let at = |name: &str| scenario.path(name).display().to_string();
        let settings = format!(
            "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\n\
             require_certificate true\nuse_identity_as_username true\nacl_file {}\n\
             persistence true\npersistence_location {}/\nautosave_interval 1\nautosave_on_changes true\n\
             log_dest stderr\nlog_type all\nuser {}\n",
            at("ca.pem"),
            at("broker.pem"),
            at("broker.key"),
            at("access"),
            scenario.directory().display(),
            programs::user()?,
        );
        write("mosquitto.conf", &settings)?;
        let process = Self::launch(scenario, &program)?;
        ports::listened_on(port).await?;
        Ok(Some(Self {
            scenario: scenario.clone(),
            publisher,
            subscriber,
            program,
            port,
            process,
        }))
    }

    /// Publishes as the control plane, on any topic.
    pub(crate) async fn publish(&self, topic: &str, payload: &str) -> Result<()> {
        self.publish_with(&[], topic, payload).await
    }

    /// As [`Self::publish`]; every subscription, old or new, is sent it.
    pub(crate) async fn publish_retained(&self, topic: &str, payload: &str) -> Result<()> {
        self.publish_with(&["--retain"], topic, payload).await
    }

    /// Takes a subscription out of the session of a device, by connecting in its place for a moment.
    pub(crate) async fn unsubscribe(&self, thing: &str, topic: &str) -> Result<()> {
        let at = |name: &str| self.scenario.path(name);
        let mut command = programs::command(&self.subscriber);
        command.args(["-h", "localhost", "-p", &self.port.to_string()]);
        // It ends once another subscription is confirmed.
        command.args([
            "-i", thing, "-c", "-q", "1", "-U", topic, "-t", "other", "-E",
        ]);
        command.arg("--cafile").arg(at("ca.pem"));
        command.arg("--cert").arg(at("device/device.pem"));
        command.arg("--key").arg(at("device/device.key"));
        programs::run(PUBLISH_LIMIT, command).await?;
        Ok(())
    }

    /// Begins to publish as the control plane, which ends once the broker has taken the message.
    pub(crate) fn begin_to_publish(&self, topic: &str, payload: &str) -> Result<Process> {
        let command = self.publishing(&[], topic, payload)?;
        Process::start(&self.scenario, "mosquitto_pub", command)
    }

    async fn publish_with(&self, options: &[&str], topic: &str, payload: &str) -> Result<()> {
        let command = self.publishing(options, topic, payload)?;
        programs::run(PUBLISH_LIMIT, command).await?;
        Ok(())
    }

    fn publishing(&self, options: &[&str], topic: &str, payload: &str) -> Result<Command> {
        let at = |name: &str| self.scenario.path(name);
        self.scenario.write("payload", payload)?;
        let mut command = programs::command(&self.publisher);
        command.args([
            "-h",
            "localhost",
            "-p",
            &self.port.to_string(),
            "-i",
            CONTROL,
        ]);
        command
            .args(options)
            .args(["-q", "1", "-t", topic])
            .arg("-f")
            .arg(at("payload"));
        command.arg("--cafile").arg(at("ca.pem"));
        command.arg("--cert").arg(at("control.pem"));
        command.arg("--key").arg(at("control.key"));
        Ok(command)
    }

    /// Publishes messages of one line each, in a row, over one connection.
    pub(crate) async fn publish_lines(&self, topic: &str, lines: &[String]) -> Result<()> {
        let at = |name: &str| self.scenario.path(name);
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let lines = self.scenario.write("lines", text)?;
        let mut command = programs::command("/bin/sh".as_ref());
        // It reads lines from its standard input, which `programs::run` keeps empty.
        command
            .args(["-c", "exec \"$0\" \"$@\" < \"$LINES_FILE\""])
            .arg(&self.publisher);
        command.env("LINES_FILE", lines);
        command.args([
            "-h",
            "localhost",
            "-p",
            &self.port.to_string(),
            "-i",
            CONTROL,
        ]);
        command.args(["-q", "1", "-t", topic, "-l"]);
        command.arg("--cafile").arg(at("ca.pem"));
        command.arg("--cert").arg(at("control.pem"));
        command.arg("--key").arg(at("control.key"));
        programs::run(PUBLISH_LIMIT, command).await?;
        Ok(())
    }

    /// Ends the broker as `kill -9` does and starts it again, without what it had not saved.
    pub(crate) async fn kill_and_restart(&mut self) -> Result<()> {
        self.process.kill().await?;
        let _ = std::fs::remove_file(self.scenario.path("mosquitto.db"));
        self.start_again().await
    }

    /// Starts a broker that has ended again, on the same port.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        self.process = Self::launch(&self.scenario, &self.program)?;
        ports::listened_on(self.port).await
    }

    fn launch(scenario: &Scenario, program: &std::path::Path) -> Result<Process> {
        let mut command = programs::command(program);
        command.arg("-c").arg(scenario.path("mosquitto.conf"));
        Process::start(scenario, "mosquitto", command)
    }
}
