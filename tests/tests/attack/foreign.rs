//! Threat T-08: whatever the sides of a tunnel send, nothing of it appears in another tunnel.
//!
//! Each tunnel has a service of its own name, and each payload is made of one word that says tunnel and side,
//! with its number in front. Frames are random: messages alone, several in a frame, cut anywhere, in
//! fragments, pings between them; streams and connections start and are reset, and links are lost and
//! replaced, so that the relay's slots and buffers change hands.
//!
//! `ADIT_FOREIGN_TUNNELS` are open at once, `ADIT_FOREIGN_FRAMES` messages and pings are sent in each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use adit_tests::link::{Event, Link, LinkReader, LinkWriter};
use adit_tests::on_each_loop;
use adit_tests::scenario::{Scenario, count, seed};
use adit_tests::scripted_proxy::{Endpoint, Upgrade, expect_service_ids};
use adit_tests::stack::Serve;
use adit_tests::wire::{Kind, Message, stream_of, v3};
use anyhow::{Context, Result, bail, ensure};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Of a release run on two cores.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// Handshakes at once: many more would only wait for each other.
const JOINING_MAX: usize = 64;
/// A link is lost after about so many frames.
const LIFE: usize = 400;
const PAYLOAD_MAX: usize = 3_000;
/// Longest that a side hears nothing. Nobody has to say anything to it while the other side is away, but for pongs, and
/// one of two thousand sides that share two cores sends a frame now and then.
const QUIET: Duration = Duration::from_secs(120);

/// What all sides count together.
#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    arrived: AtomicU64,
    pongs: AtomicU64,
    links: AtomicU64,
}

/// One side of one tunnel.
struct Side {
    endpoint: Endpoint,
    joining: Arc<Semaphore>,
    counts: Arc<Counts>,
    tunnel: u32,
    is_source: bool,
    service: String,
    token: String,
    /// The newest stream and connection that this link has heard of, packed: a destination answers on them.
    newest: Arc<AtomicU64>,
    random: ChaCha8Rng,
    /// Of the next payload.
    number: u32,
}

async fn no_byte_of_a_tunnel_appears_in_another(scenario: Scenario) -> Result<()> {
    let (tunnels, frames) = (
        count("ADIT_FOREIGN_TUNNELS", 40)?,
        count("ADIT_FOREIGN_FRAMES", 300)?,
    );
    let (seed, serve) = (seed()?, Serve::start_with(&scenario, &["-v", "3"]).await?);
    let (api, counts) = (serve.api()?, Arc::new(Counts::default()));
    let joining = Arc::new(Semaphore::new(JOINING_MAX));
    let mut sides = JoinSet::new();
    for number in 0..tunnels as u32 {
        let service = format!("T{number}");
        let tunnel = api.open_tunnel(&[&service]).await?;
        for (is_source, token) in [
            (true, &tunnel.source_token),
            (false, &tunnel.destination_token),
        ] {
            let random = seed ^ u64::from(2 * number + u32::from(is_source)) << 32;
            let side = Side {
                endpoint: serve.tunnel(),
                joining: Arc::clone(&joining),
                counts: Arc::clone(&counts),
                tunnel: number,
                is_source,
                service: service.clone(),
                token: token.clone(),
                newest: Arc::default(),
                random: ChaCha8Rng::seed_from_u64(random),
                number: 0,
            };
            sides.spawn(side.play(frames / 2));
        }
    }
    while let Some(side) = sides.join_next().await {
        side??;
    }
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (sent, arrived) = (of(&counts.sent), of(&counts.arrived));
    eprintln!(
        "T-08: {tunnels} tunnels, {frames} frames each, {sent} payloads sent, {arrived} arrived, {} pongs, \
         {} links: no foreign byte",
        of(&counts.pongs),
        of(&counts.links),
    );
    // What is sent to a side that is not there, or on a stream that is over, does not arrive.
    ensure!(
        arrived * 4 > sent,
        "{arrived} of {sent} payloads is no test"
    );
    Ok(())
}

