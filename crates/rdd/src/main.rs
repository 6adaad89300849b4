//! The `rdd` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    rdd::main()
}
