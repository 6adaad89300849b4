//! What rules cost: those of a definition, and those of admission policies.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::Figure;
use crate::explosions;
use crate::lab::Lab;
use crate::objects::{self, COLLECTION, JSON};
use crate::statistics::{Samples, milliseconds};
use crate::wire::{Connection, Server};

/// Writes of each kind.
const WRITES: usize = 1000;

/// Items of the lists in the measured object.
const ROUTES: usize = 16;
const MATCHES: usize = 8;

/// Rules over the whole.
const OF_SPEC: [&str; 2] = [
    "self.parents.all(a, self.parents.exists_one(b, a.name == b.name && a.port == b.port))",
    "self.routes.exists(r, has(r.matches))",
];

/// Rules over each route.
const OF_ROUTE: [&str; 2] = [
    "self.weight == 0 || size(self.matches) > 0",
    "!has(self.redirect) || self.weight == 0",
];

/// Rules over each match.
const OF_MATCH: [&str; 4] = [
    "self.type in ['Exact', 'Prefix', 'Pattern']",
    "self.type == 'Pattern' || self.path.startsWith('/')",
    "self.type == 'Pattern' || !self.path.contains('//')",
    "!has(self.method) || self.type != 'Pattern'",
];

/// Rules that run when the object is written.
const RUNS: usize = OF_SPEC.len() + ROUTES * OF_ROUTE.len() + ROUTES * MATCHES * OF_MATCH.len();

/// Of the expressions made to explode, so many are shown.
const SHOWN: usize = 5;

/// Creates in each of the four loads.
const CREATES: usize = 5_000;
const CLIENTS: usize = 50;
const POLICIES: usize = 10;

const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";

/// Expressions made to explode, and texts to judge: the longest of each.
pub(crate) fn explosions() -> Vec<Figure> {
    let this = explosions::this();
    let evaluated = explosions::EXPRESSIONS.iter().map(|expression| {
        let (took, _) = explosions::evaluate(expression, &this);
        (took, (*expression).to_owned())
    });
    let judged = explosions::texts().into_iter();
    let judged = judged.map(|(name, text)| (explosions::compile(&text), name.to_owned()));
    let worst = |what: &str, mut taken: Vec<(Duration, String)>| {
        taken.sort_by_key(|(took, _)| std::cmp::Reverse(*took));
        let many = taken.len();
        let shown = taken.into_iter().take(SHOWN).enumerate();
        shown
            .map(|(place, (took, text))| Figure {
                name: format!("{what}, number {} of {many}", place + 1),
                value: format!("{:.1} ms", milliseconds(took)),
                floor: text,
                target: "100 ms at most",
            })
            .collect::<Vec<_>>()
    };
    let mut figures = worst("an evaluation that explodes", evaluated.collect());
    figures.extend(worst("a text to judge", judged.collect()));
    figures
}

/// Writes an object of a kind whose schema looks like that of a route of the Gateway API,
/// and the same of the same kind without rules, in turn. The writes are dry runs, so that
/// the disk has no part in them.
pub(crate) async fn of_definition(lab: &Lab) -> Result<Figure> {
    lab.rdd(&["svc", "start", "--controllers="])?;
    let mut connection = lab.server()?.connect().await?;
    for with_rules in [false, true] {
        let body = routes(with_rules).to_string();
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        connection.call("POST", path, JSON, body.as_bytes()).await?;
    }
    let (mut plain, mut ruled) = (Vec::new(), Vec::new());
    for _ in 0..WRITES {
        for (with_rules, times) in [(false, &mut plain), (true, &mut ruled)] {
            let (plural, _) = names(with_rules);
            let path = format!("/apis/bench.example.com/v1/namespaces/default/{plural}?dryRun=All");
            let body = route(with_rules).to_string();
            let begin = Instant::now();
            connection
                .call("POST", &path, JSON, body.as_bytes())
                .await?;
            times.push(begin.elapsed());
        }
    }
    let (plain, ruled) = (Samples::new(plain), Samples::new(ruled));
    let (before, after) = (plain.percentile(0.5), ruled.percentile(0.5));
    #[expect(clippy::cast_precision_loss, reason = "some hundreds")]
    let each = (milliseconds(after) - milliseconds(before)) * 1000.0 / RUNS as f64;
    Ok(Figure {
        name: format!("each of {RUNS} rules of a definition that run in a write"),
        value: format!("{each:.2} µs ({ruled})"),
        floor: format!(
            "without rules: {plain}; {:.2} times as long with them",
            milliseconds(after) / milliseconds(before)
        ),
        target: "of the order of 1 µs",
    })
}

/// Names a kind, with or without rules: plural and kind.
fn names(with_rules: bool) -> (&'static str, &'static str) {
    if with_rules {
        ("ruledroutes", "RuledRoute")
    } else {
        ("plainroutes", "PlainRoute")
    }
}

