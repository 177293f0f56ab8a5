//! The lines that scripts look for, where they look for them, in the form they expect.

use adit_tests::apps::{self, App, Temper};
use adit_tests::on_own_choice;
use adit_tests::output::Channel;
use adit_tests::ports;
use adit_tests::proxy::{Proxy, TOKEN};
use adit_tests::scenario::Scenario;
use adit_tests::scripted_service::ScriptedService;
use adit_tests::wire::{Message, v3};
use anyhow::{Result, ensure};

/// `[YYYY-MM-DD HH:MM:SS.ffffff] (thread) [level] text`
fn is_log_line(line: &str) -> bool {
    let shape: String = line
        .chars()
        .take(28)
        .map(|character| {
            if character.is_ascii_digit() {
                '9'
            } else {
                character
            }
        })
        .collect();
    let rest = line.get(28..).unwrap_or_default();
    shape == "[9999-99-99 99:99:99.999999]"
        && rest.starts_with(" (")
        && ["trace", "debug", "info", "warning", "error", "fatal"]
            .iter()
            .any(|level| rest.contains(&format!(") [{level}] ")))
}

async fn a_source_says_what_scripts_wait_for(scenario: Scenario) -> Result<()> {
    let service = ScriptedService::start(&scenario).await?;
    let (port, endpoint) = (ports::free()?, service.endpoint()?);
    let proxy = Proxy::source(&scenario, &format!("SSH={port}"), &endpoint).as_localproxy();
    let process = proxy.start()?;
    let mut link = service.admit(&["SSH"]).await?;
    process
        .line("Running AWS IoT Secure Tunneling Local Proxy version: v3.3.1")
        .await?;
    let established = format!(
        "Successfully established websocket connection with proxy server: wss://{endpoint}"
    );
    process.line(&established).await?;
    process
        .line("Web socket session ID: scripted-channel")
        .await?;
    process
        .line(&format!("Listening for new connection on port {port}"))
        .await?;
    let client = apps::connect(port).await?;
    let peer = client.local_addr()?;
    link.expect(&Message::stream_start(v3("SSH", 1, 1))).await?;
    process
        .line(&format!(
            "Accepted tcp connection on port {port} from {peer}"
        ))
        .await?;

    let out = process.output().text(Channel::Stdout);
    ensure!(
        out == "Running AWS IoT Secure Tunneling Local Proxy version: v3.3.1",
        "{out}"
    );
    for line in process.output().text(Channel::Stderr).lines() {
        ensure!(is_log_line(line), "not in the reference's form: {line}");
    }
    Ok(())
}

async fn a_destination_says_what_it_reached(scenario: Scenario) -> Result<()> {
    let echo = App::start(Temper::Echo).await?;
    let service = ScriptedService::start(&scenario).await?;
    let mapping = format!("SSH={}", echo.address());
    let proxy = Proxy::destination(&scenario, &mapping, &service.endpoint()?).as_localproxy();
    let process = proxy.start()?;
    let link = service.admit(&["SSH"]).await?;
    link.send(&Message::stream_start(v3("SSH", 1, 1))).await?;
    let reached = format!("Connected to 127.0.0.1, port: {}", echo.address().port());
    process.line(&reached).await?;
    Ok(())
}

/// At the most talkative level, no secret is among the words.
async fn no_level_shows_a_token(scenario: Scenario) -> Result<()> {
    let client_token = "0123456789abcdef0123456789abcdef";
    let payload = "the-application's-own-secret";
    for as_localproxy in [true, false] {
        let service = ScriptedService::start(&scenario).await?;
        let port = ports::free()?;
        let proxy = Proxy::source(&scenario, &format!("SSH={port}"), &service.endpoint()?).args([
            "-v",
            "6",
            "-i",
            client_token,
        ]);
        let proxy = if as_localproxy {
            proxy.as_localproxy()
        } else {
            proxy
        };
        let mut process = proxy.start()?;
        let mut link = service.admit(&["SSH"]).await?;
        ports::listened_on(port).await?;
        let mut client = apps::connect(port).await?;
        link.expect(&Message::stream_start(v3("SSH", 1, 1))).await?;
        tokio::io::AsyncWriteExt::write_all(&mut client, payload.as_bytes()).await?;
        link.expect_data(v3("SSH", 1, 1), payload.as_bytes())
            .await?;
        link.writer().close(1000, "").await?;
        process.ends_with(0).await?;
        for secret in [TOKEN, client_token, payload] {
            ensure!(!process.output().has(secret), "{secret} is shown");
        }
        ensure!(process.output().count() > 3, "nothing is shown at all");
    }
    Ok(())
}

on_own_choice!(
    a_source_says_what_scripts_wait_for,
    a_destination_says_what_it_reached,
    no_level_shows_a_token,
);
