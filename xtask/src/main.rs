//! The project's own commands: `cargo xtask test`, `cargo xtask demo`, `cargo xtask bench`,
//! `cargo xtask soak`.
//!
//! Each one does all of its own set-up, says what it installs, and stops at the
//! first step that fails with the command that failed.

#![expect(clippy::print_stdout, reason = "a build tool talks to its terminal")]

mod command;
mod demo;
mod reference;
mod setup;
mod soak;
mod suite;
mod tidy;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, test and show rdd")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Set up this machine and run every check and test, as CI does
    Test {
        /// The inner loop: format, tidy and unit tests only
        #[arg(long)]
        fast: bool,
        /// Refuse instead of installing missing packages
        #[arg(long)]
        no_install: bool,
    },
    /// Start a control plane with an engine of its own and show a few containers in it
    Demo {
        /// Remove everything that the demo made
        #[arg(long)]
        clean: bool,
        /// Refuse instead of installing missing packages
        #[arg(long)]
        no_install: bool,
    },
    /// Measure; every figure is printed beside a floor or a peer of the same run
    Bench {
        /// Only benches whose name contains one of these words
        filter: Vec<String>,
        /// Refuse instead of installing missing packages
        #[arg(long)]
        no_install: bool,
    },
    /// Start and stop one instance many times, with faults, and look for what is left over
    Soak {
        /// How many times
        #[arg(long, default_value_t = 200)]
        cycles: usize,
        /// Refuse instead of installing missing packages
        #[arg(long)]
        no_install: bool,
    },
    /// Write the pages of docs/reference anew from what they describe
    Reference,
    /// Check the rules of the house that the compiler does not know
    Tidy,
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Test { fast, no_install } => suite::run_all(fast, !no_install),
        Task::Demo { clean: true, .. } => demo::clean(),
        Task::Demo { no_install, .. } => demo::run_demo(!no_install),
        Task::Bench { filter, no_install } => suite::bench(&filter, !no_install),
        Task::Soak { cycles, no_install } => soak::run_soak(cycles, !no_install),
        Task::Reference => reference::write(),
        Task::Tidy => tidy::check(),
    }
}
