//! What the driver does after handing in received bytes.

/// The outcome of `handle_input`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// All bytes are used up; the buffer may be reused once what was decided is carried out.
    Done,
    /// Carry out what was decided now, then call again with the same buffer.
    Deliver,
    /// A bound is reached: call again with the same buffer when the core no longer is paused.
    Paused,
    /// The peer ended the WebSocket with this close code; nothing that follows counts.
    Closed(Option<u16>),
}
