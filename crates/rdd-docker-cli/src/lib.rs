//! The Docker client's own configuration: which context is selected, which exist, the
//! one that an instance of rdd keeps there while its engine is mirrored, who the user is
//! to registries, and what proves engines on other machines.
//!
//! The files belong to the user. [`Files`] reads them and changes nothing but what is
//! ours, in one step that a crash cannot split; [`Publisher`] decides when.
//!
//! The selection is taken over only from a context that is provably absent or dead;
//! what cannot be decided counts as healthy.
//!
//! Invariant: a context is never selected while it does not exist.

mod certificates;
mod credentials;
mod error;
mod files;
mod health;
mod publisher;
mod selection;

pub use credentials::{CredentialStore, FindProgram};
pub use error::{Error, Result};
pub use files::{Context, Files};
pub use health::DEFAULT_ENDPOINT;
pub use publisher::{Options, Publisher};
