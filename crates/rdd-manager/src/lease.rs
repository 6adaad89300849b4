//! Who runs a controller: one Lease each, taken by compare-and-swap.
//!
//! Guarantees
//! 1. A controller starts only after its lease was read and taken; who cannot read
//!    it does not start.
//! 2. Writes through a [`Fence`]'s client are refused as soon as the last renewal is
//!    older than the lease lasts, by this process's own monotonic clock, whatever
//!    the process was doing in between.
//! 3. A foreign lease counts as expired only after it was watched, unchanged, for
//!    as long as it says that it lasts: clocks of different machines are never compared.
//!
//! Caveat: a write that left this process before the fence closed may still land.
//!
//! A control plane's own managers hold their leases for long, so that an idle system
//! writes nothing: their holders die with the control plane, whose next start
//! supersedes them by the prefix of their identity.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Request;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, PostParams};
use kube::client::Body;
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::error::{Error, Result};

/// How often a foreign lease is looked at while waiting for it.
const LOOK: Duration = Duration::from_millis(200);

/// How a manager holds its leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Who holds them: unique among all managers that ever ran.
    pub holder: String,
    /// How long one renewal lasts.
    pub duration: Duration,
    /// Holders whose identity starts so are known to be dead.
    pub supersedes: Option<String>,
    /// How long the start waits for another holder to go.
    pub patience: Duration,
}

impl Terms {
    /// For a manager inside the control plane: the lock of the instance proves that
    /// all earlier ones are dead, and that no other can come up.
    #[must_use]
    pub fn embedded(start_id: &str) -> Self {
        Self {
            holder: format!("embedded/{start_id}"),
            duration: Duration::from_secs(3600),
            supersedes: Some("embedded/".to_owned()),
            patience: Duration::from_secs(30),
        }
    }

    /// For a manager in a process of its own.
    #[must_use]
    pub fn external(group: &str, identity: &str) -> Self {
        Self {
            holder: format!("{group}/{identity}"),
            duration: Duration::from_secs(15),
            supersedes: None,
            // Longer than the lease of one that was killed, and shorter than the control
            // plane's own patience: of two that wait for each other, the control plane wins.
            patience: Duration::from_secs(20),
        }
    }

    /// Who the holder is.
    #[must_use]
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// How often a lease is renewed: two renewals may fail before it lapses.
    pub(crate) fn renew_every(&self) -> Duration {
        self.duration / 3
    }
}

/// Until when this process may write for a controller.
#[derive(Clone, Debug)]
pub(crate) struct Fence {
    until: Arc<Mutex<Option<Instant>>>,
}

/// A write was refused because the controller's lease is not held any more.
#[derive(Debug, thiserror::Error)]
#[error("the lease of the controller is lost: the write was not sent")]
struct Lost;

impl Fence {
    fn new(until: Instant) -> Self {
        Self {
            until: Arc::new(Mutex::new(Some(until))),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.until
            .lock()
            .is_some_and(|until| Instant::now() < until)
    }

    fn extend(&self, until: Instant) {
        // A fence that closed stays closed: somebody else may have started meanwhile.
        let mut current = self.until.lock();
        if current.is_some_and(|current| Instant::now() < current) {
            *current = Some(until);
        }
    }

    pub(crate) fn close(&self) {
        *self.until.lock() = None;
    }

    /// The same client, except that writes need an open fence.
    pub(crate) fn client(&self, inner: &kube::Client) -> kube::Client {
        let namespace = inner.default_namespace().to_owned();
        let (fence, inner) = (self.clone(), inner.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (fence, inner) = (fence.clone(), inner.clone());
            async move {
                if !request.method().is_safe() && !fence.is_open() {
                    return Err(tower::BoxError::from(Lost));
                }
                inner.send(request).await.map_err(tower::BoxError::from)
            }
        });
        kube::Client::new(service, namespace)
    }
}

/// A lease that this manager holds.
#[derive(Debug)]
pub(crate) struct Held {
    controller: &'static str,
    name: String,
    fence: Fence,
}

#[derive(Debug, PartialEq)]
enum Claim {
    Create,
    Take,
    Renew,
    Foreign(String),
}

