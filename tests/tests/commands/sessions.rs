//! `adit ssh` and `adit connect`, through a tunnel to a device whose end is an `adit proxy`.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use adit_tests::deadline::{pause, within};
use adit_tests::process::{Process, Signal};
use adit_tests::scenario::Scenario;
use adit_tests::{kernel, on_own_choice, ports};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::desk::{Desk, run};
use crate::sshd::Sshd;

const OPEN: [&str; 7] = [
    "tunnel",
    "open",
    "--thing",
    "lamp",
    "--service",
    "SSH",
    "--token-dir",
];

/// A tunnel to the device, and the device on it.
async fn device(desk: &Desk, port: u16) -> Result<Process> {
    desk.done(&["thing", "create", "lamp"]).await?;
    let words: Vec<&str> = OPEN.into_iter().chain(["tokens"]).collect();
    desk.done(&words).await?;
    let device = desk.device(&format!("SSH=127.0.0.1:{port}"), "tokens")?;
    within("waiting for the device", async {
        while !summaries(desk)
            .await?
            .iter()
            .any(|tunnel| tunnel["is_there"] == true)
        {
            pause(Duration::from_millis(20)).await;
        }
        Ok(())
    })
    .await?;
    Ok(device)
}

/// The open tunnels, each with whether its device is connected.
async fn summaries(desk: &Desk) -> Result<Vec<Value>> {
    let list = desk
        .json(&["tunnel", "list", "--open", "--thing", "lamp"])
        .await?;
    let mut tunnels = list["tunnelSummaries"]
        .as_array()
        .context("a list")?
        .clone();
    for tunnel in &mut tunnels {
        let id = tunnel["tunnelId"].as_str().context("an id")?.to_owned();
        let shown = desk.json(&["tunnel", "describe", &id]).await?;
        let state = &shown["tunnel"]["destinationConnectionState"]["status"];
        tunnel["is_there"] = (state == "CONNECTED").into();
    }
    Ok(tunnels)
}

/// Waits until `count` tunnels to the lamp are open.
async fn opened(desk: &Desk, count: usize) -> Result<()> {
    within(&format!("opening tunnel {count}"), async {
        while summaries(desk).await?.len() < count {
            pause(Duration::from_millis(20)).await;
        }
        Ok(())
    })
    .await
}

/// A web proxy where there is none, which is not for this service.
fn without_web_proxy(command: &mut Command) -> Result<()> {
    command.env(
        "https_proxy",
        format!("http://127.0.0.1:{}", ports::free()?),
    );
    command.env("no_proxy", "localhost");
    Ok(())
}

async fn ssh_runs_over_a_tunnel_that_is_open(scenario: Scenario) -> Result<()> {
    let desk = Desk::open(&scenario).await?;
    let Some(sshd) = Sshd::start(&scenario).await? else {
        return Ok(());
    };
    let _device = device(&desk, sshd.port).await?;
    let login = sshd.login();
    let (user, _) = login.split_once('@').context("a user")?;
    let known = scenario.path("known hosts");
    // Twice: the second finds the key of the device under the name of the device.
    for (strict, command, code) in [
        ("no", "echo from the lamp", 0),
        ("yes", "echo from the lamp; exit 7", 7),
    ] {
        let options = sshd
            .options()
            .into_iter()
            .map(|option| match option.as_str() {
                "UserKnownHostsFile=/dev/null" => {
                    format!("UserKnownHostsFile=\"{}\"", known.display())
                }
                "StrictHostKeyChecking=no" => format!("StrictHostKeyChecking={strict}"),
                _ => option,
            });
        let mut ssh = desk.command(&["ssh", &format!("{user}@lamp")]);
        ssh.arg("--").args(options).arg(command);
        // What belongs to another tunnel must not get in the way.
        ssh.env("AWSIOT_TUNNEL_ACCESS_TOKEN", "other")
            .env("AWSIOT_TUNNEL_REGION", "x");
        let said = run(ssh).await?;
        ensure!(
            said.code == Some(code) && said.stdout == "from the lamp\n",
            "{:?}: {}",
            said.code,
            said.stderr
        );
    }
    let keys = std::fs::read_to_string(&known)?;
    ensure!(keys.starts_with("lamp "), "{keys}");
    // It was not opened by it, so it is not closed by it; and nothing was opened beside it.
    let open = summaries(&desk).await?;
    ensure!(open.len() == 1 && open[0]["is_there"] == true, "{open:?}");
    Ok(())
}

