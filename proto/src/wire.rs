//! The protobuf message as `prost` generates it from `message.proto`.
//!
//! It owns its strings and payload, so it is for tests, tools and rare messages. Application data goes
//! through [`crate::message::MessageView`] and [`crate::message::DataHeader`] instead, which must
//! accept and mean exactly the same.

include!(concat!(
    env!("OUT_DIR"),
    "/com.amazonaws.iot.securedtunneling.rs"
));

pub use message::Type;
