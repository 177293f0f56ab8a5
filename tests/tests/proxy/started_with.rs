//! Threats T-01 and T-02: who looks at the list of processes finds no token.
//!
//! `ADIT_STARTS` is how often each way to give a token is tried (a release: 200).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use adit_tests::deadline::until;
use adit_tests::process::Process;
use adit_tests::proxy::{Proxy, Side};
use adit_tests::scenario::Scenario;
use adit_tests::scripted_service::ScriptedService;
use adit_tests::{on_own_choice, ports, programs};
use anyhow::{Context, Result, anyhow, ensure};
use tokio::io::AsyncWriteExt;

const LIMIT: Duration = Duration::from_secs(600);
const TOKEN: &str = "canary-5c1d-access-token";
const CLIENT_TOKEN: &str = "canary-9e27-client-token-0123456789abcdef";

/// Every way to write them.
const SPELLINGS: [&[&str]; 4] = [
    &["-t", TOKEN, "-i", CLIENT_TOKEN],
    &["--access-token", TOKEN, "--client-token", CLIENT_TOKEN],
    &["--acc=canary-5c1d-access-token"],
    &["-kt", TOKEN],
];

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

fn has_token(bytes: &[u8]) -> bool {
    [TOKEN, CLIENT_TOKEN].iter().any(|text| has(bytes, text))
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// One look at a command line.
struct Look {
    at: Instant,
    line: Vec<u8>,
    /// Whether the process had come to the service before.
    is_late: bool,
}

/// The command line of a process, looked at all the time.
struct Watch {
    begin: Instant,
    is_late: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
    late_looks: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<Look>>,
}

impl Watch {
    /// `begin` is when the process was not there yet.
    fn start(process: u32, begin: Instant) -> Self {
        let is_late = Arc::new(AtomicBool::new(false));
        let is_over = Arc::new(AtomicBool::new(false));
        let late_looks = Arc::new(AtomicUsize::new(0));
        let (late, over, count) = (is_late.clone(), is_over.clone(), late_looks.clone());
        let thread = std::thread::spawn(move || {
            let mut looks = Vec::new();
            while !over.load(Ordering::SeqCst) {
                // What was true before the look.
                let is_late = late.load(Ordering::SeqCst);
                let line = shown(process, "cmdline");
                let at = Instant::now();
                looks.push(Look { at, line, is_late });
                count.fetch_add(usize::from(is_late), Ordering::SeqCst);
                std::thread::park_timeout(PAUSE);
            }
            looks
        });
        Self {
            begin,
            is_late,
            is_over,
            late_looks,
            thread,
        }
    }

    /// The process has come to the service: goes on looking for a few times.
    async fn is_late(&self) -> Result<()> {
        self.is_late.store(true, Ordering::SeqCst);
        until("looking at its command line", || {
            self.late_looks.load(Ordering::SeqCst) >= LATE_LOOKS
        })
        .await
    }

    /// What was seen of the program whose command line begins like this.
    fn end(self, program: &str) -> Result<Seen> {
        self.is_over.store(true, Ordering::SeqCst);
        let looks = self.thread.join().map_err(|_| anyhow!("it panicked"))?;
        Ok(Seen::of(&looks, program, self.begin))
    }
}

/// What was seen of one start, or of several.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    looks: usize,
    /// Looks at the program that found a token.
    sightings: usize,
    /// Those of them after it had come to the service.
    late_sightings: usize,
    /// Starts of which a look found a token.
    starts: usize,
    /// No start showed one for longer: from the last look before the first sighting to the first one after the
    /// last.
    longest: Duration,
}

