//! The work on one key: look at the engine, look at the mirror, make them agree.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt as _};
use parking_lot::{Mutex, RwLock};
use rdd_api::names::{self, field_manager};
use rdd_api::{Condition, Container, ContainerNamespace, Image, Volume};
use rdd_engine::{Engine, Moment};
use rdd_manager::finalizer;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::apply::{Applier, Part};
use super::connection::chain;
use super::mirrors::{
    Mirrors, Need, has_finalizer, is_deleting, is_mirror_finalizer, is_of, is_older,
};
use super::{actions, plan};
use crate::containers::container::conditions_of;

/// What one piece of work is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Key {
    /// The namespace and the ContainerNamespace that everything else stands on.
    Scaffold,
    /// A container and its mirror, by identifier.
    Container(String),
    /// The deletion of a container's mirror, by identifier.
    ContainerMirror(String),
    /// An image, by identifier or reference.
    Image(String),
    /// One image mirror that is being deleted or never got a status, by its name.
    ImageMirror(String),
    /// A volume and its mirror, by the engine's name.
    Volume(String),
    /// One volume mirror that is being deleted or never got a status, by its name.
    VolumeMirror(String),
    /// What a container's mirror asks to be done, by identifier. Apart from its
    /// state, so that a slow stop does not hold the mirror back.
    Action(String),
}

impl Key {
    /// Whether the engine is asked for something, which may last.
    pub(super) fn is_request(&self) -> bool {
        self.is_deletion() || matches!(self, Self::Action(_))
    }

    /// Whether a mirror wants to go, which the engine may refuse for a while.
    pub(super) fn is_deletion(&self) -> bool {
        matches!(
            self,
            Self::ContainerMirror(_) | Self::ImageMirror(_) | Self::VolumeMirror(_)
        )
    }
}

/// Everything that work needs.
pub(super) struct Work {
    pub(super) client: kube::Client,
    pub(super) applier: Applier,
    pub(super) namespace: String,
    pub(super) engine: Arc<dyn Engine>,
    /// The engine's identity as mirrors carry it.
    pub(super) label: String,
    pub(super) mirrors: Arc<RwLock<Mirrors>>,
    pub(super) starts: Mutex<actions::Starts>,
    /// What the engine last said to the deletion of which mirror.
    pub(super) refusals: Mutex<HashMap<String, String>>,
    /// Looks at the engine that may go on at once.
    pub(super) looks: Semaphore,
    /// The sizes of volumes as last measured.
    pub(super) sizes: RwLock<BTreeMap<String, i64>>,
    /// The versions that we wrote last and that the watch may not have told yet, by the
    /// name of the mirror.
    pub(super) written: Mutex<HashMap<String, u64>>,
}

/// Further keys to look at, or why the work has to be done again.
pub(super) type Done = Result<Vec<Key>, String>;

/// What came of the work on a key.
pub(super) struct Outcome {
    pub(super) done: Done,
    /// Whether a mirror was not what it should have been.
    pub(super) wrote: bool,
}

/// The work on one key.
struct Pass<'work> {
    work: &'work Work,
    wrote: AtomicBool,
}

impl Deref for Pass<'_> {
    type Target = Work;

    fn deref(&self) -> &Work {
        self.work
    }
}

