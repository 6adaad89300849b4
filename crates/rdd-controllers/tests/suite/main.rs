//! The controllers over a real API server in this process, with a machine and an
//! engine in memory, and once with a real dockerd.

mod actions;
mod app;
mod attached;
mod burst;
mod complete;
mod conditions;
mod disk_trouble;
#[path = "../../../rdd-engine/tests/suite/dockerd.rs"]
mod dockerd;
mod faults;
mod fresh;
mod killed;
mod lab;
mod manager;
mod mirror;
mod model;
mod native;
mod odd;
mod older;
mod panics;
mod programs;
mod pulls;
mod requests;
mod resync;
mod rules;
mod samples;
mod story;
mod tls;
mod verbs;
mod whole;
