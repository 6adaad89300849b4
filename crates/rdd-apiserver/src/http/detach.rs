//! Gives every request a task of its own.
//!
//! A caller that goes away or times out drops its future; what it started still
//! runs to its end, so a write is never left half-way. A panic stays inside the
//! task and becomes that request's 500. This is the only place that spawns
//! without an owner: each task is bounded by the request's deadline.

use http::Response;
use tracing::Instrument;

use crate::{
    encoding::negotiate::Format,
    http::{body::Body, response},
    status::ApiError,
};

/// Runs a handler in its own task and waits for its answer.
pub async fn detach(
    handler: impl Future<Output = Response<Body>> + Send + 'static,
) -> Response<Body> {
    match tokio::spawn(handler.in_current_span()).await {
        Ok(answer) => answer,
        Err(error) => {
            // The panic hook has logged the message and the place.
            tracing::error!(%error, "request handler ended without an answer");
            response::error(
                &ApiError::internal("the request handler failed"),
                Format::Json,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body;

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let answer = detach(async { panic!("on purpose") }).await;
        assert_eq!(answer.status(), 500);
    }

    #[tokio::test]
    async fn a_handler_ends_what_its_caller_dropped() {
        let (done, finished) = tokio::sync::oneshot::channel();
        let (go, gate) = tokio::sync::oneshot::channel::<()>();
        let mut call = Box::pin(detach(async move {
            let _ = gate.await;
            let _ = done.send(());
            Response::new(body::empty())
        }));
        // One poll starts the task; then the caller goes away.
        assert!(futures::poll!(&mut call).is_pending());
        drop(call);
        go.send(()).expect("the handler still waits");
        finished.await.expect("the handler ran to its end");
    }
}
