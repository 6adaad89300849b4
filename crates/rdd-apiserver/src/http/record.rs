//! The record of one request, from its head to the end of its answer.
//!
//! ```text
//! begin ─▶ asked(labels) ─▶ ended(answer) ─▶ counted                    ordinary requests
//!                                └─▶ the answer's body ─▶ its end ─▶ counted      watches
//! ```
//!
//! A record counts when it is dropped, so that a handler that panics and a watcher that
//! goes away are counted, too.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, header, request::Parts};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;

use crate::{
    api_server::Inner,
    audit::{Notes, Stage, Trail},
    auth::{Decision, Identity},
    catalog::{Resource, Subresource, Verb},
    encoding::negotiate::APPLY_PARTS,
    http::{
        body::{Body, BoxError},
        request_info::RequestInfo,
        serve::Peer,
    },
    metrics::{
        Metrics,
        requests::{Labels, Series},
    },
    status::ApiError,
};

/// The paths that are told apart among those that name no resource. What starts with one
/// of them counts as it.
const PATHS: &[&str] = &[
    "/.well-known",
    "/apis",
    "/api",
    "/healthz",
    "/livez",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3",
    "/openid",
    "/passthrough",
    "/readyz",
    "/version",
];

/// The record of one request.
pub(crate) struct Record {
    metrics: Arc<Metrics>,
    started: Instant,
    mutating: bool,
    series: Option<Arc<Series>>,
    /// What the caller was told; a handler that never said is a 500.
    code: u16,
    phase: Phase,
    trail: Option<Box<Trail>>,
}

#[derive(PartialEq, Eq)]
enum Phase {
    InFlight,
    LongRunning,
}

impl Record {
    /// `id` is what the audit log calls the request.
    pub(crate) fn begin(server: &Inner, request: &Parts, id: &str) -> Self {
        let mutating = !matches!(request.method, Method::GET | Method::HEAD);
        let trail = server.audit.get().map(|log| {
            let peer = request.extensions.get::<Arc<Peer>>();
            let address = peer.map(|peer| peer.address);
            Box::new(Trail::begin(log, id, request, address))
        });
        let metrics = &server.metrics;
        let in_flight = metrics.requests.in_flight(mutating);
        in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            metrics: Arc::clone(metrics),
            started: Instant::now(),
            mutating,
            series: None,
            code: 500,
            phase: Phase::InFlight,
            trail,
        }
    }

    /// What the request asks for; `resource` is the served one that it names, if there is one.
    pub(crate) fn asked(
        &mut self,
        info: &RequestInfo,
        resource: Option<&Arc<Resource>>,
        method: &Method,
        headers: &HeaderMap,
    ) {
        let labels = labels(info, resource.map(Arc::as_ref), method, headers);
        self.series = Some(Arc::clone(self.metrics.requests.series(&labels)));
        if let Some(trail) = &mut self.trail {
            trail.asked(info);
        }
    }

    /// Who asks, and as whom.
    pub(crate) fn identified(&mut self, user: &Arc<Identity>, acting_as: &Arc<Identity>) {
        if let Some(trail) = &mut self.trail {
            trail.identified(user, acting_as);
        }
    }

    /// Whether they may.
    pub(crate) fn decided(&self, decision: &Decision) {
        if let Some(trail) = &self.trail {
            trail.decided(decision);
        }
    }

    /// Why not.
    pub(crate) fn refused(&mut self, error: &ApiError) {
        if let Some(trail) = &mut self.trail {
            trail.refused(error.reason());
        }
    }

    /// Where others add to the record, if there is one.
    pub(crate) fn notes(&self) -> Option<Arc<Notes>> {
        self.trail.as_ref().map(|trail| Arc::clone(trail.notes()))
    }

    /// Whether events follow if all goes well.
    pub(crate) fn is_watch(&self) -> bool {
        self.series.as_ref().is_some_and(|series| series.is_watch())
    }

    /// The answer is on its way. That of a watch takes the record along.
    pub(crate) fn ended(mut self, answer: Response<Body>) -> Response<Body> {
        self.code = answer.status().as_u16();
        let Some(series) = &self.series else {
            return answer;
        };
        if series.is_watch() && matches!(self.code, 101 | 200) {
            let in_flight = self.metrics.requests.in_flight(self.mutating);
            in_flight.fetch_sub(1, Ordering::Relaxed);
            series.running().fetch_add(1, Ordering::Relaxed);
            self.phase = Phase::LongRunning;
            if let Some(trail) = &self.trail {
                trail.reached(Stage::ResponseStarted, self.code);
            }
            return answer.map(|body| Watched { body, record: self }.boxed_unsync());
        }
        if let Some(size) = answer.body().size_hint().exact() {
            series.answered(size);
            return answer;
        }
        let series = Arc::clone(series);
        let sent = 0;
        answer.map(|body| Measured { body, series, sent }.boxed_unsync())
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.phase == Phase::InFlight {
            let in_flight = self.metrics.requests.in_flight(self.mutating);
            in_flight.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(series) = &self.series {
            if self.phase == Phase::LongRunning {
                series.running().fetch_sub(1, Ordering::Relaxed);
            }
            series.ended(self.code, self.started.elapsed());
        }
        if let Some(trail) = &self.trail {
            trail.reached(Stage::ResponseComplete, self.code);
        }
    }
}

