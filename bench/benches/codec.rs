//! `cargo bench -p adit-bench --bench codec`: see the module of the same name for what is held fixed.

use adit_bench::{codec, measure};

fn main() {
    let mut criterion = measure::criterion();
    measure::time(&mut criterion, &codec::cases());
    measure::time(&mut criterion, &codec::rivals());
    criterion.final_summary();
}
