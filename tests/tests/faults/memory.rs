//! R-06: a service in a control group of 128 MiB, offered twice as many tunnels as fit, of which none is read at its far end,
//! so that each takes all that a tunnel can take in one direction. It refuses those that are too many (503, and resets where it is
//! worse, for which the limit is lowered), is not ended by the kernel, carries on what it has, and takes in others again when
//! there is room.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use adit_tests::api::Api;
use adit_tests::deadline::{pause, until, within_limit};
use adit_tests::link::Link;
use adit_tests::on_own_choice;
use adit_tests::output::Channel;
use adit_tests::programs;
use adit_tests::scenario::Scenario;
use adit_tests::scripted_proxy::{Endpoint, Refused, Upgrade};
use adit_tests::stack::Serve;
use adit_tests::wire::{Message, PAYLOAD_MAX, Route, v3};
use anyhow::{Context, Result, bail, ensure};
use tokio::task::JoinSet;

use super::pair::Pair;

const LIMIT: Duration = Duration::from_secs(1_200);

/// Of the group.
const MEMORY: u64 = 128 << 20;

/// More than fit, with 292 KiB for each direction at least.
const TUNNELS_MAX: usize = 1_000;

const ROUTE: Route<'_> = v3("SSH", 1, 1);

/// A memory control group of the test's own.
struct Group {
    directory: PathBuf,
    limit: &'static str,
    usage: &'static str,
}

impl Group {
    /// `None` where there is no leave to make one, or this machine has no such thing.
    fn make(scenario: &Scenario) -> Result<Option<Self>> {
        let memberships = std::fs::read_to_string("/proc/self/cgroup")?;
        let name = format!("adit-test-{}", std::process::id());
        for line in memberships.lines() {
            let (root, limit, usage) = match line.split(':').nth(1) {
                Some("") => ("/sys/fs/cgroup", "memory.max", "memory.current"),
                Some("memory") => (
                    "/sys/fs/cgroup/memory",
                    "memory.limit_in_bytes",
                    "memory.usage_in_bytes",
                ),
                _ => continue,
            };
            let directory = Path::new(root).join(&name);
            if std::fs::create_dir(&directory).is_err() {
                continue;
            }
            let group = Self {
                directory,
                limit,
                usage,
            };
            if group.set_limit(MEMORY).is_ok() {
                return Ok(Some(group));
            }
        }
        programs::lacking(scenario, "leave to make a memory control group")
    }

    /// A command that is run in it.
    fn holds(&self, command: &Command) -> Command {
        let mut shell = programs::command(Path::new("/bin/sh"));
        let script = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;
        shell.args(["-c", script]).arg(&self.directory);
        programs::wrapped(shell, command)
    }

    fn set_limit(&self, bytes: u64) -> std::io::Result<()> {
        std::fs::write(self.directory.join(self.limit), bytes.to_string())
    }

    /// Lowers the limit, so that what is used is between 98 and 99 % of it. Pages of files go first.
    fn lower_limit(&self) -> Result<()> {
        let used: u64 = self.read(self.usage)?.trim().parse()?;
        let stat = self.read("memory.stat")?;
        let count = |name: &str| {
            let count = stat.lines().find_map(|line| line.strip_prefix(name));
            count.and_then(|count| count.trim().parse::<u64>().ok())
        };
        let files = count("inactive_file ").unwrap_or(0) + count("active_file ").unwrap_or(0);
        let limit = used.saturating_sub(files) * 1_000 / 985;
        self.set_limit(limit)
            .with_context(|| format!("a limit of {limit} bytes"))
    }

    fn read(&self, file: &str) -> Result<String> {
        std::fs::read_to_string(self.directory.join(file)).with_context(|| file.to_owned())
    }

    /// Most that was ever used, files that were read included.
    fn peak(&self) -> String {
        let files = ["memory.peak", "memory.max_usage_in_bytes"];
        let mut texts = files
            .iter()
            .flat_map(|file| std::fs::read_to_string(self.directory.join(file)));
        let peak: Option<u64> = texts.next().and_then(|text| text.trim().parse().ok());
        peak.map_or("?".to_owned(), |peak| format!("{} %", peak * 100 / MEMORY))
    }

    /// How often the kernel has ended a process of it.
    fn killed(&self) -> Result<u64> {
        for file in ["memory.events", "memory.oom_control"] {
            let Ok(text) = std::fs::read_to_string(self.directory.join(file)) else {
                continue;
            };
            let mut lines = text.lines();
            if let Some(count) = lines.find_map(|line| line.strip_prefix("oom_kill ")) {
                return Ok(count.trim().parse()?);
            }
        }
        bail!("the group does not say how often it has ended anybody")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What was in it is ended before, and gone a moment later.
        let end = Instant::now() + Duration::from_secs(2);
        while std::fs::remove_dir(&self.directory).is_err() && Instant::now() < end {
            std::thread::yield_now();
        }
    }
}

/// What became of one who wants in.
enum Outcome {
    In(Box<Link>),
    Refused(Box<Refused>),
    Reset,
}

async fn comes(endpoint: &Endpoint, mode: &str, token: &str) -> Outcome {
    let upgrade = Upgrade::new(mode, token).encode(&endpoint.host);
    let Ok(mut connected) = endpoint.connect().await else {
        return Outcome::Reset;
    };
    let answer = async {
        connected.send(&upgrade).await?;
        connected.answer().await
    };
    match answer.await {
        Ok(Ok(link)) => Outcome::In(Box::new(link)),
        Ok(Err(refused)) => Outcome::Refused(Box::new(refused)),
        Err(_) => Outcome::Reset,
    }
}

