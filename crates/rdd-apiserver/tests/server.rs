//! The server from outside: whole requests through the router, on a memory store.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use rdd_admission::{
    AdmissionChain, AdmissionRequest, Admit, Admitted, Denial, Matches, Operation, Phase,
};
use rdd_apiserver::{
    ApiServer, Identity, Options,
    auth::{Authenticator, Rbac},
    catalog::crd,
    http::{
        body::Body,
        router::{NoPages, Router},
    },
    workers::Workers,
};
use rdd_store::{MemoryStore, Store};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Longest wait for anything that should happen at once.
const DEADLINE: Duration = Duration::from_secs(10);

struct Server {
    api: ApiServer,
    router: Router,
    stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Server {
    async fn start(admission: AdmissionChain) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let (catalog, definitions) = crd::served();
        let mut authenticator = Authenticator::default();
        authenticator.add_token("good", Identity::new("alice", "", ["devs"]));
        let (api, work) = ApiServer::new(Options {
            store: Arc::clone(&store),
            catalog: Arc::clone(&catalog),
            authenticator,
            authorizer: Arc::new(Rbac::new(Arc::clone(&store))),
            admission,
            services: rdd_apiserver::Services::default(),
            pages: Arc::new(NoPages),
            passthrough: Arc::new(rdd_apiserver::http::passthrough::NoPassthrough),
        });
        tokio::spawn(work);
        let stop = CancellationToken::new();
        let workers = Workers {
            store,
            catalog,
            definitions,
            metrics: Arc::clone(api.metrics()),
            client: api.client(Identity::system("system:apiserver")),
            root_ca: String::new(),
        };
        workers
            .create_start_objects()
            .await
            .expect("the start objects are created");
        tokio::spawn(workers.run(stop.clone()));
        let router = api.router().acting_as(Identity::system("test"));
        Self { api, router, stop }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Response<Body> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .body(Full::new(body))
            .expect("a request");
        match self.router.clone().oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let content_type = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = if body.is_null() {
            Bytes::new()
        } else {
            body.to_string().into()
        };
        read(self.send(method, path, content_type, body).await).await
    }
}

async fn read(answer: Response<Body>) -> (StatusCode, Value) {
    let status = answer.status();
    let body = answer
        .into_body()
        .collect()
        .await
        .expect("the body ends")
        .to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// The lines of a watch, one event at a time.
struct Watch {
    body: Body,
    rest: Vec<u8>,
}

impl Watch {
    async fn open(server: &Server, path: &str) -> Self {
        let answer = server
            .send(Method::GET, path, "application/json", Bytes::new())
            .await;
        assert_eq!(answer.status(), StatusCode::OK);
        Self {
            body: answer.into_body(),
            rest: Vec::new(),
        }
    }

    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("every line is an event"));
            }
            let frame = tokio::time::timeout(DEADLINE, self.body.frame()).await;
            let frame = frame
                .expect("an event comes in time")?
                .expect("the stream does not break");
            self.rest
                .extend_from_slice(&frame.into_data().unwrap_or_default());
        }
    }

    async fn expect(&mut self, kind: &str, name: &str) -> Value {
        let event = self.next().await.expect("the watch goes on");
        assert_eq!(
            (&event["type"], &event["object"]["metadata"]["name"]),
            (&json!(kind), &json!(name))
        );
        event
    }
}

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn config_map(name: &str, label: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"l": label}}, "data": {"k": "v"}})
}

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}
                }}}
            }]
        }
    })
}

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

