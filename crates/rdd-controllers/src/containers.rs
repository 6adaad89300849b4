//! The group `containers`: mirrors of what the engine has.

pub(crate) mod container;
pub(crate) mod engine;
pub(crate) mod kinds;
pub(crate) mod namespace;
mod queue;
pub(crate) mod streams;
