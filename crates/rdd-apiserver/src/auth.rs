//! Who asks, and may they?

pub mod authenticate;
pub mod authorize;
pub mod certificate;
mod escalation;
mod impersonate;
pub mod rbac;
pub mod service_account;

pub use authenticate::{Authenticator, Identity};
pub use authorize::{Attributes, Authorizer, Decision, MastersOnly};
pub use certificate::ClientAuthority;
pub(crate) use escalation::check as check_escalation;
pub(crate) use impersonate::{Modes, Requested, impersonate};
pub use rbac::Rbac;
pub use service_account::Issuer;
