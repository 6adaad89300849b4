//! The group `containers`: mirrors of what the engine has.

pub mod container;
pub mod engine;
pub mod kinds;
