//! The suite is the client, a real `adit serve` the server.
//!
//! ```text
//! suite ─► bridge, as source ─► adit serve ─► adit proxy, as destination ─► echo
//! ```
//!
//! A tunnel and its destination are there for many connections, one after the other: each is a source that comes back
//! with its tokens, and starts a stream of its own.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use adit_tests::api::Api;
use adit_tests::apps::{App, Temper};
use adit_tests::deadline::within;
use adit_tests::frames::{BINARY, End, frame};
use adit_tests::http::Head;
use adit_tests::pki::client_trusting;
use adit_tests::process::Process;
use adit_tests::proxy::Proxy;
use adit_tests::scenario::Scenario;
use adit_tests::scripted_proxy::Endpoint;
use adit_tests::stack::Serve;
use adit_tests::wire::Message;
use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::bridge::{self, PROTOCOL, SERVICE, route};
use crate::{CASE_TIMEOUT, heads};

/// A relay, and tunnels through it.
pub(crate) struct Relay {
    scenario: Scenario,
    serve: Serve,
    api: Api,
    echo: App,
    /// Those through which nobody speaks.
    idle: Mutex<Vec<Tunnel>>,
    /// As many connections at once.
    permits: Semaphore,
    opened: AtomicU32,
    is_plain: bool,
}

struct Tunnel {
    token: String,
    client_token: String,
    /// Streams that were started in it.
    streams: i32,
    _destination: Process,
}

impl Relay {
    pub(crate) async fn start(scenario: &Scenario, is_plain: bool) -> Result<Self> {
        let serve = Serve::start(scenario).await?;
        Ok(Self {
            scenario: scenario.clone(),
            api: serve.api()?,
            serve,
            echo: App::start(Temper::Echo).await?,
            idle: Mutex::default(),
            permits: Semaphore::new(TUNNELS_MAX),
            opened: AtomicU32::default(),
            is_plain,
        })
    }

    /// Takes the suite's connections until it is dropped.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) -> Result<()> {
        loop {
            let (suite, _) = listener.accept().await?;
            let relay = Arc::clone(&self);
            tokio::spawn(async move {
                let carried = tokio::time::timeout(CASE_TIMEOUT, relay.carry(suite)).await;
                if let Err(error) = carried.context("not over").flatten() {
                    eprintln!("a case: {error:#}");
                }
            });
        }
    }

    async fn carry(&self, suite: TcpStream) -> Result<()> {
        let _permit = self.permits.acquire().await?;
        let idle = self.lock().pop();
        let mut tunnel = match idle {
            Some(tunnel) => tunnel,
            None => self.open().await?,
        };
        tunnel.streams += 1;
        let carried = self.carry_through(&tunnel, suite).await;
        // One through which nothing comes is for nobody else.
        carried.map(|()| self.lock().push(tunnel))
    }

    async fn carry_through(&self, tunnel: &Tunnel, mut suite: TcpStream) -> Result<()> {
        let request = Head::read(&mut suite).await?;
        let mut relay = connect(&self.serve.tunnel()).await?;
        let fields = [
            ("access-token", tunnel.token.as_str()),
            ("client-token", &tunnel.client_token),
            ("Sec-WebSocket-Protocol", PROTOCOL),
        ];
        let start = "GET /tunnel?local-proxy-mode=source HTTP/1.1";
        let asked = heads::changed(&request, start, &fields);
        relay.write_all(asked.as_bytes()).await?;
        let answer = within("waiting for the relay's answer", Head::read(&mut relay)).await?;
        if answer.status()? != 101 {
            bail!("the relay refuses: {answer:?}");
        }
        let route = route(tunnel.streams);
        let started = Message::stream_start(route).prefixed();
        relay
            .write_all(&frame(End::Client, BINARY, &started))
            .await?;
        relay.flush().await?;
        let answer = heads::changed(&answer, &answer.start_line, &[]);
        suite.write_all(answer.as_bytes()).await?;
        bridge::carry(route, End::Client, self.is_plain, suite, relay).await
    }

    async fn open(&self) -> Result<Tunnel> {
        let tunnel = self.api.open_tunnel(&[SERVICE]).await?;
        let mapping = format!("{SERVICE}={}", self.echo.address());
        let destination = Proxy::destination(&self.scenario, &mapping, &self.serve.endpoint())
            .token(&tunnel.destination_token)
            .trusting(&self.serve.ca_file())
            .start()?;
        self.api.wait_connected(&tunnel.id, false, true).await?;
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(Tunnel {
            token: tunnel.source_token,
            client_token: format!("conformance-{number:032}"),
            streams: 0,
            _destination: destination,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Tunnel>> {
        self.idle
            .lock()
            .expect("nothing panics while it holds this")
    }
}

async fn connect(to: &Endpoint) -> Result<TlsStream<TcpStream>> {
    within("connecting to the relay", async {
        let tcp = TcpStream::connect((to.host.as_str(), to.port)).await?;
        tcp.set_nodelay(true)?;
        let connector = TlsConnector::from(client_trusting(&to.ca_pem)?);
        Ok(connector.connect(to.host.clone().try_into()?, tcp).await?)
    })
    .await
}

/// The suite opens few connections at once, and those of the cases before may not be over.
const TUNNELS_MAX: usize = 16;
