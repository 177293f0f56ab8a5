//! The client's half: from an endpoint's name to an open WebSocket.

use std::future::Future;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use adit_proto::handshake::{
    HandshakeError, UpgradeRequest, UpgradeResponse, finish_at_eof, parse_upgrade_response,
};
use adit_proto::{AccessToken, ClientToken, Mode};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::channel::Channel;
use super::dial::{happy_eyeballs, resolve};
use super::socket::{IntoFd, tune};
use super::{Link, LinkError, ProxyError, ProxyScheme, Step, WebProxy, bridge, proxy};
use crate::tls::{
    self, ClientTls, ConfigError, PlainRecords, Records, RecordsChoice, client_config,
};

/// Everything that is needed to connect to a service.
#[derive(Debug, Clone)]
pub struct DialSettings {
    /// Name or address of the service; IPv6 with or without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The side of the tunnel that we are.
    pub mode: Mode,
    /// The credential.
    pub access_token: AccessToken,
    /// What makes the access token usable again.
    pub client_token: Option<ClientToken>,
    /// The one subprotocol to offer, as `aws.iot.securetunneling-3.0`.
    pub subprotocol: String,
    /// Informative; empty: not sent.
    pub user_agent: String,
    /// Local address to connect from.
    pub bind: Option<IpAddr>,
    /// A web proxy to go through.
    pub web_proxy: Option<WebProxy>,
    /// TLS; `None` means `ws://`, for tests.
    pub tls: Option<LinkTls>,
    /// Time allowed for each step.
    pub deadlines: Deadlines,
}

/// TLS towards the service, and towards an `https` web proxy.
#[derive(Debug, Clone)]
pub struct LinkTls {
    /// Whom to trust.
    pub config: Arc<ClientConfig>,
    /// Whom to trust as a web proxy, if that is not the same: a pinned key is the service's.
    pub web_proxy: Option<Arc<ClientConfig>>,
    /// Who seals and opens after the handshake.
    pub records: RecordsChoice,
}

impl LinkTls {
    /// With the same trust in the service and in a web proxy.
    pub fn new(config: Arc<ClientConfig>, records: RecordsChoice) -> Self {
        Self {
            config,
            web_proxy: None,
            records,
        }
    }

    /// By these settings, whose pins are the service's alone.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when authorities cannot be read, or there are none.
    pub fn from_settings(
        settings: &ClientTls,
        records: RecordsChoice,
    ) -> Result<Self, ConfigError> {
        let unpinned = ClientTls {
            pins: None,
            ..settings.clone()
        };
        let web_proxy = settings.pins.as_ref().map(|_| client_config(&unpinned));
        Ok(Self {
            web_proxy: web_proxy.transpose()?,
            ..Self::new(client_config(settings)?, records)
        })
    }
}

/// Time allowed for each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Resolving the name.
    pub resolve: Duration,
    /// Connecting, all addresses together.
    pub connect: Duration,
    /// Getting through the web proxy, its TLS handshake included.
    pub proxy: Duration,
    /// The TLS handshake with the service.
    pub tls: Duration,
    /// The WebSocket upgrade.
    pub upgrade: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let each = Duration::from_secs(10);
        Self {
            resolve: each,
            connect: each,
            proxy: each,
            tls: each,
            upgrade: each,
        }
    }
}

/// Connects to one service, as often as it is asked to. When to try again is the caller's
/// decision (see [`Backoff`](super::Backoff)).
#[derive(Debug, Clone)]
pub struct Dialer {
    settings: DialSettings,
}

impl Dialer {
    /// Remembers the settings.
    pub fn new(settings: DialSettings) -> Self {
        Self { settings }
    }

    /// The settings.
    pub fn settings(&self) -> &DialSettings {
        &self.settings
    }

    /// Connects, once. To be called within a tokio runtime; a link through an `https` web proxy
    /// needs that runtime as long as it lives.
    ///
    /// # Errors
    ///
    /// [`LinkError`], which knows whether another attempt makes sense.
    pub async fn dial(&self) -> Result<Link, LinkError> {
        let settings = &self.settings;
        let Some(web_proxy) = &settings.web_proxy else {
            let socket = self.connect(&settings.host, settings.port).await?;
            return self.secure(socket).await;
        };
        let socket = self.connect(&web_proxy.host, web_proxy.port).await?;
        match web_proxy.scheme {
            ProxyScheme::Http => {
                let socket = self.through(web_proxy, self.ask(socket, web_proxy)).await?;
                self.secure(socket).await
            }
            ProxyScheme::Https => {
                let again = socket.as_fd().try_clone_to_owned();
                let outer = self.ask_in_tls(socket, web_proxy);
                let stream = self.through(web_proxy, outer).await?;
                let started = again.and_then(|again| bridge::start(stream, again));
                let socket = started.map_err(|source| LinkError::Proxy {
                    proxy: web_proxy.to_string(),
                    source: source.into(),
                })?;
                self.secure(socket).await
            }
        }
    }

    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, LinkError> {
        let deadlines = &self.settings.deadlines;
        let failed = |source| LinkError::Dial {
            host: host.to_owned(),
            source,
        };
        let addresses = step(Step::Resolve, host, deadlines.resolve, resolve(host, port))
            .await?
            .map_err(failed)?;
        let socket = happy_eyeballs(&addresses, self.settings.bind, deadlines.connect)
            .await
            .map_err(failed)?;
        tune(&socket).map_err(|source| LinkError::Io {
            host: host.to_owned(),
            source,
        })?;
        Ok(socket)
    }