impl Seen {
    fn of(looks: &[Look], program: &str, begin: Instant) -> Self {
        let is_sighting =
            |look: &&Look| look.line.starts_with(program.as_bytes()) && has_token(&look.line);
        let sightings = || looks.iter().filter(is_sighting);
        let first = looks.iter().position(|look| is_sighting(&look));
        let last = looks.iter().rposition(|look| is_sighting(&look));
        let longest = first.zip(last).map(|(first, last)| {
            let before = first.checked_sub(1).map_or(begin, |index| looks[index].at);
            // Nobody looked again: until now, then.
            let after = looks
                .get(last + 1)
                .map_or_else(Instant::now, |look| look.at);
            after - before
        });
        Self {
            looks: looks.len(),
            sightings: sightings().count(),
            late_sightings: sightings().filter(|look| look.is_late).count(),
            starts: usize::from(first.is_some()),
            longest: longest.unwrap_or_default(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.looks += other.looks;
        self.sightings += other.sightings;
        self.late_sightings += other.late_sightings;
        self.starts += other.starts;
        self.longest = self.longest.max(other.longest);
    }
}

#[test]
fn one_sighting_is_one() {
    let begin = Instant::now();
    let look = |milliseconds: u64, line: &str, is_late: bool| Look {
        at: begin + Duration::from_millis(milliseconds),
        line: line.as_bytes().to_vec(),
        is_late,
    };
    let token = format!("/adit\0{TOKEN}");
    let wrapper = format!("/wrapper\0{token}");
    let looks = [
        look(1, &wrapper, false),
        look(3, &token, false),
        look(7, "/adit\0****", true),
    ];
    let expected = Seen {
        looks: 3,
        sightings: 1,
        late_sightings: 0,
        starts: 1,
        longest: Duration::from_millis(6),
    };
    assert_eq!(Seen::of(&looks, "/adit", begin), expected);
    let late = Seen::of(&[look(2, &token, true), look(3, "", true)], "", begin);
    assert_eq!((late.sightings, late.late_sightings), (1, 1));
    assert_eq!(late.longest, Duration::from_millis(3));
    let none = Seen::of(&[look(1, "/adit\0****", true)], "", begin);
    assert_eq!((none.sightings, none.longest), (0, Duration::ZERO));
}

fn source(scenario: &Scenario, service: &ScriptedService) -> Result<Proxy> {
    Ok(Proxy::new(scenario, "source")
        .mapping(Side::Source, &format!("SSH={}", ports::free()?))
        .endpoint(&service.endpoint()?)
        .without_token())
}

/// For each start: a proxy that is refused comes back before it is ended, and the next one would be taken for it.
async fn service_of_its_own(scenario: &Scenario) -> Result<ScriptedService> {
    ScriptedService::start(scenario).await
}

/// Waits for a proxy that has read its token, since it asks the service for its tunnel with it. From its connection
/// on nobody sees the token.
async fn knock(service: &ScriptedService, process: &Process, watch: &Watch) -> Result<()> {
    let connection = service.accept_tcp().await?;
    watch.is_late().await?;
    let knock = service.knock_on(connection).await?;
    ensure!(
        knock.request.header("access-token") == Some(TOKEN),
        "it came without its token"
    );
    for file in ["cmdline", "environ"] {
        let bytes = shown(process.id(), file);
        ensure!(!bytes.is_empty(), "its {file} cannot be read");
        ensure!(
            !has_token(&bytes),
            "a token is in its {file}: {}",
            String::from_utf8_lossy(&bytes)
        );
    }
    Ok(())
}

/// The proxy under its name of both, and that name's path.
fn under_a_name(scenario: &Scenario, proxy: Proxy, name: &str) -> (Proxy, String) {
    let proxy = match name {
        "localproxy" => proxy.as_localproxy(),
        _ => proxy,
    };
    let path = scenario.binary().adit_path().with_file_name(name);
    (proxy, path.to_string_lossy().into_owned())
}

/// How long it can be seen is a matter of the machine, and is printed. That it cannot be once the proxy is at work is
/// not; what comes first is told by the order of its system calls, below.
async fn a_token_on_the_command_line_is_overwritten_at_once(scenario: Scenario) -> Result<()> {
    let mut seen = Seen::default();
    let count = starts()?;
    for number in 0..count {
        let spellings = SPELLINGS.iter().cycle().skip(number);
        for (name, spelling) in ["localproxy", "adit"].into_iter().zip(spellings) {
            let service = service_of_its_own(&scenario).await?;
            let proxy = source(&scenario, &service)?.args(spelling.iter().copied());
            let (proxy, path) = under_a_name(&scenario, proxy, name);
            let begin = Instant::now();
            let process = proxy.start()?;
            let watch = Watch::start(process.id(), begin);
            knock(&service, &process, &watch)
                .await
                .with_context(|| format!("{name} {spelling:?}"))?;
            ensure!(
                has(&shown(process.id(), "cmdline"), "****"),
                "nothing is masked"
            );
            let this = watch.end(&path)?;
            ensure!(this.late_sightings == 0, "{name} {spelling:?}: {this:?}");
            seen.add(&this);
        }
    }
    eprintln!(
        "{} looks, {} of them found a token, at {} of {} starts, for less than {:?} each",
        seen.looks,
        seen.sightings,
        seen.starts,
        2 * count,
        seen.longest
    );
    Ok(())
}

/// Before it writes a byte, opens a socket, starts a thread or reads a file of the user's: whatever these may wait
/// for, nobody sees the token meanwhile.
async fn a_token_on_the_command_line_is_overwritten_before_anything_else(
    scenario: Scenario,
) -> Result<()> {
    let Some([strace]) = programs::find(&scenario, ["strace"])? else {
        return Ok(());
    };
    let directory = scenario.directory().to_string_lossy().into_owned();
    let config = scenario.write("settings.ini", "")?;
    let config = config.to_string_lossy().into_owned();
    for (number, spelling) in SPELLINGS.into_iter().enumerate() {
        for name in ["localproxy", "adit"] {
            let service = service_of_its_own(&scenario).await?;
            let proxy = source(&scenario, &service)?
                .args(["--config", &config])
                .args(spelling.iter().copied());
            let (proxy, path) = under_a_name(&scenario, proxy, name);
            let log = scenario.path(&format!("{name}-{number}.strace"));
            let mut command = programs::command(&strace);
            command.args(["-f", "-qq", "-o"]).arg(&log).arg("--");
            let command = programs::wrapped(command, &proxy.command());
            let mut process = Process::start(&scenario, name, command)?;
            service.knock().await?;
            process.kill().await?;
            let trace = std::fs::read_to_string(&log)?;
            let calls = calls_before_the_mask(&trace, &path, spelling)
                .with_context(|| format!("{name} {spelling:?}:\n{trace}"))?;
            for call in &calls {
                let is_forbidden = FORBIDDEN.iter().any(|name| call.starts_with(name))
                    || call.starts_with("open") && call.contains(&directory);
                ensure!(!is_forbidden, "{name} {spelling:?}: comes first: {call}");
            }
            eprintln!("{name} {spelling:?}: after {} system calls", calls.len());
        }
    }
    Ok(())
}

/// System calls of a program from its start until the last of its tokens was masked, as strace writes them.
fn calls_before_the_mask<'a>(
    trace: &'a str,
    program: &str,
    spelling: &[&str],
) -> Result<Vec<&'a str>> {
    let call = |line: &'a str| line.split_once(' ').map(|(_, call)| call.trim_start());
    let calls: Vec<&str> = trace.lines().filter_map(call).collect();
    let start = format!("execve(\"{program}\"");
    let starts = |call: &&str| call.starts_with(&start) && call.ends_with("= 0");
    let start = calls.iter().position(starts);
    let start = start.context("it was not started")?;
    let masks = |call: &&str| call.starts_with("pwrite64(") && call.contains("\"****");
    let masks = calls.iter().enumerate().filter(|(_, call)| masks(call));
    let masks: Vec<usize> = masks.map(|(index, _)| index).collect();
    let tokens = spelling.iter().filter(|word| has_token(word.as_bytes()));
    ensure!(masks.len() == tokens.count(), "{} are masked", masks.len());
    let end = *masks.last().context("none is masked")?;
    Ok(calls[start + 1..end].to_vec())
}

