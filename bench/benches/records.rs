//! `cargo bench -p adit-bench --bench records`: see the module of the same name for what is held fixed.

use adit_bench::{measure, records};

fn main() {
    let mut criterion = measure::criterion();
    measure::time(&mut criterion, &records::gated());
    measure::time(&mut criterion, &records::rivals());
    criterion.final_summary();
}
