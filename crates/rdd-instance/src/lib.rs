//! One side-by-side copy of rdd on a machine: its name, directories, ports, files and process.
//!
//! An [`Instance`] is a value from which every path, port and name derives; it
//! is handed down instead of being looked up. [`Environment`] is read once, here.
//!
//! Invariant: only this crate reads the environment or looks for the home
//! directory, and computing a path never creates anything.

mod arguments;
pub mod certificate;
mod environment;
mod error;
mod instance;
mod lock;
mod logfile;
pub mod process;

pub use arguments::{Arguments, create_dir, developer_mode_text, parse_bool};
pub use environment::{Environment, VARIABLES, Variable};
pub use error::{Error, Result};
pub use instance::{Instance, PathKey};
pub use lock::{Daemon, Lock};
pub use logfile::{open_log, preserve, rotate};
