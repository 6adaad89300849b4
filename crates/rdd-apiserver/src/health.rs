//! `/healthz`, `/livez` and `/readyz`.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use parking_lot::RwLock;

use crate::http::body::Body;
use crate::http::request_info::Query;
use crate::http::response;

const TEXT: &str = "text/plain; charset=utf-8";

/// Says why something is not well; `None` when it is.
type Check = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// Named checks, asked anew by every request; clones share them.
#[derive(Clone, Default)]
pub struct Health {
    checks: Arc<RwLock<Vec<Named>>>,
}

struct Named {
    name: &'static str,
    /// Counts for readiness only: the process itself is fine.
    readiness: bool,
    check: Check,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let checks = self.checks.read();
        formatter
            .debug_list()
            .entries(checks.iter().map(|named| named.name))
            .finish()
    }
}

impl Health {
    /// Nothing but `ping`.
    #[must_use]
    pub fn new() -> Self {
        let health = Self::default();
        health.add("ping", false, || None);
        health
    }

    /// Adds a check; with `readiness` it counts for `/readyz` alone.
    pub fn add(
        &self,
        name: &'static str,
        readiness: bool,
        check: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) {
        self.checks.write().push(Named {
            name,
            readiness,
            check: Box::new(check),
        });
    }

    pub(crate) fn page(&self, segments: &[&str], query: &Query) -> Option<Response<Body>> {
        let (endpoint, wanted) = match segments {
            [endpoint] => (*endpoint, None),
            [endpoint, name] => (*endpoint, Some(*name)),
            _ => return None,
        };
        let checks = self.checks.read();
        let asked = || {
            checks
                .iter()
                .filter(|named| endpoint == "readyz" || !named.readiness)
        };
        if let Some(name) = wanted {
            let named = asked().find(|named| named.name == name)?;
            return Some(match (named.check)() {
                None => response::bytes(200, TEXT, "ok"),
                Some(_) => {
                    let text = format!("internal server error: {name} failed\n");
                    unsniffed(500, text)
                }
            });
        }
        let excluded: Vec<&str> = query.all("exclude").collect();
        let mut report = String::new();
        let mut failed = Vec::new();
        for named in asked() {
            // Writing to a string cannot fail.
            let _infallible = if excluded.contains(&named.name) {
                writeln!(report, "[+]{} excluded: ok", named.name)
            } else if let Some(reason) = (named.check)() {
                failed.push((named.name, reason));
                writeln!(report, "[-]{} failed: reason withheld", named.name)
            } else {
                writeln!(report, "[+]{} ok", named.name)
            };
        }
        for unknown in excluded
            .iter()
            .filter(|name| !asked().any(|named| named.name == **name))
        {
            let _infallible = writeln!(
                report,
                "warn: some health checks cannot be excluded: no matches for {unknown:?}"
            );
        }
        if failed.is_empty() {
            if query.get("verbose").is_none() {
                return Some(unsniffed(200, "ok"));
            }
            let _infallible = writeln!(report, "{endpoint} check passed");
            return Some(unsniffed(200, report));
        }
        for (name, reason) in failed {
            tracing::warn!(check = name, reason, "not well");
        }
        let _infallible = writeln!(report, "{endpoint} check failed");
        Some(unsniffed(500, report))
    }
}

/// Text that browsers must take for nothing else.
fn unsniffed(code: u16, text: impl Into<Bytes>) -> Response<Body> {
    let mut answer = response::bytes(code, TEXT, text);
    let nosniff = HeaderValue::from_static("nosniff");
    let headers = answer.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_answers_are_plain_text_whatever_they_look_like() {
        let health = Health::new();
        health.add("store", true, || Some("gone".to_owned()));
        for (segments, query, code, nosniff) in [
            (&["healthz"][..], "", 200, true),
            (&["livez"], "verbose", 200, true),
            (&["readyz"], "", 500, true),
            (&["readyz", "store"], "", 500, true),
            // kube-apiserver leaves it to Go to name the type of this one.
            (&["readyz", "ping"], "", 200, false),
        ] {
            let answer = health.page(segments, &Query::parse(query)).expect("a page");
            assert_eq!(answer.status(), code, "{segments:?}");
            let headers = answer.headers();
            let given = headers.get(header::X_CONTENT_TYPE_OPTIONS);
            assert_eq!(given.is_some(), nosniff, "{segments:?}");
        }
    }
}
