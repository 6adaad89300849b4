//! Controllers that are killed before any one of their writes, and what the next start
//! makes of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::Request;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Resource;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use rdd_api::{ConfigMapReplicaSet, Container, Demo, Image, Notary, Volume};
use rdd_controllers::PROGRAM_ONLY;
use rdd_manager::Manager;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::lab::{self, Lab};

/// A client that dies instead of a certain write: that one and all later ones neither reach
/// the server nor return.
#[derive(Clone)]
struct Mortal {
    left: Arc<AtomicUsize>,
    dead: Arc<AtomicBool>,
}

impl Mortal {
    fn new() -> Self {
        Self {
            left: Arc::new(AtomicUsize::new(usize::MAX)),
            dead: Arc::default(),
        }
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    fn client(&self, inner: &kube::Client) -> kube::Client {
        let (mortal, inner) = (self.clone(), inner.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (mortal, inner) = (mortal.clone(), inner.clone());
            async move {
                if !request.method().is_safe() && mortal.dies() {
                    mortal.dead.store(true, Ordering::Relaxed);
                    std::future::pending::<()>().await;
                }
                inner.send(request).await.map_err(tower::BoxError::from)
            }
        });
        kube::Client::new(service, "default")
    }

    fn dies(&self) -> bool {
        let one_less = |left: usize| left.checked_sub(1);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_err()
    }
}

/// One piece of work, told to the API by whoever wants it done.
struct Work<'lab> {
    lab: &'lab Lab,
    selection: &'static str,
    starts: AtomicUsize,
}

impl<'lab> Work<'lab> {
    fn new(lab: &'lab Lab, selection: &'static str) -> Self {
        Self {
            lab,
            selection,
            starts: AtomicUsize::new(0),
        }
    }

    async fn start(&self, client: kube::Client) -> Manager {
        let number = self.starts.fetch_add(1, Ordering::Relaxed) + 1;
        let start_id = format!("start-{number}");
        self.lab.begin(&start_id).await;
        let only = PROGRAM_ONLY.iter().filter(|def| def.name == self.selection);
        let options = self.lab.options(self.selection, &start_id);
        let options = rdd_manager::Options {
            client,
            controllers: only.chain(options.controllers).collect(),
            ..options
        };
        rdd_manager::start(options).await.expect("it starts")
    }

    /// Asks for something, kills the controllers before write number `write`, and starts
    /// them again; in the end it must be right. Says whether they came so far.
    async fn survives(
        &self,
        what: &str,
        write: usize,
        ask: impl Future<Output = ()> + Send,
        is_right: impl Fn() -> BoxFuture<'static, bool> + Send + Sync,
    ) -> bool {
        let mortal = Mortal::new();
        let manager = self.start(mortal.client(&self.lab.client)).await;
        mortal.left.store(write, Ordering::Relaxed);
        ask.await;
        self.lab
            .eventually(
                &format!("{what}, or death before write {write}"),
                || async { (mortal.is_dead() || is_right().await).then_some(()) },
            )
            .await;
        let died = mortal.is_dead();
        drop(manager);
        let manager = self.start(self.lab.client.clone()).await;
        self.lab
            .eventually(
                &format!("{what} after death before write {write}"),
                || async { is_right().await.then_some(()) },
            )
            .await;
        assert!(manager.stop().await.is_empty(), "all end in time");
        died
    }
}

fn api<K>(client: &kube::Client) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(client.clone(), "default")
}

fn object<K: DeserializeOwned>(group: &str, kind: &str, name: &str, spec: Value) -> K {
    let document = json!({
        "apiVersion": format!("{group}/v1alpha1"),
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    });
    serde_json::from_value(document).expect("the type reads the document")
}

async fn merge<K>(api: &Api<K>, name: &str, patch: Value)
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    let params = PatchParams::default();
    let patched = api.patch(name, &params, &Patch::Merge(&patch)).await;
    patched.expect("it is accepted");
}

/// Every ConfigMap that is not the server's own, with its data.
async fn maps(client: &kube::Client) -> BTreeMap<String, BTreeMap<String, String>> {
    let listed = api::<ConfigMap>(client).list(&ListParams::default()).await;
    let items = listed.expect("the server works").items.into_iter();
    items
        .map(|map| {
            (
                map.metadata.name.unwrap_or_default(),
                map.data.unwrap_or_default(),
            )
        })
        .filter(|(name, _)| !name.starts_with("kube-"))
        .collect()
}

