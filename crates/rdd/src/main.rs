//! The `rdd` program: parses, asks the control plane, prints, and exits.
//!
//! ```text
//! argv → args (raw words) → settings (instance, log level) → commands → output, exit code
//! ```
//!
//! Only `svc serve` runs a control plane; every other command is a client of one.

mod args;
mod commands;
mod connect;
mod duration;
mod exit;
mod logging;
mod output;
mod properties;
mod settings;
mod settle;

use std::ffi::OsString;
use std::process::ExitCode;

use rdd_instance::Environment;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let outcome = args::parse(words, &Environment::read()).and_then(commands::run);
    exit::report(outcome)
}
