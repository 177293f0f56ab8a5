//! `cargo bench -p adit-bench --bench store`: operations of the memory and the SQLite store. See
//! the module of the same name for what each holds fixed.

use adit_bench::{measure, store};
use tokio::runtime::Runtime;

fn main() {
    let mut criterion = measure::criterion();
    measure::time(&mut criterion, &store::memory());
    // SQLite's readers are threads of the runtime around them.
    let runtime = Runtime::new().expect("a runtime");
    let _guard = runtime.enter();
    // Below `target`: a temporary directory may be in memory, where a commit costs nothing.
    let parent = env!("CARGO_TARGET_TMPDIR").into();
    measure::time(&mut criterion, &store::sqlite(parent));
    criterion.final_summary();
}
