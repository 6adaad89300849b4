//! What the API says about mirrors, kept current by watches, with the indexes that
//! events need: no event ever walks over all mirrors.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kube::{Resource, ResourceExt as _};
use rdd_api::names;
use rdd_api::{Container, ContainerNamespace, Image, Volume};

/// The mirrors of one namespace.
#[derive(Debug, Default)]
pub(super) struct Mirrors {
    pub(super) containers: BTreeMap<String, Arc<Container>>,
    pub(super) images: BTreeMap<String, Arc<Image>>,
    pub(super) volumes: BTreeMap<String, Arc<Volume>>,
    pub(super) namespaces: BTreeMap<String, Arc<ContainerNamespace>>,
    images_by_id: HashMap<String, BTreeSet<String>>,
    images_by_tag: HashMap<String, BTreeSet<String>>,
}

/// Whether the engine controller made this object, for whatever engine.
pub(super) fn is_ours<K: Resource>(object: &K) -> bool {
    object
        .meta()
        .labels
        .iter()
        .flatten()
        .any(|(name, _)| name == names::ENGINE_LABEL)
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
    finalizers.any(|name| name == names::MIRROR_FINALIZER)
}

impl Mirrors {
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
