//! Why frames cannot be read.

use super::CloseCode;

/// What a peer did wrong. The connection is over: nothing after the bad frame can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Reserved bits are for extensions, and we agree to none.
    #[error("frame has reserved bits set, but no extension was agreed on")]
    ReservedBits,
    /// An opcode that RFC 6455 does not define.
    #[error("frame has the undefined opcode {0}")]
    ReservedOpcode(u8),
    /// A length in more bytes than needed.
    #[error("frame length {0} is written in more bytes than needed")]
    LengthNotMinimal(u64),
    /// A 64-bit length with the top bit set.
    #[error("frame length has its top bit set")]
    LengthTopBit,
    /// A frame over the limit.
    #[error("frame of {size} bytes exceeds the limit of {max}")]
    TooBig {
        /// What its header claims, in bytes.
        size: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// A text frame: a tunnel is binary.
    #[error("text frame; a tunnel carries binary frames only")]
    Text,
    /// A control frame with more than 125 bytes.
    #[error("control frame with a payload of more than 125 bytes")]
    ControlTooBig,
    /// A control frame in several parts.
    #[error("fragmented control frame")]
    ControlFragmented,
    /// A client's frame without a mask.
    #[error("frame from a client is not masked")]
    Unmasked,
    /// A service's frame with a mask.
    #[error("frame from a service is masked")]
    Masked,
    /// A continuation of nothing.
    #[error("continuation frame without a message to continue")]
    UnexpectedContinuation,
    /// A new message inside a fragmented one.
    #[error("new data frame inside a fragmented message")]
    ExpectedContinuation,
    /// A close frame with one byte, which is half a code.
    #[error("close frame with half a code")]
    CloseTruncated,
    /// A close code that must not be sent.
    #[error("close code {0} must not be sent")]
    CloseCode(u16),
    /// A close reason that is not UTF-8.
    #[error("close reason is not UTF-8")]
    CloseReason,
}

impl FrameError {
    /// What to tell the peer in our close frame (RFC 6455 §7.4.1).
    pub const fn close_code(&self) -> CloseCode {
        match self {
            Self::Text => CloseCode::Unsupported,
            Self::TooBig { .. } => CloseCode::TooBig,
            Self::CloseReason => CloseCode::InvalidData,
            Self::ReservedBits
            | Self::ReservedOpcode(_)
            | Self::LengthNotMinimal(_)
            | Self::LengthTopBit
            | Self::ControlTooBig
            | Self::ControlFragmented
            | Self::Unmasked
            | Self::Masked
            | Self::UnexpectedContinuation
            | Self::ExpectedContinuation
            | Self::CloseTruncated
            | Self::CloseCode(_) => CloseCode::Protocol,
        }
    }
}