/// More writes than any of these pieces of work takes.
const MANY: usize = 40;

/// Whether these values of the notary are recorded, each once and in this order.
async fn is_recorded(client: kube::Client, values: &'static [&'static str]) -> bool {
    let notary = api::<Notary>(&client).get_opt("n").await;
    let Some(notary) = notary.expect("the server works") else {
        return false;
    };
    let status = notary.status.unwrap_or_default();
    let maps = maps(&client).await;
    let Some(data) = maps.get("n-log") else {
        return false;
    };
    let entries: Vec<&str> = data
        .iter()
        .filter(|(key, _)| key.starts_with("change_0"))
        .filter_map(|(_, entry)| entry.split_once("value=").map(|(_, value)| value))
        .collect();
    usize::try_from(status.change_count) == Ok(values.len())
        && values.last() == Some(&status.last_recorded_value.as_str())
        && entries == values
        && maps.len() == 1
}

/// Whether the set has so many maps, with the right content, and says so.
async fn is_kept(client: kube::Client, count: i32) -> bool {
    let set = api::<ConfigMapReplicaSet>(&client).get_opt("s").await;
    let Some(set) = set.expect("the server works") else {
        return false;
    };
    let wanted: BTreeMap<_, _> = (0..count)
        .map(|number| {
            let data = [("k", "v".to_owned()), ("index", number.to_string())];
            let data = data.map(|(key, value)| (key.to_owned(), value));
            (format!("s-{number}"), BTreeMap::from(data))
        })
        .collect();
    set.status
        .is_some_and(|status| status.ready_replicas == count)
        && maps(&client).await == wanted
}

/// Whether neither the object nor any map is left.
async fn is_gone<K>(client: kube::Client, name: &'static str) -> bool
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let object = api::<K>(&client).get_opt(name).await;
    object.expect("the server works").is_none() && maps(&client).await.is_empty()
}

#[test]
fn a_notary_that_is_killed_before_any_write_records_every_value_once() {
    lab::run(|lab| async move {
        let work = Work::new(&lab, "notary");
        let notaries: Api<Notary> = api(&lab.client);
        let mut deaths = 0;
        for write in 0..MANY {
            let create = async {
                let spec = json!({"value": "a", "configMapName": "n-log"});
                let notary: Notary = object("rdd.rancherdesktop.io", "Notary", "n", spec);
                let created = notaries.create(&PostParams::default(), &notary).await;
                created.expect("it is accepted");
            };
            let client = lab.client.clone();
            let right = move || is_recorded(client.clone(), &["a"]).boxed();
            let made = work.survives("a is recorded", write, create, right).await;
            let change = merge(&notaries, "n", json!({"spec": {"value": "b"}}));
            let client = lab.client.clone();
            let right = move || is_recorded(client.clone(), &["a", "b"]).boxed();
            let changed = work.survives("b is recorded", write, change, right).await;
            let delete = async {
                let deleted = notaries.delete("n", &DeleteParams::default()).await;
                deleted.expect("it may go");
            };
            let client = lab.client.clone();
            let right = move || is_gone::<Notary>(client.clone(), "n").boxed();
            let deleted = work.survives("nothing is left", write, delete, right).await;
            let died = [made, changed, deleted];
            deaths += died.iter().filter(|died| **died).count();
            if !died.contains(&true) {
                assert!(deaths >= 6, "too few writes were seen: {deaths}");
                return;
            }
        }
        panic!("there is no end of writes");
    });
}

#[test]
fn a_set_that_is_killed_before_any_write_comes_out_as_wanted() {
    lab::run(|lab| async move {
        let work = Work::new(&lab, "configmapreplicaset");
        let sets: Api<ConfigMapReplicaSet> = api(&lab.client);
        let mut deaths = 0;
        for write in 0..MANY {
            let create = async {
                let spec = json!({"replicas": 3, "data": {"k": "v"}});
                let set: ConfigMapReplicaSet =
                    object("rdd.rancherdesktop.io", "ConfigMapReplicaSet", "s", spec);
                let created = sets.create(&PostParams::default(), &set).await;
                created.expect("it is accepted");
            };
            let client = lab.client.clone();
            let right = move || is_kept(client.clone(), 3).boxed();
            let made = work.survives("three are there", write, create, right).await;
            let shrink = merge(&sets, "s", json!({"spec": {"replicas": 1}}));
            let client = lab.client.clone();
            let right = move || is_kept(client.clone(), 1).boxed();
            let shrunk = work.survives("one is there", write, shrink, right).await;
            let delete = async {
                let deleted = sets.delete("s", &DeleteParams::default()).await;
                deleted.expect("it may go");
            };
            let client = lab.client.clone();
            let right = move || is_gone::<ConfigMapReplicaSet>(client.clone(), "s").boxed();
            let deleted = work.survives("nothing is left", write, delete, right).await;
            let died = [made, shrunk, deleted];
            deaths += died.iter().filter(|died| **died).count();
            if !died.contains(&true) {
                assert!(deaths >= 8, "too few writes were seen: {deaths}");
                return;
            }
        }
        panic!("there is no end of writes");
    });
}

