//! AWS Signature Version 4, in the `Authorization` header: making it and checking it (control-plane
//! specification, section 2).
//!
//! ```text
//! canonical request ─ SHA-256 ─► string to sign ─┐
//! secret, date, region, service ─► signing key ──┴─ HMAC ─► signature
//! ```
//!
//! Nothing here reads a clock or knows a key: both are given.

mod authorization;
mod canonical;
mod fuzzing;
mod key;
mod moment;
mod sign;
mod verify;

pub use authorization::{Authorization, MalformedAuthorization, Scope};
pub use canonical::Signable;
pub use fuzzing::fuzz_signature;
pub use key::Credentials;
pub use moment::Moment;
pub use sign::{SignedHeaders, sign};
pub use verify::{SKEW_MAX, SignatureError, VerifiedBy, verify};

/// The one algorithm.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Ends every scope.
const TERMINATOR: &str = "aws4_request";

#[cfg(test)]
mod tests;