#[tokio::test]
async fn an_object_lives_and_a_watch_sees_every_step() {
    let server = Server::start(AdmissionChain::default()).await;
    let mut watch = Watch::open(
        &server,
        &format!("{CONFIG_MAPS}?watch=true&labelSelector=l%3D1"),
    )
    .await;
    let (status, made) = server
        .call(Method::POST, CONFIG_MAPS, config_map("a", "1"))
        .await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let path = format!("{CONFIG_MAPS}/a");
    let relabel = json!({"metadata": {"labels": {"l": "2"}}});
    watch.expect("ADDED", "a").await;
    server
        .call(Method::PATCH, &path, json!({"data": {"k": "w"}}))
        .await;
    watch.expect("MODIFIED", "a").await;
    // Leaving the selector looks like a deletion: the old object, the new revision.
    let (_, moved) = server.call(Method::PATCH, &path, relabel).await;
    let gone = watch.expect("DELETED", "a").await;
    assert_eq!(gone["object"]["metadata"]["labels"]["l"], "1");
    assert_eq!(
        gone["object"]["metadata"]["resourceVersion"],
        moved["metadata"]["resourceVersion"]
    );
    let (status, answer) = server.call(Method::DELETE, &path, Value::Null).await;
    assert_eq!(
        (status, &answer["status"]),
        (StatusCode::OK, &json!("Success"))
    );
    let (status, _) = server.call(Method::GET, &path, Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_write_that_changes_nothing_takes_no_revision() {
    let server = Server::start(AdmissionChain::default()).await;
    let (_, made) = server
        .call(Method::POST, CONFIG_MAPS, config_map("a", "1"))
        .await;
    let path = format!("{CONFIG_MAPS}/a");
    let (status, same) = server
        .call(Method::PATCH, &path, json!({"data": {"k": "v"}}))
        .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(same, made);
    let (status, same) = server.call(Method::PUT, &path, made.clone()).await;
    assert_eq!((status, &same), (StatusCode::OK, &made));
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark_to_resume_from() {
    let server = Server::start(AdmissionChain::default()).await;
    server
        .call(Method::POST, CONFIG_MAPS, config_map("a", "1"))
        .await;
    let query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
                 &allowWatchBookmarks=true&labelSelector=l";
    let mut watch = Watch::open(&server, &format!("{CONFIG_MAPS}?{query}")).await;
    watch.expect("ADDED", "a").await;
    let bookmark = watch.next().await.expect("a bookmark");
    assert_eq!(bookmark["type"], "BOOKMARK");
    let metadata = &bookmark["object"]["metadata"];
    assert_eq!(metadata["annotations"]["k8s.io/initial-events-end"], "true");
    let revision = metadata["resourceVersion"]
        .as_str()
        .expect("a revision")
        .to_owned();
    server
        .call(Method::POST, CONFIG_MAPS, config_map("b", "1"))
        .await;
    let path = format!("{CONFIG_MAPS}?watch=true&labelSelector=l&resourceVersion={revision}");
    Watch::open(&server, &path).await.expect("ADDED", "b").await;
    watch.expect("ADDED", "b").await;
}

#[tokio::test]
async fn concurrent_patches_without_a_version_never_conflict() {
    let server = Arc::new(Server::start(AdmissionChain::default()).await);
    server
        .call(Method::POST, CONFIG_MAPS, config_map("a", "1"))
        .await;
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..16 {
        let server = Arc::clone(&server);
        tasks.spawn(async move {
            let patch = json!({"data": {format!("k{index}"): "v"}});
            server
                .call(Method::PATCH, &format!("{CONFIG_MAPS}/a"), patch)
                .await
                .0
        });
    }
    while let Some(status) = tasks.join_next().await {
        assert_eq!(status.expect("no panic"), StatusCode::OK);
    }
    let (_, object) = server
        .call(Method::GET, &format!("{CONFIG_MAPS}/a"), Value::Null)
        .await;
    assert_eq!(
        object["data"].as_object().map(serde_json::Map::len),
        Some(17)
    );
}

#[tokio::test]
async fn pages_show_one_moment() {
    let server = Server::start(AdmissionChain::default()).await;
    for name in ["a", "b", "c"] {
        server
            .call(Method::POST, CONFIG_MAPS, config_map(name, "1"))
            .await;
    }
    let base = format!("{CONFIG_MAPS}?limit=2");
    let (_, first) = server.call(Method::GET, &base, Value::Null).await;
    assert_eq!(first["items"].as_array().map(Vec::len), Some(2));
    server
        .call(Method::DELETE, &format!("{CONFIG_MAPS}/c"), Value::Null)
        .await;
    let token = first["metadata"]["continue"]
        .as_str()
        .expect("there is more");
    let (_, second) = server
        .call(
            Method::GET,
            &format!("{base}&continue={token}"),
            Value::Null,
        )
        .await;
    assert_eq!(second["items"][0]["metadata"]["name"], "c");
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
}

#[tokio::test]
async fn a_definition_is_served_when_its_create_returns_and_ends_its_watches_when_it_changes() {
    let server = Server::start(AdmissionChain::default()).await;
    let (status, answer) = server.call(Method::POST, DEFINITIONS, definition()).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": "w"}, "spec": {"size": 1, "extra": true}, "status": {"x": 1}});
    let (status, made) = server.call(Method::POST, WIDGETS, widget).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!(
        (&made["spec"], made.get("status")),
        (&json!({"size": 1}), None)
    );
    let mut widgets = Watch::open(&server, &format!("{WIDGETS}?watch=true")).await;
    let mut others = Watch::open(
        &server,
        &format!("{CONFIG_MAPS}?watch=true&labelSelector=l"),
    )
    .await;
    widgets.expect("ADDED", "w").await;
    let column = json!([{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]);
    let mut version = definition()["spec"]["versions"][0].clone();
    version["additionalPrinterColumns"] = column;
    let patch = json!({"spec": {"versions": [version]}});
    let (status, answer) = server
        .call(
            Method::PATCH,
            &format!("{DEFINITIONS}/widgets.example.com"),
            patch,
        )
        .await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(
        widgets.next().await,
        None,
        "the watch of the changed resource ends"
    );
    server
        .call(Method::POST, CONFIG_MAPS, config_map("a", "1"))
        .await;
    others.expect("ADDED", "a").await;
}

#[tokio::test]
async fn a_timeout_is_read_before_all_else() {
    let server = Server::start(AdmissionChain::default()).await;
    for path in ["/nowhere", "/version", "/api/v1/nowhere", CONFIG_MAPS] {
        let path = format!("{path}?timeout=soon");
        let (code, status) = server.call(Method::GET, &path, Value::Null).await;
        assert_eq!(code, StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(
            status["message"],
            "invalid timeout specified in the request URL - time: invalid duration \"soon\""
        );
    }
    let path = format!("{CONFIG_MAPS}?watch=1&timeout=soon&timeoutSeconds=1");
    let (code, _) = server.call(Method::GET, &path, Value::Null).await;
    assert_eq!(code, StatusCode::OK);
}

#[tokio::test]
async fn a_list_of_any_length_holds_every_object_once() {
    let server = Server::start(AdmissionChain::default()).await;
    let long = "x".repeat(2_000);
    for number in 100..220 {
        let mut object = config_map(&format!("c{number}"), "a");
        object["data"]["k"] = json!(long);
        let (code, _) = server.call(Method::POST, CONFIG_MAPS, object).await;
        assert_eq!(code, StatusCode::CREATED);
        let (_, list) = server.call(Method::GET, CONFIG_MAPS, Value::Null).await;
        let items = list["items"].as_array().expect("a list");
        let names = items.iter().map(|item| &item["metadata"]["name"]);
        let wanted = (100..=number).map(|number| json!(format!("c{number}")));
        let ours = names.filter(|name| *name != "kube-root-ca.crt");
        assert!(ours.eq(&wanted.collect::<Vec<_>>()), "after {number}");
    }
    // The long ones count as well, whose size is not known before they are sent.
    let sent: usize = (1..=120).map(|count| count * long.len()).sum();
    let answer = server
        .send(Method::GET, "/metrics", "text/plain", Bytes::new())
        .await;
    let text = answer.into_body().collect().await.expect("it ends");
    let text = String::from_utf8(text.to_bytes().to_vec()).expect("text");
    let counted = text.lines().find(|line| {
        line.starts_with("apiserver_response_sizes_sum")
            && line.contains("LIST")
            && line.contains("configmaps")
    });
    let counted = counted.and_then(|line| line.rsplit(' ').next());
    let counted: f64 = counted.expect("a figure").parse().expect("a number");
    #[expect(clippy::cast_precision_loss, reason = "a few megabytes")]
    let least = sent as f64;
    assert!(counted > least, "{counted} of {least}");
}

#[tokio::test]
async fn the_last_finalizer_takes_the_object_with_it() {
    let server = Server::start(AdmissionChain::default()).await;
    let held = json!({"metadata": {"name": "a", "finalizers": ["example.com/f"]}});
    server.call(Method::POST, CONFIG_MAPS, held).await;
    let path = format!("{CONFIG_MAPS}/a");
    let (status, object) = server.call(Method::DELETE, &path, Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    assert!(object["metadata"]["deletionTimestamp"].is_string());
    let more = json!({"metadata": {"finalizers": ["example.com/f", "example.com/g"]}});
    let (status, _) = server.call(Method::PATCH, &path, more).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let (status, _) = server
        .call(
            Method::PATCH,
            &path,
            json!({"metadata": {"finalizers": null}}),
        )
        .await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) = server.call(Method::GET, &path, Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn server_side_apply_tells_whose_field_it_is() {
    let server = Server::start(AdmissionChain::default()).await;
    let path = format!("{CONFIG_MAPS}/a");
    let apply = async |manager: &str, value: &str| {
        let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"},
            "data": {"k": value}});
        let path = format!("{path}?fieldManager={manager}");
        let body = config.to_string().into();
        read(
            server
                .send(Method::PATCH, &path, "application/apply-patch+yaml", body)
                .await,
        )
        .await
    };
    assert_eq!(apply("m1", "1").await.0, StatusCode::CREATED);
    let (status, answer) = apply("m2", "2").await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(
        answer["message"],
        "Apply failed with 1 conflict: conflict with \"m1\": .data.k"
    );
}

#[tokio::test]
async fn applying_a_part_of_an_object_that_does_not_exist_makes_none() {
    let server = Server::start(AdmissionChain::default()).await;
    server.call(Method::POST, DEFINITIONS, definition()).await;
    for (path, config) in [
        (
            format!("{WIDGETS}/gone/status"),
            json!({"apiVersion": "example.com/v1", "kind": "Widget",
                "metadata": {"name": "gone"}, "status": {"x": 1}}),
        ),
        (
            "/api/v1/namespaces/gone/status".to_owned(),
            json!({"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": "gone"}, "status": {"phase": "Active"}}),
        ),
    ] {
        let full = format!("{path}?fieldManager=m&force=true");
        let body = config.to_string().into();
        let applied = server
            .send(Method::PATCH, &full, "application/apply-patch+yaml", body)
            .await;
        assert_eq!(read(applied).await.0, StatusCode::NOT_FOUND, "{path}");
        let object = path.trim_end_matches("/status");
        let (status, _) = server.call(Method::GET, object, Value::Null).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
}

/// Denies deletes, and writes a label into everything that is created.
struct Rule(Vec<Matches>, Phase);

#[async_trait::async_trait]
impl Admit for Rule {
    fn name(&self) -> &str {
        "rule.example.com"
    }

    fn phase(&self) -> Phase {
        self.1
    }

    fn matches(&self) -> &[Matches] {
        &self.0
    }

    async fn admit(&self, request: &AdmissionRequest) -> Result<Admitted, Denial> {
        if request.operation == Operation::Delete {
            return Err(Denial::forbidden(self.name(), "not this one"));
        }
        let mut object = request.object.clone();
        object["metadata"]["labels"]["seen"] = json!("yes");
        Ok(Admitted {
            object: Some(object),
            warnings: vec!["looked at".to_owned()],
        })
    }
}

#[tokio::test]
async fn rules_in_process_speak_like_the_webhooks_they_stand_for() {
    let rule = |phase, operation| -> Arc<dyn Admit> {
        Arc::new(Rule(
            vec![Matches::resource("", "configmaps", vec![operation])],
            phase,
        ))
    };
    let chain = AdmissionChain::new([
        rule(Phase::Mutating, Operation::Create),
        rule(Phase::Validating, Operation::Delete),
    ]);
    let server = Server::start(chain).await;
    let body = config_map("a", "1").to_string().into();
    let answer = server
        .send(Method::POST, CONFIG_MAPS, "application/json", body)
        .await;
    assert_eq!(answer.headers()["warning"], "299 - \"looked at\"");
    assert_eq!(read(answer).await.1["metadata"]["labels"]["seen"], "yes");
    let (status, answer) = server
        .call(Method::DELETE, &format!("{CONFIG_MAPS}/a"), Value::Null)
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        answer["message"],
        "admission webhook \"rule.example.com\" denied the request: not this one"
    );
}

#[tokio::test]
async fn who_is_no_master_is_told_what_they_may_not() {
    let server = Server::start(AdmissionChain::default()).await;
    let ask = async |token: &str| {
        let request = Request::get(CONFIG_MAPS)
            .header("authorization", format!("Bearer {token}"))
            .body(Full::new(Bytes::new()))
            .expect("a request");
        match server.api.router().oneshot(request).await {
            Ok(answer) => read(answer).await,
            Err(never) => match never {},
        }
    };
    assert_eq!(ask("bad").await.0, StatusCode::UNAUTHORIZED);
    let (status, answer) = ask("good").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        answer["message"],
        "configmaps is forbidden: User \"alice\" cannot list resource \"configmaps\" in API group \
         \"\" in the namespace \"default\""
    );
}

#[tokio::test]
async fn bodies_are_bounded_in_size_and_depth() {
    let server = Server::start(AdmissionChain::default()).await;
    let big = Bytes::from(vec![b' '; 3 * 1024 * 1024 + 1]);
    let (status, answer) = read(
        server
            .send(Method::POST, CONFIG_MAPS, "application/json", big)
            .await,
    )
    .await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(
        answer["message"],
        "Request entity too large: limit is 3145728"
    );
    let deep = Bytes::from("[".repeat(12_000));
    let (status, _) = read(
        server
            .send(Method::POST, CONFIG_MAPS, "application/json", deep)
            .await,
    )
    .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

/// No condition may take longer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";

fn role(name: &str, rules: Value) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": name}, "rules": rules,
    })
}

fn binding(name: &str, kind: &str, role: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}],
    })
}

