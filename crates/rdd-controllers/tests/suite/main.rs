//! The controllers over a real API server in this process, with a machine and an
//! engine in memory, and once with a real dockerd.

mod app;
mod lab;
mod manager;
mod native;
