//! `/healthz`, `/livez` and `/readyz`.

use std::fmt::Write as _;
use std::sync::Arc;

use http::Response;
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
                    response::bytes(500, TEXT, format!("internal server error: {name} failed\n"))
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
                return Some(response::bytes(200, TEXT, "ok"));
            }
            let _infallible = writeln!(report, "{endpoint} check passed");
            return Some(response::bytes(200, TEXT, report));
        }
        for (name, reason) in failed {
            tracing::warn!(check = name, reason, "not well");
        }
        let _infallible = writeln!(report, "{endpoint} check failed");
        Some(response::bytes(500, TEXT, report))
    }
}
