//! Runs one target of the table for AFL++; the argument names it. Without the fuzzer around it, it takes one input from
//! standard input.

fn main() {
    let name = std::env::args().nth(1).expect("the name of a target");
    let run = adit_fuzz::target(&name);
    afl::fuzz(true, |bytes| run(bytes));
}
