//! `logs`: what a container has said.

use std::io::{ErrorKind, Write as _, stdout};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use futures::StreamExt as _;
use http_body_util::BodyExt as _;

use super::container::identifier;
use super::limit;
use crate::args::Logs;
use crate::connection::Connection;
use crate::error::{Error, Result};

pub(crate) async fn run(connection: &Connection, logs: &Logs) -> Result<()> {
    let id = identifier(connection, &logs.container).await?;
    let mut path = format!(
        "/passthrough/engine/logs/{id}?follow={}&timestamps={}",
        logs.follow, logs.timestamps
    );
    if logs.tail >= 0 {
        path.push_str(&format!("&tail={}", logs.tail));
    }
    if let Some(since) = since(logs)? {
        path.push_str(&format!("&since={since}"));
    }
    let response = connection.stream(&path).await?;
    let mut chunks = response.into_body().into_data_stream();
    loop {
        let chunk = tokio::select! {
            chunk = chunks.next() => chunk,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let Some(chunk) = chunk else {
            return Ok(());
        };
        let chunk = chunk.context("the log was interrupted")?;
        let mut out = stdout().lock();
        match out.write_all(&chunk).and_then(|()| out.flush()) {
            // Whoever read it has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            other => other.context("failed to print")?,
        }
    }
}

/// From when on, in seconds since 1970.
fn since(logs: &Logs) -> Result<Option<u64>> {
    if let Some(time) = &logs.since_time {
        let time: jiff::Timestamp = time.parse().map_err(|_| {
            Error::new(format_args!(
                "invalid time {time:?}; give it as 2026-01-31T12:00:00Z"
            ))
        })?;
        return Ok(u64::try_from(time.as_second()).ok());
    }
    let Some(since) = &logs.since else {
        return Ok(None);
    };
    let ago: Option<Duration> = limit(since)?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock stands before 1970")?;
    Ok(ago.map(|ago| now.saturating_sub(ago).as_secs()))
}