fn routes(with_rules: bool) -> Value {
    let (plural, kind) = names(with_rules);
    let rules = |texts: &[&str]| -> Value {
        let texts = texts.iter().filter(|_| with_rules);
        texts.map(|text| json!({"rule": text})).collect()
    };
    let text = |most: usize| json!({"type": "string", "maxLength": most});
    let matches = json!({
        "type": "object", "required": ["type", "path"],
        "x-kubernetes-validations": rules(&OF_MATCH),
        "properties": {"type": text(16), "path": text(1024), "method": text(16)},
    });
    let route = json!({
        "type": "object", "required": ["weight", "matches"],
        "x-kubernetes-validations": rules(&OF_ROUTE),
        "properties": {
            "weight": {"type": "integer"}, "redirect": text(1024),
            "matches": {"type": "array", "maxItems": MATCHES, "items": matches},
        },
    });
    let parent = json!({
        "type": "object", "required": ["name", "port"],
        "properties": {"name": text(253), "port": {"type": "integer"}},
    });
    let spec = json!({
        "type": "object", "required": ["parents", "routes"],
        "x-kubernetes-validations": rules(&OF_SPEC),
        "properties": {
            "parents": {"type": "array", "maxItems": 8, "items": parent},
            "routes": {"type": "array", "maxItems": ROUTES, "items": route},
        },
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.bench.example.com")},
        "spec": {
            "group": "bench.example.com", "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {
                "openAPIV3Schema": {"type": "object", "properties": {"spec": spec}},
            }}],
        },
    })
}

fn route(with_rules: bool) -> Value {
    let (_, kind) = names(with_rules);
    let matches = |route: usize| -> Value {
        let one = |number: usize| json!({"type": "Prefix", "path": format!("/v{route}/shop{number}"), "method": "GET"});
        (0..MATCHES).map(one).collect()
    };
    let routes: Value = (0..ROUTES)
        .map(|number| json!({"weight": number, "matches": matches(number)}))
        .collect();
    json!({
        "apiVersion": "bench.example.com/v1", "kind": kind, "metadata": {"name": "route"},
        "spec": {
            "parents": [{"name": "outer", "port": 80}, {"name": "outer", "port": 443}],
            "routes": routes,
        },
    })
}

/// Creates objects while ten policies judge them and while none does; in the order none,
/// ten, ten, none, so that the growth of the store falls on both.
pub(crate) async fn of_policies(lab: &Lab) -> Result<Figure> {
    lab.rdd(&["svc", "start", "--controllers="])?;
    let server = lab.server()?;
    let mut connection = server.connect().await?;
    objects::serve(&mut connection).await?;
    for number in 0..POLICIES {
        let body = policy(number).to_string();
        let path = format!("{ADMISSION}/validatingadmissionpolicies");
        connection
            .call("POST", &path, JSON, body.as_bytes())
            .await?;
    }
    let mut without = Spent::default();
    let mut with = Spent::default();
    without.add(creates(lab, &server, "a").await?);
    bind(&mut connection).await?;
    with.add(creates(lab, &server, "b").await?);
    with.add(creates(lab, &server, "c").await?);
    for number in 0..POLICIES {
        let path = format!("{BINDINGS}/bench-{number}");
        connection.call("DELETE", &path, "", b"").await?;
    }
    without.add(creates(lab, &server, "d").await?);
    let more = with.processor.as_secs_f64() - without.processor.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let each = more * 1e6 / (2 * CREATES * POLICIES) as f64;
    Ok(Figure {
        name: format!("{} creates with {POLICIES} policies", 2 * CREATES),
        value: format!("{:.2} s", with.wall.as_secs_f64()),
        floor: format!(
            "without policies: {:.2} s; {:.2} times as long with them; {each:.1} µs of \
             processor per policy",
            without.wall.as_secs_f64(),
            with.wall.as_secs_f64() / without.wall.as_secs_f64()
        ),
        target: "of the order of 10 µs per policy",
    })
}

/// What a load took.
#[derive(Default)]
struct Spent {
    wall: Duration,
    /// Time of the daemon, on all processors together.
    processor: Duration,
}

impl Spent {
    fn add(&mut self, more: Self) {
        self.wall += more.wall;
        self.processor += more.processor;
    }
}

async fn creates(lab: &Lab, server: &Server, prefix: &'static str) -> Result<Spent> {
    let mut connections = Vec::new();
    for _ in 0..CLIENTS {
        connections.push(server.connect().await?);
    }
    let before = lab.processor_time()?;
    let begin = Instant::now();
    let clients = connections
        .into_iter()
        .enumerate()
        .map(|(client, mut connection)| {
            tokio::spawn(async move {
                for round in 0..CREATES / CLIENTS {
                    let body = objects::widget(&format!("{prefix}-{client}-{round}"));
                    connection
                        .call("POST", COLLECTION, JSON, body.as_bytes())
                        .await?;
                }
                anyhow::Ok(())
            })
        });
    for ended in try_join_all(clients).await? {
        ended?;
    }
    Ok(Spent {
        wall: begin.elapsed(),
        processor: lab.processor_time()?.saturating_sub(before),
    })
}

fn policy(number: usize) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": format!("bench-{number}")},
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["bench.example.com"], "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE"], "resources": ["widgets"],
            }]},
            "variables": [{"name": "size", "expression": "size(object.spec.payload)"}],
            "validations": [
                {"expression": "variables.size < 4096", "message": "too large"},
                {"expression": "object.metadata.labels.exists(key, key == 'app')"},
                {"expression": "object.spec.count >= 0 && request.operation == 'CREATE'"},
            ],
        },
    })
}

async fn bind(connection: &mut Connection) -> Result<()> {
    for number in 0..POLICIES {
        let name = format!("bench-{number}");
        let body = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        });
        let body = body.to_string();
        connection
            .call("POST", BINDINGS, JSON, body.as_bytes())
            .await?;
    }
    Ok(())
}
