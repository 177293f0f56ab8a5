//! The command line of a proxy under test.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

use crate::process::Process;
use crate::scenario::Scenario;

/// Any access token; a scripted service does not look into it.
pub const TOKEN: &str = "scripted-access-token";

/// The variable that a client token comes in.
pub const CLIENT_VARIABLE: &str = "AWSIOT_TUNNEL_CLIENT_TOKEN";

/// Which end of a tunnel a proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Local applications connect to it.
    Source,
    /// It connects to local applications.
    Destination,
}

impl Side {
    /// As in `local-proxy-mode`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }

    /// The option that takes its port mapping.
    #[must_use]
    pub fn mapping_option(self) -> &'static str {
        match self {
            Self::Source => "-s",
            Self::Destination => "-d",
        }
    }
}

/// A proxy that is about to be started.
///
/// The access token goes through the environment, the trusted authority is the scenario's.
#[derive(Clone)]
pub struct Proxy {
    scenario: Scenario,
    name: String,
    program: Program,
    mapping: Option<(Side, String)>,
    endpoint: Option<String>,
    token: Option<String>,
    ca: Option<PathBuf>,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    directory: Option<PathBuf>,
}

#[derive(Clone, PartialEq, Eq)]
enum Program {
    Adit,
    Localproxy,
    Other(PathBuf),
}

impl Proxy {
    /// `adit proxy -s MAPPING -e ENDPOINT`.
    #[must_use]
    pub fn source(scenario: &Scenario, mapping: &str, endpoint: &str) -> Self {
        Self::new(scenario, Side::Source.name())
            .mapping(Side::Source, mapping)
            .endpoint(endpoint)
    }

    /// `adit proxy -d MAPPING -e ENDPOINT`.
    #[must_use]
    pub fn destination(scenario: &Scenario, mapping: &str, endpoint: &str) -> Self {
        Self::new(scenario, Side::Destination.name())
            .mapping(Side::Destination, mapping)
            .endpoint(endpoint)
    }

    /// `adit proxy` and nothing else but the loop, the token and the authority.
    #[must_use]
    pub fn new(scenario: &Scenario, name: &str) -> Self {
        Self {
            scenario: scenario.clone(),
            name: name.to_owned(),
            program: Program::Adit,
            mapping: None,
            endpoint: None,
            token: Some(TOKEN.to_owned()),
            ca: Some(scenario.ca_file()),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
        }
    }

    /// Runs the program as `localproxy`.
    #[must_use]
    pub fn as_localproxy(mut self) -> Self {
        self.program = Program::Localproxy;
        self
    }

    /// Runs another program, which takes the options of `localproxy`.
    #[must_use]
    pub fn as_program(mut self, path: &Path) -> Self {
        self.program = Program::Other(path.to_owned());
        self
    }

    /// With this port mapping.
    #[must_use]
    pub fn mapping(mut self, side: Side, mapping: &str) -> Self {
        self.mapping = Some((side, mapping.to_owned()));
        self
    }

    /// With this service.
    #[must_use]
    pub fn endpoint(mut self, endpoint: &str) -> Self {
        self.endpoint = Some(endpoint.to_owned());
        self
    }

    /// With this access token.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Without any access token.
    #[must_use]
    pub fn without_token(mut self) -> Self {
        self.token = None;
        self
    }

    /// Trusting this authority.
    #[must_use]
    pub fn trusting(mut self, ca: &Path) -> Self {
        self.ca = Some(ca.to_owned());
        self
    }

    /// Without `-c`.
    #[must_use]
    pub fn without_ca(mut self) -> Self {
        self.ca = None;
        self
    }

    /// With these further arguments.
    #[must_use]
    pub fn args<S: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// With this environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Started in this directory.
    #[must_use]
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// With a settings file of `tunneling.proxy` (section 14.3).
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn settings(self, settings: &serde_json::Value) -> Result<Self> {
        // One of the same name may be reading its own at this moment.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let content = serde_json::json!({ "tunneling": { "proxy": settings } });
        let file = format!("{}-settings-{number}.json", self.name);
        let path = self.scenario.write(&file, content.to_string())?;
        Ok(self.args(["--settings-json".into(), path.into_os_string()]))
    }

    /// The command, for tests that start it in a way of their own.
    #[must_use]
    pub fn command(&self) -> Command {
        let binary = self.scenario.binary();
        let mut command = match &self.program {
            Program::Adit => binary.adit(),
            Program::Localproxy => binary.localproxy(),
            Program::Other(path) => binary.other(path),
        };
        if self.program == Program::Adit {
            command.arg("proxy");
        }
        self.complete(&mut command);
        command
    }

    /// Starts it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self) -> Result<Process> {
        Process::start(&self.scenario, &self.name, self.command())
    }

    /// Starts it and waits for its end with this exit code.
    ///
    /// # Errors
    /// It goes on, or ends otherwise.
    pub async fn ends_with(&self, code: i32) -> Result<Process> {
        let mut process = self.start()?;
        process.ends_with(code).await?;
        Ok(process)
    }

    fn complete(&self, command: &mut Command) {
        let client = self
            .environment
            .iter()
            .find(|(name, _)| name == CLIENT_VARIABLE);
        for secret in self.token.iter().chain(client.map(|(_, value)| value)) {
            self.scenario.secrets().keep(secret);
        }
        if let Some((side, mapping)) = &self.mapping {
            command.args([side.mapping_option(), mapping]);
        }
        if let Some(endpoint) = &self.endpoint {
            command.args(["-e", endpoint]);
        }
        if let Some(ca) = &self.ca {
            match self.program {
                // The reference takes a directory of names that OpenSSL looks up by a hash, and OpenSSL a file here.
                Program::Other(_) => command.env("SSL_CERT_FILE", ca),
                Program::Adit | Program::Localproxy => command.arg("-c").arg(ca),
            };
        }
        // The reference's command line has no such option.
        if let (Program::Adit, Some(io)) = (&self.program, self.scenario.io().argument()) {
            command.args(["--io", io]);
        }
        command.args(&self.arguments);
        if let Some(token) = &self.token {
            command.env("AWSIOT_TUNNEL_ACCESS_TOKEN", token);
        }
        command.envs(self.environment.iter().cloned());
        // Never the directory of the test run: it might hold a `config` (section 11.4).
        let directory = self.directory.as_deref();
        command.current_dir(directory.unwrap_or(self.scenario.directory()));
    }
}
