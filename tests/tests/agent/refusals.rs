//! What starts no tunnel, one by one: forgeries, strangers, what is none.

use std::time::Duration;

use adit_tests::apps;
use adit_tests::deadline::{pause, within_limit};
use adit_tests::on_own_choice;
use adit_tests::output::Channel;
use adit_tests::pki::Pki;
use adit_tests::process::Signal;
use adit_tests::scenario::Scenario;
use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::stage::{Stage, is_silent_about, notification, said, terminate, topic};

/// The agent waits for thirteen seconds by itself.
const REFUSAL_LIMIT: Duration = Duration::from_secs(40);

async fn a_token_of_a_tunnel_that_is_over_starts_nothing(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let agent = stage.agent().await?;
    let (tunnel, _source) = stage.carries(&["SSH"]).await?;
    stage.serve.api()?.close_tunnel(&tunnel.id).await?;
    agent.line("tunnel closed").await?;
    stage.notify(&tunnel, &["SSH"]).await?;
    stage.carries(&["SSH"]).await?;
    ensure!(said(&agent, "tunnel opened") == 2, "it was opened again");
    terminate(agent).await
}

/// The service says so once, and the agent believes it.
async fn a_forged_token_is_tried_once(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let agent = stage.agent().await?;
    let payload = notification("forged-by-somebody-else", &["SSH"]);
    stage.broker.publish(&topic(), &payload).await?;
    let line = agent.line("tunnel closed").await?;
    ensure!(
        line.contains("refused the connection with status 4"),
        "{line}"
    );
    stage.carries(&["SSH"]).await?;
    is_silent_about(&agent, "forged-by-somebody-else")?;
    terminate(agent).await?;
    ensure!(!stage.state()?.contains("forged-by"), "its token is kept");
    Ok(())
}

async fn what_is_no_notification_is_refused_and_named(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let agent = stage.agent().await?;
    let source = notification("t", &["SSH"]).replace("destination", "source");
    for (payload, said) in [
        ("not json", "not JSON"),
        ("{}", "clientMode is missing"),
        (&source, "clientMode is not `destination`"),
        (&notification("t", &[]), "services: 0 of them"),
        (&notification("", &["SSH"]), "clientAccessToken: "),
        (&" ".repeat(100_000), "100000 bytes, the limit is 65536"),
    ] {
        stage.broker.publish(&topic(), payload).await?;
        agent.line(said).await?;
    }
    // Each was acknowledged, so none comes again and nothing stands in the way.
    stage.carries(&["SSH"]).await?;
    ensure!(
        said(&agent, "a notification is refused") == 6,
        "one was refused twice"
    );
    terminate(agent).await
}

/// Threat T-22: whatever somebody writes into any text of a notification, a terminal that shows the log stays as it is.
async fn no_notification_brings_a_control_character_into_the_log(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let agent = stage.agent().await?;
    for (number, sequence) in SEQUENCES.into_iter().enumerate() {
        let good = serde_json::from_str::<Value>(&notification(&format!("t-{number}"), &["SSH"]))?;
        for name in ["clientAccessToken", "clientMode", "region", "services"] {
            let mut payload = good.clone();
            payload[name] = match name {
                "services" => json!(["SSH", sequence]),
                _ => json!(sequence),
            };
            stage.broker.publish(&topic(), &payload.to_string()).await?;
        }
        stage.broker.publish(&topic(), sequence).await?;
    }
    stage.carries(&["SSH"]).await?;
    let log = agent.output().text(Channel::Stderr);
    ensure!(log.contains("a notification is refused"), "{log}");
    let shown = |character: char| character != '\n' && is_control(character);
    let raw: Vec<_> = log.lines().filter(|line| line.contains(shown)).collect();
    ensure!(raw.is_empty(), "raw control characters: {raw:?}");
    terminate(agent).await
}

/// What a terminal would act on: C0, DEL, C1, separators of lines, and changes of direction.
fn is_control(character: char) -> bool {
    character.is_control() || ('\u{2028}'..='\u{202e}').contains(&character)
}

/// A colour, a title, a cleared screen, a line of its own, one-byte forms, a line separator, a change of direction.
const SEQUENCES: [&str; 9] = [
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "\x1b[2J\x1b[H",
    "\r\nERROR forged",
    "a\x08\x08b",
    "\u{9b}31mred",
    "\u{9d}0;title\u{9c}",
    "\u{2028}next",
    "\u{202e}back",
];

/// Those that are known work all the same.
async fn an_unknown_service_is_named_and_leads_nowhere(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let agent = stage.agent().await?;
    let none = stage.open(&["DB"]).await?;
    stage.notify(&none, &["DB"]).await?;
    agent.line("refused: DB; known are SSH").await?;
    agent.line("it names no service of this device").await?;
    let services = ["SSH", "HTTP"];
    let (_tunnel, source) = stage.carries(&services).await?;
    agent.line("refused: HTTP; known are SSH").await?;
    let mut stream = apps::connect(source.ports[1]).await?;
    apps::is_ended(&mut stream).await?;
    source.echoes().await?;
    ensure!(
        said(&agent, "tunnel opened") == 1,
        "a tunnel without a known service was opened"
    );
    terminate(agent).await
}