impl Server {
    /// As alice, who has no rights of her own; `headers` come in pairs.
    async fn as_alice(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> (StatusCode, Value) {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .header("authorization", "Bearer good");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(Bytes::from(body.to_string())))
            .expect("a request");
        match self.api.router().oneshot(request).await {
            Ok(answer) => read(answer).await,
            Err(never) => match never {},
        }
    }
}

#[tokio::test]
async fn a_right_counts_from_the_answer_to_its_creation_to_that_to_its_deletion() {
    let server = Server::start(AdmissionChain::default()).await;
    let reads = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]);
    for _ in 0..20 {
        let list = server.as_alice(Method::GET, CONFIG_MAPS, &[], Value::Null);
        assert_eq!(list.await.0, StatusCode::FORBIDDEN);
        server
            .call(Method::POST, ROLES, role("r", reads.clone()))
            .await;
        server
            .call(Method::POST, BINDINGS, binding("b", "Role", "r"))
            .await;
        let list = server.as_alice(Method::GET, CONFIG_MAPS, &[], Value::Null);
        assert_eq!(list.await.0, StatusCode::OK);
        server
            .call(Method::DELETE, &format!("{ROLES}/r"), Value::Null)
            .await;
        let list = server
            .as_alice(Method::GET, CONFIG_MAPS, &[], Value::Null)
            .await;
        assert_eq!(
            list.1["message"],
            "configmaps is forbidden: User \"alice\" cannot list resource \"configmaps\" in API \
             group \"\" in the namespace \"default\": RBAC: role.rbac.authorization.k8s.io \"r\" \
             not found"
        );
        server
            .call(Method::DELETE, &format!("{BINDINGS}/b"), Value::Null)
            .await;
    }
}

