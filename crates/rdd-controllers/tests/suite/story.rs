//! Controllers that mirror an engine which fails on demand, and what tests ask of them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use rdd_api::{Container, ContainerState, EngineStatus, Image, Volume, names};
use rdd_controllers::World;
use rdd_engine::{self as engine, Fake};
use rdd_manager::Manager;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::lab::{self, Lab};

pub(crate) const READY: &str = "ContainerEngineReady";

/// The limit of every wait: far above what anything here takes, far below a hang.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Looks again and again until `look` gives something; says what was seen last.
pub(crate) async fn eventually<T, S, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    S: Debug,
    F: Future<Output = Result<T, S>>,
{
    let end = Instant::now() + LIMIT;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < end, "{what}; last seen: {seen:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Controllers that mirror a fake engine.
pub(crate) struct Story {
    pub(crate) lab: Lab,
    pub(crate) engine: Fake,
    pub(crate) manager: Option<Manager>,
}

/// Runs a test with an engine that has one of each, mirrored.
pub(crate) fn story<F: Future<Output = ()> + Send + 'static>(
    test: impl FnOnce(Story) -> F + Send + 'static,
) {
    lab::run(|lab| async move { test(Story::begin(lab).await).await });
}

pub(crate) fn id(name: &str) -> String {
    let digits: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{digits:0<64}")
}

pub(crate) fn container(name: &str, state: &str) -> engine::Container {
    engine::Container {
        id: id(name),
        name: format!("/{name}"),
        path: "sh".to_owned(),
        image: "sha256:1".to_owned(),
        state: state.to_owned(),
        ..engine::Container::default()
    }
}

pub(crate) fn image(id: &str, tags: &[&str]) -> engine::Image {
    engine::Image {
        id: format!("sha256:{id}"),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        ..engine::Image::default()
    }
}

pub(crate) fn volume(name: &str) -> engine::Volume {
    engine::Volume {
        name: name.to_owned(),
        driver: "local".to_owned(),
        ..engine::Volume::default()
    }
}

/// Runs a test whose controllers compare everything this often.
pub(crate) fn verified_story<F: Future<Output = ()> + Send + 'static>(
    every: Duration,
    test: impl FnOnce(Story) -> F + Send + 'static,
) {
    lab::run(move |mut lab| async move {
        let mut world = World::clone(&lab.world);
        world.verify_every = every;
        lab.use_world(world);
        test(Story::begin(lab).await).await;
    });
}

impl Story {
    pub(crate) async fn begin(lab: Lab) -> Self {
        let engine = lab.engine.clone();
        engine.put_container(container("web", "running"), "start");
        engine.put_image(image("1", &["box:1", "box:2"]), "tag");
        engine.put_volume(volume("My_Volume"));
        let manager = Some(lab.start("*").await);
        let story = Self {
            lab,
            engine,
            manager,
        };
        story.set(json!({"running": true})).await;
        story.ready("True/Connected").await;
        story
    }

    /// Ends the controllers in order.
    pub(crate) async fn end(&mut self) {
        let manager = self.manager.take().expect("they run");
        assert!(manager.stop().await.is_empty(), "none had to be aborted");
    }

    /// Applies a spec of the App.
    pub(crate) async fn set(&self, spec: Value) {
        let app = json!({"apiVersion": names::APP_API_VERSION, "kind": "App",
            "metadata": {"name": names::APP}, "spec": spec});
        let params = PatchParams::apply("test").force();
        let applied = self
            .lab
            .apps()
            .patch(names::APP, &params, &Patch::Apply(&app))
            .await;
        applied.expect("the App is accepted");
    }

