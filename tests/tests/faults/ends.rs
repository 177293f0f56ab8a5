//! each way to end a connection, by each of its ends, in each state that it can be in. What arrives is what
//! was sent, or the front of it; what was sent before an end in good order arrives whole where somebody reads it; the
//! other end hears of the end; and no other connection is touched.
//!
//! What it hears is a plain end, whether its peer closed or reset and whatever was lost with a reset: the protocol has one
//! word for both, and a reset of ours would destroy what was just delivered. Nobody promises more. A connection that was
//! cut with its link is the one that is reset, so that no application takes the cut for an end.
//!
//! One thing is not asked for: an application that has answered and ends its direction is taken to be done, and what
//! the client has said meanwhile may arrive or not. The protocol has no half-close, and nobody could be told sooner.
//!
//! 9 states and 8 events are 72 pairs, and in each state the link is lost. `ADIT_ENDS` is how often they are gone through
//! (a release: 20).

use std::io::ErrorKind;
use std::time::Duration;

use adit_tests::apps::{self, connect_narrow, narrow_listener};
use adit_tests::deadline::{pause, within_limit};
use adit_tests::on_each_loop;
use adit_tests::proxy::Proxy;
use adit_tests::scenario::{Scenario, count};
use adit_tests::stack::Stack;
use adit_tests::verifier::{Outcome, Transfer, seeded_bytes};
use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::kills::SETTLED;

const LIMIT: Duration = Duration::from_secs(3_600);

/// For one pair of state and event, on a machine that does much else; and until a lost link is noticed, of which a proxy
/// that does not read is told by a ping after 5 s, and gives its applications 5 s more.
const PATIENCE: Duration = Duration::from_secs(20);

const SEED: u64 = 7;

/// More than all buffers on the way hold: of each of four sockets and what it is connected to up to 10 MB in the kernel
/// where its reader has paused, or four times that where the system is set so, and 4 MiB of the proxy's queue.
const FLOOD: usize = 256 * 1024 * 1024;

/// What is made of it at first; most of the time there is less room.
const FIRST_OF_FLOOD: usize = 8 * 1024 * 1024;

const SOME: usize = 50_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was said.
    Fresh,
    /// The client's bytes wait to be read by the application.
    ClientSpoke,
    /// The application's wait to be read by the client.
    AppSpoke,
    /// Both have said something that nobody has read.
    BothSpoke,
    /// Both have said something, and it was read.
    BothHeard,
    /// The client has ended its direction.
    ClientHalf,
    /// The application has.
    AppHalf,
    /// The application does not read, and nothing fits on the way any more.
    ClientBlocked,
    /// The same towards the client.
    AppBlocked,
}

const STATES: [State; 9] = [
    State::Fresh,
    State::ClientSpoke,
    State::AppSpoke,
    State::BothSpoke,
    State::BothHeard,
    State::ClientHalf,
    State::AppHalf,
    State::ClientBlocked,
    State::AppBlocked,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// Closed with nothing unread, so that it is an end in good order.
    ClientCloses,
    AppCloses,
    ClientEndsItsDirection,
    AppEndsItsDirection,
    ClientResets,
    AppResets,
    BothReset,
    BothClose,
}

const EVENTS: [Event; 8] = [
    Event::ClientCloses,
    Event::AppCloses,
    Event::ClientEndsItsDirection,
    Event::AppEndsItsDirection,
    Event::ClientResets,
    Event::AppResets,
    Event::BothReset,
    Event::BothClose,
];

/// One end of a connection and what it has done so far.
struct End {
    stream: TcpStream,
    is_app: bool,
    /// Of what it says, so that bytes of the other end are wrong ones.
    seed: u64,
    /// How much of its bytes it has handed over, and how many were read from the other.
    sent: usize,
    heard: usize,
}

impl End {
    fn client(stream: TcpStream) -> Self {
        Self {
            stream,
            is_app: false,
            seed: SEED,
            sent: 0,
            heard: 0,
        }
    }

    fn app(stream: TcpStream) -> Self {
        Self {
            is_app: true,
            seed: !SEED,
            ..Self::client(stream)
        }
    }

