//! The library's key schedule, which derives the keys that follow a key update.

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{ConnectionTrafficSecrets, Error};

/// Either end's key schedule.
pub(in super::super) enum Keys {
    Client(Box<KernelConnection<ClientConnectionData>>),
    Server(Box<KernelConnection<ServerConnectionData>>),
    /// No schedule, since there was no handshake: what [`fuzz_records`](super::fuzz_records) has.
    Fixed {
        is_client: bool,
    },
}

impl Keys {
    pub(super) fn is_client(&self) -> bool {
        match self {
            Self::Client(_) => true,
            Self::Server(_) => false,
            Self::Fixed { is_client } => *is_client,
        }
    }

    /// The keys that we seal with after our next key update.
    pub(super) fn next_sealing(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Self::Client(connection) => connection.update_tx_secret(),
            Self::Server(connection) => connection.update_tx_secret(),
            Self::Fixed { .. } => Err(no_schedule()),
        }
    }

    /// The keys that we open with after the peer's next key update.
    pub(super) fn next_opening(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Self::Client(connection) => connection.update_rx_secret(),
            Self::Server(connection) => connection.update_rx_secret(),
            Self::Fixed { .. } => Err(no_schedule()),
        }
    }
}

fn no_schedule() -> Error {
    Error::General("these keys have no successors".into())
}
