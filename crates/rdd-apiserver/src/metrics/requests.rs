//! Requests by what they ask for and how they end.
//!
//! ```text
//! labels ─ hash ─▶ slot ─ taken by others? ─▶ next slot … ─▶ after PROBES: "other"
//! ```
//!
//! A series, once made, keeps its slot for ever, so that looking one up is reading: no
//! lock, no allocation. Definitions come and go under names that clients choose; beyond
//! the table's bound, further ones are counted together. The road not taken is a map
//! behind a lock, which every request on every core would touch.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::exposition::Exposition;
use super::histogram::Histogram;

/// Series that are told apart at most; a power of two.
const SLOTS: usize = 4096;

/// How far from its own place a series may lie.
const PROBES: usize = 32;

/// Nanoseconds: kube-apiserver's bounds, and finer ones below them.
const TIMES: &[u64] = &[
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    400_000_000,
    600_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

/// Bytes: kube-apiserver's bounds.
const SIZES: &[u64] = &[
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
];

/// The codes that are told apart, ascending.
const CODES: &[u16] = &[
    101, 200, 201, 202, 204, 301, 302, 304, 307, 400, 401, 403, 404, 405, 406, 408, 409, 410, 412,
    413, 415, 422, 426, 429, 431, 500, 501, 502, 503, 504, 507,
];

/// What a request asks for, in kube-apiserver's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Labels<'a> {
    /// `LIST`, `POST`, `APPLY`, …
    pub(crate) verb: &'static str,
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    /// The plural; empty for paths that name no resource.
    pub(crate) resource: &'a str,
    /// Also the path, where that names no resource.
    pub(crate) subresource: &'static str,
    /// `resource`, `namespace`, `cluster`, or empty.
    pub(crate) scope: &'static str,
}

impl Labels<'_> {
    fn parts(&self) -> [&str; 6] {
        [
            self.verb,
            self.group,
            self.version,
            self.resource,
            self.subresource,
            self.scope,
        ]
    }

    /// FNV-1a: short texts, and whoever makes them collide gains nothing.
    fn hash(&self) -> usize {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for part in self.parts() {
            for byte in part.bytes().chain([0xff]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        (hash ^ (hash >> 32)) as usize
    }
}

/// All requests so far.
pub(crate) struct Requests {
    slots: Box<[OnceLock<Arc<Series>>]>,
    other: Arc<Series>,
    reading: AtomicI64,
    mutating: AtomicI64,
}

/// The requests that ask for the same.
#[derive(Debug)]
pub(crate) struct Series {
    verb: &'static str,
    group: Box<str>,
    version: Box<str>,
    resource: Box<str>,
    subresource: &'static str,
    scope: &'static str,
    codes: Box<[AtomicU64]>,
    times: Histogram,
    sizes: Option<Histogram>,
    running: AtomicI64,
    events: AtomicU64,
}

impl Requests {
    pub(super) fn new() -> Self {
        let other = Labels {
            verb: "OTHER",
            group: "other",
            version: "other",
            resource: "other",
            subresource: "",
            scope: "",
        };
        Self {
            slots: (0..SLOTS).map(|_| OnceLock::new()).collect(),
            other: Arc::new(Series::new(&other)),
            reading: AtomicI64::new(0),
            mutating: AtomicI64::new(0),
        }
    }

    /// Where requests of these labels are counted.
    pub(crate) fn series(&self, labels: &Labels<'_>) -> &Arc<Series> {
        let start = labels.hash();
        for probe in 0..PROBES {
            let slot = &self.slots[start.wrapping_add(probe) % SLOTS];
            let series = slot.get_or_init(|| Arc::new(Series::new(labels)));
            if series.labels() == *labels {
                return series;
            }
        }
        &self.other
    }

    /// Requests that are being answered, but for long-running ones.
    pub(crate) fn in_flight(&self, mutating: bool) -> &AtomicI64 {
        if mutating {
            &self.mutating
        } else {
            &self.reading
        }
    }

    pub(super) fn render(&self, out: &mut Exposition) {
        let mut all: Vec<&Series> = self
            .slots
            .iter()
            .filter_map(OnceLock::get)
            .chain([&self.other])
            .map(Arc::as_ref)
            .collect();
        all.sort_by(|a, b| a.labels().parts().cmp(&b.labels().parts()));
        let name = "apiserver_request_total";
        out.family(
            name,
            "counter",
            "Requests by what they ask for and by the code of the answer.",
        );
        for series in &all {
            for (index, count) in series.codes.iter().enumerate() {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let code = CODES
                        .get(index)
                        .map_or_else(|| "other".to_owned(), u16::to_string);
                    let mut labels = series.named().to_vec();
                    labels.push(("code", &code));
                    out.sample(name, &labels, count);
                }
            }
        }
        let name = "apiserver_request_duration_seconds";
        out.family(
            name,
            "histogram",
            "From the head of a request to its answer; of a watch, to its end.",
        );
        for series in &all {
            series.times.render(out, name, &series.named(), 1e9);
        }
        let name = "apiserver_response_sizes";
        out.family(name, "histogram", "Bytes of answers to reads.");
        for series in &all {
            if let Some(sizes) = &series.sizes {
                sizes.render(out, name, &series.named(), 1.0);
            }
        }
        let name = "apiserver_longrunning_requests";
        out.family(name, "gauge", "Watches and streams that run.");
        for series in all.iter().filter(|series| series.is_watch()) {
            let running = series.running.load(Ordering::Relaxed);
            out.sample(name, &series.named(), running);
        }
        let name = "apiserver_watch_events_total";
        out.family(name, "counter", "Events that were sent to watchers.");
        for series in all.iter().filter(|series| series.is_watch()) {
            let events = series.events.load(Ordering::Relaxed);
            out.sample(name, &series.named(), events);
        }
        let name = "apiserver_current_inflight_requests";
        out.family(name, "gauge", "Requests that are being answered.");
        for (kind, count) in [("mutating", &self.mutating), ("readOnly", &self.reading)] {
            let count = count.load(Ordering::Relaxed);
            out.sample(name, &[("request_kind", kind)], count);
        }
    }
}

