//! Identities, configurations and pairs of connected peers.

use std::io::{Read, Write};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite};

use super::super::inplace::RENEW_AFTER;
use super::super::{
    InPlaceRecords, MAX_PLAINTEXT, Opened, RecordError, Records, RecordsChoice, Session, accept,
    connect, server_name,
};

/// The certificate of a test server, for `localhost`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Certificate {
    /// Signed by the authority that the client trusts.
    Good,
    Expired,
    NotYet,
    /// Signed by another authority.
    Stranger,
    /// Signed by another authority that has the name of the trusted one.
    SameName,
    SelfSigned,
}

fn authority(name: &str) -> (Issuer<'static, KeyPair>, CertificateDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.self_signed(&key).unwrap();
    (Issuer::new(params, key), certificate.der().clone())
}

/// A server's certificate and key, and the authority that clients should trust.
pub(crate) type Identity = (
    CertificateDer<'static>,
    PrivateKeyDer<'static>,
    CertificateDer<'static>,
);

pub(crate) fn identity(certificate: Certificate) -> Identity {
    let (issuer, trusted) = authority("trusted");
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    match certificate {
        Certificate::Expired => params.not_after = date_time_ymd(2001, 1, 1),
        Certificate::NotYet => params.not_before = date_time_ymd(3001, 1, 1),
        _ => {}
    }
    let signed = match certificate {
        Certificate::SelfSigned => params.self_signed(&key),
        Certificate::Stranger => params.signed_by(&key, &authority("stranger").0),
        Certificate::SameName => params.signed_by(&key, &authority("trusted").0),
        _ => params.signed_by(&key, &issuer),
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    (signed.unwrap().der().clone(), key, trusted)
}

/// Configurations of both ends that agree on `suite`.
pub(crate) fn configs(suite: SupportedCipherSuite) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    configs_for(suite, Certificate::Good)
}

pub(crate) fn configs_for(
    suite: SupportedCipherSuite,
    certificate: Certificate,
) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    configs_from(suite, identity(certificate))
}

pub(crate) fn configs_from(
    suite: SupportedCipherSuite,
    (certificate, key, trusted): Identity,
) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites = vec![suite];
    let provider = Arc::new(provider);
    let versions: &[&rustls::SupportedProtocolVersion] = match suite {
        SupportedCipherSuite::Tls12(_) => &[&rustls::version::TLS12],
        SupportedCipherSuite::Tls13(_) => &[&rustls::version::TLS13],
    };
    let mut roots = RootCertStore::empty();
    roots.add(trusted).unwrap();
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    server.enable_secret_extraction = true;
    (Arc::new(client), Arc::new(server))
}

pub(crate) fn tls13_suites() -> [SupportedCipherSuite; 3] {
    use rustls::crypto::aws_lc_rs::cipher_suite as suite;
    [
        suite::TLS13_AES_128_GCM_SHA256,
        suite::TLS13_AES_256_GCM_SHA384,
        suite::TLS13_CHACHA20_POLY1305_SHA256,
    ]
}

pub(crate) fn tls12_suites() -> [SupportedCipherSuite; 3] {
    use rustls::crypto::aws_lc_rs::cipher_suite as suite;
    [
        suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ]
}

/// How one end of a test connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Library,
    InPlace,
    /// The library's ordinary connection with its own buffers: code that ours shares nothing
    /// with but the library's inside.
    Buffered,
}

pub(crate) const KINDS: [Kind; 3] = [Kind::Library, Kind::InPlace, Kind::Buffered];

/// One end of a connection, and the bytes it has received and not opened.
pub(crate) struct Peer {
    inner: Inner,
    received: Vec<u8>,
    /// Plaintext opened so far.
    pub(crate) plaintext: Vec<u8>,
    pub(crate) closed: bool,
}

enum Inner {
    Records(Records),
    Buffered(Box<rustls::Connection>),
}

impl Peer {
    fn from_session(session: Session) -> Self {
        Self {
            inner: Inner::Records(session.records),
            received: session.unread,
            plaintext: Vec::new(),
            closed: false,
        }
    }

    fn from_buffered(connection: rustls::Connection) -> Self {
        Self {
            inner: Inner::Buffered(Box::new(connection)),
            received: Vec::new(),
            plaintext: Vec::new(),
            closed: false,
        }
    }

    pub(crate) fn records(&mut self) -> &mut Records {
        match &mut self.inner {
            Inner::Records(records) => records,
            Inner::Buffered(_) => panic!("the peer is buffered"),
        }
    }

    pub(crate) fn into_records(self) -> Records {
        assert!(self.received.is_empty());
        match self.inner {
            Inner::Records(records) => records,
            Inner::Buffered(_) => panic!("the peer is buffered"),
        }
    }

    /// Appends `plaintext`, sealed into one record, to `wire`.
    pub(crate) fn send(&mut self, plaintext: &[u8], wire: &mut Vec<u8>) {
        match &mut self.inner {
            Inner::Records(records) => seal_one(records, plaintext, wire).unwrap(),
            Inner::Buffered(connection) => {
                connection.writer().write_all(plaintext).unwrap();
                while connection.wants_write() {
                    connection.write_tls(wire).unwrap();
                }
            }
        }
    }

