//! `adit tunnel`, verb by verb.

use std::os::unix::fs::PermissionsExt;

use adit_tests::on_own_choice;
use adit_tests::scenario::Scenario;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::desk::Desk;

fn text<'a>(value: &'a Value, member: &str) -> Result<&'a str> {
    value[member]
        .as_str()
        .with_context(|| format!("no {member} in {value}"))
}

async fn a_tunnel_lives_from_open_to_close(scenario: Scenario) -> Result<()> {
    let desk = Desk::open(&scenario).await?;
    let opened = desk
        .json(&[
            "tunnel",
            "open",
            "--service",
            "SSH",
            "--service",
            "WEB",
            "--lifetime",
            "30m",
            "--description",
            "the lamp",
            "--tag",
            "owner=ada",
        ])
        .await?;
    let id = text(&opened, "tunnelId")?;
    ensure!(text(&opened, "sourceAccessToken")? != text(&opened, "destinationAccessToken")?);
    let tunnel = desk.json(&["tunnel", "describe", id]).await?;
    let tunnel = &tunnel["tunnel"];
    ensure!(
        tunnel["destinationConfig"]["services"] == json!(["SSH", "WEB"]),
        "{tunnel}"
    );
    ensure!(
        tunnel["timeoutConfig"]["maxLifetimeTimeoutMinutes"] == 30,
        "{tunnel}"
    );
    ensure!(
        tunnel["tags"] == json!([{ "key": "owner", "value": "ada" }]),
        "{tunnel}"
    );

    desk.done(&["tunnel", "tag", id, "ticket=1815", "empty="])
        .await?;
    let tags = desk
        .done(&["tunnel", "tag", id, "--remove", "owner"])
        .await?;
    let mut tags: Vec<&str> = tags.lines().collect();
    tags.sort_unstable();
    ensure!(tags == ["empty=", "ticket=1815"], "{tags:?}");

    let table = desk.done(&["tunnel", "list"]).await?;
    let mut lines = table.lines();
    ensure!(
        lines
            .next()
            .is_some_and(|line| line.starts_with("ID ") && line.ends_with("DESCRIPTION")),
        "{table}"
    );
    let line = lines.next().context("a line for the tunnel")?;
    ensure!(
        line.starts_with(id) && line.ends_with("the lamp") && line.contains(" open "),
        "{line}"
    );
    ensure!(!table.contains('\u{1b}'), "colours in a pipe: {table:?}");

    desk.done(&["tunnel", "close", id]).await?;
    let open = desk.json(&["tunnel", "list", "--open"]).await?;
    ensure!(open["tunnelSummaries"] == json!([]), "{open}");
    let shown = desk.done(&["tunnel", "describe", id]).await?;
    ensure!(shown.contains("closed"), "{shown}");
    desk.done(&["tunnel", "close", "--delete", id]).await?;
    let gone = desk.say(&["tunnel", "describe", id]).await?;
    ensure!(gone.code == Some(4), "{:?}", gone.code);
    ensure!(
        gone.stderr
            .starts_with("error: DescribeTunnel: ResourceNotFoundException")
            && gone.stderr.contains("hint: `adit tunnel list`"),
        "{}",
        gone.stderr
    );
    Ok(())
}

async fn tokens_go_into_private_files(scenario: Scenario) -> Result<()> {
    let desk = Desk::open(&scenario).await?;
    let output = desk
        .done(&[
            "tunnel",
            "open",
            "--service",
            "SSH",
            "--token-dir",
            "tokens",
        ])
        .await?;
    let read = |name: &str| -> Result<String> {
        let path = scenario.path("tokens").join(name);
        let mode = std::fs::metadata(&path)?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "{name} has mode {mode:o}");
        Ok(std::fs::read_to_string(path)?.trim().to_owned())
    };
    let (source, destination) = (read("source-token")?, read("destination-token")?);
    ensure!(
        !output.contains(&source) && !output.contains(&destination),
        "{output}"
    );
    let id = output
        .lines()
        .find_map(|line| line.strip_prefix("id"))
        .context("the id")?
        .trim();
    for (side, replaced) in [
        ("source", [true, false]),
        ("destination", [false, true]),
        ("all", [true, true]),
    ] {
        let before = [read("source-token")?, read("destination-token")?];
        desk.done(&[
            "tunnel",
            "rotate",
            id,
            "--side",
            side,
            "--token-dir",
            "tokens",
        ])
        .await?;
        let after = [read("source-token")?, read("destination-token")?];
        let changed = [0, 1].map(|at| before[at] != after[at]);
        ensure!(changed == replaced, "{side}: {changed:?}");
    }
    Ok(())
}

async fn a_list_has_every_page(scenario: Scenario) -> Result<()> {
    const COUNT: usize = 130;
    let desk = Desk::open(&scenario).await?;
    // Opening is not what is tested: many at a time.
    let mut opened = tokio::task::JoinSet::new();
    for _ in 0..COUNT {
        let command = desk.command(&["tunnel", "open", "--service", "SSH"]);
        opened.spawn(crate::desk::run(command));
        if opened.len() == 8 {
            let said = opened.join_next().await.context("one of eight")???;
            ensure!(said.code == Some(0), "{}", said.stderr);
        }
    }
    while let Some(said) = opened.join_next().await {
        ensure!(said??.code == Some(0));
    }
    let all = desk.json(&["tunnel", "list"]).await?;
    let all = all["tunnelSummaries"].as_array().context("a list")?;
    let mut ids: Vec<&str> = all
        .iter()
        .filter_map(|tunnel| tunnel["tunnelId"].as_str())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == COUNT, "{} tunnels", ids.len());
    Ok(())
}

async fn closing_several_goes_on_over_one_that_fails(scenario: Scenario) -> Result<()> {
    let desk = Desk::open(&scenario).await?;
    let opened = desk.json(&["tunnel", "open"]).await?;
    let id = text(&opened, "tunnelId")?;
    let said = desk.say(&["tunnel", "close", "none", id]).await?;
    ensure!(
        said.code == Some(4) && said.stdout == format!("{id} closed\n"),
        "{}",
        said.stderr
    );
    ensure!(
        said.stderr.contains("ResourceNotFoundException"),
        "{}",
        said.stderr
    );
    // For a program, what was closed is one document.
    let words = ["tunnel", "close", "--json", "--delete", "none", id];
    let said = desk.say(&words).await?;
    ensure!(said.code == Some(4), "{}", said.stderr);
    let closed: Value = serde_json::from_str(&said.stdout)?;
    let expected = json!({ "tunnelId": id, "status": "CLOSED", "deleted": true });
    ensure!(closed == json!({ "tunnels": [expected] }), "{closed}");
    Ok(())
}

on_own_choice!(
    a_tunnel_lives_from_open_to_close,
    tokens_go_into_private_files,
    a_list_has_every_page,
    closing_several_goes_on_over_one_that_fails,
);