impl Work {
    pub(super) async fn run(&self, key: &Key) -> Outcome {
        let pass = Pass {
            work: self,
            wrote: AtomicBool::new(false),
        };
        let done = match key {
            Key::Scaffold => self.scaffold().await,
            Key::Container(id) => pass.container(id).await,
            Key::ContainerMirror(id) => pass.container_mirror(id).await,
            Key::Image(reference) => pass.image(reference).await,
            Key::ImageMirror(name) => pass.image_mirror(name).await,
            Key::Volume(name) => pass.volume(name).await,
            Key::VolumeMirror(name) => pass.volume_mirror(name).await,
            Key::Action(id) => actions::run(self, id).await,
        };
        Outcome {
            done,
            wrote: pass.wrote.into_inner(),
        }
    }

    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(super) async fn scaffold(&self) -> Done {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        if namespaces
            .get_opt(&self.namespace)
            .await
            .map_err(text)?
            .is_none()
        {
            let namespace = Namespace {
                metadata: ObjectMeta {
                    name: Some(self.namespace.clone()),
                    ..ObjectMeta::default()
                },
                ..Namespace::default()
            };
            match namespaces.create(&PostParams::default(), &namespace).await {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                other => drop(other.map_err(text)?),
            }
        }
        let (wanted, known) = {
            let mirrors = self.mirrors.read();
            let mut wanted = mirrors.needed_namespaces();
            wanted.insert(names::MOBY.to_owned());
            (wanted, mirrors.namespaces.clone())
        };
        let api: Api<ContainerNamespace> = self.api();
        for name in &wanted {
            if known
                .get(name)
                .is_some_and(|known| is_of(&**known, &self.label))
            {
                continue;
            }
            let body = json!({
                "apiVersion": format!("{}/{}", names::group::CONTAINERS, names::VERSION),
                "kind": "ContainerNamespace",
                "metadata": {"name": name, "labels": {names::ENGINE_LABEL: self.label}},
            });
            let params = PatchParams::apply(field_manager::ENGINE).force();
            api.patch(name, &params, &Patch::Apply(&body))
                .await
                .map_err(text)?;
        }
        let unneeded = known
            .values()
            .filter(|known| is_of(&***known, &self.label) && !wanted.contains(&known.name_any()));
        for known in unneeded {
            prune(&api, &**known).await.map_err(text)?;
        }
        Ok(Vec::new())
    }

    /// Applies a status under one of our managers; a mirror that is gone needs none.
    pub(super) async fn write_status<K>(
        &self,
        manager: &str,
        kind: &str,
        name: &str,
        status: &Value,
    ) -> Result<(), String>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let body = json!({
            "apiVersion": format!("{}/{}", names::group::CONTAINERS, names::VERSION),
            "kind": kind,
            "metadata": {"name": name},
            "status": status,
        });
        let params = PatchParams::apply(manager).force();
        let api: Api<K> = self.api();
        match api.patch_status(name, &params, &Patch::Apply(&body)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop).map_err(text),
        }
    }

    /// Whether we have written a mirror after it was like this.
    pub(super) fn has_written_since<K: Resource>(&self, name: &str, mirror: &K) -> bool {
        let written = self.written.lock().get(name).copied();
        written.is_some_and(|written| version(mirror).is_none_or(|seen| seen < written))
    }

    /// Before anything is destroyed: the engine still is the one that the mirror shows.
    /// Its clock is the answer.
    pub(super) async fn same_engine(&self) -> Result<Option<Moment>, String> {
        let (info, clock) = self
            .engine
            .identify()
            .await
            .map_err(|error| chain(&error))?;
        if plan::engine_label(&info) == self.label {
            Ok(clock)
        } else {
            Err(format!(
                "another engine ({}) answers at {}",
                info.id, info.endpoint
            ))
        }
    }

    /// A refusal shows on the mirror in the engine's words, and keeps the finalizer.
    async fn forwarded<K>(&self, mirror: &K, removed: rdd_engine::Result<()>) -> Result<(), String>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let name = mirror.name_any();
        let Err(error) = removed else {
            self.refusals.lock().remove(&name);
            return Ok(());
        };
        let words = chain(&error);
        let refused = matches!(error, rdd_engine::Error::Refused { .. });
        let said = self.refusals.lock().insert(name.clone(), words.clone());
        if refused && said.as_ref() != Some(&words) {
            let generation = mirror.meta().generation.unwrap_or_default();
            let condition = Condition::new(
                None,
                "DeletionBlocked",
                true,
                "EngineRefused",
                &words,
                generation,
            );
            let status = json!({"conditions": [condition]});
            let manager = field_manager::ENGINE_FINALIZER;
            let written = self
                .write_status::<K>(manager, &K::kind(&()), &name, &status)
                .await;
            if let Err(error) = written {
                // A mirror that never got a status has no place for it.
                tracing::debug!(name, error, "a refusal could not be shown");
            }
        }
        Err(words)
    }
}

