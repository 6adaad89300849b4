//! Whether the API is reached: told once when it is lost, and once when it is back.
//!
//! Everything that a manager runs asks again and again while the API is away. One place
//! sees all of these requests, so that each of them can be quiet.

use std::sync::Arc;
use std::time::Instant;

use http::Request;
use kube::client::Body;
use parking_lot::Mutex;

use crate::error::chain;

/// The same client; whether it reaches the API is told in the log.
#[must_use]
pub fn tell_reach(inner: kube::Client) -> kube::Client {
    let namespace = inner.default_namespace().to_owned();
    let lost = Lost::default();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (lost, inner) = (lost.clone(), inner.clone());
        async move {
            let answer = inner.send(request).await;
            match &answer {
                Ok(_) => lost.is_back(),
                // A connection that breaks is no news yet: the next one may be made.
                Err(error) if is_unreachable(error) => lost.is_lost(error),
                Err(_) => {}
            }
            answer.map_err(tower::BoxError::from)
        }
    });
    kube::Client::new(service, namespace)
}

/// Whether no connection could be made.
fn is_unreachable(error: &kube::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
            return error.is_connect();
        }
        cause = error.source();
    }
    false
}

/// Since when the API has not been reached.
#[derive(Clone, Default)]
struct Lost(Arc<Mutex<Option<Instant>>>);

impl Lost {
    fn is_lost(&self, error: &kube::Error) {
        let mut since = self.0.lock();
        if since.is_none() {
            *since = Some(Instant::now());
            let error = chain(error);
            tracing::warn!(
                error,
                "the API is not reached; it is asked again until it is"
            );
        }
    }

    fn is_back(&self) {
        if let Some(since) = self.0.lock().take() {
            let seconds = since.elapsed().as_secs();
            tracing::info!(seconds, "the API is reached again");
        }
    }
}
