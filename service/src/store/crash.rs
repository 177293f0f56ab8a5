//! A process that is killed in the middle of its work: everything that it was answered is there.
//!
//! The test runs this very program again, as a child that works on tunnels and says what it was
//! answered, and kills it with a signal that nobody can catch.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use adit_proto::{AccessToken, Mode, TunnelId};
use tokio::task::JoinSet;

use super::conformance::{prepare, presented};
use super::{AnyStore, StoreChoice, TunnelStore};
use crate::clock::Clock;
use crate::data_dir::DataDir;
use crate::testing::asked;
use crate::token::{RoutingKey, TokenHash, mint};
use crate::tunnels::{Limits, Refusal, Rotation, Seen, Status, TunnelError};

/// Where the child finds the store: a directory, or the URL of a server.
const STORE: &str = "ADIT_TEST_CRASH_STORE";
const WORKERS: usize = 8;

/// Kills so many children at random moments. `ADIT_KILLS=200` asks for as many.
pub(super) async fn killed_at_random_moments_loses_nothing(place: &str, kills: usize) {
    let kills = asked("ADIT_KILLS", kills);
    let mut checked = 0;
    for kill in 0..kills {
        let said = run_and_kill(place, kill);
        let store = open(place).await;
        for (id, last) in &said {
            check(&store, id, last).await;
        }
        checked += said.len();
        super::Store::shut_down(&store).await;
    }
    eprintln!("{kills} kills, {checked} tunnels worked on, nothing acknowledged lost");
    assert!(checked > kills, "{checked} tunnels were worked on");
}

/// What the child said last of a tunnel.
#[derive(Default)]
struct Last {
    /// The last step that was begun, and the last that was answered.
    begun: usize,
    done: usize,
    source: String,
    destination: String,
    rotated: String,
}

/// Returns what the child said before it died.
fn run_and_kill(place: &str, kill: usize) -> HashMap<String, Last> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::crash::child", "--ignored", "--nocapture"])
        .env(STORE, place)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Begun to work; before that there is nothing to lose.
    lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("adit ")));
    let reading = std::thread::spawn(move || {
        let mut said: HashMap<String, Last> = HashMap::new();
        for line in lines.map_while(Result::ok) {
            take_in(&mut said, &line);
        }
        said
    });
    // Different moments, of the beginning mostly: the first commits are the interesting ones.
    let pause = [3, 11, 17, 29, 41, 67, 103, 151][kill % 8] + (kill as u64 * 7) % 13;
    #[expect(clippy::disallowed_methods, reason = "the moment of death")]
    std::thread::sleep(Duration::from_millis(pause));
    child.kill().unwrap();
    child.wait().unwrap();
    reading.join().unwrap()
}

/// `adit begun|done STEP ID [TOKENS…]`; a line that was cut off by the end is ignored.
fn take_in(said: &mut HashMap<String, Last>, line: &str) {
    let words: Vec<_> = line.split(' ').collect();
    let ["adit", what, step, id, tokens @ ..] = &words[..] else {
        return;
    };
    let (Ok(step), Some((&".", tokens))) = (step.parse(), tokens.split_last()) else {
        return;
    };
    let last = said.entry((*id).to_owned()).or_default();
    match (*what, tokens) {
        ("begun", [source, destination, rotated]) => {
            last.begun = step;
            (last.source, last.destination) = ((*source).to_owned(), (*destination).to_owned());
            last.rotated = (*rotated).to_owned();
        }
        ("done", []) => last.done = step,
        _ => {}
    }
}

