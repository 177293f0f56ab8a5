//! WebSocket frames (RFC 6455), as far as a tunnel needs them: binary data, ping, pong, close.
//!
//! No compression, no text, no whole-message buffering: the tunnel reads a byte stream, so payload
//! bytes are handed out as they come.

mod close;
mod error;
mod header;
mod mask;
#[cfg(test)]
mod properties;
mod reader;
mod transcript;

pub use close::{CloseCode, ControlPayload, write_close, write_control};
pub use error::FrameError;
pub use header::{FrameHeader, Opcode};
pub use mask::{mask, move_masked};
pub use reader::{FrameEvent, FrameReader, Role};
pub use transcript::fuzz_frames;
