//! The controllers of group `rdd` in a program of their own.

use std::process::ExitCode;

fn main() -> ExitCode {
    rdd::program("rdd")
}
