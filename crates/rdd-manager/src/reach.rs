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
            let asked = Instant::now();
            let answer = inner.send(request).await;
            match &answer {
                Ok(_) => {
                    if let Some(since) = lost.is_back(asked, Instant::now()) {
                        let seconds = since.elapsed().as_secs();
                        tracing::info!(seconds, "the API is reached again");
                    }
                }
                // A connection that breaks is no news yet: the next one may be made.
                Err(error) if is_unreachable(error) => {
                    if lost.is_lost(asked, Instant::now()) {
                        let error = chain(error);
                        tracing::warn!(
                            error,
                            "the API is not reached; it is asked again until it is"
                        );
                    }
                }
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

/// What the requests say together. Several are under way at a time, and one that was
/// asked before the news of another knows nothing newer.
#[derive(Clone, Default)]
struct Lost(Arc<Mutex<News>>);

#[derive(Default)]
struct News {
    /// Since when the API has not been reached, while it is not.
    lost: Option<Instant>,
    /// When it was last heard to be lost or back.
    heard: Option<Instant>,
}

impl Lost {
    /// A request of this time could not be sent; whether that is news.
    fn is_lost(&self, asked: Instant, now: Instant) -> bool {
        let mut news = self.0.lock();
        if news.lost.is_some() || news.heard.is_some_and(|heard| asked < heard) {
            return false;
        }
        *news = News {
            lost: Some(now),
            heard: Some(now),
        };
        true
    }

    /// A request of this time was answered: since when the API had been lost, if that
    /// is over.
    fn is_back(&self, asked: Instant, now: Instant) -> Option<Instant> {
        let mut news = self.0.lock();
        let since = news.lost.filter(|since| asked >= *since)?;
        *news = News {
            lost: None,
            heard: Some(now),
        };
        Some(since)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_asked_before_the_news_tells_none() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let lost = Lost::default();
        assert!(lost.is_lost(at(1), at(2)));
        assert!(!lost.is_lost(at(1), at(3)), "it is known");
        assert_eq!(lost.is_back(at(1), at(4)), None, "that was before");
        assert_eq!(lost.is_back(at(5), at(6)), Some(at(2)));
        assert!(!lost.is_lost(at(5), at(7)), "that was before");
        assert_eq!(lost.is_back(at(7), at(8)), None, "it is known");
        assert!(lost.is_lost(at(8), at(9)));
        assert_eq!(lost.is_back(at(9), at(10)), Some(at(9)));
    }
}
