//! One trait for judging a write, usable in process or behind a webhook.
//!
//! A rule ([`Admit`]) sees an [`AdmissionRequest`] and answers allowed, denied, or
//! allowed with the object changed. The API server runs an [`AdmissionChain`] of
//! rules in process; a program that serves the same rule as a webhook turns an
//! `AdmissionReview` into the same request. What the client sees is the same
//! either way: a [`Denial`] speaks in the words of the webhook that the rule
//! stands for.
//!
//! ```text
//! mutating phase: every mutating rule in order, each seeing the object of the one before;
//!                 a second round for the rules before the last one that changed it
//! validating phase: every validating rule; the first denial in order wins
//! ```
//!
//! A rule that is in a chain may be listed as a webhook all the same, so that clients
//! see it; the server then does not ask it a second time.
//!
//! Invariant: a rule has no other input than the request and its own configuration;
//! it never learns whether it runs in process or behind HTTP.

mod admit;
mod chain;
pub mod webhook;

pub use admit::{
    AdmissionRequest, Admit, Admitted, Denial, Frame, GroupVersionKind, GroupVersionResource,
    Listing, Matches, Operation, Phase, UserInfo,
};
pub use chain::AdmissionChain;