/// What a candidate may do, except for expiry, which takes watching.
fn claim(lease: Option<&Lease>, terms: &Terms) -> Claim {
    let Some(lease) = lease else {
        return Claim::Create;
    };
    let holder = holder(lease);
    if holder == terms.holder {
        return Claim::Renew;
    }
    let superseded = terms
        .supersedes
        .as_deref()
        .is_some_and(|prefix| holder.starts_with(prefix));
    if holder.is_empty() || superseded {
        return Claim::Take;
    }
    Claim::Foreign(holder.to_owned())
}

/// Who holds a lease; empty when nobody does.
pub(crate) fn holder(lease: &Lease) -> &str {
    lease
        .spec
        .as_ref()
        .and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or_default()
}

/// How long a lease lasts after its last renewal.
pub(crate) fn lasts(lease: &Lease) -> Duration {
    let seconds = lease
        .spec
        .as_ref()
        .and_then(|spec| spec.lease_duration_seconds);
    Duration::from_secs(u64::try_from(seconds.unwrap_or(15)).unwrap_or(15))
}

fn lease_name(controller: &str) -> String {
    format!("controller-{controller}")
}

/// Takes a controller's lease, waiting for a live holder as long as the terms say.
pub(crate) async fn take(
    api: &Api<Lease>,
    controller: &'static str,
    terms: &Terms,
) -> Result<Held> {
    let name = lease_name(controller);
    let action = || format!("take the lease of controller {controller:?}");
    let begin = Instant::now();
    let mut watched: Option<(Option<String>, Instant)> = None;
    loop {
        let current = api.get_opt(&name).await.map_err(Error::api(action()))?;
        let mut claim = claim(current.as_ref(), terms);
        if let (Claim::Foreign(_), Some(lease)) = (&claim, &current) {
            let version = lease.metadata.resource_version.clone();
            let since = match &watched {
                Some((seen, since)) if *seen == version => *since,
                _ => Instant::now(),
            };
            watched = Some((version, since));
            if since.elapsed() >= lasts(lease) {
                claim = Claim::Take;
            }
        }
        if let Claim::Foreign(holder) = claim {
            if begin.elapsed() >= terms.patience {
                return Err(Error::Held { controller, holder });
            }
            sleep(LOOK).await;
            continue;
        }
        let renewed = Instant::now();
        let wanted = held_by(current, &name, terms);
        let written = if claim == Claim::Create {
            api.create(&PostParams::default(), &wanted).await
        } else {
            api.replace(&name, &PostParams::default(), &wanted).await
        };
        match written {
            Ok(_) => {
                return Ok(Held {
                    controller,
                    name,
                    fence: Fence::new(renewed + terms.duration),
                });
            }
            // Somebody else was quicker: look again.
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => {}
            Err(source) => return Err(Error::api(action())(source)),
        }
        if begin.elapsed() >= terms.patience {
            return Err(Error::Held {
                controller,
                holder: "a manager that starts at the same time".to_owned(),
            });
        }
    }
}

/// The lease as it reads when these terms hold it. Carries the version that was
/// read, so that the write is a compare-and-swap.
fn held_by(current: Option<Lease>, name: &str, terms: &Terms) -> Lease {
    let now = MicroTime(Timestamp::now());
    let mut lease = current.unwrap_or_default();
    lease.metadata.name = Some(name.to_owned());
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    if spec.holder_identity.as_deref() != Some(&terms.holder) {
        spec.holder_identity = Some(terms.holder.clone());
        spec.acquire_time = Some(now.clone());
        spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |count| count + 1));
    }
    // Rounded up: others must not take it earlier than we give it up.
    let seconds = terms.duration.as_millis().div_ceil(1000);
    spec.lease_duration_seconds = Some(i32::try_from(seconds).unwrap_or(i32::MAX));
    spec.renew_time = Some(now);
    lease
}

