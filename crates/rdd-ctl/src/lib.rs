//! kubectl's everyday verbs, natively, over any Kubernetes API server.
//!
//! Flags, output and exit codes are kubectl's; what is not here is passed to a
//! `kubectl` on the path. Types are found by plural, singular, kind, short name and
//! category from one discovery request; tables are the server's own.
//!
//! Invariant: does not care whose server it speaks to, and knows none of our kinds but by name.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the output layer of a command line tool"
)]

mod args;
mod complete;
mod connection;
mod error;
mod manifest;
mod output;
mod resources;
mod table;
mod verbs;
pub mod yaml;

use std::ffi::OsString;
use std::path::PathBuf;

pub use complete::complete;

/// Where the verbs go, and what they are called.
#[derive(Clone, Debug)]
pub struct Target {
    /// The name in help and errors: `rdd ctl`.
    pub program: String,
    /// The kubeconfig; none is an error for verbs that need a server.
    pub kubeconfig: Option<PathBuf>,
    /// The user's editor.
    pub editor: Option<String>,
    /// A kubectl for verbs that are not here.
    pub kubectl: Option<PathBuf>,
}

/// Runs one command line and returns its exit code; prints what there is to say.
pub async fn run(words: Vec<OsString>, target: Target) -> u8 {
    match verbs::run(words, &target).await {
        Ok(code) => code,
        Err(error) => {
            error.print();
            error.code()
        }
    }
}
