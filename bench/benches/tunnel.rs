//! `cargo bench -p adit-bench --bench tunnel`: the scheduler and the three state machines, without
//! sockets. See the modules for what each holds fixed.

use adit_bench::{measure, proxy, relay, schedule};

fn main() {
    let mut criterion = measure::criterion();
    measure::time(&mut criterion, &schedule::cases());
    measure::time(&mut criterion, &proxy::cases());
    measure::time(&mut criterion, &relay::cases());
    criterion.final_summary();
}