/// How far a tunnel has come; finding out may take it further.
async fn step_of(store: &AnyStore, id: &TunnelId, last: &Last) -> usize {
    let now = Clock::system().now();
    let view = match store.describe(now, id).await {
        Ok(view) => view,
        Err(TunnelError::NotFound(_)) => return 0,
        Err(error) => panic!("{error}"),
    };
    if view.summary.status == Status::Closed {
        return 6;
    }
    let spend = async |mode, token: &str, client: &str| {
        let token = AccessToken::new(token.to_owned()).unwrap();
        let presented = presented(mode, &token, Some(client));
        store.spend_token(now, presented).await.err()
    };
    let id = id.as_str();
    match spend(Mode::Destination, &last.rotated, &format!("d{id}")).await {
        Some(Refusal::Used) => return 5,
        None => {
            let old = spend(Mode::Destination, &last.destination, "o").await;
            assert_eq!(old, Some(Refusal::UnknownToken));
            return 4;
        }
        Some(refusal) => assert_eq!(refusal, Refusal::UnknownToken),
    }
    match spend(Mode::Source, &last.source, &format!("s{id}")).await {
        Some(Refusal::OtherClientToken) => 3,
        None => 1 + view.tags.len(),
        Some(refusal) => panic!("{refusal}"),
    }
}

async fn check(store: &AnyStore, id: &str, last: &Last) {
    let step = step_of(store, &id.parse().unwrap(), last).await;
    assert!(
        step == last.done || step == last.begun,
        "{id}: step {} was answered and {} begun, but it is at {step}",
        last.done,
        last.begun
    );
}

async fn open(place: &str) -> AnyStore {
    let clock = Clock::system();
    let (choice, dir) = if place.starts_with("postgres") {
        (Some(place.parse::<StoreChoice>().unwrap()), None)
    } else {
        let dir = DataDir::open(place.as_ref()).unwrap();
        (None, Some(Arc::new(dir)))
    };
    let limits = Limits::default();
    let opened = AnyStore::open(choice.as_ref(), dir.as_ref(), limits, None, &clock);
    opened.await.unwrap_or_else(|error| panic!("{error}"))
}

fn say(line: &str) {
    // One write, so that lines of several threads do not mix.
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{line}\n").as_bytes());
    let _ = out.flush();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of other tests, which is killed"]
async fn child() {
    let Ok(place) = std::env::var(STORE) else {
        return;
    };
    let store = Arc::new(open(&place).await);
    say("adit works");
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let store = Arc::clone(&store);
        workers.spawn(async move {
            // Bounded, should nobody kill it.
            for number in 0..5_000 {
                let id = format!("{}-{worker}-{number}", std::process::id());
                work(&store, &id).await;
            }
        });
    }
    workers.join_all().await;
}

/// The life of one tunnel, step by step.
async fn work(store: &AnyStore, name: &str) {
    let clock = Clock::system();
    let (opened, new) = prepare(name);
    let rotated = mint(RoutingKey::of(&opened.id)).unwrap();
    let tokens = [&opened.source, &opened.destination, &rotated].map(AccessToken::expose);
    let begin = |step: usize| say(&format!("adit begun {step} {name} {} .", tokens.join(" ")));
    let done = |step: usize| say(&format!("adit done {step} {name} ."));
    begin(1);
    store.open_tunnel(clock.now(), new).await.unwrap();
    done(1);
    begin(2);
    let tags = [("k".to_owned(), "v".to_owned())].into();
    store.tag(&opened.id, tags).await.unwrap();
    done(2);
    begin(3);
    let spend = presented(Mode::Source, &opened.source, Some(name));
    store.spend_token(clock.now(), spend).await.unwrap();
    done(3);
    begin(4);
    let rotation = Rotation {
        source: None,
        destination: Some(TokenHash::of(&rotated)),
        config: None,
        seen: Seen::Anything,
    };
    let rotation = store.rotate(clock.now(), &opened.id, rotation).await;
    rotation.unwrap();
    done(4);
    begin(5);
    let spend = presented(Mode::Destination, &rotated, None);
    store.spend_token(clock.now(), spend).await.unwrap();
    done(5);
    begin(6);
    let closed = store.close(clock.now(), &opened.id, false).await;
    closed.unwrap();
    done(6);
}