impl Series {
    fn new(labels: &Labels<'_>) -> Self {
        let Labels {
            verb,
            group,
            version,
            resource,
            subresource,
            scope,
        } = *labels;
        Self {
            verb,
            group: group.into(),
            version: version.into(),
            resource: resource.into(),
            subresource,
            scope,
            codes: (0..=CODES.len()).map(|_| AtomicU64::new(0)).collect(),
            times: Histogram::new(TIMES),
            sizes: matches!(verb, "GET" | "LIST").then(|| Histogram::new(SIZES)),
            running: AtomicI64::new(0),
            events: AtomicU64::new(0),
        }
    }

    fn labels(&self) -> Labels<'_> {
        Labels {
            verb: self.verb,
            group: &self.group,
            version: &self.version,
            resource: &self.resource,
            subresource: self.subresource,
            scope: self.scope,
        }
    }

    fn named(&self) -> [(&str, &str); 7] {
        [
            ("verb", self.verb),
            ("group", &self.group),
            ("version", &self.version),
            ("resource", &self.resource),
            ("subresource", self.subresource),
            ("scope", self.scope),
            ("component", "apiserver"),
        ]
    }

    pub(crate) fn is_watch(&self) -> bool {
        self.verb == "WATCH"
    }

    /// Counts a request that has ended.
    pub(crate) fn ended(&self, code: u16, took: Duration) {
        let slot = CODES.binary_search(&code).unwrap_or(CODES.len());
        self.codes[slot].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.times.observe(nanos);
    }

    /// Counts the bytes of an answer.
    pub(crate) fn answered(&self, size: u64) {
        if let Some(sizes) = &self.sizes {
            sizes.observe(size);
        }
    }

    /// Long-running requests that are not over.
    pub(crate) fn running(&self) -> &AtomicI64 {
        &self.running
    }

    /// Events that went out.
    pub(crate) fn events(&self) -> &AtomicU64 {
        &self.events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels<'a>(verb: &'static str, resource: &'a str) -> Labels<'a> {
        Labels {
            verb,
            group: "example.com",
            version: "v1",
            resource,
            subresource: "",
            scope: "namespace",
        }
    }

    #[test]
    fn equal_labels_share_a_series_and_others_do_not() {
        let requests = Requests::new();
        let took = Duration::from_micros(300);
        requests.series(&labels("LIST", "widgets")).ended(200, took);
        requests.series(&labels("LIST", "widgets")).ended(200, took);
        requests.series(&labels("LIST", "gadgets")).ended(418, took);
        let mut out = Exposition::default();
        requests.render(&mut out);
        let text = out.into_text();
        let line = |resource: &str, code: &str, count: u64| {
            format!(
                "apiserver_request_total{{verb=\"LIST\",group=\"example.com\",version=\"v1\",\
                 resource=\"{resource}\",subresource=\"\",scope=\"namespace\",\
                 component=\"apiserver\",code=\"{code}\"}} {count}\n"
            )
        };
        assert!(text.contains(&line("widgets", "200", 2)), "{text}");
        assert!(text.contains(&line("gadgets", "other", 1)), "{text}");
        assert!(text.contains("le=\"0.00025\"} 0\n"), "{text}");
        assert!(text.contains("le=\"0.0005\"} 2\n"), "{text}");
    }

    #[test]
    fn the_number_of_series_is_bounded() {
        let requests = Requests::new();
        for number in 0..3 * SLOTS {
            let resource = format!("made-up-{number}");
            requests
                .series(&labels("GET", &resource))
                .ended(404, Duration::ZERO);
        }
        let mut out = Exposition::default();
        requests.render(&mut out);
        let text = out.into_text();
        let told_apart = text
            .lines()
            .filter(|line| line.starts_with("apiserver_request_total{"))
            .count();
        assert!(told_apart <= SLOTS + 1, "{told_apart}");
        assert!(text.contains("resource=\"other\""));
    }
}
