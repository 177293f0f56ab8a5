//! Threat T-03: a whole life of a tunnel at the most talkative level, and then a search for its secrets in
//! everything that it left.

use std::path::Path;

use adit_tests::api::{Api, Tunnel};
use adit_tests::apps::{self, App, Temper};
use adit_tests::process::{Process, Signal};
use adit_tests::proxy::{CLIENT_VARIABLE, Proxy};
use adit_tests::scenario::Scenario;
use adit_tests::stack::Serve;
use adit_tests::{kernel, on_own_choice, ports};
use anyhow::{Context, Result, ensure};

const SOURCE_CLIENT: &str = "canary-source-0123456789abcdef012345";
const DESTINATION_CLIENT: &str = "canary-destination-0123456789abcdef0";
const THIEF_CLIENT: &str = "canary-thief-0123456789abcdef0123456";
const PAYLOAD: &[u8] = b"canary-of-the-application-itself";
const SERVICE: &str = "SSH";

/// A tunnel that has had its life but for the end.
struct Life {
    serve: Serve,
    tunnel: Tunnel,
    rotated: String,
    source: Process,
    /// The destination up to the rotation, and the one since.
    destinations: [Process; 2],
    /// Who came with the token of the first one.
    thief: Process,
}

async fn no_secret_is_in_what_a_tunnel_leaves_behind(scenario: Scenario) -> Result<()> {
    kernel::allow_core_files(&scenario)?;
    let echo = App::start(Temper::Echo).await?;
    let mut life = Life::lead(&scenario, &echo).await?;
    life.shows_nothing_to_others()?;
    life.end().await?;
    life.logs_nothing()?;
    let files = search(scenario.directory(), &life.secrets())?;
    ensure!(files > 5, "only {files} files were found");
    eprintln!("{files} files");
    Ok(())
}

impl Life {
    /// Bytes, a refusal, a rotation, and bytes again.
    async fn lead(scenario: &Scenario, app: &App) -> Result<Self> {
        let serve = Serve::start_with(scenario, &["-v", "6"]).await?;
        let api = serve.api()?;
        let tunnel = api.open_tunnel(&[SERVICE]).await?;
        let port = ports::free()?;
        let source = Proxy::source(scenario, &format!("{SERVICE}={port}"), &serve.endpoint())
            .token(&tunnel.source_token)
            .trusting(&serve.ca_file())
            .args(["-v", "6", "-i", SOURCE_CLIENT])
            .start()?;
        let dials = format!("{SERVICE}={}", app.address());
        let destination = Proxy::destination(scenario, &dials, &serve.endpoint())
            .token(&tunnel.destination_token)
            .trusting(&serve.ca_file())
            .args(["-v", "6"]);
        let own = destination.clone().env(CLIENT_VARIABLE, DESTINATION_CLIENT);
        let mut first = own.start()?;
        carries(&api, &tunnel, port).await?;

        let mut thief = destination.env(CLIENT_VARIABLE, THIEF_CLIENT).start()?;
        ensure!(!thief.end().await?.success(), "a stolen token is good");
        let rotated = api.rotate_destination(&tunnel.id).await?;
        first.end().await?;
        let second = own.token(&rotated).start()?;
        carries(&api, &tunnel, port).await?;
        Ok(Self {
            serve,
            tunnel,
            rotated,
            source,
            destinations: [first, second],
            thief,
        })
    }

    fn secrets(&self) -> [&[u8]; 7] {
        [
            self.tunnel.source_token.as_bytes(),
            self.tunnel.destination_token.as_bytes(),
            self.rotated.as_bytes(),
            SOURCE_CLIENT.as_bytes(),
            DESTINATION_CLIENT.as_bytes(),
            THIEF_CLIENT.as_bytes(),
            PAYLOAD,
        ]
    }

    /// In the list of processes, or in a core file.
    fn shows_nothing_to_others(&self) -> Result<()> {
        let [_, destination] = &self.destinations;
        for process in [&self.serve.process, &self.source, destination] {
            let id = process.id();
            for file in ["cmdline", "environ"] {
                let path = format!("/proc/{id}/{file}");
                has_none(&path, &std::fs::read(&path)?, &self.secrets())?;
            }
            let limit = kernel::core_file_limit(id)?;
            ensure!(limit == "0", "process {id} may leave {limit}");
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<()> {
        self.serve.api()?.close_tunnel(&self.tunnel.id).await?;
        let [_, destination] = &mut self.destinations;
        ensure!(self.source.end().await.is_ok() && destination.end().await.is_ok());
        self.serve.process.signal(Signal::Terminate).await?;
        self.serve.process.ends_with(0).await
    }

    fn logs_nothing(&self) -> Result<()> {
        let [first, second] = &self.destinations;
        for (name, process) in [
            ("serve", &self.serve.process),
            ("source", &self.source),
            ("first destination", first),
            ("thief", &self.thief),
            ("second destination", second),
        ] {
            let lines = process.output();
            has_none(name, lines.tail(usize::MAX).as_bytes(), &self.secrets())?;
            ensure!(lines.count() > 3, "{name} said nothing at all");
        }
        ensure!(
            self.serve.process.output().has("DEBUG") && self.source.output().has("DEBUG"),
            "the logs are not talkative"
        );
        Ok(())
    }
}

/// Bytes go through the tunnel and come back.
async fn carries(api: &Api, tunnel: &Tunnel, port: u16) -> Result<()> {
    api.wait_connected(&tunnel.id, true, true).await?;
    ports::listened_on(port).await?;
    let mut client = apps::connect(port).await?;
    apps::ping(&mut client, PAYLOAD).await
}

fn has_none(place: &str, bytes: &[u8], secrets: &[&[u8]]) -> Result<()> {
    for secret in secrets {
        let is_there = bytes.windows(secret.len()).any(|window| window == *secret);
        ensure!(
            !is_there,
            "{} is in {place}",
            String::from_utf8_lossy(secret)
        );
    }
    Ok(())
}

/// Looks into every file below a directory, and returns how many there are.
fn search(directory: &Path, secrets: &[&[u8]]) -> Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            count += search(&path, secrets)?;
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
            has_none(&path.display().to_string(), &bytes, secrets)?;
            count += 1;
        }
    }
    Ok(count)
}

on_own_choice!(no_secret_is_in_what_a_tunnel_leaves_behind);