async fn one_tunnel_too_many_is_refused_alone(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    stage.configure("[limits]\ntunnels = 1")?;
    let agent = stage.agent().await?;
    let (first, source) = stage.carries(&["SSH"]).await?;
    let second = stage.open(&["SSH"]).await?;
    stage.notify(&second, &["SSH"]).await?;
    agent.line("a notification waits for one to end").await?;
    within_limit(REFUSAL_LIMIT, "waiting for the refusal", async {
        while said(&agent, "1 tunnels are open, which is the limit") == 0 {
            pause(Duration::from_millis(50)).await;
        }
        Ok(())
    })
    .await?;
    source.echoes().await?;
    stage.serve.api()?.close_tunnel(&first.id).await?;
    agent.line("tunnel closed").await?;
    stage.carries(&["SSH"]).await?;
    terminate(agent).await
}

/// The end of the old one and the token of the new one come in the same moment, in either order.
async fn a_rotation_needs_no_second_place(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    stage.configure("[limits]\ntunnels = 1")?;
    let mut agent = stage.agent().await?;
    let (mut tunnel, source) = stage.carries(&["SSH"]).await?;
    let api = stage.serve.api()?;
    for _ in 0..5 {
        agent.signal(Signal::Stop).await?;
        tunnel.destination_token = api.rotate_destination(&tunnel.id).await?;
        stage.notify(&tunnel, &["SSH"]).await?;
        stage.disconnected(&tunnel).await?;
        agent.signal(Signal::Continue).await?;
        stage.connected(&tunnel).await?;
        source.echoes().await?;
    }
    terminate(agent).await
}

/// As when somebody closes a tunnel and opens another, and the second is heard of first.
async fn a_notification_that_comes_too_early_waits_for_its_place(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    stage.configure("[limits]\ntunnels = 1")?;
    let agent = stage.agent().await?;
    let (first, _source) = stage.carries(&["SSH"]).await?;
    let second = stage.open(&["SSH"]).await?;
    stage.notify(&second, &["SSH"]).await?;
    agent.line("a notification waits for one to end").await?;
    stage.serve.api()?.close_tunnel(&first.id).await?;
    stage.connected(&second).await?;
    stage.source(&second, &["SSH"]).await?.echoes().await?;
    terminate(agent).await
}

/// Threat T-09: the device hears its own topic only, whoever publishes what.
async fn messages_of_other_topics_are_not_heard(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let agent = stage.agent().await?;
    let tunnel = stage.open(&["SSH"]).await?;
    let payload = notification(&tunnel.destination_token, &["SSH"]);
    for topic in [
        "$aws/things/other/tunnels/notify",
        "$aws/things/lamp-17/tunnels/notify/more",
        "$aws/things/lamp-17/shadow",
    ] {
        stage.broker.publish(topic, &payload).await?;
    }
    stage.carries(&["SSH"]).await?;
    ensure!(
        said(&agent, "tunnel opened") == 1,
        "another topic was heard"
    );
    terminate(agent).await
}

async fn a_certificate_that_is_not_taken_is_told_with_a_hint(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let stranger = Pki::new()?.named("lamp-17", &[])?;
    scenario.write("device/device.pem", stranger.certificate)?;
    scenario.write("device/device.key", stranger.key)?;
    let agent = stage.launch(&[])?;
    agent.line("is it registered there, and ACTIVE?").await?;
    agent.line("connecting again in").await?;
    terminate(agent).await
}

/// A broker that answers to another name is not the broker.
async fn a_broker_of_another_authority_is_not_spoken_to(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    scenario.write("device/ca.pem", Pki::new()?.ca_pem())?;
    let agent = stage.launch(&[])?;
    agent.line("ca must be the authority").await?;
    terminate(agent).await
}

/// A device behind a firewall has no open port, and this is no reason for one.
async fn an_agent_listens_nowhere(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let agent = stage.agent().await?;
    let (_tunnel, _source) = stage.carries(&["SSH"]).await?;
    let sockets = std::fs::read_to_string(format!("/proc/{}/net/tcp", agent.id()))?;
    let own = inodes(agent.id())?;
    for line in sockets.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listens = fields.get(3) == Some(&"0A");
        let is_own = fields
            .get(9)
            .is_some_and(|inode| own.iter().any(|it| it == inode));
        ensure!(!(listens && is_own), "it listens: {line}");
    }
    terminate(agent).await
}

/// The sockets of a process.
fn inodes(id: u32) -> Result<Vec<String>> {
    let mut inodes = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{id}/fd"))? {
        let Ok(target) = std::fs::read_link(entry?.path()) else {
            continue;
        };
        let target = target.to_string_lossy().into_owned();
        if let Some(inode) = target
            .strip_prefix("socket:[")
            .and_then(|it| it.strip_suffix(']'))
        {
            inodes.push(inode.to_owned());
        }
    }
    Ok(inodes)
}

on_own_choice!(
    a_token_of_a_tunnel_that_is_over_starts_nothing,
    a_forged_token_is_tried_once,
    what_is_no_notification_is_refused_and_named,
    no_notification_brings_a_control_character_into_the_log,
    an_unknown_service_is_named_and_leads_nowhere,
    one_tunnel_too_many_is_refused_alone,
    a_rotation_needs_no_second_place,
    a_notification_that_comes_too_early_waits_for_its_place,
    messages_of_other_topics_are_not_heard,
    a_certificate_that_is_not_taken_is_told_with_a_hint,
    a_broker_of_another_authority_is_not_spoken_to,
    an_agent_listens_nowhere,
);
