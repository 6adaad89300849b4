//! What the API says about mirrors, kept current by watches, with the indexes that
//! events need: no event ever walks over all mirrors.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kube::{Resource, ResourceExt as _};
use rdd_api::names;
use rdd_api::{Container, ContainerNamespace, Image, Volume};
use rdd_manager::finalizer;

/// The mirrors of one namespace.
#[derive(Debug, Default)]
pub(super) struct Mirrors {
    pub(super) containers: BTreeMap<String, Arc<Container>>,
    pub(super) images: BTreeMap<String, Arc<Image>>,
    pub(super) volumes: BTreeMap<String, Arc<Volume>>,
    pub(super) namespaces: BTreeMap<String, Arc<ContainerNamespace>>,
    images_by_id: HashMap<String, BTreeSet<String>>,
    images_by_tag: HashMap<String, BTreeSet<String>>,
    /// How many containers need something.
    users: HashMap<Need, usize>,
}

/// What a container needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Need {
    /// The image that it was made from, by identifier.
    Image(String),
    /// A volume that it mounts, by name.
    Volume(String),
    /// The ContainerNamespace that it belongs to.
    Namespace(String),
}

fn needs(container: &Container) -> BTreeSet<Need> {
    let Some(status) = container.status.as_ref().filter(|_| is_ours(container)) else {
        return BTreeSet::new();
    };
    let volumes = status
        .mounts
        .iter()
        .filter(|mount| mount.r#type == "volume");
    let mut needs: BTreeSet<Need> = volumes
        .map(|mount| Need::Volume(mount.name.clone()))
        .chain([Need::Image(status.image.clone())])
        .collect();
    if is_object_name(&status.namespace) {
        needs.insert(Need::Namespace(status.namespace.clone()));
    }
    needs
}

/// Whether an object can have this name (RFC 1123, as Kubernetes reads it).
fn is_object_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= 253
        && name.split('.').all(|label| {
            let bytes = label.as_bytes();
            bytes.first().is_some_and(|first| allowed(*first))
                && bytes.last().is_some_and(|last| allowed(*last))
                && bytes.iter().all(|byte| allowed(*byte) || *byte == b'-')
        })
}

/// Whether an engine controller made this object, for whatever engine.
pub(super) fn is_ours<K: Resource>(object: &K) -> bool {
    let mut labels = object.meta().labels.iter().flatten();
    labels.any(|(name, _)| name == names::ENGINE_LABEL) || is_older(object)
}

/// Whether an older release made it, which named no engine on its mirrors.
pub(super) fn is_older<K: Resource>(object: &K) -> bool {
    finalizer::has(object, names::MIRROR_FINALIZER_OLD)
}

/// Whether a finalizer of this name is the engine's.
pub(super) fn is_mirror_finalizer(name: &str) -> bool {
    [names::MIRROR_FINALIZER, names::MIRROR_FINALIZER_OLD].contains(&name)
}

/// Whether this object mirrors something of the engine with this identity.
pub(super) fn is_of<K: Resource>(object: &K, engine: &str) -> bool {
    object
        .meta()
        .labels
        .iter()
        .flatten()
        .any(|(name, value)| name == names::ENGINE_LABEL && value == engine)
}

/// Whether the object waits for its finalizers.
pub(super) fn is_deleting<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// Whether the engine has to agree before the object goes.
pub(super) fn has_finalizer<K: Resource>(object: &K) -> bool {
    let mut finalizers = object.meta().finalizers.iter().flatten();
    finalizers.any(|name| is_mirror_finalizer(name))
}

impl Mirrors {
    /// Notes a container; what is needed now and was not, or the reverse.
    pub(super) fn put_container(&mut self, container: Arc<Container>) -> Vec<Need> {
        let new = needs(&container);
        let old = self.containers.insert(container.name_any(), container);
        self.changed(old.as_deref(), &new)
    }

    /// Forgets a container; what is not needed any more.
    pub(super) fn take_container(&mut self, name: &str) -> Vec<Need> {
        let old = self.containers.remove(name);
        self.changed(old.as_deref(), &BTreeSet::new())
    }

