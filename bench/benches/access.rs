//! `cargo bench -p adit-bench --bench access`: signatures, policies, tokens and the handshakes of a
//! link. See the module of the same name for what each holds fixed.

use adit_bench::records::Handshake;
use adit_bench::{Case, access, measure};
use adit_engine::tls::RecordsChoice;

fn main() {
    let mut criterion = measure::criterion();
    measure::time(&mut criterion, &access::cases());
    measure::time(&mut criterion, &[handshake()]);
    criterion.final_summary();
}

/// Client and server on one thread, over memory; a P-256 certificate, which the client does not
/// check against a root; no resumption.
fn handshake() -> Case {
    Case::new("handshake/tls_1.3/both_ends/P-256", 1, 0, || {
        let handshake = Handshake::new();
        move || drop(handshake.run(RecordsChoice::InPlace))
    })
}
