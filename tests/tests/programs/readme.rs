//! The commands of `README.md` under "Use it", in their order, as somebody would paste them.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use adit_tests::on_own_choice;
use adit_tests::ports;
use adit_tests::programs;
use adit_tests::scenario::Scenario;
use anyhow::{Context, Result, ensure};

use super::sshd::Sshd;

const README: &str = include_str!("../../../README.md");

/// What `sleep` means to the reader of the file: until it is there. A busy machine needs longer than a person, and
/// nobody can say how long. First for the service, then for the agent, for which `adit ssh` waits as well, and
/// twice for the two ends of the tunnel that `tokens` is for.
const SLEEP: &str = r#"
is_there() {
  case $1 in
    1) [ -s adit-data/endpoints.json ] ;;
    2) true ;;
    *) local id
      id=$(adit tunnel list --open --data-dir adit-data | { read -r _; read -r id _; echo "$id"; })
      [ "$(adit tunnel describe "$id" --data-dir adit-data | grep -cE '^(source|destination) +connected')" = 2 ] ;;
  esac
}
sleeps=0
sleep() {
  sleeps=$((sleeps + 1))
  command sleep 4
  until is_there "$sleeps"; do command sleep 0.2; done
}
"#;

/// Each `ssh` of the file takes milliseconds; what takes time is the waiting that is said with `sleep`.
const LIMIT: Duration = Duration::from_secs(50);

/// The blocks of shell under a heading, in order.
fn blocks(heading: &str) -> Option<Vec<&'static str>> {
    let (_, section) = README.split_once(&format!("\n## {heading}\n"))?;
    let section = section.split("\n## ").next()?;
    let blocks = section.split("\n```sh\n").skip(1);
    blocks.map(|block| block.split("\n```").next()).collect()
}

/// Other ports than the usual ones, which may be taken here; nothing else is changed.
fn with_free_ports(script: &str, sshd: u16) -> Result<String> {
    let mut script = script.replace("SSH=22", &format!("SSH={sshd}"));
    for usual in ["7401", "7443", "8883", "5555"] {
        ensure!(script.contains(usual), "no port {usual} in README.md");
        script = script.replace(usual, &ports::free()?.to_string());
    }
    let (serve, rest) = script.split_once(" & ").context("serve is the first")?;
    let port_behind = |text: &str| -> Option<String> {
        let (_, port) = rest.split_once(text)?;
        Some(port.chars().take_while(char::is_ascii_digit).collect())
    };
    let api = port_behind("https://localhost:").context("no API in README.md")?;
    let tunnel = port_behind("-e localhost:").context("no relay in README.md")?;
    Ok(format!(
        "{serve} --api-listen 127.0.0.1:{api} --tunnel-listen 127.0.0.1:{tunnel} & {rest}"
    ))
}

fn write_program(path: &Path, script: &str) -> Result<()> {
    std::fs::write(path, format!("#!/bin/sh\n{script}\n"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

async fn the_commands_of_the_readme_work_in_their_order(scenario: Scenario) -> Result<()> {
    let Some([bash]) = programs::find(&scenario, ["bash"])? else {
        return Ok(());
    };
    let Some(sshd) = Sshd::start(&scenario).await? else {
        return Ok(());
    };
    let directory = scenario.directory();
    let release = directory.join("target/release");
    let tools = directory.join("tools");
    for directory in [&release, &tools] {
        std::fs::create_dir_all(directory)?;
    }
    symlink(scenario.binary().adit_path(), release.join("adit"))?;
    // The user's own configuration, and what they would type into the shell.
    let (real, options) = (sshd.ssh.display(), sshd.options().join(" "));
    let session = "echo 'echo \"through $((6 * 7))\"'";
    let user = sshd.login();
    let (user, _) = user.split_once('@').context("no user")?;
    let ssh = format!("{session} | {real} -l {user} {options} \"$@\"");
    write_program(&tools.join("ssh"), &ssh)?;
    // Another program's affair: that it reaches the API has its own test.
    write_program(&tools.join("aws"), "echo '{}'")?;

    let blocks = blocks("Use it").context("no section in README.md")?;
    let all = blocks.join("\n");
    let logins = all.matches("\nssh ").count() + all.matches("\nadit ssh ").count();
    ensure!(logins >= 3, "{logins} calls of ssh in README.md");
    let (first, rest) = all.split_once('\n').context("one line only")?;
    ensure!(first.starts_with("export PATH="), "{first}");
    let rest = with_free_ports(rest, sshd.port)?;
    let script =
        format!("set -e -o pipefail\n{SLEEP}\ntrap 'kill $(jobs -p)' EXIT\n{first}\n{rest}\n");
    let script = scenario.write("readme.sh", script)?;
    let mut command: Command = programs::command(&bash);
    command.arg(script).current_dir(directory);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", tools.display()));
    command.env("HOME", scenario.binary().home());
    let output = programs::run(LIMIT, command).await?;
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let through = said.matches("through 42").count();
    ensure!(
        through == logins,
        "{through} of {logins} logins:\n{said}{complained}"
    );
    Ok(())
}

on_own_choice!(the_commands_of_the_readme_work_in_their_order);