    fn changed(&mut self, old: Option<&Container>, new: &BTreeSet<Need>) -> Vec<Need> {
        let old = old.map(needs).unwrap_or_default();
        let mut turned = Vec::new();
        for need in new.difference(&old) {
            let users = self.users.entry(need.clone()).or_default();
            *users += 1;
            if *users == 1 {
                turned.push(need.clone());
            }
        }
        for need in old.difference(new) {
            let Some(users) = self.users.get_mut(need) else {
                continue;
            };
            *users -= 1;
            if *users == 0 {
                self.users.remove(need);
                turned.push(need.clone());
            }
        }
        turned
    }

    /// Whether a container needs it.
    pub(super) fn is_needed(&self, need: &Need) -> bool {
        self.users.contains_key(need)
    }

    /// The ContainerNamespaces that containers belong to.
    pub(super) fn needed_namespaces(&self) -> BTreeSet<String> {
        let namespace = |need: &Need| match need {
            Need::Namespace(name) => Some(name.clone()),
            _ => None,
        };
        self.users.keys().filter_map(namespace).collect()
    }

    pub(super) fn put_image(&mut self, image: Arc<Image>) {
        let name = image.name_any();
        self.take_image(&name);
        if let Some(status) = &image.status {
            self.images_by_id
                .entry(status.id.clone())
                .or_default()
                .insert(name.clone());
            if let Some(tag) = &status.repo_tag {
                self.images_by_tag
                    .entry(tag.clone())
                    .or_default()
                    .insert(name.clone());
            }
        }
        self.images.insert(name, image);
    }

    pub(super) fn take_image(&mut self, name: &str) {
        let Some(status) = self
            .images
            .remove(name)
            .and_then(|image| image.status.clone())
        else {
            return;
        };
        remove(&mut self.images_by_id, &status.id, name);
        if let Some(tag) = &status.repo_tag {
            remove(&mut self.images_by_tag, tag, name);
        }
    }

    /// Whether there is a mirror of this name that says which image it shows.
    pub(super) fn shows_image(&self, name: &str) -> bool {
        self.images
            .get(name)
            .is_some_and(|mirror| mirror.status.is_some())
    }

    /// The mirrors of an image.
    pub(super) fn of_image(&self, id: &str) -> Vec<Arc<Image>> {
        self.named(self.images_by_id.get(id))
    }

    /// The mirrors that show a tag.
    pub(super) fn of_tag(&self, tag: &str) -> Vec<Arc<Image>> {
        self.named(self.images_by_tag.get(tag))
    }

    fn named(&self, names: Option<&BTreeSet<String>>) -> Vec<Arc<Image>> {
        let names = names.into_iter().flatten();
        names
            .filter_map(|name| self.images.get(name).cloned())
            .collect()
    }

    /// Identifiers of all images that have a mirror.
    pub(super) fn image_ids(&self) -> Vec<String> {
        self.images_by_id
            .keys()
            .filter(|id| !id.is_empty())
            .cloned()
            .collect()
    }

    /// How many containers, images and volumes are mirrored, of whatever engine.
    pub(super) fn sizes(&self) -> [usize; 3] {
        [self.containers.len(), self.images.len(), self.volumes.len()]
    }

    /// How many containers, images and volumes of an engine are mirrored.
    pub(super) fn count(&self, engine: &str) -> [i64; 3] {
        fn of<K: Resource>(objects: &BTreeMap<String, Arc<K>>, engine: &str) -> i64 {
            let ours = objects.values().filter(|object| is_of(&***object, engine));
            i64::try_from(ours.count()).unwrap_or(i64::MAX)
        }
        [
            of(&self.containers, engine),
            of(&self.images, engine),
            of(&self.volumes, engine),
        ]
    }

    /// Whether nothing that we made is left.
    pub(super) fn is_swept(&self) -> bool {
        !self.containers.values().any(|object| is_ours(&**object))
            && !self.images.values().any(|object| is_ours(&**object))
            && !self.volumes.values().any(|object| is_ours(&**object))
            && !self.namespaces.values().any(|object| is_ours(&**object))
    }
}

fn remove(index: &mut HashMap<String, BTreeSet<String>>, key: &str, name: &str) {
    if let Some(names) = index.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            index.remove(key);
        }
    }
}
