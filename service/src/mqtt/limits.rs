//! Bounds of the broker.

use std::time::Duration;

/// What one client, and all of them, may hold up.
///
/// A connection takes about 60 KiB with its TLS buffers, so the defaults allow some 600 MiB.
#[derive(Clone, Debug)]
pub struct BrokerLimits {
    /// Devices connected at one time; one more is told that the server is unavailable, unless it takes the place of
    /// its own connection.
    pub connections_max: usize,
    /// Connections that have not been let in yet. One more, and one of those that have not sent their CONNECT
    /// has to go; where all have, it waits.
    pub strangers_max: usize,
    /// For a client from the address with the most of them to send its CONNECT; only then may it have to go
    /// for another one of that address.
    pub patience: Duration,
    /// For the TLS handshake, and then again for CONNECT to arrive.
    pub handshake_timeout: Duration,
    /// For a client to take what is written to it; it never is more than one message and an answer.
    pub write_timeout: Duration,
    /// The longest a client may be silent, when it asks for no keep-alive or for a longer one. MQTT allows
    /// one and a half times as much in both.
    pub keep_alive_max: Duration,
    /// The longest that a session outlives its connection.
    pub session_expiry_max: Duration,
    /// How long a message waits for its device.
    pub retention: Duration,
    /// How long a session of a connected device lives without being renewed: what is left of a crash is
    /// gone after it.
    pub lease: Duration,
    /// For the mailbox to take a message, while a caller of the API waits.
    pub publish_timeout: Duration,
    /// How often what has run out is removed; nothing that has run out is given out meanwhile.
    pub sweep_interval: Duration,
}

impl Default for BrokerLimits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            strangers_max: 256,
            patience: Duration::from_secs(3),
            handshake_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            keep_alive_max: Duration::from_secs(1200),
            session_expiry_max: Duration::from_secs(3600),
            retention: Duration::from_secs(3600),
            lease: Duration::from_secs(7200),
            publish_timeout: Duration::from_secs(3),
            sweep_interval: Duration::from_secs(60),
        }
    }
}

/// Largest packet taken, in bytes after its fixed header. CONNECT with the SDKs' user names is below 1 KiB.
pub(super) const PACKET_SIZE_MAX: u32 = 16 * 1024;

/// Topic filters in one SUBSCRIBE; further ones are refused. Only one can be granted anyway.
pub(super) const FILTERS_MAX: usize = 8;
