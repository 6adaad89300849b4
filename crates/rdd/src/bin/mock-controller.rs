//! The controllers of group `mock` in a program of their own.

use std::process::ExitCode;

fn main() -> ExitCode {
    rdd::program("mock")
}
