//! A client of AWS's two APIs for tunnels and things, of `adit serve` and of AWS alike: who calls, where,
//! and how an answer is read.
//!
//! ```text
//! options, environment, AWS's files ─► settings ─► client ─► answer, or fault with a hint
//! ```
//!
//! It is *not* where commands decide anything; see [`fleet`](crate::fleet). Signatures are made by
//! `adit_service::access::sigv4`, which also checks them.

mod answer;
mod client;
mod credentials;
mod endpoint;
mod fault;
mod profile;
mod settings;
mod sources;
mod transport;

pub use client::Client;
pub(crate) use client::{Call, encode};
pub use endpoint::{Api, Endpoint};
pub use fault::{CallFault, Failure, Refusal};
pub use profile::fuzz_profiles;
pub use settings::ApiSettings;
