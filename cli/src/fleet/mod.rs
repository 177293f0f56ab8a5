//! The commands that manage tunnels and things through the API: `tunnel`, `thing`, `ssh`, `connect`.
//!
//! ```text
//! settings ─► tunnel   open, list, describe, close, rotate, tag ─► table or JSON
//!         ├─► thing    create (bundle), list, describe, delete ─► registry
//!         ├─► ssh ─────┐
//!         └─► connect ─┴► session: a tunnel that is open and fits, or a new one
//!                         custody: closes what was opened;  arrival: waits for the device, tells it again
//! ```

mod arrival;
mod bundle;
mod calls;
mod connect;
mod custody;
mod files;
mod registry;
mod request;
mod session;
pub mod settings;
mod ssh;
mod table;
mod thing;
mod trouble;
mod tunnel;

pub(crate) use bundle::AGENT;
pub(crate) use connect::connect;
pub(crate) use settings::CreateSettings;
pub(crate) use ssh::ssh;
pub(crate) use table::Paper;
pub(crate) use thing::{create, thing};
pub use trouble::Trouble;
pub(crate) use tunnel::tunnel;
