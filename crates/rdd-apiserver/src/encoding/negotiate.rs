//! What representation the client takes.