    /// Runs the step that gets us through the proxy.
    async fn through<T>(
        &self,
        web_proxy: &WebProxy,
        work: impl Future<Output = Result<T, ProxyError>>,
    ) -> Result<T, LinkError> {
        let proxy = web_proxy.to_string();
        step(Step::Proxy, &proxy, self.settings.deadlines.proxy, work)
            .await?
            .map_err(|source| LinkError::Proxy { proxy, source })
    }

    async fn ask(
        &self,
        mut socket: TcpStream,
        web_proxy: &WebProxy,
    ) -> Result<TcpStream, ProxyError> {
        let DialSettings { host, port, .. } = &self.settings;
        proxy::ask(&mut socket, web_proxy, host, *port).await?;
        Ok(socket)
    }

    async fn ask_in_tls(
        &self,
        socket: TcpStream,
        web_proxy: &WebProxy,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ProxyError> {
        let DialSettings {
            host, port, tls, ..
        } = &self.settings;
        let tls = tls.as_ref().ok_or(ProxyError::NoTls)?;
        let config = tls.web_proxy.as_ref().unwrap_or(&tls.config);
        proxy::ask_in_tls(socket, web_proxy, config, host, *port).await
    }

    async fn secure<S>(&self, mut socket: S) -> Result<Link, LinkError>
    where
        S: AsyncRead + AsyncWrite + Unpin + IntoFd,
    {
        let DialSettings {
            host,
            tls,
            deadlines,
            ..
        } = &self.settings;
        let channel = match tls {
            None => Channel::new(socket, Records::Plain(PlainRecords), Vec::new()),
            Some(tls) => {
                let failed = |source| LinkError::Tls {
                    host: host.clone(),
                    source,
                };
                let name = tls::server_name(host).map_err(failed)?;
                let handshake = tls::connect(&mut socket, &tls.config, name, tls.records);
                let session = step(Step::Tls, host, deadlines.tls, handshake)
                    .await?
                    .map_err(failed)?;
                tracing::debug!(
                    version = session.version,
                    suite = session.suite,
                    "TLS is up"
                );
                Channel::new(socket, session.records, session.unread)
            }
        };
        step(
            Step::Upgrade,
            host,
            deadlines.upgrade,
            self.upgrade(channel),
        )
        .await?
    }

    async fn upgrade<S>(&self, mut channel: Channel<S>) -> Result<Link, LinkError>
    where
        S: AsyncRead + AsyncWrite + Unpin + IntoFd,
    {
        let host = &self.settings.host;
        let unusable = |source: HandshakeError| LinkError::Answer {
            host: host.clone(),
            source,
        };
        let failed = |source| LinkError::Io {
            host: host.clone(),
            source,
        };
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(|error| failed(error.into()))?;
        let request = self.request(key).map_err(unusable)?;
        channel.send(&request).await.map_err(failed)?;
        drop(request);
        let (response, size) = loop {
            if let Some(found) = parse_upgrade_response(&channel.opened, &key).map_err(unusable)? {
                break found;
            }
            if !channel.receive().await.map_err(failed)? {
                let response = finish_at_eof(&channel.opened, &key).map_err(unusable)?;
                break (response, channel.opened.len());
            }
        };
        match response {
            UpgradeResponse::Accepted {
                channel_id,
                subprotocol,
                carries_credit,
            } => {
                // Frames may follow in the same record.
                channel.opened.drain(..size);
                let link = channel.into_link(channel_id.unwrap_or_default(), subprotocol);
                let mut link = link.map_err(failed)?;
                link.carries_credit = carries_credit;
                Ok(link)
            }
            UpgradeResponse::Refused(refusal) => Err(LinkError::Refused {
                host: host.clone(),
                refusal,
            }),
        }
    }

    /// The upgrade request; it holds the tokens.
    fn request(&self, key: [u8; 16]) -> Result<Zeroizing<Vec<u8>>, HandshakeError> {
        let settings = &self.settings;
        let host = match settings.host.contains(':') && !settings.host.starts_with('[') {
            true => format!("[{}]", settings.host),
            false => settings.host.clone(),
        };
        let mut request = Zeroizing::new(Vec::new());
        UpgradeRequest {
            // Never with the port (wire specification, section 1.2).
            host: &host,
            mode: settings.mode,
            subprotocol: &settings.subprotocol,
            access_token: &settings.access_token,
            client_token: settings.client_token.as_ref(),
            user_agent: &settings.user_agent,
            key,
        }
        .encode(&mut request)?;
        Ok(request)
    }
}

/// Runs one step within its deadline.
async fn step<T>(
    step: Step,
    host: &str,
    after: Duration,
    work: impl Future<Output = T>,
) -> Result<T, LinkError> {
    timeout(after, work).await.map_err(|_| LinkError::TimedOut {
        step,
        host: host.to_owned(),
        after,
    })
}