#[test]
fn a_demo_that_is_killed_before_any_write_counts_to_its_end_and_no_further() {
    lab::run(|lab| async move {
        let work = Work::new(&lab, "demo");
        let demos: Api<Demo> = Api::all(lab.client.clone());
        for write in 0..MANY {
            let create = async {
                let spec = json!({"message": "hi", "count": 2});
                let demo: Demo = object("app.rancherdesktop.io", "Demo", "demo", spec);
                let created = demos.create(&PostParams::default(), &demo).await;
                created.expect("it is accepted");
            };
            let seen = demos.clone();
            let right = move || {
                let seen = seen.clone();
                async move {
                    let demo = seen.get_opt("demo").await.expect("the server works");
                    let status = demo.and_then(|demo| demo.status).unwrap_or_default();
                    let is_complete = status.conditions.iter().any(|condition| {
                        condition.r#type == "Completed" && condition.status == "True"
                    });
                    status.processed_count == 2 && is_complete
                }
                .boxed()
            };
            let died = work.survives("it has counted", write, create, right).await;
            demos
                .delete("demo", &DeleteParams::default())
                .await
                .expect("it may go");
            if !died {
                assert!(write >= 3, "too few writes were seen: {write}");
                return;
            }
        }
        panic!("there is no end of writes");
    });
}

/// What the mock shows: every mirror with its status.
async fn shown(client: kube::Client) -> BTreeMap<String, Value> {
    async fn all<K>(client: &kube::Client) -> Vec<(String, Value)>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(client.clone(), "rancher-desktop");
        let Ok(listed) = api.list(&ListParams::default()).await else {
            // Not served before the first start.
            return Vec::new();
        };
        let items = listed.items.into_iter();
        items
            .map(|item| {
                let name = format!(
                    "{} {}",
                    K::kind(&()),
                    item.meta().name.as_deref().unwrap_or("")
                );
                let document = serde_json::to_value(item).expect("JSON");
                (name, document["status"].clone())
            })
            .collect()
    }
    let containers = all::<Container>(&client).await;
    let images = all::<Image>(&client).await;
    let volumes = all::<Volume>(&client).await;
    containers
        .into_iter()
        .chain(images)
        .chain(volumes)
        .collect()
}

#[test]
fn a_mock_that_is_killed_before_any_write_shows_the_whole_of_its_data() {
    let whole: Arc<std::sync::Mutex<BTreeMap<String, Value>>> = Arc::default();
    let seen = Arc::clone(&whole);
    lab::run(|lab| async move {
        let manager = Work::new(&lab, "mock").start(lab.client.clone()).await;
        lab.eventually("the mock shows something", || async {
            (shown(lab.client.clone()).await.len() > 3).then_some(())
        })
        .await;
        lab.comes_to_rest().await;
        *seen.lock().expect("no panic") = shown(lab.client.clone()).await;
        manager.stop().await;
    });
    let whole = whole.lock().expect("no panic").clone();
    assert!(whole.values().all(|status| !status.is_null()), "{whole:?}");
    // Far enough apart to end soon, close enough to hit every kind of write.
    let deaths = Arc::new(AtomicUsize::new(0));
    for write in (0..2 * whole.len() + 10).step_by(3) {
        let (whole, deaths) = (whole.clone(), Arc::clone(&deaths));
        lab::run(move |lab| async move {
            let work = Work::new(&lab, "mock");
            let client = lab.client.clone();
            let right = move || {
                let (client, whole) = (client.clone(), whole.clone());
                async move { shown(client).await == whole }.boxed()
            };
            let died = work
                .survives("everything is shown", write, async {}, right)
                .await;
            deaths.fetch_add(usize::from(died), Ordering::Relaxed);
        });
    }
    let deaths = deaths.load(Ordering::Relaxed);
    assert!(deaths > 3, "too few writes were seen: {deaths}");
}
