//! The `rdd` program: parses, asks the control plane, prints, and exits; and the small
//! programs beside it, one per group of controllers.
//!
//! ```text
//! argv → args (raw words) → settings (instance, log level) → commands → output, exit code
//! ```
//!
//! Only `svc serve` runs a control plane; every other command is a client of one. A
//! program of a group ([`program`]) runs that group's controllers, and is a client, too.
//!
//! Invariant: only this crate reads `argv`, prints, and decides exit codes.

mod args;
mod commands;
mod connect;
mod duration;
mod exit;
mod logging;
mod output;
mod program;
mod properties;
mod reference;
mod settings;
mod settle;

use std::ffi::OsString;
use std::process::ExitCode;

use rdd_instance::Environment;

/// The whole of `rdd`.
#[must_use]
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let outcome = args::parse(words, &Environment::read()).and_then(commands::run);
    exit::report(outcome)
}

/// The whole of a group's program: 0 when it ended in order or had nothing to do, 1 when
/// it failed, 2 for words that it does not know.
#[must_use]
pub fn program(group: &'static str) -> ExitCode {
    program::main(group, std::env::args_os().collect(), &Environment::read())
}

/// The page about the command line, as Markdown.
#[must_use]
pub fn reference() -> String {
    reference::reference()
}