    async fn says(&mut self, size: usize) -> Result<()> {
        let bytes = seeded_bytes(self.seed, self.sent + size);
        self.stream.write_all(&bytes[self.sent..]).await?;
        self.sent += size;
        Ok(())
    }

    /// Writes until nothing is taken for a while.
    async fn floods(&mut self) -> Result<()> {
        let mut bytes = seeded_bytes(self.seed, FIRST_OF_FLOOD);
        while self.sent < FLOOD {
            if self.sent == bytes.len() {
                bytes = seeded_bytes(self.seed, 2 * self.sent);
            }
            let rest = &bytes[self.sent..];
            let writing = tokio::time::timeout(Duration::from_millis(300), self.stream.write(rest));
            match writing.await {
                Ok(count) => self.sent += count?,
                Err(_) => return Ok(()),
            }
        }
        bail!("{FLOOD} bytes went in, and nobody reads")
    }

    async fn hears(&mut self, size: usize, of: u64) -> Result<()> {
        let expected = seeded_bytes(of, self.heard + size);
        apps::expect_bytes(&mut self.stream, &expected[self.heard..]).await?;
        self.heard += size;
        Ok(())
    }

    /// Reads to an end in good order. All must be what the other has said.
    async fn hears_the_end(&mut self, of: u64, said: usize) -> Result<()> {
        let last = self.hears_the_rest(of, said).await?;
        ensure!(last == Last::End, "a reset in place of an end");
        Ok(())
    }

    /// Reads to a reset. What comes before must be what the other has said.
    async fn hears_a_cut(&mut self, of: u64, said: usize) -> Result<()> {
        let last = self.hears_the_rest(of, said).await?;
        ensure!(last == Last::Reset, "a cut that looks like an end");
        Ok(())
    }