    /// The App's condition as `Status/Reason`.
    pub(crate) async fn condition(&self) -> String {
        let app = self
            .lab
            .apps()
            .get_opt(names::APP)
            .await
            .expect("the server answers");
        let status = app.and_then(|app| app.status).unwrap_or_default();
        rdd_api::condition::find(&status.conditions, READY).map_or(String::new(), |condition| {
            format!("{}/{}", condition.status, condition.reason)
        })
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.lab.client.clone(), "default")
    }

    pub(crate) async fn ready(&self, wanted: &str) {
        eventually(&format!("{READY} is {wanted}"), || async {
            let found = self.condition().await;
            if found == wanted { Ok(()) } else { Err(found) }
        })
        .await;
    }

    pub(crate) async fn all<K>(&self) -> Vec<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let list = self.api::<K>().list(&ListParams::default()).await;
        list.expect("the server answers").items
    }

    /// UIDs by name.
    pub(crate) async fn uids(&self) -> BTreeMap<String, String> {
        fn uids<K: Resource>(objects: &[K]) -> impl Iterator<Item = (String, String)> {
            let pair = |object: &K| (object.name_any(), object.uid().unwrap_or_default());
            objects.iter().map(pair)
        }
        let (containers, images, volumes) = (
            self.all::<Container>().await,
            self.all::<Image>().await,
            self.all::<Volume>().await,
        );
        uids(&containers)
            .chain(uids(&images))
            .chain(uids(&volumes))
            .collect()
    }

    /// Waits until a container's mirror is as wanted, or gone for `None`.
    pub(crate) async fn mirror(
        &self,
        name: &str,
        wanted: impl Fn(Option<&Container>) -> bool,
    ) -> Option<Container> {
        eventually(&format!("the mirror of {name} is as wanted"), || async {
            let found = self.api::<Container>().get_opt(&id(name)).await;
            let found = found.expect("the server answers");
            if wanted(found.as_ref()) {
                Ok(found)
            } else {
                Err(found)
            }
        })
        .await
    }

    pub(crate) async fn state(&self, name: &str, wanted: ContainerState) -> Container {
        let found = self
            .mirror(name, |mirror| {
                let status = mirror.and_then(|mirror| mirror.status.as_ref());
                status.is_some_and(|status| status.status == wanted)
            })
            .await;
        found.expect("it was just seen")
    }

    pub(crate) async fn tags(&self, wanted: &[(&str, Option<&str>)]) {
        let wanted: Vec<(String, Option<String>)> = wanted
            .iter()
            .map(|(id, tag)| (format!("sha256:{id}"), tag.map(str::to_owned)))
            .collect();
        eventually("the images are as wanted", || async {
            let images = self.all::<Image>().await;
            let mut found: Vec<(String, Option<String>)> = images
                .into_iter()
                .map(|image| image.status.unwrap_or_default())
                .map(|status| (status.id, status.repo_tag))
                .collect();
            found.sort();
            if found == wanted { Ok(()) } else { Err(found) }
        })
        .await;
    }

    pub(crate) async fn patch(
        &self,
        name: &str,
        patch: serde_json::Value,
    ) -> kube::Result<Container> {
        let api = self.api::<Container>();
        api.patch(&id(name), &PatchParams::default(), &Patch::Merge(&patch))
            .await
    }

    pub(crate) async fn ask(&self, name: &str, action: &str) {
        let patch = json!({"metadata": {"annotations": {names::ACTION_ANNOTATION: action}}});
        self.patch(name, patch).await.expect("it is accepted");
    }

    /// Waits for the outcome of an action, and for its request to be gone.
    pub(crate) async fn outcome(&self, name: &str, action: &str) -> (String, Option<String>) {
        let found = self.mirror(name, |mirror| {
            let Some(mirror) = mirror else { return false };
            let last = mirror
                .status
                .as_ref()
                .and_then(|status| status.last_action.as_ref());
            !mirror.annotations().contains_key(names::ACTION_ANNOTATION)
                && last.is_some_and(|last| last.action == action && last.state != "InProgress")
        });
        let status = found.await.and_then(|mirror| mirror.status);
        let last = status.and_then(|status| status.last_action);
        let last = last.expect("it was just seen");
        (last.state, last.error)
    }

    pub(crate) async fn delete<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let deleted = self.api::<K>().delete(name, &DeleteParams::default()).await;
        drop(deleted.expect("the deletion is accepted"));
    }

    /// Waits until the App tells this about the engine.
    pub(crate) async fn told(
        &self,
        what: &str,
        wanted: impl Fn(&EngineStatus) -> bool,
    ) -> EngineStatus {
        eventually(what, || async {
            let app = self.lab.apps().get(names::APP).await;
            let status = app.expect("the server answers").status;
            let engine = status.and_then(|status| status.engine);
            match engine {
                Some(engine) if wanted(&engine) => Ok(engine),
                other => Err(other),
            }
        })
        .await
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.engine.calls()
    }
}
