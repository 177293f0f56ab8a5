//! Threats T-01 and T-02: who looks at the list of processes finds no token.
//!
//! `ADIT_STARTS` is how often each way to give a token is tried (a release: 200).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use adit_tests::deadline::pause;
use adit_tests::on_own_choice;
use adit_tests::ports;
use adit_tests::process::Process;
use adit_tests::proxy::{Proxy, Side};
use adit_tests::scenario::Scenario;
use adit_tests::scripted_service::{Knock, ScriptedService};
use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;

const LIMIT: Duration = Duration::from_secs(600);
const TOKEN: &str = "canary-5c1d-access-token";
const CLIENT_TOKEN: &str = "canary-9e27-client-token-0123456789abcdef";

fn starts() -> Result<usize> {
    match std::env::var("ADIT_STARTS") {
        Ok(text) => text.parse().context("ADIT_STARTS is no number"),
        Err(_) => Ok(5),
    }
}

/// `cmdline` or `environ` of a process, as everybody may read the one and its user the other.
fn shown(process: u32, file: &str) -> Vec<u8> {
    std::fs::read(format!("/proc/{process}/{file}")).unwrap_or_default()
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// The command line of a process, looked at every millisecond.
struct Watch {
    is_over: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Vec<(Instant, Vec<u8>)>>,
}

impl Watch {
    fn start(process: u32) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let task = tokio::spawn(async move {
            let mut samples = Vec::new();
            while !until.load(Ordering::Relaxed) {
                samples.push((Instant::now(), shown(process, "cmdline")));
                pause(Duration::from_millis(1)).await;
            }
            samples
        });
        Self { is_over, task }
    }

    /// How long the adit of this path showed a token, and how many looks there were.
    async fn end(self, path: &str) -> Result<(Duration, usize)> {
        self.is_over.store(true, Ordering::Relaxed);
        let samples = self.task.await?;
        let mut times = samples
            .iter()
            .filter(|(_, line)| line.starts_with(path.as_bytes()))
            .filter(|(_, line)| has(line, TOKEN) || has(line, CLIENT_TOKEN))
            .map(|(time, _)| *time);
        let first = times.next();
        let window = first.map(|first| times.next_back().unwrap_or(first) - first);
        Ok((window.unwrap_or_default(), samples.len()))
    }
}

/// A proxy that has read its token, since it asks the service for its tunnel with it.
async fn knock(service: &ScriptedService, process: &Process) -> Result<Knock> {
    let knock = service.knock().await?;
    ensure!(
        knock.request.header("access-token") == Some(TOKEN),
        "it came without its token"
    );
    for file in ["cmdline", "environ"] {
        let bytes = shown(process.id(), file);
        ensure!(!bytes.is_empty(), "its {file} cannot be read");
        ensure!(
            !has(&bytes, TOKEN) && !has(&bytes, CLIENT_TOKEN),
            "a token is in its {file}: {}",
            String::from_utf8_lossy(&bytes)
        );
    }
    Ok(knock)
}

fn source(scenario: &Scenario, service: &ScriptedService) -> Result<Proxy> {
    Ok(Proxy::new(scenario, "source")
        .mapping(Side::Source, &format!("SSH={}", ports::free()?))
        .endpoint(&service.endpoint()?)
        .without_token())
}

async fn a_token_on_the_command_line_is_overwritten_at_once(scenario: Scenario) -> Result<()> {
    let service = ScriptedService::start(&scenario).await?;
    let (mut longest, mut looks) = (Duration::ZERO, 0);
    for number in 0..starts()? {
        let spellings: [&[&str]; 4] = [
            &["-t", TOKEN, "-i", CLIENT_TOKEN],
            &["--access-token", TOKEN, "--client-token", CLIENT_TOKEN],
            &["--acc=canary-5c1d-access-token"],
            &["-kt", TOKEN],
        ];
        let spellings = spellings.iter().cycle().skip(number);
        for (as_localproxy, spelling) in [true, false].into_iter().zip(spellings) {
            let proxy = source(&scenario, &service)?.args(spelling.iter().copied());
            let (proxy, name) = match as_localproxy {
                true => (proxy.as_localproxy(), "localproxy"),
                false => (proxy, "adit"),
            };
            let process = proxy.start()?;
            let path = scenario.binary().adit_path().with_file_name(name);
            let watch = Watch::start(process.id());
            let _knock = knock(&service, &process)
                .await
                .with_context(|| format!("{name} {spelling:?}"))?;
            ensure!(
                has(&shown(process.id(), "cmdline"), "****"),
                "nothing is masked"
            );
            let (window, count) = watch.end(&path.to_string_lossy()).await?;
            longest = longest.max(window);
            looks += count;
        }
    }
    eprintln!("{looks} looks, a token was seen for at most {longest:?}");
    Ok(())
}

async fn no_other_way_to_give_a_token_shows_it(scenario: Scenario) -> Result<()> {
    let service = ScriptedService::start(&scenario).await?;
    let file = scenario.write("token", format!("{TOKEN}\n"))?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, private)?;
    scenario.write("credentials/access-token", TOKEN)?;
    let credentials = scenario.path("credentials");
    let path = file.to_string_lossy().into_owned();
    let adit = scenario.binary().adit_path().to_string_lossy().into_owned();
    let mut looks = 0;
    for _ in 0..starts()? {
        for way in ["environment", "file", "standard input", "credential"] {
            let proxy =
                source(&scenario, &service)?.env("AWSIOT_TUNNEL_CLIENT_TOKEN", CLIENT_TOKEN);
            let proxy = match way {
                "environment" => proxy.token(TOKEN),
                "file" => proxy.args(["--access-token-file", &path]),
                "credential" => proxy.env("CREDENTIALS_DIRECTORY", &credentials.to_string_lossy()),
                _ => proxy.args(["--access-token-file", "-"]),
            };
            let (process, mut stdin, _out) = Process::start_piped(&scenario, way, proxy.command())?;
            let watch = Watch::start(process.id());
            if way == "standard input" {
                stdin.write_all(format!("{TOKEN}\n").as_bytes()).await?;
            }
            let _knock = knock(&service, &process).await.context(way)?;
            let (window, count) = watch.end(&adit).await?;
            ensure!(window.is_zero(), "{way}: seen for {window:?}");
            looks += count;
        }
    }
    eprintln!("{looks} looks, no token was seen");
    Ok(())
}

on_own_choice!(
    within LIMIT;
    a_token_on_the_command_line_is_overwritten_at_once,
    no_other_way_to_give_a_token_shows_it,
);