impl Side {
    /// Sends so many frames, over as many links as that takes.
    async fn play(mut self, frames: usize) -> Result<()> {
        let name = format!("tunnel {}, source {}", self.tunnel, self.is_source);
        let mut left = frames;
        while left > 0 {
            let (writer, reader) = self.join().await.with_context(|| name.clone())?.split();
            let life = left.min(1 + self.below(2 * LIFE));
            left -= life;
            self.newest = Arc::default();
            let checker = Checker::of(&self);
            let mut checking = tokio::spawn(checker.follow(reader));
            // Nobody else writes what this side says, so its reader cannot be in the way of the writer.
            let sent = tokio::select! {
                sent = self.live(&writer, life) => sent,
                checked = &mut checking => bail!("{name}: the link ended: {:?}", checked?.err()),
            };
            sent.with_context(|| name.clone())?;
            writer.ping(LAST).await?;
            let reader = checking.await?.with_context(|| name.clone())?;
            let link = Link::join(writer, reader);
            match self.below(2) {
                0 => link.drop_tcp(),
                _ => link.reset_tcp()?,
            }
        }
        Ok(())
    }

    async fn join(&self) -> Result<Link> {
        let _leave = self.joining.acquire().await?;
        self.counts.links.fetch_add(1, Ordering::Relaxed);
        let mode = if self.is_source {
            "source"
        } else {
            "destination"
        };
        let client = format!("{mode}-{:020}-abcdefgh", self.tunnel);
        let upgrade = Upgrade::new(mode, &self.token).with("client-token", &client);
        let mut link = self.endpoint.upgrade(&upgrade).await?;
        expect_service_ids(&mut link, &[&self.service]).await?;
        Ok(link)
    }

