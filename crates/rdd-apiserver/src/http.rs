//! From bytes on a connection to a handler, and back.

pub mod body;
pub mod detach;
pub mod passthrough;
pub(crate) mod record;
pub mod request_info;
pub mod response;
pub mod router;
pub mod serve;
pub(crate) mod websocket;
