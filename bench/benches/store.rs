//! `cargo bench -p adit-bench --bench store`: operations of the memory and the SQLite store, and, with
//! `ADIT_BENCH_POSTGRES=postgres://…`, of the PostgreSQL store in that database. See the module of
//! the same name for what each holds fixed.

use adit_bench::{measure, store};
use adit_service::store::PostgresUrl;
use tokio::runtime::Runtime;

/// The database, whose tables of adit are filled and changed.
const POSTGRES: &str = "ADIT_BENCH_POSTGRES";

fn main() {
    let mut criterion = measure::criterion();
    measure::time(&mut criterion, &store::memory());
    // SQLite's readers are threads of the runtime around them, PostgreSQL's connections its tasks.
    let runtime = Runtime::new().expect("a runtime");
    let _guard = runtime.enter();
    // Below `target`: a temporary directory may be in memory, where a commit costs nothing.
    let parent = env!("CARGO_TARGET_TMPDIR").into();
    measure::time(&mut criterion, &store::sqlite(parent));
    match std::env::var(POSTGRES) {
        Ok(url) => {
            let url =
                PostgresUrl::parse(&url).unwrap_or_else(|error| panic!("{POSTGRES}: {error}"));
            measure::time(&mut criterion, &store::postgres(url));
        }
        Err(_) => eprintln!("without PostgreSQL: {POSTGRES} names no database"),
    }
    criterion.final_summary();
}
