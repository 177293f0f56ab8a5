//! What an operator has in hand: the hook, SIGHUP, `--check`, modes of files.

use std::os::unix::fs::PermissionsExt;

use adit_tests::deadline::until;
use adit_tests::output::Channel;
use adit_tests::process::Signal;
use adit_tests::scenario::Scenario;
use adit_tests::{kernel, on_own_choice};
use anyhow::{Result, ensure};

use super::stage::{READY, Stage, THING, terminate};

async fn the_hook_has_the_facts_and_never_a_token(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let out = scenario.path("hook.out");
    let text = format!(
        "#!/bin/sh\nenv >> '{0}'\necho \"args $#\" >> '{0}'\n",
        out.display()
    );
    let hook = scenario.write("hook", text)?;
    std::fs::set_permissions(&hook, PermissionsExt::from_mode(0o755))?;
    let agent = stage.launch(&["--on-tunnel", &hook.display().to_string()])?;
    agent.line(READY).await?;
    let (tunnel, _source) = stage.carries(&["SSH"]).await?;
    stage.serve.api()?.close_tunnel(&tunnel.id).await?;
    let read = || std::fs::read_to_string(&out).unwrap_or_default();
    until("waiting for the last run", || {
        read().matches("args 0").count() == 3
    })
    .await?;
    let text = read();
    let events: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("ADIT_EVENT="))
        .collect();
    ensure!(
        events
            == [
                "ADIT_EVENT=opened",
                "ADIT_EVENT=connected",
                "ADIT_EVENT=closed"
            ],
        "{events:?}"
    );
    for line in [
        format!("ADIT_THING={THING}"),
        "ADIT_SERVICES=SSH".to_owned(),
        "ADIT_REGION=us-east-1".to_owned(),
        format!("ADIT_TUNNEL_ENDPOINT={}", stage.serve.endpoint()),
        "ADIT_REASON=the service closed it".to_owned(),
    ] {
        ensure!(text.lines().any(|it| it == line), "{line}: {text}");
    }
    for secret in [
        tunnel.destination_token.as_str(),
        "token-of-the-environment",
        "TOKEN",
    ] {
        ensure!(
            !text.contains(secret),
            "{secret} is in the hook's environment"
        );
    }
    terminate(agent).await
}

/// The agent forbids core files to itself, and no program that it starts.
async fn the_hook_may_leave_core_files_as_before(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    if !kernel::allow_core_files(&scenario)? {
        return Ok(());
    }
    let out = scenario.path("hook.out");
    // It is told once it runs.
    let text = format!(
        "#!/bin/sh\nn=0; while [ \"$(ulimit -c)\" = 0 ] && [ $n -lt 400 ]; do n=$((n+1)); sleep 0.05; done\necho \"$ADIT_EVENT\" >> '{}'\n",
        out.display()
    );
    let hook = scenario.write("hook", text)?;
    std::fs::set_permissions(&hook, PermissionsExt::from_mode(0o755))?;
    let agent = stage.launch(&["--on-tunnel", &hook.display().to_string()])?;
    agent.line(READY).await?;
    ensure!(kernel::core_file_limit(agent.id())? == "0");
    stage.carries(&["SSH"]).await?;
    until("waiting for the runs", || {
        let text = std::fs::read_to_string(&out).unwrap_or_default();
        text.starts_with("opened\nconnected\n")
    })
    .await?;
    ensure!(kernel::core_file_limit(agent.id())? == "0");
    terminate(agent).await
}

async fn a_hook_that_cannot_run_harms_no_tunnel(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let agent = stage.launch(&["--on-tunnel", "/nonexistent/hook"])?;
    agent.line(READY).await?;
    stage.carries(&["SSH"]).await?;
    agent.line("cannot run /nonexistent/hook").await?;
    terminate(agent).await
}

async fn the_services_are_read_again_on_sighup_and_a_bad_file_changes_nothing(
    scenario: Scenario,
) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let mut agent = stage.agent().await?;
    let (_tunnel, source) = stage.carries(&["SSH"]).await?;
    stage.configure("services.VNC = 0")?;
    agent.signal(Signal::Hangup).await?;
    agent.line("the services stay as they are").await?;
    stage.carries(&["SSH"]).await?;
    stage.configure("services.VNC = 5900")?;
    agent.signal(Signal::Hangup).await?;
    agent.line("the services were read again").await?;
    let tunnel = stage.open(&["VNC"]).await?;
    stage.notify(&tunnel, &["VNC"]).await?;
    stage.connected(&tunnel).await?;
    source.echoes().await?;
    terminate(agent).await
}

/// Threat T-26.
async fn what_is_kept_is_its_owners_alone(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let agent = stage.agent().await?;
    stage.carries(&["SSH"]).await?;
    let mode = |name: &str| -> Result<u32> {
        Ok(std::fs::metadata(scenario.path(name))?.permissions().mode() & 0o7777)
    };
    ensure!(mode("device/state")? == 0o700);
    ensure!(mode("device/state/tunnels.json")? == 0o600);
    let mut second = stage.launch(&[])?;
    second.ends_with(6).await?;
    ensure!(
        second.output().has("in use by another"),
        "two agents share a directory"
    );
    terminate(agent).await
}

async fn check_reads_everything_and_connects_to_nothing(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let mut check = stage.launch(&["--check"])?;
    check.ends_with(0).await?;
    let text = check.output().text(Channel::Stdout);
    ensure!(
        text.contains(THING) && text.contains("SSH -> 127.0.0.1:"),
        "{text}"
    );
    ensure!(
        !scenario.path("device/state").exists(),
        "it changed something"
    );
    let key = scenario.path("device/device.key");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644))?;
    for arguments in [&["--check"][..], &[]] {
        let mut agent = stage.launch(arguments)?;
        agent.ends_with(6).await?;
        let text = agent.output().text(Channel::Stderr);
        ensure!(
            text.contains("agent.toml:3: key: ") && text.contains("chmod 600"),
            "{text}"
        );
    }
    Ok(())
}

on_own_choice!(
    the_hook_has_the_facts_and_never_a_token,
    the_hook_may_leave_core_files_as_before,
    a_hook_that_cannot_run_harms_no_tunnel,
    the_services_are_read_again_on_sighup_and_a_bad_file_changes_nothing,
    what_is_kept_is_its_owners_alone,
    check_reads_everything_and_connects_to_nothing,
);