    async fn hears_the_rest(&mut self, of: u64, said: usize) -> Result<Last> {
        let expected = seeded_bytes(of, said);
        let mut buffer = vec![0; 65_536];
        loop {
            match self.stream.read(&mut buffer).await {
                Ok(0) => return Ok(Last::End),
                Ok(count) => {
                    let end = self.heard + count;
                    ensure!(end <= said, "{end} bytes came of {said} that were said");
                    ensure!(buffer[..count] == expected[self.heard..end], "a wrong byte");
                    self.heard = end;
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Ok(Last::Reset);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// What a connection is heard to end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    End,
    Reset,
}

/// How long the proxies wait for what.
struct Times {
    /// The grace times of source and destination.
    grace: [&'static str; 2],
    /// For who does not read.
    stall: &'static str,
}

/// A stack of which every pair of state and event has a connection of its own.
struct Stage {
    stack: Stack,
    listener: TcpListener,
    beside: TcpListener,
}

impl Stage {
    async fn start(scenario: &Scenario, times: Times) -> Result<Self> {
        let (listener, beside) = (narrow_listener()?, apps::listener().await?);
        let places = [
            ("SSH", listener.local_addr()?.to_string()),
            ("BESIDE", beside.local_addr()?.to_string()),
        ];
        let Times { grace, stall } = times;
        let with = |proxy: Proxy, grace| {
            proxy.args(["--half-close-grace", grace, "--stall-timeout", stall])
        };
        let stack = Stack::start_with(scenario, &places, |source, destination| {
            (with(source, grace[0]), with(destination, grace[1]))
        });
        Ok(Self {
            stack: stack.await?,
            listener,
            beside,
        })
    }

    async fn connection(&self) -> Result<(End, End)> {
        let client = connect_narrow(self.stack.port("SSH")?).await?;
        client.set_nodelay(true)?;
        let app = apps::accept(&self.listener).await?;
        Ok((End::client(client), End::app(app)))
    }

    /// A connection of the same service and one of another, in the middle of a transfer.
    async fn bystanders(&self) -> Result<Vec<(TcpStream, TcpStream)>> {
        let mut pairs = Vec::new();
        for (service, listener) in [("SSH", &self.listener), ("BESIDE", &self.beside)] {
            let client = self.stack.connect(service).await?;
            pairs.push((client, apps::accept(listener).await?));
        }
        Ok(pairs)
    }

    async fn try_pair(&self, state: State, event: Event) -> Result<()> {
        let bystanders = self.bystanders().await?;
        let (mut client, mut app) = self.connection().await?;
        reach(state, &mut client, &mut app)
            .await
            .context("the state")?;
        happen(event, client, app).await?;
        for (id, (mut client, mut app)) in (1..).zip(bystanders) {
            let transfer = Transfer {
                id,
                length: 30_000,
                seed: SEED,
            };
            let sending = tokio::spawn(async move { transfer.send(&mut client).await });
            let outcome = Transfer::receive(&mut app, SEED).await?;
            ensure!(
                outcome == Outcome::Complete(transfer),
                "beside it: {outcome:?}"
            );
            sending.await??;
        }
        // The service takes the next one.
        let (mut client, mut app) = self.connection().await.context("the next one")?;
        client.says(100).await?;
        app.hears(100, SEED).await.context("the next one")
    }
}

async fn reach(state: State, client: &mut End, app: &mut End) -> Result<()> {
    match state {
        State::Fresh => {}
        State::ClientSpoke => client.says(SOME).await?,
        State::AppSpoke => app.says(SOME).await?,
        State::BothSpoke => {
            client.says(SOME).await?;
            app.says(SOME).await?;
        }
        State::BothHeard => {
            client.says(SOME).await?;
            app.hears(SOME, SEED).await?;
            app.says(SOME).await?;
            client.hears(SOME, !SEED).await?;
        }
        State::ClientHalf => {
            client.says(SOME).await?;
            client.stream.shutdown().await?;
        }
        State::AppHalf => {
            app.says(SOME).await?;
            app.stream.shutdown().await?;
        }
        State::ClientBlocked => client.floods().await?,
        State::AppBlocked => app.floods().await?,
    }
    // What was sent is on its way in different places each time.
    pause(Duration::from_millis(
        u64::from(state == State::BothHeard) * 20,
    ))
    .await;
    Ok(())
}

/// Lets it happen, and looks at what the other end sees.
async fn happen(event: Event, mut client: End, mut app: End) -> Result<()> {
    match event {
        Event::ClientCloses => closes(client, app).await,
        Event::AppCloses => closes(app, client).await,
        Event::ClientEndsItsDirection => ends_its_direction(client, app).await,
        Event::AppEndsItsDirection => ends_its_direction(app, client).await,
        Event::ClientResets => {
            apps::reset(client.stream)?;
            app.hears_the_end(client.seed, client.sent).await
        }
        Event::AppResets => {
            apps::reset(app.stream)?;
            client.hears_the_end(app.seed, app.sent).await
        }
        Event::BothReset => {
            apps::reset(client.stream)?;
            apps::reset(app.stream)
        }
        Event::BothClose => {
            drop((client.stream, app.stream));
            Ok(())
        }
    }
}

/// `first` closes altogether, which the kernel makes a reset of if there is something unread. Then what it has said
/// need not arrive, and what does is right.
async fn closes(first: End, mut other: End) -> Result<()> {
    let is_orderly = other.sent == first.heard;
    drop(first.stream);
    other.hears_the_end(first.seed, first.sent).await?;
    ensure!(
        !is_orderly || other.heard == first.sent,
        "{} of {} bytes arrived before the end",
        other.heard,
        first.sent
    );
    Ok(())
}

/// `first` ends its direction and reads on. All that it has said arrives, then the end; and what the other has
/// said arrives at it, since it reads within the grace time, or the front of it at an application that is done.
async fn ends_its_direction(mut first: End, mut other: End) -> Result<()> {
    // It may have done so already.
    let _ = first.stream.shutdown().await;
    let (seeds, said) = ((first.seed, other.seed), (first.sent, other.sent));
    let is_done = first.is_app && first.sent > 0;
    let reading = async {
        other.hears_the_end(seeds.0, said.0).await?;
        ensure!(
            other.heard == said.0,
            "{} of {} bytes arrived",
            other.heard,
            said.0
        );
        drop(other);
        anyhow::Ok(())
    };
    let (there, back) = tokio::join!(reading, first.hears_the_end(seeds.1, said.1));
    there?;
    back?;
    ensure!(
        first.heard == said.1 || is_done,
        "{} of {} bytes came back",
        first.heard,
        said.1
    );
    Ok(())
}

async fn every_end_in_every_state_is_what_it_looks_like(scenario: Scenario) -> Result<()> {
    // 1.2 s at both ends, of which the destination's is a quarter: the others on the way have to get the processor
    // meanwhile, on a machine that does much else.
    let stage = Stage::start(
        &scenario,
        Times {
            grace: ["1200ms", "4800ms"],
            stall: "10s",
        },
    )
    .await?;
    let mut pairs = 0;
    for _ in 0..count("ADIT_ENDS", 1)? {
        for state in STATES {
            for event in EVENTS {
                let what = format!("{event:?} in {state:?}");
                within_limit(PATIENCE, &what, stage.try_pair(state, event)).await?;
                pairs += 1;
            }
        }
    }
    eprintln!("{pairs} pairs of state and event");
    Ok(())
}

/// Nothing of it is over before a link is lost, and seen to be.
const BEYOND_THE_CUT: Times = Times {
    grace: ["60s", "60s"],
    stall: "60s",
};

/// The relay is killed, so that each proxy loses its link; both still have what they had not delivered.
async fn a_connection_that_is_cut_with_its_link_is_reset_in_every_state(
    scenario: Scenario,
) -> Result<()> {
    let mut stage = Stage::start(&scenario, BEYOND_THE_CUT).await?;
    for _ in 0..count("ADIT_ENDS", 1)? {
        // All begin before the first floods: it may have sent more than its peer wants to hold by the time it hears of
        // that, and then what comes behind it waits.
        let mut begun = Vec::new();
        for _ in STATES {
            begun.push(stage.connection().await?);
        }
        let mut connections = Vec::new();
        for (state, (mut client, mut app)) in STATES.into_iter().zip(begun) {
            let what = format!("{state:?}");
            let reached = within_limit(PATIENCE, &what, async {
                reach(state, &mut client, &mut app).await?;
                // A service that has answered and ends is done, and its client hears so before.
                if state == State::AppHalf {
                    client.hears_the_end(app.seed, app.sent).await?;
                    app.hears_the_end(client.seed, client.sent).await?;
                    return Ok(None);
                }
                Ok(Some((client, app)))
            });
            connections.extend(reached.await?.map(|ends| (what.clone(), ends)));
        }
        // Links that never last are dialled ever later.
        pause(SETTLED).await;
        stage.stack = stage.stack.kill_and_restart_serve().await?;
        for (state, (mut client, mut app)) in connections {
            let (of, said) = ([client.seed, app.seed], [client.sent, app.sent]);
            within_limit(PATIENCE, &format!("the client, {state}"), async {
                client.hears_a_cut(of[1], said[1]).await
            })
            .await?;
            within_limit(PATIENCE, &format!("the application, {state}"), async {
                app.hears_a_cut(of[0], said[0]).await
            })
            .await?;
        }
        stage.stack.ready().await?;
    }
    Ok(())
}

/// A connection by itself has no limit, so the one who does not read it keeps its proxy from reading the link, and from
/// seeing its end.
async fn a_connection_that_nobody_reads_keeps_no_proxy_from_the_next_link(
    scenario: Scenario,
) -> Result<()> {
    let mut stage = Stage::start(&scenario, BEYOND_THE_CUT).await?;
    for is_app in [true, false] {
        let (mut client, mut app) = stage.connection().await?;
        let (first, other) = match is_app {
            true => (&mut app, &mut client),
            false => (&mut client, &mut app),
        };
        first.floods().await?;
        pause(SETTLED).await;
        stage.stack = stage.stack.kill_and_restart_serve().await?;
        stage.stack.ready().await?;
        within_limit(PATIENCE, "the one who reads", async {
            first.hears_a_cut(other.seed, other.sent).await
        })
        .await?;
        within_limit(PATIENCE, "the one who did not", async {
            other.hears_a_cut(first.seed, first.sent).await
        })
        .await?;
    }
    Ok(())
}

on_each_loop!(
    within super::LIMIT;
    a_connection_that_nobody_reads_keeps_no_proxy_from_the_next_link,
    a_connection_that_is_cut_with_its_link_is_reset_in_every_state,
    every_end_in_every_state_is_what_it_looks_like,
);
