//! The suite is the server, a real `adit proxy` the client.
//!
//! ```text
//! echo ◄─ adit proxy, as destination ─► bridge, as relay and source ─► suite
//! ```
//!
//! A close frame ends a proxy, so each case has one of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use adit_tests::apps::{App, Temper};
use adit_tests::deadline::within;
use adit_tests::frames::{BINARY, End, frame};
use adit_tests::http::Head;
use adit_tests::proxy::Proxy as Command;
use adit_tests::scenario::Scenario;
use adit_tests::scripted_service::ScriptedService;
use adit_tests::wire::Message;
use anyhow::{Context as _, Result};
use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::bridge::{self, PROTOCOL, SERVICE, route};
use crate::{CASE_TIMEOUT, heads};

/// Proxies that connect to the suite.
pub(crate) struct Proxies {
    scenario: Scenario,
    tls: Arc<ServerConfig>,
    echo: App,
    suite: SocketAddr,
    is_plain: bool,
}

impl Proxies {
    pub(crate) async fn new(
        scenario: &Scenario,
        suite: SocketAddr,
        is_plain: bool,
    ) -> Result<Self> {
        Ok(Self {
            scenario: scenario.clone(),
            tls: scenario.pki().server()?,
            echo: App::start(Temper::Echo).await?,
            suite,
            is_plain,
        })
    }

    /// Has a proxy ask for this path of the suite, and carries what comes of it.
    pub(crate) async fn ask_for(&self, path: &str) -> Result<()> {
        // A proxy that comes back has to find nobody.
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let service = ScriptedService::start_at(loopback, Arc::clone(&self.tls)).await?;
        let mapping = format!("{SERVICE}={}", self.echo.address());
        let _proxy =
            Command::destination(&self.scenario, &mapping, &service.endpoint()?).start()?;
        let proxy = service.accept_tcp().await?;
        drop(service);
        let carried = tokio::time::timeout(CASE_TIMEOUT, self.carry(path, proxy)).await;
        carried.context("not over")?
    }

    async fn carry(&self, path: &str, proxy: TcpStream) -> Result<()> {
        proxy.set_nodelay(true)?;
        let mut proxy = TlsAcceptor::from(Arc::clone(&self.tls))
            .accept(proxy)
            .await?;
        let request = within("waiting for a proxy's request", Head::read(&mut proxy)).await?;
        let mut suite = TcpStream::connect(self.suite).await?;
        let asked = heads::changed(&request, &format!("GET {path} HTTP/1.1"), &[]);
        suite.write_all(asked.as_bytes()).await?;
        let answer = within("waiting for the suite's answer", Head::read(&mut suite)).await?;
        let fields = [("Sec-WebSocket-Protocol", PROTOCOL)];
        let answer = heads::changed(&answer, &answer.start_line, &fields);
        proxy.write_all(answer.as_bytes()).await?;
        let route = route(1);
        for message in [
            Message::service_ids(&[SERVICE]),
            Message::stream_start(route),
        ] {
            let message = frame(End::Server, BINARY, &message.prefixed());
            proxy.write_all(&message).await?;
        }
        proxy.flush().await?;
        bridge::carry(route, End::Server, self.is_plain, suite, proxy).await
    }
}