async fn no_other_way_to_give_a_token_shows_it(scenario: Scenario) -> Result<()> {
    let file = scenario.write("token", format!("{TOKEN}\n"))?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, private)?;
    scenario.write("credentials/access-token", TOKEN)?;
    let credentials = scenario.path("credentials");
    let path = file.to_string_lossy().into_owned();
    let mut seen = Seen::default();
    for _ in 0..starts()? {
        for way in ["environment", "file", "standard input", "credential"] {
            let service = service_of_its_own(&scenario).await?;
            let proxy =
                source(&scenario, &service)?.env("AWSIOT_TUNNEL_CLIENT_TOKEN", CLIENT_TOKEN);
            let proxy = match way {
                "environment" => proxy.token(TOKEN),
                "file" => proxy.args(["--access-token-file", &path]),
                "credential" => proxy.env("CREDENTIALS_DIRECTORY", &credentials.to_string_lossy()),
                _ => proxy.args(["--access-token-file", "-"]),
            };
            let begin = Instant::now();
            let (process, mut stdin, _out) = Process::start_piped(&scenario, way, proxy.command())?;
            let watch = Watch::start(process.id(), begin);
            if way == "standard input" {
                stdin.write_all(format!("{TOKEN}\n").as_bytes()).await?;
            }
            knock(&service, &process, &watch).await.context(way)?;
            // Whatever the process was called when it was looked at.
            let this = watch.end("")?;
            ensure!(this.sightings == 0, "{way}: {this:?}");
            seen.add(&this);
        }
    }
    eprintln!("{} looks, no token was seen", seen.looks);
    Ok(())
}

/// Between two looks.
const PAUSE: Duration = Duration::from_micros(200);

/// Looks at a process that has come to the service, before it is answered.
const LATE_LOOKS: usize = 3;

/// Calls that may wait for somebody, or let others see that the program is there.
const FORBIDDEN: [&str; 9] = [
    "write(", "writev(", "send", "socket", "connect(", "clone", "fork(", "vfork(", "read(0,",
];

on_own_choice!(
    within LIMIT;
    a_token_on_the_command_line_is_overwritten_at_once,
    a_token_on_the_command_line_is_overwritten_before_anything_else,
    no_other_way_to_give_a_token_shows_it,
);