impl Pass<'_> {
    async fn container(&self, id: &str) -> Done {
        let cached = self.mirrors.read().containers.get(id).cloned();
        let mirror = self.latest(id, cached).await?;
        let is_going = mirror.as_deref().is_some_and(is_deleting);
        let Some(container) = self.look(self.engine.container(id)).await? else {
            if let Some(mirror) = mirror.filter(|mirror| is_of(&**mirror, &self.label)) {
                self.prune(&*mirror).await?;
            }
            return Ok(Vec::new());
        };
        let wanted = plan::container_status(&container);
        let stands = |mirror: &Container| plan::container_stands(mirror, &wanted);
        if !mirror.as_deref().is_some_and(stands) || !self.is_claimed(mirror.as_deref()) {
            let before = mirror.as_ref().and_then(|mirror| mirror.status.as_ref());
            let before = before.map_or(&[][..], |status| &status.conditions);
            // A new object is of the first generation.
            let generation = mirror
                .as_ref()
                .map_or(1, |mirror| mirror.metadata.generation.unwrap_or_default());
            // Those of a mirror that is being deleted stay as they are.
            let conditions = conditions_of(&wanted, before, generation).filter(|_| !is_going);
            let conditions = conditions.map(|all| Part::conditions("Container", id, &all));
            let parts = [Part::status("Container", id, &wanted)];
            let parts = parts.into_iter().chain(conditions);
            self.write::<Container>(id, mirror.as_deref(), parts)
                .await?;
        }
        let deletion = Key::ContainerMirror(id.to_owned());
        Ok(is_going.then_some(deletion).into_iter().collect())
    }

    async fn container_mirror(&self, id: &str) -> Done {
        let Some(mirror) = self.mirrors.read().containers.get(id).cloned() else {
            return Ok(Vec::new());
        };
        if !is_deleting(&*mirror) || !has_finalizer(&*mirror) {
            return Ok(Vec::new());
        }
        if is_of(&*mirror, &self.label) {
            self.same_engine().await?;
            let removed = self.engine.remove_container(id).await;
            self.forwarded(&*mirror, removed).await?;
        }
        self.release::<Container>(id).await?;
        Ok(Vec::new())
    }

    async fn image(&self, reference: &str) -> Done {
        let Some(image) = self.look(self.engine.image(reference)).await? else {
            let (of_id, of_tag) = {
                let mirrors = self.mirrors.read();
                (mirrors.of_image(reference), mirrors.of_tag(reference))
            };
            for mirror in of_id
                .iter()
                .filter(|mirror| is_of(&***mirror, &self.label) && !is_deleting(&***mirror))
            {
                self.prune(&**mirror).await?;
            }
            // A tag that is gone may have left its image behind.
            return Ok(of_tag
                .iter()
                .filter_map(|mirror| image_id(mirror))
                .map(Key::Image)
                .collect());
        };
        if !reference.starts_with("sha256:") {
            // One key per image: under two, an older look could overtake a newer one. Who
            // had the tag before is looked at too, whatever becomes of the new one.
            let mirrors = self.mirrors.read().of_tag(reference);
            let others = mirrors.iter().filter_map(|mirror| image_id(mirror));
            return Ok(others.chain([image.id]).map(Key::Image).collect());
        }
        let in_use = self
            .mirrors
            .read()
            .is_needed(&Need::Image(image.id.clone()));
        let wanted = plan::image_mirrors(&image, in_use);
        let (existing, moved) = {
            let mirrors = self.mirrors.read();
            let moved: Vec<Key> = image
                .tags
                .iter()
                .flat_map(|tag| mirrors.of_tag(tag))
                .filter_map(|mirror| image_id(&mirror))
                .filter(|id| *id != image.id)
                .map(Key::Image)
                .collect();
            (mirrors.of_image(&image.id), moved)
        };
        for (name, status) in &wanted {
            let cached = self.mirrors.read().images.get(name).cloned();
            let mirror = self.latest(name, cached).await?;
            let stands = |mirror: &Image| plan::image_stands(mirror, status);
            if !mirror.as_deref().is_some_and(stands) || !self.is_claimed(mirror.as_deref()) {
                let part = Part::status("Image", name, status);
                self.write(name, mirror.as_deref(), [part]).await?;
            }
        }
        for mirror in existing {
            let stays = wanted.iter().any(|(name, _)| *name == mirror.name_any());
            if !stays && is_of(&*mirror, &self.label) {
                self.prune(&*mirror).await?;
            }
        }
        Ok(moved)
    }

    async fn image_mirror(&self, name: &str) -> Done {
        let Some(mirror) = self.mirrors.read().images.get(name).cloned() else {
            return Ok(Vec::new());
        };
        if is_nameless_image(&mirror) && is_of(&*mirror, &self.label) {
            let images = self.engine.images().await.map_err(|error| chain(&error))?;
            let owner = images.into_iter().find(|image| {
                let mut tags = image.tags.iter();
                plan::image_name(&image.id, None) == name
                    || tags.any(|tag| plan::image_name(&image.id, Some(tag)) == name)
            });
            return match owner {
                Some(image) => Ok(vec![Key::Image(image.id)]),
                None => self.prune(&*mirror).await.map(|()| Vec::new()),
            };
        }
        if !is_deleting(&*mirror) || !has_finalizer(&*mirror) {
            return Ok(Vec::new());
        }
        let status = mirror.status.clone().unwrap_or_default();
        if is_of(&*mirror, &self.label) && !status.id.is_empty() {
            self.same_engine().await?;
            let reference = match &status.repo_tag {
                None => Some(status.id.clone()),
                Some(tag) => {
                    // The tag may have moved on; another image is none of our business.
                    let now = self
                        .engine
                        .image(tag)
                        .await
                        .map_err(|error| chain(&error))?;
                    now.filter(|image| image.id == status.id)
                        .map(|_| tag.clone())
                }
            };
            if let Some(reference) = reference {
                let removed = self.engine.remove_image(&reference).await;
                self.forwarded(&*mirror, removed).await?;
            }
        }
        self.release::<Image>(name).await?;
        let id = Some(status.id).filter(|id| !id.is_empty());
        Ok(id.map(Key::Image).into_iter().collect())
    }

    async fn volume(&self, name: &str) -> Done {
        let object = plan::volume_name(name);
        let cached = self.mirrors.read().volumes.get(&object).cloned();
        let mirror = self.latest(&object, cached).await?;
        let is_going = mirror.as_deref().is_some_and(is_deleting);
        let Some(volume) = self.look(self.engine.volume(name)).await? else {
            if let Some(mirror) = mirror.filter(|mirror| is_of(&**mirror, &self.label)) {
                self.prune(&*mirror).await?;
            }
            return Ok(Vec::new());
        };
        let in_use = self
            .mirrors
            .read()
            .is_needed(&Need::Volume(name.to_owned()));
        let measured = self.sizes.read().get(name).copied();
        let known = || mirror.as_ref()?.status.as_ref()?.size;
        let size = measured.or_else(known);
        let wanted = plan::volume_status(&volume, in_use, size);
        let stands = |mirror: &Volume| plan::volume_stands(mirror, &wanted);
        if !mirror.as_deref().is_some_and(stands) || !self.is_claimed(mirror.as_deref()) {
            let part = Part::status("Volume", &object, &wanted);
            self.write(&object, mirror.as_deref(), [part]).await?;
        }
        let deletion = Key::VolumeMirror(object);
        Ok(is_going.then_some(deletion).into_iter().collect())
    }

    async fn volume_mirror(&self, name: &str) -> Done {
        let Some(mirror) = self.mirrors.read().volumes.get(name).cloned() else {
            return Ok(Vec::new());
        };
        if is_nameless_volume(&mirror) && is_of(&*mirror, &self.label) {
            let volumes = self.engine.volumes().await.map_err(|error| chain(&error))?;
            let mut volumes = volumes.into_iter();
            return match volumes.find(|volume| plan::volume_name(&volume.name) == name) {
                Some(volume) => Ok(vec![Key::Volume(volume.name)]),
                None => self.prune(&*mirror).await.map(|()| Vec::new()),
            };
        }
        if !is_deleting(&*mirror) || !has_finalizer(&*mirror) {
            return Ok(Vec::new());
        }
        let engine_name = mirror
            .status
            .as_ref()
            .map(|status| status.name.clone())
            .unwrap_or_default();
        if is_of(&*mirror, &self.label) && !engine_name.is_empty() {
            self.same_engine().await?;
            let removed = self.engine.remove_volume(&engine_name).await;
            self.forwarded(&*mirror, removed).await?;
        }
        self.release::<Volume>(name).await?;
        Ok(Vec::new())
    }

    /// Looks at one object of the engine, of which it is asked a few at a time.
    async fn look<T>(
        &self,
        answer: impl Future<Output = rdd_engine::Result<T>>,
    ) -> Result<T, String> {
        let _turn = self.looks.acquire().await.map_err(|error| chain(&error))?;
        answer.await.map_err(|error| chain(&error))
    }

    /// The mirror as we left it, also when the watch has not told that yet: compared
    /// with an older one, a change and its reversal would look like none.
    async fn latest<K>(&self, name: &str, cached: Option<Arc<K>>) -> Result<Option<Arc<K>>, String>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let Some(written) = self.written.lock().get(name).copied() else {
            return Ok(cached);
        };
        if cached
            .as_deref()
            .and_then(version)
            .is_some_and(|seen| seen >= written)
        {
            self.written.lock().remove(name);
            return Ok(cached);
        }
        let found = self.api::<K>().get_opt(name).await.map_err(text)?;
        if found.is_none() {
            self.written.lock().remove(name);
        }
        Ok(found.map(Arc::new))
    }

    /// Whether a mirror carries what makes it ours. One that is on its way out does: no
    /// finalizer can be added to it.
    fn is_claimed<K: Resource>(&self, mirror: Option<&K>) -> bool {
        mirror.is_some_and(|mirror| {
            let whole = has_finalizer(mirror) && !is_older(mirror);
            is_deleting(mirror) || whole && is_of(mirror, &self.label)
        })
    }

    /// Makes a mirror or marks it as ours again, where it is not, and writes what it says.
    /// One that went meanwhile is refused, and made anew by the next look.
    async fn write<K>(
        &self,
        name: &str,
        mirror: Option<&K>,
        says: impl IntoIterator<Item = Part>,
    ) -> Result<(), String>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let claim = || Part::claim(&K::kind(&()), name, &self.label);
        let claim = (!self.is_claimed(mirror)).then(claim);
        let parts: Vec<Part> = claim.into_iter().chain(says).collect();
        self.wrote.store(true, Ordering::Relaxed);
        let written = self.applier.apply::<K>(name, &parts).await;
        let Some(written) = written.map_err(text)? else {
            return Ok(());
        };
        if let Some(version) = written.version() {
            self.written.lock().insert(name.to_owned(), version);
        }
        if written.has_finalizer(names::MIRROR_FINALIZER_OLD) {
            finalizer::remove(&self.api::<K>(), name, names::MIRROR_FINALIZER_OLD)
                .await
                .map_err(text)?;
        }
        Ok(())
    }

    /// A mirror whose object the engine no longer has: gone without asking the engine.
    async fn prune<K>(&self, mirror: &K) -> Result<(), String>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        self.wrote.store(true, Ordering::Relaxed);
        prune(&self.api::<K>(), mirror).await.map_err(text)
    }

    async fn release<K>(&self, name: &str) -> Result<(), String>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        finalizer::remove_all(&self.api::<K>(), name, is_mirror_finalizer)
            .await
            .map_err(text)
    }
}

/// Takes the finalizer off and deletes this very object.
pub(super) async fn prune<K>(api: &Api<K>, mirror: &K) -> kube::Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let name = mirror.name_any();
    finalizer::remove_all(api, &name, is_mirror_finalizer).await?;
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: mirror.uid(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(&name, &params).await {
        // Gone, or another one by now.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        other => other.map(drop),
    }
}

/// Whether a mirror that stands never got a status, which names its image. A list read
/// after the mirror was seen tells whether the image still exists.
pub(super) fn is_nameless_image(mirror: &Image) -> bool {
    !is_deleting(mirror) && image_id(mirror).is_none()
}

/// The same for a volume.
pub(super) fn is_nameless_volume(mirror: &Volume) -> bool {
    let status = mirror.status.as_ref();
    !is_deleting(mirror) && status.is_none_or(|status| status.name.is_empty())
}

/// The version of an object, as Kubernetes lets clients compare it.
fn version<K: Resource>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_ref()?.parse().ok()
}

fn image_id(mirror: &Image) -> Option<String> {
    let id = mirror.status.as_ref().map(|status| status.id.clone());
    id.filter(|id| !id.is_empty())
}

/// The server's own words where there are any.
pub(super) fn text(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message,
        other => chain(&other),
    }
}
