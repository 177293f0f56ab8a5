//! The command `adit`; everything is in the library.

fn main() -> std::process::ExitCode {
    adit_cli::main()
}
