//! TLS settings: whom a client trusts, and who a server is.

mod authorities;
mod client;
mod error;
mod pem;
mod pins;
mod server;
mod suites;
#[cfg(test)]
mod tests;
mod verifier;

pub use client::{ClientTls, client_config, client_config_from};
pub use error::ConfigError;
pub(crate) use pins::NotPinned;
#[cfg(test)]
pub(crate) use pins::pin_of;
pub use pins::{PinError, Pins};
pub use server::{ServerTls, server_config, server_config_from, server_config_with};