impl Held {
    pub(crate) fn controller(&self) -> &'static str {
        self.controller
    }

    pub(crate) fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Renews; `false` means that the lease is lost for good.
    pub(crate) async fn renew(&self, api: &Api<Lease>, terms: &Terms) -> bool {
        let renewed = Instant::now();
        let outcome = async {
            let current = api.get_opt(&self.name).await?;
            if claim(current.as_ref(), terms) != Claim::Renew {
                return Ok(false);
            }
            let wanted = held_by(current, &self.name, terms);
            api.replace(&self.name, &PostParams::default(), &wanted)
                .await?;
            Ok::<_, kube::Error>(true)
        }
        .await;
        match outcome {
            Ok(true) => {
                self.fence.extend(renewed + terms.duration);
                self.fence.is_open()
            }
            Ok(false) => {
                self.fence.close();
                false
            }
            Err(error) => {
                if matches!(error, kube::Error::Api(_)) {
                    tracing::warn!(controller = self.controller, %error, "a lease was not renewed");
                } else {
                    // That the API is not reached is told once, for all that asks it.
                    tracing::debug!(controller = self.controller, %error, "a lease was not renewed");
                }
                self.fence.is_open()
            }
        }
    }

    /// Gives the lease up, so that the next holder need not wait. The fence closes first.
    pub(crate) async fn release(&self, api: &Api<Lease>, terms: &Terms) -> kube::Result<()> {
        self.fence.close();
        let Some(mut lease) = api.get_opt(&self.name).await? else {
            return Ok(());
        };
        if claim(Some(&lease), terms) != Claim::Renew {
            return Ok(());
        }
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
        }
        match api
            .replace(&self.name, &PostParams::default(), &lease)
            .await
        {
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
            released => released.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: Option<&str>) -> Lease {
        Lease {
            spec: Some(LeaseSpec {
                holder_identity: holder.map(str::to_owned),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        }
    }

    #[test]
    fn only_free_own_and_superseded_leases_are_taken() {
        let terms = Terms::embedded("now");
        let check = |lease: Option<Lease>, expect: Claim| {
            assert_eq!(claim(lease.as_ref(), &terms), expect);
        };
        check(None, Claim::Create);
        check(Some(Lease::default()), Claim::Take);
        check(Some(lease(None)), Claim::Take);
        check(Some(lease(Some(""))), Claim::Take);
        check(Some(lease(Some("embedded/now"))), Claim::Renew);
        check(Some(lease(Some("embedded/before"))), Claim::Take);
        check(
            Some(lease(Some("app/x"))),
            Claim::Foreign("app/x".to_owned()),
        );
        let external = Terms::external("app", "y");
        assert_eq!(
            claim(Some(&lease(Some("embedded/now"))), &external),
            Claim::Foreign("embedded/now".to_owned())
        );
    }

    #[test]
    fn taking_counts_a_transition_and_renewing_does_not() {
        let terms = Terms::external("app", "y");
        let first = held_by(None, "l", &terms);
        let transitions =
            |lease: &Lease| lease.spec.clone().and_then(|spec| spec.lease_transitions);
        assert_eq!(transitions(&first), Some(0));
        let renewed = held_by(Some(first.clone()), "l", &terms);
        assert_eq!(transitions(&renewed), Some(0));
        let taken = held_by(Some(first), "l", &Terms::external("app", "z"));
        assert_eq!(transitions(&taken), Some(1));
    }

    #[test]
    fn a_fence_that_closed_stays_closed() {
        let fence = Fence::new(Instant::now());
        assert!(!fence.is_open());
        fence.extend(Instant::now() + Duration::from_secs(60));
        assert!(!fence.is_open(), "a paused holder must not come back");
        let fence = Fence::new(Instant::now() + Duration::from_secs(60));
        assert!(fence.is_open());
        fence.close();
        assert!(!fence.is_open());
    }

    #[tokio::test]
    async fn a_closed_fence_refuses_writes_and_passes_reads() {
        let inner = kube::Client::new(
            tower::service_fn(|_: Request<Body>| async {
                Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(
                    br#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{},"items":[]}"#
                        .to_vec(),
                )))
            }),
            "default",
        );
        let fence = Fence::new(Instant::now() + Duration::from_secs(60));
        let client = fence.client(&inner);
        let request = |method: &str| {
            Request::builder()
                .method(method)
                .uri("/api/v1/configmaps")
                .body(Body::empty())
                .expect("a request")
        };
        client
            .send(request("DELETE"))
            .await
            .expect("the fence is open");
        fence.close();
        client.send(request("GET")).await.expect("reads pass");
        let error = client
            .send(request("DELETE"))
            .await
            .expect_err("it is closed");
        assert!(format!("{error:?}").contains("Lost"), "{error:?}");
    }
}
