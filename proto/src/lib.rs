//! Wire codec of AWS IoT Secure Tunneling: bytes to typed values and back.
//!
//! It is *not* a client or a server: no socket, no clock, no randomness, no tunnel state. Everything a
//! decoder needs comes in as an argument, buffers belong to the caller, and nothing here allocates
//! once per message of application data. Bytes of a peer may make a decoder refuse, never panic.
//!
//! From the outside in: [`handshake`] opens the WebSocket (and the way through a web proxy),
//! [`websocket`] cuts frames, [`framing`] finds tunnel messages in the byte stream that the frames'
//! payloads form, [`message`] reads and writes the messages themselves. [`ids`] and [`secret`] hold
//! the small types they share, [`limits`] every bound, [`wire`] the plain protobuf type that tests
//! compare with. [`notification`] reads what a device is told of a tunnel, over MQTT.

#![forbid(unsafe_code)]

pub mod escape;
pub mod framing;
pub mod handshake;
pub mod ids;
pub mod limits;
pub mod message;
pub mod notification;
pub mod secret;
pub mod websocket;
pub mod wire;

pub use ids::{
    ConnectionId, Dialect, InvalidId, Mode, ServiceId, StreamId, Subprotocol, TunnelId, UnknownMode,
};
pub use secret::{AccessToken, ClientToken, InvalidToken, Secret};
