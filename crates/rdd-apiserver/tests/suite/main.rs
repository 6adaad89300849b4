//! The server from outside: whole requests through its router, on any store.

mod admission;
mod answers;
mod lab;
mod operations;
mod requests;
mod rights;
mod stores;
mod workers;
