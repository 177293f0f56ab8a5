//! Tunnel messages: a borrowed reader and writers that allocate nothing of their own.
//!
//! The wire form is the proto3 message of [`crate::wire`]. [`MessageView`] accepts exactly what
//! `prost` accepts and reads the same values; what [`DataHeader`] and [`Control`] write, `prost` reads
//! back. Both are held by property tests.

mod control;
mod credit;
mod cursor;
mod data_header;
mod fuzzing;
mod kind;
#[cfg(test)]
mod properties;
mod rename;
mod view;
#[cfg(test)]
mod worked_examples;
mod writer;

pub use control::{Control, encode_service_ids};
pub use credit::Credit;
pub use cursor::DecodeError;
pub use data_header::DataHeader;
pub use fuzzing::fuzz_rewrite;
pub use kind::Kind;
pub use rename::replace_stream_id;
pub use view::{AvailableServiceIds, InvalidServiceIds, MessageView, fuzz_parse};

/// Field keys: number of the field, shifted by three, plus its wire type (wire specification, section 4).
mod key {
    pub(super) const TYPE: u32 = 0x08;
    pub(super) const STREAM_ID: u32 = 0x10;
    pub(super) const IGNORABLE: u32 = 0x18;
    pub(super) const PAYLOAD: u32 = 0x22;
    pub(super) const SERVICE_ID: u32 = 0x2a;
    pub(super) const AVAILABLE_SERVICE_IDS: u32 = 0x32;
    pub(super) const CONNECTION_ID: u32 = 0x38;
    /// Fields 1 to this one are known.
    pub(super) const LAST_FIELD: u32 = 7;
}