/// Tunnels that are sent to, and nobody reads.
#[derive(Default)]
struct Crowd {
    tunnels: usize,
    links: Vec<Link>,
    writers: JoinSet<Result<()>>,
    refused: usize,
    reset: usize,
    /// Side and token of who was turned away last.
    outside: Option<(&'static str, String)>,
}

impl Crowd {
    /// Both sides of one more tunnel come.
    async fn grows(&mut self, api: &Api, endpoint: &Endpoint) -> Result<()> {
        let tunnel = api.open_tunnel(&["SSH"]).await?;
        let destination = self.comes(endpoint, "destination", &tunnel.destination_token);
        let Some(destination) = destination.await? else {
            return Ok(());
        };
        // Whoever does not take events does not read, after a few of them.
        self.links.push(destination);
        let source = self.comes(endpoint, "source", &tunnel.source_token);
        let Some(source) = source.await? else {
            return Ok(());
        };
        self.tunnels += 1;
        self.writers.spawn(async move {
            source.send(&Message::stream_start(ROUTE)).await?;
            let message = Message::data(ROUTE, vec![9; PAYLOAD_MAX]);
            loop {
                source.send(&message).await?;
            }
        });
        Ok(())
    }

    async fn comes(
        &mut self,
        endpoint: &Endpoint,
        mode: &'static str,
        token: &str,
    ) -> Result<Option<Link>> {
        match comes(endpoint, mode, token).await {
            Outcome::In(link) => return Ok(Some(*link)),
            Outcome::Reset => self.reset += 1,
            Outcome::Refused(refused) => {
                self.refused += 1;
                let retry = refused.head.header("retry-after");
                ensure!(
                    refused.head.start_line.contains(" 503 ") && retry == Some("5"),
                    "{refused:?}"
                );
            }
        }
        self.outside = Some((mode, token.to_owned()));
        Ok(None)
    }

    fn turned_away(&self) -> usize {
        self.refused + self.reset
    }
}

async fn a_service_short_of_memory_refuses_links_and_keeps_those_it_has(
    scenario: Scenario,
) -> Result<()> {
    let Some(group) = Group::make(&scenario)? else {
        return Ok(());
    };
    let mut serve =
        Serve::start_changed(&scenario, |command| *command = group.holds(command)).await?;
    let mut pair = Pair::start(&scenario, &serve).await?;
    let load = pair.load(4, 300_000);
    let (api, endpoint) = (serve.api()?, serve.tunnel());
    let (mut crowd, begin) = (Crowd::default(), Instant::now());
    while crowd.turned_away() == 0 {
        crowd.grows(&api, &endpoint).await?;
        serve.process.still_runs()?;
        ensure!(crowd.tunnels < TUNNELS_MAX, "nobody was refused");
    }
    let fitted = crowd.tunnels;
    for _ in 0..fitted {
        crowd.grows(&api, &endpoint).await?;
    }
    eprintln!(
        "R-06: {fitted} tunnels fitted; of as many more {} came in, {} sides were answered 503 and {} reset; {:.0} s, {} of \
         the limit used at most, {} resident",
        crowd.tunnels - fitted,
        crowd.refused,
        crowd.reset,
        begin.elapsed().as_secs_f64(),
        group.peak(),
        peak(&serve)?,
    );
    says(&serve, "memory is short: new links are refused").await?;
    let (mode, token) = crowd.outside.context("somebody was turned away")?;
    within_limit(Duration::from_secs(60), "a reset", async {
        loop {
            group.lower_limit()?;
            match comes(&endpoint, mode, &token).await {
                Outcome::Reset => return Ok(()),
                // Less is used than a moment before.
                Outcome::Refused(_) => pause(Duration::from_millis(10)).await,
                Outcome::In(_) => bail!("a link was let in over 98 % of the limit"),
            }
        }
    })
    .await?;
    says(&serve, "memory is nearly used up: connections are reset").await?;
    group.set_limit(MEMORY)?;
    serve.process.still_runs()?;
    ensure!(group.killed()? == 0, "the kernel has ended a process");
    load.goes_on(10).await?;
    // Nobody's token was spent in vain, and there is room again.
    crowd.writers.shutdown().await;
    crowd.links.clear();
    let back = Instant::now();
    within_limit(Duration::from_secs(60), "room for another link", async {
        while !matches!(comes(&endpoint, mode, &token).await, Outcome::In(_)) {
            pause(Duration::from_millis(100)).await;
        }
        Ok(())
    })
    .await?;
    eprintln!("R-06: opens again after {:?}", back.elapsed());
    let complete = load.stop_whole().await?;
    eprintln!("R-06: {complete} exchanges meanwhile, none cut");
    pair.recovers().await?;
    pair.source.still_runs()?;
    pair.destination.still_runs()
}

async fn says(serve: &Serve, line: &str) -> Result<()> {
    until(line, || {
        let said = serve.process.output().text(Channel::Stderr);
        said.contains(line)
    })
    .await
}

/// Most memory that was resident, in KiB.
fn peak(serve: &Serve) -> Result<String> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", serve.process.id()))?;
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.context("no peak")?.trim().to_owned())
}

on_own_choice!(
    within LIMIT;
    a_service_short_of_memory_refuses_links_and_keeps_those_it_has,
);