/// All of it: registered, told over MQTT, reached by its name, and nothing left open.
/// adit forbids core files to itself, and not to the ssh that it starts.
async fn ssh_may_leave_core_files_as_before(scenario: Scenario) -> Result<()> {
    if !kernel::allow_core_files(&scenario)? {
        return Ok(());
    }
    let desk = Desk::open(&scenario).await?;
    let _device = device(&desk, ports::free()?).await?;
    // It is told once it runs.
    let text = "#!/bin/sh\nn=0; while [ \"$(ulimit -c)\" = 0 ] && [ $n -lt 400 ]; do n=$((n+1)); sleep 0.05; done\n\
                grep 'Max core' /proc/$PPID/limits\n";
    let program = scenario.write("ssh", text)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    let mut command = desk.command(&["ssh", "lamp"]);
    command.arg("--ssh").arg(&program);
    let said = run(command).await?;
    ensure!(said.code == Some(0), "{:?}: {}", said.code, said.stderr);
    let own = said.stdout.split_whitespace().nth(4);
    ensure!(own == Some("0"), "of adit itself: {}", said.stdout);
    Ok(())
}

async fn ssh_reaches_a_device_whose_agent_waits(scenario: Scenario) -> Result<()> {
    let desk = Desk::open(&scenario).await?;
    let Some(sshd) = Sshd::start(&scenario).await? else {
        return Ok(());
    };
    let place = format!("SSH=127.0.0.1:{}", sshd.port);
    desk.done(&["thing", "create", "lamp", "--service", &place])
        .await?;
    let agent = desk.bare(&["agent", "--config", "lamp/agent.toml"]);
    let agent = Process::start(&scenario, "agent", agent)?;
    // Before its first subscription nothing is kept for a device.
    agent.line("waiting for tunnels").await?;
    let login = sshd.login();
    let (user, _) = login.split_once('@').context("a user")?;
    let mut ssh = desk.command(&["ssh", &format!("{user}@lamp"), "--timeout", "20s"]);
    without_web_proxy(&mut ssh)?;
    ssh.arg("--")
        .args(sshd.options())
        .arg("echo from the lamp; exit 3");
    let said = run(ssh).await?;
    ensure!(
        said.code == Some(3) && said.stdout == "from the lamp\n",
        "{:?}: {}",
        said.code,
        said.stderr
    );
    ensure!(summaries(&desk).await?.is_empty());
    Ok(())
}

async fn a_device_that_does_not_come_is_said_and_nothing_stays_open(
    scenario: Scenario,
) -> Result<()> {
    let desk = Desk::open(&scenario).await?;
    let said = desk.say(&["ssh", "lamp"]).await?;
    ensure!(
        said.code == Some(4) && said.stderr.contains("`adit thing create` makes one"),
        "{}",
        said.stderr
    );
    desk.done(&["thing", "create", "lamp"]).await?;
    let said = desk.say(&["ssh", "lamp", "--timeout", "1s"]).await?;
    ensure!(said.code == Some(5), "{:?}: {}", said.code, said.stderr);
    for words in [
        "waiting for lamp",
        "error: lamp did not connect within 1s",
        "hint: is `adit agent` running",
    ] {
        ensure!(said.stderr.contains(words), "{}", said.stderr);
    }
    ensure!(summaries(&desk).await?.is_empty());
    // The second finds what the first has left.
    for _ in 0..2 {
        let said = desk
            .say(&["ssh", "lamp", "--timeout", "0s", "--keep"])
            .await?;
        ensure!(
            said.code == Some(5) && summaries(&desk).await?.len() == 1,
            "{}",
            said.stderr
        );
    }
    Ok(())
}

/// An `adit ssh` to the lamp, which is not there yet.
fn waiting(desk: &Desk, scenario: &Scenario, sshd: &Sshd, name: &str) -> Result<Process> {
    let login = sshd.login();
    let (user, _) = login.split_once('@').context("a user")?;
    let mut ssh = desk.command(&["ssh", &format!("{user}@lamp"), "--timeout", "30s"]);
    ssh.arg("--").args(sshd.options()).arg("echo from the lamp");
    Process::start(scenario, name, ssh)
}

/// The tunnel was opened before the device's first subscription, so its message reached nobody.
async fn a_device_that_missed_its_tunnel_is_told_again(scenario: Scenario) -> Result<()> {
    let desk = Desk::open(&scenario).await?;
    let Some(sshd) = Sshd::start(&scenario).await? else {
        return Ok(());
    };
    let place = format!("SSH=127.0.0.1:{}", sshd.port);
    desk.done(&["thing", "create", "lamp", "--service", &place])
        .await?;
    let mut ssh = waiting(&desk, &scenario, &sshd, "ssh")?;
    opened(&desk, 1).await?;
    let port = ports::free()?;
    let connect = desk.command(&["connect", "lamp", &format!("SSH={port}")]);
    let mut connect = Process::start(&scenario, "connect", connect)?;
    opened(&desk, 2).await?;
    let agent = desk.bare(&["agent", "--config", "lamp/agent.toml"]);
    let agent = Process::start(&scenario, "agent", agent)?;
    agent.line("waiting for tunnels").await?;
    for process in [&ssh, &connect] {
        process.line("telling it again (1 of 4)").await?;
    }
    ssh.line("from the lamp").await?;
    ssh.ends_with(0).await?;
    ports::listened_on(port).await?;
    within("talking through connect", async {
        let talks = || {
            let mut client = sshd.client(port);
            client.args([&sshd.login(), "echo from the lamp"]);
            run(client)
        };
        while talks().await?.stdout != "from the lamp\n" {
            pause(Duration::from_millis(50)).await;
        }
        Ok(())
    })
    .await?;
    connect.signal(Signal::Interrupt).await?;
    connect.ends_with(0).await?;
    ensure!(summaries(&desk).await?.is_empty());
    Ok(())
}

