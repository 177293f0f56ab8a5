//! The `adit` binary under a name of its own, so that cargo builds it for these tests.

fn main() -> std::process::ExitCode {
    adit_cli::main()
}
