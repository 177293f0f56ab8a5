//! One client, from its first byte to its link or its refusal.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_proto::Subprotocol;
use adit_proto::handshake::{ServerRequest, encode_accept, encode_refusal, parse_upgrade_request};
use tokio::net::TcpStream;
use tokio::time::timeout;
use zeroize::Zeroize;

use super::super::channel::Channel;
use super::super::socket::tune;
use super::super::{Admission, Denial, Grant, Link};
use super::ServeConfig;
use super::failures::Failures;
use super::memory::{Memory, Shortage};
use super::waiting::{Ended, Place};
use crate::failpoint::failpoint;
use crate::tls::{self, PlainRecords, Records};

pub(super) struct Handshake<A, F> {
    pub(super) config: Arc<ServeConfig>,
    pub(super) admission: Arc<A>,
    pub(super) on_link: Arc<F>,
    /// Held until the request is there.
    pub(super) place: Place,
    pub(super) failures: Arc<Failures>,
    pub(super) memory: Arc<Memory>,
}

type TcpChannel = Channel<TcpStream>;

impl<A: Admission, F: Fn(Grant, Link)> Handshake<A, F> {
    pub(super) async fn run(self, socket: TcpStream, address: SocketAddr) {
        let channel_id = match channel_id() {
            Ok(channel_id) => channel_id,
            Err(error) => return tracing::error!(%error, "no randomness"),
        };
        tracing::debug!(%address, channel_id, "accepted");
        if let Err(error) = self.take_in(socket, address, &channel_id).await {
            tracing::debug!(%address, channel_id, %error, "handshake failed");
        }
    }

    async fn take_in(
        self,
        socket: TcpStream,
        address: SocketAddr,
        channel_id: &str,
    ) -> io::Result<()> {
        tune(&socket)?;
        let Self {
            config,
            admission,
            on_link,
            mut place,
            failures,
            memory,
        } = self;
        let failed = || failures.note(address, Instant::now());
        let request = tokio::select! {
            biased;
            ended = place.ended() => {
                // Or silent connections that come faster than their deadlines would never count.
                if ended == Ended::Crowd {
                    failed();
                }
                return Err(io::Error::other("no room for it any longer"));
            }
            request = timeout(config.deadline, read_request(socket, &config)) => {
                let request = request.map_err(|_| io::Error::from(io::ErrorKind::TimedOut));
                request.flatten().inspect_err(|_| failed())?
            }
        };
        drop(place);
        let (mut channel, request) = match request {
            (channel, Ok(request)) => (channel, request),
            (channel, Err(denial)) => {
                failed();
                return refuse(channel, &denial, channel_id).await;
            }
        };
        // Before the token is spent.
        if memory.shortage(Instant::now()) != Shortage::None {
            memory.refused();
            let denial = Denial {
                status: 503,
                text: "The service is short of memory: try again later.".to_owned(),
            };
            return refuse(channel, &denial, channel_id).await;
        }
        // Not under the deadline: a token half spent would be nobody's.
        let grant = match admission.admit(&request, address, channel_id).await {
            Ok(grant) => Granted::new(admission, grant),
            Err(denial) => {
                // A 5xx is nobody's fault out there.
                if denial.status < 500 {
                    failed();
                }
                return refuse(channel, &denial, channel_id).await;
            }
        };
        failpoint("handshake", &channel_id);
        // The parser has refused an empty offer.
        let subprotocol = Subprotocol::select(&request.offered).unwrap_or(Subprotocol::V3);
        let mut answer = Vec::new();
        encode_accept(&request.key, subprotocol, channel_id, &mut answer);
        timeout(ANSWER_DEADLINE, channel.send(&answer)).await??;
        let mut link = channel.into_link(channel_id.to_owned(), subprotocol.name().to_owned())?;
        link.is_nameless = request.user_agent.is_none();
        grant.hand_over(link, &*on_link);
        Ok(())
    }
}

/// A grant whose end must be reported, whatever happens on the way to its link.
struct Granted<A: Admission> {
    admission: Arc<A>,
    grant: Option<Grant>,
}

impl<A: Admission> Granted<A> {
    fn new(admission: Arc<A>, grant: Grant) -> Self {
        Self {
            admission,
            grant: Some(grant),
        }
    }

    /// From here on the link, its beginning and its end, is the business of whoever takes it.
    fn hand_over(mut self, link: Link, on_link: &impl Fn(Grant, Link)) {
        if let Some(grant) = &self.grant {
            on_link(grant.clone(), link);
        }
        self.grant = None;
    }
}

impl<A: Admission> Drop for Granted<A> {
    fn drop(&mut self) {
        if let Some(grant) = &self.grant {
            self.admission.disconnected(grant);
        }
    }
}

/// TLS, if configured, and the request; or why it is refused.
async fn read_request(
    mut socket: TcpStream,
    config: &ServeConfig,
) -> io::Result<(TcpChannel, Result<ServerRequest, Denial>)> {
    let mut channel = match &config.tls {
        None => Channel::new(socket, Records::Plain(PlainRecords), Vec::new()),
        Some(tls) => {
            let session = tls::accept(&mut socket, tls, config.records)
                .await
                .map_err(io::Error::other)?;
            Channel::new(socket, session.records, session.unread)
        }
    };
    loop {
        let denial = match parse_upgrade_request(&channel.opened) {
            Ok(Some((request, size))) if size == channel.opened.len() => {
                // It held the tokens.
                channel.opened.zeroize();
                return Ok((channel, Ok(request)));
            }
            // RFC 6455 §4.1: a client sends no frames before it has read the answer.
            Ok(Some(_)) => Denial {
                status: 400,
                text: "Invalid request: send nothing behind it before the answer.".to_owned(),
            },
            Ok(None) => match channel.receive().await? {
                true => continue,
                false => return Err(io::ErrorKind::UnexpectedEof.into()),
            },
            Err(error) => Denial {
                status: error.status(),
                text: error.to_string(),
            },
        };
        return Ok((channel, Err(denial)));
    }
}

/// Answers with the reason, and stays until the client has read it.
async fn refuse(mut channel: TcpChannel, denial: &Denial, channel_id: &str) -> io::Result<()> {
    tracing::debug!(
        channel_id,
        status = denial.status,
        text = denial.text,
        "refused"
    );
    let status = match denial.status {
        400..=599 => denial.status,
        _ => 500,
    };
    let mut answer = Vec::new();
    encode_refusal(status, &denial.text, channel_id, &mut answer);
    let goodbye = async {
        channel.send(&answer).await?;
        channel.shutdown().await?;
        channel.drain(DRAIN_MAX).await
    };
    timeout(REFUSAL_DEADLINE, goodbye).await?
}

/// A name for one attempt, in the shape of a version 4 UUID.
fn channel_id() -> io::Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    let number = u128::from_be_bytes(random);
    let digits = format!("{number:032x}");
    let (a, b, c, d) = (
        &digits[..8],
        &digits[8..12],
        &digits[13..16],
        &digits[17..20],
    );
    let variant = ['8', '9', 'a', 'b'][usize::from(random[8] >> 6)];
    Ok(format!("{a}-{b}-4{c}-{variant}{d}-{}", &digits[20..]))
}

/// The answer fits every socket buffer; a client that does not take it in this time is gone.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Sending the reason and waiting for the client to close.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(2);

/// Bytes that a refused client may still send before we lose patience.
const DRAIN_MAX: usize = 64 * 1024;
