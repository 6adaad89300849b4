//! The controllers of group `app` in a program of their own.

use std::process::ExitCode;

fn main() -> ExitCode {
    rdd::program("app")
}
