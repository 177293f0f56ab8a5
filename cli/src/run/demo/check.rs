//! `adit demo --check`: the demo, with a verdict instead of somebody who plays with it.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use adit_engine::ring::IoChoice;
use anyhow::{Context as _, Result, anyhow, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, header};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::device::EchoEnd;
use super::home::{self, Home};
use super::http::exchange;
use super::page::Page;
use super::quantity::{bytes, short_time};
use super::screen::Screen;
use super::stack::{ECHO, PAGE, Stack};
use super::step;
use super::text::{Look, Row};
use super::transfer::Transfer;
use crate::run::Stop;

/// For all of it, its end included. A debug build on a slow machine takes a few seconds.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Requests for the page, at once.
const REQUESTS: usize = 16;

/// Connections to the echo, at once. Even: half of them end on either side.
const TRANSFERS: u64 = 64;

/// Their sizes in turn: around every bound that a message or a record has, and some that are much larger.
const SIZES: [u64; 8] = [1, 1_000, 16_384, 64_512, 65_537, 300_000, 1 << 20, 4 << 20];

/// Connections are gone this soon after their ends, or never.
const SETTLE_DEADLINE: Duration = Duration::from_secs(10);

/// Runs all checks and says what each has shown. The error says which one failed and why.
pub(super) async fn run(screen: &mut Screen, io: IoChoice) -> Result<()> {
    let mut check = Check {
        screen,
        step: "start",
    };
    let mut stop = Stop::new().context("watch for signals")?;
    let home = Home::new()?;
    let path = home.path().to_owned();
    let started = Instant::now();
    let result = tokio::select! {
        result = timeout(DEADLINE, check.all(home, io)) => result,
        () = stop.requested_with(move || home::remove(&path)) => Ok(Err(anyhow!("interrupted"))),
    };
    let result = result.unwrap_or_else(|_| Err(anyhow!("not done within {DEADLINE:?}")));
    let step = check.step;
    result.with_context(|| step)?;
    let took = short_time(started.elapsed());
    screen.print(&[
        Row::new(),
        Row::new()
            .and(Look::Good, " all checks passed")
            .plain(format!(" in {took}")),
    ]);
    Ok(())
}

struct Check<'a> {
    screen: &'a mut Screen,
    /// What is being checked.
    step: &'static str,
}

impl Check<'_> {
    async fn all(&mut self, home: Home, io: IoChoice) -> Result<()> {
        let path = home.path().to_owned();
        let tell = |label, text| self.screen.print(&[step(label, text)]);
        let mut stack = Stack::start(home, io, EchoEnd::Announced, tell).await?;
        let ports = stack.ports;

        self.step = PAGE;
        let page = stack.device.page().context("there is no page")?;
        let size = pages(ports.page, page).await?;
        self.passed(&format!(
            "{REQUESTS} requests at once, each answer the device's own page to the byte ({})",
            bytes(size)
        ));

        self.step = ECHO;
        let size = echoes(ports.echo).await?;
        self.passed(&format!(
            "{TRANSFERS} connections at once, {} each way, every byte compared; \
             half ended here first, half on the device",
            bytes(size)
        ));

        self.step = "counters";
        let text = counters(&stack, size).await?;
        self.passed(&text);

        self.step = "rotate";
        let took = stack.rotate().await?;
        let page = stack.device.page().context("there is no page")?;
        pages(ports.page, page).await?;
        echoes(ports.echo).await?;
        self.passed(&format!(
            "the device was told a new token over MQTT and connected with it within {}; \
             all of the above once more",
            short_time(took)
        ));

        self.step = "end";
        stack.stop().await?;
        ensure!(!path.exists(), "{} is still there", path.display());
        for port in ports.all() {
            let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
            ensure!(refused.is_err(), "port {port} is still listened on");
        }
        self.passed("both sides drained and closed, every port is free again, no file is left");
        Ok(())
    }

    fn passed(&mut self, what: &str) {
        self.screen.print(&[step(self.step, what.to_owned())]);
    }
}

/// Asks for the page in both its forms. Returns the bytes of all answers.
async fn pages(port: u16, page: &Page) -> Result<u64> {
    let mut requests = JoinSet::new();
    for at in 0..REQUESTS {
        let (accept, expected) = if at % 2 == 0 {
            ("*/*", page.text.clone())
        } else {
            ("text/html", page.html.clone())
        };
        requests.spawn(async move {
            let body = fetch(port, accept).await?;
            let same = body == expected;
            ensure!(same, "{} bytes that are not those of the page", body.len());
            Ok(body.len() as u64)
        });
    }
    sum(requests).await
}

async fn fetch(port: u16, accept: &str) -> Result<Bytes> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
    let request = Request::get("/")
        .header(header::HOST, format!("127.0.0.1:{port}"))
        .header(header::ACCEPT, accept)
        .header(header::CONNECTION, "close")
        .body(Full::default())?;
    let response = exchange(stream.context("connect")?, request).await?;
    let status = response.status();
    ensure!(status.is_success(), "the answer is {status}");
    Ok(response.into_body())
}

/// Runs all transfers at once. Returns the bytes of one direction.
async fn echoes(port: u16) -> Result<u64> {
    let mut transfers = JoinSet::new();
    for (seed, size) in (0..TRANSFERS).zip(SIZES.into_iter().cycle()) {
        let transfer = Transfer {
            seed,
            size,
            // Each size ends on either side.
            device_ends: seed / SIZES.len() as u64 % 2 == 1,
        };
        transfers.spawn(async move {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
            let stream = stream.context("connect")?;
            let done = transfer.run(stream).await;
            done.with_context(|| format!("{transfer:?}"))?;
            Ok(size + 8)
        });
    }
    sum(transfers).await
}

async fn sum(mut parts: JoinSet<Result<u64>>) -> Result<u64> {
    let mut sum = 0;
    while let Some(part) = parts.join_next().await {
        sum += part??;
    }
    Ok(sum)
}

/// Waits for both proxies to be idle, and compares what they have counted.
async fn counters(stack: &Stack, echoed: u64) -> Result<String> {
    let settled = async {
        loop {
            let sample = stack.sample().await;
            if sample.source.connections + sample.destination.connections == 0 {
                return sample;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let sample = timeout(SETTLE_DEADLINE, settled).await;
    let sample = sample.context("connections are still open")?;
    let (source, destination) = (sample.source.counters, sample.destination.counters);
    let connections = REQUESTS as u64 + TRANSFERS;
    ensure!(
        source.connections == connections && destination.connections == connections,
        "{connections} connections were made, counted are {} and {}",
        source.connections,
        destination.connections
    );
    for (direction, sent, received) in [
        ("to", source.bytes_sent, destination.bytes_received),
        ("from", destination.bytes_sent, source.bytes_received),
    ] {
        ensure!(
            sent == received && sent > echoed,
            "{direction} the device {sent} bytes were sent and {received} delivered"
        );
    }
    Ok(format!(
        "both proxies counted {connections} connections, {} to the device, {} from it, none left open",
        bytes(source.bytes_sent),
        bytes(source.bytes_received)
    ))
}
