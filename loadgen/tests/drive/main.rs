//! The generator against its own far end, honestly and through forwarders that lie.

mod descriptors;
mod forwarder;
mod lies;
mod profiles;
mod ramp;
mod stalled;
mod support;
mod terminal;
mod unreachable;
