//! TLS handshakes over any byte stream, up to the point where a [`Records`] takes over.
//!
//! The driver shows the library one record at a time and stops at the end of the handshake, so
//! that application data which came along with it stays sealed and whole in `unread`.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConfig, ProtocolVersion, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::unbuffered::{Connection, drain_alerts, encode, first_record};
use super::{HandshakeError, InPlaceRecords, LibraryRecords, Records, RecordsChoice};

/// A finished handshake.
#[derive(Debug)]
pub struct Session {
    /// Seals and opens from here on.
    pub records: Records,
    /// Bytes that were read beyond the handshake: zero or more records, the last perhaps cut.
    /// They come before whatever the socket gives next.
    pub unread: Vec<u8>,
    /// The protocol version, as `TLSv1_3`.
    pub version: String,
    /// The cipher suite, as `TLS13_AES_128_GCM_SHA256`.
    pub suite: String,
    /// The application protocol that both sides agreed on, if any was offered.
    pub alpn: Option<Vec<u8>>,
}

/// Performs the client's side of a handshake on `socket`. There is no deadline in here.
///
/// # Errors
///
/// [`HandshakeError`]; the peer has then been told by an alert, as far as the socket allowed.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut S,
    config: &Arc<ClientConfig>,
    name: ServerName<'static>,
    choice: RecordsChoice,
) -> Result<Session, HandshakeError> {
    let connection =
        UnbufferedClientConnection::new(Arc::clone(config), name).map_err(HandshakeError::Tls)?;
    let (connection, incoming) = drive(socket, connection, CLIENT_MAX).await?;
    establish(connection, incoming, choice)
}

/// Performs the server's side of a handshake on `socket`. There is no deadline in here.
///
/// # Errors
///
/// [`HandshakeError`]; the peer has then been told by an alert, as far as the socket allowed.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut S,
    config: &Arc<ServerConfig>,
    choice: RecordsChoice,
) -> Result<Session, HandshakeError> {
    let connection =
        UnbufferedServerConnection::new(Arc::clone(config)).map_err(HandshakeError::Tls)?;
    let (connection, incoming) = drive(socket, connection, SERVER_MAX).await?;
    establish(connection, incoming, choice)
}

/// The name that a certificate must hold for `host`, a host name or an IP address; an IPv6
/// address with or without its brackets.
///
/// # Errors
///
/// [`HandshakeError::BadName`] when it is neither.
pub fn server_name(host: &str) -> Result<ServerName<'static>, HandshakeError> {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    ServerName::try_from(bare.to_owned()).map_err(|_| HandshakeError::BadName(host.to_owned()))
}

/// What has been received and not been discarded.
#[derive(Default)]
struct Incoming {
    bytes: Vec<u8>,
    /// How many of them the library may see: whole records, one more each time.
    shown: usize,
}

impl Incoming {
    /// Lets the library see one more record, if a whole one is there.
    fn show_next(&mut self) -> bool {
        let next = first_record(&self.bytes[self.shown..]);
        self.shown += next.unwrap_or(0);
        next.is_some()
    }

    fn discard(&mut self, size: usize) {
        self.bytes.drain(..size);
        self.shown -= size;
    }

    async fn read<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
        max: usize,
    ) -> Result<(), HandshakeError> {
        if self.bytes.len() >= max {
            return Err(HandshakeError::TooLarge { max });
        }
        self.bytes.reserve(READ_SIZE);
        match socket.read_buf(&mut self.bytes).await? {
            0 => Err(HandshakeError::ClosedEarly),
            _ => Ok(()),
        }
    }
}

enum Step {
    Again,
    NeedsInput,
    Done,
    Failed(HandshakeError),
}