/// A body whose size is known when it has been sent.
struct Measured {
    body: Body,
    series: Arc<Series>,
    sent: u64,
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.series.answered(self.sent);
    }
}

impl http_body::Body for Measured {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            self.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a watch's answer: every frame is an event.
struct Watched {
    body: Body,
    record: Record,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let (Poll::Ready(Some(Ok(_))), Some(series)) = (&frame, &self.record.series) {
            series.events().fetch_add(1, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Labels come from what is served, never from what a client writes.
fn labels<'a>(
    info: &RequestInfo,
    resource: Option<&'a Resource>,
    method: &Method,
    headers: &HeaderMap,
) -> Labels<'a> {
    let request = match info {
        RequestInfo::Path { path, .. } => return path_labels(path, method),
        RequestInfo::Resource(request) => request,
    };
    let verb = match request.verb {
        Some(Verb::Create) => "POST",
        Some(Verb::Delete) => "DELETE",
        Some(Verb::DeleteCollection) => "DELETECOLLECTION",
        Some(Verb::Get) => "GET",
        Some(Verb::List) => "LIST",
        Some(Verb::Patch) if is_apply(headers) => "APPLY",
        Some(Verb::Patch) => "PATCH",
        Some(Verb::Update) => "PUT",
        Some(Verb::Watch) => "WATCH",
        None => "OTHER",
    };
    let scope = if !request.name.is_empty() {
        "resource"
    } else if !request.namespace.is_empty() {
        "namespace"
    } else {
        "cluster"
    };
    let subresource = Subresource::parse(&request.subresource).map_or("", Subresource::as_str);
    Labels {
        verb,
        group: resource.map_or("", |resource| &resource.group),
        version: resource.map_or("", |resource| &resource.version),
        resource: resource.map_or("", |resource| &resource.plural),
        subresource,
        scope,
    }
}

fn path_labels(path: &str, method: &Method) -> Labels<'static> {
    let verb = match *method {
        Method::GET | Method::HEAD => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "OTHER",
    };
    let known = PATHS.iter().find(|known| {
        path.strip_prefix(**known)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    Labels {
        verb,
        group: "",
        version: "",
        resource: "",
        subresource: if path == "/" {
            "/"
        } else {
            known.copied().unwrap_or("other")
        },
        scope: "",
    }
}

fn is_apply(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .map(HeaderValue::as_bytes)
        .is_some_and(|value| {
            value.starts_with(b"application/apply-patch")
                || value.starts_with(APPLY_PARTS.as_bytes())
        })
}
