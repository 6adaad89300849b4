//! The controllers over a real API server in this process, with a machine and an
//! engine in memory.

mod app;
mod lab;
mod manager;
