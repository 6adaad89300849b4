//! What operators look at: figures, records and ways in, on a whole server.

mod audit;
mod bed;
mod bodies;
mod certificates;
mod metrics;
mod websocket;
