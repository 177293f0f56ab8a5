//! Proxies of all versions in all pairs, over the real relay (wire specification 6.2): ours under the reference's name,
//! and the reference's own program as well where `ADIT_LOCALPROXY` says where that is.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use adit_tests::apps::{self, App, Temper};
use adit_tests::deadline::pause;
use adit_tests::on_own_choice;
use adit_tests::ports;
use adit_tests::proxy::Proxy;
use adit_tests::scenario::Scenario;
use adit_tests::stack::Stack;
use adit_tests::verifier::Transfer;
use anyhow::{Context, Result, anyhow, bail};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// As `-y` takes them; the newest is what is spoken without it.
const VERSIONS: [&str; 3] = ["V1", "V2", "V3"];
const NEWEST: &str = "V3";

/// One end of a pair.
#[derive(Clone, Debug)]
struct End {
    /// None is ours.
    reference: Option<PathBuf>,
    version: &'static str,
}

impl End {
    fn all() -> Vec<Self> {
        let reference = std::env::var_os("ADIT_LOCALPROXY").map(PathBuf::from);
        let programs = [None].into_iter().chain(reference.map(Some));
        let ends = |reference: Option<PathBuf>| {
            VERSIONS.map(|version| Self {
                reference: reference.clone(),
                version,
            })
        };
        programs.flat_map(ends).collect()
    }

    /// How many one after another it takes, as a destination. The reference's in V1 stands still once its application has
    /// ended a connection, with a source of its own as well.
    fn connections(&self) -> u64 {
        match (&self.reference, self.version) {
            (Some(_), "V1") => 1,
            _ => 3,
        }
    }

    fn of(&self, proxy: Proxy) -> Proxy {
        let proxy = match &self.reference {
            Some(path) => proxy.as_program(path),
            None => proxy.as_localproxy(),
        };
        match self.version {
            NEWEST => proxy,
            version => proxy.args(["-y", version]),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match self.reference {
            Some(_) => "their",
            None => "our",
        };
        write!(f, "{whose} {}", self.version)
    }
}

async fn every_pair_carries_one_connection_after_another(scenario: Scenario) -> Result<()> {
    let mut failed = Vec::new();
    let mut count = 0;
    for source in End::all() {
        for destination in End::all() {
            count += 1;
            let pair = format!("{source} source, {destination} destination");
            match carry(&scenario, &source, &destination).await {
                Ok(()) => eprintln!("{pair}: carries"),
                Err(error) => {
                    eprintln!("{pair}: {error:#}");
                    failed.push(pair);
                }
            }
        }
    }
    eprintln!("{count} pairs");
    if !failed.is_empty() {
        bail!("{} do not carry", failed.join(", and "));
    }
    Ok(())
}

async fn carry(scenario: &Scenario, source: &End, destination: &End) -> Result<()> {
    let app = App::start(Temper::Verify(SEED)).await?;
    let services = [("SSH", app.address().to_string())];
    let change = |one, other| (source.of(one), destination.of(other));
    let mut stack = Stack::start_with(scenario, &services, change).await?;
    for id in 1..=destination.connections() {
        let client = connect(&stack, source).await?;
        let exchanged = exchange(client, id).await;
        exchanged.context(format!("connection {id}"))?;
    }
    // Only the newest has more than one at a time.
    if [source, destination]
        .iter()
        .all(|end| end.version == NEWEST)
    {
        let mut exchanges = JoinSet::new();
        let mut clients = Vec::new();
        for id in 11..=14 {
            clients.push((id, connect(&stack, source).await?));
            // The reference's queue of connections that it has not accepted yet holds one or two.
            pause(Duration::from_millis(20)).await;
        }
        for (id, client) in clients {
            exchanges.spawn(exchange(client, id));
        }
        while let Some(exchanged) = exchanges.join_next().await {
            exchanged?.context("four at once")?;
        }
    }
    stack.still_run()
}

async fn connect(stack: &Stack, source: &End) -> Result<TcpStream> {
    let tries = if source.reference.is_some() { 50 } else { 1 };
    let mut connected = Err(anyhow!("not tried"));
    for _ in 0..tries {
        ports::listened_on(stack.port("SSH")?).await?;
        connected = stack.connect("SSH").await;
        if connected.is_ok() {
            break;
        }
        // An older one of the reference listens anew for each connection: who comes while it still did is reset.
        pause(Duration::from_millis(20)).await;
    }
    connected
}

/// To its end: an older source takes the next connection only then.
async fn exchange(mut client: TcpStream, id: u64) -> Result<()> {
    let transfer = Transfer {
        id,
        length: LENGTH,
        seed: SEED,
    };
    transfer.exchange(&mut client).await?;
    apps::is_ended(&mut client).await
}

const SEED: u64 = 17;

/// In bytes, each way: the reference ends when more than 128 KiB wait for one of its sockets.
const LENGTH: u64 = 40_000;

/// Of 36 pairs, should many of them stand still.
const LIMIT: Duration = Duration::from_secs(900);

on_own_choice!(within LIMIT; every_pair_carries_one_connection_after_another);
