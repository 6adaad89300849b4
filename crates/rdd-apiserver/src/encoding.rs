//! Bodies and answers: JSON, YAML, and what the client asked for.

pub mod json;
pub mod negotiate;
pub mod protobuf;
pub mod table;
pub mod yaml;