    /// One link's life.
    async fn live(&mut self, writer: &LinkWriter, frames: usize) -> Result<()> {
        let mut script = Script::default();
        let mut left = frames;
        while left > 0 {
            let messages = (0..1 + self.below(6.min(left))).map(|_| self.message(&mut script));
            let messages: Vec<Message> = messages.flatten().collect();
            left -= messages.len().max(1).min(left);
            let bytes = stream_of(&messages);
            match self.below(8) {
                0 => {
                    writer.ping(&self.word().repeat(4)).await?;
                    writer.send_payload(&bytes).await?;
                }
                1 => {
                    writer
                        .send_fragmented(1 + self.below(2_000), &bytes)
                        .await?
                }
                2 => {
                    writer
                        .send_in_frames_of(1 + self.below(500), &bytes)
                        .await?
                }
                _ => writer.send_payload(&bytes).await?,
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// The next message that this side may send, if there is one.
    fn message(&mut self, script: &mut Script) -> Option<Message> {
        if !self.is_source {
            return self.answer();
        }
        let service = self.service.clone();
        let roll = self.below(100);
        let open = script.open.len();
        if script.stream == 0 || open == 0 || roll == 0 {
            script.stream += 1;
            script.next = 2;
            script.open = vec![1];
            return Some(Message::stream_start(v3(&service, script.stream, 1)));
        }
        let at = self.below(open);
        let connection = script.open[at];
        match roll {
            1..=6 if open < 20 => {
                let connection = script.next;
                script.next += 1;
                script.open.push(connection);
                Some(Message::connection_start(v3(
                    &service,
                    script.stream,
                    connection,
                )))
            }
            7..=11 if open > 1 => {
                script.open.swap_remove(at);
                Some(Message::connection_reset(v3(
                    &service,
                    script.stream,
                    connection,
                )))
            }
            12 => Some(Message::unknown(
                99,
                true,
                v3(&service, script.stream, connection),
            )),
            _ => Some(self.data(script.stream, connection)),
        }
    }

    /// What a destination says: bytes on what it has heard of, perhaps late, and resets.
    fn answer(&mut self) -> Option<Message> {
        let (stream, newest) = unpacked(self.newest.load(Ordering::Relaxed));
        if stream == 0 {
            return None;
        }
        let connection = 1 + self.below(newest as usize) as u32;
        Some(match self.below(40) {
            0 => Message::connection_reset(v3(&self.service, stream, connection)),
            _ => self.data(stream, connection),
        })
    }

    fn data(&mut self, stream: i32, connection: u32) -> Message {
        let mut payload = self.number.to_be_bytes().to_vec();
        self.number += 1;
        payload.extend(self.word().repeat(1 + self.below(PAYLOAD_MAX / WORD_SIZE)));
        self.counts.sent.fetch_add(1, Ordering::Relaxed);
        Message::data(v3(&self.service, stream, connection), payload)
    }

    fn word(&self) -> [u8; WORD_SIZE] {
        word(self.tunnel, self.is_source)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.next_u64() as usize % bound.max(1)
    }
}

/// The source's own view of its stream.
#[derive(Default)]
struct Script {
    stream: i32,
    open: Vec<u32>,
    next: u32,
}

/// Looks at all that comes to one side.
struct Checker {
    counts: Arc<Counts>,
    service: String,
    /// What pings of this side are made of, and what the other side's payloads are.
    own: [u8; WORD_SIZE],
    other: [u8; WORD_SIZE],
    last: Option<u32>,
    /// Of its side.
    newest: Arc<AtomicU64>,
}

impl Checker {
    fn of(side: &Side) -> Self {
        Self {
            counts: Arc::clone(&side.counts),
            service: side.service.clone(),
            own: side.word(),
            other: word(side.tunnel, !side.is_source),
            last: None,
            newest: Arc::clone(&side.newest),
        }
    }

    /// Up to the pong of the last ping.
    async fn follow(mut self, mut reader: LinkReader) -> Result<LinkReader> {
        loop {
            match reader.event_within(QUIET).await? {
                Event::Message(message) => self.check(&message)?,
                Event::Pong(payload) if payload == LAST => return Ok(reader),
                Event::Pong(payload) => {
                    ensure!(
                        payload == self.own.repeat(4),
                        "a pong of somebody else: {payload:?}"
                    );
                    self.counts.pongs.fetch_add(1, Ordering::Relaxed);
                }
                Event::Ping(_) => {}
                end => bail!("{end:?}"),
            }
        }
    }

    fn check(&mut self, message: &Message) -> Result<()> {
        ensure!(
            message.service_id == self.service,
            "{message} in the tunnel of {}",
            self.service
        );
        if message.known_kind() != Some(Kind::Data) {
            ensure!(message.payload.is_empty(), "{message} has a payload");
            if let Some(Kind::StreamStart | Kind::ConnectionStart) = message.known_kind() {
                let newest = packed(message.stream_id, message.connection_id);
                self.newest.store(newest, Ordering::Relaxed);
            }
            return Ok(());
        }
        let (number, words) = message.payload.split_first_chunk().context("no number")?;
        let number = u32::from_be_bytes(*number);
        let is_own = words.chunks(WORD_SIZE).all(|word| word == self.other);
        ensure!(
            is_own && !words.is_empty(),
            "{message} of somebody else: {:?}",
            &words[..WORD_SIZE.min(words.len())]
        );
        ensure!(
            self.last < Some(number),
            "{message} has number {number} after {:?}",
            self.last
        );
        self.last = Some(number);
        self.counts.arrived.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

const WORD_SIZE: usize = 8;
const LAST: &[u8] = b"the last ping";

/// What the payloads of a side are made of.
fn word(tunnel: u32, is_source: bool) -> [u8; WORD_SIZE] {
    let side = u64::from(tunnel) << 1 | u64::from(is_source);
    // Spread, so that words of neighbours differ in more than a bit.
    (side + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

fn packed(stream: i32, connection: u32) -> u64 {
    u64::from(stream as u32) << 32 | u64::from(connection)
}

fn unpacked(newest: u64) -> (i32, u32) {
    ((newest >> 32) as i32, newest as u32)
}

on_each_loop!(within super::LIMIT; no_byte_of_a_tunnel_appears_in_another);

/// The check itself is tested: what is of another tunnel, out of order or without its words is found out.
#[test]
fn what_is_foreign_is_found_out() {
    let checker = || Checker {
        counts: Arc::default(),
        service: "T7".to_owned(),
        own: word(7, true),
        other: word(7, false),
        last: Some(4),
        newest: Arc::default(),
    };
    let data = |service: &str, number: u32, word: [u8; WORD_SIZE]| {
        let payload = [&number.to_be_bytes()[..], &word.repeat(3)].concat();
        Message::data(v3(service, 1, 1), payload)
    };
    checker().check(&data("T7", 5, word(7, false))).unwrap();
    for (what, message) in [
        ("another service", data("T8", 5, word(7, false))),
        ("another tunnel", data("T7", 5, word(8, false))),
        ("its own", data("T7", 5, word(7, true))),
        ("twice", data("T7", 4, word(7, false))),
        ("no words", Message::data(v3("T7", 1, 1), [0, 0, 0, 5])),
    ] {
        checker().check(&message).expect_err(what);
    }
}