    /// Takes bytes from the wire and opens what is whole.
    pub(crate) fn receive(&mut self, mut wire: &[u8]) -> Result<(), RecordError> {
        let records = match &mut self.inner {
            Inner::Records(records) => records,
            Inner::Buffered(connection) => {
                while !wire.is_empty() {
                    let before = wire.len();
                    connection.read_tls(&mut wire).unwrap();
                    let state = connection.process_new_packets()?;
                    self.closed |= state.peer_has_closed();
                    let mut chunk = vec![0; state.plaintext_bytes_to_read()];
                    connection.reader().read_exact(&mut chunk).unwrap();
                    self.plaintext.append(&mut chunk);
                    if before == wire.len() {
                        assert!(self.closed, "bytes are refused only after the end");
                        break;
                    }
                }
                return Ok(());
            }
        };
        self.received.extend_from_slice(wire);
        loop {
            let consumed = match records.open(&mut self.received)? {
                Opened::Incomplete => return Ok(()),
                Opened::Data {
                    plaintext,
                    consumed,
                } => {
                    assert!(plaintext.end <= consumed);
                    self.plaintext.extend_from_slice(&self.received[plaintext]);
                    consumed
                }
                Opened::Handled { consumed } => consumed,
                Opened::Closed { consumed } => {
                    self.closed = true;
                    if self.received.is_empty() {
                        return Ok(());
                    }
                    consumed
                }
            };
            self.received.drain(..consumed);
        }
    }

    /// Appends what the record layer itself wants to say to `wire`.
    pub(crate) fn take_outgoing(&mut self, wire: &mut Vec<u8>) {
        match &mut self.inner {
            Inner::Records(records) => records.take_outgoing(wire),
            Inner::Buffered(connection) => {
                while connection.wants_write() {
                    connection.write_tls(wire).unwrap();
                }
            }
        }
    }

    pub(crate) fn close_notify(&mut self, wire: &mut Vec<u8>) {
        match &mut self.inner {
            Inner::Records(records) => records.close_notify(wire),
            Inner::Buffered(connection) => connection.send_close_notify(),
        }
        self.take_outgoing(wire);
    }

    /// Starts a key update of its own, if this kind of peer can be told to.
    pub(crate) fn update_keys(&mut self, wire: &mut Vec<u8>) {
        match &mut self.inner {
            Inner::Records(Records::InPlace(records)) => {
                records.renew_after(0);
                records.take_outgoing(wire);
                records.renew_after(RENEW_AFTER);
            }
            Inner::Records(_) => {}
            Inner::Buffered(connection) => {
                connection.refresh_traffic_keys().unwrap();
                self.take_outgoing(wire);
            }
        }
    }

    /// The alert that an in-place peer wants to send.
    pub(crate) fn alert_taken(&mut self) -> Option<u8> {
        self.in_place().pending_alert()
    }

    pub(crate) fn in_place(&mut self) -> &mut InPlaceRecords {
        match &mut self.inner {
            Inner::Records(Records::InPlace(records)) => records,
            _ => panic!("the peer is not in place"),
        }
    }
}

/// Seals `plaintext` as one record behind `wire`.
pub(crate) fn seal_one(
    records: &mut Records,
    plaintext: &[u8],
    wire: &mut Vec<u8>,
) -> Result<(), RecordError> {
    assert!(plaintext.len() <= MAX_PLAINTEXT);
    records.take_outgoing(wire);
    let mut record = vec![0; records.room(plaintext.len())];
    record[records.plaintext_offset()..][..plaintext.len()].copy_from_slice(plaintext);
    let size = records.seal(&mut record, plaintext.len())?;
    wire.extend_from_slice(&record[..size]);
    Ok(())
}

/// Performs a handshake in memory and returns both ends, client first.
pub(crate) async fn pair(suite: SupportedCipherSuite, client: Kind, server: Kind) -> (Peer, Peer) {
    let (client_config, server_config) = configs(suite);
    pair_with(client_config, server_config, client, server).await
}

pub(crate) async fn pair_with(
    client_config: Arc<ClientConfig>,
    server_config: Arc<ServerConfig>,
    client: Kind,
    server: Kind,
) -> (Peer, Peer) {
    let (mut near, mut far) = tokio::io::duplex(64 * 1024);
    let client = async move {
        let name = server_name("localhost").unwrap();
        if client == Kind::Buffered {
            let connector = tokio_rustls::TlsConnector::from(client_config);
            let stream = connector.connect(name, near).await.unwrap();
            let (near, connection) = stream.into_inner();
            return (Peer::from_buffered(connection.into()), near);
        }
        let session = connect(&mut near, &client_config, name, choice(client)).await;
        (Peer::from_session(session.unwrap()), near)
    };
    let server = async move {
        if server == Kind::Buffered {
            let acceptor = tokio_rustls::TlsAcceptor::from(server_config);
            let stream = acceptor.accept(far).await.unwrap();
            let (far, connection) = stream.into_inner();
            return (Peer::from_buffered(connection.into()), far);
        }
        let session = accept(&mut far, &server_config, choice(server)).await;
        (Peer::from_session(session.unwrap()), far)
    };
    let ((mut client, near), (server, far)) = tokio::join!(client, server);
    // Tickets may still be on their way to the client.
    drop(far);
    let mut rest = Vec::new();
    let mut near = near;
    tokio::io::AsyncReadExt::read_to_end(&mut near, &mut rest)
        .await
        .unwrap();
    client.receive(&rest).unwrap();
    (client, server)
}

fn choice(kind: Kind) -> RecordsChoice {
    match kind {
        Kind::InPlace => RecordsChoice::InPlace,
        Kind::Library | Kind::Buffered => RecordsChoice::Library,
    }
}

/// Bytes that differ from one another and from call to call, from a seed that a test prints.
pub(crate) struct Bytes(u64);

impl Bytes {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn take(&mut self, size: usize) -> Vec<u8> {
        (0..size).map(|_| self.next() as u8).collect()
    }
}
