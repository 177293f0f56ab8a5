//! What a message may cost, and the verdict on what it does cost.
//!
//! The gate itself is `benches/gate`: it measures, and asks here.

mod budgets;
mod toolchain;
mod verdict;

pub use budgets::{Budgets, Cost};
pub use toolchain::Toolchain;
pub use verdict::{TOLERANCE_PERCENT, Verdict, judge};
