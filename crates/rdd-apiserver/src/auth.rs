//! Who asks, and may they?

pub mod authenticate;
pub mod authorize;

pub use authenticate::{Authenticator, Identity};
pub use authorize::{Attributes, Authorizer, Decision, MastersOnly};