#[tokio::test]
async fn the_roles_that_kubernetes_brings_are_put_together_and_can_be_bound() {
    let server = Server::start(AdmissionChain::default()).await;
    let begin = std::time::Instant::now();
    loop {
        let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/admin";
        let (_, admin) = server.call(Method::GET, path, Value::Null).await;
        let rules = admin["rules"].to_string();
        if rules.contains("configmaps") && rules.contains("rolebindings") {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "{admin}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let (status, _) = server
        .call(Method::POST, BINDINGS, binding("b", "ClusterRole", "admin"))
        .await;
    assert_eq!(status, StatusCode::CREATED);
    let list = server.as_alice(Method::GET, CONFIG_MAPS, &[], Value::Null);
    assert_eq!(list.await.0, StatusCode::OK);
    // What she holds she may give on; more she may not.
    let secrets = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]);
    let given = server.as_alice(Method::POST, ROLES, &[], role("mine", secrets));
    assert_eq!(given.await.0, StatusCode::CREATED);
    let all = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    let (status, refused) = server
        .as_alice(Method::POST, ROLES, &[], role("all", all))
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(
        refused["message"]
            .to_string()
            .contains("permissions not currently held"),
        "{refused}"
    );
    let elsewhere = "/api/v1/namespaces/kube-system/configmaps";
    let list = server.as_alice(Method::GET, elsewhere, &[], Value::Null);
    assert_eq!(list.await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn nobody_acts_as_somebody_else_without_the_right_to() {
    let server = Server::start(AdmissionChain::default()).await;
    let list = |headers: &'static [(&str, &str)]| {
        server.as_alice(Method::GET, CONFIG_MAPS, headers, Value::Null)
    };
    let (status, refused) = list(&[("impersonate-user", "bob")]).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        refused["message"],
        "configmaps is forbidden: User \"alice\" cannot impersonate-on:user-info:list resource \
         \"configmaps\" in API group \"\" in the namespace \"default\""
    );
    let masters = &[
        ("impersonate-user", "alice"),
        ("impersonate-group", "system:masters"),
    ];
    assert_eq!(list(masters).await.0, StatusCode::FORBIDDEN);
    let (status, refused) = list(&[("impersonate-group", "system:masters")]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let message = refused["message"].as_str().unwrap_or_default();
    assert!(
        message.ends_with("without impersonating a user name"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_kind_that_may_be_on_its_way_is_not_called_unknown() {
    let server = Server::start(AdmissionChain::default()).await;
    let get = async |path: &str| server.call(Method::GET, path, Value::Null).await;
    let paths = ["/apis/example.com/v1/widgets", "/apis/example.com/v1"];
    server.api.set_rising(true);
    for path in paths {
        let answer = server
            .send(Method::GET, path, "application/json", Bytes::new())
            .await;
        assert_eq!(answer.headers()["retry-after"], "1", "{path}");
        let (status, body) = read(answer).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        let text = body["message"].as_str().unwrap_or_default();
        assert!(text.ends_with("please retry"), "{path}: {text}");
    }
    let (status, _) = get("/api/v1/namespaces").await;
    assert_eq!(status, StatusCode::OK, "what is known is served");
    server.api.set_rising(false);
    for path in paths {
        assert_eq!(get(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn a_dry_run_creates_with_a_revision_and_the_real_thing_does_not() {
    let server = Server::start(AdmissionChain::default()).await;
    let object = |version: &str| json!({"metadata": {"name": "a", "resourceVersion": version}});
    for (query, version, expected) in [
        ("?dryRun=All", "1", StatusCode::CREATED),
        ("", "1", StatusCode::INTERNAL_SERVER_ERROR),
        ("", "0", StatusCode::CREATED),
    ] {
        let path = format!("{CONFIG_MAPS}{query}");
        let (status, answer) = server.call(Method::POST, &path, object(version)).await;
        assert_eq!(status, expected, "{query} {version}: {answer}");
    }
}

#[tokio::test]
async fn a_token_bound_to_an_empty_reference_is_refused() {
    let server = Server::start(AdmissionChain::default()).await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = json!({"metadata": {"name": "bound"}});
    let (status, _) = server.call(Method::POST, accounts, account).await;
    assert_eq!(status, StatusCode::CREATED);
    let request = json!({"spec": {"boundObjectRef": {}}});
    let path = format!("{accounts}/bound/token");
    let (status, refused) = server.call(Method::POST, &path, request).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{refused}");
    assert_eq!(
        refused["message"],
        "cannot bind token to object of type /, Kind="
    );
}

#[tokio::test]
async fn public_paths_are_for_the_groups_that_every_caller_is_in() {
    let server = Server::start(AdmissionChain::default()).await;
    let reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    for (path, groups, expected) in [
        ("/healthz", json!([]), false),
        ("/healthz", json!(["system:unauthenticated"]), true),
        ("/healthz", json!(["system:authenticated"]), true),
        ("/api", json!(["system:unauthenticated"]), false),
        ("/api", json!(["system:authenticated"]), true),
    ] {
        let spec = json!({
            "user": "bob", "groups": groups,
            "nonResourceAttributes": {"path": path, "verb": "get"},
        });
        let (_, review) = server
            .call(Method::POST, reviews, json!({"spec": spec}))
            .await;
        assert_eq!(review["status"]["allowed"], expected, "{review}");
    }
}
