//! The controllers of group `containers` in a program of their own.

use std::process::ExitCode;

fn main() -> ExitCode {
    rdd::program("containers")
}