/// Neither takes the tunnel of the other, who closes it at its end, though nobody is at its source yet.
async fn two_that_wait_for_a_device_have_a_tunnel_each(scenario: Scenario) -> Result<()> {
    let desk = Desk::open(&scenario).await?;
    let Some(sshd) = Sshd::start(&scenario).await? else {
        return Ok(());
    };
    let place = format!("SSH=127.0.0.1:{}", sshd.port);
    desk.done(&["thing", "create", "lamp", "--service", &place])
        .await?;
    let mut both = Vec::new();
    for name in ["first", "second"] {
        both.push(waiting(&desk, &scenario, &sshd, name)?);
        opened(&desk, both.len()).await?;
    }
    let agent = desk.bare(&["agent", "--config", "lamp/agent.toml"]);
    let _agent = Process::start(&scenario, "agent", agent)?;
    for ssh in &mut both {
        ssh.line("from the lamp").await?;
        ssh.ends_with(0).await?;
    }
    ensure!(summaries(&desk).await?.is_empty());
    Ok(())
}

async fn connect_holds_its_port_over_a_token_that_is_taken_away(scenario: Scenario) -> Result<()> {
    let desk = Desk::open(&scenario).await?;
    let Some(sshd) = Sshd::start(&scenario).await? else {
        return Ok(());
    };
    let _device = device(&desk, sshd.port).await?;
    let port = ports::free()?;
    let mut connect = desk.command(&["connect", "lamp", &format!("SSH={port}"), "-b", "127.0.0.1"]);
    without_web_proxy(&mut connect)?;
    let mut connect = Process::start(&scenario, "connect", connect)?;
    connect.line(&format!("SSH  127.0.0.1:{port}")).await?;
    let talks = || async {
        let mut client = sshd.client(port);
        client.args([&sshd.login(), "echo from the lamp"]);
        run(client).await
    };
    let said = talks().await?;
    ensure!(said.stdout == "from the lamp\n", "{}", said.stderr);
    // Somebody else takes this end: its token is replaced under the feet of `connect`.
    let id = summaries(&desk).await?[0]["tunnelId"]
        .as_str()
        .context("an id")?
        .to_owned();
    desk.json(&["tunnel", "rotate", &id, "--side", "source"])
        .await?;
    within("talking again", async {
        while talks().await?.code != Some(0) {
            pause(Duration::from_millis(50)).await;
        }
        Ok(())
    })
    .await?;
    connect.signal(Signal::Interrupt).await?;
    let status = connect.end().await?;
    ensure!(status.success(), "{status}");
    ensure!(
        summaries(&desk).await?.len() == 1,
        "it was not its own to close"
    );
    Ok(())
}

async fn connect_closes_what_it_opened(scenario: Scenario) -> Result<()> {
    let desk = Desk::open(&scenario).await?;
    desk.done(&["thing", "create", "lamp"]).await?;
    let port = ports::free()?;
    let connect = desk.command(&["connect", "lamp", &format!("SSH={port}"), "--json"]);
    let mut connect = Process::start(&scenario, "connect", connect)?;
    within("opening a tunnel", async {
        while summaries(&desk).await?.is_empty() {
            pause(Duration::from_millis(20)).await;
        }
        Ok(())
    })
    .await?;
    connect.line("tunnel connected").await?;
    connect.signal(Signal::Interrupt).await?;
    let status = connect.end().await?;
    ensure!(status.success(), "{status}");
    ensure!(summaries(&desk).await?.is_empty());
    Ok(())
}

on_own_choice!(
    ssh_runs_over_a_tunnel_that_is_open,
    ssh_may_leave_core_files_as_before,
    ssh_reaches_a_device_whose_agent_waits,
    a_device_that_does_not_come_is_said_and_nothing_stays_open,
    a_device_that_missed_its_tunnel_is_told_again,
    two_that_wait_for_a_device_have_a_tunnel_each,
    connect_holds_its_port_over_a_token_that_is_taken_away,
    connect_closes_what_it_opened,
);