async fn drive<S: AsyncRead + AsyncWrite + Unpin, C: Connection>(
    socket: &mut S,
    mut connection: C,
    max: usize,
) -> Result<(C, Incoming), HandshakeError> {
    let mut incoming = Incoming::default();
    let mut outgoing = Vec::new();
    loop {
        match step(&mut connection, &mut incoming, &mut outgoing) {
            Step::Again => {}
            Step::NeedsInput if incoming.show_next() => {}
            Step::NeedsInput => {
                flush(socket, &mut outgoing).await?;
                incoming.read(socket, max).await?;
            }
            Step::Done => {
                flush(socket, &mut outgoing).await?;
                return Ok((connection, incoming));
            }
            Step::Failed(error) => {
                drain_alerts(&mut connection, &mut outgoing);
                // The alert is a courtesy; what matters is the reason it was sent for.
                let _ = flush(socket, &mut outgoing).await;
                return Err(error);
            }
        }
    }
}

fn step<C: Connection>(
    connection: &mut C,
    incoming: &mut Incoming,
    outgoing: &mut Vec<u8>,
) -> Step {
    let shown = incoming.shown;
    let UnbufferedStatus { discard, state } = connection.process(&mut incoming.bytes[..shown]);
    let mut may_be_done = false;
    let step = match state {
        Ok(ConnectionState::EncodeTlsData(mut encoder)) => {
            encode(&mut encoder, outgoing);
            Step::Again
        }
        Ok(ConnectionState::TransmitTlsData(transmit)) => {
            transmit.done();
            Step::Again
        }
        Ok(ConnectionState::BlockedHandshake) => Step::NeedsInput,
        Ok(ConnectionState::WriteTraffic(_)) => {
            may_be_done = true;
            Step::NeedsInput
        }
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
            Step::Failed(HandshakeError::ClosedEarly)
        }
        Ok(_) => Step::Failed(HandshakeError::Tls(rustls::Error::General(
            "application data in the handshake".into(),
        ))),
        Err(error) => Step::Failed(HandshakeError::Tls(error)),
    };
    incoming.discard(discard);
    // A server may write before it has heard the client's Finished; that is not the end yet.
    if may_be_done && !connection.is_handshaking() {
        return Step::Done;
    }
    step
}

async fn flush<S: AsyncWrite + Unpin>(
    socket: &mut S,
    outgoing: &mut Vec<u8>,
) -> Result<(), HandshakeError> {
    if !outgoing.is_empty() {
        socket.write_all(outgoing).await?;
        socket.flush().await?;
        outgoing.clear();
    }
    Ok(())
}

fn establish<C: Connection>(
    connection: C,
    mut incoming: Incoming,
    choice: RecordsChoice,
) -> Result<Session, HandshakeError> {
    let version = connection.version().map_or_else(String::new, |it| {
        it.as_str().unwrap_or("unknown").to_owned()
    });
    let suite = connection.suite().map_or_else(String::new, |it| {
        it.suite().as_str().unwrap_or("unknown").to_owned()
    });
    let alpn = connection.alpn().map(<[u8]>::to_vec);
    let is_tls13 = connection.version() == Some(ProtocolVersion::TLSv1_3);
    let unread = incoming.bytes.split_off(incoming.shown);
    let records = if choice == RecordsChoice::InPlace && is_tls13 {
        let (secrets, keys) = connection.into_keys().map_err(HandshakeError::Tls)?;
        InPlaceRecords::new(secrets, keys)
            .map(Records::InPlace)
            .map_err(HandshakeError::Keys)?
    } else {
        Records::Library(LibraryRecords::new(connection.into_side(), incoming.bytes))
    };
    Ok(Session {
        records,
        unread,
        version,
        suite,
        alpn,
    })
}

/// Most bytes received and not discarded during a client's handshake. The library takes
/// messages of up to 64 KiB (a long certificate chain); each record may waste a little.
const CLIENT_MAX: usize = 128 * 1024;

/// The same for a server, which hears less: a hello of under 3 KiB, and no certificate. It is
/// also what anyone can make us keep; 1,024 of them are 40 MiB.
const SERVER_MAX: usize = 40 * 1024;

/// Bytes asked of the socket at once.
const READ_SIZE: usize = 4 * 1024;
