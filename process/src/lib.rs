//! What a process shows and leaves of its secrets: its command line, its environment, its core files.
//!
//! It is for programs that are given tokens, `adit` and `adit-loadgen`. It is *not* where secrets are kept
//! while they are of use; see `adit_proto::secret`.

#![forbid(unsafe_code)]

pub mod core_files;
mod remnants;

pub use remnants::Remnants;
