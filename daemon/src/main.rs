//! The `ferrolb` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    ferrolb::cli::main()
}
