//! A notifier that speaks MQTT 3.1.1 and 5, and nothing else a broker could do: devices subscribe to
//! their own notify topic, the service publishes there, nobody else publishes anything.
//!
//! ```text
//! TLS, client certificate ─► Broker ─► connection ─► codec
//!                              │           └──► Mailbox: session, queue
//!                              ├──► Registry: whose certificate is it, what may it do
//!                              └──► live: one connection a device
//! ```
//!
//! A device is who its certificate says: the registry knows the SHA-256 of each, and the client id has to
//! be the name of a thing that the certificate is attached to (control-plane specification, section 14).

mod broker;
mod codec;
mod connection;
pub mod fault;
mod limits;
mod live;
mod rules;

pub use broker::Broker;
pub use codec::fuzz_packets;
pub use limits::BrokerLimits;

#[cfg(test)]
mod tests;
