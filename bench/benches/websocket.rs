//! `cargo bench -p adit-bench --bench websocket`: see the module of the same name for what is held fixed.

use adit_bench::{measure, websocket};

fn main() {
    let mut criterion = measure::criterion();
    measure::time(&mut criterion, &websocket::cases());
    measure::time(&mut criterion, &websocket::rivals());
    criterion.final_summary();
}
